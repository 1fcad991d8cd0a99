"""A split may lie in many files, or be what this stage wrote."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.shared.runtime.errors import BadInput
from tests.tables import MULTI, ROWS, lay_folders, write_csv, write_jsonl, write_parquet


def test_one_file_is_the_train_split(run_download: Callable[..., Any], tmp_path: Path) -> None:
    write_csv(tmp_path / "reviews.csv", ROWS)
    splits = run_download(dataset_files=str(tmp_path / "reviews.csv"), validation_fraction=0.5)
    assert {name: len(split) for name, split in splits.items()} == {"train": 6, "validation": 6}
    with pytest.raises(BadInput, match=r"split_files: .*reviews.csv is one file; name its folder, or set it to null"):
        run_download(dataset_files=str(tmp_path / "reviews.csv"), split_files={"train": "*.csv"})


def test_shards_with_other_columns_are_refused(run_download: Callable[..., Any], tmp_path: Path) -> None:
    lay_folders(tmp_path / "data")
    write_parquet(tmp_path / "data" / "train" / "part2.parquet", [("x", "y", "no")])
    with pytest.raises(BadInput, match=r"part2.parquet: its columns are .*y \(string\), but .*y \(int64\) in"):
        run_download()


@pytest.mark.parametrize("kind", ["classes", "sets"])
def test_what_download_wrote_can_be_read_again(kind: str, run_download: Callable[..., Any], tmp_path: Path) -> None:
    """data/raw as somebody's dataset_files; the test split has no labels."""
    labels = {"classes": ["10", "9", "10"], "sets": [["b", "c"], [], ["a", "b"]]}[kind]
    for split in ("train", "validation"):
        write_jsonl(tmp_path / "data" / f"{split}.jsonl", [(f"t{n}", split, y) for n, y in enumerate(labels)])
    write_jsonl(tmp_path / "data" / "test.jsonl", [("t", "u", None)])
    changes = MULTI if kind == "sets" else {"label_names": None}
    first = run_download(**changes)
    (tmp_path / "raw").rename(tmp_path / "written")
    names = {"text_column": "text", "text_pair_column": "text_pair", "label_column": "label"}
    if kind == "sets":
        with pytest.raises(BadInput, match="3 entries, each 0 or 1; give the names of these 3 labels"):
            run_download(**changes, **names, dataset_files=str(tmp_path / "written"))
        changes = changes | {"label_names": ["a", "b", "c"]}
    second = run_download(**changes, **names, dataset_files=str(tmp_path / "written"))
    for split in ("train", "validation", "test"):
        assert first[split].to_dict() == second[split].to_dict()
        assert first[split].features == second[split].features
