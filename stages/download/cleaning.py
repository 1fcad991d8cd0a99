"""Cleans the rows of a source before they become examples, by rules that params.yaml states and a message counts."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.download.column_types import is_text
from stages.download.labels import tidy_labels
from stages.download.problems import MAX_LISTED_ROWS, rows_in_words
from stages.download.source import BATCH_ROWS, Labelling, Source, filtered
from stages.download.texts import find_blank, joined
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.terminal import warn


def cleaned(source: Source, rules: Mapping[str, str], scratch: Path) -> tuple[Source, list[dict[str, Any]]]:
    """Brings labels to one form, and leaves out the rows that the user wants left out.

    Args:
        rules: `on_empty` and `on_unlabelled`: error or drop. Dropped are rows of which a text is missing or blank, and
            rows without a label in splits that have labels.
        scratch: an existing folder that lives as long as the tables are used.

    Returns:
        The source, and how many rows were dropped: {split, reason, examples} for each reason that there was.

    Raises:
        BadInput: a column is missing, a split is empty or becomes so.
    """
    labelling = source.labelling
    if labelling.label_delimiter is not None and labelling.problem_type != "multi_label_classification":
        raise BadInput("params.yaml: download.label_delimiter: only multi-label rows have one; set it to null")
    for split, table in source.tables.items():
        if table.num_rows == 0:
            raise BadInput(f"{source.places[split]}: the {split} split is empty; add rows or remove it")
        labelling.columns_of(table.column_names, split, source.places[split])
    source = tidy_labels(source)
    tables, numbers, dropped = dict(source.tables), {}, []
    for split, table in source.tables.items():
        kept = np.ones(table.num_rows, dtype=bool)
        for rule, find in RULES.items():
            if rules[rule] != "drop":
                continue
            rows = kept & find(table, source.labelling, source.places[split])
            if rows.any():
                kept &= ~rows
                dropped.append({"split": split, "reason": REASONS[rule], "examples": int(rows.sum())})
                named = [str(row + 1) for row in np.flatnonzero(rows)[:MAX_LISTED_ROWS].tolist()]
                words = rows_in_words(named, int(rows.sum()))
                warn(f"download: {source.places[split]}: left out {words}, {REASONS[rule]} (download.{rule}: drop)")
        if not kept.any():
            raise BadInput(f"{source.places[split]}: no row of the {split} split is left; see download.on_empty")
        if not kept.all():
            tables[split] = filtered(table, kept, scratch / f"{split}.kept.arrow")
            numbers[split] = np.flatnonzero(kept)
    headers = {split: repeated_headers(table, source.labelling) for split, table in tables.items()}
    source = replace(source, tables=tables, numbers=numbers)
    for split, rows in headers.items():
        source.report(split, rows, "is the header line again", "remove it (files were joined, each with its header?)")
    return replace(source, headers=headers), dropped


def _without_text(table: pa.Table, labelling: Labelling, place: str) -> np.ndarray:
    """Says of which rows a text is missing or blank, bool[rows]."""
    batches = table.to_batches(BATCH_ROWS)
    return np.concatenate([find_blank(joined_texts(batch, labelling, place)) for batch in batches])


def _without_label(table: pa.Table, labelling: Labelling, place: str) -> np.ndarray:
    """Says which rows lack a label, bool[rows]; none of a split that has no labels at all."""
    column = labelling.label_column
    if column not in table.column_names or table[column].null_count == table.num_rows:
        return np.zeros(table.num_rows, dtype=bool)
    return np.asarray(table[column].is_null())


REASONS = {"on_empty": "without text", "on_unlabelled": "without label"}
RULES = {"on_empty": _without_text, "on_unlabelled": _without_label}


def joined_texts(table: Any, labelling: Labelling, place: str) -> list[Any]:
    """Returns the text of each row, and the second one of pairs: string[rows], null where all of it is missing.

    Args:
        table: a pyarrow.Table, or a batch of one.

    Raises:
        BadInput: a column does not hold texts.
    """
    for column in labelling.text_columns:
        kind = table[column].type
        if not (is_text(kind) or pa.types.is_null(kind)):
            raise BadInput(f"{place}: column {column!r}: expected texts, found {kind}")
    return [joined([table[column].cast(pa.string()) for column in columns]) for columns in labelling.texts]


def repeated_headers(table: pa.Table, labelling: Labelling) -> np.ndarray:
    """Returns the rows, int64[some], whose cells are the names of their columns: files were joined with their headers.

    A label that is missing fits too: among numbers the name of the column is read as none.
    """
    columns = [*labelling.text_columns, labelling.label_column]
    columns = [name for name in columns if name in table.column_names]
    if len(columns) < 2:
        return np.empty(0, dtype=np.int64)
    found, before = [], 0
    for batch in table.to_batches(BATCH_ROWS):
        again = np.ones(batch.num_rows, dtype=bool)
        for name in columns:
            cells, is_label = batch[name], name == labelling.label_column
            if is_text(cells.type):
                again &= np.asarray(pc.fill_null(pc.equal(pc.utf8_trim_whitespace(cells), name), is_label))
            elif not is_label or not pa.types.is_nested(cells.type):
                again &= np.asarray(cells.is_null()) & is_label
        found.append(before + np.flatnonzero(again))
        before += batch.num_rows
    return np.concatenate(found)
