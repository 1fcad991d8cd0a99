"""Reads the results of a revision from Git and from DVC's cache, without a checkout or a run."""

import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from dvc.exceptions import DvcException
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from checks.cli import Unanswerable
from checks.dvc_internals import (
    Content,
    DamagedObject,
    cached_files,
    cached_listing,
    content_of,
    find_commit,
    lock_schema_error,
    pull,
)

LOCK_FILE = "dvc.lock"
WORKSPACE = "workspace"
NO_HASHES = {"path", "hash", "size", "nfiles", "isexec"}  # what an input or output in dvc.lock has besides its hash
DVC_FILES = ("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.dvc")
MOST_COMMITS = 10  # of a path in Git, searched for the content that dvc.lock records; 0.01 to 0.03 s each


def git(root: Path, *arguments: str) -> str | None:
    """Runs git and returns what it says, stripped; None if it fails."""
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, encoding="utf-8", errors="replace")
    return None if done.returncode else done.stdout.strip()


@dataclass(frozen=True)
class Revision:
    """A commit, or the workspace."""

    name: str  # as the user called it
    commit: str | None  # None: the workspace
    repo: Any = field(repr=False)  # dvc.repo.Repo

    @property
    def root(self) -> Path:
        """The project's folder."""
        return Path(self.repo.root_dir)

    def text(self, path: str) -> str | None:
        """Returns a text file that is in Git; None if the revision has none."""
        if self.commit is None:
            file = self.root / path
            return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else None
        return git(self.root, "show", f"{self.commit}:./{path}")

    def json(self, path: str) -> Any:
        """Returns the content of a JSON file that is in Git.

        Raises:
            Unanswerable: the revision has no such file, or it is no JSON.
        """
        text = self.text(path)
        if text is None:
            raise Unanswerable(f"{self.name}: no {path}; `dvc repro` there makes it")
        try:
            return json.loads(text)
        except ValueError as error:
            raise Unanswerable(f"{self.name}: {path} is not JSON: {error}") from None

    @property
    def lock(self) -> dict[str, Any]:
        """The stages of the revision's dvc.lock.

        Raises:
            Unanswerable: there is none, or it is not what DVC writes.
        """
        text = self.text(LOCK_FILE)
        if text is None:
            raise Unanswerable(f"{self.name}: no dvc.lock; run `dvc repro` there and commit it")
        return _read_lock(text, self.name, self.commit is not None)

    def hash(self, out: str) -> str:
        """Returns the hash that dvc.lock records for an out.

        Raises:
            Unanswerable: no stage of the revision has made it.
        """
        for entry in self.lock.values():
            for item in entry.get("outs", []):
                if item["path"] == out:
                    return str(item["md5"])
        raise Unanswerable(
            f"{self.name}: no stage in its dvc.lock makes {out}; run `dvc repro` there and commit the lock"
        )

    def files(self, out: str) -> dict[str, Path]:
        """Returns where the files of an out that DVC keeps lie, by their names in its folder; of a file, by ".".

        What the cache lacks comes from the default remote of today's configuration, if there is one. The workspace's
        own files are taken only if they are what the lock says: after a `git checkout` without `dvc checkout` they are
        another branch's.

        Raises:
            Unanswerable: they are nowhere.
        """
        remedy = (
            f"run `git checkout {self.name}` and `dvc repro` to make it again" if self.commit else "run `dvc repro`"
        )
        return self._find(out, self.hash(out), self.commit is None, remedy)

    def added_files(self, path: str, added: "AddedData") -> dict[str, Path]:
        """The same of data of `dvc add`, by the hash in their .dvc file.

        Raises:
            Unanswerable: the files are nowhere, or one of them is damaged.
        """
        return self._find(path, added.md5, True, f"`dvc push {added.file}` on a machine that has the data uploads them")

    def _find(self, path: str, md5: str, may_be_here: bool, remedy: str) -> dict[str, Path]:
        what = f"{self.name}: {path}"
        found = cached_files(self.repo, md5, what) or (self._in_workspace(path, md5) if may_be_here else None)
        if found is None:
            try:
                pull(self.repo, md5, what)
            except DamagedObject:
                raise
            except (DvcException, OSError):
                pass  # there is no remote, or it lacks them or does not answer: that they are nowhere is said below
            found = cached_files(self.repo, md5, what)
        if found is None:
            raise Unanswerable(f"{what} is neither in the cache nor in a remote; {remedy}")
        return found

    def _in_workspace(self, path: str, md5: str) -> dict[str, Path] | None:
        place = self.root / path
        if not place.exists():
            return None
        content = content_of(self.repo, str(place))
        names = ["."] if content.files is None else content.files
        return {name: place / name for name in names} if content.md5 == md5 else None


class AddedData(NamedTuple):
    """What `dvc add` or its kin keep: a file or a folder."""

    md5: str
    file: str  # the .dvc file that says so


def added_data(root: Path) -> dict[str, AddedData]:
    """Returns what the .dvc files of a project keep, by the paths of the data in the project.

    Raises:
        Unanswerable: a .dvc file cannot be read.
    """
    found = {}
    for name in filter(None, (git(root, *DVC_FILES) or "").split("\0")):
        if not (root / name).is_file():
            continue
        try:
            content = YAML(typ="safe", pure=True).load(root / name)
            folder = Path(name).parent / content.get("wdir", ".")
            for out in content.get("outs", []):
                if out.get("hash") == "md5" and "md5" in out:  # else not in DVC's cache, or in that of DVC 2
                    found[Path(os.path.normpath(folder / out["path"])).as_posix()] = AddedData(out["md5"], name)
        except (YAMLError, LookupError, TypeError, AttributeError) as error:
            raise Unanswerable(f"{name}: not as `dvc add` writes it: {_in_a_line(error)}") from None
    return found


def _read_lock(text: str, name: str, committed: bool) -> dict[str, Any]:
    """Reads the text of a dvc.lock.

    Raises:
        Unanswerable: DVC did not write it so, or was killed as it did.
    """
    remedy = "run `git checkout dvc.lock` to restore the committed one"
    if committed:
        remedy = "take dvc.lock from another commit, or delete it, and run `dvc repro`"
    broken = None
    if not text.strip():
        broken = "empty, perhaps because DVC was killed while it wrote it"
    elif re.search(r"^(<{7}|={7}|>{7}|\|{7})( |$)", text, re.MULTILINE):
        broken = "it has conflict markers of a merge"
        remedy = "take one side with `git checkout --ours dvc.lock` or `--theirs`, then run `dvc repro`"
    else:
        try:
            content = YAML(typ="safe", pure=True).load(text)
        except YAMLError as error:
            broken = f"not YAML ({_in_a_line(error)})"
        else:
            broken = lock_schema_error(content) or _without_hash(content)
            broken = broken and f"incomplete ({_in_a_line(broken)})"
    if broken:
        raise Unanswerable(f"{name}: dvc.lock is broken: {broken}; {remedy}")
    return dict(content["stages"])


def _in_a_line(error: object) -> str:
    return " ".join(str(error).split())


def _without_hash(lock: Mapping[str, Any]) -> str | None:
    """Names an input or output that a lock has without its hash, which a cut-off file ends in."""
    if not lock.get("stages"):
        return "it has no stages"
    for stage, entry in lock.get("stages", {}).items():
        for item in (*entry.get("deps", []), *entry.get("outs", [])):
            if item.keys() <= NO_HASHES:
                return f"{stage}: {item['path']} has no hash"
    return None


def find_revision(repo: Any, name: str) -> Revision:
    """Finds a branch, tag, commit or experiment by its name.

    Raises:
        Unanswerable: there is none.
    """
    commit = find_commit(repo, name)
    if commit is None:
        shallow = git(Path(repo.root_dir), "rev-parse", "--is-shallow-repository") == "true"
        remedy = "this clone is shallow: `git fetch --unshallow` fetches its history" if shallow else ""
        raise Unanswerable(
            f"no revision {name!r} in this repository; {remedy or '`git branch --all` lists its branches'}"
        )
    return Revision(name, commit, repo)


def find_in_git(repo: Any, path: Path, md5: str) -> tuple[str, Content] | None:
    """Finds the newest of a path's last commits in which it had this content; None if no commit had."""
    root = Path(repo.scm.root_dir)
    if not path.is_relative_to(root):
        return None
    name = path.relative_to(root).as_posix()
    for commit in (git(root, "log", f"--max-count={MOST_COMMITS}", "--format=%H", "--", name) or "").split():
        try:
            content = content_of(repo, name, commit)
        except FileNotFoundError:  # this commit deleted it
            continue
        if content.md5 == md5:
            return commit, content
    return None


def folder_changes(repo: Any, path: Path, md5: str) -> dict[str, str] | None:
    """Says of each file of a folder that was added, changed or removed since it had this hash, which of the three.

    Returns:
        None if nobody knows the old files: DVC's cache has the folders that stages made, and Git has others.
    """
    before = cached_listing(repo, md5, str(path)) if md5.endswith(".dir") else None
    if before is None:
        found = find_in_git(repo, path, md5)
        before = found[1].files if found else None
    if before is None:
        return None
    now = content_of(repo, str(path)).files or {}
    words = {(False, True): "added", (True, True): "changed", (True, False): "removed"}
    return {
        name: words[name in before, name in now]
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    }
