"""The influence of each example on a rank correlation."""

import numpy as np
from scipy.stats import rankdata

from stages.shared.task.metrics import SAME


def spearman_influence(labels: np.ndarray, predictions: np.ndarray) -> tuple[float, np.ndarray]:
    """Returns Spearman's correlation and each example's influence on it, float64[examples], with mean 0.

    The correlation is c / sqrt(v * w): covariance and variances of the mid-ranks as shares of the sample. Weight on an
    example moves each of the three through its own term, and through the ranks of all examples above it.
    """
    examples = len(labels)
    y, p = ((rankdata(column) - 0.5) / examples - 0.5 for column in (labels, predictions))
    c, v, w = np.mean(y * p), np.mean(y * y), np.mean(p * p)
    if min(v, w) <= SAME:
        return 0.0, np.zeros(examples)
    through = _raised(labels, p) + _raised(predictions, y)
    covariance = y * p + through - 3 * c
    own = y * y + 2 * _raised(labels, y) - 3 * v
    other = p * p + 2 * _raised(predictions, p) - 3 * w
    correlation = c / np.sqrt(v * w)
    influence = covariance / np.sqrt(v * w) - correlation / 2 * (own / v + other / w)
    return float(correlation), influence - influence.mean()


def _raised(ranked: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns for each example the mean of `values` over those whose rank its weight raises: above it, half of ties."""
    kinds, kind = np.unique(ranked, return_inverse=True)
    sums = np.bincount(kind, weights=values, minlength=len(kinds))
    above = np.cumsum(sums[::-1])[::-1]
    return (above - sums / 2)[kind] / len(values)
