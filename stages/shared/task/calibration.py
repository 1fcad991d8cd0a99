"""What `calibrate` fitted, and how it is applied: probabilities, labels and sets of labels from a model's logits.

The model's weights stay as they are. Whoever shows a probability or decides by one (evaluate, and commands that use the
model) reads metrics/calibration.json and applies it here. On the examples that it was fitted on, it is applied fold by
fold, each time as it was fitted without that fold: else it would be judged by examples that it has seen.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.shared.runtime.publish import write_records
from stages.shared.task.groups import groups_of_splits
from stages.shared.task.task import Task

FOLDS = 10
SEED = 0  # of the folds, and of the rows that are drawn of groups


@dataclass(frozen=True)
class Fit:
    """What was fitted on some examples."""

    temperature: float  # the logits are divided by it
    # Calibrated probabilities above which an example gets a label: one number for each label, of two classes one for
    # the second. None: the labels are the model's own.
    thresholds: list[float] | None = None
    # The loss that a label may have, were it the right one, to be in an example's set. None: every label is in it.
    greatest_loss: float | None = None


@dataclass(frozen=True)
class Calibration:
    """The content of metrics/calibration.json, where there is a calibration."""

    splits: list[str]  # that it was fitted on
    examples: int  # of these
    drawn: int  # of these, groups, each of which counts as one; without groups, examples
    metric: str | None  # that the thresholds were chosen by
    costs: list[list[float]] | None  # of saying the second label where the first is right; for sets of no and yes
    error_rate: float | None  # of the sets of labels; None: there are none
    whole: Fit  # for examples that are new to it
    folds: list[Fit]  # without each fold of its own examples; none where there are too few to leave some out
    notes: list[str]  # what could not be fitted, and why

    @property
    def decides(self) -> bool:
        """Whether labels are other ones than the model's own."""
        return self.whole.thresholds is not None or self.costs is not None


def write_calibration(file: Path, calibration: Calibration | None, off: str = "") -> None:
    """Writes a calibration, or why there is none."""
    write_records(file, "calibration", [{"off": off} if calibration is None else asdict(calibration)])


def read_calibration(file: Path) -> Calibration | None:
    """Reads what `write_calibration` wrote; None where there is no calibration."""
    (record,) = json.loads(file.read_text(encoding="utf-8"))["calibration"]
    if "off" in record:
        return None
    fits = {"whole": Fit(**record["whole"]), "folds": [Fit(**fit) for fit in record["folds"]]}
    return Calibration(**(record | fits))


def folds_of(raw_dir: Path, sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Deals the examples of the splits that a calibration is fitted on to folds: int64[examples] for each split.

    A group, in whatever splits its examples are, is in one fold. Where there is but one group or example, none can be
    left out, and all are in the one fold.

    Args:
        sizes: of each split in data/raw its first so many rows.
    """
    groups = groups_of_splits(raw_dir, sizes)
    of = deal(sum(sizes.values()), groups)
    ends = np.cumsum(list(sizes.values()))[:-1]
    return dict(zip(sizes, np.split(of, ends), strict=True))


def deal(examples: int, groups: np.ndarray | None) -> np.ndarray:
    """Returns the fold of each example, int64[examples].

    Args:
        groups: int64[examples] from 0; None: each example is on its own.
    """
    drawn = examples if groups is None else int(groups.max()) + 1
    fold = np.random.default_rng(SEED).permutation(drawn) % min(FOLDS, drawn)
    return fold if groups is None else fold[groups]


def by_fold(
    calibration: Calibration, folds: np.ndarray | None, logits: np.ndarray, apply: Callable[[Fit, np.ndarray], Any]
) -> np.ndarray:
    """Applies to each example the fit that has not seen it.

    Args:
        folds: int64[examples], of the examples that the calibration was fitted on; None: it has seen none of these.
        logits: float32[examples, columns].
        apply: takes a fit and some logits, and returns a row for each of them.
    """
    if folds is None or not calibration.folds:
        return np.asarray(apply(calibration.whole, logits))
    order = np.argsort(folds, kind="stable")
    parts = [apply(fit, logits[folds == number]) for number, fit in enumerate(calibration.folds)]
    return np.concatenate(parts)[np.argsort(order, kind="stable")]


def calibrated_logits(fit: Fit, logits: np.ndarray) -> np.ndarray:
    """Returns the logits, float64[examples, columns], whose probabilities are the calibrated ones."""
    return logits.astype(np.float64) / fit.temperature


def decide(task: Task, calibration: Calibration, fit: Fit, logits: np.ndarray) -> np.ndarray:
    """Returns each example's label, or labels, as in `problem_types.Problem`: by costs, by thresholds, or the model's.

    Args:
        logits: float32[examples, columns], the model's own.
    """
    if calibration.costs is None and fit.thresholds is None:
        return task.problem.predict(logits)
    probabilities = task.classification.probabilities(calibrated_logits(fit, logits))
    if calibration.costs is not None:
        return _cheapest(task, probabilities, np.array(calibration.costs, dtype=np.float64))
    thresholds = np.array(fit.thresholds)
    above = probabilities[:, 1] > thresholds[0] if task.problem.exclusive else probabilities > thresholds
    return above.astype(task.problem.label_dtype)


def label_sets(fit: Fit, logits: np.ndarray) -> np.ndarray:
    """Returns which labels are in the set of each example: bool[examples, columns]. A set may be empty.

    The losses are those of the model's own probabilities: a temperature that was fitted on the same examples would
    make them depend on each other, and the promise of the error rate rests on that they do not.

    Args:
        logits: float32[examples, columns].
    """
    if fit.greatest_loss is None:
        return np.ones(logits.shape, dtype=np.bool_)
    logits = logits.astype(np.float64)
    losses = np.logaddexp.reduce(logits, axis=1)[:, np.newaxis] - logits  # as `SingleLabel.losses` has them, bit by bit
    return np.asarray(losses <= fit.greatest_loss)


def _cheapest(task: Task, probabilities: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """Returns the answer of the least expected cost; of equal ones the first label, and of a yes and a no the no."""
    if task.problem.exclusive:
        return (probabilities @ costs).argmin(axis=1)
    no, yes = ((1 - probabilities) * costs[0, said] + probabilities * costs[1, said] for said in (0, 1))
    return (yes < no).astype(task.problem.label_dtype)
