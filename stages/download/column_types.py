"""Distinguishes columns of text, numbers and lists, and infers the types of columns that were read as text."""

import json
import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stages.download.source import Labelling
from stages.shared.runtime.errors import BadInput

# A cell that is a number. One that begins with a needless zero, as 007, is a text to whoever wrote it.
NUMBER = re.compile(r"[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d+)?|nan|[+-]?inf", re.IGNORECASE)
# A whole number that fits into 64 bits, with or without a point behind it.
WHOLE_NUMBER = re.compile(r"[+-]?(0|[1-9]\d{0,17})(\.0*)?")
MINUS_ONE = re.compile(r"-1(\.0*)?")  # what a test split without labels may have in every row


def is_text(kind: pa.DataType) -> bool:
    """Says whether a column holds texts."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_number(kind: pa.DataType) -> bool:
    """Says whether a column holds numbers."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def is_list(kind: pa.DataType) -> bool:
    """Says whether a column holds lists."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def aliased(value: Any, aliases: Mapping[str, str | None]) -> Any:
    """Returns what a label is called: a text without white space around it, or what `aliases` has for it.

    Args:
        value: a text, a number, or anything else, which stays as it is.

    Returns:
        None for a blank text, and for what stands for no label.
    """
    if isinstance(value, str):
        written = value.strip()
        return aliases.get(written, written or None)
    if aliases and isinstance(value, int | float) and not isinstance(value, bool):
        return aliases.get(as_written(value), value)
    return value


def as_written(number: float) -> str:
    """Writes a number as people do: a whole one without a point."""
    return str(int(number)) if float(number).is_integer() else str(number)


def parse_columns(table: pa.Table, labelling: Labelling, file_format: str, place: str, kind: type) -> pa.Table:
    """Gives the label column, `idx` and groups their types; until then they are texts, each distinct one parsed once.

    Args:
        table: the columns of use of a csv, tsv or jsonl file, all of them texts.
        place: the file to name in a message.
        kind: what the labels of a csv or tsv file are (see `kind_of_labels`).

    Raises:
        BadInput: the labels have no type in common.
    """
    is_jsonl, aliases = file_format == "jsonl", aliases_of(labelling)
    names: set[str | None] = {labelling.label_column, "idx"}
    if is_jsonl:  # elsewhere a cell is its text
        names |= {labelling.group_column, labelling.id_column, *labelling.keep_columns}
    for name in names - {None, *labelling.text_columns}:
        column = table[name].combine_chunks().dictionary_encode()
        cells = column.dictionary.to_pylist()
        is_label = name == labelling.label_column
        if is_jsonl:
            parsed = list(map(json.loads, cells))
        elif is_label:
            parsed = [_parse_label(cell, labelling, aliases, kind) for cell in cells]
        else:
            parsed = _parse_cells(cells)
        if is_jsonl and is_label:  # what stands for none, such as "N/A", may be of another type than the labels
            parsed = [value if isinstance(value, list) else aliased(value, aliases) for value in parsed]
        elif is_jsonl and name == labelling.group_column != "idx":
            parsed = _as_texts(parsed)
        elif is_jsonl and name != "idx":
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


def aliases_of(labelling: Labelling) -> dict[str, str | None]:
    """Returns `download.label_aliases` without the white space around labels."""
    return {key.strip(): value and value.strip() for key, value in (labelling.label_aliases or {}).items()}


def kind_of_labels(tables: Iterable[pa.Table], labelling: Labelling) -> type:
    """Returns what the labels of csv files are: int, float or str; one answer for all splits.

    Classes are whole numbers where all of them are, 1.0 for 1 as well, and else stay as they are written: 1E2 and 100
    are two. In a regression they are numbers wherever all look like such.

    Args:
        tables: the splits, all cells texts.
    """
    column, aliases = labelling.label_column, aliases_of(labelling)
    cells: set[str] = set()
    for table in tables:
        found = {aliased(cell, aliases) for cell in pc.unique(table[column]).to_pylist()} - {None, column}
        if not all(map(MINUS_ONE.fullmatch, found)):  # else the split has no labels
            cells |= found
    if all(map(WHOLE_NUMBER.fullmatch, cells)):
        return int
    return float if labelling.problem_type == "regression" and all(map(NUMBER.fullmatch, cells)) else str


def _parse_label(cell: str, labelling: Labelling, aliases: Mapping[str, str | None], kind: type) -> Any:
    """Reads the cell of a label; among numbers, the column's own name is none (see `cleaning`)."""
    label = cell.strip() if labelling.label_delimiter is not None else aliased(cell, aliases)
    if not label:
        return None
    if kind is str:
        return label
    if label == labelling.label_column:
        return None
    return int(label.partition(".")[0]) if kind is int else float(label)


def _as_texts(values: list[Any]) -> list[Any]:
    """Writes whole numbers out where a group is called 7 in one row and "7" in another; other kinds stay."""
    return [str(value) if isinstance(value, int) and not isinstance(value, bool) else value for value in values]


def _parse_cells(cells: list[str]) -> list[Any]:
    """Reads the distinct cells of `idx`: whole numbers where all of them are such, else texts; a blank has no value."""
    stripped = [cell.strip() for cell in cells]
    is_whole = all(map(WHOLE_NUMBER.fullmatch, filter(None, stripped)))
    return [(int(cell.partition(".")[0]) if is_whole else cell) if cell else None for cell in stripped]


def _first_misfit(values: list[Any]) -> tuple[int, str]:
    """Returns the place of the first value that does not go with those before it, and says why."""
    # Halving finds it in few arrays, since a column may have a million distinct values.
    number = bisect_left(range(len(values)), True, key=lambda last: _array(values[: last + 1]) is None)
    shown = json.dumps(values[number])[:40]
    if _array([values[number]]) is not None:
        first = next(value for value in values if value is not None)
        return number, f"{shown} beside {json.dumps(first)[:40]}: values of several kinds; convert them to one"
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
