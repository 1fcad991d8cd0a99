"""Reads the label column of each split: which splits have labels, and strings that are split into lists of labels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.download.column_types import is_list, is_number, is_text
from stages.download.source import UNLABELLED, Source, split_kind
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.terminal import warn


@dataclass(frozen=True)
class Labels:
    """The labels of one split."""

    values: Any  # Arrow[labels]: numbers, texts, or lists of either
    rows: np.ndarray  # int64[labels]: the row, from 0, that each label belongs to
    place: str  # the file or repository to name in a message


def read_labels(source: Source) -> dict[str, Labels]:
    """Returns the labels of the splits that have labels, one for each row.

    Raises:
        BadInput: train or a validation split has no labels, or some rows of a split have none.
    """
    name = source.labelling.label_column
    splits = {split: _labels(source, split) for split in source.tables}
    train = splits["train"]
    if train is None:
        raise BadInput(
            f"{source.places['train']}: no labels in column {name!r}, or {UNLABELLED} throughout; "
            "the train split needs a label in every row (download.label_column names the column)"
        )
    for split in (split for split, labels in splits.items() if labels is None):
        place, table = source.places[split], source.tables[split]
        if split_kind(split) == "validation":
            raise BadInput(
                f"{place}: the {split} split has no labels, or {UNLABELLED} throughout; add labels, because train "
                "scores each epoch on it"
            )
        if name in table.column_names and _all_unlabelled(table[name]) and pc.any(_is_unlabelled(train.values)).as_py():
            warn(
                f"download: warning: {place}: every label of the {split} split is {UNLABELLED}, which is also a "
                "label in train; the split is treated as unlabelled"
            )
    return {split: labels for split, labels in splits.items() if labels is not None}


def _labels(source: Source, split: str) -> Labels | None:
    """Returns the label column of a split as it was found, or None where the split is unlabelled throughout."""
    table, place, column = source.tables[split], source.places[split], source.labelling.label_column
    if column not in table.column_names:
        return None  # This is a test split: any other was refused without the column.
    labels = table[column]
    if pa.types.is_boolean(labels.type):
        labels = labels.cast(pa.string())  # true, false
    if pa.types.is_floating(labels.type) or pa.types.is_decimal(labels.type):
        labels = labels.cast(pa.float64(), safe=False)  # Many functions of pyarrow do not take floats of 16 bits.
        labels = pc.if_else(pc.is_nan(labels), None, labels)
    empty = labels.is_null()
    if pc.all(empty).as_py() or _all_unlabelled(labels):
        return None
    if source.labelling.label_delimiter is not None:
        labels = _cut(labels, source.labelling.label_delimiter, place)
    elif pc.any(empty).as_py():
        row = pc.index(empty, True).as_py() + 1
        raise BadInput(f"{place}: row {row}: no value in column {column!r}; label every row of the split, or none")
    return Labels(labels, np.arange(len(labels)), place)


def _cut(labels: pa.ChunkedArray, delimiter: str, place: str) -> pa.ChunkedArray:
    """Cuts texts into lists of labels, whole numbers where all of them are; an empty cell has none."""
    if not (is_text(labels.type) or pa.types.is_integer(labels.type)):
        raise BadInput(f"{place}: download.label_delimiter splits texts, found {labels.type}; set it to null")
    encoded = labels.cast(pa.string()).fill_null("").combine_chunks().dictionary_encode()
    cells: list[list[Any]] = [
        [label for part in cell.split(delimiter) if (label := part.strip())] for cell in encoded.dictionary.to_pylist()
    ]
    kind = pa.string()
    if all(label.isascii() and label.isdigit() and str(int(label)) == label for cell in cells for label in cell):
        cells, kind = [list(map(int, cell)) for cell in cells], pa.int64()
    return pa.chunked_array([pa.array(cells, pa.list_(kind)).take(encoded.indices)])


def _all_unlabelled(labels: pa.ChunkedArray) -> bool:
    """Says whether every label, or everything in the lists of labels, is -1."""
    return bool(pc.all(_is_unlabelled(pc.list_flatten(labels) if is_list(labels.type) else labels)).as_py())


def _is_unlabelled(labels: pa.ChunkedArray) -> Any:
    """Compares numbers with -1, as floats because pyarrow cannot compare unsigned ones of 64 bits with it."""
    return pc.equal(labels.cast(pa.float64(), safe=False), UNLABELLED) if is_number(labels.type) else pa.array([False])
