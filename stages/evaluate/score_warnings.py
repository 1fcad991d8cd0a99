"""Warnings: reasons to doubt a score."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from stages.evaluate.calibrated import Calibrated
from stages.evaluate.calibration import Bin, calibration_error, error_by_chance
from stages.evaluate.selection import SelectionCost
from stages.shared.statistics.confidence import FEWEST_EXAMPLES
from stages.shared.task.intervals import interval_of
from stages.shared.task.metrics import METRICS
from stages.shared.task.overlap import NEAR_DUPLICATE, SAME_TEXTS, SHARED_SENTENCE

# Above 0.05 a probability of 0.9 may mean 0.85 and less: what Guo et al. (2017) measured for networks as they come from
# training was 0.04 to 0.17, and about 0.02 with one temperature fitted.
MOST_CALIBRATION_ERROR = 0.05
ONE_WAY = 0.75  # of the error, left when bins cancel: less than an eighth of it is the other way


# What an example may have in common with train -> where metrics/data.json counts it, and how it is said.
IN_TRAIN = {
    SAME_TEXTS: ("shared", "are in train too"),
    SHARED_SENTENCE: ("shared_sentences", "share one of their two texts with train"),
    NEAR_DUPLICATE: ("near_duplicates", "nearly repeat one of train"),
}
GUARDS = {name: name for _, (name, _) in IN_TRAIN.items()} | {"shared": "shared_examples"}


class ScoreWarning(NamedTuple):
    """One warning."""

    guard: str
    split: str
    message: str
    effect: float | None = None  # how much of the score it may be; None: nobody knows


def chosen_on_split(split: str, selection: Mapping[str, Any]) -> bool:
    """Says whether the best of several epochs was chosen by a split: it scores higher there than on new examples."""
    return bool(selection["keep"] == "best" and selection["epochs_trained"] > 1 and selection["split"] == split)


def selected_score(split: str, selection: Mapping[str, Any], cost: SelectionCost) -> ScoreWarning:
    """Says that a split chose the epoch, and what its score is without what the choice brought."""
    message = (
        f"the epoch was chosen as the best of {selection['epochs_trained']} by its {selection['metric']} here, so this "
        f"score is too good: {cost.value:.4f} is {cost.corrected:.4f} once corrected for the choice (bootstrap bias "
        "correction); report a split that chose nothing, or set train.keep: last"
    )
    return ScoreWarning("selection_split", split, message, round(cost.lost, 6) + 0.0)


def shared_with_train(
    split: str, flags: np.ndarray, data: Mapping[str, Any], metric: str, scores: Mapping[int, float]
) -> list[ScoreWarning]:
    """Examples that the model was trained on, or nearly, say little about new ones.

    Args:
        flags: uint8[scored], what each scored example has in common with train (see `overlap`).
        data: metrics/data.json, which counts and names those of the whole split in data/raw.
        metric: the task's first.
        scores: that metric of all scored examples as number 0, and of those without one kind of thing in common.
    """
    sizes = {counts["split"]: counts["examples"] for counts in data["splits"]}
    examples, warned = sizes.get(split, len(flags)), []
    for kind, (name, words) in IN_TRAIN.items():
        for pair in data.get(name, []):
            if pair["splits"] != ["train", split]:
                continue
            rows = ", ".join(f"row {second} (row {first} of train)" for first, second in pair["rows"])
            few = f", of which {len(flags)} are scored," if len(flags) < examples else ""
            share = float(np.mean((flags & kind) > 0))
            message = (
                f"{pair['examples']} of the split's {examples} examples{few} {words}, such as {rows}, so this score "
                f"may flatter, an accuracy by {share:.4f} at most"
            )
            if kind in scores:
                message += f"; without them {metric} is {scores[kind]:.4f} instead of {scores[0]:.4f}"
            warned.append(ScoreWarning(GUARDS[name], split, message, round(share, 6)))
    return warned


def too_little(split: str, labels: np.ndarray) -> list[ScoreWarning]:
    """A handful of examples has no interval, and one label no score worth the name."""
    warned = []
    if len(labels) < FEWEST_EXAMPLES:
        message = (
            f"{len(labels)} examples are too few for an interval, which takes {FEWEST_EXAMPLES}; "
            "only the accuracy has one"
        )
        warned.append(ScoreWarning("few_examples", split, message))
    if (labels == labels[0]).all():
        message = "all examples have the same label: no score shows whether the model tells labels apart"
        warned.append(ScoreWarning("one_class", split, message))
    return warned


def without_interval(split: str, intervals: Sequence[Mapping[str, Any]]) -> list[ScoreWarning]:
    """An interval that cannot be trusted is withheld; how sure such a score is, nobody knows."""
    reasons: dict[str, list[str]] = {}
    for record in intervals:
        if record["withheld"] is not None and record["examples"] >= FEWEST_EXAMPLES:
            reasons.setdefault(record["withheld"], []).append(record["metric"])
    return [
        ScoreWarning("no_interval", split, f"no interval for {', '.join(metrics)}: {reason}")
        for reason, metrics in reasons.items()
    ]


def no_better_than_constant(
    split: str, metrics: Sequence[str], intervals: Sequence[Mapping[str, Any]]
) -> list[ScoreWarning]:
    """A score whose interval reaches the constant answer's may be that of a model that does not read its input."""
    records = [one for name in metrics if (one := interval_of(intervals, split, name)) and reaches_constant(one)]
    if not records:
        return []
    reached = [
        f"{one['metric']} {one['value']:.3f}"
        + ("" if one["low"] is None else f" [{one['low']:.3f}, {one['high']:.3f}]")
        + f" against {one['baseline']:.3f}"
        for one in records
    ]
    message = f"not better than the best constant answer, the same to every example: {', '.join(reached)}"
    return [ScoreWarning("constant_answer", split, message)]


def reaches_constant(record: Mapping[str, Any]) -> bool:
    """Says whether an interval contains the best constant answer's score, or lies on its worse side.

    Where the interval is not known, the value stands for it.
    """
    if record["baseline"] is None:
        return False
    low, high = (record["value"] if record[end] is None else record[end] for end in ("low", "high"))
    if METRICS[record["metric"]].greater_is_better:
        return bool(low <= record["baseline"])
    return bool(high >= record["baseline"])


def badly_calibrated(
    split: str, bins: list[Bin], seed: int, calibrated: Calibrated | None = None
) -> list[ScoreWarning]:
    """Probabilities that are not what they say; by more than a sample of this size shows by chance.

    Args:
        bins: of the model's own probabilities.
        calibrated: those that a user of the calibration gets, where there is one: they are judged then.
    """
    judged = bins if calibrated is None else calibrated.bins
    if not judged:
        return []
    error, chance = calibration_error(judged), error_by_chance(judged, seed)
    if error <= max(MOST_CALIBRATION_ERROR, chance):
        return []
    gap = sum(one.examples * (one.confidence - one.accuracy) for one in judged) / sum(one.examples for one in judged)
    direction = "too high" if gap > 0 else "too low"
    if abs(gap) < ONE_WAY * error:
        direction = "too high in places, too low in others"
    words, file = "the probabilities are", "calibration.csv"
    if calibrated is not None:
        words = f"also as metrics/calibration.json calibrates them ({calibration_error(bins):.3f} without) {words}"
        file = "calibrated.csv"
    message = (
        f"expected calibration error {error:.3f} (by chance up to {chance:.3f}): {words} {direction}; "
        f"use them to rank, not as chances (metrics/plots/{file})"
    )
    return [ScoreWarning("calibration", split, message)]
