"""The order of the training examples: drawn from (seed, epoch), and dealt to the processes step by step."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import Dataset, Sampler

MEGABATCH = 50  # batches that are sorted by length together, as in transformers' own sampler


class EpochSampler(Sampler[int]):
    """Draws each epoch's order from (seed, epoch) alone.

    The samplers of torch and transformers draw it from the global generator, whose state a resumed run restores only
    after the batches that it skips: with them, a run resumed in mid-epoch sees other batches.
    """

    def __init__(self, size: int, batch_size: int, seed: int, lengths: np.ndarray | None = None) -> None:
        """Shuffles `size` examples; with `lengths`, int32[size], examples of like length meet in a batch."""
        self.size, self.batch_size, self.seed, self.lengths = size, batch_size, seed, lengths
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng([self.seed, self.epoch])
        order = generator.permutation(self.size)
        if self.lengths is not None:
            order = self._group(order, generator)
        return iter(order.tolist())

    def _group(self, order: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        assert self.lengths is not None
        # At least four groups, so that small data keep some randomness in who meets whom.
        batches = max(1, min(MEGABATCH, self.size // (4 * self.batch_size)))
        grouped = []
        for start in range(0, self.size, batches * self.batch_size):
            group = order[start : start + batches * self.batch_size]
            group = group[np.argsort(-self.lengths[group], kind="stable")]
            whole = len(group) // self.batch_size * self.batch_size
            shuffled = generator.permutation(group[:whole].reshape(-1, self.batch_size))
            grouped += [shuffled.ravel(), group[whole:]]
        return np.concatenate(grouped)


class BalancedSampler(EpochSampler):
    """Draws every class equally often in each epoch, and as many examples in all as there are.

    So an epoch repeats the examples of a rare class, and leaves out some of a frequent one: others each time. The
    examples of a class come in turns, each a permutation drawn from (seed, class, turn), and the next epoch goes on
    where the last one ended. No example comes again before all of its class have come.
    """

    def __init__(self, classes: np.ndarray, batch_size: int, seed: int) -> None:
        """Takes the class of each example, int64[examples]."""
        super().__init__(len(classes), batch_size, seed)
        self.members = [np.flatnonzero(classes == value) for value in np.unique(classes)]

    def __iter__(self) -> Iterator[int]:
        drawn = [
            self._take(number, self._reach(number, self.epoch), self._reach(number, self.epoch + 1))
            for number in range(len(self.members))
        ]
        generator = np.random.default_rng([self.seed, self.epoch])
        return iter(generator.permutation(np.concatenate(drawn)).tolist())

    def _reach(self, number: int, epochs: int) -> int:
        """Returns how many examples of a class so many epochs take: equal shares, and of all classes whole epochs."""
        return (epochs * self.size + number) // len(self.members)

    def _take(self, number: int, start: int, end: int) -> np.ndarray:
        """Returns the examples of a class from its `start`-th to before its `end`-th, over all epochs."""
        members = self.members[number]
        first = start // len(members)
        # The last 1 tells these seeds from those of the epochs.
        turns = [
            np.random.default_rng([self.seed, number, turn, 1]).permutation(members)
            for turn in range(first, math.ceil(end / len(members)))
        ]
        return np.concatenate(turns)[start - first * len(members) : end - first * len(members)]


Slot = tuple[int, float]  # a row, and the weight of its loss in the step: 0 for one that only fills a place


class StepBatches(Sampler[list[Slot]]):
    """Deals each step's examples to the processes, `device_batch_size` at a time.

    A step's examples are the same, in the same order, for any number of processes. Where they do not suffice, at the
    end of an epoch, a process computes on an example of weight 0: each takes part in every exchange of gradients, and
    no example counts twice.
    """

    def __init__(self, order: EpochSampler, device_batch_size: int, rank: int, processes: int) -> None:
        self.order, self.device_batch_size, self.rank, self.processes = order, device_batch_size, rank, processes

    def __len__(self) -> int:
        whole, rest = divmod(len(self.order), self.order.batch_size)
        return whole * self._turns(self.order.batch_size) + self._turns(rest)

    def __iter__(self) -> Iterator[list[Slot]]:
        rows = list(self.order)
        for start in range(0, len(rows), self.order.batch_size):
            step = rows[start : start + self.order.batch_size]
            for turn in range(self._turns(len(step))):
                first = (turn * self.processes + self.rank) * self.device_batch_size
                own = step[first : first + self.device_batch_size]
                yield [(row, 1.0 / len(step)) for row in own] or [(step[-1], 0.0)]

    def _turns(self, examples: int) -> int:
        return math.ceil(examples / (self.device_batch_size * self.processes))


class WeightedRows(Dataset[dict[str, Any]]):
    """The rows of a split, each with the weight that its slot gives it."""

    def __init__(self, split: Any) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitems__(self, slots: list[Slot]) -> list[dict[str, Any]]:
        rows = self.split.__getitems__([row for row, _ in slots])
        return [row | {"weight": weight} for row, (_, weight) in zip(rows, slots, strict=True)]


class LengthSampler(Sampler[int]):
    """Goes through the examples from the longest to the shortest: least padding, and the largest batch comes first."""

    def __init__(self, lengths: np.ndarray) -> None:
        self.order = np.argsort(-lengths, kind="stable").tolist()

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[int]:
        return iter(self.order)
