"""Distinguishes columns of text, numbers and lists, and infers the types of columns that were read as text."""

import json
import re
from bisect import bisect_left
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stages.download.source import Labelling
from stages.shared.runtime.errors import BadInput

# A cell that is a number. One that begins with a needless zero, as 007, is a text to whoever wrote it.
NUMBER = re.compile(r"[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d+)?|nan|[+-]?inf", re.IGNORECASE)
# A whole number that fits into 64 bits. A longer one is read as a float, as other numbers are.
WHOLE_NUMBER = re.compile(r"[+-]?(0|[1-9]\d{0,17})")


def is_text(kind: pa.DataType) -> bool:
    """Says whether a column holds texts."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_number(kind: pa.DataType) -> bool:
    """Says whether a column holds numbers."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def is_list(kind: pa.DataType) -> bool:
    """Says whether a column holds lists."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def parse_columns(table: pa.Table, labelling: Labelling, file_format: str, place: str) -> pa.Table:
    """Gives the label column, `idx` and groups their types; until then they are texts, each distinct one parsed once.

    Args:
        table: the columns of use of a csv, tsv or jsonl file, all of them texts.
        place: the file to name in a message.

    Raises:
        BadInput: the labels have no type in common.
    """
    is_jsonl = file_format == "jsonl"
    names: set[str | None] = {labelling.label_column, "idx"}
    if is_jsonl:  # elsewhere a cell is its text
        names |= {labelling.group_column, *labelling.keep_columns}
    for name in names - {None, *labelling.text_columns}:
        column = table[name].combine_chunks().dictionary_encode()
        cells = column.dictionary.to_pylist()
        parsed = list(map(json.loads, cells)) if is_jsonl else _parse_cells(cells)
        if is_jsonl and name == labelling.group_column != "idx":
            parsed = _as_texts(parsed)
        elif name not in (labelling.label_column, "idx", labelling.group_column):
            parsed = [
                value if isinstance(value, str | None) else cell for value, cell in zip(parsed, cells, strict=True)
            ]
        values = _array(parsed)
        if values is None and name != "idx":
            number, reason = _first_misfit(parsed)
            row = pc.index(column.indices, number).as_py() + 1
            raise BadInput(f"{place}: row {row}: column {name!r}: {reason}")
        if values is None:
            values = pa.nulls(len(parsed))  # This `idx` numbers no rows, so they will be counted instead.
        table = table.set_column(table.schema.get_field_index(name), name, values.take(column.indices))
    return table


def _as_texts(values: list[Any]) -> list[Any]:
    """Writes whole numbers out where a group is called 7 in one row and "7" in another; other kinds stay."""
    return [str(value) if isinstance(value, int) and not isinstance(value, bool) else value for value in values]


def _parse_cells(cells: list[str]) -> list[Any]:
    """Reads the distinct cells of a column: numbers where all of them are such, else texts; a blank one has no value.

    Truth values are texts too: `True` is what it is called, in each split and in download.label_names.
    """
    stripped = [cell.strip() for cell in cells]
    filled = list(filter(None, stripped))
    kind = int if all(map(WHOLE_NUMBER.fullmatch, filled)) else float if all(map(NUMBER.fullmatch, filled)) else str
    return [kind(cell) if cell else None for cell in stripped]


def _first_misfit(values: list[Any]) -> tuple[int, str]:
    """Returns the place of the first value that does not go with those before it, and says why."""
    # Halving finds it in few arrays, since a column may have a million distinct values.
    number = bisect_left(range(len(values)), True, key=lambda last: _array(values[: last + 1]) is None)
    shown = json.dumps(values[number])[:40]
    if _array([values[number]]) is not None:
        return number, f"{shown} beside {json.dumps(values[0])[:40]}: values of several kinds; convert them to one"
    if "\\ud" in shown:
        return number, f"{shown} has half a character (a lone surrogate); correct the row"
    if isinstance(values[number], int):
        return number, f"{shown} does not fit a 64-bit integer; correct the row"
    return number, f"{shown} mixes values of several kinds; convert them to one"


def _array(values: list[Any]) -> pa.Array | None:
    """Returns the values as an array; None where they have no type in common."""
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        return None
