"""What speaks against a score, in words."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from stages.evaluate.calibration import Bin, calibration_error, error_by_chance
from stages.evaluate.confidence import FEWEST_EXAMPLES
from stages.shared.task.intervals import interval_of
from stages.shared.task.metrics import METRICS

# Above 0.05 a probability of 0.9 may mean 0.85 and less: what Guo et al. (2017) measured for networks as they come from
# training was 0.04 to 0.17, and about 0.02 with one temperature fitted.
MOST_CALIBRATION_ERROR = 0.05
ONE_WAY = 0.75  # of the error, left when bins cancel: less than an eighth of it is the other way


class ScoreWarning(NamedTuple):
    """One warning."""

    guard: str
    split: str
    message: str


def chosen_on_split(split: str, selection: Mapping[str, Any]) -> list[ScoreWarning]:
    """The best of several epochs on a split scores higher there than on new examples."""
    if selection["keep"] != "best" or selection["epochs_trained"] < 2 or selection["split"] != split:
        return []
    message = (
        f"the epoch was chosen as the best of {selection['epochs_trained']} by its {selection['metric']} here, so this "
        "score flatters; report a split that chose nothing, or set train.keep: last"
    )
    return [ScoreWarning("selection_split", split, message)]


def shared_examples(split: str, examples: int, scored: int, pairs: Sequence[Mapping[str, Any]]) -> list[ScoreWarning]:
    """Examples that the model was trained on say nothing about new ones.

    Args:
        examples: of the split in data/raw, which `pairs` counts.
        scored: as many as tokenize.max_samples left of them.
    """
    warned = []
    for pair in pairs:
        if pair["splits"] == ["train", split]:
            rows = ", ".join(f"row {second} (row {first} of train)" for first, second in pair["rows"])
            few = f", of which {scored} are scored," if scored < examples else ""
            message = (
                f"{pair['examples']} of the split's {examples} examples{few} stand in train too, such as {rows}, "
                "so this score flatters"
            )
            warned.append(ScoreWarning("shared_examples", split, message))
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


def badly_calibrated(split: str, bins: list[Bin], seed: int) -> list[ScoreWarning]:
    """Probabilities that are not what they say; by more than a sample of this size shows by chance."""
    if not bins:
        return []
    error, chance = calibration_error(bins), error_by_chance(bins, seed)
    if error <= max(MOST_CALIBRATION_ERROR, chance):
        return []
    gap = sum(one.examples * (one.confidence - one.accuracy) for one in bins) / sum(one.examples for one in bins)
    direction = "too high" if gap > 0 else "too low"
    if abs(gap) < ONE_WAY * error:
        direction = "too high in places, too low in others"
    message = (
        f"expected calibration error {error:.3f} (by chance up to {chance:.3f}): the probabilities are {direction}; "
        "use them to rank, not as chances (metrics/plots/calibration.csv)"
    )
    return [ScoreWarning("calibration", split, message)]
