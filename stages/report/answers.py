"""The model's answers on a split next to the true ones, in chunks, so that a million rows fit into memory."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.shared.task.problem_types import Classification
from stages.shared.task.task import Task

PROBABILITIES_AT_ONCE = 2**18  # in memory
BINS = 200  # of a probability; quantiles are read off them, to half a per cent


@dataclass(frozen=True)
class Answers:
    """Those to one scored split."""

    split: str
    labels: np.ndarray  # as in `problem_types.Problem`
    predicted: np.ndarray  # likewise
    right: np.ndarray  # bool[examples]; for numbers all False
    # float32[examples]. Of a class: the probability of the predicted one. Of a set: how far the label that is most
    # wrong lies from the truth. Of a number: the absolute error.
    certainty: np.ndarray
    # int64[classes, 2, BINS]: how often each class was given each probability, by examples that are not and are of it.
    histogram: np.ndarray

    def __len__(self) -> int:
        return len(self.right)

    def mistakes(self, count: int) -> np.ndarray:
        """Returns the rows of the `count` most certain mistakes, the worst first; equal ones in the split's order."""
        wrong = np.flatnonzero(~self.right)
        return wrong[np.argsort(-self.certainty[wrong], kind="stable")][:count]


def read_answers(task: Task, predictions_dir: Path, split: str) -> Answers:
    """Reads `logits.npy`, float32[examples, columns], and `labels.npy` of a labelled split, memory-mapped."""
    logits = np.load(predictions_dir / split / "logits.npy", mmap_mode="r")
    labels = np.load(predictions_dir / split / "labels.npy", mmap_mode="r")
    problem = task.problem
    predicted = np.empty((len(logits), *labels.shape[1:]), dtype=problem.label_dtype)
    right = np.zeros(len(logits), dtype=np.bool_)
    certainty = np.empty(len(logits), dtype=np.float32)
    histogram = np.zeros((len(task.label_names), 2, BINS), dtype=np.int64)
    step = max(1, PROBABILITIES_AT_ONCE // logits.shape[1])
    for start in range(0, len(logits), step):
        rows = slice(start, start + step)
        scores, truth = logits[rows].astype(np.float64), np.asarray(labels[rows])
        predicted[rows] = problem.predict(scores)
        if not isinstance(problem, Classification):
            certainty[rows] = np.abs(problem.predict(scores) - truth)
            continue
        right[rows] = problem.right(predicted[rows], truth)
        confidence = problem.confidence(scores)
        if not problem.exclusive:  # the labels that are wrong say how bad the set is, and the right ones nothing
            confidence = np.where(predicted[rows] != truth, confidence, 0.0).max(axis=1)
        certainty[rows] = confidence
        histogram += count_probabilities(problem.probabilities(scores), problem.members(truth, task.columns))
    return Answers(split, labels, predicted, right, certainty, histogram)


def count_probabilities(probability: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Counts probabilities by class, membership and bin.

    Args:
        probability: float64[examples, classes].
        member: bool[examples, classes]; whether the example is of the class.

    Returns:
        int64[classes, 2, BINS].
    """
    classes = probability.shape[1]
    which = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    flat = (np.arange(classes) * 2 + member) * BINS + which
    return np.bincount(flat.ravel(), minlength=classes * 2 * BINS).reshape(classes, 2, BINS)


def histogram_quantiles(counts: np.ndarray, shares: tuple[float, ...]) -> np.ndarray:
    """Reads quantiles off the counts of BINS equal bins of [0, 1]: float64[shares], to half a bin; NaN where empty."""
    if counts.sum() == 0:
        return np.full(len(shares), np.nan)
    cumulative = np.cumsum(counts) / counts.sum()
    return (np.searchsorted(cumulative, np.asarray(shares) - 1e-12) + 0.5) / BINS


def confusion(task: Task, answers: Answers) -> np.ndarray:
    """Counts int64[actual, predicted] of classes."""
    size = len(task.label_names)
    return np.bincount(answers.labels * size + answers.predicted, minlength=size**2).reshape(size, size)
