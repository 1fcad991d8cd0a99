"""Label codes that `datasets` wrote mean the names that are stored with them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from datasets import ClassLabel, Dataset, List

from stages.shared.runtime.errors import BadInput
from tests.tables import MULTI


def test_label_names_that_datasets_stored_are_taken(run_download: Callable[..., Any], tmp_path: Path) -> None:
    rows = Dataset.from_dict({"a": ["x", "v"], "b": ["y", "w"], "y": [1, 0]})
    rows = rows.cast_column("y", ClassLabel(names=["bad", "good", "odd"]))
    for split in ("train", "validation"):
        rows.to_parquet(tmp_path / "data" / f"{split}.parquet")
    assert run_download(label_names=None)["train"].features["label"].names == ["bad", "good", "odd"]


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
    order: list[str] | None, suffix: str, run_download: Callable[..., Any], tmp_path: Path
) -> None:
    """class_encode_column sorts names as texts, so that 2 is called 10."""
    names = sorted(map(str, range(12)))
    rows = {"a": [f"it was {name}" for name in names], "b": names, "y": list(range(12))}
    save_codes(tmp_path / "data", suffix, rows, ClassLabel(names=names))
    train = run_download(label_names=order)["train"]
    found = train.features["label"].names
    assert found == (order or names)
    assert [found[code] for code in train["label"]] == names


def test_each_file_has_its_own_order_of_stored_names(run_download: Callable[..., Any], tmp_path: Path) -> None:
    for split, names in {"train": ["bad", "good"], "validation": ["good", "bad"]}.items():
        rows = Dataset.from_dict({"a": ["x", "v"], "b": [split] * 2, "y": [0, 1]})
        rows.cast_column("y", ClassLabel(names=names)).to_parquet(tmp_path / "data" / f"{split}.parquet")
    splits = run_download(label_names=None)
    assert (splits["train"]["label"], splits["validation"]["label"]) == ([0, 1], [1, 0])


def test_stored_codes_in_lists_are_positions_too(run_download: Callable[..., Any], tmp_path: Path) -> None:
    rows = {"a": ["x", "v", "t"], "b": ["y", "w", "u"], "y": [[2, 0], [], [1]]}
    save_codes(tmp_path / "data", "parquet", rows, List(ClassLabel(names=["1", "2", "0"])))
    for names, expected in (
        (None, [[1, 0, 1], [0, 0, 0], [0, 1, 0]]),
        (["0", "1", "2"], [[1, 1, 0], [0] * 3, [0, 0, 1]]),
    ):
        assert run_download(**(MULTI | {"label_names": names}))["train"]["label"] == expected


@pytest.mark.parametrize(("names", "expected"), [(["1", "2", "5"], [5.0, 1.0]), (["one", "two", "five"], [2.0, 0.0])])
def test_a_regression_takes_stored_names_that_are_numbers_for_the_numbers(
    names: list[str], expected: list[float], run_download: Callable[..., Any], tmp_path: Path
) -> None:
    rows = {"a": ["x", "v"], "b": ["y", "w"], "y": [2, 0]}
    save_codes(tmp_path / "data", "parquet", rows, ClassLabel(names=names))
    assert run_download(problem_type="regression", metrics=["pearson"])["train"]["label"] == expected


def test_a_code_without_a_name_is_refused(run_download: Callable[..., Any], tmp_path: Path) -> None:
    rows = Dataset.from_dict({"a": ["x", "v"], "b": ["y", "w"], "y": [1, 0]}).cast_column(
        "y", ClassLabel(names=["a", "b"])
    )
    for split in ("train", "validation"):
        stored = rows.data.table.schema.with_metadata(rows.features.arrow_schema.metadata)
        columns = pa.table({"a": ["x", "v"], "b": ["y", "w"], "y": pa.array([1, 7], pa.int64())})
        pyarrow.parquet.write_table(columns.cast(stored), tmp_path / "data" / f"{split}.parquet")
    with pytest.raises(
        BadInput, match=r"train.parquet: column 'y': code 7 is none of the 2 label names stored with it"
    ):
        run_download()
