"""Performance on parts of a split: by length, by overlap of the two texts, by label."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.report.answers import Answers
from stages.shared.task.groups import effective_examples, wilson_ends
from stages.shared.task.overlap import KINDS
from stages.shared.task.problem_types import Classification
from stages.shared.task.task import Task

PAIRS_AT_ONCE = 10_000  # of texts, in memory
WORD = re.compile(r"\w+")
OVERLAP = (0.2, 0.4, 0.6, 0.8)  # borders between the slices of word overlap


@dataclass(frozen=True)
class Slice:
    """One part of a split: the share that is right, or for numbers the mean absolute error."""

    name: str
    examples: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Slicing:
    """One way to cut a split."""

    title: str
    slices: list[Slice]


def slice_split(
    task: Task,
    answers: Answers,
    texts: pa.Table,
    confidence: float,
    *,
    overlap: np.ndarray,
    groups: np.ndarray | None = None,
) -> list[Slicing]:
    """Cuts a split in every way that applies.

    Args:
        texts: the columns `text` and, for pairs, `text_pair`; a row an example of `answers`, in its order.
        confidence: of the intervals.
        overlap: uint8[examples], what each has in common with train.
        groups: int64[examples]: which examples belong together. None: each is on its own.
    """
    right = answers.certainty if task.problem.numeric else answers.right
    length = pc.utf8_length(texts["text"]).to_numpy()
    if "text_pair" in texts.column_names:
        length = length + pc.utf8_length(texts["text_pair"]).to_numpy()
    cuts: list[tuple[str, Iterable[tuple[str, np.ndarray]]]] = [("By length, in characters", quarters(length))]
    if "text_pair" in texts.column_names:
        cuts.append(("By shared words of the pair", overlap_groups(texts)))
    cuts.append(label_groups(task, answers))
    if overlap.any():
        cuts.append(("By what train holds of it", overlap_with_train(overlap)))
    slicings = []
    for title, parts in cuts:
        slices = [
            measure(name, right[rows], confidence, None if groups is None else groups[rows])
            for name, rows in parts
            if rows.any()
        ]
        slicings.append(Slicing(title, slices))
    return slicings


def overlap_with_train(overlap: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Cuts into the examples with nothing of train, and those with something; one may have several things."""
    return [("nothing", overlap == 0), *((name, (overlap & kind) > 0) for kind, name in KINDS.items())]


def quarters(values: np.ndarray, digits: int = 0) -> list[tuple[str, np.ndarray]]:
    """Cuts at the quartiles that occur: (range, bool[examples]) each. Many equal values make fewer and uneven parts."""
    borders = np.unique(np.quantile(values, [0.25, 0.5, 0.75], method="inverted_cdf"))
    part = np.searchsorted(borders, values, side="left")
    groups = []
    for index in np.unique(part):
        rows = part == index
        low, high = values[rows].min(), values[rows].max()
        groups.append((f"{low:.{digits}f}" if low == high else f"{low:.{digits}f} to {high:.{digits}f}", rows))
    return groups


def overlap_groups(texts: pa.Table) -> list[tuple[str, np.ndarray]]:
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


def label_groups(task: Task, answers: Answers) -> tuple[str, Iterable[tuple[str, np.ndarray]]]:
    """Cuts by the true class, the labels carried, or quarters of the true number."""
    labels, problem = np.asarray(answers.labels), task.problem
    if not isinstance(problem, Classification):
        return "By true value", quarters(labels, digits=2)
    return "By true label", ((name, problem.carries(labels, i)) for i, name in enumerate(task.label_names))


def measure(name: str, values: np.ndarray, confidence: float, groups: np.ndarray | None = None) -> Slice:
    """Puts an interval around the mean of `values`: Wilson's (1927) for bool[examples], the normal one for errors.

    A single error has no spread to put an interval around: it spans the number itself. Of groups, int64[examples], it
    is the groups that are drawn.
    """
    count, mean = len(values), float(values.mean(dtype=np.float64))
    if values.dtype == np.bool_:
        size = float(count) if groups is None else effective_examples(values, groups, confidence)
        return Slice(name, count, mean, *wilson_ends(mean, size, confidence))
    if groups is not None:
        _, place = np.unique(groups, return_inverse=True)
        away = np.bincount(place, weights=values - mean)  # of each group, to the mean of all
        values = mean + away * len(away) / count
    number = len(values)
    spread = float(values.std(dtype=np.float64, ddof=1)) if number > 1 else 0.0
    half = NormalDist().inv_cdf((1 + confidence) / 2) * spread / number**0.5
    return Slice(name, count, mean, max(0.0, mean - half), mean + half)
