"""What an example of another split shares with train, on disk as a sum of flags: uint8[rows] per split."""

from pathlib import Path

import numpy as np

SAME_TEXTS = 1  # case, white space and the order of a pair ignored
SHARED_SENTENCE = 2  # one text of a pair stands in some pair of train
NEAR_DUPLICATE = 4  # half of its runs of five words or more are those of one example of train; not for the same texts
KINDS = {
    SAME_TEXTS: "same texts",
    SHARED_SENTENCE: "one text of the pair",
    NEAR_DUPLICATE: "near-duplicate",
}


def write_overlap(folder: Path, split: str, flags: np.ndarray) -> None:
    """Writes uint8[rows] of one split."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{split}.npy", flags)


def read_overlap(folder: Path, split: str) -> np.ndarray:
    """Reads what `write_overlap` wrote."""
    flags: np.ndarray = np.load(folder / f"{split}.npy")
    return flags
