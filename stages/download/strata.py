"""Stratified sampling: groups similar rows, and draws a seeded share of each stratum."""

from collections.abc import Sequence

import numpy as np
from datasets import ClassLabel, Dataset

from stages.download.data_quality import label_values


def strata(train: Dataset) -> np.ndarray:
    """Says which rows are alike, int[rows]: those of one class; a regression's are all alike.

    A row with several labels belongs to the rarest of them: a rare label is then spread as its share demands, and the
    frequent ones come out right by their number (the idea of Sechidis et al. 2011, "On the stratification of
    multi-label data", in one pass). Rows without labels are alike.
    """
    labels = label_values(train)
    if labels.ndim == 2:
        count = np.where(labels == 1, labels.sum(axis=0), np.inf)  # float64[rows, labels]: how frequent each one is
        return np.where(labels.any(axis=1), count.argmin(axis=1), labels.shape[1])
    return labels if isinstance(train.features["label"], ClassLabel) else np.zeros(len(train), dtype=np.int64)


def draw(
    units: np.ndarray, groups: np.ndarray, fractions: Sequence[float], generator: np.random.Generator
) -> np.ndarray:
    """Gives every part its fraction of every stratum; train, the first part, gets what is left.

    Units are drawn in a seeded order. Each goes to the part that it brings closest to its share of the strata, and to
    train where it would bring none closer. Of every stratum some row stays in train, because a class that train never
    shows cannot be learned.

    Args:
        units: int64[rows], from 0: rows that must stay together have the same number.
        groups: int[rows], the stratum of each row.

    Returns:
        int8[units]: 0 for train, 1 for the first fraction, and so on.
    """
    _, stratum, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    wanted = shares(sizes, fractions, generator).tolist()
    owners, kinds, counts = runs(units, stratum)
    starts = np.searchsorted(owners, np.arange(owners[-1] + 2)).tolist()
    kinds, counts, weights, left = kinds.tolist(), counts.tolist(), (1 / sizes).tolist(), sizes.tolist()
    parts = np.zeros(owners[-1] + 1, dtype=np.int8)
    missing = sum(map(sum, wanted))
    for unit in generator.permutation(len(parts)).tolist():
        run = range(starts[unit], starts[unit + 1])
        if missing <= 0:
            break
        if any(left[kinds[i]] <= counts[i] for i in run):
            continue
        # By how much the squared distance to the shares falls, each stratum in proportion to its rows.
        gains = [sum(weights[kinds[i]] * counts[i] * (2 * need[kinds[i]] - counts[i]) for i in run) for need in wanted]
        best = max(range(len(gains)), key=gains.__getitem__)
        if gains[best] > 0:
            parts[unit] = best + 1
            for i in run:
                missing -= min(counts[i], max(wanted[best][kinds[i]], 0))
                wanted[best][kinds[i]] -= counts[i]
                left[kinds[i]] -= counts[i]
    return parts


def runs(units: np.ndarray, stratum: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the strata of each unit, and how many of its rows are of each: three arrays, a place for each pair.

    Args:
        units: int64[rows], from 0.
        stratum: int64[rows], from 0.

    Returns:
        The unit, in ascending order, the stratum, which ascends within the unit, and the number of rows.
    """
    width = int(stratum.max()) + 1
    keys, counts = np.unique(units * width + stratum, return_counts=True)
    owners, kinds = np.divmod(keys, width)
    return owners, kinds, counts


def shares(sizes: np.ndarray, fractions: Sequence[float], generator: np.random.Generator) -> np.ndarray:
    """Returns how many rows of each stratum each fraction is to get, int64[fractions, strata].

    Whole numbers by the largest remainder: each stratum gets its share rounded down, and what the fraction of all rows
    has beyond that goes to the strata with the largest remainders, equal ones by chance. Each stratum rounded alone
    would leave 500 classes of 4 rows without a tenth. One row of every stratum is left over.

    Args:
        sizes: int64[strata].
    """
    left, wanted = sizes - 1, []
    for fraction in fractions:
        exact = np.round(fraction * sizes, 9)  # 0.1 * 30 is not 3
        share = np.minimum(exact.astype(np.int64), left)
        rest = max(0, round(fraction * sizes.sum()) - int(share.sum()))
        order = np.lexsort((generator.random(len(sizes)), share - exact))
        open_ones = order[(share < left)[order] & (exact > share)[order]]
        share[open_ones[:rest]] += 1
        left = left - share
        wanted.append(share)
    return np.stack(wanted)
