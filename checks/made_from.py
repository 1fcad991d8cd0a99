"""Were the outputs in a dvc.lock made from its inputs? Compares it with the records of the stages."""

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from stages.shared.runtime.made_from import plain_values, record_path

MOST_NAMED = 5  # inputs and outputs that one line names; the rest is counted


def find_foreign(lock: Mapping[str, Any], read: Callable[[str], str | None]) -> list[str]:
    """Says of each stage whether what dvc.lock has for it is what the stage read and wrote; a line where it is not.

    A merge of Git's can put the hashes of one branch's inputs beside those of another's outputs. DVC then sees a stage
    that is up to date. Of a stage without a record, which code before the records left, nothing is said.

    Args:
        lock: the stages of a dvc.lock.
        read: returns the text of a file of the same tree; None where there is none.
    """
    lines = []
    for stage, entry in lock.items():
        path = record_path(stage).as_posix()
        text = read(path)
        if text is None:
            continue
        remedy = f"`dvc repro --force --single-item {stage}`, then `dvc repro` for what follows"
        try:
            (record,) = json.loads(text)["made_from"]
            others = _differences(entry, record, path)
        except (LookupError, TypeError, ValueError, AttributeError):
            lines.append(f"{stage}: {path} was not written by a stage; run {remedy}")
            continue
        if others:
            more = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
            named = ", ".join(others[:MOST_NAMED]) + more
            lines.append(
                f"{stage}: dvc.lock and {path} differ in {named}, so its outputs were not made from these inputs; run "
                f"{remedy}"
            )
    return lines


def _differences(entry: Mapping[str, Any], record: Mapping[str, Any], own: str) -> list[str]:
    """Names the deps, parameters and outs that an entry of dvc.lock and a stage's record have differently."""
    names = []
    for kind in ("deps", "outs"):
        locked, made = (
            {os.path.normpath(item["path"]): item["md5"] for item in one.get(kind, [])} for one in (entry, record)
        )
        names += sorted(path for path in locked.keys() | made.keys() if locked.get(path) != made.get(path))
    locked, made = (plain_values(one.get("params", {})) for one in (entry, record))
    for file in locked.keys() | made.keys():
        for section in sorted(locked.get(file, {}).keys() | made.get(file, {}).keys()):
            before, now = (one.get(file, {}).get(section) or {} for one in (made, locked))
            names += [
                f"{section}.{key}"
                for key in sorted(before.keys() | now.keys())
                if (key in before, before.get(key)) != (key in now, now.get(key))
            ]
    return [name for name in names if name != own]
