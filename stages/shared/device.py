"""Picks the device and pins the number of threads, for the stages that compute with torch."""

import torch

from stages.shared.errors import BadInput


def pick_device(device: str, threads: int) -> torch.device:
    """Returns the device that `execution.device` names, with torch set to `threads` processor threads.

    Raises:
        BadInput: a GPU was asked for and there is none.
    """
    torch.set_num_threads(threads)
    if device == "cuda" and not torch.cuda.is_available():
        raise BadInput("params.yaml: execution.device: cuda was asked for, but torch sees no GPU; use auto or cpu")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
