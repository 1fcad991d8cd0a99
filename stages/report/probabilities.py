"""What the page says about probabilities: how they were calibrated, and what that is worth."""

from dataclasses import dataclass
from typing import Any

from stages.report import figures
from stages.report.figures import Drawing
from stages.report.inputs import RunSummary

NAMES = {"calibration_error": "expected calibration error", "cost": "mean cost of an answer"}
MOST_NAMED = 10  # labels with their thresholds


@dataclass(frozen=True)
class ProbabilitySection:
    """Those of one scored split, where there is a calibration."""

    scores: list[dict[str, Any]]  # records of metrics/calibrated.json, named for the page
    selective: list[dict[str, Any]]
    sets: dict[str, Any] | None
    cross_fitted: bool
    drawing: Drawing


def describe_probabilities(run: RunSummary, split: str) -> ProbabilitySection | None:
    """Returns what the calibration does to a split; None without one."""
    if run.fitted is None:
        return None
    scores, selective, sets = (
        [record for record in run.calibrated_scores[name] if record["split"] == split]
        for name in ("calibrated", "selective", "sets")
    )
    before, after = ([row for row in rows if row["split"] == split] for rows in (run.calibration, run.calibrated))
    return ProbabilitySection(
        [record | {"name": NAMES.get(record["metric"], record["metric"])} for record in scores],
        selective,
        sets[0] if sets else None,
        any(record["cross_fitted"] for record in scores),
        figures.reliability(before, split, run.confidence, after),
    )


def describe_calibration(run: RunSummary) -> str:
    """Says in a few sentences what was fitted on what; empty without a calibration."""
    fitted = run.fitted
    if fitted is None:
        return ""
    groups = f" in {fitted.drawn:,} groups" if fitted.drawn != fitted.examples else ""
    sentences = [
        f"The model's logits are divided by a temperature of {fitted.whole.temperature:.4g}, which was fitted on the "
        f"{fitted.examples:,} examples{groups} of {' and '.join(fitted.splits)}. The model itself, and the labels that "
        "it predicts, stay as they are."
    ]
    if fitted.costs is not None:
        sentences.append("Decisions are those of the least expected cost, by calibrate.costs.")
    elif fitted.whole.thresholds is not None:
        names = run.task.label_names[-1:] if run.task.binary else run.task.label_names
        pairs = zip(names[:MOST_NAMED], fitted.whole.thresholds, strict=False)
        shown = ", ".join(f"{name} above {threshold:.3f}" for name, threshold in pairs)
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        sentences.append(f"Decisions are by thresholds that were chosen for {fitted.metric}: {shown}{more}.")
    return " ".join([*sentences, *(f"{note[0].upper()}{note[1:]}." for note in fitted.notes)])
