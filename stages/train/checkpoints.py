"""The checkpoints of an unfinished run: written, sealed and renamed, checked before use, removed at the end.

A run's folder holds `checkpoint-<step>` folders: the last one, the best epoch's, and while it is written one in
`partial`. Each has a manifest with the hashes of its files, so that none is used that is not as it was written.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from stages.shared.runtime.publish import remove, write_json

EPOCHS = "epochs.npy"  # what each epoch so far predicted on validation
HISTORY = "history.json"
MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
PARTIAL = "partial"
SET_ASIDE = "set-aside"  # the damaged checkpoint that was found last, for whoever wants to know what hit it
NAME = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-([1-9][0-9]*)")

Rows = list[dict[str, float]]


def run_folder(scratch_dir: Path, key: str) -> Path:
    """Returns the folder for this recipe's checkpoints, and removes what runs of other recipes left."""
    if not scratch_dir.is_dir():
        remove(scratch_dir)
    scratch_dir.mkdir(parents=True, exist_ok=True)
    for other in list(scratch_dir.iterdir()):
        if other.name != key or not _is_folder(other):
            discard(other)
    (scratch_dir / key).mkdir(exist_ok=True)
    return scratch_dir / key


def discard(run: Path) -> None:
    """Removes a run's folder under another name: a kill in between leaves no checkpoint that is half there."""
    grave = run.with_name("discarded")
    if run != grave:
        remove(grave)
        run.rename(grave)
    remove(grave)


def checkpoint_of(run: Path, step: int) -> Path:
    """Returns the folder in which a run keeps its checkpoint of `step`."""
    return run / f"{PREFIX_CHECKPOINT_DIR}-{step}"


def step_of(checkpoint: Path) -> int | None:
    """Returns the step after which a checkpoint was written; None for a name that no checkpoint of ours has."""
    name = NAME.fullmatch(checkpoint.name)
    return int(name[1]) if name else None


def read_history(checkpoint: Path) -> dict[str, Any]:
    """Returns `rows`, the history so far, and of the epoch at hand `loss_sums`, one a process, and `loss_steps`."""
    content: dict[str, Any] = json.loads((checkpoint / HISTORY).read_text(encoding="utf-8"))
    return content


def put_in_place(written: Path, run: Path, best_step: int | None) -> None:
    """Seals a checkpoint, flushes it, moves it into the run's folder, and removes all others but `best_step`'s."""
    partial, final = written.parent, run / written.name
    _seal(written, run)
    for file in written.iterdir():
        _flush(file)
    _flush(written)
    if final.exists():
        final.rename(partial / "replaced")
    written.rename(final)
    _flush(run)
    for old in list(run.iterdir()):
        if step_of(old) not in (None, step_of(final), best_step):
            old.rename(partial / old.name)
    remove(partial)


def latest(run: Path, needed: Callable[[Rows], int | None]) -> tuple[Path | None, list[str]]:
    """Finds the newest checkpoint that a run can go on from and end as if it had never stopped; sets newer ones aside.

    Args:
        needed: the step of a history whose weights must still be there, since they may become the model; None: of none.

    Returns:
        The checkpoint, None for the start, and what is wrong with each of the newer ones.
    """
    faults: list[str] = []
    candidates = [path for path in run.iterdir() if path.name.startswith(PREFIX_CHECKPOINT_DIR)]
    for checkpoint in sorted(candidates, key=lambda path: step_of(path) or float("inf"), reverse=True):
        fault = damage(checkpoint)
        if fault is None:
            step = needed(read_history(checkpoint)["rows"])
            lost = None if step in (None, step_of(checkpoint)) else damage(checkpoint_of(run, step), [WEIGHTS])
            if lost is None:
                return checkpoint, faults
            fault = f"{checkpoint.name} needs the best epoch's weights, and {lost}"
        if not any(fault in told for told in faults):
            faults.append(fault)
        remove(run / SET_ASIDE)
        checkpoint.rename(run / SET_ASIDE)
    return None, faults


def damage(checkpoint: Path, names: Collection[str] | None = None) -> str | None:
    """Says what of a checkpoint is not as it was written; None if all is.

    Args:
        names: the files that matter; None: all, and there must be no other ones.
    """
    if not _is_folder(checkpoint):
        return f"{checkpoint.name} is {'not a folder' if os.path.lexists(checkpoint) else 'missing'}"
    try:
        manifest = _read_manifest(checkpoint)
        if manifest is None:
            return f"{checkpoint.name}/{MANIFEST} is missing or damaged"
        if (manifest["run"], manifest["checkpoint"]) != (checkpoint.parent.name, checkpoint.name):
            return f"{checkpoint.name} was written as {manifest['checkpoint']} of {manifest['run']}"
        written, present = manifest["files"], {file.name for file in checkpoint.iterdir()} - {MANIFEST}
        for name in sorted(written.keys() | present if names is None else names):
            if name not in present:
                return f"{checkpoint.name}/{name} is missing"
            if name not in written or _is_special(checkpoint / name) or _digest(checkpoint / name) != written[name]:
                return f"{checkpoint.name}/{name} is not what was written"
    except OSError as error:
        return f"{checkpoint.name} cannot be read ({error.strerror})"
    return None


def _seal(written: Path, run: Path) -> None:
    """Writes the manifest: of which run and step the files are, the hash of each, and the hash of all that."""
    files = {file.name: _digest(file) for file in sorted(written.iterdir())}
    content = {"run": run.name, "checkpoint": written.name, "files": files}
    write_json(written / MANIFEST, content | {"sha256": _digest_of(content)})


def _read_manifest(checkpoint: Path) -> dict[str, Any] | None:
    """Returns the manifest without its own hash; None if there is none, or another one than was written."""
    file = checkpoint / MANIFEST
    if _is_special(file):
        return None
    try:
        content = json.loads(file.read_bytes())
        own = content.pop("sha256")
    except (ValueError, TypeError, KeyError, AttributeError):  # no JSON, or JSON of something else
        return None
    return content if own == _digest_of(content) else None


def _digest_of(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _is_special(file: Path) -> bool:
    """Says whether this is anything but a file of its own: missing, a link, a folder, a pipe that nobody writes to."""
    return file.is_symlink() or not file.is_file()


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
