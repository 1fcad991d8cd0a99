"""Chooses and prepares the device for the stages that use torch: threads, memory, advice on arithmetic."""

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from stages.shared.runtime.arithmetic import Arithmetic
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.rank import local_rank, rank
from stages.shared.runtime.terminal import warn

BF16_IN_HARDWARE = {"amx_bf16", "avx512_bf16", "bf16"}  # Intel and AMD, and Arm's
# What a processor says that picks a kernel in oneDNN, MKL or ATen.
KNOWN_FEATURES = {"avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx_vnni", "avx512_fp16"}
KNOWN_FEATURES |= {"amx_tile", "amx_int8", "asimd", "sve"} | BF16_IN_HARDWARE


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
        keep_freed_memory()
        return torch.device("cpu")
    if local_rank() >= torch.cuda.device_count():
        raise BadInput(
            f"process {local_rank()} of this machine has no GPU, because torch sees only "
            f"{torch.cuda.device_count()}; lower the number of processes, or set execution.device to cpu"
        )
    torch.cuda.set_device(local_rank())
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # it would cost
    return torch.device("cuda", local_rank())


@contextmanager
def explain_nondeterminism() -> Iterator[None]:
    """Says in one line that a model needs a computation which a GPU does in no fixed order.

    Raises:
        BadInput: torch refused such a computation.
    """
    try:
        yield
    except RuntimeError as error:
        if not torch.are_deterministic_algorithms_enabled() or "deterministic implementation" not in str(error):
            raise
        operation = str(error).partition(" does not have")[0]
        raise BadInput(
            f"{operation} is not deterministic on a GPU, and this model needs it; set execution.device to cpu, or "
            "use another model"
        ) from error


def keep_freed_memory() -> None:
    """Has the C library keep the memory that tensors give back, for the next ones.

    By default it returns large blocks to the system at once, which hands them out again page by page, each one filled
    with zeros first: a quarter of a training step.
    """
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
        library.mallopt(M_MMAP_THRESHOLD, 2**30) or library.mallopt(M_MMAP_THRESHOLD, 2**25)  # older ones' most
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        library.mallopt(M_TOP_PAD, 2**26)


def advise(stage: str, arithmetic: Arithmetic, device: torch.device) -> None:
    """Says on stderr what this machine cannot promise, or computes faster.

    Raises:
        BadInput: the arithmetic is portable, and the processor is too old for it.
    """
    features = set(cpu_features())
    lacking = {"avx2", "fma"} - features
    if arithmetic == "portable" and device.type == "cpu" and platform.machine() == "x86_64" and features and lacking:
        raise BadInput(
            f"params.yaml: {stage}.arithmetic: portable needs a processor with AVX2 and FMA, and this one lacks "
            f"{' and '.join(sorted(lacking))}; use native"
        )
    if rank() > 0:
        return
    reason = why_not_portable(device)
    if arithmetic == "portable" and reason:
        warn(f"{stage}: {stage}.arithmetic: portable: {reason}, so other kinds of machine may give other bytes")
    if device.type != "cpu" or not features:
        return
    if arithmetic == "bf16" and not features & BF16_IN_HARDWARE:
        warn(f"{stage}: this processor has no bf16 in hardware; {stage}.arithmetic: portable is faster here")
    if arithmetic != "bf16" and features & BF16_IN_HARDWARE:
        warn(
            f"{stage}: this processor has bf16 in hardware; {stage}.arithmetic: bf16 is faster, with slightly "
            "different results"
        )


def why_not_portable(device: torch.device) -> str | None:
    """Says what keeps the bytes from being those of other processors; None: nothing does."""
    if device.type != "cpu":
        return "this is a GPU"
    if platform.machine() != "x86_64":
        return f"this is no x86-64 processor but {platform.machine()}"
    if not torch.backends.mkl.is_available() or not torch.backends.mkldnn.is_available():
        return "this build of torch lacks MKL or oneDNN"
    return None


def cpu_features() -> list[str]:
    """Returns the instruction sets of this processor that pick a kernel, sorted; none where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    flags = next((line.partition(":")[2] for line in lines if line.startswith(("flags", "Features"))), "")
    return sorted(KNOWN_FEATURES & set(flags.split()))
