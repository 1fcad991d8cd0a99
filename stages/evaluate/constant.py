"""The best score of a constant answer, the same to every example."""

from collections.abc import Iterator

import numpy as np
from scipy.special import entr

from stages.shared.task.metrics import METRICS, Counts, OverCounts
from stages.shared.task.task import Task


def constant_scores(task: Task, labels: np.ndarray) -> dict[str, float]:
    """Returns the best score, for each metric of the task and the loss, of any one answer given to every example.

    Each metric has an answer of its own: what scores best is known from these very labels, so that no model that
    ignores its input is above it. The loss is that of the labels' own shares, or mean, as logits.

    Args:
        labels: as in `problem_types.Problem`.
    """
    scores = list(_of_numbers(task, labels) if task.problem.numeric else _of_labels(task, labels))
    best = {
        name: (max if METRICS[name].greater_is_better else min)(one[name] for one in scores) for name in task.metrics
    }
    return best | {"loss": least_loss(task, labels)}


def least_loss(task: Task, labels: np.ndarray) -> float:
    """Returns the least loss of logits that are the same for every example: what the labels vary by themselves."""
    if task.problem.numeric:
        return float(np.var(labels, dtype=np.float64))
    share = task.classification.tally(labels, task.columns) / len(labels)
    return float(entr(share).sum() if task.problem.exclusive else np.mean(entr(share) + entr(1 - share)))


def _of_numbers(task: Task, labels: np.ndarray) -> Iterator[dict[str, float]]:
    """Scores the mean, which is best by the squared error, and the median, which is best by the absolute one."""
    for answer in (labels.mean(dtype=np.float64), np.median(labels)):
        yield {name: METRICS[name].score(labels, np.full(len(labels), answer)) for name in task.metrics}


def _of_labels(task: Task, labels: np.ndarray) -> Iterator[dict[str, float]]:
    actual = task.classification.tally(labels, task.columns).astype(np.float64)
    forms = {name: METRICS[name].resampled for name in task.metrics}
    for answer, right in _answers(task, labels, actual):
        both, predicted, hits, every, examples = (
            np.array([count], dtype=np.float64)
            for count in (answer * actual, answer * len(labels), right, actual, len(labels))
        )
        counts = Counts(both, predicted, hits, every, examples, task.problem.exclusive)
        yield {name: float(form.formula(counts)[0]) for name, form in forms.items() if isinstance(form, OverCounts)}


def _answers(task: Task, labels: np.ndarray, actual: np.ndarray) -> Iterator[tuple[np.ndarray, float]]:
    """Yields answers, float64[labels] of 0 and 1, that hold each metric's best one; and how many examples it fits.

    Several labels at once: the first, the two first and so on of the labels by their number (F1 gains by the more
    frequent one first), and the set that occurs most, which alone can be the best by accuracy.
    """
    if task.problem.exclusive:
        for label in range(task.columns):
            yield np.eye(1, task.columns, label)[0], actual[label]
        return
    for most in range(task.columns + 1):
        answer = np.zeros(task.columns)
        answer[np.argsort(-actual, kind="stable")[:most]] = 1
        yield answer, 0.0
    _, rows, counts = np.unique(np.packbits(labels == 1, axis=1), axis=0, return_index=True, return_counts=True)
    yield np.asarray(labels[rows[counts.argmax()]], dtype=np.float64), float(counts.max())
