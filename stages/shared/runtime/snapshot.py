"""Detects an input that changes while its stage runs: DVC hashes deps afterwards and would record the new content."""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml.error import YAMLError

from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.params import parsed

DAG_FILE = Path("dvc.yaml")
PARAMS_FILE = Path("params.yaml")
PROJECT = Path(__file__).parents[3]  # whose code is running, wherever it was started
SMALL_FILE_BYTES = 2**20  # larger files are known by size and time, so that gigabytes are not read for this


@dataclass(frozen=True)
class Declaration:
    """What dvc.yaml lists for a stage, with the values of params.yaml put in."""

    params: dict[str, Any]  # section -> what it holds
    deps: list[str]
    outs: list[str]  # metrics and plots too
    small_outs: list[str]  # those of them that Git keeps


def declaration(stage: str) -> Declaration | None:
    """Reads the project in the current folder; None outside of one, and where its files cannot be read."""
    try:
        params, entry = parsed(PARAMS_FILE.read_bytes()), parsed(DAG_FILE.read_bytes())["stages"].get(stage, {})
        outs = [out for kind in ("outs", "metrics", "plots") for out in entry.get(kind, [])]
        return Declaration(
            {section: params[section] for section in entry.get("params", [])},
            [_resolve(dep, params) for dep in entry.get("deps", [])],
            [_resolve(out if isinstance(out, str) else next(iter(out)), params) for out in outs],
            [_resolve(path, params) for out in outs if isinstance(out, dict) for path in out if _in_git(out[path])],
        )
    except (OSError, YAMLError, KeyError, TypeError, AttributeError):
        return None


def refuse_absent(stage: str) -> None:
    """Makes sure that what other stages make is there: `dvc repro` sees to it, whoever runs a stage by hand may not.

    Raises:
        BadInput: it is not.
    """
    declared = declaration(stage)
    if declared is None:
        return
    for path in declared.deps:
        found = None if Path(path).exists() else made_at(Path(path))
        if found is not None:
            raise BadInput(f"{path}: not there; {found[0]} makes it: `dvc repro {stage}` runs what is missing first")


def refuse_made(key: str, name: str) -> None:
    """Makes sure that a path of params.yaml is not what a stage writes, and does not hold it.

    Raises:
        BadInput: it does.
    """
    if found := made_at(Path(name)):
        stage, out = found
        raise BadInput(
            f"params.yaml: {key}: {name!r} is or holds {out}, which {stage} writes; use a place of your own, such as a "
            "copy"
        )


def made_at(path: Path) -> tuple[str, str] | None:
    """Returns the stage, and its output, that is a file or folder, holds it or lies in it; None where none does."""
    place = _in_project(path)
    try:
        stages = list(parsed(DAG_FILE.read_bytes())["stages"])
    except (OSError, YAMLError, KeyError, TypeError):
        return None
    for stage in stages:
        declared = declaration(stage)
        for out in map(Path, declared.outs if declared is not None else ()):
            if place.is_relative_to(out) or out.is_relative_to(place):
                return str(stage), str(out)
    return None


def _in_project(path: Path) -> Path:
    """Returns a path as dvc.yaml would write it."""
    return Path(os.path.relpath(path)) if Path(os.path.abspath(path)).is_relative_to(Path.cwd()) else path  # noqa: PTH100  (resolve() would follow links)


def snapshot(stage: str) -> dict[str, Any]:
    """Describes the stage's deps and its section of params.yaml as they are now.

    Empty outside a project, and where params.yaml cannot be read: the stage says so itself when it reads its section.
    """
    declared = declaration(stage)
    if declared is None:
        return {}
    seen: dict[str, Any] = {f"params.yaml: {section}": values for section, values in declared.params.items()}
    for path in declared.deps:
        for file in files_of(Path(path)):
            seen[str(file)] = _identity(file)
    return seen


def code_of(stage: str) -> list[Path]:
    """Returns the files and folders of code that dvc.yaml lists for the stage."""
    entry = parsed((PROJECT / DAG_FILE).read_bytes())["stages"][stage]
    return [PROJECT / dep for dep in entry["deps"] if dep.startswith("stages/")]


def files_of(path: Path) -> list[Path]:
    """Returns a file, or the files below a folder, in order and without those that Python compiled."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [file for file in files if file.is_file() and "__pycache__" not in file.parts]


def refuse_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Compares two snapshots.

    Raises:
        BadInput: an input is not what it was; what the stage made of the old one must not be recorded for the new one.
    """
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if changed:
        raise BadInput(
            f"{', '.join(changed)} changed while the stage ran, so its output matches no version; run `dvc repro` again"
        )


def _in_git(options: Any) -> bool:
    return isinstance(options, dict) and options.get("cache") is False


def _resolve(path: str, params: Any) -> str:
    """Puts in what dvc.yaml takes from params.yaml: `${download.dataset_files}`."""

    def value(name: re.Match[str]) -> str:
        found = params
        for key in name[1].split("."):
            found = found[key]
        return str(found)

    return re.sub(r"\$\{([\w.]+)\}", value, path)


def _identity(file: Path) -> tuple[Any, ...]:
    facts = file.stat()
    if facts.st_size > SMALL_FILE_BYTES:
        return facts.st_size, facts.st_mtime_ns
    return facts.st_size, hashlib.sha256(file.read_bytes()).hexdigest()
