"""Describes the machine and the versions that a figure was measured with."""

import datetime
import importlib.metadata
import os
import platform
from pathlib import Path

import torch

from benchmarks.clone import ROOT
from stages.shared.model.device import BF16_IN_HARDWARE, cpu_features

WITHOUT_BF16 = "_avx2"


def describe() -> dict[str, object]:
    """Returns date, processor, cores and versions, for the head of a result file."""
    names = ("torch", "transformers", "datasets", "evaluate", "dvc")
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        **({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name).partition("+")[0] for name in names},
    }


def arithmetics() -> list[str]:
    """Returns the values of `train.arithmetic` that are worth measuring here: bf16 only where it is in hardware."""
    return ["portable", "native", *(["bf16"] if _has_bf16() else [])]


def result_file(benchmark: str) -> Path:
    """Returns the file of a benchmark of all arithmetics: a processor without bf16 has one of its own."""
    return ROOT / "benchmarks" / "results" / f"{benchmark}{'' if _has_bf16() else WITHOUT_BF16}.json"


def _has_bf16() -> bool:
    return bool(BF16_IN_HARDWARE & set(cpu_features()))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return " ".join([name, *sorted({"avx2", "avx512f", "avx512_bf16", "amx_bf16"} & set(flags))])
