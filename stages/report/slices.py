"""Performance on slices of a split: by length, by overlap of the two texts, by label, by columns of the data."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import fisher_exact, norm

from stages.report.answers import Answers
from stages.shared.task.groups import effective_examples, wilson_ends
from stages.shared.task.kept_columns import kept
from stages.shared.task.overlap import KINDS
from stages.shared.task.problem_types import Classification
from stages.shared.task.task import Task

PAIRS_AT_ONCE = 10_000  # of texts, in memory
WORD = re.compile(r"\w+")
MOST_VALUES = 12  # of a column, that a slice each is shown for
OVERLAP = (0.2, 0.4, 0.6, 0.8)  # borders between the slices of word overlap


@dataclass(frozen=True)
class Slice:
    """One part of a split: the share that is right, or for numbers the mean absolute error."""

    name: str
    examples: int
    value: float
    low: float
    high: float
    worse: bool = False  # than the rest of the split, by more than chance explains


@dataclass(frozen=True)
class Slicing:
    """One way to cut a split."""

    title: str
    slices: list[Slice]


Parts = Sequence[tuple[str, np.ndarray]]  # name of a slice, and which examples are in it: bool[examples]


def slice_split(
    task: Task,
    answers: Answers,
    texts: pa.Table,
    confidence: float,
    *,
    overlap: np.ndarray,
    groups: np.ndarray | None = None,
    columns: Sequence[str] = (),
) -> list[Slicing]:
    """Cuts a split in every way that applies.

    Args:
        texts: the columns `text` and, for pairs, `text_pair`, and those of the data that were kept; a row an example of
            `answers`, in its order.
        confidence: of the intervals.
        overlap: uint8[examples], what each has in common with train.
        groups: int64[examples]: which examples belong together. None: each is on its own.
        columns: names of kept columns to cut by.
    """
    right = answers.certainty if task.problem.numeric else answers.right
    length = pc.utf8_length(texts["text"]).to_numpy()
    if "text_pair" in texts.column_names:
        length = length + pc.utf8_length(texts["text_pair"]).to_numpy()
    cuts: list[tuple[str, Parts]] = [(f"By {name}", values_of(texts[kept(name)])) for name in columns]
    cuts.append(("By length, in characters", quarters(length)))
    if "text_pair" in texts.column_names:
        cuts.append(("By shared words of the pair", overlap_groups(texts)))
    if overlap.any():
        cuts.append(("By overlap with train", overlap_with_train(overlap)))
    filled = [(title, [part for part in parts if part[1].any()]) for title, parts in cuts]
    level = (1 - confidence) / max(1, sum(len(parts) for _, parts in filled))  # Bonferroni's, over all that is tested

    def cut(name: str, rows: np.ndarray, tested: bool) -> Slice:
        found = measure(name, right[rows], confidence, None if groups is None else groups[rows])
        worse = tested and not rows.all() and chance_of_worse(right, rows, groups, confidence) < level
        return replace(found, worse=worse)

    slicings = [Slicing(title, [cut(*part, tested=True) for part in parts]) for title, parts in filled]
    # Slices by label are not tested: a model that leans to one label is always worse on the others.
    title, by_label = label_groups(task, answers)
    return [*slicings, Slicing(title, [cut(*part, tested=False) for part in by_label if part[1].any()])]


def chance_of_worse(values: np.ndarray, rows: np.ndarray, groups: np.ndarray | None, confidence: float) -> float:
    """Returns the p-value, one-sided, of a slice being no worse than the rest of its split.

    Shares of examples that are right: Fisher's exact test (1935). Where examples come in groups, and for errors of
    numbers: the difference of both means over its standard error.

    Args:
        values: bool[examples], whether each is right; or float[examples], its error.
        rows: bool[examples], which of them are in the slice.
    """
    sides = (rows, ~rows)
    if values.dtype == np.bool_ and groups is None:
        table = [[int(values[side].sum()), int((~values[side]).sum())] for side in sides]
        return float(fisher_exact(table, alternative="less").pvalue)
    worse = float(values[rows].mean(dtype=np.float64) - values[~rows].mean(dtype=np.float64))
    if values.dtype == np.bool_ and groups is not None:
        worse, share = -worse, float(values.mean(dtype=np.float64))  # the less are right, the worse
        sizes = [effective_examples(values[side], groups[side], confidence) for side in sides]
        variance = sum([share * (1 - share) / size for size in sizes])
    else:
        errors = [standard_error(values[side], None if groups is None else groups[side]) for side in sides]
        variance = sum([error**2 for error in errors])
    return float(norm.sf(worse / variance**0.5)) if variance > 0 else 1.0


def values_of(column: pa.ChunkedArray) -> Parts:
    """Cuts by what a column says: its most frequent values, in their own order, and the others together."""
    values = np.asarray(column.to_pylist(), dtype=object)
    names, counts = np.unique(values, return_counts=True)
    most = len(names) if len(names) <= MOST_VALUES else MOST_VALUES - 1
    shown = np.sort(names[np.argsort(-counts, kind="stable")[:most]])
    parts = [(name or "(empty)", values == name) for name in shown]
    rest = ~np.isin(values, shown)
    return [*parts, (f"{len(names) - len(shown)} others", rest)] if rest.any() else parts


def overlap_with_train(overlap: np.ndarray) -> Parts:
    """Cuts into the examples with nothing of train, and those with something; one may have several things."""
    return [("no overlap", overlap == 0), *((name, (overlap & kind) > 0) for kind, name in KINDS.items())]


def quarters(values: np.ndarray, digits: int = 0) -> Parts:
    """Cuts at the quartiles that occur: (range, bool[examples]) each. Many equal values make fewer and uneven parts."""
    borders = np.unique(np.quantile(values, [0.25, 0.5, 0.75], method="inverted_cdf"))
    part = np.searchsorted(borders, values, side="left")
    groups = []
    for index in np.unique(part):
        rows = part == index
        low, high = values[rows].min(), values[rows].max()
        groups.append((f"{low:.{digits}f}" if low == high else f"{low:.{digits}f} to {high:.{digits}f}", rows))
    return groups


def overlap_groups(texts: pa.Table) -> Parts:
    """Cuts at fixed shares of words that both texts have."""
    part = np.searchsorted(OVERLAP, word_overlap(texts), side="right")
    borders = [0.0, *OVERLAP, 1.0]
    return [(f"{low:.0%} to {high:.0%}", part == i) for i, (low, high) in enumerate(pairwise(borders))]


def word_overlap(texts: pa.Table) -> np.ndarray:
    """Returns float32[examples]: of the different words of a pair, case ignored, the share that is in both texts.

    That is the Jaccard index of the two sets; 1 where neither text has a word.
    """
    overlap = np.empty(texts.num_rows, dtype=np.float32)
    for row, (first, second) in enumerate(_pairs(texts)):
        one, two = set(WORD.findall(first.casefold())), set(WORD.findall(second.casefold()))
        union = len(one | two)
        overlap[row] = len(one & two) / union if union else 1.0
    return overlap


def _pairs(texts: pa.Table) -> Iterator[tuple[str, str]]:
    for batch in texts.select(["text", "text_pair"]).to_batches(max_chunksize=PAIRS_AT_ONCE):
        yield from zip(batch["text"].to_pylist(), batch["text_pair"].to_pylist(), strict=True)


def label_groups(task: Task, answers: Answers) -> tuple[str, Parts]:
    """Cuts by the true class, the labels carried, or quarters of the true number."""
    labels, problem = np.asarray(answers.labels), task.problem
    if not isinstance(problem, Classification):
        return "By true value", quarters(labels, digits=2)
    return "By true label", [(name, problem.carries(labels, i)) for i, name in enumerate(task.label_names)]


def measure(name: str, values: np.ndarray, confidence: float, groups: np.ndarray | None = None) -> Slice:
    """Puts an interval around the mean of `values`: Wilson's (1927) for bool[examples], the normal one for errors.

    A single error has no spread to put an interval around: it spans the number itself. Of groups, int64[examples], it
    is the groups that are drawn.
    """
    count, mean = len(values), float(values.mean(dtype=np.float64))
    if values.dtype == np.bool_:
        size = float(count) if groups is None else effective_examples(values, groups, confidence)
        return Slice(name, count, mean, *wilson_ends(mean, size, confidence))
    half = float(norm.ppf((1 + confidence) / 2)) * standard_error(values, groups)
    return Slice(name, count, mean, max(0.0, mean - half), mean + half)


def standard_error(values: np.ndarray, groups: np.ndarray | None) -> float:
    """Returns that of the mean of float[examples]; 0 of a single one, or of a single group."""
    if groups is not None:
        _, place = np.unique(groups, return_inverse=True)
        away = np.bincount(place, weights=values - values.mean(dtype=np.float64))  # of each group, to the mean of all
        values = away * len(away) / len(values)
    spread = float(values.std(dtype=np.float64, ddof=1)) if len(values) > 1 else 0.0
    return spread / len(values) ** 0.5
