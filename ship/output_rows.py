"""Rows with their predictions, in any of the formats: first the columns of the file, as they were, then the new."""

import json
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from ship.input_rows import LINE, Portion
from stages.download.readers import text_array
from stages.shared.runtime.errors import BadInput
from stages.shared.task.cells import as_cells

FORMATS = ("csv", "tsv", "jsonl", "parquet", "arrow")
UNWRITABLE = ("\t", "\n", "\r")  # in a tsv, where nothing is quoted

Write = Callable[[Portion, pa.RecordBatch], None]


@contextmanager
def open_output(
    sink: BinaryIO, output: str, source: str, own: pa.Schema, answers: pa.Schema, *, delimiter: str
) -> Iterator[Write]:
    """Yields what writes rows with their answers.

    Args:
        output: the format to write.
        source: that of the rows.
        own: the rows' own columns.
        answers: the new columns.
        delimiter: stands between the labels of a row where a format has no lists.

    Raises:
        BadInput: a row cannot be written in this format.
    """
    if output == "jsonl":

        def write_lines(portion: Portion, found: pa.RecordBatch) -> None:
            sink.write(_json_lines(portion, found, source))

        yield write_lines
        return
    if output in ("parquet", "arrow"):
        schema = pa.schema([*own, *answers])
        with _binary_writer(sink, output, schema) as writer:
            yield lambda portion, found: writer.write_batch(
                pa.record_batch([*_own_columns(portion, own), *found.columns], schema=schema)
            )
        return
    is_marked = source not in ("csv", "tsv")  # their cells are as their owner wants them
    names = [*own.names, *answers.names]

    def flatten(portion: Portion, found: pa.RecordBatch) -> pa.Table:
        columns = [
            _cells(column, field, is_marked, None)
            for column, field in zip(_own_columns(portion, own), own, strict=True)
        ]
        columns += [
            _cells(column, field, True, delimiter) for column, field in zip(found.columns, answers, strict=True)
        ]
        return pa.table(columns, names)

    def write_tsv(portion: Portion, found: pa.RecordBatch) -> None:
        sink.write(_tabs(flatten(portion, found), portion.first))

    empty = pa.RecordBatch.from_pylist([], answers)
    nobody = Portion(pa.RecordBatch.from_pylist([], own), empty)
    if output == "tsv":
        sink.write(_tabs(pa.table([pa.array([name]) for name in names], names), -1))
        yield write_tsv
        return
    with pyarrow.csv.CSVWriter(sink, flatten(nobody, empty).schema) as csv_writer:
        yield lambda portion, found: csv_writer.write_table(flatten(portion, found))


def _binary_writer(sink: BinaryIO, output: str, schema: pa.Schema) -> Any:
    if output == "parquet":
        return pyarrow.parquet.ParquetWriter(sink, schema)
    return pa.ipc.new_stream(sink, schema)


def _own_columns(portion: Portion, own: pa.Schema) -> list[pa.Array]:
    """Returns the columns of a file, of jsonl what its objects have between them.

    Raises:
        BadInput: a text has half a character, which only the escapes of JSON can hold.
    """
    if not portion.objects:
        return list(portion.own.columns) if portion.own.num_rows else [pa.array([], field.type) for field in own]
    columns = []
    for name, kind in zip(own.names, own.types, strict=True):
        values = [_value(row.get(name), kind) for row in portion.objects]
        is_text = pa.types.is_string(kind)
        place = f"row {{}}: column {name!r}"
        columns.append(text_array(values, place, portion.first) if is_text else pa.array(values, kind))
    return columns


def _value(value: Any, kind: pa.DataType) -> Any:
    """Returns a value of a JSON object for a column of a type; in one of texts, other values are written as JSON."""
    if value is None or not pa.types.is_string(kind) or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _json_lines(portion: Portion, found: pa.RecordBatch, source: str) -> bytes:
    """Writes rows as jsonl; a line that was one stays as it is, but for what is put in before its last brace."""
    answers = [json.dumps(row, ensure_ascii=False)[1:] for row in _rows(found)]
    if source == "jsonl":
        starts = (line.rstrip().removesuffix("}").rstrip() for line in portion.own[LINE].to_pylist())
    else:
        starts = (json.dumps(row, ensure_ascii=False).removesuffix("}") for row in _rows(portion.own))
    return "".join(
        f"{start}{'' if start == '{' else ', '}{answer}\n" for start, answer in zip(starts, answers, strict=True)
    ).encode()


def _rows(batch: pa.RecordBatch) -> Iterable[dict[str, Any]]:
    columns = [_json_values(column) for column in batch.columns]
    return (dict(zip(batch.schema.names, row, strict=True)) for row in zip(*columns, strict=True))


def _json_values(column: pa.Array) -> list[Any]:
    """Returns the values of a column as JSON knows them: numbers of 32 bits short, what is no number as null."""
    kind = column.type
    if pa.types.is_float32(kind):
        column = column.cast(pa.string()).cast(pa.float64())
    if pa.types.is_floating(kind):
        return [value if value is not None and math.isfinite(value) else None for value in column.to_pylist()]
    if pa.types.is_nested(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return [_plain_json(value) for value in column.to_pylist()]
    return _texts(column).to_pylist()


def _plain_json(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _plain_json(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain_json(inner) for inner in value]
    return value if isinstance(value, str | int | None) else str(value)


def _texts(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast(pa.string())


def _cells(column: pa.Array, field: pa.Field, is_marked: bool, delimiter: str | None) -> pa.Array:
    """Returns a column for a csv: lists as one text, and texts by the rule of `stages/shared/task/cells.py`.

    Args:
        delimiter: what joins the values of a list. None: they are written as JSON.
    """
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return column
    try:
        if pa.types.is_nested(kind):
            column = pa.array([_joined(value, delimiter) for value in column.to_pylist()], pa.string())
        column = _texts(column)
    except pa.ArrowException:
        raise BadInput(f"column {field.name!r} holds {kind}, which is no text; choose --to parquet") from None
    return pa.array(as_cells(column.to_pylist()), pa.string()) if is_marked else column


def _joined(value: Any, delimiter: str | None) -> str | None:
    if value is None:
        return None
    if delimiter is None:
        return json.dumps(_plain_json(value), ensure_ascii=False)
    return delimiter.join(map(str, value))


def _tabs(table: pa.Table, done: int) -> bytes:
    """Writes rows as tsv, where no cell is quoted; they follow on `done` rows, -1 for the header."""
    columns = [column.cast(pa.string()).to_pylist() for column in table.columns]
    lines = []
    for number, row in enumerate(zip(*columns, strict=True), done + 1):
        cells = ["" if cell is None else cell for cell in row]
        if any(sign in cell for cell in cells for sign in UNWRITABLE):
            where = f"row {number}" if number else "the header"
            raise BadInput(f"{where} has a tab or an end of line in a cell, which no tsv can hold; choose --to csv")
        lines.append("\t".join(cells) + "\n")
    return "".join(lines).encode()
