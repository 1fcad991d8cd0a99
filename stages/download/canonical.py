"""Brings rows to the columns `text`, `text_pair`, `label`, `idx`, and refuses rows that do not fit."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, Features, List, Value

from stages.download.source import Source
from stages.shared.errors import BadInput

UNLABELLED = -1


def canonical_splits(source: Source) -> tuple[dict[str, Dataset], list[str]]:
    """Returns the splits with canonical columns, and the label names in the order of the logits (empty: a regression).

    Raises:
        BadInput: an empty split, a missing column, a null text, a label that is unknown or never seen in train.
    """
    for split, table in source.tables.items():
        if table.num_rows == 0:
            raise BadInput(f"{source.places[split]}: the {split} split is empty; add rows or remove it")
        twice = sorted({name for name in table.column_names if table.column_names.count(name) > 1})
        if twice:
            raise BadInput(f"{source.places[split]}: two columns are called {twice[0]!r}; rename or remove one")
    labels = {split: _label_column(source, split) for split in source.tables}
    if labels["train"] is None:
        raise BadInput(
            f"{source.places['train']}: no labels in column {source.labelling.label_column!r}; "
            "the train split needs a label in every row (download.label_column names the column)"
        )
    for split, column in labels.items():
        if column is None and split.split("_")[0] == "validation":
            raise BadInput(f"{source.places[split]}: the {split} split has no labels; training is steered by it")
    encode = _ENCODERS[source.labelling.problem_type]
    feature, names, encoded = encode(source, labels)
    splits = {}
    for split, table in source.tables.items():
        columns = {"text": _text_column(source, split, source.labelling.text_column)}
        if source.labelling.text_pair_column is not None:
            columns["text_pair"] = _text_column(source, split, source.labelling.text_pair_column)
        columns["label"] = encoded[split]
        columns["idx"] = _idx_column(table)
        features = Features(
            {name: Value("string") for name in columns if name.startswith("text")}
            | {"label": feature, "idx": Value("int32")}
        )
        splits[split] = Dataset(pa.table(columns).cast(features.arrow_schema)).cast(features, keep_in_memory=True)
    return splits, names


def carve(splits: Mapping[str, Dataset], fractions: Mapping[str, float | None], seed: int) -> dict[str, Dataset]:
    """Cuts the splits that are missing, and that have a fraction, out of train.

    The choice is seeded and stratified by class; rows keep their order.

    Raises:
        BadInput: validation is missing, or a fraction is given for a split that exists or leaves one empty.
    """
    result = dict(splits)
    for split, fraction in fractions.items():
        exists = any(name.split("_")[0] == split for name in result)
        if fraction is not None and exists:
            raise BadInput(
                f"params.yaml: download.{split}_fraction: the data has a {split} split already; set it to null"
            )
        if fraction is not None:
            train, chosen = result["train"], _stratified(result["train"], fraction, np.random.default_rng(seed))
            if not 0 < chosen.sum() < len(train):
                raise BadInput(
                    f"params.yaml: download.{split}_fraction: {fraction} of {len(train)} rows leaves a split empty"
                )
            result[split] = train.select(np.flatnonzero(chosen)).flatten_indices(keep_in_memory=True)
            result["train"] = train.select(np.flatnonzero(~chosen)).flatten_indices(keep_in_memory=True)
    if not any(name.split("_")[0] == "validation" for name in result):
        raise BadInput("no validation split; add one, or set download.validation_fraction to carve it from train")
    return result


def _label_column(source: Source, split: str) -> pa.ChunkedArray | None:
    """Returns the label column of a split as it was found, or None where the split is unlabelled throughout."""
    table, place, column = source.tables[split], source.places[split], source.labelling.label_column
    if column not in table.column_names:
        if split.split("_")[0] == "test":
            return None
        raise BadInput(_missing(place, column, "label_column", table))
    labels = table[column]
    if pa.types.is_boolean(labels.type):
        labels = labels.cast(pa.string())  # true, false
    if pa.types.is_floating(labels.type):
        labels = pc.if_else(pc.is_nan(labels), None, labels)
    empty = labels.is_null()
    if pc.all(empty).as_py() or (split != "train" and _throughout(labels, UNLABELLED)):
        return None
    if pc.any(empty).as_py():
        row = pc.index(empty, True).as_py() + 1
        raise BadInput(f"{place}: row {row}: no value in column {column!r}; label every row of the split, or none")
    return labels


def _throughout(labels: pa.ChunkedArray, value: int) -> bool:
    return pa.types.is_integer(labels.type) and bool(pc.all(pc.equal(labels, value)).as_py())


def _text_column(source: Source, split: str, column: str) -> pa.ChunkedArray:
    table, place = source.tables[split], source.places[split]
    if column not in table.column_names:
        key = "text_column" if column == source.labelling.text_column else "text_pair_column"
        raise BadInput(_missing(place, column, key, table))
    texts = table[column]
    if not (pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type)):
        raise BadInput(f"{place}: column {column!r}: expected texts, found {texts.type}")
    if texts.null_count:
        row = pc.index(texts.is_null(), True).as_py() + 1
        raise BadInput(f"{place}: row {row}: no text in column {column!r}; fill it in or remove the row")
    return texts.cast(pa.string())


def _idx_column(table: pa.Table) -> Any:
    """Keeps the source's own `idx` where it has one, else counts the rows: int32[rows]."""
    if "idx" in table.column_names:
        idx = table["idx"]
        whole = pa.types.is_integer(idx.type) and not idx.null_count and len(pc.unique(idx)) == len(idx)
        if whole and pc.min(idx).as_py() >= -(2**31) and pc.max(idx).as_py() < 2**31:
            return idx.cast(pa.int32())
    return pa.array(np.arange(table.num_rows, dtype=np.int32))


Encoded = tuple[Any, list[str], dict[str, Any]]


def _encode_classes(source: Source, labels: Mapping[str, pa.ChunkedArray | None]) -> Encoded:
    """One class a row: class indices, int64[rows]; -1 throughout where a split is unlabelled."""
    scalars = {split: _scalars(source, split, column) for split, column in labels.items() if column is not None}
    positions, names = _positions(source, scalars)
    if len(names) < 2 or len(set(names)) < len(names):
        raise BadInput(f"{source.places['train']}: a classification needs two or more different labels, got {names}")
    encoded: dict[str, Any] = {}
    for split in labels:
        if split in scalars:
            found = pc.unique(scalars[split])
            index = pc.index_in(scalars[split], value_set=found)
            encoded[split] = pc.take(pa.array([positions[value] for value in found.to_pylist()], pa.int64()), index)
        else:
            encoded[split] = pa.array(np.full(source.tables[split].num_rows, UNLABELLED))
    return ClassLabel(names=names), names, encoded


def _scalars(source: Source, split: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Makes sure that labels are texts or whole numbers; 1.0 is taken for 1."""
    if pa.types.is_floating(column.type) and pc.all(pc.equal(column, pc.round(column))).as_py():
        return column.cast(pa.int64())
    if not (
        pa.types.is_integer(column.type) or pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    ):
        raise BadInput(
            f"{source.places[split]}: column {source.labelling.label_column!r}: a class is a text or a whole number, "
            f"found {column.type}; check download.problem_type"
        )
    return column


def _positions(source: Source, scalars: Mapping[str, Any]) -> tuple[dict[Any, int], list[str]]:
    """Maps each label that occurs to its place among the label names, and returns both.

    Args:
        scalars: the labels of each labelled split, one by one, as texts or whole numbers.

    Raises:
        BadInput: a label has no place, or is never seen in train.
    """
    values = {split: pc.unique(column).to_pylist() for split, column in scalars.items()}
    distinct = list(dict.fromkeys(value for found in values.values() for value in found))
    names = source.labelling.label_names
    if names is None:
        names = [str(value) for value in sorted(values["train"])]
    # Labels are names, all of them, or positions, all of them: one that is a name makes the others names.
    if any(str(value) in names for value in distinct):
        positions = {value: names.index(str(value)) for value in distinct if str(value) in names}
    else:
        positions = {value: value for value in distinct if isinstance(value, int) and 0 <= value < len(names)}
    seen = {positions.get(value) for value in values["train"]}
    for split, found in values.items():
        for value in found:
            if value in positions and positions[value] in seen:
                continue
            if value in positions or source.labelling.label_names is None:
                reason = f"is never seen in train ({names}); add training rows with it or remove it here"
            else:
                reason = f"is not among download.label_names {names}; add it there or correct the row"
            raise BadInput(f"{source.places[split]}: row {_row(source, split, value)}: label {value!r} {reason}")
    return positions, names


def _row(source: Source, split: str, value: Any) -> int:
    """Returns the number, from 1, of the first row whose label is, or holds, `value`."""
    rows = source.tables[split][source.labelling.label_column].to_pylist()
    for number, label in enumerate(rows, 1):
        held = label if isinstance(label, list) else [label]
        if value in held or str(value) in (str(one).lower() if isinstance(one, bool) else one for one in held):
            return number
    raise AssertionError(f"{value!r} is in no row")


def _encode_numbers(source: Source, labels: Mapping[str, pa.ChunkedArray | None]) -> Encoded:
    """One number a row: float32[rows]; -1 throughout where a split is unlabelled."""
    encoded: dict[str, Any] = {}
    for split, column in labels.items():
        if column is None:
            encoded[split] = pa.array(np.full(source.tables[split].num_rows, UNLABELLED, dtype=np.float32))
            continue
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            raise BadInput(
                f"{source.places[split]}: a regression needs numbers in its label column, found {column.type}"
            )
        finite = pc.is_finite(column)
        if not pc.all(finite).as_py():
            row = pc.index(finite, False).as_py() + 1
            raise BadInput(f"{source.places[split]}: row {row}: the label is not a finite number; correct the row")
        encoded[split] = column.cast(pa.float32())
    return Value("float32"), [], encoded


def _encode_sets(source: Source, labels: Mapping[str, pa.ChunkedArray | None]) -> Encoded:
    """Any number of classes a row, given as a list: float32[rows, classes] of 0 and 1; -1 where unlabelled."""
    flat: dict[str, Any] = {}
    for split, column in labels.items():
        if column is None:
            continue
        if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
            raise BadInput(f"{source.places[split]}: multi-label rows need a list of labels, found {column.type}")
        flat[split] = pc.list_flatten(column)
        if flat[split].null_count:
            parents = pc.list_parent_indices(column).to_numpy()
            row = parents[pc.index(flat[split].is_null(), True).as_py()] + 1
            raise BadInput(f"{source.places[split]}: row {row}: null in the list of labels; remove it")
        if len(flat[split]):
            flat[split] = _scalars(source, split, flat[split])
    if not len(flat["train"]):
        raise BadInput(f"{source.places['train']}: every list of labels is empty; there is nothing to learn")
    positions, names = _positions(source, flat)
    encoded: dict[str, Any] = {}
    for split, column in labels.items():
        matrix = np.zeros((source.tables[split].num_rows, len(names)), dtype=np.float32)
        if column is None:
            matrix[:] = UNLABELLED
        else:
            parents = pc.list_parent_indices(column).to_numpy()
            matrix[parents, [positions[value] for value in flat[split].to_pylist()]] = 1.0
        encoded[split] = pa.FixedSizeListArray.from_arrays(matrix.ravel(), len(names)).cast(pa.list_(pa.float32()))
    return List(Value("float32")), names, encoded


_ENCODERS = {
    "single_label_classification": _encode_classes,
    "regression": _encode_numbers,
    "multi_label_classification": _encode_sets,
}


def _stratified(train: Dataset, fraction: float, generator: np.random.Generator) -> np.ndarray:
    """Picks `fraction` of every class, or of all rows where there are no classes: bool[rows]."""
    label = train.with_format("numpy")["label"][:]
    groups = label if isinstance(train.features["label"], ClassLabel) else np.zeros(len(train))
    chosen = np.zeros(len(train), dtype=bool)
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        chosen[generator.permutation(rows)[: round(fraction * len(rows))]] = True
    return chosen


def _missing(place: str, column: str, key: str, table: pa.Table) -> str:
    return f"{place}: no column {column!r} (download.{key}), only {', '.join(table.column_names)}"
