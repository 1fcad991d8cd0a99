"""Reads the label column of each split: which rows have labels, and what they are called, the same in every format."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.download.column_types import aliased, aliases_of, as_written, is_list, is_number, is_text
from stages.download.source import UNLABELLED, Labelling, Source, split_kind
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.terminal import warn


@dataclass(frozen=True)
class Labels:
    """The labels of one split."""

    values: Any  # Arrow[labels]: numbers, texts, or lists of either
    rows: np.ndarray  # int64[labels]: the row, from 0, that each label belongs to
    size: int  # the number of rows of the split
    place: str  # the file or repository to name in a message
    report: Callable[[Any, str, str], None]  # notes rows that are wrong, in what, and what to do (see `Source.report`)


def tidy_labels(source: Source) -> Source:
    """Brings the label columns to one form: a row without a label has null, and so has a whole split without labels.

    Labels that are texts lose the white space around them, and one that is blank is none. `download.label_aliases`
    replaces labels. Texts are cut into lists where `download.label_delimiter` says so; -1 throughout a split means that
    it has no labels.

    Raises:
        BadInput: an alias leads to another alias, or what a delimiter is to cut is no text.
    """
    labelling = source.labelling
    aliases = aliases_of(labelling)
    if chained := [value for value in aliases.values() if value in aliases]:
        raise BadInput(
            f"params.yaml: download.label_aliases: {chained[0]!r} is an alias itself; name the label that is meant"
        )
    if labelling.label_names is not None:
        names = [aliased(name, aliases) for name in labelling.label_names]
        labelling = replace(labelling, label_names=list(dict.fromkeys(name for name in names if name is not None)))
    name, tables = labelling.label_column, dict(source.tables)
    tidy = {
        split: _tidy(table[name], labelling, aliases, source.places[split])
        for split, table in tables.items()
        if name in table.column_names
    }
    for split, labels in tidy.items():
        nothing = pc.all(labels.is_null()).as_py()
        unlabelled = nothing or _all_unlabelled(labels)
        ambiguous = unlabelled and not nothing and split_kind(split) == "test"
        if ambiguous and pc.any(_is_unlabelled(tidy["train"])).as_py():
            warn(
                f"download: warning: {source.places[split]}: every label of the {split} split is {UNLABELLED}, which "
                "is also a label in train; the split is treated as unlabelled"
            )
        if unlabelled:
            labels = pa.chunked_array([pa.nulls(len(labels))])
        elif labelling.label_delimiter is not None:
            labels = _cut(labels, labelling.label_delimiter, aliases, source.places[split])
        table = tables[split]
        tables[split] = table.set_column(table.column_names.index(name), name, labels)
    return replace(source, tables=tables, labelling=labelling)


def read_labels(source: Source) -> dict[str, Labels]:
    """Returns the labels of the splits that have labels, one for each row; a row without one is reported.

    Args:
        source: as `tidy_labels` returns it.

    Raises:
        BadInput: train or a validation split has no labels.
    """
    name = source.labelling.label_column
    splits = {split: _labels(source, split) for split in source.tables}
    if splits["train"] is None:
        raise BadInput(
            f"{source.places['train']}: no labels in column {name!r}, or {UNLABELLED} throughout; "
            "the train split needs a label in every row (download.label_column names the column)"
        )
    for split in (split for split, labels in splits.items() if labels is None):
        if split_kind(split) == "validation":
            raise BadInput(
                f"{source.places[split]}: the {split} split has no labels, or {UNLABELLED} throughout; add labels, "
                "because train scores each epoch on it"
            )
    return {split: labels for split, labels in splits.items() if labels is not None}


def _labels(source: Source, split: str) -> Labels | None:
    """Returns the labels of a split, or None where it has none."""
    table, column = source.tables[split], source.labelling.label_column
    if column not in table.column_names or table[column].null_count == table.num_rows:
        return None  # Without the column this is a test split: any other was refused.
    labels = table[column]
    if not labels.null_count:
        rows = np.arange(table.num_rows)
        return Labels(labels, rows, table.num_rows, source.places[split], partial(source.report, split))
    missing = np.asarray(labels.is_null())
    source.report(
        split,
        np.flatnonzero(missing),
        f"no value in column {column!r}",
        "label every row of the split, or none, or set download.on_unlabelled to drop",
    )
    rows, labels = np.flatnonzero(~missing), labels.filter(pa.array(~missing))
    return Labels(labels, rows, table.num_rows, source.places[split], partial(source.report, split))


def _tidy(labels: pa.ChunkedArray, labelling: Labelling, aliases: Mapping[str, str | None], place: str) -> Any:
    """Returns the labels of a split without white space around them, by the names that aliases stand for."""
    if pa.types.is_dictionary(labels.type):
        labels = labels.cast(labels.type.value_type)
    if pa.types.is_boolean(labels.type):
        labels = labels.cast(pa.string())  # true, false
    if pa.types.is_floating(labels.type) or pa.types.is_decimal(labels.type):
        labels = labels.cast(pa.float64(), safe=False)  # Many functions of pyarrow do not take floats of 16 bits.
        labels = pc.if_else(pc.is_nan(labels), None, labels)
    if is_list(labels.type):
        return _tidy_lists(labels.combine_chunks(), aliases)
    if labelling.label_delimiter is not None:  # The labels stand in one text, which is cut first.
        return _renamed(labels, {}) if is_text(labels.type) else labels
    return _renamed(labels, aliases)


def _renamed(labels: Any, aliases: Mapping[str, str | None]) -> Any:
    """Replaces each distinct label by its name; other kinds than texts and numbers stay as they are."""
    if not (is_text(labels.type) or (aliases and is_number(labels.type))):
        return labels
    encoded = (labels.combine_chunks() if isinstance(labels, pa.ChunkedArray) else labels).dictionary_encode()
    values = encoded.dictionary.to_pylist()
    names = [aliased(value, aliases) for value in values]
    if is_number(labels.type) and any(isinstance(name, str) for name in names):  # then all of them are names
        names = [name if name is None or isinstance(name, str) else as_written(name) for name in names]
        return pa.array(names, pa.string()).take(encoded.indices)
    return pa.array(names, encoded.dictionary.type).take(encoded.indices)


def _tidy_lists(lists: Any, aliases: Mapping[str, str | None]) -> pa.ChunkedArray:
    """Does the same in lists; a label that stands for none is left out, and a list of nothing else is null."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)
    members = lists.flatten()
    missing = members.is_null().to_numpy(zero_copy_only=False)  # said to be wrong where the lists are read
    names = _renamed(members, aliases)
    if not aliases or not len(members):
        kept = np.ones(len(members), dtype=bool)
    else:
        kept = missing | ~names.is_null().to_numpy(zero_copy_only=False)
    left = np.bincount(np.repeat(np.arange(len(lengths)), lengths)[kept], minlength=len(lengths))
    ends = np.append(0, np.cumsum(left)).astype(np.int32)
    nothing = lists.is_null().to_numpy(zero_copy_only=False) | ((left == 0) & (lengths > 0))
    return pa.chunked_array(
        [pa.ListArray.from_arrays(pa.array(ends), names.filter(pa.array(kept)), mask=pa.array(nothing))]
    )


def _cut(labels: Any, delimiter: str, aliases: Mapping[str, str | None], place: str) -> pa.ChunkedArray:
    """Cuts texts into lists of labels, whole numbers where all of them are; an empty cell has none.

    A cell of which every label stands for none is null.
    """
    if not (is_text(labels.type) or pa.types.is_integer(labels.type)):
        raise BadInput(f"{place}: download.label_delimiter splits texts, found {labels.type}; set it to null")
    texts = labels.cast(pa.string()).fill_null("")
    encoded = (texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts).dictionary_encode()
    cells: list[list[Any] | None] = []
    for cell in encoded.dictionary.to_pylist():
        parts = [label for part in cell.split(delimiter) if (label := part.strip())]
        names = [name for part in parts if (name := aliased(part, aliases)) is not None]
        cells.append(None if parts and not names else names)
    kind = pa.string()
    if all(map(_is_position, (label for cell in cells for label in cell or ()))):
        cells, kind = [None if cell is None else list(map(int, cell)) for cell in cells], pa.int64()
    return pa.chunked_array([pa.array(cells, pa.list_(kind)).take(encoded.indices)])


def _is_position(label: str) -> bool:
    return label.isascii() and label.isdigit() and str(int(label)) == label


def _all_unlabelled(labels: Any) -> bool:
    """Says whether every label, or everything in the lists of labels, is -1."""
    return bool(pc.all(_is_unlabelled(labels)).as_py())


def _is_unlabelled(labels: Any) -> Any:
    """Compares labels, or those in lists, with -1; numbers as floats, since pyarrow knows unsigned ones of 64 bits."""
    values = pc.list_flatten(labels) if is_list(labels.type) else labels
    if not len(values):
        return pa.array([is_number(values.type)])
    if is_text(values.type):  # in a csv file whose other splits have texts
        return pc.match_substring_regex(values, rf"^{UNLABELLED}(\.0*)?$")
    return pc.equal(values.cast(pa.float64(), safe=False), UNLABELLED) if is_number(values.type) else pa.array([False])
