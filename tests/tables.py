"""Small tables in every format that `download` reads, and the parameters that it reads them with."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from stages.download.download import DownloadParams

PAIRS = [
    ("A dog ran.", "A dog was running.", 1),
    ("It cost 5 euros.", "It cost 6 euros.", 0),
    ('She said "no, thanks", and left.', "NA", 0),
    ("null", "Größe, 北京, 🙂", 1),
]
ROWS = [(f"text {number}", f"pair {number}", number % 2) for number in range(12)]
MULTI = {"problem_type": "multi_label_classification", "label_names": None, "metrics": ["f1_micro"]}


def params(checkpoint_folder: Path, folder: Path, /, **changes: Any) -> DownloadParams:
    """Parameters for the files in `folder`, whose columns are called a, b and y."""
    values: dict[str, Any] = {
        "dataset": "files",
        "dataset_files": str(folder),
        "split_files": None,
        "dataset_revision": None,
        "checkpoint": "files",
        "checkpoint_files": str(checkpoint_folder),
        "checkpoint_revision": None,
        "problem_type": "single_label_classification",
        "text_column": "a",
        "text_pair_column": "b",
        "label_column": "y",
        "label_names": ["no", "yes"],
        "label_delimiter": None,
        "label_aliases": None,
        "group_column": None,
        "id_column": None,
        "keep_columns": [],
        "metrics": ["accuracy"],
        "validation_fraction": None,
        "test_fraction": None,
        "fold": None,
        "train_fraction": None,
        "split_seed": 0,
        "on_leakage": "warn",
        "on_empty": "error",
        "on_unlabelled": "error",
    }
    return DownloadParams(**(values | changes))


def write_csv(file: Path, rows: list[Any], header: tuple[str, ...] = ("a", "b", "y")) -> None:
    file.parent.mkdir(exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])


def write_tsv(file: Path, rows: list[Any]) -> None:
    lines = ["\t".join(map(str, row)) for row in [("a", "b", "y"), *rows]]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_jsonl(file: Path, rows: list[Any]) -> None:
    lines = [json.dumps(dict(zip("aby", row, strict=True)), ensure_ascii=False) for row in rows]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def table(rows: list[Any]) -> pa.Table:
    return pa.table(dict(zip("aby", map(list, zip(*rows, strict=True)), strict=True)))


def write_parquet(file: Path, rows: list[Any]) -> None:
    pyarrow.parquet.write_table(table(rows), file, row_group_size=3)


def read_facts(tmp_path: Path) -> dict[str, Any]:
    """Reads metrics/data.json as the fixture `run_download` has it written."""
    return dict(json.loads((tmp_path / "data.json").read_text()))


def lay_shards(folder: Path) -> None:
    """Writes ROWS as train in three shards, and PAIRS as validation."""
    for number in range(3):
        write_csv(folder / f"train-{number:05}-of-00003.csv", ROWS[4 * number : 4 * number + 4])
    write_csv(folder / "validation.csv", PAIRS)


def lay_folders(folder: Path) -> None:
    """Writes ROWS as a folder of three files, and PAIRS as one of another format."""
    (folder / "train").mkdir()
    for number in range(3):
        write_parquet(folder / "train" / f"part{number}.parquet", ROWS[4 * number : 4 * number + 4])
    (folder / "train" / "notes.txt").write_text("not a table")
    (folder / "validation").mkdir()
    write_jsonl(folder / "validation" / "all.jsonl", PAIRS)
