"""Stratified choice: which rows are alike, and a seeded draw that takes a share of each kind."""

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


def draw(groups: np.ndarray, fractions: Sequence[float], generator: np.random.Generator) -> np.ndarray:
    """Gives every part its fraction of every stratum; train, the first part, gets what is left and at least one group.

    Args:
        groups: int[groups], the stratum of each group of rows with the same text.

    Returns:
        int8[groups]: 0 for train, 1 for the first fraction, and so on.
    """
    parts = np.zeros(len(groups), dtype=np.int8)
    for stratum in np.unique(groups):
        members = generator.permutation(np.flatnonzero(groups == stratum))
        # The last group of a stratum stays in train, because a class that train never shows cannot be learned.
        start = 0
        for number, fraction in enumerate(fractions, 1):
            end = min(start + round(fraction * len(members)), len(members) - 1)
            parts[members[start:end]] = number
            start = end
    return parts
