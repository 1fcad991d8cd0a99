"""Brings rows to the columns `text`, `text_pair`, `label`, `idx`, `group` and `id`, and refuses what does not fit."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetInfo, Features, Value

from stages.download.cleaning import joined_texts
from stages.download.groups import read_groups
from stages.download.kept_columns import read_ids, read_kept
from stages.download.label_encoding import encode_labels
from stages.download.problems import problems_in_words
from stages.download.source import Source
from stages.shared.runtime.errors import BadInput
from stages.shared.task.groups import GROUP
from stages.shared.task.kept_columns import ID


def canonical_splits(source: Source) -> tuple[dict[str, Dataset], list[str]]:
    """Returns the splits with canonical columns, and the label names in the order of the logits (empty: a regression).

    Args:
        source: as `cleaned` returns it.

    Raises:
        BadInput: a row has no text, a label that is unknown or never seen in train, or other faults; all are named.
    """
    labelling = source.labelling
    texts = {split: joined_texts(table, labelling, source.places[split]) for split, table in source.tables.items()}
    for split, joined in texts.items():
        for origins, column in zip(labelling.texts, joined, strict=True):
            where = f"column{'s' if origins[1:] else ''} {' and '.join(map(repr, origins))}"
            remedy = "fill it in or remove the row, or set download.on_empty to drop"
            source.report(split, np.flatnonzero(column.is_null()), f"no text in {where}", remedy)
    try:
        groups, others, ids = read_groups(source), read_kept(source), read_ids(source)
        feature, names, labels = encode_labels(source)
    except BadInput as error:
        if source.problems:
            raise BadInput(f"{error}; also {problems_in_words(source.problems)}") from None
        raise
    source.refuse()
    splits = {}
    for split, table in source.tables.items():
        columns: dict[str, Any] = dict(zip(("text", "text_pair"), texts[split], strict=False))
        features = Features({name: Value("string") for name in columns} | {"label": feature, "idx": Value("int32")})
        columns |= {"label": labels[split], "idx": _idx_column(table, source.numbers.get(split))}
        for name, column in ((GROUP, groups), (ID, ids)):
            if split in column:
                features[name], columns[name] = Value("string"), column[split]
        features |= {name: Value("string") for name in others[split]}
        columns |= others[split]
        splits[split] = as_dataset(pa.table(columns), features)
    return splits, names


def as_dataset(table: pa.Table, features: Features) -> Dataset:
    """Wraps a table without copying it.

    `Dataset.cast` would copy it, and so would the default fingerprint, which is a hash of the pickled table.
    """
    return Dataset(table.cast(features.arrow_schema), info=DatasetInfo(features=features), fingerprint="0")


def _idx_column(table: pa.Table, numbers: np.ndarray | None) -> Any:
    """Keeps the source's own `idx` where it is one, distinct whole numbers of 32 bits, else numbers the rows.

    Args:
        numbers: int64[rows]: those in the file. None: no row was dropped.
    """
    if "idx" in table.column_names:
        idx = table["idx"]
        whole = pa.types.is_integer(idx.type) and not idx.null_count and len(pc.unique(idx)) == len(idx)
        if whole and pc.min(idx).as_py() >= -(2**31) and pc.max(idx).as_py() < 2**31:
            return idx.cast(pa.int32())
    return pa.array((np.arange(table.num_rows) if numbers is None else numbers).astype(np.int32))
