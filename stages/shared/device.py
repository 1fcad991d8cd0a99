"""Picks the device and pins the number of threads, for the stages that compute with torch."""

import os

import torch

from stages.shared.errors import BadInput
from stages.shared.processes import local_rank


def pick_device(device: str, threads: int) -> torch.device:
    """Returns the device that `execution.device` names, with torch set to `threads` processor threads.

    Each process on a machine has a GPU of its own.

    Raises:
        BadInput: a GPU was asked for and there is none, or fewer than processes.
    """
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)  # else accelerate, in several processes, sets another
    if device == "cuda" and not torch.cuda.is_available():
        raise BadInput("params.yaml: execution.device: cuda was asked for, but torch sees no GPU; use auto or cpu")
    if device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    if local_rank() >= torch.cuda.device_count():
        raise BadInput(
            f"process {local_rank()} of this machine has no GPU of its own, torch sees {torch.cuda.device_count()}; "
            "lower the number of processes, or set execution.device to cpu"
        )
    torch.cuda.set_device(local_rank())
    return torch.device("cuda", local_rank())
