"""The drawing of a learning curve: the score of each share of train with its interval, as an SVG file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from checks.drawing import stand_alone


@dataclass(frozen=True)
class CurvePoint:
    """One metric of one model, trained on a share of train."""

    share: float
    rows: int  # of train
    experiment: str
    metric: str
    value: float
    low: float | None  # of its interval; None: withheld
    high: float | None


def draw_curve(points: Sequence[CurvePoint], split: str, confidence: float) -> str:
    """Returns the text of an SVG file: the score over the number of rows, on a scale that doubles."""
    from stages.report.figures import COLOURS, canvas  # here: matplotlib is the report's alone, and takes seconds

    found: dict[str, Any] = {}
    metric = points[0].metric
    with canvas("learning-curve", 4.6, 3.0, found) as axes:
        rows = [point.rows for point in points]
        axes.plot(rows, [point.value for point in points], "-o", color=COLOURS["one"])
        for point in points:
            if point.low is not None and point.high is not None:
                axes.vlines(point.rows, point.low, point.high, color=COLOURS["one"], linewidth=2.5, alpha=0.6)
        axes.set_xscale("log", base=2)
        axes.set_xticks(rows, [f"{count:,}" for count in rows])
        axes.minorticks_off()
        axes.set(xlabel="rows of train", ylabel=f"{metric} with {100 * confidence:g} % interval", title=split)
    said = ", ".join(f"{point.value:.4f} with {point.rows:,} rows" for point in points)
    return stand_alone(str(found["learning-curve"]), f"{split}, {metric}: {said}")
