"""Corrects the score of the best epoch for the choice, on examples that did not take part in it.

The best of several scores is one that chance was kind to, so on the split that chose it a model scores above what it is
worth. The bootstrap bias correction (Tsamardinos, Greasidou & Borboudakis 2018, "Bootstrapping the out-of-sample
predictions for efficient and accurate cross-validation") repeats the choice: on each resample the epoch is
chosen anew, and scored on the examples that the resample left out. It takes what each epoch predicted, and no training.
"""

from typing import NamedTuple

import numpy as np

from stages.evaluate.pseudo_values import pseudo_values
from stages.shared.statistics.bootstrap import WEIGHTS_AT_ONCE
from stages.shared.task.metrics import METRICS
from stages.shared.task.task import Task

CHOICES = 2000  # resamples; the correction is then sure to a hundredth or two of what one choice varies by


class SelectionCost(NamedTuple):
    """A score before and after."""

    value: float  # of the chosen epoch, on all examples
    corrected: float
    lost: float  # how much of the value the choice alone brought, for the better of the metric


def selection_cost(
    task: Task, labels: np.ndarray, epochs: np.ndarray, kept: int, seed: int, groups: np.ndarray | None = None
) -> SelectionCost:
    """Corrects the score of the best epoch, by the task's first metric, which chose it.

    A metric's value on a resample, or on what it left out, is the mean of its pseudo-values there. The mean over the
    resamples is taken of what the chosen epoch scores beyond the kept one on the same examples left out, and added to
    the kept one's score: its expectation is the paper's, and where all epochs say the same it is the score itself, and
    not that give or take chance.

    Args:
        labels: as in `problem_types.Problem`.
        epochs: what each epoch predicted, [epochs, examples, ...].
        kept: the place of the chosen one.
        groups: int64[examples] from 0: which examples are drawn together. None: each alone.
    """
    name = task.metrics[0]
    predictions = [one.astype(task.problem.label_dtype) for one in epochs]
    values = pseudo_values(task, name, labels, predictions, groups).T  # float64[units, epochs]
    units = len(values)
    sign = 1.0 if METRICS[name].greater_is_better else -1.0
    generator = np.random.default_rng(seed)
    rows, moved = max(1, WEIGHTS_AT_ONCE // units), []
    for done in range(0, CHOICES, rows):
        drawn = generator.multinomial(units, np.full(units, 1 / units), min(rows, CHOICES - done)).astype(np.float64)
        left_out = (drawn == 0).astype(np.float64)
        some = left_out.any(axis=1)  # all units drawn once each leave none out
        scores = np.round(sign * (drawn[some] @ values), 9)
        chosen = scores.argmax(axis=1)  # of equal ones the first, as in training
        there = left_out[some] @ values / left_out[some].sum(axis=1, keepdims=True)
        moved.append(there[np.arange(len(there)), chosen] - there[:, kept])
    change = float(np.concatenate(moved).mean())
    value = float(METRICS[name].score(labels, predictions[kept]))
    return SelectionCost(value, value + change, -sign * change)
