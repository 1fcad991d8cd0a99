"""Makes sure that DVC sees what the stage reads: an edit of any other file would rerun nothing."""

import os
from collections.abc import Iterable
from pathlib import Path

from stages.shared.runtime.dvc_hash import IGNORE_FILE, listed_files
from stages.shared.runtime.errors import BadInput


def check_watched(folder: Path, files: Iterable[Path], key: str) -> None:
    """Holds the files that are read of a folder to the listing that DVC hashes of it.

    DVC goes into no link to a folder and into no DVC project of its own, and leaves out what .dvcignore matches. Links
    to single files it follows, as the stage does.

    Args:
        files: as they are opened: in the folder, if only through a link.
        key: the parameter that names the folder.

    Raises:
        BadInput: DVC does not see one of them.
    """
    nested = sorted(folder.rglob(IGNORE_FILE))
    if nested:
        raise BadInput(
            f"{nested[0]}: DVC allows no such file inside of data; move its lines to the {IGNORE_FILE} of the project"
        )
    listed = listed_files(folder)
    for file in files:
        inside = Path(os.path.relpath(file, folder)).as_posix()
        foreign = _other_project(file)
        if inside not in listed or foreign is not None:
            reason = _reason(folder, file) if foreign is None else f"into {foreign}, a DVC project of its own"
            raise BadInput(
                f"{file}: DVC does not look {reason}, so an edit would rerun nothing; put the file itself into "
                f"{folder}, where nothing ignores it, or name another folder in {key}"
            )


def _reason(folder: Path, file: Path) -> str:
    inside = [parent for parent in file.parents if parent.is_relative_to(folder) and parent != folder]
    if links := [parent for parent in inside if parent.is_symlink()]:
        return f"behind {links[0]}, a link to a folder"
    if ".." in Path(os.path.relpath(file, folder)).parts:
        return f"outside of {folder}"
    return f"at it, because a line of {IGNORE_FILE} matches it"


def _other_project(file: Path) -> Path | None:
    """Returns the folder below this project, on the way to a file, that is another DVC project; None where none is."""
    here = Path.cwd()
    parents = [parent for parent in here.joinpath(file).parents if parent.is_relative_to(here) and parent != here]
    return next((parent.relative_to(here) for parent in parents if (parent / ".dvc").is_dir()), None)
