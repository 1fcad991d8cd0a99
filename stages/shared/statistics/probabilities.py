"""Metrics of probabilities: their values, the influence of each example, and the best score of a constant answer.

The area under the ROC curve is the chance that an example with a label is ranked above one without it (Hanley & McNeil
1982), and its influences are the components of DeLong, DeLong & Clarke-Pearson (1988). The average precision is the
mean of the precision at each example that carries the label, as scikit-learn has it; its influences are its derivatives
by the weights of the examples. The Brier score (1950) is the mean squared distance of the probabilities from the truth.

Eight examples that are all ranked at the top have influences of nearly 0, but say little of the next eight. So an
interval holds what examples would do of which a sample may have none by chance (`unseen_ends`).
"""

from collections.abc import Callable

import numpy as np
from scipy.special import expit, logit, ndtri
from scipy.stats import rankdata

from stages.shared.statistics.influence import LOGARITHM, Influence, Scale
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


def unseen_ends(
    task: Task,
    name: str,
    labels: np.ndarray,
    logits: np.ndarray,
    value: float,
    confidence: float,
    groups: np.ndarray | None = None,
) -> tuple[float, float]:
    """Returns how far off a metric may be by examples that look like the other side's, if a sample has none of them.

    There may be as many as Wilson's interval says where all are right: the share z**2 / (size + z**2) of the examples
    with a label, and of those without it. They are taken to get an answer that the other side got. What this does to
    the metric is added up by squares over the two sides, which are independent given the labels, and averaged over the
    labels, which are not.

    Args:
        value: of the sample.
        groups: as in `bootstrap.bootstrap_intervals`; a side is then as large as the number of groups that it has.
    """
    z2 = float(ndtri((1 + confidence) / 2)) ** 2
    probabilities = task.classification.probabilities(logits)
    reaches = []
    for column, carry in _varied(task, labels):
        scores = probabilities[:, column] if name == "brier_score" else task.classification.log_odds(logits, column)
        own = _weighted(name, scores, carry, np.ones(len(carry)))
        changes = []
        for side in (carry, ~carry):
            size = int(side.sum()) if groups is None else len(np.unique(groups[side]))
            share = z2 / (size + z2)
            others = np.full(int((~side).sum()), share * side.sum() / (~side).sum())
            weights = np.concatenate([np.where(side, 1 - share, 1.0), others])
            there = np.concatenate([carry, np.full(len(others), side is carry)])
            changes.append(_weighted(name, np.concatenate([scores, scores[~side]]), there, weights) - own)
        reaches.append([np.sqrt(np.sum(np.square(np.clip(changes, *ends)))) for ends in ((-1, 0), (0, 1))])
    down, up = np.mean(reaches, axis=0) if reaches else (0.0, 0.0)
    columns = len(reaches) if name == "brier_score" and task.problem.exclusive else 1  # that one adds its labels up
    return value - float(down) * columns, value + float(up) * columns


def _weighted(name: str, scores: np.ndarray, carry: np.ndarray, weights: np.ndarray) -> float:
    """Returns a metric of one label, its examples weighted; the `scores` of a Brier score are probabilities."""
    if name == "brier_score":
        return float(np.average((scores - carry) ** 2, weights=weights))
    _, place = np.unique(-scores, return_inverse=True)
    found, passed = np.bincount(place, weights=weights * carry), np.bincount(place, weights=weights)
    if name == "average_precision":
        return float((found * np.cumsum(found) / np.cumsum(passed)).sum() / found.sum())
    others = passed - found
    below = others.sum() - np.cumsum(others) + others / 2
    return float((found * below).sum() / (found.sum() * others.sum()))


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


def highest(task: Task, name: str) -> float:
    """Returns the greatest value of a metric: 2 is the worst Brier score of more than two classes."""
    return 2.0 if name == "brier_score" and task.problem.exclusive and not task.binary else 1.0


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
