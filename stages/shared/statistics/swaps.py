"""Randomization tests: could chance alone explain the difference of two models? They need no large sample.

Were two models alike, either could as well have given the other's answer to an example. So the answers of the two are
swapped or not, example by example, by a coin, and it is counted how often the metric then differs by as much as it does
(Fisher 1935; Noreen 1989; for F1 Yeh 2000). What is swapped depends on the metric, the count does not:

- metrics of counts: the predictions, where they differ
- the loss and the squared error: each model's own, which turns the sign of their difference (the sign-flip test)
- correlations: the standardized predictions, or their ranks, as a correlation knows no scale

The accuracy needs no draws: its swaps are binomial, which is McNemar's exact test.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import bdtr
from scipy.stats import rankdata

from stages.shared.statistics.bootstrap import WEIGHTS_AT_ONCE
from stages.shared.statistics.confidence import is_share
from stages.shared.statistics.tables import MOST_CELLS, Cells, example_losses
from stages.shared.task.metrics import METRICS, Counts, OverCounts, OverMeans, correlation
from stages.shared.task.task import Task

SAME_SHARE = 1e-9  # of the difference: sums in another order differ by less

Statistic = Callable[[np.ndarray], np.ndarray]  # one model's sums, float64[draws, columns] -> float64[draws]


@dataclass(frozen=True)
class PairedPredictions:
    """What two models say about the same examples."""

    task: Task
    labels: np.ndarray  # as in `problem_types.Problem`
    before: np.ndarray  # the first model's logits, float32[examples, columns]
    after: np.ndarray  # the second model's
    groups: np.ndarray | None = None  # int64[examples]: which are drawn and swapped together, from 0; None: each alone

    @cached_property
    def predictions(self) -> list[np.ndarray]:
        """What each model says of each example, as the labels do; of many classes it takes long, too."""
        return [self.task.problem.predict(one) for one in (self.before, self.after)]

    @cached_property
    def losses(self) -> list[np.ndarray]:
        """Each model's loss of each example, float64[examples]; of many classes it is what takes the longest."""
        return [example_losses(self.task, one, self.labels) for one in (self.before, self.after)]


@dataclass(frozen=True)
class Sums:
    """A metric of each model as a function of what its answers to the examples add up to."""

    start: np.ndarray  # float64[columns]: the first model's sums
    steps: np.ndarray  # float64[units, columns]: what swapping a unit, an example or a group, adds to them
    number: np.ndarray  # int64[units]: how many units are like that one
    statistics: Mapping[str, Statistic]


def swap_p_values(
    pair: PairedPredictions, draws: int, seed: int, names: Sequence[str] | None = None
) -> dict[str, float]:
    """Returns for each metric, and the loss, how often chance alone makes two models differ by as much, either way.

    No p-value is below 1 / (draws + 1): the sample itself counts as one of the draws.

    Args:
        names: of the metrics and the loss, those that are asked for; None: all.
    """
    names = [*pair.task.metrics, "loss"] if names is None else names
    found: dict[str, float] = {}
    for sums in swapped_sums(pair, names):
        found |= p_values(sums, draws, seed)
    if pair.groups is None and not pair.task.problem.numeric:
        right = [pair.task.problem.right(one, pair.labels) for one in pair.predictions]
        exact = mcnemar(int((right[1] & ~right[0]).sum()), int((right[0] & ~right[1]).sum()))
        found |= {name: exact for name in names if is_share(pair.task, name)}
    return {name: found[name] for name in names}


def mcnemar(gained: int, lost: int) -> float:
    """Returns the two-sided p-value of McNemar's test (1947), exact: with binomial instead of chi-squared odds.

    Of the tests for two trained models on one test set it is the one with an acceptable rate of false alarms that
    needs no further training (Dietterich 1998).
    """
    return min(2 * float(bdtr(min(gained, lost), gained + lost, 0.5)), 1.0)


def p_values(sums: Sums, draws: int, seed: int) -> dict[str, float]:
    """Returns the share of swaps that make each metric differ by as much as it does, in either direction."""
    whole = sums.number @ sums.steps

    def differences(moved: np.ndarray) -> dict[str, np.ndarray]:
        first, second = sums.start + moved, sums.start + whole - moved
        return {name: np.abs(statistic(second) - statistic(first)) for name, statistic in sums.statistics.items()}

    own = differences(np.zeros((1, len(whole))))
    generator = np.random.default_rng(seed)
    rows = max(1, WEIGHTS_AT_ONCE // max(len(sums.number), len(whole)))
    as_far = dict.fromkeys(sums.statistics, 1)  # the sample itself
    for done in range(0, draws, rows):
        shape = (min(rows, draws - done), len(sums.number))
        if (sums.number == 1).all():
            swapped = generator.integers(0, 2, shape, dtype=np.int8).astype(np.float64)
        else:
            swapped = generator.binomial(sums.number, 0.5, shape).astype(np.float64)
        for name, values in differences(swapped @ sums.steps).items():
            as_far[name] += int((values >= own[name] * (1 - SAME_SHARE)).sum())
    return {name: count / (draws + 1) for name, count in as_far.items()}


def swapped_sums(pair: PairedPredictions, names: Sequence[str]) -> list[Sums]:
    """Returns what is swapped for each of these metrics, of the task's and the loss."""
    labels, predictions = pair.labels, pair.predictions
    forms = {name: METRICS[name].resampled for name in names if name != "loss"}
    found: list[Sums] = []
    if "loss" in names:
        losses = [one[:, np.newaxis] for one in pair.losses]
        found.append(_sums(pair, losses, {"loss": lambda sums: sums[:, 0] / len(labels)}))
    if counted := {name: form for name, form in forms.items() if isinstance(form, OverCounts)}:
        found.append(_sums_of_counts(pair, predictions, counted))
    for name, form in forms.items():
        if isinstance(form, OverMeans):
            columns = [np.stack(form.columns(labels, one), axis=1) for one in predictions]
            found.append(_sums(pair, columns, {name: _of_means(form, len(labels))}))
        elif not isinstance(form, OverCounts):
            own, *ranks = (_standard_ranks(one) for one in (labels, *predictions))
            columns = [np.stack([one, one**2, one * own], axis=1) for one in ranks]
            found.append(_sums(pair, columns, {name: _of_ranks(len(labels))}))
    return found


def _sums(pair: PairedPredictions, columns: Sequence[np.ndarray], statistics: Mapping[str, Statistic]) -> Sums:
    """Sums float64[examples, columns] of both models by unit; beyond MOST_CELLS, blocks of units are swapped whole.

    To swap blocks is as exact a test, and of so many it loses no power worth the time.
    """
    first, second = columns
    cells = Cells.of_examples(len(first), pair.groups)
    return Sums(first.sum(axis=0), cells.sums(second - first), cells.counts, statistics)


def _sums_of_counts(pair: PairedPredictions, predictions: list[np.ndarray], forms: Mapping[str, OverCounts]) -> Sums:
    """Only what flipped counts, and flips of one kind are alike."""
    problem, columns, labels = pair.task.classification, pair.task.columns, pair.labels
    old, new = predictions
    changed = np.flatnonzero((old != new).reshape(len(labels), -1).any(axis=1))
    is_in, was, becomes = (problem.members(array[changed], columns).astype(np.float64) for array in (labels, old, new))
    # What one flip changes: hits and predictions of each label, and right examples.
    right = (becomes == is_in).all(axis=1).astype(np.float64) - (was == is_in).all(axis=1)
    steps = np.concatenate([(becomes - was) * is_in, becomes - was, right[:, np.newaxis]], axis=1)
    if pair.groups is not None and len(changed):
        _, unit = np.unique(pair.groups[changed], return_inverse=True)
        steps = np.stack([np.bincount(unit, weights=column) for column in steps.T], axis=1)
    kinds, number = np.unique(steps, axis=0, return_counts=True)
    if len(kinds) > MOST_CELLS:
        blocks = Cells.of_examples(len(steps))
        kinds, number = blocks.sums(steps), blocks.counts
    hits, predicted = problem.tally(labels, columns, old == labels), problem.tally(old, columns)
    start = np.concatenate([hits, predicted, [problem.right(old, labels).sum()]]).astype(np.float64)
    size = np.array([len(labels)], dtype=np.float64)
    every = problem.tally(labels, columns).astype(np.float64)[np.newaxis]

    def statistic(form: OverCounts) -> Statistic:
        def values(sums: np.ndarray) -> np.ndarray:
            hits, predicted, right = np.split(sums, [columns, 2 * columns], axis=1)
            actual = np.repeat(every, len(sums), axis=0)
            return form.formula(Counts(hits, predicted, right[:, 0], actual, size, problem.exclusive))

        return values

    return Sums(start, kinds, number, {name: statistic(form) for name, form in forms.items()})


def _of_means(form: OverMeans, examples: int) -> Statistic:
    return lambda sums: form.formula(*(sums.T / examples))


def _of_ranks(examples: int) -> Statistic:
    """The correlation of ranks; the labels' are standardized, and swaps do not touch them."""

    def values(sums: np.ndarray) -> np.ndarray:
        mean, square, product = sums.T / examples
        return correlation(product, square - mean**2, np.ones(len(sums)))

    return values


def _standard_ranks(values: np.ndarray) -> np.ndarray:
    ranks = rankdata(values).astype(np.float64)
    return (ranks - ranks.mean()) / (ranks.std() or np.inf)
