"""The masks of dropout are drawn by step, and what a model computes with them is what it computes without them."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import nn

from stages.shared.model.attention import NAME
from stages.train.dropout import StepDropout, draw_by_step
from tests.test_architectures import FAMILIES, gpt2

ZEROS = torch.zeros(64, 48, 33)
TINY = hf.BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)


def mask(seed: int = 1, step: int = 2, turn: int = 3, rank: int = 4, p: float = 0.1) -> torch.Tensor:
    masks = StepDropout(seed)
    masks.start(step, turn, rank)
    return masks.mask(ZEROS, p)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_a_mask_drops_a_share_of_p_and_keeps_the_mean(p: float) -> None:
    drawn = mask(p=p)
    deviation = (p * (1 - p) / drawn.numel()) ** 0.5
    assert (drawn == 0).float().mean().item() == pytest.approx(p, abs=4 * deviation)
    assert sorted(drawn.unique().tolist()) == pytest.approx([0.0, 1 / (1 - p)], abs=1e-3)


def test_a_mask_depends_on_seed_step_turn_and_rank_and_on_nothing_else() -> None:
    torch.manual_seed(5)
    first = mask()
    torch.manual_seed(6)
    assert torch.equal(first, mask())
    for other in (mask(seed=9), mask(step=9), mask(turn=9), mask(rank=9)):
        assert not torch.equal(first, other)


def test_the_masks_of_a_step_differ_from_each_other() -> None:
    masks = StepDropout(1)
    masks.start(0, 0, 0)
    assert not torch.equal(masks.mask(ZEROS, 0.1), masks.mask(ZEROS, 0.1))


def test_neighbours_are_dropped_independently_of_each_other() -> None:
    dropped = (mask(p=0.5).flatten() == 0).float()
    for distance in (1, 2, 3, 4, 5):
        both = (dropped[distance:] * dropped[:-distance]).mean().item()
        assert both == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / dropped.numel()) ** 0.5)


def test_nothing_and_all_can_be_dropped() -> None:
    assert torch.equal(mask(p=1e-9), torch.ones_like(ZEROS))
    assert torch.equal(mask(p=1.0), ZEROS)


def test_a_training_model_drops_by_the_masks_and_another_step_drops_otherwise() -> None:
    model = hf.BertForSequenceClassification(TINY)
    masks = draw_by_step(model, seed=1)
    dropped = []
    for step in (0, 0, 1):
        masks.start(step, 0, 0)
        dropped.append(model.train().dropout(torch.ones(50, 8)))
    masks.start(0, 0, 0)
    assert torch.equal(dropped[0], masks.mask(torch.ones(50, 8), model.dropout.p))
    assert torch.equal(dropped[0], dropped[1])
    assert not torch.equal(dropped[0], dropped[2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_mask_has_the_dtype_of_what_it_masks(dtype: torch.dtype) -> None:
    masks = StepDropout(1)
    masks.start(0, 0, 0)
    assert masks.mask(ZEROS.to(dtype), 0.1).dtype == dtype


def load(family: str, folder: Path) -> Any:
    make = FAMILIES[family][0] if family in FAMILIES else lambda folder: gpt2(folder, "<pad>", 1)
    return hf.AutoModelForSequenceClassification.from_pretrained(make(folder))


@pytest.mark.parametrize("family", [*FAMILIES, "gpt2"])
def test_a_model_that_drops_nothing_computes_what_it_always_computes(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = load(family, tmp_path)
    inputs = {"input_ids": torch.randint(5, 60, (4, 20)), "attention_mask": torch.ones(4, 20, dtype=torch.int64)}
    inputs["attention_mask"][1, 12:] = 0
    inputs["input_ids"][1, 12:] = model.config.pad_token_id
    with torch.no_grad():
        expected = model.eval()(**inputs).logits
        masks = draw_by_step(model, seed=1)
        masks.start(0, 0, 0)
        monkeypatch.setattr(StepDropout, "mask", lambda self, like, p: torch.ones_like(like))
        torch.testing.assert_close(model.train()(**inputs).logits, expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_dropout_is_left_to_the_global_generator(family: str, tmp_path: Path) -> None:
    model = load(family, tmp_path).train()
    masks = draw_by_step(model, seed=1)
    inputs = {"input_ids": torch.randint(5, 60, (4, 20))}
    logits = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        masks.start(0, 0, 0)
        logits.append(model(**inputs).logits)
    assert torch.equal(*logits)
    assert not any(isinstance(module, nn.Dropout) for module in model.modules())


def test_a_saved_config_does_not_name_an_attention_of_ours(tmp_path: Path) -> None:
    model = hf.BertForSequenceClassification(TINY)
    draw_by_step(model, seed=1)
    assert model.config._attn_implementation == NAME
    model.save_pretrained(tmp_path)
    assert NAME not in (tmp_path / "config.json").read_text(encoding="utf-8")
