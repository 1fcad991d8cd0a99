"""Reads the groups of `download.group_column`: rows that belong together, such as those of one author or document."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from stages.download.column_types import is_text
from stages.download.source import Source
from stages.shared.runtime.errors import BadInput
from stages.shared.task.groups import GROUP


def read_groups(source: Source) -> dict[str, pa.ChunkedArray]:
    """Returns the group of each row, string[rows] of every split; nothing where no column is asked for.

    White space around a name is none of it, and a whole number is its digits: the splits may be files of two formats.

    Raises:
        BadInput: the column is of another type, or all rows are of one group. (A row without one is reported.)
    """
    labelling = source.labelling
    if labelling.group_column is None:
        return {}
    groups = {split: _names(source, split, labelling.group_column) for split in source.tables}
    names = {name for column in groups.values() for name in pc.unique(column)[:2].to_pylist()}
    if len(names) == 1:
        raise BadInput(
            f"{source.places['train']}: all rows are in one group, {names.pop()!r} in column "
            f"{labelling.group_column!r}; name another column in download.group_column, or set it to null"
        )
    return groups


def _names(source: Source, split: str, name: str) -> pa.ChunkedArray:
    column, place = source.tables[split][name], source.places[split]
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_floating(kind):  # what pandas makes of whole numbers where one is missing
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
        kind = pa.int64() if pc.all(pc.equal(column, pc.floor(column))).as_py() is not False else kind
    if not (is_text(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
        raise BadInput(
            f"{place}: column {name!r} (download.group_column): expected texts or whole numbers, found {kind}"
        )
    try:
        texts = pc.utf8_trim_whitespace(column.cast(kind).cast(pa.string()))
    except pa.ArrowInvalid:  # a number that is whole because it is too large for anything behind the point
        raise BadInput(f"{place}: column {name!r} (download.group_column): numbers beyond 64 bits") from None
    source.report(
        split,
        np.flatnonzero(pc.fill_null(pc.equal(texts, ""), True)),
        f"no group in column {name!r} (download.group_column)",
        "give a row that belongs to no group a unique name",
    )
    return texts


def group_codes(splits: list[Dataset]) -> list[np.ndarray] | None:
    """Numbers the groups of all splits, int64[rows] each: equal where the groups are; None where there are none."""
    if GROUP not in splits[0].column_names:
        return None
    columns = [chunk for split in splits for chunk in split.data.table[GROUP].chunks]
    numbers = pa.chunked_array(columns).combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    return np.split(numbers, np.cumsum(list(map(len, splits)))[:-1])
