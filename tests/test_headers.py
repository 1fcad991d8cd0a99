"""download: a checkpoint whose files are damaged, or do not fit its config.json, is refused without loading it."""

import json
import os
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from stages.download.checkpoint import fetch_checkpoint
from stages.download.headers import INDEX, WEIGHTS, text_classifiers
from stages.shared.runtime.errors import BadInput
from tests.hub import Files
from tests.repositories import PINNED_CHECKPOINT, Downloader, hub_of

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 133\n"
Change = Callable[[Path], None]


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint, to be damaged."""
    return shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")


def fetch(folder: Path) -> Path:
    target = folder.with_name("fetched")
    fetch_checkpoint("files", folder, None, target, 60.0)
    return target


def config(**values: Any) -> Change:
    """Sets keys of config.json; None takes them out."""

    def change(folder: Path) -> None:
        stored = json.loads((folder / "config.json").read_text()) | values
        stored = {key: value for key, value in stored.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(stored))

    return change


def content(name: str, data: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(data) and None


def tensors(edit: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Change:
    """Writes other weights."""
    return lambda folder: save_file(edit(load_file(folder / WEIGHTS)), folder / WEIGHTS)


def prefixed(prefix: str) -> Change:
    return tensors(lambda stored: {f"{prefix}{name}": tensor for name, tensor in stored.items()})


def cut(folder: Path) -> None:
    os.truncate(folder / WEIGHTS, (folder / WEIGHTS).stat().st_size - 1000)


def appended(folder: Path) -> None:
    with (folder / WEIGHTS).open("ab") as stream:
        stream.write(b"more")


def shard(folder: Path) -> None:
    """Writes the weights as several files and an index."""
    model = AutoModel.from_pretrained(folder, dtype=torch.float32)
    (folder / WEIGHTS).unlink()
    model.save_pretrained(folder, max_shard_size="30KB")


def index(edit: Callable[[dict[str, str]], Any]) -> Change:
    """Writes the weights as shards, and another `weight_map`."""

    def change(folder: Path) -> None:
        shard(folder)
        stored = json.loads((folder / INDEX).read_text())
        (folder / INDEX).write_text(json.dumps(stored | {"weight_map": edit(stored["weight_map"])}))

    return change


def without_a_shard(folder: Path) -> None:
    shard(folder)
    sorted(folder.glob("model-*"))[0].unlink()


def without_the_index(folder: Path) -> None:
    shard(folder)
    (folder / INDEX).unlink()


def only_an_adapter(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "adapter_model.safetensors")
    (folder / "config.json").rename(folder / "adapter_config.json")


def a_dangling_link(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to(folder / "blobs" / "gone")


def header(names: Any, data: bytes = b"") -> Change:
    """Writes a file of safetensors by hand."""
    text = json.dumps(names).encode()
    return content(WEIGHTS, struct.pack("<Q", len(text)) + text + data)


LORA = "encoder.layer.0.attention.self.query.lora_A.weight"
REFUSED: dict[str, tuple[Change, str]] = {
    "a Git LFS pointer": (
        content(WEIGHTS, POINTER),
        "checkpoint/model.safetensors: a pointer of Git LFS.*`git lfs pull`",
    ),
    "a tokenizer that is one": (content("tokenizer.json", POINTER), "checkpoint/tokenizer.json: a pointer of Git LFS"),
    "a config that is one": (content("config.json", POINTER), "checkpoint/config.json: a pointer of Git LFS"),
    "weights cut off": (cut, "checkpoint/model.safetensors: cut off, or not a safetensors file .*; download it again"),
    "weights with something behind": (appended, "model.safetensors: cut off, or not a safetensors file"),
    "an empty file": (content(WEIGHTS, b""), "model.safetensors: cut off, or not a safetensors file"),
    "a web page": (content(WEIGHTS, b"<!DOCTYPE html><html>Not found</html>"), "cut off, or not a safetensors file"),
    "a header that is no JSON": (
        content(WEIGHTS, struct.pack("<Q", 4) + b"{{{{"),
        "cut off, or not a safetensors file",
    ),
    "an unknown type": (
        header({"x": {"dtype": "Q4", "shape": [1], "data_offsets": [0, 1]}}, b"x"),
        "cut off, or not a safetensors file",
    ),
    "overlapping tensors": (
        header(
            {
                "x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
                "y": {"dtype": "F32", "shape": [1], "data_offsets": [2, 6]},
            },
            b"123456",
        ),
        "cut off, or not a safetensors file",
    ),
    "no tensor": (header({}), "no tensors in its safetensors"),
    "a link to nothing": (a_dangling_link, "model.safetensors: a link to a file that is not there"),
    "a shard that is missing": (
        without_a_shard,
        r"index.json: names model-00001-of-\d+.safetensors, which is not there",
    ),
    "shards without an index": (
        without_the_index,
        "neither model.safetensors nor model.safetensors.index.json, only model-",
    ),
    "a tensor that no shard has": (
        index(lambda shard_of: shard_of | {"x.weight": sorted(shard_of.values())[0]}),
        r"model-00001-of-\d+.safetensors: has no x.weight, although model.safetensors.index.json says so",
    ),
    "a shard elsewhere": (
        index(lambda shard_of: shard_of | {"x": "../outside.safetensors"}),
        r"index.json: '../outside.safetensors' is outside the checkpoint",
    ),
    "an index that is a list": (index(lambda shard_of: list(shard_of)), "weight_map: expected the name of a file"),
    "an index of numbers": (
        index(lambda shard_of: dict.fromkeys(shard_of, 1)),
        "weight_map: expected the name of a file",
    ),
    "a config that is a list": (content("config.json", b"[1]"), r"config.json: expected a JSON object, got \[1\]"),
    "a config that is text": (content("config.json", b'"bert"'), "config.json: expected a JSON object"),
    "a config in Latin-1": (content("config.json", '{"a": "ü"}'.encode("latin-1")), "config.json: not valid JSON"),
    "a config without model_type": (config(model_type=None), "config.json: no model_type"),
    "a model_type that is a number": (config(model_type=5), "config.json: no model_type"),
    "code of its own": (
        config(model_type="mine", auto_map={"AutoModel": "modeling_mine.MyModel"}),
        "config.json: model_type 'mine' needs the code that auto_map names, and downloaded code is never run",
    ),
    "an unknown model_type": (
        config(model_type="mine"),
        "config.json: transformers has no text classifier for model_type 'mine'",
    ),
    "a model_type without a classifier": (config(model_type="dpr"), "no text classifier for model_type 'dpr'"),
    "a model_type for images": (config(model_type="vit"), "no text classifier for model_type 'vit'"),
    "quantized weights": (
        config(quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}),
        "config.json: quantization_config: quantized weights cannot be trained",
    ),
    "whole numbers for weights": (
        tensors(lambda stored: stored | {"pooler.dense.weight": torch.zeros(32, 32, dtype=torch.int8)}),
        r"weights of type I8 \(pooler.dense.weight\) cannot be trained",
    ),
    "numbers of 8 bits": (
        tensors(lambda stored: {name: tensor.to(torch.float8_e4m3fn) for name, tensor in stored.items()}),
        "weights of type F8_E4M3",
    ),
    "a text for a number": (
        config(hidden_size="32"),
        'config.json: hidden_size: expected a whole number above 0, got "32"',
    ),
    "no vocabulary": (config(vocab_size=0), "config.json: vocab_size: expected a whole number above 0, got 0"),
    "more words than embeddings": (
        config(vocab_size=5000),
        r"config.json: vocab_size is 5000, but embeddings.word_embeddings.weight has the shape \[\d+, 32\], ",
    ),
    "another width": (config(hidden_size=64), "config.json: hidden_size is 64, but embeddings.word_embeddings.weight"),
    "a wider feed-forward": (
        config(intermediate_size=128),
        r"intermediate_size is 128, but encoder.layer.0.intermediate.dense.weight has the shape \[64, 32\]",
    ),
    "more positions": (
        config(max_position_embeddings=512),
        "max_position_embeddings is 512, but embeddings.position_embedd",
    ),
    "more types": (config(type_vocab_size=3), "type_vocab_size is 3, but embeddings.token_type_embeddings.weight"),
    "fewer layers": (config(num_hidden_layers=1), "num_hidden_layers is 1, but the weights have 2 layers"),
    "more layers": (config(num_hidden_layers=3), "num_hidden_layers is 3, but the weights have 2 layers"),
    "what DataParallel wraps": (prefixed("module."), "the name of every tensor begins with 'module.'"),
    "what torch.compile wraps": (prefixed("_orig_mod."), "the name of every tensor begins with '_orig_mod.'"),
    "what both wrap": (prefixed("_orig_mod.module."), "the name of every tensor begins with '_orig_mod.'"),
    "what peft wraps": (prefixed("base_model.model."), "the name of every tensor begins with 'base_model.model.'"),
    "an adapter": (only_an_adapter, "is only an adapter; merge it into its base model"),
    "an adapter that is not merged": (
        tensors(lambda stored: stored | {LORA: torch.zeros(4, 32)}),
        rf"has adapter weights beside those of a model \({LORA}\)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_checkpoint_that_its_files_betray_is_refused(case: str, folder: Path) -> None:
    change, message = REFUSED[case]
    change(folder)
    with pytest.raises(BadInput, match=message) as raised:
        fetch(folder)
    assert "\n" not in str(raised.value)


def old_names(stored: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.replace("LayerNorm.weight", "LayerNorm.gamma"): tensor for name, tensor in stored.items()}


ACCEPTED: dict[str, Change] = {
    "as it is": lambda _: None,
    "in shards": shard,
    "with the names of old": tensors(old_names),
    "in half precision": tensors(lambda stored: {name: tensor.bfloat16() for name, tensor in stored.items()}),
    "with the model's own prefix": prefixed("bert."),
    "with positions that are numbered": tensors(
        lambda stored: stored | {"embeddings.position_ids": torch.arange(128)[None]}
    ),
    "with code that is not needed": config(auto_map={"AutoModel": "modeling_mine.MyModel"}),
    "with an empty quantization": config(quantization_config={}),
    "without sizes, which then are the usual ones": config(vocab_size=None, intermediate_size=None),
    "with a folder that is called like a file": lambda folder: (folder / "words.model").mkdir(),
    "with shards left over beside the whole": lambda folder: (
        (folder / INDEX).write_text('{"weight_map": {"x": "gone"}}') and None
    ),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_a_checkpoint_that_may_be_whole_is_left_to_train(case: str, folder: Path) -> None:
    ACCEPTED[case](folder)
    taken = fetch(folder)
    assert all(file.read_bytes() == (folder / file.name).read_bytes() for file in taken.iterdir())


def test_the_types_are_those_of_transformers() -> None:
    assert set(text_classifiers()) == set(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES)


def test_a_checkpoint_in_a_package_is_looked_at_too(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "somebodys_model"
    shutil.copytree(folder, package / "model")
    (package / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    fetch_checkpoint("package:somebodys_model/model", tmp_path, None, tmp_path / "good", 60.0)
    cut(package / "model")
    with pytest.raises(BadInput, match=r"somebodys_model/model/model.safetensors: cut off"):
        fetch_checkpoint("package:somebodys_model/model", tmp_path, None, tmp_path / "bad", 60.0)


def test_a_checkpoint_of_the_hub_is_looked_at_too(
    download: Downloader, checkpoint_files: Files, tmp_path: Path
) -> None:
    stored = json.loads(checkpoint_files["config.json"])
    checkpoint_files["config.json"] = json.dumps(stored | {"vocab_size": 7}).encode()
    with hub_of(checkpoint=checkpoint_files) as hub:
        done = download(hub, **PINNED_CHECKPOINT)
    assert done.returncode == 1 and not (tmp_path / "models" / "pretrained").exists()
    (line,) = [line for line in done.stderr.splitlines() if "vocab_size" in line]
    assert line.startswith("download: checkpoint someone/model/config.json: vocab_size is 7, but ")
    assert "Traceback" not in done.stderr
