"""Files are found by their names or patterns, each for one split."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from stages.shared.runtime.errors import BadInput
from tests.tables import PAIRS, ROWS, lay_folders, lay_shards, write_csv, write_jsonl, write_parquet


def test_a_split_in_two_files_is_refused(run_download: Callable[..., Any], tmp_path: Path) -> None:
    write_csv(tmp_path / "data" / "train.csv", PAIRS)
    write_jsonl(tmp_path / "data" / "train.jsonl", PAIRS)
    with pytest.raises(BadInput, match=r"train.csv and train.jsonl are both the train split; keep one"):
        run_download()


def lay_hidden(folder: Path) -> None:
    lay_folders(folder)
    for hidden in (
        ".ipynb_checkpoints/part9.parquet",
        "train/.ipynb_checkpoints/part9.parquet",
        "train/._part9.parquet",
    ):
        (folder / hidden).parent.mkdir(exist_ok=True)
        write_parquet(folder / hidden, [("hidden", "row", 1)])


def lay_saved(folder: Path) -> None:
    columns = [dict(zip("aby", map(list, zip(*rows, strict=True)), strict=True)) for rows in (ROWS, PAIRS)]
    saved = DatasetDict({"train": Dataset.from_dict(columns[0]), "validation": Dataset.from_dict(columns[1])})
    saved.save_to_disk(folder, num_shards={"train": 3, "validation": 1})
    (folder / "train" / "cache-0123.arrow").write_bytes(b"what map leaves there")


LAYOUTS: dict[str, tuple[Callable[[Path], None], dict[str, str] | None]] = {
    "shards named as the Hub names them": (lay_shards, None),
    "a folder for each split": (lay_folders, None),
    "beside hidden files": (lay_hidden, None),
    "a pattern beside hidden files": (lay_hidden, {"train": "**/part?.parquet", "validation": "**/*.jsonl"}),
    "a pattern and a hidden file of its own": (lay_hidden, {"train": "train/*.parquet", "validation": "**/*.jsonl"}),
    "saved by datasets": (lay_saved, None),
    "a pattern for each split": (lay_shards, {"validation": "val*.csv", "train": "train-*"}),
    "a pattern across folders": (lay_folders, {"train": "**/part?.parquet", "validation": "**/all.jsonl"}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_split_may_have_many_files(layout: str, run_download: Callable[..., Any], tmp_path: Path) -> None:
    lay, split_files = LAYOUTS[layout]
    lay(tmp_path / "data")
    splits = run_download(split_files=split_files)
    train = splits["train"]
    assert list(zip(train["text"], train["text_pair"], train["label"], strict=True)) == ROWS
    assert train["idx"] == list(range(12))
    assert list(splits) == ["train", "validation"] and len(splits["validation"]) == len(PAIRS)


def test_other_folders_and_files_are_left_alone(run_download: Callable[..., Any], tmp_path: Path) -> None:
    lay_shards(tmp_path / "data")
    (tmp_path / "data" / "train_logs").mkdir()
    write_csv(tmp_path / "data" / "notes.csv", [])
    write_csv(tmp_path / "data" / "train.old.csv", [])
    assert len(run_download()["train"]) == len(ROWS)


@pytest.mark.parametrize(
    ("names", "split_files", "message"),
    [
        (
            ["a.csv", "b.csv"],
            {"train": "a.csv", "validation": "c*.csv"},
            r"split_files: validation: no file in .* 'c\*",
        ),
        (
            ["a.csv", "b.csv"],
            {"train": "*.csv", "validation": "b.csv"},
            r"validation: .*b.csv is in the train split too",
        ),
        (
            ["a.csv"],
            {"train": "../data/a.csv"},
            r"split_files: train: expected a pattern inside download.dataset_files",
        ),
        (["a.csv"], {"train": "**.csv"}, r"split_files: train: '\*\*.csv' is not a valid pattern: Invalid pattern"),
        ([".a.csv"], {"train": "*.csv"}, r"split_files: train: no file in .* matches '\*.csv'"),
        (["a.csv"], {"training": "a.csv"}, r"split_files: training: a split is train, validation or test"),
        (["a.csv", "b.csv"], {"validation": "b.csv"}, r"no train.csv.* set download.split_files"),
        (["a.txt"], {"train": "a.txt"}, r"a.txt: unknown format; expected csv\|tsv\|jsonl\|parquet\|arrow"),
        (["train_1.csv", "validation.csv"], None, r"train_1.csv: there is one train split; name its files train-00000"),
        (
            ["train-0-of-2.csv", "validation.csv"],
            None,
            r"only 1 of 2 files train-\*-of-2.csv are there; add the others",
        ),
        (["train.csv", "train-0-of-1.csv"], None, r"train-\*-of-1.csv and train.csv are both the train split"),
        (["a.csv", "b.tsv"], {"train": "*"}, r"the train split has files of several formats; convert them to one"),
    ],
)
def test_files_that_belong_to_no_split_or_to_two_are_refused(
    names: list[str], split_files: dict[str, str] | None, message: str, run_download: Callable[..., Any], tmp_path: Path
) -> None:
    for name in names:
        write_csv(tmp_path / "data" / name, PAIRS)
    with pytest.raises(BadInput, match=message):
        run_download(split_files=split_files)


def test_splits_come_in_one_order_whatever_the_source_has(run_download: Callable[..., Any], tmp_path: Path) -> None:
    write_csv(tmp_path / "data" / "train.csv", ROWS)
    write_csv(tmp_path / "data" / "test.csv", PAIRS)
    assert list(run_download(validation_fraction=0.5)) == ["train", "validation", "test"]
