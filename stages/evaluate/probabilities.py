"""Metrics of probabilities: their values, what each example does to them, and the best that one answer to all can do.

The area under the ROC curve is the chance that an example with a label is ranked above one without it (Hanley & McNeil
1982), and its influences are the components of DeLong, DeLong & Clarke-Pearson (1988). The average precision is the
mean of the precision at each example that carries the label, as scikit-learn has it; its influences are its derivatives
by the weights of the examples. The Brier score (1950) is the mean squared distance of the probabilities from the truth.
"""

from collections.abc import Callable

import numpy as np
from scipy.special import expit, logit
from scipy.stats import rankdata

from stages.evaluate.influence import LOGARITHM, Influence, Scale
from stages.shared.task.task import Task

LOGIT: Scale = (
    lambda value: float(logit(value)),
    lambda value: 1 / (value * (1 - value)),
    lambda value: float(expit(value)),
)
Ranked = Callable[[np.ndarray, np.ndarray], Influence]  # (scores, which examples carry the label) -> value, influences


def probability_influence(task: Task, name: str, labels: np.ndarray, logits: np.ndarray) -> tuple[Influence, Scale]:
    """Returns a metric's value, each example's influence on it, and the scale of its interval.

    A label that no example carries, or every one, counts for nothing in a metric of ranks.

    Args:
        labels: as in `problem_types.Problem`.
        logits: float32[examples, columns].
    """
    if name == "brier_score":
        losses = brier_losses(task, labels, logits)
        return (float(losses.mean()), losses - losses.mean()), LOGARITHM
    ranked: Ranked = {"roc_auc": roc_auc, "average_precision": average_precision}[name]
    found = [ranked(task.classification.log_odds(logits, column), carry) for column, carry in _varied(task, labels)]
    if not found:
        return (float("nan"), np.zeros(len(labels))), LOGIT
    return (float(np.mean([value for value, _ in found])), np.mean([one for _, one in found], axis=0)), LOGIT


def constant_probability(task: Task, name: str, labels: np.ndarray) -> float:
    """Returns what the best probabilities score that are the same for every example."""
    if name == "roc_auc":
        return 0.5
    members = task.classification.members(labels, task.columns)[:, _columns(task)]
    share = members.mean(axis=0)
    if name == "brier_score":
        return float((share * (1 - share)).sum() if task.problem.exclusive else (share * (1 - share)).mean())
    varied = (share > 0) & (share < 1)
    return float(share[varied].mean()) if varied.any() else float("nan")


def brier_losses(task: Task, labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Returns float64[examples]: of two classes that of the second, of more their sum, of sets the mean over labels."""
    columns = _columns(task)
    truth = task.classification.members(labels, task.columns)[:, columns]
    squares = (task.classification.probabilities(logits)[:, columns] - truth) ** 2
    return squares.sum(axis=1) if task.problem.exclusive else squares.mean(axis=1)


def roc_auc(scores: np.ndarray, carry: np.ndarray) -> Influence:
    """Ranks float64[examples]; ties count half.

    Args:
        carry: bool[examples], with examples of both kinds.
    """
    ranks, within = rankdata(scores), np.empty(len(scores))
    for side in (carry, ~carry):
        within[side] = rankdata(scores[side])
    others = ranks - within  # of the other kind, how many each example is above
    number = np.where(carry, (~carry).sum(), carry.sum())
    above = np.where(carry, others / number, 1 - others / number)
    value = float(above[carry].mean())
    return value, len(scores) * (above - value) / np.where(carry, carry.sum(), (~carry).sum())


def average_precision(scores: np.ndarray, carry: np.ndarray) -> Influence:
    """Goes down the ranking; examples of equal score are passed at once.

    Args:
        carry: bool[examples], with examples of both kinds.
    """
    _, place = np.unique(-scores, return_inverse=True)  # 0: the highest score
    found = np.bincount(place, weights=carry)  # at each score
    hits, passed = np.cumsum(found), np.cumsum(np.bincount(place))
    total = hits[-1]
    value = float((found * hits / passed).sum() / total)
    own = np.where(carry, (hits / passed)[place] - value, 0.0)
    # What an example adds to the precision at every score from its own one down.
    if_carried = np.cumsum((found / passed)[::-1])[::-1]
    always = np.cumsum((found * hits / passed**2)[::-1])[::-1]
    return value, len(scores) * (own + np.where(carry, if_carried[place], 0.0) - always[place]) / total


def _columns(task: Task) -> list[int]:
    return [1] if task.binary else list(range(task.columns))


def _varied(task: Task, labels: np.ndarray) -> list[tuple[int, np.ndarray]]:
    carried = [(column, task.classification.carries(labels, column)) for column in _columns(task)]
    return [(column, carry) for column, carry in carried if carry.any() and not carry.all()]
