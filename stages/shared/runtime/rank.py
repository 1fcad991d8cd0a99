"""The rank of this process among those of its stage, read without importing torch."""

import json
import os
import time
import traceback
from pathlib import Path


def rank() -> int:
    """The number of this process among those of the stage, from 0; rank 0 alone writes and speaks."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """The number of this process among those on this machine: the GPU it takes."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def world_size() -> int:
    """The number of the stage's processes; 1 where nobody launched several."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_worker() -> bool:
    """Says whether an elastic launcher, the stage's own or `torchrun`, started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def record(line: str) -> None:
    """Leaves the line, and the traceback that belongs to it, for the launcher to say."""
    if file := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        extra = {"py_callstack": traceback.format_exc(), "timestamp": str(int(time.time()))}
        content = {"message": {"message": line, "extraInfo": extra}}
        Path(file).write_text(json.dumps(content), encoding="utf-8")
