"""Every source becomes the same columns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.tables import PAIRS, write_csv


def test_single_texts_have_no_pair(run_download: Callable[..., Any], tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", PAIRS)
    assert run_download(text_pair_column=None)["train"].column_names == ["text", "label", "idx"]


def test_an_idx_that_does_not_fit_is_replaced_by_row_numbers(run_download: Callable[..., Any], tmp_path: Path) -> None:
    for split in ("train", "validation"):
        rows = [("x", "y", 1, 2**40), ("v", "w", 0, 7)]
        write_csv(tmp_path / "data" / f"{split}.csv", rows, header=("a", "b", "y", "idx"))
    assert run_download()["train"]["idx"] == [0, 1]
