"""download.keep_columns: columns of the data stay beside the texts, and no model sees them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from stages.shared.runtime.errors import BadInput

HEADER = "a,b,y,source,year"


def write_csv(tmp_path: Path, *rows: str) -> None:
    for split in ("train", "validation"):
        (tmp_path / "data" / f"{split}.csv").write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")


def test_columns_are_kept_as_they_are_written(run_download: Callable[..., Any], tmp_path: Path) -> None:
    write_csv(tmp_path, "x,p,yes,web,2001", "z,q,no,,02002", "w,r,yes,a b,1e3")
    train = run_download(keep_columns=["source", "year"])["train"]
    assert train.column_names == ["text", "text_pair", "label", "idx", "kept:source", "kept:year"]
    assert train["kept:source"] == ["web", "", "a b"]
    assert train["kept:year"] == ["2001", "02002", "1e3"]


def test_the_same_values_come_from_jsonl_and_parquet(run_download: Callable[..., Any], tmp_path: Path) -> None:
    row = '{"a": "x", "b": "p", "y": "%s", "source": %s, "year": %s}'
    lines = [row % ("yes", '"web"', 2001), row % ("no", "null", 2002)]
    (tmp_path / "data" / "train.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    table = {"a": ["x"], "b": ["p"], "y": ["yes"], "source": ["web"], "year": [2001]}
    pyarrow.parquet.write_table(pa.table(table), tmp_path / "data" / "validation.parquet")
    splits = run_download(keep_columns=["source", "year"])
    assert splits["train"]["kept:year"] == ["2001", "2002"] and splits["validation"]["kept:year"] == ["2001"]
    assert splits["train"]["kept:source"] == ["web", ""] and splits["validation"]["kept:source"] == ["web"]


def test_a_kept_column_may_be_one_that_has_another_use(run_download: Callable[..., Any], tmp_path: Path) -> None:
    write_csv(tmp_path, "x,p,yes,web,1", "z,q,no,paper,2", "w,r,no,paper,3")
    train = run_download(group_column="source", keep_columns=["source", "y"])["train"]
    assert train["kept:source"] == train["group"] == ["web", "paper", "paper"]
    assert train["kept:y"] == ["yes", "no", "no"]


def test_a_missing_column_is_named(run_download: Callable[..., Any], tmp_path: Path) -> None:
    write_csv(tmp_path, "x,p,yes,web,1", "z,q,no,web,2")
    with pytest.raises(BadInput, match=r"no column 'genre' \(download.keep_columns\), only a, b, y, source, year"):
        run_download(keep_columns=["genre"])


def test_lists_are_no_column_to_keep(run_download: Callable[..., Any], tmp_path: Path) -> None:
    table = pa.table({"a": ["x", "z"], "b": ["p", "q"], "y": ["yes", "no"], "tags": [["t"], []]})
    for split in ("train", "validation"):
        pyarrow.parquet.write_table(table, tmp_path / "data" / f"{split}.parquet")
    with pytest.raises(BadInput, match=r"column 'tags' \(download.keep_columns\): expected texts, numbers or dates"):
        run_download(keep_columns=["tags"])
