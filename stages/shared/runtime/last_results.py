"""Keeps a stage's small results, to bring them back if its next run fails: DVC removes outputs before a stage runs.

They are the files under metrics/, which are in Git. What DVC keeps in its cache, `dvc checkout` brings back.
"""

import shutil
from pathlib import Path

from stages.shared.runtime.snapshot import declaration

FOLDER = Path(".scratch/last_results")
RESULTS = Path("metrics")


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
    """Puts the results of the last run that succeeded here where there are none, after one that failed."""
    kept = FOLDER / stage
    for copy in kept.rglob("*"):
        file = copy.relative_to(kept)
        if copy.is_file() and not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(copy, file)
