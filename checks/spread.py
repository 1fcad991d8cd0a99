"""The mean of a metric over several seeds, with an interval over seeds and examples.

A score varies with the seed and with the examples. The spread over seeds alone says nothing of other examples, however
many seeds there are: an interval from it shrinks around what these very examples happen to say. So both are drawn:
seeds and examples are the rows and columns of a table of values, and the variance of its mean is that of a two-way
layout with random rows and columns (Searle, Casella & McCulloch 1992, chapter 4; of classifiers' readers and cases:
Gallas 2006). Its degrees of freedom are Satterthwaite's (1946), so that three seeds pay for being three by Student's t.
The multi-bootstrap (Sellam et al. 2022) draws the same two things; tests/test_spread.py compares the two.

An entry of the table is what an example does to the metric: for the accuracy whether it is right, for any other metric
the jackknife's pseudo-value (stages/evaluate/pseudo_values.py).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import t

from stages.evaluate.pseudo_values import of_mean, pseudo_values
from stages.shared.statistics.confidence import why_withheld
from stages.shared.statistics.probabilities import probability_influence
from stages.shared.statistics.tables import Cells, example_losses
from stages.shared.task.metrics import METRICS, greater_is_better
from stages.shared.task.task import Task

FEWEST_SEEDS = 3  # of two, the spread has one degree of freedom: such an interval spans almost everything


class SpreadOfMean(NamedTuple):
    """How sure the mean of a table is."""

    of_seeds: float  # standard error that the choice of seeds brings
    of_examples: float  # that the choice of examples brings
    error: float  # of both together
    freedom: float  # degrees of it

    def reach(self, confidence: float) -> float:
        """Returns half the width of the mean's interval."""
        return float(t.ppf((1 + confidence) / 2, self.freedom)) * self.error if self.error > 0 else 0.0


def scores_of_units(
    task: Task, names: Sequence[str], labels: np.ndarray, logits: Sequence[np.ndarray], groups: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Returns what each example does to each metric: float64[models, units].

    Args:
        names: metrics of predictions or of probabilities, or the loss.
        labels: as in `problem_types.Problem`.
        logits: float32[examples, columns] of each model.
        groups: int64[examples] from 0: which examples are drawn together. None: each alone.
    """
    predictions = [task.problem.predict(one) for one in logits]
    cells = Cells.of_examples(len(labels), groups)
    found = {}
    for name in names:
        if name in METRICS:
            found[name] = pseudo_values(task, name, labels, predictions, groups)
            continue
        values = (_loss_or_probability(task, name, labels, one) for one in logits)
        found[name] = np.stack([of_mean(one, cells) for one in values])
    return found


def _loss_or_probability(task: Task, name: str, labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Returns float64[examples], whose mean is the loss, or nearly a metric of probabilities."""
    if name == "loss":
        return example_losses(task, logits, labels)
    (value, influence), _ = probability_influence(task, name, labels, logits)
    return value + influence


def spread_of_mean(values: np.ndarray) -> SpreadOfMean:
    """Returns how sure the mean of float64[seeds, units] is, where both were drawn at random.

    Mean squares of seeds and of units each hold the remainder's once, so it is taken off once. Chance may make what is
    left too small, but neither seeds nor examples can bring less than nothing.
    """
    seeds, units = values.shape
    mean, of_seed, of_unit = values.mean(), values.mean(axis=1), values.mean(axis=0)
    remainder = values - of_seed[:, np.newaxis] - of_unit + mean
    parts = np.array(
        [
            of_seed.var(ddof=1) / seeds,
            of_unit.var(ddof=1) / units,
            np.sum(remainder**2) / ((seeds - 1) * (units - 1)) / (seeds * units),
        ]
    )
    variance = max(parts[0] + parts[1] - parts[2], parts[0], parts[1])
    squares = np.sum(parts**2 / np.array([seeds - 1, units - 1, (seeds - 1) * (units - 1)]))
    freedom = variance**2 / squares if squares > 0 else float(seeds - 1)
    of_seeds, of_examples = np.sqrt(parts[:2]).tolist()
    return SpreadOfMean(of_seeds, of_examples, float(np.sqrt(variance)), float(max(freedom, 1.0)))


def correlation_of_seeds(one: np.ndarray, other: np.ndarray) -> float | None:
    """Returns the correlation of two configurations' scores over the same seeds, float64[seeds]; None without spread.

    To compare seed by seed pays as far as this is above 0: only then does a seed do the same to both.
    """
    if min(np.ptp(one), np.ptp(other)) == 0:
        return None
    return float(np.corrcoef(one, other)[0, 1])


def score_range(metric: str) -> tuple[float, float]:
    """Returns the least and the greatest value that a metric, or the loss, can have."""
    if metric in METRICS:
        return METRICS[metric].range
    return (0.0, 1.0 if greater_is_better(metric) else float("inf"))


def withheld_by(
    task: Task, metric: str, labels: np.ndarray, logits: Sequence[np.ndarray], groups: np.ndarray | None
) -> str | None:
    """Says why a metric's interval cannot be trusted, if one model's cannot; the variance would be as wrong here."""
    reasons = (why_withheld(task, metric, labels, [task.problem.predict(one)], groups) for one in logits)
    return next(filter(None, reasons), None)
