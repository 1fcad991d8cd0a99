"""Brings rows to the columns `text`, `text_pair`, `label`, `idx`, and refuses rows that do not fit."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, DatasetInfo, Features, List, Value

from stages.download.guards import label_values, text_codes
from stages.download.source import BATCH, UNLABELLED, Source, spill
from stages.shared.errors import BadInput


def canonical_splits(source: Source) -> tuple[dict[str, Dataset], list[str]]:
    """Returns the splits with canonical columns, and the label names in the order of the logits (empty: a regression).

    Raises:
        BadInput: an empty split, a missing column, a null text, a label that is unknown or never seen in train.
    """
    labelling = source.labelling
    if labelling.label_delimiter is not None and labelling.problem_type != "multi_label_classification":
        raise BadInput("params.yaml: download.label_delimiter: only multi-label rows have one; set it to null")
    for split, table in source.tables.items():
        if table.num_rows == 0:
            raise BadInput(f"{source.places[split]}: the {split} split is empty; add rows or remove it")
        labelling.check_columns(table.column_names, split, source.places[split])
    labels = {split: _label_column(source, split) for split in source.tables}
    if labels["train"] is None:
        raise BadInput(
            f"{source.places['train']}: no labels in column {labelling.label_column!r}; "
            "the train split needs a label in every row (download.label_column names the column)"
        )
    for split, column in labels.items():
        if column is None and split.split("_")[0] == "validation":
            raise BadInput(f"{source.places[split]}: the {split} split has no labels; training is steered by it")
    encode = _ENCODERS[labelling.problem_type]
    feature, names, encoded = encode(source, labels)
    splits = {}
    for split, table in source.tables.items():
        columns = {
            name: _text_column(source, split, column)
            for name, column in zip(("text", "text_pair"), labelling.text_columns, strict=False)
        }
        features = Features({name: Value("string") for name in columns} | {"label": feature, "idx": Value("int32")})
        columns |= {"label": encoded[split], "idx": _idx_column(table)}
        splits[split] = _dataset(pa.table(columns), features)
    return splits, names


def _dataset(table: pa.Table, features: Features) -> Dataset:
    """Wraps a table without copying it, as `Dataset.cast` and the default fingerprint, a hash of its pickle, would."""
    return Dataset(table.cast(features.arrow_schema), info=DatasetInfo(features=features), fingerprint="0")


def carve(
    splits: Mapping[str, Dataset], fractions: Mapping[str, float | None], seed: int, scratch: Path
) -> dict[str, Dataset]:
    """Cuts the splits that are missing, and that have a fraction, out of train.

    The choice is seeded, and stratified (see `_strata`); rows keep their order. Rows with the same text go to the same
    side, so that what is carved off shares no example with what stays.

    Args:
        fractions: of the rows that train has before anything is carved off.
        scratch: an existing folder that lives as long as the splits are used; new ones are there, not in memory.

    Raises:
        BadInput: validation is missing, or a fraction is given for a split that exists or leaves one empty.
    """
    wanted = {split: fraction for split, fraction in fractions.items() if fraction is not None}
    for split in wanted:
        if any(name.split("_")[0] == split for name in splits):
            raise BadInput(
                f"params.yaml: download.{split}_fraction: the data has a {split} split already; set it to null"
            )
    if not any(name.split("_")[0] == "validation" for name in [*splits, *wanted]):
        raise BadInput(
            "no validation split; add one, set download.validation_fraction to carve it from train, "
            "or say in download.split_files which files it has"
        )
    if not wanted:
        return dict(splits)
    train = splits["train"]
    _, first, group = np.unique(text_codes([train]).codes[0], return_index=True, return_inverse=True)
    parts = _draw(_strata(train)[first], list(wanted.values()), np.random.default_rng(seed))[group]
    if len(np.unique(parts)) <= len(wanted):
        given = ", ".join(f"{split}_fraction {fraction}" for split, fraction in wanted.items())
        raise BadInput(f"params.yaml: download: {given} of {len(train)} rows leaves a split empty")
    result = dict(splits)
    for number, split in enumerate(["train", *wanted]):
        result[split] = _select(train, parts == number, scratch / f"{split}.carved.arrow")
    return result


def _draw(strata: np.ndarray, fractions: Sequence[float], generator: np.random.Generator) -> np.ndarray:
    """Gives every part its fraction of every stratum, the first part (train) what is left and at least one.

    Args:
        strata: int[groups], the stratum of each group of rows with the same text.

    Returns:
        int8[groups]: 0 for train, 1 for the first fraction, and so on.
    """
    parts = np.zeros(len(strata), dtype=np.int8)
    for stratum in np.unique(strata):
        members = generator.permutation(np.flatnonzero(strata == stratum))
        start = 0
        for number, fraction in enumerate(fractions, 1):
            end = min(start + round(fraction * len(members)), len(members) - 1)
            parts[members[start:end]] = number
            start = end
    return parts


def _strata(train: Dataset) -> np.ndarray:
    """Says which rows are alike, int[rows]: those of one class; a regression's are all alike.

    A row with several labels belongs to the rarest of them: a rare label is then spread as its share demands, and the
    frequent ones come out right by their number (the idea of Sechidis et al. 2011, "On the stratification of
    multi-label data", in one pass). Rows without labels are alike.
    """
    label = label_values(train)
    if label.ndim == 2:
        count = np.where(label == 1, label.sum(axis=0), np.inf)  # float64[rows, labels]: how frequent each one is
        return np.where(label.any(axis=1), count.argmin(axis=1), label.shape[1])
    return label if isinstance(train.features["label"], ClassLabel) else np.zeros(len(train), dtype=np.int64)


def _select(split: Dataset, chosen: np.ndarray, file: Path) -> Dataset:
    """Returns the rows where `chosen`, bool[rows], holds, memory-mapped from `file`."""
    table = split.data.table

    def kept() -> Iterator[pa.RecordBatch]:
        start = 0
        for batch in table.to_batches(BATCH):
            yield batch.filter(pa.array(chosen[start : start + batch.num_rows]))
            start += batch.num_rows

    return _dataset(spill(kept(), table.schema, file), split.features)


def _label_column(source: Source, split: str) -> pa.ChunkedArray | None:
    """Returns the label column of a split as it was found, or None where the split is unlabelled throughout."""
    table, place, column = source.tables[split], source.places[split], source.labelling.label_column
    if column not in table.column_names:
        return None  # a test split; any other was refused
    labels = table[column]
    if pa.types.is_boolean(labels.type):
        labels = labels.cast(pa.string())  # true, false
    if pa.types.is_floating(labels.type):
        labels = pc.if_else(pc.is_nan(labels), None, labels)
    empty = labels.is_null()
    if pc.all(empty).as_py() or (split != "train" and _throughout(labels, UNLABELLED)):
        return None
    if source.labelling.label_delimiter is not None:
        return _cut(labels, source.labelling.label_delimiter, place)
    if pc.any(empty).as_py():
        row = pc.index(empty, True).as_py() + 1
        raise BadInput(f"{place}: row {row}: no value in column {column!r}; label every row of the split, or none")
    return labels


def _cut(labels: pa.ChunkedArray, delimiter: str, place: str) -> pa.ChunkedArray:
    """Cuts texts into lists of labels, whole numbers where all of them are; an empty cell has none."""
    if not (
        pa.types.is_string(labels.type) or pa.types.is_large_string(labels.type) or pa.types.is_integer(labels.type)
    ):
        raise BadInput(f"{place}: download.label_delimiter cuts texts, found {labels.type}; set it to null")
    encoded = labels.cast(pa.string()).fill_null("").combine_chunks().dictionary_encode()
    cells = [
        [label for part in cell.split(delimiter) if (label := part.strip())] for cell in encoded.dictionary.to_pylist()
    ]
    if all(label.isascii() and label.isdigit() and str(int(label)) == label for cell in cells for label in cell):
        return pa.chunked_array(
            [pa.array([list(map(int, cell)) for cell in cells], pa.list_(pa.int64())).take(encoded.indices)]
        )
    return pa.chunked_array([pa.array(cells, pa.list_(pa.string())).take(encoded.indices)])


def _throughout(labels: pa.ChunkedArray, value: int) -> bool:
    return pa.types.is_integer(labels.type) and bool(pc.all(pc.equal(labels, value)).as_py())


def _text_column(source: Source, split: str, column: str) -> pa.ChunkedArray:
    texts, place = source.tables[split][column], source.places[split]
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
                reason = f"is never seen in train ({_some(names)}); add training rows with it or remove it here"
            else:
                reason = f"is not among download.label_names {_some(names)}; add it there or correct the row"
            raise BadInput(f"{source.places[split]}: row {_row(source, split, value)}: label {value!r} {reason}")
    return positions, names


def _some(names: Sequence[str]) -> str:
    return str(names) if len(names) <= 10 else f"{names[:10]} and {len(names) - 10} more"


def _row(source: Source, split: str, value: Any) -> int:
    """Returns the number, from 1, of the first row whose label is, or holds, `value`."""
    delimiter = source.labelling.label_delimiter
    for number, label in enumerate(source.tables[split][source.labelling.label_column].to_pylist(), 1):
        if delimiter is not None and label is not None:
            label = [part.strip() for part in str(label).split(delimiter)]
        held = label if isinstance(label, list) else [label]
        held = [str(one).lower() if isinstance(one, bool) else one for one in held]
        if value in held or str(value) in held:
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
            found = next((value for value in column.to_pylist() if not _is_number(value)), column.type)
            row = f"row {_row(source, split, found)}: " if isinstance(found, str) else ""
            raise BadInput(
                f"{source.places[split]}: {row}a regression needs numbers in its label column, found {found!r}"
            )
        finite = pc.is_finite(column)
        if not pc.all(finite).as_py():
            row = pc.index(finite, False).as_py() + 1
            raise BadInput(f"{source.places[split]}: row {row}: the label is not a finite number; correct the row")
        encoded[split] = column.cast(pa.float32())
    return Value("float32"), [], encoded


def _is_number(text: Any) -> bool:
    try:
        return isinstance(float(text), float)
    except (TypeError, ValueError):
        return False


def _encode_sets(source: Source, labels: Mapping[str, pa.ChunkedArray | None]) -> Encoded:
    """Any number of classes a row, given as a list: float32[rows, classes] of 0 and 1; -1 where unlabelled."""
    flat: dict[str, Any] = {}
    for split, column in labels.items():
        if column is None:
            continue
        if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
            raise BadInput(
                f"{source.places[split]}: multi-label rows need a list of labels, found {column.type}; "
                "download.label_delimiter cuts texts into lists"
            )
        flat[split] = pc.list_flatten(column)
        if flat[split].null_count:
            row = _parents(column)[pc.index(flat[split].is_null(), True).as_py()] + 1
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
            found = pc.unique(flat[split])
            place_of = np.array([positions[value] for value in found.to_pylist()], dtype=np.int64)
            matrix[_parents(column), place_of[pc.index_in(flat[split], value_set=found).to_numpy()]] = 1.0
        offsets = np.arange(0, matrix.size + 1, len(names), dtype=np.int32)
        encoded[split] = pa.ListArray.from_arrays(offsets, matrix.ravel())
    return List(Value("float32")), names, encoded


def _parents(column: pa.ChunkedArray) -> np.ndarray:
    """Returns the row that each label of all rows together belongs to: int64[labels]."""
    return np.repeat(np.arange(len(column)), pc.list_value_length(column).to_numpy())


_ENCODERS = {
    "single_label_classification": _encode_classes,
    "regression": _encode_numbers,
    "multi_label_classification": _encode_sets,
}
