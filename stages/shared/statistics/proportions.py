"""Score intervals of proportions, and the uncertainty that they give a metric of counts on few examples.

Of ten examples that are all right every resample is all right, so the bootstrap's interval is a point. The score
intervals of Wilson (1927) and, for the difference of two models on the same examples, of Tango (1998) know how few
those ten are. A metric such as F1 is a function of how often each class is right. So each class is moved to the end of
its own score interval, and what this does to the metric is added up over the classes by squares, as classes are
independent of each other (the method of variance estimates recovery: Zou & Donner 2008).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from stages.shared.task.groups import effective_examples
from stages.shared.task.metrics import Counts
from stages.shared.task.task import Task

HALVINGS = 30  # of the search for an end of Tango's interval: to 1e-9 of its range

Formula = Callable[[Counts], np.ndarray]
Ends = tuple[np.ndarray, np.ndarray]


def wilson_ends(right: np.ndarray, examples: np.ndarray, confidence: float) -> Ends:
    """Returns the score interval of proportions (Wilson 1927), which needs no large sample: float64, as these."""
    z = _reach(confidence)
    right, examples = np.asarray(right, dtype=np.float64), np.asarray(examples, dtype=np.float64)
    total = examples + z**2
    middle = (right + z**2 / 2) / total
    half = z / total * np.sqrt(right * (examples - right) / np.maximum(examples, 1) + z**2 / 4)
    return np.maximum(middle - half, 0.0), np.minimum(middle + half, 1.0)


def tango_ends(gained: np.ndarray, lost: np.ndarray, examples: np.ndarray, confidence: float) -> Ends:
    """Returns the score interval of the difference of two paired proportions (Tango 1998, Statistics in Medicine 17).

    Args:
        gained: how many examples the second model alone has right; `lost`, how many the first one alone.
    """
    gained, lost, examples = np.broadcast_arrays(
        *(np.asarray(one, dtype=np.float64) for one in (gained, lost, examples))
    )
    z, value = _reach(confidence), (gained - lost) / examples

    def score(difference: np.ndarray) -> np.ndarray:
        """The statistic under that difference, with the share of lost examples that is the likeliest under it."""
        half = gained + lost - (2 * examples - gained + lost) * difference  # minus B of Tango's quadratic
        root = np.sqrt(np.maximum(half**2 + 8 * examples * lost * difference * (1 - difference), 0.0))
        share = np.maximum((root + half) / (4 * examples), 0.0)
        variance = examples * (2 * share + difference * (1 - difference))
        above = gained - lost - examples * difference
        return above / np.sqrt(np.maximum(variance, 1e-30))

    # The ends lie between the value, where the statistic is 0, and -1 and 1: the way is halved again and again.
    inner = np.stack([value, value])
    outer = np.stack([np.full_like(value, -1.0), np.full_like(value, 1.0)])
    for _ in range(HALVINGS):
        middle = (inner + outer) / 2
        within = np.abs(score(middle)) <= z
        inner, outer = np.where(within, middle, inner), np.where(within, outer, middle)
    return inner[0], inner[1]


def score_intervals(
    task: Task,
    labels: np.ndarray,
    predictions: Sequence[np.ndarray],
    formulas: Mapping[str, Formula],
    confidence: float,
    groups: np.ndarray | None = None,
) -> dict[str, tuple[float, float]]:
    """Returns the interval of each metric of counts, for one model or for the second minus the first of two.

    Args:
        labels: as in `problem_types.Problem`, like each model's predictions.
        groups: as in `bootstrap.bootstrap_intervals`; each class then counts as many examples as say as much if drawn
            alone.
    """
    models = [ClassCounts.of(task, labels, one) for one in predictions]
    first, last = models[0], models[-1]
    right = [one == labels for one in predictions]
    changes = right[0] if len(models) == 1 else right[1].astype(np.int8) - right[0]
    worth = np.ones(len(last.sizes)) if groups is None else _worth(task, labels, changes, confidence, groups)
    if len(models) == 1:
        low, high = wilson_ends(last.right * worth, last.sizes * worth, confidence)
        down, up = last.moved(last.sizes * low - last.right), last.moved(last.sizes * high - last.right)
    else:
        gained, lost = (_of_classes(task, labels, changes == change) for change in (1, -1))
        sizes = np.maximum(last.sizes, 1)
        low, high = tango_ends(gained * worth, lost * worth, sizes * worth, confidence)
        change = (gained - lost) / sizes
        # Lost by the second model, or else by the first: so neither is moved beyond perfection.
        down, up = last.moved((low - change) * last.sizes), first.moved((change - high) * first.sizes)
    here, there = last.as_it_is(), first.as_it_is()
    found = {}
    for name, formula in formulas.items():
        value = formula(here)[0]
        below = value - formula(down)
        if len(models) == 1:
            above = formula(up) - value
        else:
            above = formula(there)[0] - formula(up)
            value = value - formula(there)[0]
        reach = [float(np.sqrt(np.sum(np.maximum(one, 0.0) ** 2))) for one in (below, above)]
        found[name] = float(value) - reach[0], float(value) + reach[1]
    return found


@dataclass(frozen=True)
class ClassCounts:
    """How often each class is right: the examples of a label, of several labels at once those with and without each."""

    exclusive: bool
    examples: int
    confusion: np.ndarray  # float64[classes, labels]: how often each class is predicted to carry each label
    sizes: np.ndarray  # float64[classes]

    @classmethod
    def of(cls, task: Task, labels: np.ndarray, predictions: np.ndarray) -> "ClassCounts":
        """Counts one model's predictions."""
        if task.problem.exclusive:
            codes = np.ravel_multi_index((labels, predictions), (task.columns, task.columns))
            confusion = np.bincount(codes, minlength=task.columns**2).reshape(task.columns, task.columns)
            return cls(True, len(labels), confusion.astype(np.float64), confusion.sum(axis=1).astype(np.float64))
        carried, without = labels > 0.5, labels <= 0.5
        predicted = np.stack([(predictions * members).sum(axis=0) for members in (carried, without)])
        sizes = np.stack([carried.sum(axis=0), without.sum(axis=0)])
        return cls(False, len(labels), predicted.astype(np.float64), sizes.astype(np.float64).reshape(-1))

    @property
    def right(self) -> np.ndarray:
        """How often each class is right, float64[classes]; of several labels those with each, then those without."""
        if self.exclusive:
            return np.diag(self.confusion)
        return np.concatenate([self.confusion[0], self.sizes[self.confusion.shape[1] :] - self.confusion[1]])

    def as_it_is(self) -> Counts:
        """Returns the counts of the sample, as one draw."""
        all_alike = self.moved(np.zeros_like(self.sizes))
        return Counts(**{name: one if name == "exclusive" else one[:1] for name, one in all_alike._asdict().items()})

    def moved(self, more: np.ndarray) -> Counts:
        """Returns for each class, as so many draws, the counts if `more` of it were right, float64[classes].

        What is no longer right goes to the other labels by their frequency, and what is right now comes from where this
        class's mistakes lay.
        """
        both, predicted, right = self._counts(more)
        number, labels = both.shape
        actual = np.tile(self.sizes[:labels], (number, 1))
        return Counts(both, predicted, right, actual, np.full(number, float(self.examples)), self.exclusive)

    def _counts(self, moved: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        moved = np.clip(moved, -self.right, self.sizes - self.right)
        classes = len(self.sizes)
        if not self.exclusive:
            both = np.tile(self.confusion[0], (classes, 1))
            predicted = np.tile(self.confusion.sum(axis=0), (classes, 1))
            labels = both.shape[1]
            place = np.arange(labels)
            both[place, place] += moved[:labels]
            predicted[place, place] += moved[:labels]
            predicted[labels + place, place] -= moved[labels:]
            return both, predicted, np.zeros(classes)  # how often whole sets are right is no question of classes
        mistakes = self.confusion - np.diag(self.right)
        others = np.tile(self.sizes, (classes, 1)) - np.diag(self.sizes)
        from_where, to_where = (one / np.maximum(one.sum(axis=1, keepdims=True), 1e-300) for one in (mistakes, others))
        changed = np.diag(moved) - np.where(moved[:, np.newaxis] > 0, from_where, to_where) * moved[:, np.newaxis]
        both = np.tile(self.right, (classes, 1)) + np.diag(moved)
        return both, self.confusion.sum(axis=0) + changed, self.right.sum() + moved


def _of_classes(task: Task, labels: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Counts the examples of each class that `where`, bool of the labels' shape, is true of: float64[classes]."""
    if task.problem.exclusive:
        return np.bincount(labels[where], minlength=task.columns).astype(np.float64)
    carried = labels > 0.5
    return np.concatenate([(where & carried).sum(axis=0), (where & ~carried).sum(axis=0)]).astype(np.float64)


def _worth(task: Task, labels: np.ndarray, changes: np.ndarray, confidence: float, groups: np.ndarray) -> np.ndarray:
    """Returns as how much of an example, drawn alone, one of each class counts: float64[classes], at most 1.

    Args:
        changes: of the labels' shape; whether each is right, or what the second model gains.
    """
    columns = range(task.columns)
    carried = [task.classification.carries(labels, column) for column in columns]
    if task.problem.exclusive:
        parts = [(changes[where], groups[where]) for where in carried]
    else:
        sides = [*carried, *(~where for where in carried)]
        parts = [(changes[where, place % task.columns], groups[where]) for place, where in enumerate(sides)]
    return np.array([effective_examples(*part, confidence) / len(part[1]) if len(part[1]) else 1.0 for part in parts])


def _reach(confidence: float) -> float:
    return float(ndtri((1 + confidence) / 2))
