"""Cuts a split into batches, and pads them directly from the mapped Arrow file, without Python lists of token ids."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from stages.shared.runtime.splits import WindowLogits

WINDOW = 2**16  # examples that are sorted by length together


class Pieces:
    """What the model is given of a split, piece by piece: its rows, or the windows of their texts in the same order."""

    def __init__(self, split: Dataset) -> None:
        assert split._indices is None, "a selection of rows, whose table has all of them"
        self.rows = len(split)
        self.in_windows = "windows" in split.column_names
        if not self.in_windows:
            self.lengths = lengths_of(split)  # int32[pieces], in tokens
            return
        chunks = split.data.table["windows"].chunks
        counts = [np.diff(chunk.offsets.to_numpy()) for chunk in chunks]
        self.ends = np.concatenate([[0], *counts]).cumsum()  # int64[rows + 1]: each row's first piece, and their number
        self.lengths = np.concatenate([np.empty(0, np.int32), *(chunk.flatten().to_numpy() for chunk in chunks)])
        self.before = np.concatenate([[0], self.lengths.cumsum(dtype=np.int64)])  # tokens, int64[pieces + 1]

    def __len__(self) -> int:
        return len(self.lengths)

    def blocks(self) -> Sequence[int]:
        """Returns the first piece of every `WINDOW` rows."""
        starts = range(0, self.rows, WINDOW)
        return [int(self.ends[row]) for row in starts] if self.in_windows else starts

    def batches(self, token_budget: int) -> Iterator[np.ndarray]:
        """Cuts them into batches: `batches` with the windows of as many rows sorted together as rows are alone."""
        return batches(self.lengths, token_budget, self.blocks())

    def inside(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the pieces of some rows, int64[pieces], and how many each row has, int64[rows]."""
        if not self.in_windows:
            return rows, np.ones_like(rows)
        counts = self.ends[rows + 1] - self.ends[rows]
        firsts = np.concatenate([[0], counts.cumsum()[:-1]])
        return np.repeat(self.ends[rows] - firsts, counts) + np.arange(counts.sum()), counts

    def places(self, pieces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the row of each piece, and which of its tokens is the first: both int64[pieces]."""
        if not self.in_windows:
            return pieces, np.zeros_like(pieces)
        rows = np.searchsorted(self.ends, pieces, side="right") - 1
        return rows, self.before[pieces] - self.before[self.ends[rows]]

    def of_rows(self, logits: np.ndarray, how: WindowLogits) -> Iterator[np.ndarray]:
        """Yields the logits of the rows, float32[rows, columns], `WINDOW` rows at a time.

        Args:
            logits: of the windows, float32[pieces, columns].
        """
        for start in range(0, self.rows, WINDOW):
            ends = self.ends[start : start + WINDOW + 1]
            values, firsts = logits[ends[0] : ends[-1]], ends[:-1] - ends[0]
            if how == "max":
                yield np.maximum.reduceat(values, firsts, axis=0)
            else:
                sums = np.add.reduceat(values.astype(np.float64), firsts, axis=0)
                yield (sums / np.diff(ends)[:, np.newaxis]).astype(np.float32)


def batches(lengths: np.ndarray, token_budget: int, blocks: Sequence[int] | None = None) -> Iterator[np.ndarray]:
    """Cuts the examples into batches of at most `token_budget` tokens with their padding.

    The longest come first, but only among each `WINDOW` examples that follow one another. The last digits of a logit
    depend on its batch, so whoever has but a window of a file at hand makes the batches that the whole file has.

    Args:
        lengths: int32[examples], in tokens. An example longer than the budget makes a batch of its own.
        blocks: the first one of those that are sorted together, for each block; None: each `WINDOW` of them.

    Yields:
        int64[batch] positions in the split.
    """
    for first, end in pairwise([*(range(0, len(lengths), WINDOW) if blocks is None else blocks), len(lengths)]):
        order = first + np.argsort(-lengths[first:end], kind="stable")
        start = 0
        while start < len(order):
            size = max(1, token_budget // int(lengths[order[start]]))
            yield order[start : start + size]
            start += size


class PaddedRows:
    """The model's inputs of any rows of a split, or windows, padded to the longest as `tokenizer.pad` does it."""

    def __init__(self, split: Dataset, tokenizer: Any) -> None:
        self.pieces = Pieces(split)
        self.left = tokenizer.padding_side == "left"
        self.with_mask = "attention_mask" in tokenizer.model_input_names
        paddings = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
        self.columns = {
            name: (_Lists(split, name), padding) for name, padding in paddings.items() if name in split.column_names
        }

    def __getitem__(self, pieces: np.ndarray) -> dict[str, torch.Tensor]:
        """Returns int64[batch, tokens] for each input, `attention_mask` among them where the tokenizer names it."""
        lengths = self.pieces.lengths[pieces]
        rows, starts = self.pieces.places(pieces)
        width = int(lengths.max())
        places = np.arange(width)
        real = places >= width - lengths[:, None] if self.left else places < lengths[:, None]
        batch = {}
        for name, (lists, padding) in self.columns.items():
            padded = np.full(real.shape, padding, dtype=np.int64)
            padded[real] = lists.take(rows, starts, lengths)
            batch[name] = torch.from_numpy(padded)
        if self.with_mask:
            batch["attention_mask"] = torch.from_numpy(real.astype(np.int64))
        return batch


class _Lists:
    """A column of lists, of which parts are read end to end."""

    def __init__(self, split: Dataset, name: str) -> None:
        chunks = split.data.table[name].chunks
        self.parts = [(chunk.values.to_numpy(), chunk.offsets.to_numpy()) for chunk in chunks]
        self.ends = np.cumsum([len(chunk) for chunk in chunks])

    def take(self, rows: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Returns of each row so many values from its `starts`-th on, one after the other."""
        part_of = np.searchsorted(self.ends, rows, side="right")
        row_of = rows - np.concatenate([[0], self.ends])[part_of]
        found = []
        for part, row, start, length in zip(
            part_of.tolist(), row_of.tolist(), starts.tolist(), lengths.tolist(), strict=True
        ):
            values, offsets = self.parts[part]
            first = offsets[row] + start
            found.append(values[first : first + length])
        return np.concatenate(found)


def lengths_of(split: Dataset) -> np.ndarray:
    """Returns int32[examples], in tokens."""
    return np.asarray(split.with_format("numpy")["length"][:])
