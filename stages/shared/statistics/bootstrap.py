"""Bootstrap intervals of metrics that are functions of counts.

A resample is no list of examples but how often each cell of `tables` is drawn. The interval is the BCa interval (Efron
1987; Efron & Tibshirani 1993, chapter 14): the percentiles of the resampled values, moved for the bias of their median
and for a spread that changes with the value. What it cannot see, because no resample holds what the sample does not, is
in `proportions`; which interval a metric gets, and which gets none, in `confidence`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri

from stages.shared.statistics.tables import Table, tabulate
from stages.shared.task.metrics import SAME
from stages.shared.task.task import Task

WEIGHTS_AT_ONCE = 2**21  # in memory: 16 MiB for each array of them


class Interval(NamedTuple):
    """A value, and the bounds between which the truth lies in `confidence` of all samples."""

    value: float
    low: float
    high: float


def bootstrap_intervals(
    task: Task,
    labels: np.ndarray,
    predictions: Sequence[np.ndarray],
    *,
    confidence: float,
    resamples: int,
    seed: int,
    groups: np.ndarray | None = None,
) -> dict[str, Interval]:
    """Returns an interval for each metric of counts.

    Args:
        labels: as in `problem_types.Problem`.
        predictions: of one model; or of two for the same examples, in which case the intervals are those of the second
            one's value minus the first one's (the paired bootstrap).
        groups: int64[examples], the number of each example's group, from 0; whole groups are drawn then.
    """
    table = tabulate(task, labels, predictions, groups)
    own, drawn, left_out = _resample(table, resamples, seed)
    found: dict[str, Interval] = {}
    for name in table.metrics:
        value, values, jackknife = (
            array[-1] - array[0] if len(predictions) == 2 else array[0]
            for array in (own[name], drawn[name], left_out[name])
        )
        found[name] = bca_interval(float(value[0]), values, jackknife, table.counts, confidence)
    return found


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
    rows = max(1, WEIGHTS_AT_ONCE // cells)

    def drawn(start: int) -> np.ndarray:
        size = min(rows, resamples - start)
        if total == cells:  # one draw a cell: to draw and count is ten times as fast as to draw counts
            places = generator.integers(0, cells, (size, cells)) + cells * np.arange(size)[:, np.newaxis]
            return np.bincount(places.ravel(), minlength=size * cells).reshape(size, cells).astype(np.float64)
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
