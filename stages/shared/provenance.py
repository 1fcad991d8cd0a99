"""Notices an input that changes while its stage runs: DVC hashes deps after the command, so it would record the new."""

import hashlib
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages.shared.errors import BadInput

DAG_FILE = Path("dvc.yaml")
PARAMS_FILE = Path("params.yaml")
SMALL = 2**20  # bytes; larger files are known by size and time, so that gigabytes are not read for this


def snapshot(stage: str) -> dict[str, Any]:
    """Describes the stage's deps and its section of params.yaml as they are now; empty outside a project."""
    if not DAG_FILE.exists():
        return {}
    yaml = YAML(typ="safe", pure=True)
    params = yaml.load(PARAMS_FILE)
    entry = yaml.load(DAG_FILE)["stages"].get(stage, {})
    seen: dict[str, Any] = {f"params.yaml: {section}": params[section] for section in entry.get("params", [])}
    for dep in entry.get("deps", []):
        if dep.startswith("${"):
            section, key = dep[2:-1].split(".")
            dep = params[section][key]
        path = Path(dep)
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                seen[str(file)] = _identity(file)
    return seen


def refuse_changes(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Compares two snapshots.

    Raises:
        BadInput: an input is not what it was; what the stage made of the old one must not be recorded for the new one.
    """
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if changed:
        raise BadInput(
            f"{', '.join(changed)} changed while the stage ran, so its output belongs to no version; "
            "run `dvc repro` again"
        )


def _identity(file: Path) -> tuple[Any, ...]:
    facts = file.stat()
    if facts.st_size > SMALL:
        return facts.st_size, facts.st_mtime_ns
    return facts.st_size, hashlib.sha256(file.read_bytes()).hexdigest()
