"""Sets of labels with a promise: the right label is in the set of at least `1 - error_rate` of new examples.

Split conformal prediction (Papadopoulos, Proedrou, Vovk & Gammerman 2002) with the least ambiguous sets (Sadinle, Lei &
Wasserman 2019): a label is in the set if its probability is no lower than almost all right labels had on the examples
that it was fitted on. It needs no true probabilities, only that new examples come from where these came from.
"""

import math

import numpy as np

from stages.shared.task.calibration import SEED

DUST = 1e-9  # what 1 - 0.1 is off by, and more
SCALE = 10**9  # nine digits are written, rounded up: a rounded bound must not break the promise


def fit_greatest_loss(losses: np.ndarray, error_rate: float) -> float | None:
    """Returns the greatest loss of a label that is in the set.

    It is the k-th smallest of n losses, where k is (n + 1) * (1 - error_rate), rounded up. Of fewer losses than
    `fewest` says, k is above n, and every label is in every set: None.

    Args:
        losses: float64[examples], of the right labels.
    """
    place = math.ceil((len(losses) + 1) * (1 - error_rate) - DUST)
    if place > len(losses):
        return None
    loss = float(np.partition(losses, place - 1)[place - 1])
    return math.ceil(loss * SCALE) / SCALE


def fewest(error_rate: float) -> int:
    """Returns how many examples it takes until a set can leave a label out."""
    return math.ceil(1 / error_rate - DUST) - 1


def one_of_each(groups: np.ndarray) -> np.ndarray:
    """Says which examples to fit sets on where they come in groups: one of each, drawn at random with a fixed seed.

    Examples of a group resemble each other, so they are not exchangeable, but groups are (Dunn, Wasserman & Ramdas
    2023, "Distribution-free prediction sets for two-layer hierarchical models"). The promise is then for an example of
    a new group.

    Args:
        groups: int64[examples] from 0.

    Returns:
        bool[examples].
    """
    order = np.random.default_rng(SEED).permutation(len(groups))
    _, first = np.unique(groups[order], return_index=True)
    chosen = np.zeros(len(groups), dtype=np.bool_)
    chosen[order[first]] = True
    return chosen
