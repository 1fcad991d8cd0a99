"""Labels of each problem type become what a model learns, or are refused by name and row."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from stages.shared.runtime.errors import BadInput
from stages.shared.task.task import read_task
from tests.tables import MULTI, write_csv, write_jsonl


def test_label_names_are_learned_from_train_sorted(run_download: Callable[..., Any], tmp_path: Path) -> None:
    rows = [("x1", "y1", "red"), ("x2", "y2", "green"), ("x3", "y3", "blue")]
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", rows)
    splits = run_download(label_names=None)
    assert splits["train"].features["label"].names == ["blue", "green", "red"]
    assert splits["validation"]["label"] == [2, 1, 0]


def test_integer_labels_that_are_names_are_names(run_download: Callable[..., Any], tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", [("x", "y", 10), ("v", "w", 2), ("t", "u", 10)])
    splits = run_download(label_names=None)
    assert splits["train"].features["label"].names == ["2", "10"]
    assert splits["train"]["label"] == [1, 0, 1]


def test_a_regression_has_float_labels(run_download: Callable[..., Any], tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", [("x", "y", 0.5), ("v", "w", 2)])
    splits = run_download(problem_type="regression", metrics=["pearson"])
    assert splits["train"]["label"] == [0.5, 2.0]
    assert splits["train"].features["label"].dtype == "float32"


def test_multi_label_integers_are_positions_among_the_names(run_download: Callable[..., Any], tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write_jsonl(tmp_path / "data" / f"{split}.jsonl", [("x", "y", [1, 0]), ("v", "w", []), ("t", "u", [1])])
    splits = run_download(problem_type="multi_label_classification", label_names=["red", "blue"], metrics=["f1_micro"])
    assert splits["train"]["label"] == [[1.0, 1.0], [0.0, 0.0], [0.0, 1.0]]


def test_multi_label_lists_become_zeros_and_ones(run_download: Callable[..., Any], tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write_jsonl(tmp_path / "data" / f"{split}.jsonl", [("x", "y", ["b", "a"]), ("v", "w", []), ("t", "u", ["b"])])
    splits = run_download(problem_type="multi_label_classification", label_names=None, metrics=["f1_micro"])
    assert splits["train"]["label"] == [[1.0, 1.0], [0.0, 0.0], [0.0, 1.0]]
    assert read_task(tmp_path / "raw" / "task.json").label_names == ["a", "b"]


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
def test_labels_are_all_names_or_all_positions(case: str, run_download: Callable[..., Any], tmp_path: Path) -> None:
    names, written, expected = LABELS[case]
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", [(f"t{n}", f"{split} {n}", y) for n, y in enumerate(written)])
    assert run_download(label_names=names)["train"]["label"] == expected


def test_names_and_positions_are_never_mixed(run_download: Callable[..., Any], tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", [(f"t{n}", split, n) for n in (1, 2, 3, 0)])
    with pytest.raises(
        BadInput, match=r"train.csv: row 4: label 0 is not among download.label_names \['1', '2', '3'\]"
    ):
        run_download(label_names=["1", "2", "3"])


def test_a_regression_may_have_negative_labels(run_download: Callable[..., Any], tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", [(f"t{n}", split, n) for n in (-2, -1, 0, 3)])
    assert run_download(problem_type="regression", metrics=["pearson"])["train"]["label"] == [-2.0, -1.0, 0.0, 3.0]


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
    rows: list[Any], changes: dict[str, Any], message: str, run_download: Callable[..., Any], tmp_path: Path
) -> None:
    for split in ("train", "validation"):
        write_jsonl(tmp_path / "data" / f"{split}.jsonl", rows)
    with pytest.raises(BadInput, match=message):
        run_download(**({"label_names": None, "metrics": ["accuracy"]} | changes))


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
    lists: list[Any], names: list[str], expected: list[Any], run_download: Callable[..., Any], tmp_path: Path
) -> None:
    for split in ("train", "validation"):
        write_jsonl(tmp_path / "data" / f"{split}.jsonl", [(f"t{n}", split, y) for n, y in enumerate(lists)])
    assert run_download(**(MULTI | {"label_names": names}))["train"]["label"] == expected


def test_one_split_of_labels_makes_all_splits_labels(run_download: Callable[..., Any], tmp_path: Path) -> None:
    write_jsonl(tmp_path / "data" / "train.jsonl", [("x", "y", [0, 1]), ("v", "w", [1])])
    write_jsonl(tmp_path / "data" / "validation.jsonl", [("x", "z", [1, 0])])
    splits = run_download(**(MULTI | {"label_names": ["red", "blue"]}))
    assert splits["validation"]["label"] == [[1, 1]]


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ([["a"], ["b", "a", "b"]], r"row 2: label 'b' is in the list twice; name each label once"),
        ([[0, 1, 0], [1, 0, 2]], r"row 1: label '0' is in the list twice"),
        ([[0, 1, 0], [1, 0, 1]], r"3 entries, each 0 or 1; give the names of these 3 labels, in their order"),
    ],
)
def test_a_label_twice_in_a_row_is_refused(
    lists: list[Any], message: str, run_download: Callable[..., Any], tmp_path: Path
) -> None:
    for split in ("train", "validation"):
        write_jsonl(tmp_path / "data" / f"{split}.jsonl", [(f"t{n}", split, y) for n, y in enumerate(lists)])
    with pytest.raises(BadInput, match=message):
        run_download(**MULTI)


def test_a_regression_takes_whole_numbers_of_any_size(run_download: Callable[..., Any], tmp_path: Path) -> None:
    numbers = [2**24 + 1, -(2**53) - 1, 10**20, 3]
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", [(f"t{n}", split, y) for n, y in enumerate(numbers)])
    expected = [float(np.float32(number)) for number in numbers]
    assert run_download(problem_type="regression", metrics=["pearson"])["train"]["label"] == expected
    write_jsonl(tmp_path / "data" / "other.jsonl", [(f"t{n}", "", y) for n, y in enumerate(numbers[:2])])
    one = {"dataset_files": str(tmp_path / "data" / "other.jsonl"), "validation_fraction": 0.5}
    found = run_download(problem_type="regression", metrics=["pearson"], **one)
    assert {*found["train"]["label"], *found["validation"]["label"]} == set(expected[:2])


@pytest.mark.parametrize("kind", [pa.float16(), pa.float64(), pa.uint64(), pa.decimal128(20, 0)], ids=str)
@pytest.mark.parametrize("problem_type", ["regression", "single_label_classification"])
def test_labels_may_be_numbers_of_any_type(
    problem_type: str, kind: pa.DataType, run_download: Callable[..., Any], tmp_path: Path
) -> None:
    large = 2**63 + 2**40 if kind == pa.uint64() else 7
    for split in ("train", "validation"):
        rows = pa.table(
            {"a": ["x", "v"], "b": [split] * 2, "y": pa.array([large, 3], pa.uint64()).cast(kind, safe=False)}
        )
        pyarrow.parquet.write_table(rows, tmp_path / "data" / f"{split}.parquet")
    train = run_download(problem_type=problem_type, label_names=None, metrics=["accuracy"])["train"]
    if problem_type == "regression":
        assert train["label"] == [float(np.float32(large)), 3.0]
    else:
        assert (train["label"], train.features["label"].names) == ([1, 0], ["3", str(large)])
