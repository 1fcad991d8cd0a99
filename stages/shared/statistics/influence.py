"""The influence of each example on a mean or a correlation, and the interval that follows without resampling.

A value in another sample differs by the mean of the drawn examples' influences, up to a term of the order of
1 / examples (the infinitesimal jackknife: Efron 1982, chapter 6). So its standard error is that of a mean, also where
whole groups of examples are drawn. The interval is Student's, on the scale where the error depends least on the value:
the logarithm of a mean of positive numbers, Fisher's z of a correlation (1921), a difference as it is.

An error that a few examples carry is itself known badly, and Student's degrees of freedom say how badly. For a
difference, which is about symmetric, they are Satterthwaite's (1946), 2 n / (kurtosis - 1): of normal influences n. A
mean of positive numbers and a correlation are skewed besides; of these they are one less than how many examples carry
as much, n / kurtosis (Kish's effective size of a sample, 1965, of squares): of normal influences n / 3, of losses that
a dozen wrong answers carry about a dozen. That rule is our own, and docs/statistics.md has what it does.
"""

from collections.abc import Callable, Iterator

import numpy as np
from scipy.special import stdtrit

from stages.shared.statistics.ranks import spearman_influence
from stages.shared.task.metrics import METRICS, OverCounts, OverMeans
from stages.shared.task.task import Task

STEP = 1e-5  # of a numerical derivative: of means of the order of 1 it is exact to 1e-10

Influence = tuple[float, np.ndarray]  # the sample's value, and each example's influence, float64[examples], with mean 0
Scale = tuple[Callable[[float], float], Callable[[float], float], Callable[[float], float]]  # to it, derivative, back

PLAIN: Scale = (lambda value: value, lambda value: 1.0, lambda value: value)
LOGARITHM: Scale = (lambda value: float(np.log(value)), lambda value: 1 / value, lambda value: float(np.exp(value)))
FISHER: Scale = (
    lambda value: float(np.arctanh(value)),
    lambda value: float(np.divide(1.0, 1.0 - value**2)),  # infinite at the ends of the scale, where no interval is
    lambda value: float(np.tanh(value)),
)


def influences(
    task: Task, labels: np.ndarray, logits: np.ndarray, losses: np.ndarray
) -> Iterator[tuple[str, Influence]]:
    """Yields each metric of the task that is a mean or a correlation, and the loss.

    Args:
        losses: of each example, as `tables.example_losses` has them.
    """
    predictions = task.problem.predict(logits)
    for name in task.metrics:
        form = METRICS[name].resampled
        if isinstance(form, OverMeans):
            yield name, of_means(form, labels, predictions)
        elif not isinstance(form, OverCounts):
            yield name, spearman_influence(labels, predictions)
    yield "loss", (float(losses.mean()), losses - losses.mean())


def of_means(form: OverMeans, labels: np.ndarray, predictions: np.ndarray) -> Influence:
    """Returns the influence on a function of means: its derivative by each of them times the examples' deviations."""
    columns = np.stack(form.columns(labels, predictions))  # float64[means, examples]
    means = columns.mean(axis=1)
    steps = STEP * np.eye(len(means))
    slopes = (form.formula(*(means + steps).T) - form.formula(*(means - steps).T)) / (2 * STEP)
    return float(form.formula(*means[:, np.newaxis])[0]), slopes @ (columns - means[:, np.newaxis])


def student_interval(
    value: float, influence: np.ndarray, scale: Scale, confidence: float, groups: np.ndarray | None = None
) -> tuple[float, float]:
    """Returns the interval of a value with these influences; both ends are the value itself if all of them are 0.

    Args:
        groups: int64[examples], the number of each example's group, from 0; whole groups are drawn then.
    """
    examples = len(influence)
    parts = influence if groups is None else np.bincount(groups, weights=influence)
    squares = parts**2
    if not squares.any():
        return value, value
    error = np.sqrt(squares.sum() * len(parts) / max(len(parts) - 1, 1)) / examples
    kurtosis = len(parts) * (squares**2).sum() / squares.sum() ** 2
    symmetric = scale is PLAIN
    freedom = 2 * len(parts) / max(kurtosis - 1, 1e-9) if symmetric else len(parts) / kurtosis - 1
    there, slope, back = scale
    reach = float(stdtrit(max(freedom, 1.0), (1 + confidence) / 2)) * float(error) * slope(value)
    return back(there(value) - reach), back(there(value) + reach)
