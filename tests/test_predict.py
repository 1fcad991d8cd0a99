"""predict's batches are the rows that they name, padded as the tokenizer pads them."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from stages.predict.linear import PackedLinear, supported
from stages.predict.predict import write_ids
from stages.shared.model.batches import PaddedRows, batches
from stages.shared.model.speed_up import replace_modules
from stages.shared.runtime import splits
from tests.test_architectures import FAMILIES, gpt2


@pytest.fixture
def split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """Three record batches, of 5, 5 and 3 rows of 1 to 12 tokens."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 13, size=13)
    ids = [generator.integers(5, 60, size=length).tolist() for length in lengths]
    types = [[place % 2 for place in range(length)] for length in lengths]
    monkeypatch.setattr(splits, "BATCH", 5)
    rows = Dataset.from_dict({"input_ids": ids, "token_type_ids": types, "length": lengths})
    splits.save_splits({"validation": rows}, tmp_path)
    found = splits.load_splits(tmp_path)["validation"]
    assert found.data.table["input_ids"].num_chunks == 3
    return found


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("rows", [[0], [12, 5, 0, 7], list(range(13))])
def test_rows_are_padded_as_the_tokenizer_pads_them(
    split: Dataset, side: str, rows: list[int], tiny_checkpoint: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_checkpoint, padding_side=side)
    tokenizer._pad_token_type_id = 3  # as XLNet's, which is not 0
    names = ["input_ids", "token_type_ids"]
    expected = tokenizer.pad(split.select_columns(names)[rows], return_tensors="pt")
    found = PaddedRows(split, tokenizer)[np.array(rows)]
    assert found.keys() == expected.keys()
    for name, values in found.items():
        assert torch.equal(values, expected[name]), name


def test_a_model_without_token_types_is_given_none(split: Dataset, tiny_checkpoint: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_checkpoint)
    rows = PaddedRows(split.select_columns(["input_ids", "length"]), tokenizer)
    assert set(rows[np.array([0, 1])]) == {"input_ids", "attention_mask"}


def test_batches_hold_every_row_once_and_keep_to_the_budget() -> None:
    lengths = np.random.default_rng(0).integers(1, 200, size=500)
    cut = list(batches(lengths, 256))
    assert sorted(np.concatenate(cut).tolist()) == list(range(500))
    assert all(len(rows) * lengths[rows].max() <= 256 for rows in cut)


def test_a_row_longer_than_the_budget_is_a_batch_of_its_own() -> None:
    assert [rows.tolist() for rows in batches(np.array([3, 9, 2]), 5)] == [[1], [0], [2]]


def pack(model: Any, dtype: torch.dtype) -> None:
    """Packs the linear layers, and leaves the attention as it is."""
    layer = partial(PackedLinear, tokens=64, dtype=dtype)
    replace_modules(model, {nn.Linear: layer} if supported(dtype) else {})


def model_and_inputs(family: str, tmp_path: Path) -> tuple[Any, dict[str, torch.Tensor]]:
    folder = FAMILIES[family][0](tmp_path) if family in FAMILIES else gpt2(tmp_path, "<pad>", 1)
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    inputs = {"input_ids": torch.randint(5, 60, (4, 20)), "attention_mask": torch.ones(4, 20, dtype=torch.int64)}
    return model, inputs


@pytest.mark.parametrize("family", [*FAMILIES, "gpt2"])
def test_packed_layers_compute_what_autocast_computes(family: str, tmp_path: Path) -> None:
    model, inputs = model_and_inputs(family, tmp_path)
    with torch.inference_mode():
        in_fp32 = model(**inputs).logits
        with torch.autocast("cpu", torch.bfloat16):
            in_bf16 = model(**inputs).logits
            pack(model, torch.bfloat16)
            torch.testing.assert_close(model(**inputs).logits, in_bf16, atol=0.002, rtol=0.01)
        assert torch.equal(model(**inputs).logits, in_fp32)


@pytest.mark.parametrize("family", [*FAMILIES, "gpt2"])
def test_packed_layers_of_fp32_compute_what_the_model_computes(family: str, tmp_path: Path) -> None:
    model, inputs = model_and_inputs(family, tmp_path)
    with torch.inference_mode():
        expected = model(**inputs).logits
        names = set(model.state_dict())
        pack(model, torch.float32)
        torch.testing.assert_close(model(**inputs).logits, expected)
    assert set(model.state_dict()) == names  # what is packed is no tensor of the model's


def test_a_packed_layer_is_within_the_rounding_of_bf16_for_any_number_of_rows() -> None:
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Linear(96, 48), nn.Linear(48, 7, bias=False))
    rows = [torch.randn(shape) for shape in ((1, 96), (3, 5, 96), (4000, 96))]
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        expected = [model(inputs) for inputs in rows]
        pack(model, torch.bfloat16)
        for inputs, logits in zip(rows, expected, strict=True):
            torch.testing.assert_close(model(inputs), logits)
    assert all(isinstance(layer, PackedLinear) == supported(torch.bfloat16) for layer in model)


def test_the_ids_of_rows_stand_beside_their_logits(tmp_path: Path) -> None:
    write_ids(tmp_path / "ids.csv", ["007", "=1+1", 'a "b", c', ""])
    assert (tmp_path / "ids.csv").read_bytes() == b'id\n007\n\'=1+1\n"a ""b"", c"\n""\n'
