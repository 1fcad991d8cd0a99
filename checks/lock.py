"""Does a dvc.lock belong to a tree? Compares it with parameters, code, data and the files in Git."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from checks.cli import Unanswerable
from checks.dvc_internals import cached_listing, content_of
from checks.made_from import find_foreign
from checks.revisions import added_data, folder_changes

MOST_FILES_NAMED = 5  # of a folder; the rest is counted, so that a new data set leaves the other reasons in sight


@dataclass(frozen=True)
class Mismatches:
    """What in a tree is not what a lock was made with, in words."""

    stages: dict[str, list[str]]  # those that would run, in the order of dvc.yaml, each with its reasons
    leftovers: list[str]  # what the lock knows of stages that dvc.yaml does not have; no reason to run one
    foreign: list[str] = field(default_factory=list)  # stages whose outputs are of other inputs; DVC cannot see it

    @property
    def reasons(self) -> list[str]:
        """All of them, each once: most code is read by several stages."""
        changed = (why for reasons in self.stages.values() for why in reasons)
        return list(dict.fromkeys([*self.foreign, *self.leftovers, *changed]))


def find_mismatches(repo: Any, lock: Mapping[str, Any], params: Mapping[str, Any] | None = None) -> Mismatches:
    """Compares the tree of a repository with the stages of a lock, as DVC does before it runs them.

    What the stages themselves make and DVC keeps is not looked at: it may be another branch's, or not there at all. Its
    hashes need only agree from one stage of the lock to the next.

    Args:
        lock: as `Revision.lock`.
        params: those that the tree would be run with, if not those of its params.yaml. The lock is another run's then,
            and so are the outs in Git: inputs alone are compared.
    """
    root, inputs_only = Path(repo.root_dir), params is not None
    given = params if inputs_only else read_parameters(root)
    params = given if isinstance(given, Mapping) else {}
    stages = read_stages(root, params)
    outs = [out for stage in stages.values() for out in outs_of(stage)]
    tree = _Tree(repo, lock, [path for path, is_in_git in outs if inputs_only or not is_in_git])
    found = {}
    for name, stage in stages.items():
        entry = lock.get(name, {})
        reasons = [] if stage.get("cmd") == entry.get("cmd") else [command_change(entry.get("cmd"), stage.get("cmd"))]
        for section in stage.get("params", []):
            recorded = entry.get("params", {}).get("params.yaml", {}).get(section, {})
            reasons += _parameter_changes(section, recorded, params.get(section))
        reasons += tree.changes(stage.get("deps", []), entry.get("deps", []))
        reasons += tree.changes(dict(outs_of(stage)), entry.get("outs", []))
        if reasons:
            found[name] = reasons if name in lock else [f"{name}: not in dvc.lock"]
    leftovers = [f"{name}: in dvc.lock, but not in dvc.yaml" for name in lock if name not in stages]
    return Mismatches(found, leftovers, [] if inputs_only else find_foreign(lock, tree.text))


class _Tree:
    """The files of a working tree, against the hashes that a lock has for them."""

    def __init__(self, repo: Any, lock: Mapping[str, Any], passed_over: Iterable[str]) -> None:
        self.repo, self.root = repo, Path(repo.root_dir)
        self.passed_over = [self.whole(path) for path in passed_over]  # whatever is there, or lies in there
        self.last_made = self.hashes(out for entry in lock.values() for out in entry.get("outs", []))
        self.added = {self.whole(path): added for path, added in added_data(self.root).items()}
        self.contents: dict[tuple[Path, str], list[str]] = {}  # most code is read by several stages

    def changes(self, listed: Iterable[str], recorded: Iterable[Mapping[str, Any]]) -> list[str]:
        """Says which of a stage's deps or outs are not as its entry in the lock records them.

        What is in the entry alone is passed over, as DVC does: `dvc repro` would not run the stage for it.
        """
        paths, hashes = {self.whole(path) for path in listed}, self.hashes(recorded)
        reasons = [f"{self.short(path)}: newly listed in dvc.yaml" for path in sorted(paths - hashes.keys())]
        for path, md5 in hashes.items():
            if path in paths and not any(path.is_relative_to(out) for out in self.passed_over):
                if (path, md5) not in self.contents:
                    self.contents[path, md5] = self.content_changes(path, md5)
                reasons += self.contents[path, md5]
            elif self.last_made.get(path, md5) != md5:
                reasons.append(f"{self.short(path)}: remade since it was read")
        return reasons

    def content_changes(self, path: Path, md5: str) -> list[str]:
        """Says what a file or folder has become; of a folder's files, as long as somebody knows the old ones."""
        name, wording = self.short(path), "that dvc.lock was made with"
        if not path.exists():
            return self.added_changes(path, md5)
        now = content_of(self.repo, str(path))
        if now.md5 == md5:
            return []
        if now.files is None:
            return [f"{name} is not the file {wording}"]
        changes = folder_changes(self.repo, path, md5) or {}
        lines = [
            f"{name}/{file} is not the file {wording}" if word == "changed" else f"{name}/{file}: {word}"
            for file, word in changes.items()
        ]
        return named(name, lines) or [f"{name} is not the folder {wording}"]

    def added_changes(self, path: Path, md5: str) -> list[str]:
        """The same of what is not there: `dvc add` may keep it and nobody have pulled it; its .dvc file is in Git."""
        name = self.short(path)
        holder = next((parent for parent in (path, *path.parents) if parent in self.added), None)
        if holder is None:
            return [f"{name}: not in the workspace"]
        added = self.added[holder]
        if holder == path:
            return [] if added.md5 == md5 else [f"{added.file} is of other data than dvc.lock was made with"]
        files = cached_listing(self.repo, added.md5, self.short(holder)) or {}
        now = files.get(path.relative_to(holder).as_posix())  # None also where nobody here knows the folder's files
        reason = f"{added.file} has another {name} than dvc.lock was made with"
        return [] if now in (None, md5) else [reason]

    def text(self, path: str) -> str | None:
        """Returns what a text file holds; None if there is none."""
        file = self.root / path
        return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else None

    def hashes(self, items: Iterable[Mapping[str, Any]]) -> dict[Path, str]:
        """Returns the hashes that a lock has, by whole paths."""
        return {self.whole(item["path"]): item["md5"] for item in items if "md5" in item}

    def whole(self, path: str) -> Path:
        """Returns the absolute path, whatever way it was written in."""
        return Path(os.path.normpath(self.root / path))

    def short(self, path: Path) -> str:
        """Returns the path as a user would write it."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)


def read_parameters(root: Path) -> Any:
    """Reads a project's params.yaml, which should hold sections, but may be any YAML.

    Raises:
        Unanswerable: there is none, or it is no YAML.
    """
    try:
        return YAML(typ="safe", pure=True).load(root / "params.yaml")
    except (OSError, YAMLError) as error:
        raise Unanswerable(f"params.yaml: cannot be read: {error}") from None


def read_sections(root: Path, *names: str) -> dict[str, Any]:
    """Reads a project's params.yaml, in which these sections are needed.

    Raises:
        Unanswerable: the file cannot be read, or one of them is missing.
    """
    params = read_parameters(root)
    for name in names:
        if not isinstance(params, dict) or not isinstance(params.get(name), dict):
            raise Unanswerable(f"params.yaml: {name}: expected a section")
    return dict(params)


def read_stages(root: Path, params: Mapping[str, Any]) -> dict[str, Any]:
    """Reads the stages of dvc.yaml, with the values of parameters where it has `${section.key}`.

    Raises:
        Unanswerable: there is none, or it has no stages.
    """
    try:
        text = json.dumps(dict(YAML(typ="safe", pure=True).load(root / "dvc.yaml")["stages"]))
    except (OSError, YAMLError, LookupError, TypeError, ValueError) as error:
        raise Unanswerable(f"dvc.yaml: cannot be read: {error}") from None
    values = dict(leaves(params))
    stages = re.sub(r"\$\{([\w.]+)\}", lambda name: json.dumps(str(values.get(name[1], name[0])))[1:-1], text)
    return {name: stage or {} for name, stage in json.loads(stages).items()}


def outs_of(stage: Mapping[str, Any]) -> list[tuple[str, bool]]:
    """Returns a stage's outs, metrics and plots, and of each whether it is in Git instead of DVC's cache."""
    listed = [out for kind in ("outs", "metrics", "plots") for out in stage.get(kind, [])]
    with_options = [next(iter(out.items())) if isinstance(out, dict) else (out, {}) for out in listed]
    return [(path, not options.get("cache", True)) for path, options in with_options]


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the values of sections in sections, each by its whole name, such as `train.seed`."""
    for key, inner in values.items():
        yield from leaves(inner, f"{prefix}{key}.") if isinstance(inner, Mapping) else [(f"{prefix}{key}", inner)]


def command_change(old: Any, new: Any) -> str:
    """Says that dvc.yaml has another command than dvc.lock."""
    return f"dvc.yaml: cmd: {json.dumps(old)} -> {json.dumps(new)}"


def named(folder: str, changes: Iterable[str]) -> list[str]:
    """Returns the first few lines about a folder's files, and how many more there are."""
    lines = list(changes)
    more = len(lines) - MOST_FILES_NAMED
    return lines if more <= 0 else [*lines[:MOST_FILES_NAMED], f"{folder}: {more} more files"]


def _parameter_changes(section: str, recorded: Mapping[str, Any], now: Any) -> list[str]:
    if not isinstance(now, Mapping):
        return [f"params.yaml: {section}: the section is missing"]
    lines = []
    for key in {**now, **recorded}:
        if (key in now, now.get(key)) != (key in recorded, recorded.get(key)):
            value = repr(now[key]) if key in now else "not set"
            old = f"with {recorded[key]!r}" if key in recorded else "without it"
            lines.append(f"params.yaml: {section}.{key} is {value}, dvc.lock was made {old}")
    return lines
