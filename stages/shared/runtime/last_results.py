"""Keeps a stage's small results, to bring them back if its next run fails: DVC removes outputs before a stage runs.

They are the files under metrics/, which are in Git. What DVC keeps in its cache, `dvc checkout` brings back.
"""

import shutil
from pathlib import Path

from stages.shared.runtime.dvc_hash import dvc_hash
from stages.shared.runtime.snapshot import declaration

FOLDER = Path(".scratch/last_results")
RESULTS = Path("metrics")
LOCK = Path("dvc.lock")


def keep_results(stage: str) -> None:
    """Copies the results of a stage that has just ended."""
    kept = FOLDER / stage
    shutil.rmtree(kept, ignore_errors=True)
    declared = declaration(stage)
    for file in map(Path, declared.small_outs if declared else ()):
        if file.is_file() and file.is_relative_to(RESULTS):
            (kept / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, kept / file)


def bring_back_results(stage: str) -> None:
    """Puts the stage's results back that dvc.lock records, if a run that failed has left none at all.

    Others that are kept here, of another branch or of a run in between, would stand beside a lock that is not theirs.
    """
    kept = FOLDER / stage
    copies = [file for file in kept.rglob("*") if file.is_file()]
    if any(copy.relative_to(kept).exists() for copy in copies) or not LOCK.is_file():
        return
    recorded = LOCK.read_text(encoding="utf-8")
    if all(dvc_hash(copy) in recorded for copy in copies):
        for copy in copies:
            file = copy.relative_to(kept)
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(copy, file)
