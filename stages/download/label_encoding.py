"""Encodes labels for each problem type: as class indices, numbers, or sets of classes."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, List, Value

from stages.download.column_types import NUMBER, WHOLE_NUMBER, as_written, is_list, is_number, is_text
from stages.download.labels import Labels, read_labels
from stages.download.look_alikes import look_alike, look_alikes
from stages.download.problems import MAX_LISTED_KINDS
from stages.download.source import UNLABELLED, Labelling, Source
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.terminal import warn

WHOLE_FLOATS_BELOW = 2.0**53  # Up to here a float is the whole number that was written.
MAX_SHOWN_TYPE = 60  # characters; lists of lists of lists have long names
MAX_LISTED_NAMES = 10  # A message lists as many names of labels, and counts the others.

LabelledSplits = Mapping[str, Labels]
Encoded = tuple[Any, list[str], dict[str, Any]]  # the feature, the names of the labels, labelled split -> column


def encode_labels(source: Source) -> Encoded:
    """Returns the feature, the label names in the order of the logits (empty: a regression), and each split's column.

    A column holds int64[rows] (classes), float32[rows] (numbers) or float32[rows, names] of 0 and 1 (sets); an
    unlabelled split holds -1 throughout.

    Raises:
        BadInput: labels are of the wrong kind, or train has none. (What is wrong with single rows is reported.)
    """
    feature, names, encoded = ENCODERS[source.labelling.problem_type](read_labels(source), source.labelling)
    if pairs := look_alikes(names):
        some = ", ".join(f"{one!r} and {other!r}" for one, other in pairs[:MAX_LISTED_NAMES])
        example = json.dumps(dict([pairs[0]]), ensure_ascii=False)
        warn(
            f"download: warning: names of labels that look alike: {some}{', ...' if pairs[MAX_LISTED_NAMES:] else ''}; "
            f"they are classes of their own unless download.label_aliases says otherwise, as in {example}"
        )
    for split in source.tables.keys() - encoded:
        rows = source.tables[split].num_rows
        shape = (rows, len(names)) if isinstance(feature, List) else (rows,)
        encoded[split] = _column(np.full(shape, UNLABELLED, dtype=np.float32))
    return feature, names, encoded


def _encode_classes(splits: LabelledSplits, labelling: Labelling) -> Encoded:
    """One class a row: its index among the names."""
    splits = {split: _scalars(labels, labelling) for split, labels in splits.items()}
    index_of, names = _name_labels(splits, labelling.label_names)
    if len(names) < 2 or len(set(names)) < len(names):
        raise BadInput(f"{splits['train'].place}: a classification needs two or more different labels, got {names}")
    if all(map(NUMBER.fullmatch, names)) and not all(map(WHOLE_NUMBER.fullmatch, names)):
        warn(
            f"download: warning: the classes are numbers such as {names[0]}; if it is the number that is to be "
            "predicted, set download.problem_type to regression"
        )
    encoded = {split: _column(_indices(labels, index_of)) for split, labels in splits.items()}
    return ClassLabel(names=names), names, encoded


def _encode_numbers(splits: LabelledSplits, labelling: Labelling) -> Encoded:
    """One number a row."""
    encoded: dict[str, Any] = {}
    for split, labels in splits.items():
        if not is_number(labels.values.type):
            values = labels.values.to_pylist()
            wrong = [place for place, value in enumerate(values) if not NUMBER.fullmatch(str(value).strip())]
            wrong = wrong or [0]  # Where all look like numbers, they are texts in a file that tells the two apart.
            labels.report(
                labels.rows[wrong],
                f"a regression needs numbers in its label column, found {str(values[wrong[0]])[:40]!r}",
                "correct the label, or leave it out by download.label_aliases and download.on_unlabelled",
            )
            continue
        # A whole number beyond 2**24 is rounded, as other numbers are; a safe cast would refuse it.
        numbers = labels.values.cast(pa.float64(), safe=False).cast(pa.float32(), safe=False)
        finite = pc.is_finite(numbers)
        if not pc.all(finite).as_py():
            beyond = np.flatnonzero(~np.asarray(finite))
            what = f"label {labels.values[int(beyond[0])].as_py()} is not a finite 32-bit number"
            labels.report(labels.rows[beyond], what, "correct the row")
        encoded[split] = numbers
    return Value("float32"), [], encoded


def _encode_sets(splits: LabelledSplits, labelling: Labelling) -> Encoded:
    """Any number of classes a row, given as a list.

    A list holds the labels of its row. Where all lists, in all splits, are equally long, with more than one entry and
    nothing but 0 and 1, they have an entry for each label instead: as labels they would be the same in every row.
    """
    members = {split: _members(labels, labelling) for split, labels in splits.items()}
    sizes = {size for labels in splits.values() for size in pc.unique(pc.list_value_length(labels.values)).to_pylist()}
    distinct = {value for labels in members.values() for value in pc.unique(labels.values).to_pylist()}
    whole = all(len(labels.values) == sum(sizes) * len(splits[split].values) for split, labels in members.items())
    if len(sizes) == 1 and max(sizes) > 1 and distinct <= {0, 1} and whole:
        members = {split: _ones(labels, max(sizes), labelling.label_names) for split, labels in members.items()}
    if not len(members["train"].values):
        raise BadInput(f"{splits['train'].place}: every list of labels is empty; there is nothing to learn")
    index_of, names = _name_labels(members, labelling.label_names)
    encoded = {}
    for split, labels in members.items():
        indices = _indices(labels, index_of)
        _check_once(labels, indices, names)
        matrix = np.zeros((labels.size, len(names)), dtype=np.float32)
        matrix[labels.rows, indices] = 1.0
        encoded[split] = _column(matrix)
    return List(Value("float32")), names, encoded


def _scalars(labels: Labels, labelling: Labelling) -> Labels:
    """Makes sure that labels are texts or whole numbers; 1.0 is taken for 1, and 1.1 for a name in `label_names`."""
    values = labels.values
    wrong: Any = values.type
    if pa.types.is_floating(values.type):
        whole = pc.and_(pc.equal(values, pc.round(values)), pc.less(pc.abs(values), WHOLE_FLOATS_BELOW))
        if pc.all(whole).as_py():
            return replace(labels, values=values.cast(pa.int64()))
        encoded = pa.chunked_array([values]) if isinstance(values, pa.Array) else values
        encoded = encoded.combine_chunks().dictionary_encode()
        written = list(map(as_written, encoded.dictionary.to_pylist()))
        if set(written) <= set(labelling.label_names or ()):
            return replace(labels, values=pa.array(written).take(encoded.indices))
        wrong = values.filter(pc.invert(whole))[0].as_py()
    if not (pa.types.is_integer(values.type) or is_text(values.type)):
        raise BadInput(
            f"{labels.place}: column {labelling.label_column!r}: a class is a text or a whole number, "
            f"found {str(wrong)[:MAX_SHOWN_TYPE]}; check download.problem_type"
        )
    return labels


def _members(lists: Labels, labelling: Labelling) -> Labels:
    """Takes the labels out of their lists."""
    if not is_list(lists.values.type):
        raise BadInput(
            f"{lists.place}: multi-label rows need a list of labels, found {lists.values.type}; set "
            "download.label_delimiter to split texts into lists"
        )
    rows = np.repeat(lists.rows, pc.list_value_length(lists.values).to_numpy())
    members = replace(lists, values=pc.list_flatten(lists.values), rows=rows)
    if members.values.null_count:
        missing = np.asarray(members.values.is_null())
        lists.report(np.unique(rows[missing]), "null in the list of labels", "remove it")
        members = replace(members, values=members.values.filter(pa.array(~missing)), rows=rows[~missing])
    # Where all lists are empty, their labels may have the type null, which is no type of a label.
    return _scalars(members, labelling) if len(rows) else members


def _ones(labels: Labels, width: int, names: list[str] | None) -> Labels:
    """Turns lists with a 0 or a 1 for each of `width` labels into the names of the ones."""
    if names is None or len(names) != width:
        raise BadInput(
            f"{labels.place}: every list of labels has {width} entries, each 0 or 1; give the names of these "
            f"{width} labels, in their order, in download.label_names"
        )
    rows, indices = np.nonzero(labels.values.to_numpy().reshape(-1, width))
    return replace(labels, values=pa.array(names).take(pa.array(indices)), rows=labels.rows[::width][rows])


def _name_labels(splits: LabelledSplits, names: list[str] | None) -> tuple[dict[Any, int], list[str]]:
    """Returns the index of each label that occurs, and the label names; those of train, sorted, where none are given.

    A label that is not among the names, or is never seen in train, is reported.
    """
    distinct = {split: pc.unique(labels.values).to_pylist() for split, labels in splits.items()}
    everywhere = list(dict.fromkeys(value for values in distinct.values() for value in values))
    names_given = names is not None
    if names is None:
        names = [str(value) for value in sorted(distinct["train"])]
    # Labels are either all names or all positions, because 1 could be both; a single one that is a name decides it.
    if any(str(value) in names for value in everywhere):
        index_of = {value: names.index(str(value)) for value in everywhere if str(value) in names}
    else:
        index_of = {value: value for value in everywhere if isinstance(value, int) and 0 <= value < len(names)}
    # A class without an example in train cannot be learned, and its column of the logits would stay at random.
    seen = {index_of.get(value) for value in distinct["train"]}
    for split, values in distinct.items():
        labels = splits[split]
        wrong = [value for value in values if value not in index_of or index_of[value] not in seen]
        for value in wrong[:MAX_LISTED_KINDS]:
            if value in index_of or not names_given:
                reason = f"is never seen in train ({_some(names)})"
                remedy = "add training rows with it or remove it here"
            else:
                reason = f"is not among download.label_names {_some(names)}"
                remedy = "add it there or correct the row"
            if meant := next((name for name in names if name != str(value) and look_alike(name, str(value))), None):
                alias = json.dumps({str(value): meant}, ensure_ascii=False)
                remedy += f"; if it is {meant!r}, say so in download.label_aliases: {alias}"
            labels.report(_rows_with(labels, [value]), f"label {value!r} {reason}", remedy)
        if rest := wrong[MAX_LISTED_KINDS:]:  # of a column that is not the labels', say
            labels.report(
                _rows_with(labels, rest),
                f"{len(rest)} other labels are unknown in the same way",
                "check download.label_column",
            )
    return {value: index_of.get(value, 0) for value in everywhere}, names  # what has no index was reported


def _rows_with(labels: Labels, values: Sequence[Any]) -> np.ndarray:
    """Returns the rows that carry one of these labels, int64[some]."""
    carrying = pc.is_in(labels.values, value_set=pa.array(values, labels.values.type))
    return np.unique(labels.rows[np.asarray(carrying)])


def _some(names: Sequence[str]) -> str:
    """Lists names for a message, the first ones where they are many."""
    more = len(names) - MAX_LISTED_NAMES
    return str(names) if more <= 0 else f"{names[:MAX_LISTED_NAMES]} and {more} more"


def _indices(labels: Labels, index_of: Mapping[Any, int]) -> np.ndarray:
    """Returns the index of each label, int64[labels]; each distinct label is looked up once."""
    distinct = pc.unique(labels.values)
    indices = np.array([index_of[value] for value in distinct.to_pylist()], dtype=np.int64)
    return indices[pc.index_in(labels.values, value_set=distinct).to_numpy()]


def _check_once(labels: Labels, indices: np.ndarray, names: Sequence[str]) -> None:
    """Refuses a row that names a label, of those in `indices`, int64[labels], more than once."""
    _, first = np.unique(labels.rows * len(names) + indices, return_index=True)
    if len(first) < len(indices):
        again = np.setdiff1d(np.arange(len(indices)), first)
        labels.report(
            np.unique(labels.rows[again]),
            f"label {names[indices[again[0]]]!r} is in the list twice",
            "name each label once (or give every list a 0 or a 1 for each of download.label_names)",
        )


def _column(labels: np.ndarray) -> pa.Array:
    """Turns [rows] into a column, and [rows, names] into a column of lists."""
    if labels.ndim == 1:
        return pa.array(labels)
    return pa.ListArray.from_arrays(np.arange(0, labels.size + 1, labels.shape[1], dtype=np.int32), labels.ravel())


ENCODERS: dict[str, Callable[[LabelledSplits, Labelling], Encoded]] = {
    "single_label_classification": _encode_classes,
    "regression": _encode_numbers,
    "multi_label_classification": _encode_sets,
}
