"""Protects texts in csv files that people open in a spreadsheet, which would take some of them for formulas.

The rule: a text that begins with = + - @ (or their full-width forms), a tab, an end of line or an apostrophe has one
apostrophe more before it. Numbers stand as they are. Who reads such a file as data takes that apostrophe off again.
"""

import csv
import io
from collections.abc import Iterable
from typing import Any

BEGINS_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\t", "\r", "\n")
MARK = "'"


def as_cells(values: Iterable[Any]) -> list[Any]:
    """Returns the cells of a row: texts by the rule above, numbers as they are."""
    return [f"{MARK}{value}" if _is_marked(value) else value for value in values]


def csv_line(values: Iterable[Any]) -> str:
    """Returns a row as a line of csv, its end included; texts that hold an end of a line, of any system, are quoted."""
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\r\n").writerow(as_cells(values))  # what is in the terminator is what it quotes
    return line.getvalue().removesuffix("\r\n") + "\n"


def text_of(cell: str) -> str:
    """Returns the text that a cell was made of."""
    return cell.removeprefix(MARK)


def _is_marked(value: Any) -> bool:
    return isinstance(value, str) and value.startswith((*BEGINS_FORMULA, MARK))
