"""Splits on disk: what `datasets` reads, in bytes that depend on the rows alone."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value, concatenate_datasets, load_from_disk

from stages.shared.runtime.splits import add_split, load_splits, save_splits, stream_rows

ROWS = 2500  # two batches and a half
FEATURES = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})


@pytest.fixture
def rows() -> Dataset:
    return Dataset.from_dict({"text": [f"text {row}" for row in range(ROWS)], "label": [0, 1] * (ROWS // 2)}, FEATURES)


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_what_is_saved_is_what_datasets_reads(rows: Dataset, tmp_path: Path) -> None:
    save_splits({"validation": rows.select([3, 1]), "train": rows}, tmp_path)
    loaded = load_from_disk(tmp_path)
    assert isinstance(loaded, DatasetDict)
    assert list(loaded) == list(load_splits(tmp_path)) == ["validation", "train"]
    assert loaded["train"].features == FEATURES
    assert loaded["train"].to_dict() == rows.to_dict()
    assert loaded["validation"]["text"] == ["text 3", "text 1"]
    assert str(loaded["train"].split) == "train"


def test_the_metadata_are_those_that_datasets_itself_writes(rows: Dataset, tmp_path: Path) -> None:
    save_splits({"train": rows}, tmp_path / "ours")
    DatasetDict(train=rows).save_to_disk(tmp_path / "theirs", num_shards={"train": 1})
    ours, theirs = content(tmp_path / "ours"), content(tmp_path / "theirs")
    state, expected = (json.loads(files.pop("train/state.json")) for files in (ours, theirs))
    for files in (ours, theirs):
        files.pop("train/data-00000-of-00001.arrow")
    assert ours == theirs
    own = {"_fingerprint": state["_fingerprint"], "_split": "train"}
    assert state == expected | own


def test_the_bytes_do_not_depend_on_how_the_rows_lie_in_memory(rows: Dataset, tmp_path: Path) -> None:
    save_splits({"train": rows}, tmp_path / "whole")
    pieces = concatenate_datasets([rows.select(range(start, start + 500)) for start in range(0, ROWS, 500)])
    save_splits({"train": pieces}, tmp_path / "pieces")
    save_splits({"train": rows.select(range(ROWS - 1, -1, -1)).select(range(ROWS - 1, -1, -1))}, tmp_path / "indices")
    with add_split(tmp_path / "streamed", "train", FEATURES) as write:
        for batch in stream_rows(tmp_path / "whole", "train"):
            write(pa.Table.from_batches([batch]))
    assert content(tmp_path / "whole") == content(tmp_path / "pieces") == content(tmp_path / "indices")
    assert content(tmp_path / "whole") == content(tmp_path / "streamed")


def test_the_fingerprint_tells_rows_apart(rows: Dataset, tmp_path: Path) -> None:
    save_splits({"train": rows, "same": rows, "test": rows.select(range(ROWS - 1))}, tmp_path)
    states = {name: json.loads((tmp_path / name / "state.json").read_text()) for name in ("train", "same", "test")}
    assert states["train"]["_fingerprint"] == states["same"]["_fingerprint"] != states["test"]["_fingerprint"]
    assert [states[name]["_split"] for name in states] == ["train", "same", "test"]


def test_rows_are_read_in_batches(rows: Dataset, tmp_path: Path) -> None:
    save_splits({"train": rows}, tmp_path)
    batches = list(stream_rows(tmp_path, "train"))
    assert [batch.num_rows for batch in batches] == [1000, 1000, 500]
    assert pa.Table.from_batches(batches)["text"].to_pylist() == rows["text"]
