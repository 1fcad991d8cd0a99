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
    labels = {split: _label_column(source, split) for split in source.tables}
    if labels["train"] is None:
        raise BadInput(
            f"{source.places['train']}: no labels in column {source.labelling.label_column!r}; "
            "the train split needs a label in every row (download.label_column names the column)"
        )
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
        BadInput: validation is missing or has no labels, or a fraction is given for a split that exists.
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
    validation = [name for name in result if name.split("_")[0] == "validation"]
    if not validation:
        raise BadInput("no validation split; add one, or set download.validation_fraction to carve it from train")
    for name in validation:
        if _unlabelled(result[name]):
            raise BadInput(f"the {name} split has no labels; training is steered by it")
    return result


def _label_column(source: Source, split: str) -> pa.ChunkedArray | None:
    """Returns the label column of a split as it was found, or None where the split is unlabelled throughout."""
    table, place, column = source.tables[split], source.places[split], source.labelling.label_column
    if column not in table.column_names:
        if split.split("_")[0] == "test":
            return None
        raise BadInput(_missing(place, column, "label_column", table))
    labels = table[column]
    missing = labels.is_null()
    if pa.types.is_integer(labels.type):
        missing = pc.or_(missing, pc.equal(labels, UNLABELLED).fill_null(False))
    count = pc.sum(missing).as_py()
    if count == len(labels):
        return None
    if count:
        row = pc.index(missing, True).as_py() + 1
        raise BadInput(f"{place}: row {row}: no value in column {column!r}; label every row of the split, or none")
    return labels


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
        if pa.types.is_integer(idx.type) and not idx.null_count and len(pc.unique(idx)) == len(idx):
            return idx.cast(pa.int32())
    return pa.array(np.arange(table.num_rows, dtype=np.int32))


Encoded = tuple[Any, list[str], dict[str, Any]]


def _encode_classes(source: Source, labels: Mapping[str, pa.ChunkedArray | None]) -> Encoded:
    """One class a row: class indices, int64[rows]; -1 throughout where a split is unlabelled."""
    values = {split: pc.unique(column).to_pylist() for split, column in labels.items() if column is not None}
    names = source.labelling.label_names
    learned = names is None
    if names is None:
        names = [str(value) for value in sorted(values["train"])]
    if len(names) < 2 or len(set(names)) < len(names):
        raise BadInput(f"{source.places['train']}: a classification needs two or more different labels, got {names}")
    distinct = {value for found in values.values() for value in found}
    # Names rule; integers that are no names are positions in them.
    by_name = all(str(value) in names for value in distinct)
    positions = {
        value: names.index(str(value)) if by_name or not _is_position(value, names) else int(value)
        for value in distinct
        if str(value) in names or _is_position(value, names)
    }
    seen = {positions.get(value) for value in values["train"]}
    encoded: dict[str, Any] = {}
    for split, column in labels.items():
        if column is None:
            encoded[split] = pa.array(np.full(source.tables[split].num_rows, UNLABELLED))
            continue
        for value in values[split]:
            if value in positions and positions[value] in seen:
                continue
            row = pc.index(column, pa.scalar(value, column.type)).as_py() + 1
            where = f"{source.places[split]}: row {row}: label {value!r}"
            if value in positions or learned:
                raise BadInput(f"{where} is never seen in train ({names}); add training rows with it or remove it here")
            raise BadInput(f"{where} is not among download.label_names {names}; add it there or correct the row")
        found = pa.array(values[split], column.type)
        index = pc.index_in(column, value_set=found)
        encoded[split] = pc.take(pa.array([positions[value] for value in values[split]], pa.int64()), index)
    return ClassLabel(names=names), names, encoded


def _is_position(value: Any, names: list[str]) -> bool:
    return isinstance(value, int) and 0 <= value < len(names)


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
    values: dict[str, list[Any]] = {}
    for split, column in labels.items():
        if column is not None:
            if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
                raise BadInput(f"{source.places[split]}: multi-label rows need a list of labels, found {column.type}")
            values[split] = pc.unique(pc.list_flatten(column)).to_pylist()
    seen = set(values["train"])
    names = source.labelling.label_names
    ordered: list[Any] = sorted(seen) if names is None else list(names)
    encoded: dict[str, Any] = {}
    for split, column in labels.items():
        rows = source.tables[split].num_rows
        matrix = np.zeros((rows, len(ordered)), dtype=np.float32)
        if column is None:
            matrix[:] = UNLABELLED
        else:
            flat, parents = pc.list_flatten(column), pc.list_parent_indices(column).to_numpy()
            for value in values[split]:
                if value not in ordered or value not in seen:
                    row = parents[pc.index(flat, pa.scalar(value, flat.type)).as_py()] + 1
                    reason = (
                        "is never seen in train"
                        if value in ordered or names is None
                        else "is not among download.label_names"
                    )
                    raise BadInput(f"{source.places[split]}: row {row}: label {value!r} {reason} ({ordered})")
            positions = pc.index_in(flat, value_set=pa.array(ordered, flat.type)).to_numpy()
            matrix[parents, positions] = 1.0
        encoded[split] = pa.FixedSizeListArray.from_arrays(matrix.ravel(), len(ordered)).cast(pa.list_(pa.float32()))
    return List(Value("float32")), [str(value) for value in ordered], encoded


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


def _unlabelled(split: Dataset) -> bool:
    return bool(np.all(split.with_format("numpy")["label"][:] == UNLABELLED))


def _missing(place: str, column: str, key: str, table: pa.Table) -> str:
    return f"{place}: no column {column!r} (download.{key}), only {', '.join(table.column_names)}"
