"""Keeps the columns of `download.keep_columns` for the reader of the results; the model never sees them."""

import pyarrow as pa
import pyarrow.compute as pc

from stages.download.source import Source
from stages.shared.runtime.errors import BadInput
from stages.shared.task.kept_columns import kept


def read_kept(source: Source) -> dict[str, dict[str, pa.ChunkedArray]]:
    """Returns the columns of each split, string[rows] each, under the names that they have in data/raw.

    A number is kept as it is written, and what is missing as an empty text.

    Raises:
        BadInput: a column has values that cannot be written in a word, such as lists.
    """
    return {
        split: {
            kept(name): _as_texts(table[name], name, source.places[split]) for name in source.labelling.keep_columns
        }
        for split, table in source.tables.items()
    }


def _as_texts(column: pa.ChunkedArray, name: str, place: str) -> pa.ChunkedArray:
    try:
        return pc.fill_null(column.cast(pa.string()), "")
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        raise BadInput(
            f"{place}: column {name!r} (download.keep_columns): expected texts, numbers or dates, found {column.type}"
        ) from None
