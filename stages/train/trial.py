"""Tries a model on two texts before it is trained for hours, and refuses one that cannot work."""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from stages.shared.model.batches import lengths_of
from stages.shared.runtime.errors import BadInput

# Of the largest logit: rounding alone makes a millionth of it, padding that a model sees a thousandth and more.
TOLERANCE = 1e-4
SMALLEST = 1e-6  # what is no difference, however small the logits

Row = dict[str, list[int]]


def try_out(model: Any, collate: Callable[[list[Row]], Any], split: Dataset, columns: int) -> None:
    """Asks for the logits of the shortest and the longest text, together and each alone.

    Args:
        collate: pads rows to a batch of the model's inputs.
        columns: how many logits a text has.

    Raises:
        BadInput: the model cannot compute them, gives others than asked for, the same for both texts, or others where a
            text is padded: such a model's scores would depend on which texts met in a batch, and would not be those
            of the model in use.
    """
    kind = type(model).__name__
    lengths = lengths_of(split)
    names = [name for name in ("input_ids", "token_type_ids", "windows") if name in split.column_names]
    rows = [{name: split[int(place)][name] for name in names} for place in (lengths.argmin(), lengths.argmax())]
    try:
        with as_it_was(model), torch.no_grad():
            model.eval()
            together, *alone = (_logits(model, collate(batch)) for batch in (rows, rows[:1], rows[1:]))
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise BadInput(f"{kind} fails on plain texts ({type(error).__name__}: {said}); use another model") from error
    if together.shape != (2, columns):
        raise BadInput(
            f"{kind} gives logits of shape {tuple(together.shape)} for two texts, expected (2, {columns}); use "
            "another model"
        )
    if rows[0] != rows[1] and torch.equal(*alone):
        raise BadInput(
            f"{kind} gives the same logits for two different texts, perhaps because kernels that it needs are "
            "missing; use another model"
        )
    difference = float((together - torch.cat(alone)).abs().max())
    largest = float(together.abs().max())
    if difference > SMALLEST + TOLERANCE * largest:
        raise BadInput(
            f"{kind} gives other logits if a text is padded (by {difference:.1e}; the largest is {largest:.1e}), "
            "so its scores would depend on the other texts of a batch; use another model"
        )


def _logits(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    logits: torch.Tensor = model(**{name: values.to(model.device) for name, values in batch.items()})["logits"]
    return logits.float().cpu()


@contextmanager
def as_it_was(model: Any) -> Iterator[None]:
    """Leaves the generators of random numbers and the model's mode as they are: a trial must change no byte."""
    training, drawn, drawn_by_numpy = model.training, random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        model.train(training)
        random.setstate(drawn)
        np.random.set_state(drawn_by_numpy)
