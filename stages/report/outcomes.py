"""What the model said about a split, next to what was right: from the logits, in chunks, so that a million rows fit."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import expit, softmax

from stages.shared.task.scoring import CLASSES, NUMBERS, predict_labels
from stages.shared.task.task import Task

CHUNK = 2**18  # probabilities in memory at once
BINS = 200  # of a probability; quantiles are read off them, to half a per cent


@dataclass(frozen=True)
class Outcome:
    """One scored split."""

    split: str
    labels: np.ndarray  # int64[examples], float32[examples] (numbers) or float32[examples, classes] (sets)
    predicted: np.ndarray  # of the same shape: int64, float32 or bool
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


def read_outcome(task: Task, predictions_dir: Path, split: str) -> Outcome:
    """Reads `logits.npy`, float32[examples, columns], and `labels.npy` of a labelled split, memory-mapped."""
    logits = np.load(predictions_dir / split / "logits.npy", mmap_mode="r")
    labels = np.load(predictions_dir / split / "labels.npy", mmap_mode="r")
    shape = (len(logits), *labels.shape[1:])
    predicted = np.empty(shape, dtype={CLASSES: np.int64, NUMBERS: np.float32}.get(task.problem_type, np.bool_))
    right = np.zeros(len(logits), dtype=np.bool_)
    certainty = np.empty(len(logits), dtype=np.float32)
    histogram = np.zeros((len(task.label_names), 2, BINS), dtype=np.int64)
    step = max(1, CHUNK // logits.shape[1])
    for start in range(0, len(logits), step):
        rows = slice(start, start + step)
        scores, truth = logits[rows].astype(np.float64), np.asarray(labels[rows])
        answer = predict_labels(task, scores)
        predicted[rows] = answer
        if task.problem_type == NUMBERS:
            certainty[rows] = np.abs(answer - truth)
            continue
        if task.problem_type == CLASSES:
            probability = softmax(scores, axis=1)
            member = np.arange(scores.shape[1]) == truth[:, None]
            right[rows] = answer == truth
            certainty[rows] = probability.max(axis=1)
        else:
            probability = expit(scores)
            member = truth > 0.5
            wrong = (answer > 0.5) != member
            right[rows] = ~wrong.any(axis=1)
            certainty[rows] = np.where(wrong, np.abs(probability - member), 0.0).max(axis=1)
        histogram += count_probabilities(probability, member)
    return Outcome(split, labels, predicted, right, certainty, histogram)


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


def confusion(task: Task, outcome: Outcome) -> np.ndarray:
    """Counts int64[actual, predicted] of classes."""
    size = len(task.label_names)
    return np.bincount(outcome.labels * size + outcome.predicted, minlength=size**2).reshape(size, size)


@dataclass(frozen=True)
class ClassScore:
    """How well one label is found."""

    name: str
    actual: int  # examples that carry it
    predicted: int  # examples that were given it
    found: int  # both

    @property
    def precision(self) -> float:
        return self.found / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        return self.found / self.actual if self.actual else 0.0

    @property
    def f1(self) -> float:
        total = self.actual + self.predicted
        return 2 * self.found / total if total else 0.0


def class_scores(task: Task, outcome: Outcome) -> list[ClassScore]:
    """Counts for every label, in the order of the logits."""
    if task.problem_type == CLASSES:
        counts = confusion(task, outcome)
        actual, predicted, found = counts.sum(axis=1), counts.sum(axis=0), np.diag(counts)
    else:
        member = np.asarray(outcome.labels) > 0.5
        actual, predicted = member.sum(axis=0), outcome.predicted.sum(axis=0)
        found = (member & outcome.predicted).sum(axis=0)
    return [
        ClassScore(name, int(a), int(p), int(f))
        for name, a, p, f in zip(task.label_names, actual, predicted, found, strict=True)
    ]
