"""Checkpoints and tables that mean harm: one line, no memory for sizes that cannot be, no program of theirs."""

import json
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from safetensors.torch import load_file, save_file

from stages.download.checkpoint import fetch_checkpoint
from stages.download.headers import INDEX, WEIGHTS
from stages.download.readers import MAX_LINE_BYTES, read_rows
from stages.download.source import Labelling
from stages.shared.model.loading import load_classifier
from stages.shared.runtime.errors import BadInput
from stages.shared.task.task import Task
from stages.tokenize.checkpoint import load_tokenizer
from stages.train.model import load_pretrained
from tests.test_headers import Change, config, content, index, shard

ROOT = Path(__file__).parents[1]
LABELLING = Labelling("single_label_classification", "a", "b", "y", None)
TASK = Task("files", "single_label_classification", ["no", "yes"], ["accuracy"], "files", "0")
KERNEL = "kernels-community/flash-attn2"
DEEP = "[" * 100_000


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint, to be spoilt."""
    return shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")


def fetch(folder: Path) -> str:
    """Returns the message that refuses a local checkpoint, or nothing."""
    target = folder.with_name("fetched")
    try:
        fetch_checkpoint("files", folder, None, target, 60.0)
    except BadInput as error:
        return str(error)
    return ""


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Lets this process grow by a gigabyte, and no more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**30, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


def changed(**values: Any) -> Change:
    """Sets keys of config.json, whatever the values."""

    def change(folder: Path) -> None:
        stored = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(stored | values))

    return change


SPOILT: dict[str, tuple[Change, str]] = {
    "a billion layers": (config(num_hidden_layers=10**9), "num_hidden_layers is 1000000000"),
    "a billion heads": (config(model_type="distilbert", n_layers=10**9), "n_layers is 1000000000, more than"),
    "a billion groups": (config(model_type="albert", num_hidden_groups=10**9), "num_hidden_groups is 1000000000"),
    "a billion blocks in a list": (config(model_type="funnel", block_sizes=[4, 10**9]), "block_sizes is 1000000000"),
    "a wide layer of another name": (config(model_type="distilbert", hidden_dim=10**9), "hidden_dim is 1000000000"),
    "a wide model of another name": (config(model_type="distilbert", dim=2 * 10**9), "dim is 2000000000, more than"),
    "a billion positions": (config(model_type="distilbert", max_position_embeddings=10**9), "max_position_embeddings"),
    "a billion labels": (config(num_labels=10**9), "num_labels is 1000000000"),
    "a number of seventy bits": (config(seventy=2**70), "seventy is 1180591620717411303424, more than"),
    "a size in another object": (config(text_config={"num_hidden_layers": 10**9}), "num_hidden_layers is 1000000000"),
    "a number of five thousand digits": (content("config.json", b'{"a": ' + b"9" * 5000 + b"}"), "not valid JSON"),
    "a list for a size": (changed(hidden_size=[32]), r"hidden_size: expected a whole number above 0, got \[32\]"),
    "an object for a size": (changed(vocab_size={"a": 1}), "vocab_size: expected a whole number above 0, got"),
    "labels in a list": (changed(id2label=["a", "b"]), "id2label: expected an object with a name for each number"),
    "labels in a text": (changed(label2id="a"), "label2id: expected an object with a number for each name"),
    "a problem that is a number": (changed(problem_type=7), "problem_type: expected a text, got 7"),
    "architectures in a text": (changed(architectures="Bert"), "architectures: expected a list of names"),
    "a type in a list": (changed(model_type=["bert"]), "no model_type, which says what the model is"),
    "deep JSON": (content("config.json", f'{{"model_type": {DEEP}'.encode()), "config.json: not valid JSON"),
    "a text that is no UTF-8": (content("config.json", b"\xff\xfe{"), "config.json: not valid JSON"),
    "quantization in another object": (config(text_config={"quantization_config": {"bits": 4}}), "quantization_config"),
    "an index that leads up": (index(lambda shards: dict.fromkeys(shards, "../x.safetensors")), "is outside the"),
    "an index that names ..": (index(lambda shards: dict.fromkeys(shards, "..")), "is outside the checkpoint"),
    "an index that names a path": (index(lambda shards: dict.fromkeys(shards, "/etc/decoy")), "is outside the"),
    "an index that names nothing": (index(lambda shards: dict.fromkeys(shards, "")), "which is not there"),
    "an index of a long name": (index(lambda shards: dict.fromkeys(shards, "x" * 5000)), "which is not there"),
    "an index of a NUL": (index(lambda shards: dict.fromkeys(shards, "a\0b")), "which is not there"),
    "an index of half a character": (index(lambda shards: dict.fromkeys(shards, "\ud800")), "which is not there"),
    "an index in a list": (index(lambda shards: list(shards.items())), "weight_map: expected the name of a file"),
    "an index of numbers": (index(lambda shards: dict.fromkeys(shards, 7)), "weight_map: expected the name of a file"),
    "an index of nothing": (index(lambda shards: {}), "no tensors in its safetensors"),
}


def deep_index(folder: Path) -> None:
    shard(folder)
    (folder / INDEX).write_text(f'{{"weight_map": {DEEP}')


def large_index(folder: Path) -> None:
    shard(folder)
    with (folder / INDEX).open("ab") as stream:
        stream.truncate(2**25 + 1)


SPOILT["a deep index"] = (deep_index, "index.json: not valid JSON")
SPOILT["a large index"] = (large_index, "index.json: more than 32 MiB")


@pytest.mark.parametrize("case", SPOILT)
def test_a_checkpoint_that_cannot_be_is_refused_in_a_line(case: str, folder: Path, little_memory: None) -> None:
    spoil, message = SPOILT[case]
    spoil(folder)
    line = fetch(folder)
    assert re.search(message, line) and len(line) < 2000, line


@pytest.mark.parametrize(
    "values",
    [
        {"max_position_embeddings": 10**6, "model_type": "modernbert", "position_table": None},
        {"num_labels": 100_000},
        {"initializer_range": 1e9, "layer_norm_eps": 0},
        {"image_size": 10**6, "chunk_size_feed_forward": 10**6},
    ],
    ids=["computed positions", "many labels", "other numbers", "no widths"],
)
def test_a_size_that_can_be_is_left_to_train(values: dict[str, Any], folder: Path) -> None:
    if "position_table" in values:
        stored = load_file(folder / WEIGHTS)
        save_file({name: tensor for name, tensor in stored.items() if "position" not in name}, folder / WEIGHTS)
    changed(**values)(folder)
    assert fetch(folder) == ""


ODD: list[Any] = [None, True, -1, 0, 7, 1.5, 10**6, "", "x", [], [1], {}, {"a": 1}, "\ud800"]


@pytest.mark.slow
def test_whatever_config_json_says_each_stage_runs_or_says_a_line(folder: Path) -> None:
    """Every key with every odd value: what download lets pass, tokenize and train load or refuse."""
    stored = json.loads((folder / "config.json").read_text())
    passed = 0
    for number, key in enumerate([*stored, "id2label", "tokenizer_class", "quantization_config", "is_decoder"]):
        for value in ODD[number % 3 :: 3]:
            (folder / "config.json").write_text(json.dumps(stored | {key: value}))
            shutil.rmtree(folder.with_name("fetched"), ignore_errors=True)
            if fetch(folder):
                continue
            passed += 1
            for load in (lambda: load_tokenizer(folder, 16), lambda: load_pretrained(folder, TASK, 1)):
                try:
                    load()
                except BadInput as error:
                    assert len(str(error)) < 2000
    assert passed > 30


@pytest.mark.slow
@pytest.mark.parametrize("file", ["tokenizer_config.json", "tokenizer.json", "special_tokens_map.json"])
def test_whatever_the_tokenizers_files_say_tokenize_runs_or_says_a_line(file: str, folder: Path) -> None:
    path = folder / file
    stored = json.loads(path.read_text()) if path.exists() else {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    for number, key in enumerate([*stored, "auto_map", "tokenizer_class", "chat_template", "extra_special_tokens"]):
        for value in ODD[number % 3 :: 3]:
            path.write_text(json.dumps(stored | {key: value}))
            try:
                load_tokenizer(folder, 16)
            except BadInput as error:
                assert len(str(error)) < 2000


@pytest.mark.parametrize(
    "key", ["attn_implementation", "_attn_implementation", "_attn_implementation_internal", "experts_implementation"]
)
@pytest.mark.parametrize("value", [KERNEL, "flash_attention_2", {"": KERNEL}, "eager", 7], ids=str)
def test_attention_is_ours_to_choose(key: str, value: Any, folder: Path) -> None:
    changed(**{key: value})(folder)
    assert fetch(folder) == ""
    load_tokenizer(folder, 16)
    model, _ = load_pretrained(folder, TASK, 1)
    assert model.config._attn_implementation == "sdpa"
    model.save_pretrained(folder.with_name("saved"))
    assert KERNEL not in (folder.with_name("saved") / "config.json").read_text()
    model, _ = load_classifier(folder.with_name("saved"))
    assert model.config._attn_implementation == "sdpa"


# Tables


def test_a_line_of_gigabytes_is_refused_without_taking_the_memory(tmp_path: Path, little_memory: None) -> None:
    for name, head in (("train.jsonl", b'{"a": "'), ("train.csv", b"a,b,y\n"), ("train.tsv", b"a\tb\ty\n")):
        file = tmp_path / name
        with file.open("wb") as stream:
            stream.write(head)
            stream.truncate(2**32)  # zeros, none of which is on the disk
        with pytest.raises(BadInput) as raised:
            list(read_rows(file, "train", LABELLING))
        assert len(str(raised.value).splitlines()) == 1 and len(str(raised.value)) < 500, raised.value


def test_a_long_line_that_can_be_is_read(tmp_path: Path) -> None:
    row = {"a": "x" * (MAX_LINE_BYTES // 2), "b": "y", "y": 1}
    (tmp_path / "train.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row))
    batches = list(read_rows(tmp_path / "train.jsonl", "train", LABELLING))
    assert sum(len(batch) for batch in batches) == 2


@pytest.mark.parametrize("line", [DEEP, '{"a": ' + DEEP, "9" * 5000, "\x1b[2J", '{"a": "\\ud800", "b": "", "y": 1}'])
def test_an_odd_line_is_refused(line: str, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(f"{line}\n")
    with pytest.raises(BadInput):
        list(read_rows(tmp_path / "train.jsonl", "train", LABELLING))


@pytest.mark.parametrize(
    "stored", [b"{", b"[]", b"{}", b'{"info": 7}', b'{"info": {"features": {"y": {"_type": "Nobodys"}}}}', b"\xff"]
)
def test_a_schema_that_datasets_never_wrote_is_refused_or_without_names(stored: bytes, tmp_path: Path) -> None:
    table = pa.table({"a": ["x"], "b": ["y"], "y": [1]}).replace_schema_metadata({b"huggingface": stored})
    pyarrow.parquet.write_table(table, tmp_path / "train.parquet")
    try:
        assert len(list(read_rows(tmp_path / "train.parquet", "train", LABELLING))) == 1
    except BadInput as error:
        assert "what `datasets` stored in its schema cannot be read" in str(error)


def test_the_program_says_one_line_whatever_stands_in_it() -> None:
    evil = "\x1b[2J\u202eliar\nall is well"
    code = f"""
import stages
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.run_stage import program
from stages.shared.runtime.terminal import warn
with program("download"):
    warn({evil!r})
    raise BadInput({evil!r})
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    shown = "\\x1b[2J\\u202eliar\\nall is well"
    assert done.stderr == f"{shown}\ndownload: {shown}\n"
