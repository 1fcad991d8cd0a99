"""Joins the columns of a text into one: a title and a body, say. Download and `score` do it by the same code."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

JOINER = "\n"


def joined(columns: Sequence[Any]) -> Any:
    """Joins the texts of each row, string[rows] each, by an end of line; one column stays as it is.

    A text that is missing or blank is left out of its row, with its end of line. A row in which all are missing has no
    text, and one in which they are missing or blank has a blank one.
    """
    if len(columns) == 1:
        return columns[0]
    whole: Any = None
    missing: Any = None
    for column in columns:  # Two are joined where neither is missing, and else the one that is there stays.
        part = pc.if_else(is_blank(column), pa.scalar(None, column.type), column)
        both: Any = None if whole is None else pc.binary_join_element_wise(whole, part, JOINER)
        whole = part if whole is None else pc.coalesce(both, whole, part)
        missing = column.is_null() if missing is None else pc.and_(missing, column.is_null())
    return pc.coalesce(whole, pc.if_else(missing, pa.scalar(None, pa.string()), ""))


def is_blank(texts: Any) -> Any:
    """Says of each text whether it is missing, or nothing but white space."""
    return pc.fill_null(pc.equal(pc.utf8_trim_whitespace(texts), ""), True)


def find_blank(texts: Sequence[Any]) -> np.ndarray:
    """Says which rows have a text that is missing or blank, bool[rows], by their one or two texts."""
    return np.logical_or.reduce([np.asarray(is_blank(column)) for column in texts])
