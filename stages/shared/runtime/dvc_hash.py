"""Computes DVC's hash of a file or folder without importing DVC, which takes longer than most stages."""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

IGNORE_FILE = ".dvcignore"
NEVER_LISTED = (".hg/", ".git/", ".git", ".dvc/")  # whatever .dvcignore says


class IgnoreRule(NamedTuple):
    """A line of a .dvcignore."""

    folder: Path  # where the file lies; the rule is about what is below
    regex: re.Pattern[str]
    ignores: bool  # False: takes back an earlier rule
    folders_only: bool


def dvc_hash(path: Path) -> str:
    """Returns what dvc.lock has as `md5`: of a file, of its bytes; of a folder, of its listing, with `.dir` behind it.

    As DVC does, it goes into no links to folders, and heeds the .dvcignore of the project, which is the current folder.

    Raises:
        OSError: there is no such file or folder, or it cannot be read.
    """
    whole = Path(os.path.abspath(path))  # noqa: PTH100  (resolve() would follow links)
    if not whole.is_dir():
        return _md5(whole)
    listing = [{"md5": _md5(whole / name), "relpath": name} for name in sorted(_files(whole))]
    return f"{hashlib.md5(json.dumps(listing).encode(), usedforsecurity=False).hexdigest()}.dir"


def listed_files(folder: Path) -> set[str]:
    """Returns the names, in a folder, of the files that its hash is about: a change of any other one goes unseen."""
    return set(_files(Path(os.path.abspath(folder))))  # noqa: PTH100  (resolve() would follow links)


def _md5(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _files(folder: Path) -> Iterator[str]:
    rules = _rules(folder, Path.cwd())
    for place, folders, files in os.walk(folder):
        here = Path(place)
        # In a project, DVC goes into no other project.
        own = [name for name in folders if not (rules and (here / name / ".dvc").is_dir())]
        folders[:] = [name for name in own if not _is_ignored(here / name, True, rules)]
        yield from (
            (here / name).relative_to(folder).as_posix()
            for name in files
            if not _is_ignored(here / name, False, rules) and (here / name).is_file()  # DVC refuses anything else
        )


def _rules(folder: Path, project: Path) -> list[IgnoreRule]:
    """Returns the rules for what lies in a folder, outer ones first; DVC allows no such file in the folder itself."""
    if not folder.is_relative_to(project):
        return []
    rules = _read_rules(project, NEVER_LISTED)
    for place in reversed([parent for parent in folder.parents if parent.is_relative_to(project)]):
        file = place / IGNORE_FILE
        if file.is_file():
            rules += _read_rules(place, file.read_text(encoding="utf-8").splitlines())
    return rules


def _read_rules(folder: Path, lines: Sequence[str]) -> list[IgnoreRule]:
    rules = []
    for line in (line.strip() for line in lines):
        regex, ignores = GitIgnoreSpecPattern.pattern_to_regex(line)
        if regex is not None and ignores is not None:
            rules.append(IgnoreRule(folder, re.compile(regex), ignores, line.endswith("/")))
    return rules


def _is_ignored(path: Path, is_folder: bool, rules: Sequence[IgnoreRule]) -> bool:
    """Says whether a rule keeps a path, or a folder that it lies in, out of listings."""
    if not rules:
        return False
    project = rules[0].folder
    within = [parent for parent in path.parents if parent.is_relative_to(project) and parent != project]
    return any(_matches(one, one != path or is_folder, rules) for one in [path, *within])


def _matches(path: Path, is_folder: bool, rules: Sequence[IgnoreRule]) -> bool:
    """Says what the last rule that fits a path says of it."""
    for rule in reversed(rules):
        if (rule.folders_only and not is_folder) or not path.is_relative_to(rule.folder):
            continue
        name = path.relative_to(rule.folder).as_posix()
        if rule.regex.match(name) or (is_folder and rule.regex.match(f"{name}/")):
            return rule.ignores
    return False
