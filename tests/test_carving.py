"""Splits that the data lacks are carved out of train, seeded and stratified."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.shared.runtime.errors import BadInput
from tests.tables import MULTI, PAIRS, ROWS, write_csv, write_jsonl


def test_a_missing_split_is_carved_from_train_stratified_and_seeded(
    run_download: Callable[..., Any], tmp_path: Path
) -> None:
    rows = [(f"text {number}", f"pair {number}", int(number % 4 == 0)) for number in range(200)]
    write_csv(tmp_path / "data" / "train.csv", rows)
    splits = run_download(validation_fraction=0.2, split_seed=3)
    assert (len(splits["train"]), len(splits["validation"])) == (160, 40)
    assert sum(splits["validation"]["label"]) == 10
    assert not set(splits["train"]["text"]) & set(splits["validation"]["text"])
    assert splits["validation"]["idx"] == sorted(splits["validation"]["idx"])
    assert run_download(validation_fraction=0.2, split_seed=3)["validation"]["idx"] == splits["validation"]["idx"]
    assert run_download(validation_fraction=0.2, split_seed=4)["validation"]["idx"] != splits["validation"]["idx"]


def test_carving_keeps_the_share_of_each_label_of_multi_label_rows(
    run_download: Callable[..., Any], tmp_path: Path
) -> None:
    rare = [(f"r{n}", "", ["rare", "common"]) for n in range(10)]
    common = [(f"c{n}", "", ["common"]) for n in range(150)]
    none = [(f"n{n}", "", []) for n in range(40)]
    write_jsonl(tmp_path / "data" / "train.jsonl", rare + common + none)
    for seed in range(3):
        splits = run_download(**MULTI, validation_fraction=0.2, test_fraction=0.1, split_seed=seed)
        sums = {name: np.sum(split["label"], axis=0).tolist() for name, split in splits.items()}
        assert sums == {"train": [112.0, 7.0], "validation": [32.0, 2.0], "test": [16.0, 1.0]}
        assert {name: len(split) for name, split in splits.items()} == {"train": 140, "validation": 40, "test": 20}


def test_carving_puts_rows_with_the_same_text_on_one_side(run_download: Callable[..., Any], tmp_path: Path) -> None:
    rows = [(f"text {number % 20}", "pair", number % 20 % 2) for number in range(60)]
    rows += [("pair", "TEXT 1", 1)]
    write_csv(tmp_path / "data" / "train.csv", rows)
    splits = run_download(validation_fraction=0.3, on_leakage="error")
    assert {name: len(split) for name, split in splits.items()} in (
        {"train": 43, "validation": 18},
        {"train": 42, "validation": 19},
    )


def test_carving_leaves_train_an_example_of_every_class(run_download: Callable[..., Any], tmp_path: Path) -> None:
    rows = [(f"t{number}", "", min(number, 1)) for number in range(30)]
    write_csv(tmp_path / "data" / "train.csv", [(a, "p", y) for a, _, y in rows])
    splits = run_download(validation_fraction=0.9)
    assert sorted(set(splits["train"]["label"])) == [0, 1]


def test_carving_never_takes_from_test(run_download: Callable[..., Any], tmp_path: Path) -> None:
    write_csv(tmp_path / "data" / "train.csv", ROWS)
    write_csv(tmp_path / "data" / "test.csv", PAIRS)
    splits = run_download(validation_fraction=0.5)
    assert (len(splits["train"]), len(splits["validation"]), splits["test"]["text"]) == (6, 6, [a for a, *_ in PAIRS])


def test_fractions_that_leave_nothing_are_refused(run_download: Callable[..., Any], tmp_path: Path) -> None:
    write_csv(tmp_path / "data" / "train.csv", PAIRS)
    with pytest.raises(BadInput, match=r"validation_fraction 0.1 of 4 rows leaves a split empty"):
        run_download(validation_fraction=0.1)
