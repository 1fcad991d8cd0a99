"""Keeps the shell's variables from changing results; it acts when it is imported, which is before torch.

Every variable that can change a result is either set here or refused; `train.threads` and
`predict.threads` rule over whatever `OMP_NUM_THREADS` the shell brings.
"""

import os
import sys
from pathlib import Path

# Each of these picks other arithmetic, hence other bits, without a trace in dvc.lock.
REFUSED = (
    "ACCELERATE_MIXED_PRECISION",
    "ATEN_CPU_CAPABILITY",
    "DNNL_CPU_ISA_HINTS",
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_DEBUG_CPU_TYPE",
    "MKL_ENABLE_INSTRUCTIONS",
    "NPY_DISABLE_CPU_FEATURES",
    "NVIDIA_TF32_OVERRIDE",
    "ONEDNN_CPU_ISA_HINTS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)
# Families that set thread counts or schedules behind `threads`.
DROPPED_PREFIXES = ("GOMP_", "KMP_", "MKL_", "OMP_", "ACCELERATE_", "TRAINER_")

SET = {
    # A thread that waits for the others spins for 3,000 pauses of the processor, then sleeps; the bits are the same. A
    # training step waits a thousand times: sleeping at once makes it slow on a quiet machine, spinning on a busy one.
    "GOMP_SPINCOUNT": "3000",  # of GNU's OpenMP, which torch brings on Linux
    "OMP_WAIT_POLICY": "PASSIVE",  # sleep at once: for other OpenMP libraries
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # what torch asks for before it promises deterministic CUDA matrix products
    "HF_DATASETS_OFFLINE": "1",  # `download` alone lifts the three offline switches
    "HF_EVALUATE_OFFLINE": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    "TOKENIZERS_PARALLELISM": "true",
    "TRANSFORMERS_VERBOSITY": "error",
    "DATASETS_VERBOSITY": "error",
}
# What `torchrun` tells its workers; from anybody else (a cluster's scheduler) it makes a lone process wait for others.
LAUNCHER = ("GROUP_RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE")
PARENT = os.getppid()  # whoever started this program, seen before the imports that take seconds
OFFLINE = ("HF_DATASETS_OFFLINE", "HF_EVALUATE_OFFLINE", "HF_HUB_OFFLINE")


def seal() -> None:
    """Sets, drops and refuses the variables above.

    Raises:
        SystemExit: with status 2 and one line, if a refused variable is set.
    """
    for name in REFUSED:
        if os.environ.get(name):
            print(
                f"environment: {name}={os.environ[name]} would change the results behind dvc.lock's back; unset it",
                file=sys.stderr,
            )
            raise SystemExit(2)
    for name in list(os.environ):
        if name.startswith(DROPPED_PREFIXES):
            del os.environ[name]
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        for name in LAUNCHER:
            os.environ.pop(name, None)
    os.environ.update(SET)
    # Library caches are an input nobody declared: what another project left there must not be found.
    cache = Path(".scratch/cache").absolute()
    os.environ["HF_DATASETS_CACHE"] = str(cache / "datasets")
    os.environ["HF_MODULES_CACHE"] = str(cache / "modules")
    if not sys.stderr.isatty():
        os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"


def go_online() -> None:
    """Lifts the offline switches; only `download` may call it, before any Hub library is imported."""
    for name in OFFLINE:
        os.environ.pop(name, None)
    # Xet's own protocol goes past the client that can resume and give up; the Hub serves every file over HTTP too.
    os.environ["HF_HUB_DISABLE_XET"] = "1"


seal()
