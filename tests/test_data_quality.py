"""metrics/data.json: what is repeated, shared, empty and contradictory is counted, and leakage is named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.shared.runtime.errors import BadInput
from tests.tables import PAIRS, read_facts, write_csv, write_jsonl


def test_data_json_counts_examples_labels_and_what_is_wrong_with_them(
    run_download: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = [*PAIRS, PAIRS[0], ("a dog  RAN.", "a dog was running.", 0), (" ", "empty", 1)]
    write_csv(tmp_path / "data" / "train.csv", train)
    write_csv(tmp_path / "data" / "validation.csv", [("other", "pair", 0)])
    run_download()
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
        "shared_sentences": [],
        "near_duplicates": [],
        "repeated": [{"split": "train", "rows": [[5, 1], [6, 1]]}],
        "contradictory": [{"split": "train", "rows": [[1, 5, 6]]}],
    }
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "split       examples  duplicates  empty  conflicting  labels",
        "train              7           2      1            1  no 3, yes 4",
        "validation         1           0      0            0  no 1, yes 0",
    ]
    assert "warning" not in printed.err


def test_the_same_pair_in_two_splits_is_named_with_three_rows(
    run_download: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    swapped = [("A DOG  was running.", "a dog ran.", 1)]
    write_csv(tmp_path / "data" / "train.csv", PAIRS)
    write_csv(tmp_path / "data" / "validation.csv", [("other", "pair", 0), *PAIRS])
    write_csv(tmp_path / "data" / "test.csv", swapped)
    run_download()
    assert read_facts(tmp_path)["shared"] == [
        {"splits": ["train", "validation"], "examples": 4, "rows": [[1, 2], [2, 3], [3, 4]]},
        {"splits": ["train", "test"], "examples": 1, "rows": [[1, 1]]},
        {"splits": ["validation", "test"], "examples": 1, "rows": [[2, 1]]},
    ]
    rows = "validation row 2 = train row 1, validation row 3 = train row 2, validation row 4 = train row 3, ..."
    warned = capsys.readouterr().err
    assert f"warning: 4 of 5 validation examples are also in train ({rows})" in warned
    assert "warning: 1 of 1 test examples are also in validation (test row 1 = validation row 2)" in warned
    with pytest.raises(BadInput, match=r"are also in train; remove them, or set download.on_leakage to warn"):
        run_download(on_leakage="error")


def test_only_leakage_from_train_is_an_error(run_download: Callable[..., Any], tmp_path: Path) -> None:
    write_csv(tmp_path / "data" / "train.csv", PAIRS)
    for split in ("validation", "test"):
        write_csv(tmp_path / "data" / f"{split}.csv", [("other", "pair", 0)])
    assert len(run_download(on_leakage="error")["test"]) == 1


def test_a_pair_in_the_other_order_may_have_another_label(run_download: Callable[..., Any], tmp_path: Path) -> None:
    """a may follow from b, and b not from a."""
    write_csv(tmp_path / "data" / "train.csv", [("a", "b", 0), ("b", "a", 1)])
    write_csv(tmp_path / "data" / "validation.csv", [("c", "d", 0)])
    run_download()
    train = read_facts(tmp_path)["splits"][0]
    assert (train["duplicates"], train["conflicting_labels"]) == (1, 0)


def test_data_json_has_the_range_of_a_regression_and_no_labels_where_there_are_none(
    run_download: Callable[..., Any], tmp_path: Path
) -> None:
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", [("x", split, 0.5), ("v", split, 2), ("V", split, 3.5)])
    write_csv(tmp_path / "data" / "test.csv", [("t", "u")], header=("a", "b"))
    run_download(problem_type="regression", metrics=["pearson"])
    train, _, test = read_facts(tmp_path)["splits"]
    assert train["label_range"] == {"min": 0.5, "mean": 2.0, "max": 3.5}
    assert (train["conflicting_labels"], "labels" in train) == (1, False)
    assert not {"labels", "label_range"} & set(test)


def test_data_json_counts_each_label_of_multi_label_rows(run_download: Callable[..., Any], tmp_path: Path) -> None:
    rows = [("x", "y", ["b", "a"]), ("v", "w", []), ("t", "u", ["b"]), ("T", "u", ["a"]), ("T", "u", ["a"])]
    for split in ("train", "validation"):
        write_jsonl(tmp_path / "data" / f"{split}.jsonl", rows)
    run_download(problem_type="multi_label_classification", label_names=None, metrics=["f1_micro"])
    train = read_facts(tmp_path)["splits"][0]
    assert (train["labels"], train["duplicates"], train["conflicting_labels"]) == ({"a": 3, "b": 2}, 2, 1)
