"""What the terminal says at the end of a run."""

from pathlib import Path

from stages.report.inputs import RunSummary
from stages.shared.runtime.terminal import visible


def summarize(run: RunSummary, page_file: Path) -> str:
    """Returns the metrics with their intervals, the warnings, and where the report lies: a line each."""
    width = max(len(name) for name in run.task.metrics)
    lines = []
    for split, scores in run.metrics.items():
        lines.append(f"{split}, {scores['examples']:,} examples")
        for name in run.task.metrics:
            line, record = f"  {name:<{width}}  {scores[name]:.4f}", run.interval(split, name)
            if record and record["low"] is not None:
                line += f"  {100 * record['confidence']:g} % interval {record['low']:.4f} to {record['high']:.4f}"
            if record and record["baseline"] is not None:
                line += f"  best constant answer {record['baseline']:.4f}"
            lines.append(line)
    lines += [f"warning: {warning['split']}: {warning['message']}" for warning in run.warnings]
    return "\n".join(map(visible, [*lines, f"report: {page_file}"]))
