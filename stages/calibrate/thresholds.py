"""Thresholds: the probability above which an example gets a label, chosen so that a metric is best."""

import numpy as np

from stages.shared.task.metrics import METRICS, Counts, OverCounts
from stages.shared.task.task import Task

DIGITS = 9  # that are written
ROUNDS = 100  # of the search below, which takes about five


def fit_thresholds(task: Task, metric: str, labels: np.ndarray, probabilities: np.ndarray) -> list[float]:
    """Returns the thresholds of the best value: one for each label, or of two classes one for the second.

    Of thresholds that are equally good it is the one next to 0.5. A label that no example carries, or every one, keeps
    0.5: nothing is known of where it ends.

    Args:
        metric: one of `asked.threshold_metrics`.
        labels: as in `problem_types.Problem`.
        probabilities: float64[examples, columns], calibrated.
    """
    if task.problem.exclusive:
        return [_of_two(metric, labels == 1, probabilities[:, 1])]
    cuts = [_Cuts(labels[:, column] > 0.5, probabilities[:, column]) for column in range(task.columns)]
    if metric == "f1_macro":
        return [cut.best(2 * cut.both / np.maximum(cut.predicted + cut.actual, 1)) for cut in cuts]
    return _by_micro(cuts)


class _Cuts:
    """All ways to cut the examples in two by their probability of a label, from none above to all above."""

    def __init__(self, carries: np.ndarray, probability: np.ndarray) -> None:
        values, place = np.unique(-probability, return_inverse=True)
        self.values = -values  # from the highest
        self.both = np.concatenate([[0.0], np.cumsum(np.bincount(place, weights=carries))])
        self.predicted = np.concatenate([[0.0], np.cumsum(np.bincount(place))])
        self.actual, self.examples = float(carries.sum()), len(carries)
        self.thresholds = np.concatenate([[1.0], (self.values[:-1] + self.values[1:]) / 2, [0.0]])

    @property
    def varied(self) -> bool:
        return 0 < self.actual < self.examples

    def best(self, scores: np.ndarray) -> float:
        """Returns the threshold of the highest score."""
        return round(float(self.thresholds[self.place(scores)]), DIGITS) if self.varied else 0.5

    def place(self, scores: np.ndarray) -> int:
        """Returns the place of the highest score, of equal ones that next to 0.5."""
        top = np.flatnonzero(scores >= scores.max() - 1e-12)
        return int(top[np.argmin(np.abs(self.thresholds[top] - 0.5))])


def _of_two(metric: str, carries: np.ndarray, probability: np.ndarray) -> float:
    cut, form = _Cuts(carries, probability), METRICS[metric].resampled
    assert isinstance(form, OverCounts), metric
    others = cut.examples - cut.actual
    wrong = cut.predicted - cut.both
    counts = Counts(
        both=np.stack([others - wrong, cut.both], axis=1),
        predicted=np.stack([cut.examples - cut.predicted, cut.predicted], axis=1),
        right=others - wrong + cut.both,
        actual=np.tile([others, cut.actual], (len(cut.both), 1)),
        examples=np.full(len(cut.both), float(cut.examples)),
        exclusive=True,
    )
    return cut.best(form.formula(counts))


def _by_micro(cuts: list[_Cuts]) -> list[float]:
    """Returns the thresholds of the best micro F1, which is a ratio of two sums over the labels.

    Dinkelbach's search (1967): for a value F, each label by itself makes 2 * both - F * predicted as great as it can;
    what all of them reach together is the next F. It only rises, and stands still at the best value.
    """
    varied = [cut for cut in cuts if cut.varied]
    value, places = 0.0, [0] * len(varied)
    for _ in range(ROUNDS):
        places = [cut.place(2 * cut.both - value * cut.predicted) for cut in varied]
        both = sum(cut.both[place] for cut, place in zip(varied, places, strict=True))
        total = sum(cut.predicted[place] + cut.actual for cut, place in zip(varied, places, strict=True))
        reached = float(2 * both / total) if total else 0.0
        if reached <= value + 1e-12:
            break
        value = reached
    found = iter(places)
    return [round(float(cut.thresholds[next(found)]), DIGITS) if cut.varied else 0.5 for cut in cuts]
