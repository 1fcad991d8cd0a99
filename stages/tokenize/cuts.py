"""Which tokens of a long text the model is given: its beginning, its beginning and its end, or all of it in windows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from stages.shared.runtime.errors import BadInput

LongTexts = Literal["truncate", "head_tail", "windows"]
# Of what `head_tail` keeps, a quarter is the beginning: the share that Sun et al. 2019, "How to fine-tune BERT for text
# classification", found best.
HEAD = 4


@dataclass(frozen=True)
class Cut:
    """What becomes of texts that are longer than the model reads."""

    max_length: int  # tokens that it reads at once, the special ones included
    long_texts: LongTexts = "truncate"
    stride: int = 0  # tokens that a window shares with the next

    @property
    def in_windows(self) -> bool:
        """Whether a text may be several inputs of the model."""
        return self.long_texts == "windows"

    def places(self, sequences: Sequence[int | None], side: str) -> list[np.ndarray]:
        """Returns which tokens of a row the model is given, in each of its inputs: int64[tokens].

        Of two texts the longer one is cut first, and both equally once they are equally long. With windows, the longer
        text (the second of two that are equally long) goes through them, and the other stands in each: whole, or cut to
        half of the room.

        Windows begin where the text begins, whatever the side. The tokenizer's own truncation chooses the same (of
        windows, where it cuts at the right), but hands back every combination of the pieces that it cuts off two texts:
        120 MiB for one pair of 3,000 tokens each.

        Args:
            sequences: for each token, the number of its text, None for those that the tokenizer adds.
            side: right or left, the end of a text that is cut off where its beginning or its end is kept alone.
        """
        sequence = np.array(sequences, dtype=np.float32)
        added = np.flatnonzero(np.isnan(sequence))
        room = self.max_length - len(added)
        first, second = np.flatnonzero(sequence == 0), np.flatnonzero(sequence == 1)
        # The shorter text is whole or has half the room, the other one what is left.
        size = min(len(first), room // 2) if len(first) <= len(second) else room - min(len(second), room // 2)
        if not self.in_windows:
            kept = [self._keep(first, size, side), self._keep(second, room - size, side)]
            return [np.sort(np.concatenate([added, *kept]))]
        if len(first) <= len(second):
            longer, other, size = second, Cut._end(first, size, side), room - size
        else:
            longer, other = first, Cut._end(second, room - size, side)
        step = size - self.stride
        starts = range(0, 1 + math.ceil(max(0, len(longer) - size) / step) * step, step)
        return [np.sort(np.concatenate([added, other, longer[start : start + size]])) for start in starts]

    def _keep(self, places: np.ndarray, number: int, side: str) -> np.ndarray:
        if self.long_texts == "head_tail" and number < len(places):
            head = number // HEAD
            return np.concatenate([places[:head], Cut._end(places, number - head, "left")])
        return Cut._end(places, number, side)

    @staticmethod
    def _end(places: np.ndarray, number: int, side: str) -> np.ndarray:
        return places[:number] if side == "right" else places[len(places) - number :]


def check_stride(cut: Cut, tokenizer: Any, pairs: bool) -> None:
    """Makes sure that windows move on.

    Raises:
        BadInput: they share as many tokens as they may have of a text, or more.
    """
    if not cut.in_windows:
        return
    added = tokenizer.num_special_tokens_to_add(pair=pairs)
    room = cut.max_length - added
    least = room - room // 2 if pairs else room
    if cut.stride >= least:
        what = "half of " if pairs else ""
        raise BadInput(
            f"params.yaml: tokenize.stride: must be below {max(least, 0)}, {what}the {room} tokens of a window that "
            f"are not added by the tokenizer, got {cut.stride}; lower it, or raise tokenize.max_length"
        )
