"""The temperature: one number that all logits are divided by, so that the probabilities are as sure as they are right.

It is the one of the greatest likelihood (Guo, Pleiss, Sun & Weinberger 2017, "On calibration of modern neural
networks"). The order of the labels stays, so no predicted label changes.
"""

from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, softmax

from stages.shared.task.task import Task

LEAST, MOST = 0.1, 100.0
DIGITS = 6  # that are written; far more than the examples can tell, and blind to the last bits of a sum


def fit_temperature(task: Task, labels: np.ndarray, logits: np.ndarray) -> tuple[float, str | None]:
    """Returns the temperature, and why it is not that of the greatest likelihood, where it is not.

    The likelihood is concave in 1 / temperature, so its slope has at most one zero. To search for this instead of for
    the maximum gives all digits: around a maximum the likelihood is flat.

    Args:
        labels: as in `problem_types.Problem`.
        logits: float32[examples, columns].
    """
    slope = _exclusive(labels, logits) if task.problem.exclusive else _several(labels, logits)
    if slope(0.0) == 0 == slope(1.0):
        return 1.0, "the logits say the same of every label, so no temperature changes anything: it stays 1"
    if slope(1 / MOST) <= 0:
        return MOST, f"the logits say nothing true of these labels: the temperature is the highest, {MOST:g}"
    if slope(1 / LEAST) >= 0:
        if _all_right(task, labels, logits):
            return 1.0, "every answer is right, so no temperature is high enough to be the likeliest: it stays 1"
        return LEAST, f"a lower temperature would be likelier still: it is the lowest, {LEAST:g}"
    inverse = brentq(slope, 1 / MOST, 1 / LEAST, xtol=1e-13, rtol=1e-13)
    return float(f"{1 / inverse:.{DIGITS}g}"), None


def _all_right(task: Task, labels: np.ndarray, logits: np.ndarray) -> bool:
    return bool(task.problem.right(task.problem.predict(logits), labels).all())


def _exclusive(labels: np.ndarray, logits: np.ndarray) -> Callable[[float], float]:
    """Returns the slope of the mean log-likelihood of classes by 1 / temperature."""
    centred = logits.astype(np.float64)
    centred -= centred.max(axis=1, keepdims=True)
    own = float(centred[np.arange(len(labels)), labels].mean())
    return lambda inverse: own - float((softmax(inverse * centred, axis=1) * centred).sum(axis=1).mean())


def _several(labels: np.ndarray, logits: np.ndarray) -> Callable[[float], float]:
    """Returns the same for several labels at once, each of which is a yes or a no."""
    logits = logits.astype(np.float64)
    return lambda inverse: float(((labels - expit(inverse * logits)) * logits).mean())
