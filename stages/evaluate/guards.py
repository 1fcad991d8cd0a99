"""What speaks against a score, in words."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from stages.evaluate.calibration import Bin, calibration_error, error_by_chance
from stages.shared.scoring import METRICS
from stages.shared.statistics import FEWEST

# Above 0.05 a probability of 0.9 may mean 0.85 and less: what Guo et al. (2017) measured for networks as they come from
# training was 0.04 to 0.17, and about 0.02 with one temperature fitted.
MOST_CALIBRATION_ERROR = 0.05


class Warned(NamedTuple):
    """One warning."""

    guard: str
    split: str
    message: str


def selected(split: str, selection: Mapping[str, Any]) -> list[Warned]:
    """The best of several epochs on a split scores higher there than on new examples."""
    if selection["keep"] != "best" or selection["epochs_trained"] < 2 or selection["split"] != split:
        return []
    message = (
        f"the epoch was chosen as the best of {selection['epochs_trained']} by its {selection['metric']} here, so this "
        "score flatters; report a split that chose nothing, or set train.keep: last"
    )
    return [Warned("selection_split", split, message)]


def shared(split: str, examples: int, pairs: Sequence[Mapping[str, Any]]) -> list[Warned]:
    """Examples that the model was trained on say nothing about new ones."""
    warned = []
    for pair in pairs:
        if pair["splits"] == ["train", split]:
            rows = ", ".join(f"row {second} is row {first} of train" for first, second in pair["rows"])
            message = f"{pair['examples']} of {examples} examples stand in train too ({rows}), so this score flatters"
            warned.append(Warned("shared_examples", split, message))
    return warned


def too_little(split: str, labels: np.ndarray) -> list[Warned]:
    """A handful of examples has no interval, and one label no score worth the name."""
    warned = []
    if len(labels) < FEWEST:
        message = f"{len(labels)} examples are too few for an interval, which takes {FEWEST}"
        warned.append(Warned("few_examples", split, message))
    if (labels == labels[0]).all():
        message = "all examples have the same label: no score shows whether the model tells labels apart"
        warned.append(Warned("one_class", split, message))
    return warned


def no_better_than_constant(split: str, metrics: Sequence[str], intervals: Sequence[Mapping[str, Any]]) -> list[Warned]:
    """A score whose interval reaches the constant answer's may be that of a model that does not read its input."""
    reached = [
        f"{one['metric']} {one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}] against {one['baseline']:.3f}"
        for one in intervals
        if one["metric"] in metrics and one["method"] == "bootstrap" and reaches_constant(one)
    ]
    if not reached:
        return []
    message = f"not better than always giving the most frequent (or mean) label of train: {', '.join(reached)}"
    return [Warned("majority_class", split, message)]


def reaches_constant(record: Mapping[str, Any]) -> bool:
    """Says whether an interval contains the constant answer's score, or lies on its worse side."""
    if record["baseline"] is None or record["low"] is None:
        return False
    if METRICS[record["metric"]].greater_is_better:
        return bool(record["low"] <= record["baseline"])
    return bool(record["high"] >= record["baseline"])


def badly_calibrated(split: str, bins: list[Bin], seed: int) -> list[Warned]:
    """Probabilities that are not what they say; by more than a sample of this size shows by chance."""
    if not bins:
        return []
    error, chance = calibration_error(bins), error_by_chance(bins, seed)
    if error <= max(MOST_CALIBRATION_ERROR, chance):
        return []
    gap = sum(one.examples * (one.confidence - one.accuracy) for one in bins)
    message = (
        f"expected calibration error {error:.3f} (by chance up to {chance:.3f}): the probabilities are "
        f"{'too high' if gap > 0 else 'too low'}; use them to rank, not as chances (metrics/plots/calibration.csv)"
    )
    return [Warned("calibration", split, message)]
