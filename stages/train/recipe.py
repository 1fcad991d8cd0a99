"""What the bytes of a training depend on: its recipe, and the environment of its arithmetic."""

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from stages.shared.model.device import cpu_features, why_not_portable
from stages.shared.runtime.arithmetic import Arithmetic
from stages.shared.runtime.snapshot import code_of, files_of

PACKAGES = ("accelerate", "datasets", "numpy", "safetensors", "tokenizers", "torch", "transformers")


def environment(device: torch.device, arithmetic: Arithmetic, threads: int) -> dict[str, Any]:
    """Describes all that changes bits without being in dvc.lock, and nothing else.

    Where the arithmetic is portable, that is nothing of the processor: wherever the bytes are equal, this is too.
    """
    facts: dict[str, Any] = {
        "python": ".".join(platform.python_version_tuple()[:2]),  # it decides which files the packages are
        # without the build's local suffix: 2.13.0+cpu and 2.13.0 are one version
        "packages": {name: importlib.metadata.version(name).partition("+")[0] for name in PACKAGES},
        "machine": platform.machine(),
        "system": platform.system(),
        "threads": threads,
        "device": device.type,
    }
    if arithmetic != "portable" or why_not_portable(device):
        facts |= {
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "cpu_features": cpu_features(),
            "mkl": torch.backends.mkl.is_available(),
            "mkldnn": torch.backends.mkldnn.is_available(),
        }
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
        facts["cuda"] = torch.version.cuda
    return facts


def machine() -> dict[str, Any]:
    """Describes what a training ran on and should not have changed its bits: for whoever finds that it did."""
    return {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "c_library": " ".join(platform.libc_ver()),
        "cpu_features": cpu_features(),
        "kernels_of_torch": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
    }


def recipe_key(params: Mapping[str, Any], facts: Mapping[str, Any], inputs: Iterable[Path]) -> str:
    """Hashes parameters, environment, code and the content of `inputs`: no checkpoint of another recipe is resumed."""
    digest = hashlib.sha256(json.dumps([params, facts], sort_keys=True).encode())
    for path in [*code_of("train"), *inputs]:
        for file in files_of(path):
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]
