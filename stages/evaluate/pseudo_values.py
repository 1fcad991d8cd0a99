"""The influence of each example on a metric, as the jackknife's pseudo-values, whose mean is nearly the metric.

Of the accuracy they are whether each example is right, and of any mean the values themselves. A metric that is no mean
is brought to that form by leaving each example out once (Tukey 1958; Efron & Tibshirani 1993, section 11.5): what is
known of means, such as how they vary over two things that are drawn, then holds for it too, up to a term of the order
of 1 / examples.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.shared.statistics.ranks import spearman_influence
from stages.shared.statistics.tables import Cells
from stages.shared.task.metrics import METRICS, Counts, OverCounts, OverMeans
from stages.shared.task.task import Task


def pseudo_values(
    task: Task, metric: str, labels: np.ndarray, models: Sequence[np.ndarray], groups: np.ndarray | None
) -> np.ndarray:
    """Returns those of a metric for each model, float64[models, units].

    A unit is an example, or a group; of more than MOST_CELLS, a block of them.

    Args:
        labels: as in `problem_types.Problem`, like the predictions of each model.
        models: predictions.
        groups: int64[examples] from 0: which examples are drawn together. None: each alone.
    """
    cells, form = Cells.of_examples(len(labels), groups), METRICS[metric].resampled
    if isinstance(form, OverCounts):
        return np.stack([_of_counts(task, form, labels, one, cells) for one in models])
    if isinstance(form, OverMeans):
        return np.stack([_of_means(form, np.stack(form.columns(labels, one), axis=1), cells) for one in models])
    found = []
    for one in models:
        value, influence = spearman_influence(labels, one)
        found.append(of_mean(value + influence, cells))
    return np.stack(found)


def of_mean(values: np.ndarray, cells: Cells) -> np.ndarray:
    """Returns the pseudo-values of a mean, float64[units]: of blocks of unequal sizes those of a ratio of two sums."""
    return _of_means(OverMeans(lambda labels, predictions: [], lambda mean: mean), values[:, np.newaxis], cells)


def _of_means(form: OverMeans, columns: np.ndarray, cells: Cells) -> np.ndarray:
    sums, sizes = cells.sums(columns.astype(np.float64)), cells.sums(np.ones(len(cells.of)))
    whole, size = sums.sum(axis=0), sizes.sum()
    own = form.formula(*(whole[:, np.newaxis] / size))
    return _pseudo(own, form.formula(*((whole - sums).T / (size - sizes))))


def _of_counts(task: Task, form: OverCounts, labels: np.ndarray, predictions: np.ndarray, cells: Cells) -> np.ndarray:
    problem, columns = task.problem, task.columns
    parts = (
        cells.tally(labels, columns, predictions == labels),
        cells.tally(predictions, columns),
        cells.sums(problem.right(predictions, labels).astype(np.float64)),
        cells.tally(labels, columns),
        cells.sums(np.ones(len(labels))),
    )
    wholes = [part.sum(axis=0, keepdims=True) for part in parts]
    left_out = [whole - part for whole, part in zip(wholes, parts, strict=True)]

    def values(both: Any, predicted: Any, right: Any, actual: Any, size: Any) -> np.ndarray:
        return form.formula(Counts(both, predicted, right, actual, size, problem.exclusive))

    return _pseudo(values(*wholes), values(*left_out))


def _pseudo(own: np.ndarray, left_out: np.ndarray) -> np.ndarray:
    """Returns units * own - (units - 1) * left_out: float64[1] and float64[units] -> float64[units]."""
    units = len(left_out)
    pseudo: np.ndarray = units * own - (units - 1) * left_out
    return pseudo
