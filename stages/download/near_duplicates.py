"""Finds near-duplicates of train in other splits: examples that share at least half of their five-word shingles.

The method is MinHash with banding (Broder 1997; Leskovec, Rajaraman & Ullman, "Mining of Massive Datasets", chapter 3):
what two sketches have in common makes a pair a candidate, and of candidates the runs themselves are compared, so no
pair is named that is none. Missed are 6 % of the pairs whose similarity is just one half, 0.1 % of those at 0.7.

Why it is not `datasketch`: that hashes in Python, row by row, and its index keeps Python objects for every band of
every row. Here a batch is one array, and a million rows of train are 84 MB. Of 10,000 texts of 18 words against each
other datasketch 1.10.0 took 2.8 s and this 0.35 s, the comparison of the runs themselves included.
"""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from stages.download.source import BATCH_ROWS

RUN = 5  # words; with one word of twenty changed, two texts share just over half of their runs
SIMILAR = 0.5  # of the runs of both, the share that both have (Jaccard)
BANDS, ROWS_OF_BAND = 21, 3  # a pair is a candidate if one band is equal: 1 - (1 - 0.5 ** 3) ** 21 = 0.94
MOST_CANDIDATES = 4  # of one row in one band; texts with a frame in common would be compared with a million others
NO_WORDS = 0  # what stands for a band of a text without words, which is like no other
# x -> factor * x + offset: an odd factor makes it a permutation of the 64-bit numbers, of which the upper half is used.
FACTORS, OFFSETS = np.random.default_rng(0).integers(0, 2**64, (2, BANDS * ROWS_OF_BAND), dtype=np.uint64)
FACTORS |= np.uint64(1)
STEP = np.uint64(0x9E3779B97F4A7C15)
# Where words are written without spaces, each sign is taken for a word.
UNSPACED = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])"
BETWEEN_WORDS = r"[^\p{L}\p{M}\p{N}]+"


class Sketch(NamedTuple):
    """What is kept of the texts of a split."""

    bands: np.ndarray  # uint32[rows, BANDS]; of a pair, those of the runs of both texts
    sentences: np.ndarray  # uint64[rows, texts]: equal where the words of a text are; 0 for one without words


def near_duplicates(
    train: Dataset, other: Dataset, sketches: tuple[Sketch, Sketch], left_out: np.ndarray
) -> np.ndarray:
    """Finds for each row of `other` a row of `train` that it nearly repeats: int64[rows], -1 where there is none.

    Args:
        sketches: of both.
        left_out: bool[rows of other]: those that need not be looked at.
    """
    found = np.full(len(other), -1, dtype=np.int64)
    bands, keys = (one.bands for one in sketches)
    open_ones = ~left_out & (keys != NO_WORDS).any(axis=1)
    for band in range(BANDS):
        order = np.argsort(bands[:, band], kind="stable")
        ordered = bands[order, band]
        rows = np.flatnonzero(open_ones)
        start, end = (np.searchsorted(ordered, keys[rows, band], side) for side in ("left", "right"))
        number = np.minimum(end - start, MOST_CANDIDATES)
        owners, firsts = np.repeat(rows, number), np.repeat(start, number)
        candidates = order[firsts + np.arange(len(firsts)) - np.repeat(np.cumsum(number) - number, number)]
        for first in range(0, len(owners), BATCH_ROWS):
            some = slice(first, first + BATCH_ROWS)
            similar = similarity(train, candidates[some], other, owners[some]) >= SIMILAR
            # Backwards, so that of several the first row of train stays.
            found[owners[some][similar][::-1]] = candidates[some][similar][::-1]
        open_ones[found >= 0] = False
    return found


def sketch(split: Dataset) -> Sketch:
    """Reads the texts of a split once, in batches."""
    bands, sentences = [], []
    for texts in _batches(split):
        smallest = np.full((len(texts[0]), BANDS * ROWS_OF_BAND), 2**32 - 1, dtype=np.uint32)
        whole = []
        for column in texts:
            runs, counts, sentence = runs_of_words(column)
            whole.append(sentence)
            filled = np.flatnonzero(counts)
            starts = np.cumsum(counts[filled]) - counts[filled]
            for number in range(len(FACTORS) if len(runs) else 0):
                hashed = ((runs * FACTORS[number] + OFFSETS[number]) >> np.uint64(32)).astype(np.uint32)
                lowest = np.minimum.reduceat(hashed, starts)
                smallest[filled, number] = np.minimum(smallest[filled, number], lowest)
        mixed = np.zeros((len(smallest), BANDS), dtype=np.uint64)
        for row in range(ROWS_OF_BAND):
            mixed = _mix(mixed + smallest[:, row::ROWS_OF_BAND])
        keys = np.maximum(mixed >> np.uint64(32), np.uint64(NO_WORDS + 1)).astype(np.uint32)
        keys[(smallest == 2**32 - 1).all(axis=1)] = NO_WORDS
        bands.append(keys)
        sentences.append(np.stack(whole, axis=1))
    return Sketch(np.concatenate(bands), np.concatenate(sentences))


def similarity(one: Dataset, rows: np.ndarray, other: Dataset, other_rows: np.ndarray) -> np.ndarray:
    """Returns for each pair of rows the share of their runs that both have: float64[pairs]."""
    sides = [_distinct_runs(split, places) for split, places in ((one, rows), (other, other_rows))]
    number, run = (np.concatenate(columns) for columns in zip(*sides, strict=True))
    order = np.lexsort((run, number))
    number, run = number[order], run[order]
    twice = number[1:][(number[1:] == number[:-1]) & (run[1:] == run[:-1])]
    both = np.bincount(twice, minlength=len(rows))
    return both / np.maximum(np.bincount(number, minlength=len(rows)) - both, 1)


def runs_of_words(texts: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hashes the runs of RUN words of each text; a shorter one is a run of its own, and one without words has none.

    Case and what is neither a letter nor a digit do not count.

    Returns:
        uint64[runs], text after text; how many of them each text has, int64[texts]; and the sentences of `Sketch`.
    """
    spaced = pc.replace_substring_regex(pc.utf8_lower(texts), UNSPACED, r" \1 ")
    split = pc.split_pattern_regex(spaced, BETWEEN_WORDS)
    owner, words = pc.list_parent_indices(split).to_numpy(), split.flatten()
    filled = pc.not_equal(words, "").to_numpy(zero_copy_only=False)
    words = words.dictionary_encode()
    digests = [hashlib.blake2b(word.encode(), digest_size=8).digest() for word in words.dictionary.to_pylist()]
    hashed = np.frombuffer(b"".join(digests), dtype="<u8")[words.indices.to_numpy()[filled]]
    length = np.bincount(owner[filled], minlength=len(texts))
    starts = np.cumsum(length) - length
    sentences = np.zeros(len(texts), dtype=np.uint64)
    if len(hashed):
        numbered = _mix(hashed + (np.arange(len(hashed)) - np.repeat(starts, length)).astype(np.uint64) * STEP)
        sentences[length > 0] = np.maximum(np.add.reduceat(numbered, starts[length > 0]), np.uint64(1))
    # Short texts are filled up with zeros, so that every text with words has a run.
    room = np.where(length > 0, np.maximum(length, RUN), 0)
    line = np.zeros(int(room.sum()) + RUN - 1, dtype=np.uint64)
    shift = np.cumsum(room) - room - starts
    line[np.arange(len(hashed)) + np.repeat(shift, length)] = hashed
    rolled = np.zeros(int(room.sum()), dtype=np.uint64)
    for place in range(RUN):
        rolled = rolled * STEP + line[place : place + len(rolled)]
    counts = np.maximum(room - RUN + 1, 0)
    place_in_text = np.arange(len(rolled)) - np.repeat(np.cumsum(room) - room, room)
    return _mix(rolled[place_in_text < np.repeat(counts, room)]), counts, sentences


def _distinct_runs(split: Dataset, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the different runs of rows of a split: the number of the row in `rows`, and the run."""
    owners, runs = [], []
    for name in _text_columns(split):
        hashed, counts, _ = runs_of_words(_take(split.data.table[name], rows))
        runs.append(hashed)
        owners.append(np.repeat(np.arange(len(rows)), counts))
    owner, run = np.concatenate(owners), np.concatenate(runs)
    order = np.lexsort((run, owner))
    owner, run = owner[order], run[order]
    new = np.ones(len(run), dtype=bool)
    new[1:] = (owner[1:] != owner[:-1]) | (run[1:] != run[:-1])
    return owner[new], run[new]


def _take(column: pa.ChunkedArray, rows: np.ndarray) -> pa.Array:
    """Returns the rows of a column, chunk by chunk: pyarrow's own `take` would copy every text of the split."""
    ends = np.cumsum([len(chunk) for chunk in column.chunks])
    chunk_of = np.searchsorted(ends, rows, side="right")
    order = np.argsort(chunk_of, kind="stable")
    parts = []
    for places in np.split(order, np.flatnonzero(np.diff(chunk_of[order])) + 1):
        number = int(chunk_of[places[0]])
        chunk = column.chunk(number)
        parts.append(chunk.take(pa.array(rows[places] - ends[number] + len(chunk))))
    return pa.concat_arrays(parts).take(pa.array(np.argsort(order, kind="stable")))


def _batches(split: Dataset) -> Iterator[list[pa.Array]]:
    for batch in split.data.table.select(_text_columns(split)).to_batches(BATCH_ROWS):
        yield batch.columns


def _text_columns(split: Dataset) -> list[str]:
    return [name for name in ("text", "text_pair") if name in split.column_names]


def _mix(values: np.ndarray) -> np.ndarray:
    """Spreads what differs in some bits over all 64: the finalizer of SplitMix64 (Steele, Lea & Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
