"""Outputs appear complete or not at all: they are written to a temporary name and renamed at the end."""

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

FULL = 2**16  # free bytes under which a failed write is taken for a full disk


@contextmanager
def publish(*targets: Path) -> Iterator[list[Path]]:
    """Yields one path to write to for each target; renames all of them into place if the block succeeds.

    A block that fails leaves neither partial outputs nor changed targets behind.
    """
    partials = [target.with_name(f".{target.name}.partial") for target in targets]
    with ExitStack() as cleanup:
        for partial in partials:
            remove(partial)  # a killed run's
            partial.parent.mkdir(parents=True, exist_ok=True)
            cleanup.callback(remove, partial)
        try:
            yield partials
        except Exception as error:  # asked before the partial outputs are removed and there is space again
            if is_full_disk(error, partials[0].parent):
                raise OSError(errno.ENOSPC, "No space left on device") from error
            raise
        for partial, target in zip(partials, targets, strict=True):
            make_readable(partial)
            remove(target)
            partial.rename(target)


def make_readable(path: Path) -> None:
    """Gives files the rights that this user's new files have: some libraries write theirs for the owner alone."""
    mask = os.umask(0o077)  # it can only be read by setting it
    os.umask(mask)
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file() and not file.is_symlink():
            file.chmod(0o666 & ~mask)


def is_full_disk(error: Exception, folder: Path) -> bool:
    """Says whether a write failed for lack of space; torch and safetensors raise errors of their own then."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    # safetensors has removed what it could not finish, and says so in words; torch has not, and does not
    return "No space left on device" in str(error) or shutil.disk_usage(folder).free < FULL


def write_json(file: Path, content: Any) -> None:
    """Writes JSON for people and Git: indented, in the order given, with a final newline; NaN is refused."""
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def write_records(file: Path, name: str, records: Sequence[Mapping[str, Any]]) -> None:
    """Writes facts as `{name: [record, ...]}`.

    To DVC such a file is a metric, since it keeps stages with plain outs in Git out of its run cache; but it prints
    what is in dictionaries only, so that `dvc metrics diff` and `dvc exp show` hold the scores and nothing else.
    """
    write_json(file, {name: list(records)})


def remove(path: Path) -> None:
    """Removes whatever lies there, if anything does; of a link, the link alone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
