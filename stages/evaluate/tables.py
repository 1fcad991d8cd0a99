"""From examples to cells, and metrics as functions of how often each cell is drawn.

Examples that are alike to the metrics (the same label and predictions) share a cell, so a million of them cost what a
hundred do. Where the examples are of more kinds than MOST_CELLS, they are spread at random over that many blocks, which
are drawn whole: time and memory stop growing, and the interval's width carries an error of about
1 / sqrt(2 * MOST_CELLS) = 1.6 %.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stages.evaluate.ranks import spearman_influence, weighted_ranks
from stages.shared.task.metrics import METRICS, Counts, OverCounts, OverMeans, OverRanks, correlation
from stages.shared.task.task import Task

MOST_CELLS = 2000

Compute = Callable[[np.ndarray], np.ndarray]  # weights float64[draws, cells] -> float64[models, draws]


@dataclass(frozen=True)
class Table:
    """The examples of a split in cells, and the metrics that these cells are made for."""

    counts: np.ndarray  # int64[cells]: how often the sample itself drew each
    metrics: dict[str, Compute]


@dataclass(frozen=True)
class Cells:
    """Which cell each example lies in, int64[examples], and how often the sample drew each, int64[cells]."""

    of: np.ndarray
    counts: np.ndarray

    @classmethod
    def of_examples(cls, examples: int) -> "Cells":
        """One example a cell, or blocks of them; by chance, since a corpus may be sorted."""
        blocks = min(examples, MOST_CELLS)
        return cls(np.random.default_rng(0).permutation(examples) % blocks, np.ones(blocks, dtype=np.int64))

    @classmethod
    def of_kinds(cls, columns: int, labels: np.ndarray, predictions: Sequence[np.ndarray]) -> "Cells":
        """One cell for each label and predictions, int64[examples] all of them, that occur together."""
        codes = np.ravel_multi_index((labels, *predictions), (columns,) * (1 + len(predictions)))
        _, of, counts = np.unique(codes, return_inverse=True, return_counts=True)
        return cls(of, counts) if len(counts) <= MOST_CELLS else cls.of_examples(len(labels))

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sums float64[examples] or float64[examples, columns] over what one draw of each cell brings."""
        if values.ndim == 2:
            return np.stack([self.sums(column) for column in values.T], axis=1)
        return np.bincount(self.of, weights=values, minlength=len(self.counts)) / self.counts

    def tally(self, labels: np.ndarray, columns: int, where: np.ndarray | None = None) -> np.ndarray:
        """Counts as `Classification.tally` does, for one draw of each cell: float64[cells, columns]."""
        if labels.ndim == 2:
            return self.sums(labels if where is None else labels * where)
        codes = self.of * columns + labels
        counts = np.bincount(codes if where is None else codes[where], minlength=len(self.counts) * columns)
        return counts.reshape(-1, columns) / self.counts[:, np.newaxis]


def tabulate(task: Task, labels: np.ndarray, logits: Sequence[np.ndarray]) -> list[Table]:
    """Sorts the examples into cells; metrics that need other cells come in tables of their own."""
    problem, tables = task.problem, []
    predictions = [problem.predict(one) for one in logits]
    forms = {name: METRICS[name].resampled for name in task.metrics}
    if counted := {name: form for name, form in forms.items() if isinstance(form, OverCounts)}:
        tables.append(_count_table(task, labels, predictions, counted))
    losses = [problem.losses(one, labels).reshape(len(labels), -1).mean(axis=1) for one in logits]
    blocks = Cells.of_examples(len(labels))
    means = {"loss": _of_means(blocks, [[one] for one in losses], _itself)}
    for name, form in forms.items():
        if isinstance(form, OverMeans):
            means[name] = _of_means(blocks, [form.columns(labels, one) for one in predictions], form.formula)
    tables.append(Table(blocks.counts, means))
    tables += [_rank_table(name, labels, predictions) for name, form in forms.items() if isinstance(form, OverRanks)]
    return tables


def _count_table(
    task: Task, labels: np.ndarray, predictions: Sequence[np.ndarray], forms: Mapping[str, OverCounts]
) -> Table:
    problem, columns, blocks = task.problem, task.columns, Cells.of_examples(len(labels))
    cells = Cells.of_kinds(columns, labels, predictions) if problem.exclusive else blocks
    actual, size = cells.tally(labels, columns), cells.sums(np.ones(len(labels)))
    models = [
        (cells.tally(labels, columns, p == labels), cells.tally(p, columns), cells.sums(problem.right(p, labels)))
        for p in predictions
    ]

    def counts(weights: np.ndarray) -> list[Counts]:
        shared = weights @ actual, weights @ size
        return [
            Counts(weights @ both, weights @ predicted, weights @ right, *shared, problem.exclusive)
            for both, predicted, right in models
        ]

    def compute(form: OverCounts) -> Compute:
        return lambda weights: np.stack([form.formula(one) for one in counts(weights)])

    return Table(cells.counts, {name: compute(form) for name, form in forms.items()})


def _of_means(cells: Cells, models: Sequence[Sequence[np.ndarray]], formula: Callable[..., np.ndarray]) -> Compute:
    """Takes float64[examples] columns of each model to a function of their means."""
    size = cells.sums(np.ones(len(cells.of)))
    sums = [np.stack([cells.sums(column) for column in columns], axis=1) for columns in models]

    def values(weights: np.ndarray) -> np.ndarray:
        examples = weights @ size
        return np.stack([formula(*((weights @ one).T / examples)) for one in sums])

    return values


def _rank_table(name: str, labels: np.ndarray, predictions: Sequence[np.ndarray]) -> Table:
    """Ranks are made anew in every resample; of more examples than cells, the correlation is taken by its linear part.

    For so many the correlation's value in a resample is that of the sample plus the mean of the drawn examples'
    influences (Efron & Tibshirani 1993, section 22.6: the infinitesimal jackknife's expansion) up to a term of the
    order of 1 / examples, and so a mean that blocks can be summed for.
    """
    if len(labels) > MOST_CELLS:
        cells = Cells.of_examples(len(labels))
        linear = [spearman_influence(labels, p) for p in predictions]
        return Table(cells.counts, {name: _of_means(cells, [[value + part] for value, part in linear], _itself)})
    ranks = [weighted_ranks(column) for column in (labels, *predictions)]

    def values(weights: np.ndarray) -> np.ndarray:
        y, *models = (rank(weights) for rank in ranks)
        own = _weighted_mean(weights, y * y)
        return np.stack(
            [correlation(_weighted_mean(weights, p * y), _weighted_mean(weights, p * p), own) for p in models]
        )

    return Table(np.ones(len(labels), dtype=np.int64), {name: values})


def _itself(mean: np.ndarray) -> np.ndarray:
    return mean


def _weighted_mean(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.einsum("dc,dc->d", weights, values) / weights.sum(axis=1)
