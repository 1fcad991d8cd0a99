"""Brings rows to the columns `text`, `text_pair`, `label`, `idx` and `group`, and refuses rows that do not fit."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetInfo, Features, Value

from stages.download.column_types import is_text
from stages.download.groups import read_groups
from stages.download.kept_columns import read_kept
from stages.download.label_encoding import encode_labels
from stages.download.source import Source
from stages.shared.runtime.errors import BadInput
from stages.shared.task.groups import GROUP


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
        labelling.columns_of(table.column_names, split, source.places[split])
    feature, names, labels = encode_labels(source)
    groups, others = read_groups(source), read_kept(source)
    splits = {}
    for split, table in source.tables.items():
        columns = {
            name: _text_column(table, column, source.places[split])
            for name, column in zip(("text", "text_pair"), labelling.text_columns, strict=False)
        }
        features = Features({name: Value("string") for name in columns} | {"label": feature, "idx": Value("int32")})
        columns |= {"label": labels[split], "idx": _idx_column(table)}
        if split in groups:
            features[GROUP], columns[GROUP] = Value("string"), groups[split]
        features |= {name: Value("string") for name in others[split]}
        columns |= others[split]
        splits[split] = as_dataset(pa.table(columns), features)
    return splits, names


def as_dataset(table: pa.Table, features: Features) -> Dataset:
    """Wraps a table without copying it.

    `Dataset.cast` would copy it, and so would the default fingerprint, which is a hash of the pickled table.
    """
    return Dataset(table.cast(features.arrow_schema), info=DatasetInfo(features=features), fingerprint="0")


def _text_column(table: pa.Table, column: str, place: str) -> pa.ChunkedArray:
    texts = table[column]
    if not is_text(texts.type):
        raise BadInput(f"{place}: column {column!r}: expected texts, found {texts.type}")
    if texts.null_count:
        row = pc.index(texts.is_null(), True).as_py() + 1
        raise BadInput(f"{place}: row {row}: no text in column {column!r}; fill it in or remove the row")
    return texts.cast(pa.string())


def _idx_column(table: pa.Table) -> Any:
    """Keeps the source's own `idx` where it is one, distinct whole numbers of 32 bits, else counts the rows."""
    if "idx" in table.column_names:
        idx = table["idx"]
        whole = pa.types.is_integer(idx.type) and not idx.null_count and len(pc.unique(idx)) == len(idx)
        if whole and pc.min(idx).as_py() >= -(2**31) and pc.max(idx).as_py() < 2**31:
            return idx.cast(pa.int32())
    return pa.array(np.arange(table.num_rows, dtype=np.int32))
