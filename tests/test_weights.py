"""Weights: restored exactly from a checkpoint, published exactly under the names that others read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.splits import load_splits
from stages.train.weights import load_weights, save_for_use, save_weights, tensors
from tests.test_architectures import logits_of
from tests.test_train import Run, content, interrupt
from tests.tiny import make_checkpoint, sample_pairs

SIZE: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "pad_token_id": 0,
}
ENDS: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2}
BART: dict[str, Any] = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
}
CONFIGS: dict[str, Callable[[], Any]] = {
    "albert": lambda: hf.AlbertConfig(embedding_size=8, **SIZE),  # its layers are one layer
    "bart": lambda: hf.BartConfig(vocab_size=50, pad_token_id=0, **BART, **ENDS),  # one embedding under three names
    "bert": lambda: hf.BertConfig(**SIZE),
    # in their files, query, key and value are one tensor: the three in memory are views of it
    "gte": lambda: hf.GteConfig(**SIZE),
    "nomic_bert": lambda: hf.NomicBertConfig(**SIZE),
    # in their files, each expert has tensors of its own
    "mixtral": lambda: hf.MixtralConfig(num_key_value_heads=1, num_local_experts=2, **SIZE, **ENDS),
    "esm": lambda: hf.EsmConfig(mask_token_id=3, **SIZE),  # renamed in the library
}


def rename(file: Path, renamed: Callable[[str], str]) -> None:
    """Gives the tensors of a safetensors file other names."""
    weights = {renamed(name): tensor.clone() for name, tensor in load_file(file).items()}
    save_file(weights, file, {"format": "pt"})


def old_name(name: str) -> str:
    """Returns the name that a tensor has in bert-base-uncased."""
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


def loaded(folder: Path) -> Any:
    return hf.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)


def trained(folder: Path, config: Any, renamed: Callable[[str], str] = str) -> Any:
    """Returns a model as train has it: read from a file, then changed in every tensor."""
    torch.manual_seed(0)
    hf.AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    rename(folder / "model.safetensors", renamed)
    model = loaded(folder)
    with torch.no_grad():
        for tensor in tensors(model).values():
            if tensor.is_floating_point():
                tensor.add_(torch.randn(tensor.shape))
    return model


def bits(model: Any) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("family", CONFIGS)
def test_every_tensor_of_a_family_comes_back_from_a_checkpoint_and_from_the_published_files(
    family: str, tmp_path: Path
) -> None:
    model = trained(tmp_path / "pretrained", CONFIGS[family]())
    before = bits(model)
    save_weights(model, tmp_path / "weights")
    save_for_use(model, tmp_path / "published")
    assert bits(loaded(tmp_path / "published")) == before
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.zero_()
    load_weights(model, tmp_path / "weights")
    assert bits(model) == before


def test_a_checkpoint_has_the_names_in_memory_and_the_published_files_those_of_the_pretrained_one(
    tmp_path: Path,
) -> None:
    model = trained(tmp_path / "pretrained", CONFIGS["bert"](), old_name)
    save_weights(model, tmp_path / "weights")
    save_for_use(model, tmp_path / "published")
    assert "bert.embeddings.LayerNorm.weight" in load_file(tmp_path / "weights")
    with safe_open(tmp_path / "published" / "model.safetensors", "pt") as published:
        assert "bert.embeddings.LayerNorm.gamma" in published.keys()  # noqa: SIM118  (it is no mapping)
    assert bits(loaded(tmp_path / "published")) == bits(model)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda weights: weights.pop("classifier.bias"), "classifier.bias"),
        (lambda weights: weights.update(extra=torch.zeros(1)), "extra"),
        (lambda weights: weights.update({"classifier.bias": torch.zeros(3)}), "classifier.bias"),
        (lambda weights: weights.update({"classifier.bias": torch.zeros(2).half()}), "classifier.bias"),
    ],
)
def test_weights_that_are_not_all_those_of_the_model_are_not_restored(
    change: Callable[[dict[str, torch.Tensor]], None], named: str, tmp_path: Path
) -> None:
    model = trained(tmp_path / "pretrained", CONFIGS["bert"]())
    save_weights(model, tmp_path / "weights")
    weights = {name: tensor.clone() for name, tensor in load_file(tmp_path / "weights").items()}
    change(weights)
    save_file(weights, tmp_path / "weights")
    with pytest.raises(RuntimeError, match=f"does not hold the tensors of this model; they differ in {named}$"):
        load_weights(model, tmp_path / "weights")


def test_a_model_that_the_library_does_not_read_as_it_writes_it_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = trained(tmp_path / "pretrained", CONFIGS["bert"]())
    save = type(model).save_pretrained

    def lose_a_tensor(self: Any, folder: Path) -> None:
        save(self, folder)
        rename(folder / "model.safetensors", lambda name: name.replace("pooler.dense.bias", "pooler.dense.shift"))

    monkeypatch.setattr(type(model), "save_pretrained", lose_a_tensor)
    with pytest.raises(BadInput, match=r"\(1 of 41 tensors, first bert\.pooler\.dense\.bias"):
        save_for_use(model, tmp_path / "published")


# The names of bert-base-uncased


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with the tiny checkpoint under old names, trained to the end in `whole`."""
    folder = tmp_path_factory.mktemp("old")
    checkpoint = make_checkpoint(folder / "checkpoint")
    rename(checkpoint / "model.safetensors", old_name)
    run = Run(folder, checkpoint, sample_pairs()[:48])
    run("whole", keep="best")
    return run


def test_a_checkpoint_with_old_names_trains_to_the_same_weights(
    old: Run, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    new = Run(tmp_path, tiny_checkpoint, sample_pairs()[:48])("out", keep="best")
    assert bits(loaded(old.folder / "whole" / "finetuned")) == bits(loaded(new / "finetuned"))


def test_an_interrupted_training_of_old_names_ends_with_the_same_bytes(
    old: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, 8)
        old("resumed", minutes=1e-9, keep="best")
    assert content(old("resumed", keep="best")) == content(old.folder / "whole")


def test_a_model_of_old_names_predicts_in_a_pipeline_what_it_predicts_here(old: Run) -> None:
    finetuned = old.folder / "whole" / "finetuned"
    logits = logits_of(old, finetuned.parent)
    classify = hf.pipeline("text-classification", str(finetuned), top_k=None, function_to_apply="none")
    for row, expected in zip(load_splits(old.folder / "raw")["validation"], logits, strict=True):
        answer = classify({"text": row["text"], "text_pair": row["text_pair"]}, truncation=True, max_length=48)
        scores = {one["label"]: one["score"] for one in answer}
        assert [scores["not_equivalent"], scores["equivalent"]] == pytest.approx(expected, abs=1e-5)
    assert len(np.unique(logits[:, 0])) > 1
