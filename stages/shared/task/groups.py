"""The groups of a split's rows (`download.group_column`), which are resampled and swapped as a whole."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

GROUP = "group"  # the column of data/raw; without download.group_column there is none


def row_groups(split_dir: Path, examples: int) -> np.ndarray | None:
    """Numbers the groups of the first `examples` rows of a split of data/raw: int64[examples] from 0.

    Returns:
        None where rows have no groups.
    """
    return groups_of_files(sorted(split_dir.glob("*.arrow")), examples)


def groups_of_files(files: list[Path], examples: int) -> np.ndarray | None:
    """Does the same for the Arrow files of a split, wherever they lie."""
    names = _group_names(files, examples)
    return None if names is None else _numbered(names)


def groups_of_splits(raw_dir: Path, sizes: Mapping[str, int]) -> np.ndarray | None:
    """Numbers the groups of several splits, one after the other: one that two of them share has one number.

    Args:
        sizes: of each split in data/raw its first so many rows.
    """
    parts = []
    for split, examples in sizes.items():
        names = _group_names(sorted((raw_dir / split).glob("*.arrow")), examples)
        if names is None:
            return None
        parts += names.chunks
    return _numbered(pa.chunked_array(parts, pa.string()))


def _group_names(files: list[Path], examples: int) -> Any:
    """Returns the names as a pyarrow.ChunkedArray; None where rows have no groups."""
    columns = []
    for file in files:
        with pa.memory_map(str(file)) as mapped:
            reader = pa.ipc.open_stream(mapped)
            if GROUP not in reader.schema.names:
                return None
            columns += [batch[GROUP] for batch in reader]
    return pa.chunked_array(columns, pa.string()).slice(0, examples)


def _numbered(names: Any) -> np.ndarray:
    return np.asarray(names.combine_chunks().dictionary_encode().indices.to_numpy(), dtype=np.int64)


def effective_examples(values: np.ndarray, groups: np.ndarray, confidence: float) -> float:
    """Returns how many examples, each drawn alone, would say as much of a mean as these groups do.

    That is the number of examples over the design effect (Kish 1965), and less where there are few groups, whose spread
    is itself not known well (Korn & Graubard 1998). It is never more than there are examples. Where all have the same
    value, nothing shows how alike the examples of a group are, and each group counts as one.

    Args:
        values: bool[examples] or numbers, the mean of which is asked for.
        groups: int64[examples], numbers of the groups, in any order.
    """
    from scipy.stats import norm, t

    _, place = np.unique(groups, return_inverse=True)
    sizes = np.bincount(place).astype(np.float64)
    number, examples, share = len(sizes), len(values), float(values.mean(dtype=np.float64))
    if number < 2:
        return 1.0
    away = np.bincount(place, weights=values.astype(np.float64)) - share * sizes
    alone = float(values.astype(np.float64).var()) / examples
    variance = number / (number - 1) * float(np.sum(away**2)) / examples**2
    effective = float(number) if alone == 0 else examples * alone / max(variance, alone)
    ratio = norm.ppf((1 + confidence) / 2) / t.ppf((1 + confidence) / 2, number - 1)
    return max(float(effective * ratio**2), 1.0)


def wilson_ends(share: float, examples: float, confidence: float) -> tuple[float, float]:
    """Returns the score interval of a share (Wilson 1927) of so many examples, which need not be a whole number."""
    from scipy.stats import norm

    z = float(norm.ppf((1 + confidence) / 2))
    middle = (share + z**2 / (2 * examples)) / (1 + z**2 / examples)
    half = z / (1 + z**2 / examples) * float(np.sqrt(share * (1 - share) / examples + z**2 / (4 * examples**2)))
    return max(middle - half, 0.0), min(middle + half, 1.0)
