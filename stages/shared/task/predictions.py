"""Opens the output of `predict`, for the stage and for the checks."""

from pathlib import Path

import numpy as np

from stages.shared.runtime.errors import BadInput


def open_predictions(labels_file: Path, logits_file: Path, place: str) -> tuple[np.ndarray, np.ndarray]:
    """Opens the labels and logits of a split, memory-mapped.

    Args:
        place: what they are of, for the message.

    Raises:
        BadInput: a logit is not finite. Comparisons with NaN are all false, and so any score and verdict would be.
    """
    labels, logits = (np.load(file, mmap_mode="r") for file in (labels_file, logits_file))
    finite = np.isfinite(logits).all(axis=1)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        where = f"row {bad[0] + 1}" if len(bad) == 1 else f"{len(bad)} rows, first in row {bad[0] + 1}"
        raise BadInput(f"{place}: non-finite logits in {where}; the training diverged: lower train.learning_rate")
    return labels, logits
