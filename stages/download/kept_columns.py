"""Keeps the columns of `download.keep_columns` and `id_column` for the reader of the results, not for the model."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.download.source import Source
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.terminal import warn
from stages.shared.task.kept_columns import kept


def read_kept(source: Source) -> dict[str, dict[str, pa.ChunkedArray]]:
    """Returns the columns of each split, string[rows] each, under the names that they have in data/raw.

    A number is kept as it is written, and what is missing as an empty text.

    Raises:
        BadInput: a column has values that cannot be written in a word, such as lists.
    """
    return {
        split: {
            kept(name): _as_texts(table[name], name, source.places[split], "keep_columns")
            for name in source.labelling.keep_columns
        }
        for split, table in source.tables.items()
    }


def read_ids(source: Source) -> dict[str, pa.ChunkedArray]:
    """Returns the id of each row, string[rows] of every split, as it is written; nothing without `download.id_column`.

    Ids that are missing or stand in several rows are pointed out: whoever looks a row up by them finds another one.

    Raises:
        BadInput: the column has values that cannot be written in a word, such as lists.
    """
    name = source.labelling.id_column
    if name is None:
        return {}
    ids = {
        split: _as_texts(table[name], name, source.places[split], "id_column") for split, table in source.tables.items()
    }
    for split, column in ids.items():
        encoded = column.combine_chunks().dictionary_encode()
        counts = np.bincount(encoded.indices.to_numpy(), minlength=len(encoded.dictionary))
        if len(several := np.flatnonzero(counts > 1)):
            example = encoded.dictionary[int(several[0])].as_py()
            what = f"id {example!r} (download.id_column)" if example else f"no id in column {name!r}"
            warn(
                f"download: warning: {source.places[split]}: {int(counts[several].sum())} rows have an id that is not "
                f"theirs alone, such as {int(counts[several[0]])} rows with {what}"
            )
    return ids


def _as_texts(column: pa.ChunkedArray, name: str, place: str, key: str) -> pa.ChunkedArray:
    try:
        return pc.fill_null(column.cast(pa.string()), "")
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        raise BadInput(
            f"{place}: column {name!r} (download.{key}): expected texts, numbers or dates, found {column.type}"
        ) from None
