"""Cuts train into folds, and keeps a share of it: stratified and seeded, and what belongs together stays together."""

from typing import Annotated

import numpy as np
from pydantic import Field
from typing_extensions import TypedDict

from stages.download.strata import runs
from stages.shared.runtime.errors import BadInput


class Fold(TypedDict):
    """One of several equal parts of train, held out."""

    of: Annotated[int, Field(ge=2)]  # how many folds there are
    hold_out: Annotated[int, Field(ge=1)]  # the one that is the validation split, from 1


def check_fold(fold: Fold | None) -> None:
    """Makes sure that there is such a fold.

    Raises:
        BadInput: there is none.
    """
    if fold is not None and fold["hold_out"] > fold["of"]:
        raise BadInput(
            f"params.yaml: download.fold.hold_out: must be at most download.fold.of ({fold['of']}), got "
            f"{fold['hold_out']}"
        )


def deal_to_folds(units: np.ndarray, strata: np.ndarray, folds: int, generator: np.random.Generator) -> np.ndarray:
    """Deals units to folds, so that each fold gets its share of every stratum and of all rows.

    The largest units are dealt first. Each goes to the fold that has least of its strata so far, and of equal ones to
    the smallest. Where every row is a unit of its own, a stratum differs by one row at most from fold to fold, and so
    do the folds' sizes. No fold depends on which one is held out.

    Args:
        units: int64[rows], from 0: rows that must stay together have the same number.
        strata: int[rows], the stratum of each row.

    Returns:
        int64[units]: the fold of each, from 0.

    Raises:
        BadInput: there are fewer units than folds.
    """
    number = int(units.max()) + 1
    if number < folds:
        kept = "" if number == len(units) else f", of which those of one text or group stay together: {number} sets"
        raise BadInput(f"params.yaml: download.fold.of: {folds} folds of {len(units)} rows{kept}; use fewer folds")
    _, stratum, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    owners, kinds, counts = runs(units, stratum)
    starts = np.searchsorted(owners, np.arange(number + 1)).tolist()
    shuffled = generator.permutation(number)
    rows = np.bincount(units)
    order = shuffled[np.lexsort((kinds[starts[:-1]][shuffled], -rows[shuffled]))].tolist()
    weights, kinds, counts = (counts / sizes[kinds]).tolist(), kinds.tolist(), counts.tolist()
    held = [[0] * len(sizes) for _ in range(folds)]  # rows of each stratum that each fold has
    total = [0] * folds
    fold_of = np.zeros(number, dtype=np.int64)
    for unit in order:
        run = range(starts[unit], starts[unit + 1])
        burden = [(sum(weights[i] * mine[kinds[i]] for i in run), total[fold]) for fold, mine in enumerate(held)]
        fold = min(range(folds), key=burden.__getitem__)
        fold_of[unit] = fold
        for i in run:
            held[fold][kinds[i]] += counts[i]
            total[fold] += counts[i]
    return fold_of


def keep_share(units: np.ndarray, strata: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """Says which rows a share of train has, so that each stratum has its share of them: bool[rows].

    All units stand in one seeded order, and a share is its beginning: a smaller share is part of every larger one. In
    that order the strata are mixed evenly; a unit of several counts as the one that most of its rows have. Each
    stratum's first unit stands at the front and is always kept, because a class that train never shows cannot be
    learned.

    Args:
        units: int64[rows], from 0: rows that must stay together have the same number.
        strata: int[rows], the stratum of each row.
        share: of the rows, above 0 and at most 1.
    """
    number = int(units.max()) + 1
    _, stratum = np.unique(strata, return_inverse=True)
    owners, kinds, counts = runs(units, stratum)
    largest_first = np.lexsort((-counts, owners))
    most = kinds[largest_first[np.unique(owners[largest_first], return_index=True)[1]]]  # the stratum of each unit
    order = generator.permutation(number)
    order = order[np.argsort(most[order], kind="stable")]  # stratum by stratum, by chance inside
    sizes = np.bincount(most)
    place = np.arange(number) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # in its stratum
    order = order[np.lexsort((generator.random(number), (place + 0.5) / np.repeat(sizes, sizes)))]
    rank = np.empty(number, dtype=np.int64)
    rank[order] = np.arange(number)
    by_rank = np.argsort(rank[units], kind="stable")
    _, first_rows = np.unique(stratum[by_rank], return_index=True)
    first = np.zeros(number, dtype=np.bool_)
    first[units[by_rank[first_rows]]] = True
    order = np.concatenate([order[first[order]], order[~first[order]]])
    rows = np.bincount(units)[order]
    ends = np.cumsum(rows)
    kept = np.zeros(number, dtype=np.bool_)
    kept[order] = ends - rows / 2 <= share * len(units)  # the unit that lies across the border is in by its larger half
    return (kept | first)[units]
