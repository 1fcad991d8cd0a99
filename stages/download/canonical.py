"""Brings rows to the columns `text`, `text_pair`, `label`, `idx`, and refuses rows that do not fit."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, DatasetInfo, Features, List, Value

from stages.download.guards import label_values, text_codes
from stages.download.source import BATCH, NUMBER, UNLABELLED, Source, spill
from stages.shared.runtime.errors import BadInput

EXACT = 2.0**53  # up to here a float is the whole number that was written


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
            f"{source.places['train']}: no labels in column {labelling.label_column!r}, or {UNLABELLED} throughout; "
            "the train split needs a label in every row (download.label_column names the column)"
        )
    for split, column in labels.items():
        if column is None and split.split("_")[0] == "validation":
            raise BadInput(
                f"{source.places[split]}: the {split} split has no labels, or {UNLABELLED} throughout; "
                "training is steered by it"
            )
        if column is None and labelling.label_column in source.tables[split].column_names:
            _warn_of_a_label(source, split, labels["train"])
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


def _warn_of_a_label(source: Source, split: str, train: pa.ChunkedArray) -> None:
    """Says that a split of -1 throughout is taken for unlabelled, where train says that -1 is a label."""
    found = source.tables[split][source.labelling.label_column]
    if _throughout(found) and _numeric(train.type) and pc.any(_unlabelled(train)).as_py():
        print(
            f"download: warning: {source.places[split]}: every label of the {split} split is {UNLABELLED}, "
            "which is a label of train too; it is taken for unlabelled",
            file=sys.stderr,
        )


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
    given = ", ".join(f"{split}_fraction {fraction}" for split, fraction in wanted.items())
    if sum(wanted.values()) >= 1:
        raise BadInput(f"params.yaml: download: {given} leave nothing of train; together they must be below 1")
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
    if pa.types.is_floating(labels.type) or pa.types.is_decimal(labels.type):
        labels = labels.cast(pa.float64(), safe=False)  # for 16 bits few functions are there
        labels = pc.if_else(pc.is_nan(labels), None, labels)
    empty = labels.is_null()
    if pc.all(empty).as_py() or _throughout(labels):
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


def _throughout(labels: pa.ChunkedArray) -> bool:
    """Says whether every label, or everything in the lists of labels, is -1."""
    if _is_list(labels.type):
        labels = pc.list_flatten(labels)
    return _numeric(labels.type) and bool(pc.all(_unlabelled(labels)).as_py())


def _unlabelled(numbers: Any) -> Any:
    """Compares with -1 as floats: unsigned numbers of 64 bits cannot be."""
    return pc.equal(numbers.cast(pa.float64(), safe=False), UNLABELLED)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _numeric(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


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
    positions, names = _positions(source, scalars, {split: np.arange(len(found)) for split, found in scalars.items()})
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
    found: Any = column.type
    if pa.types.is_floating(column.type):
        whole = pc.and_(pc.equal(column, pc.round(column)), pc.less(pc.abs(column), EXACT))
        if pc.all(whole).as_py():
            return column.cast(pa.int64())
        found = column.filter(pc.invert(whole))[0].as_py()
    if not (
        pa.types.is_integer(column.type) or pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    ):
        raise BadInput(
            f"{source.places[split]}: column {source.labelling.label_column!r}: a class is a text or a whole number, "
            f"found {found}; check download.problem_type"
        )
    return column


def _positions(
    source: Source, scalars: Mapping[str, Any], rows: Mapping[str, np.ndarray]
) -> tuple[dict[Any, int], list[str]]:
    """Maps each label that occurs to its place among the label names, and returns both.

    Args:
        scalars: the labels of each labelled split, one by one, as texts or whole numbers.
        rows: the row, from 0, that each of them belongs to: int64[labels].

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
            row = rows[split][pc.index(scalars[split], value).as_py()] + 1
            raise BadInput(f"{source.places[split]}: row {row}: label {value!r} {reason}")
    return positions, names


def _some(names: Sequence[str]) -> str:
    return str(names) if len(names) <= 10 else f"{names[:10]} and {len(names) - 10} more"


def _encode_numbers(source: Source, labels: Mapping[str, pa.ChunkedArray | None]) -> Encoded:
    """One number a row: float32[rows]; -1 throughout where a split is unlabelled."""
    encoded: dict[str, Any] = {}
    for split, column in labels.items():
        if column is None:
            encoded[split] = pa.array(np.full(source.tables[split].num_rows, UNLABELLED, dtype=np.float32))
            continue
        if not _numeric(column.type):
            values = column.to_pylist()
            wrong = (row for row, value in enumerate(values) if not NUMBER.fullmatch(str(value).strip()))
            row = next(wrong, 0)  # where all look like numbers they are texts in a file that tells the two apart
            raise BadInput(
                f"{source.places[split]}: row {row + 1}: a regression needs numbers in its label column, "
                f"found {str(values[row])[:40]!r}"
            )
        numbers = column.cast(pa.float64(), safe=False).cast(pa.float32(), safe=False)
        finite = pc.is_finite(numbers)
        if not pc.all(finite).as_py():
            row = pc.index(finite, False).as_py()
            raise BadInput(
                f"{source.places[split]}: row {row + 1}: label {column[row].as_py()} is not a finite number of "
                "32 bits; correct the row"
            )
        encoded[split] = numbers
    return Value("float32"), [], encoded


def _encode_sets(source: Source, labels: Mapping[str, pa.ChunkedArray | None]) -> Encoded:
    """Any number of classes a row, given as a list: float32[rows, classes] of 0 and 1; -1 where unlabelled.

    A list holds the labels of its row. Where all lists, in all splits, are equally long, with more than one entry and
    nothing but 0 and 1, they have an entry for each label instead: as labels they would be the same in every row.
    """
    lists = {split: column for split, column in labels.items() if column is not None}
    flat = {split: _members(source, split, column) for split, column in lists.items()}
    rows = {split: _parents(column) for split, column in lists.items()}
    sizes = {size for column in lists.values() for size in pc.unique(pc.list_value_length(column)).to_pylist()}
    held = {value for members in flat.values() for value in pc.unique(members).to_pylist()}
    if len(sizes) == 1 and max(sizes) > 1 and held <= {0, 1}:
        for split, members in flat.items():
            rows[split], flat[split] = _ones(source, members, max(sizes))
    if not len(flat["train"]):
        raise BadInput(f"{source.places['train']}: every list of labels is empty; there is nothing to learn")
    positions, names = _positions(source, flat, rows)
    encoded: dict[str, Any] = {}
    for split in labels:
        matrix = np.zeros((source.tables[split].num_rows, len(names)), dtype=np.float32)
        if split in flat:
            found = pc.unique(flat[split])
            place_of = np.array([positions[value] for value in found.to_pylist()], dtype=np.int64)
            places = place_of[pc.index_in(flat[split], value_set=found).to_numpy()]
            _check_once(source, split, rows[split], places, names)
            matrix[rows[split], places] = 1.0
        else:
            matrix[:] = UNLABELLED
        offsets = np.arange(0, matrix.size + 1, len(names), dtype=np.int32)
        encoded[split] = pa.ListArray.from_arrays(offsets, matrix.ravel())
    return List(Value("float32")), names, encoded


def _members(source: Source, split: str, column: pa.ChunkedArray) -> Any:
    """Returns the labels of all rows, one after the other, as texts or whole numbers."""
    if not _is_list(column.type):
        raise BadInput(
            f"{source.places[split]}: multi-label rows need a list of labels, found {column.type}; "
            "download.label_delimiter cuts texts into lists"
        )
    members = pc.list_flatten(column)
    if members.null_count:
        row = _parents(column)[pc.index(members.is_null(), True).as_py()] + 1
        raise BadInput(f"{source.places[split]}: row {row}: null in the list of labels; remove it")
    return _scalars(source, split, members) if len(members) else members


def _parents(column: pa.ChunkedArray) -> np.ndarray:
    """Returns the row that each label of all rows together belongs to: int64[labels]."""
    return np.repeat(np.arange(len(column)), pc.list_value_length(column).to_numpy())


def _ones(source: Source, members: Any, width: int) -> tuple[np.ndarray, Any]:
    """Turns lists with a 0 or a 1 for each label into the rows of the ones, int64[ones], and their labels' names."""
    names = source.labelling.label_names
    if names is None or len(names) != width:
        raise BadInput(
            f"{source.places['train']}: every list of labels has {width} entries, each 0 or 1: one for each label; "
            f"name these {width} labels, in their order, in download.label_names"
        )
    rows, places = np.nonzero(members.to_numpy().reshape(-1, width))
    return rows, pa.array(names).take(pa.array(places))


def _check_once(source: Source, split: str, rows: np.ndarray, places: np.ndarray, names: Sequence[str]) -> None:
    """Refuses a row, of those in int64[labels], that names a label, of those in int64[labels], more than once."""
    _, first = np.unique(rows * len(names) + places, return_index=True)
    if len(first) < len(rows):
        again = np.setdiff1d(np.arange(len(rows)), first)[0]
        raise BadInput(
            f"{source.places[split]}: row {rows[again] + 1}: label {names[places[again]]!r} twice in the list; "
            "name each label of a row once (or give all lists a 0 or a 1 for each of download.label_names)"
        )


_ENCODERS = {
    "single_label_classification": _encode_classes,
    "regression": _encode_numbers,
    "multi_label_classification": _encode_sets,
}
