"""A model is tried on two texts before it is trained."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import nn

from stages.shared.runtime.errors import BadInput
from stages.train.trial import try_out

SPLIT = Dataset.from_dict({"input_ids": [[5, 6, 7], [8], [9, 9]], "label": [0, 1, 0], "length": [3, 1, 2]})

Answer = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def pad(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    ids = [torch.tensor(row["input_ids"]) for row in rows]
    batch = nn.utils.rnn.pad_sequence(ids, batch_first=True)
    return {"input_ids": batch, "attention_mask": (batch > 0).long()}


class Model(nn.Module):
    """Answers with what a function makes of ids and mask, int64[batch, tokens]."""

    device = torch.device("cpu")

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, Any]:
        return {"logits": self.answer(input_ids, attention_mask)}


def sums(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return torch.stack([(ids * mask).sum(dim=1), mask.sum(dim=1)], dim=1).float()


def test_logits_that_padding_does_not_change_pass() -> None:
    try_out(Model(sums), pad, SPLIT, 2)


@pytest.mark.parametrize(
    "answer",
    [
        lambda ids, mask: sums(ids, torch.ones_like(mask)),  # counts the padding
        lambda ids, mask: sums(ids, mask) + torch.rand(len(ids), 2),  # draws its answer
        lambda ids, mask: sums(ids, mask) * (1 + 1e-3 * (ids.shape[1] > 1)),
    ],
)
def test_logits_that_depend_on_the_batch_are_refused(answer: Answer) -> None:
    with pytest.raises(BadInput, match=r"Model gives other logits if a text is padded \(by .*; use another model"):
        try_out(Model(answer), pad, SPLIT, 2)


def test_rounding_is_no_difference() -> None:
    try_out(Model(lambda ids, mask: sums(ids, mask) * (1 + 1e-5 * (ids.shape[1] > 1))), pad, SPLIT, 2)


def test_logits_of_every_token_are_refused() -> None:
    with pytest.raises(BadInput, match=r"Model gives logits of shape \(2, 3, 2\) for two texts, expected \(2, 2\)"):
        try_out(Model(lambda ids, mask: torch.ones(*ids.shape, 2)), pad, SPLIT, 2)


def test_the_same_logits_for_other_texts_are_refused() -> None:
    with pytest.raises(BadInput, match="Model gives the same logits for two different texts, perhaps because kernels"):
        try_out(Model(lambda ids, mask: torch.ones(len(ids), 2)), pad, SPLIT, 2)


def test_what_a_model_raises_is_said_in_a_line() -> None:
    def answer(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        raise ValueError("give me\n  boxes")

    with pytest.raises(BadInput, match=r"Model fails on plain texts \(ValueError: give me boxes\); use another model"):
        try_out(Model(answer), pad, SPLIT, 2)


@pytest.mark.parametrize("training", [True, False])
def test_a_trial_changes_no_random_number_and_no_mode(training: bool) -> None:
    def answer(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        torch.rand(1), np.random.rand(), random.random()
        assert not model.training
        return sums(ids, mask)

    model = Model(answer).train(training)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    try_out(model, pad, SPLIT, 2)
    assert model.training == training
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]
