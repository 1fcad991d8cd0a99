"""Classes of a csv are numbers where all of them are whole ones, 1.0 for 1 as well, and else stay as written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tables import write_csv


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
    written: list[str], names: list[str], run_download: Callable[..., Any], tmp_path: Path
) -> None:
    for split in ("train", "validation"):
        rows = [(f"t{number}", split, label) for number, label in enumerate(written)]
        write_csv(tmp_path / "data" / f"{split}.csv", rows)
    assert run_download(label_names=None)["train"].features["label"].names == names


def test_truth_values_of_a_csv_are_their_own_names_in_every_split(
    run_download: Callable[..., Any], tmp_path: Path
) -> None:
    write_csv(tmp_path / "data" / "train.csv", [("x", "y", "True"), ("v", "w", "False"), ("t", "u", "Maybe")])
    write_csv(tmp_path / "data" / "validation.csv", [("x", "z", "True"), ("v", "z", "False")])
    splits = run_download(label_names=None)
    assert splits["train"].features["label"].names == ["False", "Maybe", "True"]
    assert splits["validation"]["label"] == [2, 0]
