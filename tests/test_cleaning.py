"""Rows as people have them: texts in several columns, rows without text or label, aliases of labels, ids of rows."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from stages.download.look_alikes import look_alikes
from stages.shared.runtime.errors import BadInput
from tests.tables import MULTI, ROWS, read_facts, table, write_csv, write_jsonl, write_parquet, write_tsv

Run = Callable[..., Any]


def write_arrow(file: Path, rows: list[Any]) -> None:
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table(rows).schema) as writer:
        writer.write_table(table(rows))


WRITERS: dict[str, Callable[[Path, list[Any]], None]] = {
    "csv": write_csv,
    "tsv": write_tsv,
    "jsonl": write_jsonl,
    "parquet": write_parquet,
    "arrow": write_arrow,
}


def lay(tmp_path: Path, suffix: str, **splits: list[Any]) -> None:
    for split, rows in splits.items():
        WRITERS[suffix](tmp_path / "data" / f"{split}.{suffix}", rows)


def columns(file: Path, header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])


@pytest.mark.parametrize("suffix", WRITERS)
def test_white_space_around_labels_counts_in_no_format(suffix: str, run_download: Run, tmp_path: Path) -> None:
    rows = [("one", "x", "red "), ("two", "x", " red"), ("three", "x", "blue"), ("four", "x", "\u00a0blue")]
    lay(tmp_path, suffix, train=rows, validation=[("five", "x", "blue ")])
    splits = run_download(label_names=None)
    assert splits["train"].features["label"].names == ["blue", "red"]
    assert (splits["train"]["label"], splits["validation"]["label"]) == ([1, 1, 0, 0], [0])


@pytest.mark.parametrize("suffix", ["jsonl", "parquet", "arrow"])
def test_white_space_counts_in_no_list_either(suffix: str, run_download: Run, tmp_path: Path) -> None:
    rows = [("one", "x", ["red ", "blue"]), ("two", "x", [" red"]), ("three", "x", ["blue"])]
    lay(tmp_path, suffix, train=rows, validation=rows[:1])
    assert run_download(**MULTI)["train"]["label"] == [[1, 1], [0, 1], [1, 0]]


@pytest.mark.parametrize("suffix", WRITERS)
def test_labels_that_differ_by_case_are_pointed_out_in_every_format(
    suffix: str, run_download: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [("one", "x", "Billing"), ("two", "x", "billing"), ("three", "x", "log in"), ("four", "x", "login")]
    lay(tmp_path, suffix, train=rows, validation=rows[1:2])
    splits = run_download(label_names=None)
    assert len(splits["train"].features["label"].names) == 4
    assert "look alike: 'Billing' and 'billing', 'log in' and 'login'; they are classes" in capsys.readouterr().err
    lay(tmp_path, suffix, train=rows, validation=rows[1:2])
    again = run_download(label_names=None, label_aliases={"billing": "Billing", "log in": "login"})
    assert again["train"].features["label"].names == ["Billing", "login"]
    assert "look alike" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["billing", "biling", "login"], [("billing", "biling")]),
        (["new_user", "New User", "old user"], [("new_user", "New User")]),
        (["Größe", "GRÖSSE"], [("Größe", "GRÖSSE")]),
        (["does_not_fit", "fits"], []),
        (["entailment", "not_entailment", "acceptable", "unacceptable"], []),
        (["1", "-1", "10", "11"], []),
        (["version 1", "version 2", "class_a", "class_b", "sad", "mad", "C", "C++"], []),
    ],
)
def test_names_that_look_alike_are_pairs(names: list[str], expected: list[tuple[str, str]]) -> None:
    assert look_alikes(names) == expected


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_classes_stay_as_they_are_written_but_for_whole_numbers(suffix: str, run_download: Run, tmp_path: Path) -> None:
    def names(*written: str) -> list[str]:
        rows = [(f"t{number}", "x", label) for number, label in enumerate(written)]
        lay(tmp_path, suffix, train=rows, validation=rows[:1])
        return list(run_download(label_names=None)["train"].features["label"].names)

    assert names("1E2", "1E3", "100") == ["100", "1E2", "1E3"]
    assert names("1.1", "1.2", "1.10") == ["1.1", "1.10", "1.2"]
    assert names("1.0", "2", "10") == ["1", "2", "10"]
    assert names("nan", "inf", "1") == ["1", "inf", "nan"]
    assert names("1" + "0" * 20, "1") == ["1", "1" + "0" * 20]


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_what_a_class_is_does_not_depend_on_the_split(suffix: str, run_download: Run, tmp_path: Path) -> None:
    train = [("one", "x", "1.0"), ("two", "x", "1.5"), ("three", "x", "2")]
    test = [("five", "x", "-1"), ("six", "x", "-1")]
    lay(tmp_path, suffix, train=train, validation=[("four", "x", "1.0")], test=test)
    splits = run_download(label_names=None)
    assert splits["train"].features["label"].names == ["1.0", "1.5", "2"]
    assert (splits["validation"]["label"], splits["test"]["label"]) == ([0], [-1, -1])


@pytest.mark.parametrize("suffix", WRITERS)
def test_classes_with_a_point_may_be_label_names(suffix: str, run_download: Run, tmp_path: Path) -> None:
    rows = [("one", "x", 1.1), ("two", "x", 1.2), ("three", "x", 1.1)]
    lay(tmp_path, suffix, train=rows, validation=rows[:1])
    assert run_download(label_names=["1.1", "1.2"])["train"]["label"] == [0, 1, 0]


@pytest.mark.parametrize("suffix", WRITERS)
def test_rows_without_text_or_label_are_left_out_where_the_user_says_so(
    suffix: str, run_download: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = [("one", "x", "no"), (" ", "x", "yes"), ("three", "x", ""), ("four", "x", "yes"), ("five", "x", "N/A")]
    lay(tmp_path, suffix, train=train, validation=[("six", "x", "no")])
    splits = run_download(on_empty="drop", on_unlabelled="drop", label_aliases={"N/A": None})
    assert (splits["train"]["text"], splits["train"]["label"], splits["train"]["idx"]) == (
        ["one", "four"],
        [0, 1],
        [0, 3],
    )
    said = capsys.readouterr().err
    assert "left out row 2, without text (download.on_empty: drop)" in said
    assert "left out rows 3 and 5, without label (download.on_unlabelled: drop)" in said
    assert read_facts(tmp_path)["dropped"] == [
        {"split": "train", "reason": "without text", "examples": 1},
        {"split": "train", "reason": "without label", "examples": 2},
    ]


def test_missing_texts_and_labels_of_parquet_are_left_out_too(run_download: Run, tmp_path: Path) -> None:
    rows = [("one", "x", 0), (None, "x", 1), ("three", None, 1), ("four", "x", None), ("five", "x", 1)]
    lay(tmp_path, "parquet", train=rows, validation=rows[:1])
    assert run_download(on_empty="drop", on_unlabelled="drop")["train"]["idx"] == [0, 4]


def test_a_test_split_without_labels_keeps_its_rows(run_download: Run, tmp_path: Path) -> None:
    lay(tmp_path, "csv", train=ROWS, validation=ROWS[:2], test=[("one", "x", ""), ("two", "x", "")])
    assert run_download(on_unlabelled="drop")["test"]["label"] == [-1, -1]


@pytest.mark.parametrize("suffix", WRITERS)
def test_aliases_give_labels_their_names_in_every_format(suffix: str, run_download: Run, tmp_path: Path) -> None:
    train = [("one", "x", "biling"), ("two", "x", "Billing "), ("three", "x", "login")]
    lay(tmp_path, suffix, train=train, validation=[("four", "x", "biling")])
    splits = run_download(label_names=None, label_aliases={"biling": "Billing"})
    assert splits["train"].features["label"].names == ["Billing", "login"]
    assert (splits["train"]["label"], splits["validation"]["label"]) == ([0, 0, 1], [0])


def test_aliases_are_for_numbers_lists_and_cut_labels_too(run_download: Run, tmp_path: Path) -> None:
    rows = [("one", "x", 1), ("two", "x", 2), ("three", "x", 9)]
    for suffix in ("csv", "jsonl", "parquet"):
        lay(tmp_path, suffix, train=rows, validation=rows[:1])
        named = run_download(
            label_names=["low", "high"], label_aliases={"1": "low", "2": "high", "9": None}, on_unlabelled="drop"
        )
        assert named["train"]["label"] == [0, 1]
        for file in (tmp_path / "data").iterdir():
            file.unlink()
    lists = [("one", "x", ["a", "N/A"]), ("two", "x", ["N/A"]), ("three", "x", ["b", "B"][:1]), ("four", "x", [])]
    lay(tmp_path, "jsonl", train=lists, validation=lists[:1])
    aliases = {"label_aliases": {"N/A": None}, "on_unlabelled": "drop"}
    assert run_download(**MULTI, **aliases)["train"]["label"] == [[1, 0], [0, 1], [0, 0]]
    for file in (tmp_path / "data").iterdir():
        file.unlink()
    cut = [("one", "x", "a|N/A"), ("two", "x", "N/A"), ("three", "x", "b"), ("four", "x", "")]
    lay(tmp_path, "csv", train=cut, validation=cut[:1])
    assert run_download(**MULTI, **aliases, label_delimiter="|")["train"]["label"] == [[1, 0], [0, 1], [0, 0]]


def test_a_regression_may_have_cells_that_are_no_numbers_if_they_stand_for_none(
    run_download: Run, tmp_path: Path
) -> None:
    rows = [("one", "x", 0.5), ("two", "x", "N/A"), ("three", "x", 2)]
    numbers = {"problem_type": "regression", "metrics": ["pearson"], "on_unlabelled": "drop"}
    for suffix in ("csv", "jsonl"):
        lay(tmp_path, suffix, train=rows, validation=rows[:1])
        assert run_download(**numbers, label_aliases={"N/A": None})["train"]["label"] == [0.5, 2.0]
        for file in (tmp_path / "data").iterdir():
            file.unlink()


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_text_may_be_joined_from_several_columns(suffix: str, run_download: Run, tmp_path: Path) -> None:
    rows = [
        ("Title", "Body, of\ttwo" if suffix != "tsv" else "Body", 0),
        ("", "Body alone", 1),
        ("Title alone", " ", 0),
    ]
    lay(tmp_path, suffix, train=rows, validation=[("A", "B", 1)])
    splits = run_download(text_column=["a", "b"], text_pair_column=None)
    assert splits["train"]["text"] == [f"Title\n{rows[0][1]}", "Body alone", "Title alone"]
    assert splits["train"].column_names == ["text", "label", "idx"]
    lay(tmp_path, suffix, train=[("A", "B", 1), ("C", "D", 0)], validation=[("A", "B", 1)])
    assert run_download(text_column="a", text_pair_column=["b", "a"])["validation"]["text_pair"] == ["B\nA"]


def test_a_row_has_no_text_only_where_all_columns_are_empty(run_download: Run, tmp_path: Path) -> None:
    lay(tmp_path, "csv", train=[("one", "", 0), ("", "two", 1), ("", "", 1), (" ", "", 0)], validation=[("x", "y", 0)])
    several = {"text_column": ["a", "b"], "text_pair_column": None}
    with pytest.raises(BadInput, match=r"row 3: no text in columns 'a' and 'b'; fill it in"):
        run_download(**several)
    assert run_download(**several, on_empty="drop")["train"]["text"] == ["one", "two"]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_the_id_of_a_row_stays_with_it(suffix: str, run_download: Run, tmp_path: Path) -> None:
    rows = [("one", "007", 0), ("two", "x-2", 1), ("", "gone", 1), ("four", "9", 0)]
    lay(tmp_path, suffix, train=rows, validation=rows[:1])
    single = {"text_column": "a", "text_pair_column": None, "id_column": "b"}
    splits = run_download(**single, on_empty="drop")
    assert splits["train"].column_names == ["text", "label", "idx", "id"]
    assert splits["train"]["id"] == ["007", "x-2", "9"]


def test_ids_that_are_not_a_rows_alone_are_pointed_out(
    run_download: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [("one", "7", 0), ("two", "7", 1), ("three", "8", 1)]
    lay(tmp_path, "csv", train=rows, validation=rows[2:])
    run_download(text_column="a", text_pair_column=None, id_column="b")
    assert "2 rows have an id that is not theirs alone, such as 2 rows with id '7'" in capsys.readouterr().err


def test_duplicates_and_contradictions_are_named_by_row_and_id(
    run_download: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [("same", "r1", 0), ("other", "r2", 1), ("Same ", "r3", 1), ("other", "r4", 1)]
    lay(tmp_path, "csv", train=rows, validation=[("new", "r5", 0)])
    run_download(text_column="a", text_pair_column=None, id_column="b")
    said = capsys.readouterr().err
    assert (
        "download: train: 2 rows repeat an earlier one: "
        "rows 3 (id r3) and 1 (id r1); rows 4 (id r4) and 2 (id r2) of data/raw\n" in said
    )
    assert "download: train: 1 text has more than one label: rows 1 (id r1) and 3 (id r3) of data/raw\n" in said
    facts = read_facts(tmp_path)
    assert facts["repeated"] == [{"split": "train", "rows": [[3, 1], [4, 2]]}]
    assert facts["contradictory"] == [{"split": "train", "rows": [[1, 3]]}]


def test_a_row_number_is_that_of_the_file_though_rows_before_it_were_left_out(
    run_download: Run, tmp_path: Path
) -> None:
    lay(tmp_path, "csv", train=[("one", "x", 0), ("", "x", 1), ("three", "x", 5), ("four", "x", 1)], validation=ROWS)
    with pytest.raises(BadInput, match=r"train.csv: row 3: label 5 is not among"):
        run_download(on_empty="drop")


def test_long_lists_of_rows_are_cut_and_counted(run_download: Run, tmp_path: Path) -> None:
    rows = [(f"text {number}", "x", "" if number % 2 else 1) for number in range(100)]
    lay(tmp_path, "csv", train=[*rows, ("last", "x", 0)], validation=ROWS)
    with pytest.raises(BadInput, match=r"rows 2, 4, .*, 40 and 30 more: no value in column 'y'"):
        run_download()
