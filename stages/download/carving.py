"""Carves validation and test splits out of train, holds out a fold of it, and keeps a share of it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from datasets import Dataset

from stages.download.canonical import as_dataset
from stages.download.data_quality import text_codes
from stages.download.folds import Fold, deal_to_folds, keep_share
from stages.download.groups import group_codes
from stages.download.source import filtered, split_kind
from stages.download.strata import draw, strata
from stages.shared.runtime.errors import BadInput


def carve(
    splits: Mapping[str, Dataset],
    fractions: Mapping[str, float | None],
    seed: int,
    scratch: Path,
    fold: Fold | None = None,
) -> dict[str, Dataset]:
    """Cuts the splits that are missing, and that have a fraction, out of train; or a fold of it.

    The choice is seeded, and stratified (see `strata`); rows keep their order. Rows with the same text, and rows of the
    same group, go to the same side, so that what is carved off shares no example and no group with what stays.

    Args:
        fractions: of the rows that train has before anything is carved off.
        scratch: an existing folder that lives as long as the splits are used; new ones are there, not in memory.
        fold: the part of train that is the validation split instead of any other. What the fraction for validation
            would carve off is dealt to the folds too. The test split is the same as without.

    Raises:
        BadInput: validation is missing, or a fraction is given for a split that exists or leaves one empty.
    """
    wanted = {split: fraction for split, fraction in fractions.items() if fraction is not None}
    given = ", ".join(f"{split}_fraction {fraction}" for split, fraction in wanted.items())
    if sum(wanted.values()) >= 1:
        raise BadInput(f"params.yaml: download: {given} leave no rows for train; together they must be below 1")
    kinds = set(map(split_kind, splits))
    for split in wanted:
        if split in kinds:
            raise BadInput(
                f"params.yaml: download.{split}_fraction: the data already have a {split} split; set it to null"
            )
    if fold is None and "validation" not in kinds | wanted.keys():
        raise BadInput(
            "no validation split; add one, set download.validation_fraction to carve it from train, or set "
            "download.split_files"
        )
    if not wanted and fold is None:
        return dict(splits)
    train = splits["train"]
    units, alike = inseparable(train), strata(train)
    parts = np.zeros(len(train), dtype=np.int8)
    if wanted:
        parts = draw(units, alike, list(wanted.values()), np.random.default_rng(seed))[units]
    if len(np.unique(parts)) <= len(wanted):
        sizes = np.bincount(units)
        kept = "" if len(sizes) == len(train) else f", of which up to {sizes.max()} stay together,"
        raise BadInput(f"params.yaml: download: {given} of {len(train)} rows{kept} leaves a split empty")
    chosen = {split: parts == number for number, split in enumerate(["train", *wanted])}
    if fold is not None:
        splits = {name: split for name, split in splits.items() if split_kind(name) != "validation"}
        chosen |= _hold_out(chosen["train"] | chosen.get("validation", False), units, alike, fold, seed)
    return dict(splits) | {
        split: _select(train, rows, scratch / f"{split}.carved.arrow") for split, rows in chosen.items()
    }


def _hold_out(dealt: np.ndarray, units: np.ndarray, alike: np.ndarray, fold: Fold, seed: int) -> dict[str, np.ndarray]:
    """Cuts the rows of bool[rows] that are dealt to the folds into those to train on and those that are held out."""
    own = np.unique(units[dealt], return_inverse=True)[1]
    held_out = np.zeros(len(dealt), dtype=np.bool_)
    held_out[dealt] = (
        deal_to_folds(own, alike[dealt], fold["of"], np.random.default_rng(seed))[own] == fold["hold_out"] - 1
    )
    return {"train": dealt & ~held_out, "validation": held_out}


def with_share_of_train(
    splits: Mapping[str, Dataset], share: float | None, seed: int, scratch: Path
) -> dict[str, Dataset]:
    """Keeps a seeded share of train, stratified, with sets of inseparable rows whole; None: all of it."""
    if share is None:
        return dict(splits)
    train = splits["train"]
    kept = keep_share(inseparable(train), strata(train), share, np.random.default_rng(seed))
    return dict(splits) | {"train": _select(train, kept, scratch / "train.share.arrow")}


def inseparable(train: Dataset) -> np.ndarray:
    """Numbers the sets of rows that must stay together, int64[rows] from 0: by their texts and, if there are, groups.

    Two rows of different groups with the same text tie both groups together.
    """
    texts, groups = text_codes([train]).codes[0], group_codes([train])
    if groups is None:
        return np.unique(texts, return_inverse=True)[1]
    from scipy.sparse import coo_array  # here, since it takes a while and most data have no groups
    from scipy.sparse.csgraph import connected_components

    ties = (np.ones(len(texts), dtype=np.int8), (texts, texts.max() + 1 + groups[0]))
    size = int(texts.max() + groups[0].max()) + 2
    _, component = connected_components(coo_array(ties, shape=(size, size)), directed=False)
    return np.unique(component[texts], return_inverse=True)[1]


def _select(split: Dataset, chosen: np.ndarray, file: Path) -> Dataset:
    """Returns the rows where `chosen`, bool[rows], holds, memory-mapped from `file`."""
    return as_dataset(filtered(split.data.table, chosen, file), split.features)
