"""Every format of local files becomes the same rows, and a damaged file is named."""

import csv
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet
import pytest

from stages.download import readers
from stages.shared.runtime.errors import BadInput
from tests.tables import (
    PAIRS,
    table,
    write_csv,
    write_jsonl,
    write_parquet,
    write_tsv,
)


def write_arrow_file(file: Path, rows: list[Any]) -> None:
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table(rows).schema) as writer:
        writer.write_table(table(rows), max_chunksize=3)


def write_arrow_stream(file: Path, rows: list[Any]) -> None:
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table(rows).schema) as writer:
        writer.write_table(table(rows))


def write_large_types(file: Path, rows: list[Any]) -> None:
    """As polars writes it: large strings; as pandas does: categories."""
    large = table(rows).cast(pa.schema([("a", pa.large_string()), ("b", pa.string_view()), ("y", pa.int64())]))
    write_arrow = large.set_column(0, "a", large["a"].cast(pa.string()).dictionary_encode())
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, write_arrow.schema) as writer:
        writer.write_table(write_arrow)


def zipped(write: Callable[[Path, list[Any]], None]) -> Callable[[Path, list[Any]], None]:
    def write_zipped(file: Path, rows: list[Any]) -> None:
        plain = file.with_suffix("")
        write(plain, rows)
        file.write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()

    return write_zipped


def write_blocks(file: Path, rows: list[Any]) -> None:
    """The rows after columns that are not asked for, whose type changes on the way."""
    extra = [("extra", *("a", "b", "y")), *((number, *row) for number, row in enumerate(rows, 1))]
    extra[-1] = ("not a number", *extra[-1][1:])
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(extra)


WRITERS = {
    "csv": ("csv", write_csv),
    "csv with other columns": ("csv", write_blocks),
    "csv.gz": ("csv.gz", zipped(write_csv)),
    "tsv": ("tsv", write_tsv),
    "jsonl": ("jsonl", write_jsonl),
    "jsonl.gz": ("jsonl.gz", zipped(write_jsonl)),
    "parquet": ("parquet", write_parquet),
    "arrow file": ("arrow", write_arrow_file),
    "arrow stream": ("arrow", write_arrow_stream),
    "arrow of polars and pandas": ("arrow", write_large_types),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_gives_the_same_rows_and_the_same_bytes(
    kind: str, run_download: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [*PAIRS, *((f"one {number}", "two, " * (1 + number % 7), number % 2) for number in range(60))]
    suffix, write = WRITERS[kind]
    write_csv(tmp_path / "data" / "train.csv", rows)
    write_csv(tmp_path / "data" / "validation.csv", PAIRS)
    run_download()
    first = {file.name: file.read_bytes() for file in (tmp_path / "raw" / "train").iterdir()}
    for file in (tmp_path / "data").iterdir():
        file.unlink()
    write(tmp_path / "data" / f"train.{suffix}", rows)
    write(tmp_path / "data" / f"validation.{suffix}", PAIRS)
    monkeypatch.setattr(readers, "CSV_BLOCK_BYTES", 200)  # many blocks, and batches that end elsewhere
    monkeypatch.setattr(readers, "BATCH_ROWS", 7)
    monkeypatch.setattr(datasets.config, "MAX_SHARD_SIZE", 1000)  # bytes: by default the size in memory cuts shards
    splits = run_download()
    assert list(splits) == ["train", "validation"]
    train = splits["train"]
    assert train.column_names == ["text", "text_pair", "label", "idx"]
    assert list(zip(train["text"], train["text_pair"], train["label"], strict=True)) == rows
    assert train["idx"] == list(range(64))
    assert train.features["label"].names == ["no", "yes"]
    assert {file.name: file.read_bytes() for file in (tmp_path / "raw" / "train").iterdir()} == first
    assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == [
        "dataset_dict.json",
        "task.json",
        "train",
        "validation",
    ]


def test_a_quote_in_a_tsv_is_a_character(run_download: Callable[..., Any], tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write_tsv(tmp_path / "data" / f"{split}.tsv", [('"a', "b", 1), ('c"', "d", 0)])
    assert run_download()["train"]["text"] == ['"a', 'c"']


def test_a_categorical_column_is_read_as_its_values(run_download: Callable[..., Any], tmp_path: Path) -> None:
    for split in ("train", "validation"):
        rows = {"a": ["x", "v"], "b": ["y", "w"], "y": pa.array(["no", "yes"]).dictionary_encode()}
        pyarrow.parquet.write_table(pa.table(rows), tmp_path / "data" / f"{split}.parquet")
    assert run_download()["train"]["label"] == [0, 1]


def test_two_columns_of_one_name_are_refused(run_download: Callable[..., Any], tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", [("x", "z", "y", 1)], header=("a", "a", "b", "y"))
    with pytest.raises(BadInput, match="two columns are called 'a'; rename or remove one"):
        run_download()


def test_a_file_that_cannot_be_parsed_is_named(run_download: Callable[..., Any], tmp_path: Path) -> None:
    write_csv(tmp_path / "data" / "validation.csv", PAIRS)
    (tmp_path / "data" / "train.csv").write_text("a,b,y\n1,2\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"train.csv: cannot be read as csv: .*Expected 3 columns, got 2"):
        run_download()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.jsonl", b'{"a": "x", "b": "y", "y": 1}\n{"a": \n', r'train.jsonl: not valid JSON: .*: \{"a":'),
        ("train.jsonl", b"[1, 2]\n", r"expected a JSON object in every line, found \[1, 2\]"),
        ("train.jsonl", b'{"a": 5, "b": "y", "y": 1}\n', r"row 1: column 'a': expected a text, found 5"),
        ("train.jsonl", b'{"a": "\\ud83d", "b": "y", "y": 1}\n', r"row 1: column 'a': the text has half a character"),
        ("train.jsonl", b'{"a": "x", "y": 1}\n', r"no column 'b' \(download.text_pair_column\), only a, y"),
        (
            "train.jsonl",
            b'{"a": "x", "b": "y", "y": 1}\n{"a": "x", "b": "y", "y": "no"}\n',
            r"train.jsonl: row 2: column 'y': \"no\" beside 1: values of several kinds; convert them to one",
        ),
        (
            "train.jsonl",
            b'{"a": "x", "b": "y", "y": 1}\n{"a": "x", "b": "y", "y": 36893488147419103232}\n',
            r"train.jsonl: row 2: column 'y': 36893488147419103232 does not fit a 64-bit integer",
        ),
        (
            "train.jsonl",
            b'{"a": "x", "b": "y", "y": "no"}\n{"a": "x", "b": "y", "y": "\\ud83d"}\n',
            r"""train.jsonl: row 2: column 'y': "\\ud83d" has half a character""",
        ),
        (
            "train.jsonl",
            b'{"a": "x", "b": "y", "y": [1]}\n{"a": "x", "b": "y", "y": ["no", 1]}\n',
            r"""train.jsonl: row 2: column 'y': \["no", 1\] mixes values of several kinds""",
        ),
        ("train.csv", "a,b,y\nGrößer,x,1\n".encode("latin-1"), r"train.csv: the text is not UTF-8; save it as UTF-8"),
        ("train.jsonl", '{"a": "Größer"}'.encode("latin-1"), r"train.jsonl: the text is not UTF-8"),
        ("train.csv", b"", r"train.csv: the file is empty; expected a header line and rows"),
        ("train.csv.gz", b"a,b,y\nx,y,1\n", r"train.csv.gz: cannot be read as csv"),
        (
            "train.jsonl.gz",
            gzip.compress(b'{"a": "x"}\n' * 99, mtime=0)[:30],
            r"train.jsonl.gz: cannot be read as jsonl",
        ),
        ("train.parquet", b"PAR1 and no more", r"train.parquet: cannot be read as parquet"),
        ("train.arrow", b"ARROW1 and no more", r"train.arrow: cannot be read as arrow"),
    ],
)
def test_a_damaged_file_is_named(
    name: str, content: bytes, message: str, run_download: Callable[..., Any], tmp_path: Path
) -> None:
    write_csv(tmp_path / "data" / "validation.csv", PAIRS)
    (tmp_path / "data" / name).write_bytes(content)
    with pytest.raises(BadInput, match=message) as raised:
        run_download()
    assert "\n" not in str(raised.value)


def test_a_csv_with_a_byte_order_mark_is_read(run_download: Callable[..., Any], tmp_path: Path) -> None:
    for split in ("train", "validation"):
        (tmp_path / "data" / f"{split}.csv").write_bytes("\ufeffa,b,y\nx,y,1\nv,w,0\n".encode())
    assert run_download()["train"]["text"] == ["x", "v"]


@pytest.mark.parametrize("new", [pa.ipc.new_file, pa.ipc.new_stream])
def test_a_damaged_text_in_a_column_that_nobody_uses_is_not_looked_at(
    new: Callable[..., Any], run_download: Callable[..., Any], tmp_path: Path
) -> None:
    whole = table(PAIRS)
    raw = pa.array([b"Gr\xf6\xdfe"] * len(whole), pa.binary())
    odd = whole.append_column("note", pa.Array.from_buffers(pa.string(), len(raw), raw.buffers()))
    for split, rows in (("train", odd), ("validation", whole)):
        with pa.OSFile(str(tmp_path / "data" / f"{split}.arrow"), "wb") as sink, new(sink, rows.schema) as writer:
            writer.write_table(rows)
    assert run_download()["train"].num_rows == len(whole)


def test_the_lines_of_a_jsonl_are_checked_once_while_it_stays_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[Path] = []
    monkeypatch.setattr(readers, "check_lines", lambda file, _: checked.append(file))
    file = tmp_path / "rows.jsonl"
    for content, times in (('{"a": 1}\n', 1), ('{"a": 11}\n', 2)):
        file.write_text(content)
        assert list(readers.json_lines(file)) == list(readers.json_lines(file))
        assert len(checked) == times
