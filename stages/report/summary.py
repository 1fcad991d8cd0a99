"""What the terminal says at the end of a run."""

from pathlib import Path

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
    lines += [f"warning: {warning['split']}: {warning['message']}" for warning in run.warnings]
    return "\n".join(map(visible, [*lines, f"report: {page_file}"]))
