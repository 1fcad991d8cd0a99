"""The summary that the terminal shows at the end of a run."""

from pathlib import Path

from stages.report.baselines import baseline_lines
from stages.report.inputs import RunSummary
from stages.shared.runtime.terminal import visible


def summarize(run: RunSummary, page_file: Path) -> str:
    """Returns the metrics with their intervals, the warnings, and where the report lies: a line each."""
    lines = []
    for split, scores in run.metrics.items():
        width, digits = max(map(len, run.scored(split))), run.digits(split)
        lines.append(f"{split}, {scores['examples']:,} examples")
        for name in run.scored(split):
            line, record = f"  {name:<{width}}  {scores[name]:.{digits}f}", run.interval(split, name)
            if record and record["low"] is not None:
                low, high = (f"{record[end]:.{digits}f}" for end in ("low", "high"))
                line += f"  {100 * record['confidence']:g} % interval {low} to {high}"
            if record and record["baseline"] is not None:
                line += f"  best constant answer {record['baseline']:.{digits}f}"
            lines.append(line)
        if run.fitted is not None:
            lines.append(f"  at a temperature of {run.fitted.whole.temperature:.3g}: {_calibrated(run, split)}")
        lines += baseline_lines(run, split)
    lines += [f"warning: {warning['split']}: {warning['message']}" for warning in run.warnings]
    return "\n".join(map(visible, [*lines, f"report: {page_file}"]))


def _calibrated(run: RunSummary, split: str) -> str:
    """Says what the calibration does to the scores of probabilities."""
    names = {"loss": "loss", "calibration_error": "calibration error"}
    scores = {one["metric"]: one for one in run.calibrated_scores["calibrated"] if one["split"] == split}
    return ", ".join(
        f"{words} {scores[name]['before']:.3f} -> {scores[name]['after']:.3f}" for name, words in names.items()
    )
