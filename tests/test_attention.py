"""Attention step by step computes what torch's own attention computes."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import nn
from torch.nn import functional

from stages.shared.model import attention as module
from stages.shared.model.attention import NAME, attend_step_by_step, attention
from tests.test_architectures import FAMILIES, gpt2

VISIBLE = torch.ones(2, 1, 5, 5, dtype=torch.bool)
VISIBLE[1, :, :, 3:] = False
SCORES = 2 * 3 * 5 * 5


class Layer(nn.Module):
    """What a model passes to its attention."""

    is_causal = False


def attend(inputs: list[torch.Tensor], dropout: float = 0.0, mask: torch.Tensor = VISIBLE) -> torch.Tensor:
    """Drops nothing, whatever `dropout` says."""
    return attention(lambda weights, p: weights)(Layer(), *inputs, mask, dropout=dropout)[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_outputs_and_gradients_are_those_of_torchs_attention(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(2, 3, 5, 4, dtype=dtype, requires_grad=True) for _ in range(3)]
    expected = functional.scaled_dot_product_attention(*inputs, attn_mask=VISIBLE).transpose(1, 2)
    monkeypatch.delattr(module, "sdpa_attention_forward")  # it is not torch's that is compared with torch's
    found = attend(inputs, dropout=0.5)
    torch.testing.assert_close(found, expected, atol=1e-5 if dtype == torch.float32 else 0.02, rtol=0.02)
    for own, torchs in zip(
        torch.autograd.grad(found.square().sum(), inputs),
        torch.autograd.grad(expected.square().sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(own, torchs, atol=1e-5 if dtype == torch.float32 else 0.1, rtol=0.05)


def test_dropout_is_applied_to_the_weights() -> None:
    inputs = [torch.randn(2, 3, 5, 4) for _ in range(3)]
    given: list[Any] = []

    def drop(weights: torch.Tensor, p: float) -> torch.Tensor:
        given.append((weights.sum(dim=-1), p))
        return torch.zeros_like(weights)

    outputs, _ = attention(drop)(Layer(), *inputs, VISIBLE, dropout=0.25)
    assert not outputs.any()
    torch.testing.assert_close(given, [(torch.ones(2, 3, 5), 0.25)])


@pytest.mark.parametrize(
    ("dtype", "gradient", "largest", "left_to_torch"),
    [
        (torch.bfloat16, False, SCORES, False),
        (torch.bfloat16, False, SCORES - 1, True),
        (torch.bfloat16, True, SCORES, True),
        (torch.float32, False, SCORES, True),
    ],
    ids=["bf16", "long texts", "training", "fp32"],
)
def test_what_torch_does_well_is_left_to_it(
    dtype: torch.dtype, gradient: bool, largest: int, left_to_torch: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = [torch.randn(2, 3, 5, 4, dtype=dtype, requires_grad=gradient) for _ in range(3)]
    monkeypatch.setattr(module, "LARGEST", largest)
    monkeypatch.setattr(module, "sdpa_attention_forward", lambda *_, **__: ("torch's", None))
    found: Any = attend(inputs)
    assert isinstance(found, str) == left_to_torch


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_mask_of_numbers_is_left_to_torch(dropout: float, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = [torch.randn(2, 3, 5, 4, dtype=torch.bfloat16) for _ in range(3)]
    monkeypatch.setattr(module, "sdpa_attention_forward", lambda *_, **__: ("torch's", None))
    found: Any = attend(inputs, dropout, torch.zeros(2, 1, 5, 5))
    assert found == "torch's"


@pytest.mark.parametrize("family", [*FAMILIES, "gpt2"])
def test_a_model_predicts_in_bf16_what_it_predicts_with_torchs_attention(family: str, tmp_path: Path) -> None:
    folder = FAMILIES[family][0](tmp_path) if family in FAMILIES else gpt2(tmp_path, "<pad>", 1)
    torch.manual_seed(0)
    model = hf.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    inputs = {"input_ids": torch.randint(5, 60, (4, 20)), "attention_mask": torch.ones(4, 20, dtype=torch.int64)}
    inputs["attention_mask"][1, 12:] = 0
    inputs["input_ids"][1, 12:] = model.config.pad_token_id
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        expected = model(**inputs).logits
        had_sdpa = model.config._attn_implementation == "sdpa"
        attend_step_by_step(model, functional.dropout)
        assert (model.config._attn_implementation == NAME) == had_sdpa
        torch.testing.assert_close(model(**inputs).logits, expected, atol=0.01, rtol=0.02)
