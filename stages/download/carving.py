"""Carves validation and test splits out of train, where the data lacks them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import Dataset

from stages.download.canonical import as_dataset
from stages.download.data_quality import text_codes
from stages.download.source import BATCH_ROWS, spill, split_kind
from stages.download.strata import draw, strata
from stages.shared.runtime.errors import BadInput


def carve(
    splits: Mapping[str, Dataset], fractions: Mapping[str, float | None], seed: int, scratch: Path
) -> dict[str, Dataset]:
    """Cuts the splits that are missing, and that have a fraction, out of train.

    The choice is seeded, and stratified (see `strata`); rows keep their order. Rows with the same text go to the same
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
    kinds = set(map(split_kind, splits))
    for split in wanted:
        if split in kinds:
            raise BadInput(
                f"params.yaml: download.{split}_fraction: the data has a {split} split already; set it to null"
            )
    if "validation" not in kinds | wanted.keys():
        raise BadInput(
            "no validation split; add one, set download.validation_fraction to carve it from train, "
            "or say in download.split_files which files it has"
        )
    if not wanted:
        return dict(splits)
    train = splits["train"]
    # Groups of rows with the same text are drawn, each by the label of its first row.
    _, first_row, group = np.unique(text_codes([train]).codes[0], return_index=True, return_inverse=True)
    parts = draw(strata(train)[first_row], list(wanted.values()), np.random.default_rng(seed))[group]
    if len(np.unique(parts)) <= len(wanted):
        raise BadInput(f"params.yaml: download: {given} of {len(train)} rows leaves a split empty")
    carved = {
        split: _select(train, parts == number, scratch / f"{split}.carved.arrow")
        for number, split in enumerate(["train", *wanted])
    }
    return dict(splits) | carved


def _select(split: Dataset, chosen: np.ndarray, file: Path) -> Dataset:
    """Returns the rows where `chosen`, bool[rows], holds, memory-mapped from `file`."""
    batches = split.data.table.to_batches(BATCH_ROWS)
    masks = np.split(chosen, np.cumsum(list(map(len, batches)))[:-1])
    kept = (batch.filter(pa.array(mask)) for batch, mask in zip(batches, masks, strict=True))
    return as_dataset(spill(kept, split.data.table.schema, file), split.features)
