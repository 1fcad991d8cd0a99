"""Calibration: is the model right as often as its probabilities say?"""

from typing import NamedTuple

import numpy as np

from stages.shared.task.problem_types import Classification
from stages.shared.task.task import Task

BINS = 15  # of equal width, as in Guo et al. (2017)
DRAWS = 1000


class Bin(NamedTuple):
    """Predictions of about one confidence."""

    number: int  # from 1
    confidence: float  # mean of the predictions' probabilities
    accuracy: float  # share of them that is right
    examples: int  # for several labels at once: example and label together
    variance: float  # of the accuracy, if every probability were true


def calibration_bins(task: Task, logits: np.ndarray, labels: np.ndarray) -> list[Bin]:
    """Sorts the predictions by their probability; empty bins are left out, and a regression has none.

    Where an example may have several labels, each of them is a yes or a no with a probability of its own.

    Args:
        logits: float32[examples, columns].
        labels: as in `problem_types.Problem`.
    """
    problem = task.problem
    if not isinstance(problem, Classification):
        return []
    confidence, right = problem.confidence(logits).ravel(), (problem.predict(logits) == labels).ravel()
    which = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    examples = np.bincount(which, minlength=BINS)
    sums = [np.bincount(which, values, BINS) for values in (confidence, right, confidence * (1 - confidence))]
    return [
        Bin(
            number=int(i) + 1,
            confidence=float(sums[0][i] / examples[i]),
            accuracy=float(sums[1][i] / examples[i]),
            examples=int(examples[i]),
            variance=float(sums[2][i] / examples[i] ** 2),
        )
        for i in np.flatnonzero(examples)
    ]


def calibration_error(bins: list[Bin]) -> float:
    """Returns the expected calibration error (Guo et al. 2017, equation 3): the mean gap, weighted by examples."""
    return sum(one.examples * abs(one.accuracy - one.confidence) for one in bins) / sum(one.examples for one in bins)


def error_by_chance(bins: list[Bin], seed: int) -> float:
    """Returns the calibration error that a model whose probabilities are all true stays under in 95 % of all samples.

    The error is never negative, so a small sample has one by chance alone: 0.05 is usual for 400 examples
    (Broecker & Smith 2007 resample the labels for this; here the bins' accuracies are drawn, by the normal law).
    """
    examples, deviation = (
        np.array(column) for column in zip(*((b.examples, b.variance**0.5) for b in bins), strict=True)
    )
    gaps = np.abs(np.random.default_rng(seed).normal(size=(DRAWS, len(bins)))) * deviation
    return float(np.quantile(gaps @ examples / examples.sum(), 0.95))
