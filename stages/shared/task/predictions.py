"""Opens the output of `predict`, for the stage and for the checks."""

from pathlib import Path

import numpy as np

from stages.shared.runtime.errors import BadInput
from stages.shared.task.asked import no_labels


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


def open_labelled(
    predictions_dir: Path, split: str, key: str = "evaluate.splits", use: str = "score against"
) -> tuple[np.ndarray, np.ndarray]:
    """Opens the labels and logits of a split that must have labels, memory-mapped.

    Args:
        key: who asks for the split in params.yaml, for the message.
        use: what the labels are for, for the message.

    Raises:
        BadInput: the split has no labels, or a logit is not finite.
    """
    folder = predictions_dir / split
    labels, logits = open_predictions(folder / "labels.npy", folder / "logits.npy", split)
    if np.all(labels == -1):
        raise BadInput(no_labels(split, key, use))
    return labels, logits
