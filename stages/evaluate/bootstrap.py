"""How sure a score is: bootstrap intervals for one model, or for what a second one changes on the same examples.

A resample is no list of examples but how often each *cell* is drawn. Examples that are alike to the metrics (the same
label and predictions) share a cell, so a million of them cost what a hundred do. Where the examples are of more kinds
than `MOST_CELLS`, they are spread at random over that many blocks, which are drawn whole: time and memory stop growing,
and the interval's width carries an error of about 1 / sqrt(2 * MOST_CELLS) = 1.6 %.

The method is the bootstrap's BCa interval (Efron 1987; Efron & Tibshirani 1993, chapter 14): the percentiles of the
resampled values, moved for the bias of their median and for a spread that changes with the value. Near the end of the
scale it pays: for an accuracy of 0.95 and 100 examples plain percentiles covered the truth in 89 % of 2,000 simulated
samples, BCa in 97 % (tests/test_statistics.py simulates the ordinary cases). Where nothing is wrong, no resample has
anything wrong, and every bootstrap interval is a point; for the accuracy there is Wilson's.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import entr, ndtr, ndtri
from scipy.stats import binomtest, rankdata

from stages.shared.task.scoring import CLASSES, NUMBERS, SETS, predict_labels
from stages.shared.task.task import Task

MOST_CELLS = 2000
CHUNK = 2**21  # weights in memory at once: 16 MiB for each array of them
FEWEST = 10  # examples; an interval from fewer means nothing
SAME = 1e-12  # two values of a metric that are closer than this are equal

Compute = Callable[[np.ndarray], np.ndarray]  # weights float64[draws, cells] -> float64[models, draws]


@dataclass(frozen=True)
class Table:
    """The examples of a split in cells, and metrics as functions of how often each cell is drawn."""

    counts: np.ndarray  # int64[cells]: how often the sample itself drew each
    metrics: dict[str, Compute]


class Interval(NamedTuple):
    """A value, and the bounds between which the truth lies in `confidence` of all samples."""

    value: float
    low: float
    high: float


def bootstrap_intervals(
    task: Task, labels: np.ndarray, logits: Sequence[np.ndarray], confidence: float, resamples: int, seed: int
) -> dict[str, Interval]:
    """Returns an interval for each metric of the task and for the loss.

    Args:
        labels: as in `scoring.score`.
        logits: float32[examples, columns] of one model; or of two for the same examples, in which case the intervals
            are those of the second one's value minus the first one's (the paired bootstrap).
    """
    found: dict[str, Interval] = {}
    for table in tabulate(task, labels, logits):
        own, drawn, left_out = _resample(table, resamples, seed)
        for name in table.metrics:
            value, values, jackknife = (
                array[-1] - array[0] if len(logits) == 2 else array[0]
                for array in (own[name], drawn[name], left_out[name])
            )
            found[name] = bca_interval(float(value[0]), values, jackknife, table.counts, confidence)
    return {name: found[name] for name in (*task.metrics, "loss")}


def constant_scores(task: Task, labels: np.ndarray) -> dict[str, float]:
    """Returns the best score, for each metric of the task and the loss, of any one answer given to every example.

    Each metric has an answer of its own: what scores best is known from these very labels, so that no model that
    ignores its input is above it. The loss is that of the labels' own shares, or mean, as probabilities.

    Args:
        labels: as in `scoring.score`.
    """
    if task.problem_type == NUMBERS:  # the mean; and no constant correlates with anything
        variance = float(np.var(labels, dtype=np.float64))
        return {name: variance if name == "mean_squared_error" else 0.0 for name in task.metrics} | {"loss": variance}
    actual = _tally(task, labels).astype(np.float64)
    share = actual / len(labels)
    best_loss = entr(share).sum() if task.problem_type == CLASSES else np.mean(entr(share) + entr(1 - share))
    found = dict.fromkeys(task.metrics, -np.inf)
    for answer, right in _constant_answers(task, labels, actual):
        counts = (answer * actual, answer * len(labels), actual, np.array(right), np.array(len(labels)))
        one = _Counts(*(np.asarray(count, dtype=np.float64)[np.newaxis] for count in counts))
        for name, formula in _formulas(task).items():
            found[name] = max(found[name], float(formula(one)[0]))
    return found | {"loss": float(best_loss)}


def _constant_answers(task: Task, labels: np.ndarray, actual: np.ndarray) -> Iterator[tuple[np.ndarray, float]]:
    """Yields answers, float64[labels] of 0 and 1, that hold each metric's best one; and how many examples it fits.

    Several labels at once: the first, the two first and so on of the labels by their number (F1 gains by the more
    frequent one first), and the set that occurs most, which alone can be the best by accuracy.
    """
    if task.problem_type == CLASSES:
        for label in range(task.columns):
            yield np.eye(1, task.columns, label)[0], actual[label]
        return
    for most in range(task.columns + 1):
        answer = np.zeros(task.columns)
        answer[np.argsort(-actual, kind="stable")[:most]] = 1
        yield answer, 0.0
    _, rows, counts = np.unique(np.packbits(labels == 1, axis=1), axis=0, return_index=True, return_counts=True)
    yield np.asarray(labels[rows[counts.argmax()]], dtype=np.float64), float(counts.max())


def _tally(task: Task, labels: np.ndarray) -> np.ndarray:
    """Counts each label of classes, int64[examples], or of sets, float32[examples, labels]."""
    return np.bincount(labels, minlength=task.columns) if labels.ndim == 1 else labels.sum(axis=0, dtype=np.int64)


def wilson_interval(right: int, examples: int, confidence: float) -> Interval:
    """Returns the score interval of a proportion (Wilson 1927), which needs no resampling and no large sample."""
    low, high = binomtest(right, examples).proportion_ci(confidence, method="wilson")
    return Interval(right / examples, float(low), float(high))


def bca_interval(
    value: float, values: np.ndarray, jackknife: np.ndarray, counts: np.ndarray, confidence: float
) -> Interval:
    """Returns the bias-corrected and accelerated interval (Efron & Tibshirani 1993, equations 14.9 to 14.15).

    Args:
        value: the sample's.
        values: float64[resamples].
        jackknife: float64[cells], the value of the sample without one draw of each cell.
        counts: int64[cells], how often the sample drew each.
    """
    tied = np.abs(values - value) <= SAME  # metrics of counts are discrete: half of the ties is below
    below = np.mean((values < value) & ~tied) + np.mean(tied) / 2
    half = 0.5 / len(values)
    bias = ndtri(np.clip(below, half, 1 - half))
    deviation = np.average(jackknife, weights=counts) - jackknife
    spread = np.sum(counts * deviation**2) ** 1.5
    acceleration = np.sum(counts * deviation**3) / (6 * spread) if spread > 0 else 0.0
    reach = bias + ndtri(np.array([1 - confidence, 1 + confidence]) / 2)
    shares = ndtr(bias + reach / np.maximum(1 - acceleration * reach, 0.01))
    low, high = np.quantile(values, shares)
    return Interval(value, float(low), float(high))


def _resample(table: Table, resamples: int, seed: int) -> tuple[dict[str, np.ndarray], ...]:
    """Returns float64[models, draws] for each metric: the sample's, the resamples', and those without one draw each."""
    generator = np.random.default_rng(seed)
    cells, total = len(table.counts), int(table.counts.sum())
    rows = max(1, CHUNK // cells)

    def drawn(start: int) -> np.ndarray:
        size = min(rows, resamples - start)
        return generator.multinomial(total, table.counts / total, size=size).astype(np.float64)

    def left_out(start: int) -> np.ndarray:
        return table.counts - np.eye(min(rows, cells - start), cells, start)

    own = {name: compute(table.counts[np.newaxis].astype(np.float64)) for name, compute in table.metrics.items()}
    return (
        own,
        _in_chunks(table, drawn, range(0, resamples, rows)),
        _in_chunks(table, left_out, range(0, cells, rows)),
    )


def _in_chunks(table: Table, weights: Callable[[int], np.ndarray], starts: Sequence[int]) -> dict[str, np.ndarray]:
    parts: dict[str, list[np.ndarray]] = {name: [] for name in table.metrics}
    for start in starts:
        chunk = weights(start)
        for name, compute in table.metrics.items():
            parts[name].append(compute(chunk))
    return {name: np.concatenate(values, axis=1) for name, values in parts.items()}


# From examples to cells


def tabulate(task: Task, labels: np.ndarray, logits: Sequence[np.ndarray]) -> list[Table]:
    """Sorts the examples into cells; metrics that need other cells come in tables of their own."""
    losses = [example_losses(task, one, labels) for one in logits]
    predictions = [predict_labels(task, one) for one in logits]
    if task.problem_type == NUMBERS:
        ranks = [_rank_table(labels, predictions)] if "spearmanr" in task.metrics else []
        return [_moment_table(task, labels, predictions, losses), *ranks]
    cells = _Cells.of_classes(len(task.label_names), labels, predictions) if task.problem_type == CLASSES else None
    return [_count_table(task, labels, predictions, cells or _Cells.of_examples(len(labels))), _loss_table(losses)]


def example_losses(task: Task, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the loss of each example, float64[examples]; `scoring.loss` is their mean."""
    logits = logits.astype(np.float64)
    if task.problem_type == CLASSES:
        return np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(labels)), labels]
    if task.problem_type == SETS:
        return np.mean(np.logaddexp(0.0, logits) - labels * logits, axis=1)
    return (logits[:, 0] - labels) ** 2


@dataclass(frozen=True)
class _Cells:
    """Which cell each example lies in, int64[examples], and how often the sample drew each, int64[cells]."""

    of: np.ndarray
    counts: np.ndarray

    @classmethod
    def of_examples(cls, examples: int) -> "_Cells":
        """One example a cell, or blocks of them; by chance, since a corpus may be sorted."""
        blocks = min(examples, MOST_CELLS)
        return cls(np.random.default_rng(0).permutation(examples) % blocks, np.ones(blocks, dtype=np.int64))

    @classmethod
    def of_classes(cls, classes: int, labels: np.ndarray, predictions: Sequence[np.ndarray]) -> "_Cells":
        """One cell for each label and predictions that occur together."""
        codes = np.ravel_multi_index((labels, *predictions), (classes,) * (1 + len(predictions)))
        _, of, counts = np.unique(codes, return_inverse=True, return_counts=True)
        return cls(of, counts) if len(counts) <= MOST_CELLS else cls.of_examples(len(labels))

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sums float64[examples] or float64[examples, columns] over what one draw of each cell brings."""
        if values.ndim == 2:
            return np.stack([self.sums(column) for column in values.T], axis=1)
        return np.bincount(self.of, weights=values, minlength=len(self.counts)) / self.counts

    def histogram(self, classes: np.ndarray, number: int, where: np.ndarray | None = None) -> np.ndarray:
        """Counts int64[examples] of `number` classes for one draw of each cell: float64[cells, number]."""
        codes = self.of * number + classes
        counts = np.bincount(codes if where is None else codes[where], minlength=len(self.counts) * number)
        return counts.reshape(-1, number) / self.counts[:, np.newaxis]


def _loss_table(losses: Sequence[np.ndarray]) -> Table:
    cells = _Cells.of_examples(len(losses[0]))
    return Table(cells.counts, {"loss": _mean(cells, losses)})


def _mean(cells: _Cells, columns: Sequence[np.ndarray]) -> Compute:
    size, sums = cells.sums(np.ones(len(cells.of))), np.stack([cells.sums(column) for column in columns], axis=1)
    return lambda weights: (weights @ sums).T / (weights @ size)


def _count_table(task: Task, labels: np.ndarray, predictions: Sequence[np.ndarray], cells: _Cells) -> Table:
    """Metrics of counts: for each label how often it is true, predicted, and both; and how many examples are right."""
    number = len(task.label_names)
    size = cells.sums(np.ones(len(labels)))
    if task.problem_type == CLASSES:
        true = cells.histogram(labels, number)
        models = [
            (cells.histogram(p, number, p == labels), cells.histogram(p, number), cells.sums(p == labels))
            for p in predictions
        ]
    else:
        true = cells.sums(labels)
        models = [(cells.sums(p * labels), cells.sums(p), cells.sums((p == labels).all(axis=1))) for p in predictions]

    def compute(formula: Callable[["_Counts"], np.ndarray]) -> Compute:
        def values(weights: np.ndarray) -> np.ndarray:
            actual, examples = weights @ true, weights @ size
            return np.stack(
                [
                    formula(_Counts(weights @ both, weights @ predicted, actual, weights @ right, examples))
                    for both, predicted, right in models
                ]
            )

        return values

    return Table(cells.counts, {name: compute(formula) for name, formula in _formulas(task).items()})


def _formulas(task: Task) -> dict[str, Callable[["_Counts"], np.ndarray]]:
    macro = _f1_macro if task.problem_type == CLASSES else _f1_macro_of_sets
    formulas = FORMULAS | {"f1_macro": macro}
    return {name: formulas[name] for name in task.metrics}


class _Counts(NamedTuple):
    both: np.ndarray  # float64[draws, labels]
    predicted: np.ndarray  # float64[draws, labels]
    actual: np.ndarray  # float64[draws, labels]
    right: np.ndarray  # float64[draws]
    examples: np.ndarray  # float64[draws]


def _f1_macro(c: _Counts) -> np.ndarray:
    """As scikit-learn's: the mean over the classes that occur, in the labels or in the predictions."""
    occurs = (c.predicted + c.actual > 0).sum(axis=1)
    return _f1(c).sum(axis=1) / occurs


def _f1_macro_of_sets(c: _Counts) -> np.ndarray:
    return _f1(c).mean(axis=1)


def _f1(c: _Counts) -> np.ndarray:
    return _ratio(2 * c.both, c.predicted + c.actual)


def _f1_micro(c: _Counts) -> np.ndarray:
    return _ratio(2 * c.both.sum(axis=1), (c.predicted + c.actual).sum(axis=1))


def _matthews(c: _Counts) -> np.ndarray:
    """The correlation of two sets of classes (Gorodkin 2004), Matthews' where there are two of them."""
    covariance = c.right * c.examples - (c.predicted * c.actual).sum(axis=1)
    variances = [c.examples**2 - (counts**2).sum(axis=1) for counts in (c.predicted, c.actual)]
    return _ratio(covariance, np.sqrt(variances[0] * variances[1]))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Divides; 0 where there is nothing to divide by, as the metrics define it."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


FORMULAS: dict[str, Callable[[_Counts], np.ndarray]] = {
    "accuracy": lambda c: c.right / c.examples,
    "f1": lambda c: _f1(c)[:, 1],
    "f1_micro": _f1_micro,
    "matthews_correlation": _matthews,
}


def _moment_table(
    task: Task, labels: np.ndarray, predictions: Sequence[np.ndarray], losses: Sequence[np.ndarray]
) -> Table:
    cells = _Cells.of_examples(len(labels))
    metrics = {"loss": _mean(cells, losses)}
    if "mean_squared_error" in task.metrics:
        metrics["mean_squared_error"] = metrics["loss"]
    if "pearson" in task.metrics:
        metrics["pearson"] = _pearson(cells, _standardized(labels), [_standardized(p) for p in predictions])
    return Table(cells.counts, metrics)


def _standardized(values: np.ndarray) -> np.ndarray:
    """Brings numbers to mean 0 and spread 1 in float64, so that their squares keep their digits; a constant to 0."""
    values = values.astype(np.float64)
    spread = values.std() if np.ptp(values) > 0 else np.inf
    return (values - values.mean()) / spread


def _pearson(cells: _Cells, labels: np.ndarray, predictions: Sequence[np.ndarray]) -> Compute:
    columns = [np.ones(len(labels)), labels, labels**2]
    columns += [column for p in predictions for column in (p, p**2, p * labels)]
    sums = cells.sums(np.stack(columns, axis=1))

    def values(weights: np.ndarray) -> np.ndarray:
        size, *means = (weights @ sums).T
        y, yy, *rest = (mean / size for mean in means)
        models = [rest[start : start + 3] for start in range(0, len(rest), 3)]
        return np.stack([_correlation(py - p * y, pp - p**2, yy - y**2) for p, pp, py in models])

    return values


def _correlation(covariance: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Divides by the spreads; 0 where one is none, as `scoring` defines it."""
    varied = (one > SAME) & (other > SAME)
    spreads = np.sqrt(np.where(varied, one * other, 1.0))
    return np.where(varied, np.clip(covariance / spreads, -1.0, 1.0), 0.0)


def _rank_table(labels: np.ndarray, predictions: Sequence[np.ndarray]) -> Table:
    """Spearman's correlation: ranked anew in every resample; of more examples than cells, by its linear part.

    For so many the correlation's value in a resample is that of the sample plus the mean of the drawn examples'
    influences (Efron & Tibshirani 1993, section 22.6: the infinitesimal jackknife's expansion) up to a term of the
    order of 1 / examples, and so a mean that blocks can be summed for.
    """
    columns = [labels, *predictions]
    if len(labels) > MOST_CELLS:
        cells = _Cells.of_examples(len(labels))
        linear = [_spearman_influence(labels, p) for p in predictions]
        return Table(cells.counts, {"spearmanr": _mean(cells, [value + part for value, part in linear])})
    ranks = [_weighted_ranks(column) for column in columns]

    def values(weights: np.ndarray) -> np.ndarray:
        y, *models = (rank(weights) for rank in ranks)
        own = _weighted_mean(weights, y * y)
        return np.stack(
            [_correlation(_weighted_mean(weights, p * y), _weighted_mean(weights, p * p), own) for p in models]
        )

    return Table(np.ones(len(labels), dtype=np.int64), {"spearmanr": values})


def _weighted_mean(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.einsum("dc,dc->d", weights, values) / weights.sum(axis=1)


def _weighted_ranks(values: np.ndarray) -> Compute:
    """Returns the function from weights, float64[draws, examples], to mid-ranks of the same shape, in shares of the
    sample and counted from its middle: ties and repeated draws share the mean of the ranks that they take up."""
    kinds, kind = np.unique(values, return_inverse=True)
    order = np.argsort(kind, kind="stable")
    starts = np.searchsorted(kind[order], np.arange(len(kinds)))

    def ranks(weights: np.ndarray) -> np.ndarray:
        size = np.add.reduceat(weights[:, order], starts, axis=1)  # float64[draws, kinds]
        middles = np.cumsum(size, axis=1) - size / 2
        total = weights.sum(axis=1, keepdims=True)
        return (middles / total - 0.5)[:, kind]

    return ranks


def _spearman_influence(labels: np.ndarray, predictions: np.ndarray) -> tuple[float, np.ndarray]:
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
