"""Groups examples into cells, and computes metrics of counts from how often each cell is drawn.

Examples that are alike to the metrics (the same label and predictions) share a cell, so a million of them cost what a
hundred do. Where the examples are of more kinds than MOST_CELLS, they are spread at random over that many blocks, which
are drawn whole: time and memory stop growing, and the interval's width carries an error of about
1 / sqrt(2 * MOST_CELLS) = 1.6 %.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from stages.shared.task.metrics import METRICS, Counts, OverCounts
from stages.shared.task.task import Task

MOST_CELLS = 2000

Compute = Callable[[np.ndarray], np.ndarray]  # weights float64[draws, cells] -> float64[models, draws]


@dataclass(frozen=True)
class Table:
    """The examples of a split in cells, and the metrics of counts that the task has."""

    counts: np.ndarray  # int64[cells]: how often the sample itself drew each
    metrics: dict[str, Compute]


@dataclass(frozen=True)
class Cells:
    """Which cell each example lies in, int64[examples], and how often the sample drew each, int64[cells]."""

    of: np.ndarray
    counts: np.ndarray

    @classmethod
    def of_examples(cls, examples: int, groups: np.ndarray | None = None) -> "Cells":
        """One example a cell, or blocks of them; by chance, since a corpus may be sorted.

        Args:
            groups: int64[examples], the number of the group, from 0, that each example is drawn with; then a cell is a
                group, or a block of them. None: examples are drawn alone.
        """
        drawn = examples if groups is None else int(groups.max()) + 1
        blocks = min(drawn, MOST_CELLS)
        of = np.random.default_rng(0).permutation(drawn) % blocks
        return cls(of if groups is None else of[groups], np.ones(blocks, dtype=np.int64))

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


def tabulate(
    task: Task, labels: np.ndarray, predictions: Sequence[np.ndarray], groups: np.ndarray | None = None
) -> Table:
    """Sorts the examples into cells.

    Args:
        labels: as in `problem_types.Problem`, like the predictions of each model.
        groups: as in `Cells.of_examples`.
    """
    problem, columns = task.problem, task.columns
    if problem.exclusive and groups is None:
        cells = Cells.of_kinds(columns, labels, predictions)
    else:
        cells = Cells.of_examples(len(labels), groups)
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

    forms = {name: METRICS[name].resampled for name in task.metrics}
    return Table(cells.counts, {name: compute(form) for name, form in forms.items() if isinstance(form, OverCounts)})


def example_losses(task: Task, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns each example's loss, float64[examples]; of several labels at once their mean."""
    return task.problem.losses(logits, labels).reshape(len(labels), -1).mean(axis=1)
