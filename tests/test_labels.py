"""Which splits have labels, and labels that stand in one text."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.shared.runtime.errors import BadInput
from stages.shared.task.task import read_task
from tests.tables import MULTI, PAIRS, write_csv, write_jsonl


def test_a_test_split_may_come_without_labels(run_download: Callable[..., Any], tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", PAIRS)
    write_csv(tmp_path / "data" / "test.csv", [row[:2] for row in PAIRS], header=("a", "b"))
    assert run_download()["test"]["label"] == [-1, -1, -1, -1]


@pytest.mark.parametrize("written", ["-1.0", "-1", '""', "   "])
def test_a_test_split_of_nothing_but_minus_one_or_blanks_is_unlabelled(
    written: str, run_download: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", PAIRS)
    (tmp_path / "data" / "test.csv").write_text(f"a,b,y\nx,y,{written}\nv,w,{written}\n", encoding="utf-8")
    assert run_download()["test"]["label"] == [-1, -1]
    assert "every label" not in capsys.readouterr().err


def test_a_test_split_of_a_label_that_stands_for_none_is_named(
    run_download: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", [("x", split, -1), ("v", split, 1.5)])
    write_csv(tmp_path / "data" / "test.csv", [("x", "z", -1)])
    assert run_download(problem_type="regression", metrics=["pearson"])["test"]["label"] == [-1]
    assert (
        "every label of the test split is -1, which is also a label in train; the split is treated"
        in capsys.readouterr().err
    )


def test_labels_in_one_text_are_cut_at_the_delimiter(run_download: Callable[..., Any], tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", [("x", "y", "red| green"), ("v", "w", ""), ("t", "u", "green")])
    splits = run_download(**MULTI, label_delimiter="|")
    assert splits["train"]["label"] == [[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]
    assert read_task(tmp_path / "raw" / "task.json").label_names == ["green", "red"]


@pytest.mark.parametrize("cells", [["0;2", "1", "1;2"], ["0", "2", "1"]])
def test_positions_too_may_stand_in_one_text(
    cells: list[str], run_download: Callable[..., Any], tmp_path: Path
) -> None:
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", [(cell, split, cell) for cell in cells])
    rows = run_download(**(MULTI | {"label_names": ["a", "b", "c"]}), label_delimiter=";")["train"]["label"]
    assert rows == [[float(str(place) in cell) for place in range(3)] for cell in cells]


def test_a_test_split_without_labels_has_none_with_a_delimiter_too(
    run_download: Callable[..., Any], tmp_path: Path
) -> None:
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", [("x", "y", "a|b"), ("v", "w", "a")])
    write_csv(tmp_path / "data" / "test.csv", [("x", "z", "")])
    assert run_download(**MULTI, label_delimiter="|")["test"]["label"] == [[-1.0, -1.0]]


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        ([("x", "y", "a"), ("v", "w", "b")], {"label_names": None}, "label_delimiter: only multi-label rows have one"),
        ([("x", "y", ["a"])], MULTI, "label_delimiter splits texts, found list"),
        ([("x", "y", "a|b"), ("v", "w", "a|c")], MULTI | {"label_names": ["a", "b"]}, "row 2: label 'c' is not among"),
    ],
)
def test_a_delimiter_that_does_not_fit_is_named(
    rows: list[Any], changes: dict[str, Any], message: str, run_download: Callable[..., Any], tmp_path: Path
) -> None:
    for split in ("train", "validation"):
        write_jsonl(tmp_path / "data" / f"{split}.jsonl", rows)
    with pytest.raises(BadInput, match=message):
        run_download(**changes, label_delimiter="|")
