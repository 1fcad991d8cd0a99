"""Keeps shell variables from changing results; it acts when it is imported, before torch.

Every variable that can change a result is either set here or refused; `train.threads` and
`predict.threads` rule over whatever `OMP_NUM_THREADS` the shell brings.
"""

import os
import sys
from pathlib import Path

from stages.shared.runtime.terminal import warn

# What torch's kernels take from the processor: here, from every one the same. `go_native` lifts it.
PORTABLE = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "COMPATIBLE",  # MKL has other kernels for Intel's processors than for others with AVX2
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}
# The same for NumPy, SciPy and Arrow, which no stage would compute sooner with more of the processor.
PORTABLE_ARRAYS = {
    "ARROW_USER_SIMD_LEVEL": "AVX2",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",  # all that NumPy knows beyond AVX2
    "OPENBLAS_CORETYPE": "Haswell",
    "OPENBLAS_NUM_THREADS": "1",  # else as many as there are cores, and sums are cut by that
}
# Each of these picks other arithmetic, hence other bits, without a trace in dvc.lock.
REFUSED = (
    *PORTABLE,
    "ACCELERATE_MIXED_PRECISION",
    "ARROW_USER_SIMD_LEVEL",
    "DNNL_CPU_ISA_HINTS",
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "GLIBC_TUNABLES",
    "MKL_DEBUG_CPU_TYPE",
    "MKL_ENABLE_INSTRUCTIONS",
    "NPY_DISABLE_CPU_FEATURES",
    "NPY_ENABLE_CPU_FEATURES",
    "NVIDIA_TF32_OVERRIDE",
    "ONEDNN_CPU_ISA_HINTS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "OPENBLAS_CORETYPE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)
# Families that set thread counts or schedules behind `threads`.
DROPPED_PREFIXES = ("GOMP_", "KMP_", "MKL_", "OMP_", "OPENBLAS_", "ACCELERATE_", "TRAINER_")

SET = {
    "MKL_DYNAMIC": "FALSE",  # never fewer threads than asked for, where MKL thinks that they would share a core
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
# Where libraries keep what they may need again, below the project's own cache: variable -> folder. Elsewhere it would
# be an input nobody declared, for another project may have filled it; and a user may have no home folder.
CACHES = {
    "CUDA_CACHE_PATH": "cuda",
    "HF_ASSETS_CACHE": "assets",
    "HF_DATASETS_CACHE": "datasets",
    "HF_EVALUATE_CACHE": "evaluate",
    "HF_METRICS_CACHE": "metrics",
    "HF_MODULES_CACHE": "modules",
    "HF_XET_CACHE": "xet",
    "MPLCONFIGDIR": "matplotlib",
    "NUMBA_CACHE_DIR": "numba",
    "PYTORCH_KERNEL_CACHE_PATH": "torch_kernels",
    "TORCHINDUCTOR_CACHE_DIR": "torch_inductor",
    "TORCH_EXTENSIONS_DIR": "torch_extensions",
    "TORCH_HOME": "torch",
    "TRITON_CACHE_DIR": "triton",
}
PARENT = os.getppid()  # whoever started this program, seen before the imports that take seconds
OFFLINE = ("HF_DATASETS_OFFLINE", "HF_EVALUATE_OFFLINE", "HF_HUB_OFFLINE")


def seal() -> None:
    """Sets, drops and refuses the variables above.

    Raises:
        SystemExit: with status 2 and one line, if a refused variable is set.
    """
    for name in REFUSED:
        # what is as it would be set comes from another program of ours, which started this one
        if os.environ.get(name) not in (None, "", (PORTABLE_ARRAYS | PORTABLE).get(name)):
            warn(
                f"environment: {name}={os.environ[name]} would change the results without a trace in dvc.lock; unset it"
            )
            raise SystemExit(2)
    for name in list(os.environ):
        if name.startswith(DROPPED_PREFIXES):
            del os.environ[name]
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        for name in LAUNCHER:
            os.environ.pop(name, None)
    os.environ.update(SET | PORTABLE_ARRAYS | PORTABLE)
    os.environ.update({name: str(_cache(folder)) for name, folder in CACHES.items()})
    if not sys.stderr.isatty():
        os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"


def go_native() -> None:
    """Lets torch choose its kernels by the processor; only who predicts or trains may call it, before the import."""
    for name in PORTABLE:
        os.environ.pop(name, None)


def go_online() -> None:
    """Lifts the offline switches; only `download` may call it, before any Hub library is imported.

    The Hub's cache is the user's, if it can be written, for the same checkpoint serves many projects.
    """
    for name in OFFLINE:
        os.environ.pop(name, None)
    # Xet's own protocol goes past the client that can resume and give up; the Hub serves every file over HTTP too.
    os.environ["HF_HUB_DISABLE_XET"] = "1"
    get = os.environ.get
    home = get("HF_HOME") or f"{get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    if not _is_writable(get("HF_HUB_CACHE") or get("HUGGINGFACE_HUB_CACHE") or f"{home}/hub"):
        os.environ["HF_HUB_CACHE"] = str(_cache("hub"))
    if not os.access(_expanded(get("HF_TOKEN_PATH") or f"{home}/token"), os.R_OK):
        # There is no token, but where its folder cannot be entered the library would stumble over that.
        os.environ["HF_TOKEN_PATH"] = str(_cache("token"))


def _cache(name: str) -> Path:
    return Path(".scratch/cache").absolute() / name


def _is_writable(folder: str) -> bool:
    """Says whether a folder, or what of its path is there, can be written to; nothing is made for that."""
    path = Path(_expanded(folder))
    try:
        there = next(part for part in (path, *path.parents) if part.exists())
    except OSError:  # a folder on the way to it cannot be entered
        return False
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def _expanded(path: str) -> str:
    return os.path.expandvars(os.path.expanduser(path))  # noqa: PTH111  (as the Hub's library: a user may have no home)


seal()
