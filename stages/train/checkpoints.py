"""The checkpoints of a run that has not ended: written aside, flushed, renamed, listed, pruned, removed at success."""

import os
import shutil
from pathlib import Path

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

HISTORY = "history.json"
PARTIAL = "partial"  # of a run's folder: where a checkpoint is written, and removed


def run_folder(scratch_dir: Path, key: str) -> Path:
    """Returns the folder for this recipe's checkpoints, and removes what runs of other recipes left."""
    scratch_dir.mkdir(parents=True, exist_ok=True)
    for other in list(scratch_dir.iterdir()):
        if other.name != key:
            discard(other)
    (scratch_dir / key).mkdir(exist_ok=True)
    return scratch_dir / key


def discard(run: Path) -> None:
    """Removes a run's folder under another name: a kill in between leaves no checkpoint that is half there."""
    grave = run.with_name("discarded")
    shutil.rmtree(grave, ignore_errors=True)
    if run != grave:
        run.rename(grave)
        shutil.rmtree(grave)


def checkpoint_of(run: Path, step: int) -> Path:
    """Returns the folder in which a run keeps its checkpoint of `step`."""
    return run / f"{PREFIX_CHECKPOINT_DIR}-{step}"


def checkpoints(run: Path) -> list[Path]:
    """Returns the whole checkpoints in a run's folder, oldest first."""
    return sorted(run.glob(f"{PREFIX_CHECKPOINT_DIR}-*"), key=step_of)


def step_of(checkpoint: Path) -> int:
    """Returns the step after which a checkpoint was written."""
    return int(checkpoint.name.rpartition("-")[2])


def put_in_place(written: Path, run: Path, best_step: int | None) -> None:
    """Flushes a checkpoint, moves it into the run's folder, and removes all others but that of `best_step`."""
    partial, final = written.parent, run / written.name
    for file in written.iterdir():
        _flush(file)
    _flush(written)
    if final.exists():
        final.rename(partial / "replaced")
    written.rename(final)
    _flush(run)
    for old in checkpoints(run):
        if old != final and step_of(old) != best_step:
            old.rename(partial / old.name)
    shutil.rmtree(partial)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
