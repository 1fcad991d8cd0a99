"""A reader for each file format: it yields rows in batches, with only the columns that are used.

Why they are not `pyarrow.dataset`: it guesses types (a text that looks like a date becomes one), refuses a jsonl file
whose values vary without naming the row, does not read Arrow's stream format, which `datasets` writes, and needs 30 %
more memory for a csv or parquet file.
"""

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from stages.download.quotes import check_quotes
from stages.download.source import BATCH_ROWS, Labelling
from stages.download.stored_labels import decode_labels, stored_feature
from stages.shared.runtime.errors import BadInput

# How files begin that are something else than their names say -> what they are, and what to do.
BEGINNINGS = {
    b"\x1f\x8b": "it is compressed with gzip; let its name end in .gz, or unpack it",
    b"PK\x03\x04": "it is a zip archive, as .xlsx files are; unpack it, or save the sheet as csv (UTF-8)",
    b"\xd0\xcf\x11\xe0": "it is a file of an old Excel; save the sheet as csv (UTF-8)",
    b"BZh91AY": "it is compressed with bzip2; unpack it",
    b"\xfd7zXZ": "it is compressed with xz; unpack it",
    b"\x28\xb5\x2f\xfd": "it is compressed with zstandard; unpack it",
    b"PAR1": "it is a parquet file; let its name end in .parquet",
    b"ARROW1": "it is an Arrow file; let its name end in .arrow",
    b"\xff\xfe": "the text is UTF-16, not UTF-8; save it as UTF-8",
    b"\xfe\xff": "the text is UTF-16, not UTF-8; save it as UTF-8",
}
LOOKED_AT_BYTES = 2**12
MANY_NULS = 8  # In UTF-16 without its mark, more than an eighth of the bytes are NUL, unless it is all Chinese or so.
MAX_LINE_BYTES = 2**24  # A line is in memory whole, as JSON several times over.
TOO_LONG = f"a line is longer than {MAX_LINE_BYTES // 2**20} MiB, the limit for a row; shorten it, or use .parquet"
CSV_BLOCK_BYTES = MAX_LINE_BYTES  # A csv file is parsed in blocks of this size, and none of its rows may be longer.
FORMAT = re.compile(r".*\.(?:(csv|tsv|jsonl)(?:\.gz)?|(parquet|arrow))")
KNOWN_FORMATS = "csv|tsv|jsonl|parquet|arrow"
TEXT_FORMATS = ("csv", "tsv", "jsonl")  # Their columns have no types: all are read as texts.
# In a tsv a quote is a character like any other: in GLUE's own files there are quotes that are never closed, and each
# would take the rows up to the next one for a single cell.
DIALECTS = {
    "csv": pyarrow.csv.ParseOptions(newlines_in_values=True),
    "tsv": pyarrow.csv.ParseOptions(delimiter="\t", quote_char=False),
}

Batches = Iterator[pa.RecordBatch]


def file_format(file: Path) -> str:
    """Returns what the file's name says of its format, csv for a.csv and a.csv.gz; nothing where it says none."""
    matched = FORMAT.fullmatch(file.name)
    return (matched[1] or matched[2]) if matched else ""


def read_rows(file: Path, split: str, labelling: Labelling) -> Batches:
    """Yields the rows of a file.

    Label codes of a ClassLabel are replaced by their names. In a text format all columns are texts: cells of csv and
    tsv as they stand, values of jsonl as JSON, but for those of the text columns.

    Raises:
        BadInput: the file lacks a column or cannot be parsed.
    """
    with in_one_line(file):
        yield from READERS[file_format(file)](file, split, labelling)


@contextmanager
def in_one_line(file: Path) -> Iterator[None]:
    """Says in one line why a file cannot be read.

    Raises:
        BadInput: the block raised what reading raises.
    """
    try:
        yield
    except (pa.ArrowException, OSError, EOFError, UnicodeError, zlib.error) as error:
        if isinstance(error, UnicodeDecodeError) or "invalid utf8" in str(error).lower():
            raise BadInput(f"{file}: the text is not UTF-8; save it as UTF-8") from None
        if "straddling object" in str(error):
            raise BadInput(f"{file}: {TOO_LONG}") from None
        raise BadInput(f"{file}: cannot be read as {file_format(file)}: {' '.join(str(error).split())}") from None


def _read_delimited(file: Path, split: str, labelling: Labelling) -> Batches:
    """Yields every cell as text: a type that is guessed from the first block need not fit the others."""
    labelling.columns_of(header_of(file), split, str(file))
    # A cell "NA" or "null" is a text, and an empty one without quotes has no value.
    convert_options = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(labelling.columns, pa.string()),
        include_columns=labelling.columns,
        include_missing_columns=True,
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    with _open_delimited(file, convert_options) as reader:
        yield from reader


@lru_cache(maxsize=1024)
def _check_rows(file: Path, size: int, time: int) -> None:
    """Checks the beginning and lines of a text file, and a csv's quotes, once while it stays the same.

    `score` reads it often.
    """
    check_beginning(file, str(file))
    check_lines(file, str(file))
    if file_format(file) == "csv":
        check_file_quotes(file, str(file), b",")


def check_file_quotes(file: Path, place: str, delimiter: bytes) -> None:
    """Makes sure that each quoted cell of a file ends with its closing quote (see `check_quotes`)."""
    with _opener(file)(file, "rb") as stream:
        check_quotes(stream, place, delimiter, MAX_LINE_BYTES)


def header_of(file: Path) -> list[str]:
    """Returns the names in the first line of a csv or tsv file.

    Raises:
        BadInput: it is empty, something else than its name says, or has an open quote or a line that is too long.
    """
    facts = file.stat()
    if facts.st_size == 0:
        raise BadInput(f"{file}: the file is empty; expected a header line and rows")
    _check_rows(file, facts.st_size, facts.st_mtime_ns)
    with _open_delimited(file) as header:
        return list(header.schema.names)


def _open_delimited(file: Path, convert_options: Any = None) -> Any:
    read_options = pyarrow.csv.ReadOptions(block_size=CSV_BLOCK_BYTES)
    return pyarrow.csv.open_csv(file, read_options, DIALECTS[file_format(file)], convert_options)


def _read_jsonl(file: Path, split: str, labelling: Labelling) -> Batches:
    """Yields the columns that are not texts as JSON, because their types are known at the end of the file only."""
    names: dict[str, None] = {}
    done = 0
    objects = (row for _, row in json_lines(file))
    while rows := list(islice(objects, BATCH_ROWS)):
        columns = {}
        for name in labelling.columns:
            values = [row.get(name) for row in rows]
            if name in labelling.text_columns:
                columns[name] = text_array(values, f"{file}: row {{}}: column {name!r}", done)
            else:
                columns[name] = pa.array([None if value is None else json.dumps(value) for value in values])
        names |= dict.fromkeys(name for row in rows for name in row)
        done += len(rows)
        yield pa.record_batch({name: column.cast(pa.string()) for name, column in columns.items()})
    # Rows may leave out what they have no value for, so a column is missing only if it is in none of them.
    if done:
        labelling.columns_of(list(names), split, str(file))


def check_beginning(file: Path, place: str) -> None:
    """Makes sure that a file of lines is text in UTF-8, by how it begins.

    Raises:
        BadInput: it is something else.
    """
    with _opener(file)(file, "rb") as stream:
        first = stream.read(LOOKED_AT_BYTES)
    for beginning, words in BEGINNINGS.items():
        if first.startswith(beginning):
            raise BadInput(f"{place}: {words}")
    if first.count(b"\0") > len(first) / MANY_NULS:
        raise BadInput(f"{place}: the text is not UTF-8, but perhaps UTF-16, as it has NUL bytes; save it as UTF-8")


def check_lines(file: Path, place: str) -> None:
    """Makes sure that no line of a file of lines is too long to be read; files of other formats have none.

    Raises:
        BadInput: one is.
    """
    if file_format(file) not in TEXT_FORMATS:
        return
    length = 0  # of the line that is being read
    with _opener(file)(file, "rb") as stream:
        while chunk := stream.read(2**20):
            first, last = chunk.find(b"\n"), chunk.rfind(b"\n")
            length += len(chunk) if first < 0 else first
            if length > MAX_LINE_BYTES:
                raise BadInput(f"{place}: {TOO_LONG}")
            if last >= 0:
                length = len(chunk) - last - 1


def _opener(file: Path) -> Callable[..., Any]:
    return gzip.open if file.suffix == ".gz" else open


def json_lines(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the lines of a jsonl file that are not blank, each with the object that it holds.

    Raises:
        BadInput: a line is too long, or holds no object.
    """
    facts = file.stat()
    _check_rows(file, facts.st_size, facts.st_mtime_ns)
    with _opener(file)(file, "rt", encoding="utf-8-sig") as lines:  # Some editors begin a file with a byte order mark.
        for line in filter(str.strip, lines):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise BadInput(f"{file}: not valid JSON: {error}: {line.strip()[:60]}") from None
            if not isinstance(row, dict):
                raise BadInput(f"{file}: expected a JSON object in every line, found {line.strip()[:60]}")
            yield line, row


def text_array(values: list[Any], place: str, done: int) -> pa.Array:
    """Returns the texts of a batch that begins after `done` rows; `place` has a gap for the number of a row."""
    try:
        return pa.array(values, pa.string())
    except (pa.ArrowException, UnicodeEncodeError):
        for row, value in enumerate(values, done + 1):
            if not (value is None or isinstance(value, str)):
                raise BadInput(f"{place.format(row)}: expected a text, found {json.dumps(value)[:40]}") from None
            if value is not None and any("\ud800" <= character <= "\udfff" for character in value):
                raise BadInput(
                    f"{place.format(row)}: the text has half a character (a lone surrogate); correct it"
                ) from None
        raise


def _read_typed(file: Path, split: str, labelling: Labelling) -> Batches:
    """Yields the rows of a parquet or Arrow file, whose columns have types of their own."""
    with open_typed(file) as (schema, read_batches):
        columns = labelling.columns_of(schema.names, split, str(file))
        feature = stored_feature(schema, labelling.label_column, str(file))
        for batch in filter(len, read_batches(columns)):
            arrays = {name: plain(batch[name]) for name in columns}
            if labelling.label_column in arrays:
                labels = arrays[labelling.label_column]
                arrays[labelling.label_column] = decode_labels(labels, feature, labelling, str(file))
            yield pa.record_batch(arrays)


@contextmanager
def open_typed(file: Path) -> Iterator[tuple[pa.Schema, Callable[[list[str]], Iterable[pa.RecordBatch]]]]:
    """Opens a parquet file, or either of Arrow's two formats: the file, which begins with its name, and the stream.

    Yields:
        The schema, and what reads the batches. It looks at no other columns than those it is called with.
    """
    if file_format(file) == "parquet":
        with pyarrow.parquet.ParquetFile(file) as parquet:
            yield (
                parquet.schema_arrow,
                lambda columns: map(_whole, parquet.iter_batches(BATCH_ROWS, columns=columns)),
            )
        return
    with pa.memory_map(str(file)) as mapped:
        is_file = mapped.read(6) == b"ARROW1"
        mapped.seek(0)
        arrow = pa.ipc.open_file(mapped) if is_file else pa.ipc.open_stream(mapped)
        batches = map(arrow.get_batch, range(arrow.num_record_batches)) if is_file else arrow
        yield arrow.schema, lambda columns: (_whole(batch.select(columns)) for batch in batches)


def _whole(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Returns a batch whose texts are UTF-8, which the program that wrote it may not have made sure of.

    Raises:
        pyarrow.ArrowInvalid: one is not.
    """
    batch.validate(full=True)
    return batch


def plain(column: pa.Array) -> pa.Array:
    """Undoes what other programs do to save space: categories, and texts and lists of other layouts."""
    kind = column.type
    if pa.types.is_dictionary(kind):  # what pandas writes for a categorical
        column, kind = column.dictionary_decode(), kind.value_type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.string())
    if pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_list_view(kind):
        return column.cast(pa.list_(kind.value_type))
    return column


READERS: dict[str, Callable[[Path, str, Labelling], Batches]] = {
    "csv": _read_delimited,
    "tsv": _read_delimited,
    "jsonl": _read_jsonl,
    "parquet": _read_typed,
    "arrow": _read_typed,
}
