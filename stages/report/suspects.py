"""Suspect labels: rows whose label a model that did not learn it contradicts with confidence (confident learning).

The method is that of Northcutt, Jiang and Chuang (2021), Confident Learning: Estimating Uncertainty in Dataset Labels,
Journal of Artificial Intelligence Research 70. A model is confident of a label where it gives it at least the
probability that the rows with this label get on average, so that it does not matter how sure the model is in general,
or of a rare label. A row is suspect if it has one label and the model is confident of another. Where a row has several
labels, each is a question of its own, and they are put together as Thyagarajan, Snorrason, Northcutt and Mueller (2022)
do, Identifying Incorrect Annotations in Multi-Label Classification Data. A number cannot be suspect in this sense.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from stages.shared.task.problem_types import Classification
from stages.shared.task.task import Task

PROBABILITIES_AT_ONCE = 2**18  # in memory
SMOOTHING = 0.8  # of the exponential moving average over the labels of a row; the paper's best


@dataclass(frozen=True)
class Suspects:
    """What confident learning says of the labels of some rows."""

    suspect: np.ndarray  # bool[rows]
    suggested: np.ndarray  # like the labels; where a label is not suspect, it is what the model says otherwise
    # float64[rows], from 0 (wrong for sure) to 1 (right for sure). Of one label: how far its probability is above, or
    # below, the most probable other one, brought to that range. Of several: nearly that of the worst.
    quality: np.ndarray

    def ranked(self) -> np.ndarray:
        """Returns the rows, int64[rows]: first the suspects, then the others, each from the worst to the best."""
        return np.lexsort((self.quality, ~self.suspect))


def find_suspects(task: Task, labels: np.ndarray, logits: np.ndarray) -> Suspects:
    """Ranks labels by how much a model that was not trained on them contradicts them.

    Args:
        labels: as in `problem_types.Problem`, of a classification.
        logits: float32[rows, columns]; may be memory-mapped.
    """
    problem = task.classification
    thresholds = confident_thresholds(task, labels, logits)
    suspect = np.zeros(len(labels), dtype=np.bool_)
    suggested = np.empty(labels.shape, dtype=problem.label_dtype)
    quality = np.empty(len(labels), dtype=np.float64)
    judge = _judge_classes if problem.exclusive else _judge_sets
    for rows, probabilities in _chunks(problem, logits):
        suspect[rows], suggested[rows], quality[rows] = judge(np.asarray(labels[rows]), probabilities, thresholds)
    return Suspects(suspect, suggested, quality)


def confident_thresholds(task: Task, labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Returns the mean probability of each label over the rows that have it, float64[columns]; infinite without any.

    Where a row has several labels, float64[2, columns]: first of a label's absence over the rows that lack it.
    """
    sums = np.zeros((2, task.columns))
    counts = np.zeros((2, task.columns))
    for rows, probabilities in _chunks(task.classification, logits):
        has = task.classification.members(np.asarray(labels[rows]), task.columns)
        sums += [np.where(has, 0.0, 1 - probabilities).sum(axis=0), np.where(has, probabilities, 0.0).sum(axis=0)]
        counts += [(~has).sum(axis=0), has.sum(axis=0)]
    with np.errstate(divide="ignore", invalid="ignore"):
        means = np.where(counts > 0, sums / counts, np.inf)
    return means[1] if task.problem.exclusive else means


def _chunks(problem: Classification, logits: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields rows and their probabilities, float64[rows, columns], a few at a time."""
    step = max(1, PROBABILITIES_AT_ONCE // logits.shape[1])
    for start in range(0, len(logits), step):
        rows = slice(start, start + step)
        yield rows, problem.probabilities(np.asarray(logits[rows]))


Judgement = tuple[np.ndarray, np.ndarray, np.ndarray]  # the columns of `Suspects`


def _judge_classes(labels: np.ndarray, probabilities: np.ndarray, thresholds: np.ndarray) -> Judgement:
    each = np.arange(len(labels))
    own = probabilities[each, labels]
    others = probabilities.copy()
    others[each, labels] = -1.0
    rival = others.argmax(axis=1)
    # Confident of several labels, the model means the most probable of these. It is rounding that may keep the mean of
    # equal numbers above each of them.
    confident = np.where(probabilities >= thresholds - 1e-6, probabilities, -1.0)
    meant = confident.argmax(axis=1)
    suspect = (confident[each, meant] >= 0) & (meant != labels) & (own < others[each, rival])
    quality = (own - others[each, rival] + 1) / 2
    return suspect, np.where(suspect, meant, rival), quality


def _judge_sets(labels: np.ndarray, probabilities: np.ndarray, thresholds: np.ndarray) -> Judgement:
    has = labels > 0.5
    own = np.where(has, probabilities, 1 - probabilities)
    other = 1 - own
    of_other = np.where(has, thresholds[0], thresholds[1])
    wrong = (other >= of_other - 1e-6) & (own < other)  # confident of the opposite, and it is the more probable
    average = np.sort(own, axis=1)[:, ::-1]
    quality = average[:, 0]
    for column in range(1, own.shape[1]):  # the worst comes last, and so counts most
        quality = SMOOTHING * average[:, column] + (1 - SMOOTHING) * quality
    return wrong.any(axis=1), np.where(wrong, ~has, has).astype(np.float32), quality
