"""Cuts a split into batches, and pads them directly from the mapped Arrow file, without Python lists of token ids."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from datasets import Dataset

WINDOW = 2**16  # examples that are sorted by length together


def batches(lengths: np.ndarray, token_budget: int) -> Iterator[np.ndarray]:
    """Cuts the examples into batches of at most `token_budget` tokens with their padding.

    The longest come first, but only among each `WINDOW` examples that follow one another. The last digits of a logit
    depend on its batch, so whoever has but a window of a file at hand makes the batches that the whole file has.

    Args:
        lengths: int32[examples], in tokens. An example longer than the budget makes a batch of its own.

    Yields:
        int64[batch] positions in the split.
    """
    for first in range(0, len(lengths), WINDOW):
        order = first + np.argsort(-lengths[first : first + WINDOW], kind="stable")
        start = 0
        while start < len(order):
            size = max(1, token_budget // int(lengths[order[start]]))
            yield order[start : start + size]
            start += size


class PaddedRows:
    """The model's inputs of any rows of a split, padded to the longest as `tokenizer.pad` does it."""

    def __init__(self, split: Dataset, tokenizer: Any) -> None:
        self.lengths = lengths_of(split)
        self.left = tokenizer.padding_side == "left"
        self.with_mask = "attention_mask" in tokenizer.model_input_names
        paddings = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
        self.columns = {
            name: (_Lists(split, name), padding) for name, padding in paddings.items() if name in split.column_names
        }

    def __getitem__(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        """Returns int64[batch, tokens] for each input, `attention_mask` among them where the tokenizer names it."""
        lengths = self.lengths[rows]
        width = int(lengths.max())
        places = np.arange(width)
        real = places >= width - lengths[:, None] if self.left else places < lengths[:, None]
        batch = {}
        for name, (lists, padding) in self.columns.items():
            padded = np.full(real.shape, padding, dtype=np.int64)
            padded[real] = lists[rows]
            batch[name] = torch.from_numpy(padded)
        if self.with_mask:
            batch["attention_mask"] = torch.from_numpy(real.astype(np.int64))
        return batch


class _Lists:
    """A column of lists, of which rows are read end to end."""

    def __init__(self, split: Dataset, name: str) -> None:
        chunks = split.data.table[name].chunks
        self.parts = [(chunk.values.to_numpy(), chunk.offsets.to_numpy()) for chunk in chunks]
        self.ends = np.cumsum([len(chunk) for chunk in chunks])

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        part_of = np.searchsorted(self.ends, rows, side="right")
        row_of = rows - np.concatenate([[0], self.ends])[part_of]
        found = []
        for part, row in zip(part_of.tolist(), row_of.tolist(), strict=True):
            values, offsets = self.parts[part]
            found.append(values[offsets[row] : offsets[row + 1]])
        return np.concatenate(found)


def lengths_of(split: Dataset) -> np.ndarray:
    """Returns int32[examples], in tokens."""
    return np.asarray(split.with_format("numpy")["length"][:])
