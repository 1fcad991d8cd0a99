"""What a revision made: its files in Git, and its outs in DVC's cache; nothing is checked out and nothing runs."""

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from checks.cli import Unanswerable
from checks.dvc_internals import Content, cached_file, cached_listing, content_of, find_commit, pull

WORKSPACE = "workspace"
MOST_COMMITS = 10  # of a path in Git, searched for the content that dvc.lock records; 0.01 to 0.03 s each


def git(root: Path, *arguments: str) -> str | None:
    """Runs git and returns what it says, stripped; None if it fails."""
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
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
            return file.read_text(encoding="utf-8") if file.is_file() else None
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
            raise Unanswerable(f"{self.name}: {path} is no JSON: {error}") from None

    @property
    def lock(self) -> dict[str, Any]:
        """The stages of the revision's dvc.lock.

        Raises:
            Unanswerable: there is none, or it cannot be read.
        """
        text = self.text("dvc.lock")
        if text is None:
            raise Unanswerable(f"{self.name}: no dvc.lock; run `dvc repro` there and commit it")
        try:
            return dict(YAML(typ="safe", pure=True).load(text)["stages"])
        except (YAMLError, LookupError, TypeError, ValueError):
            raise Unanswerable(f"{self.name}: dvc.lock is broken; `dvc repro` there makes it anew") from None

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
        md5 = self.hash(out)
        found = self._cached(md5) or self._in_workspace(out, md5)
        if found is None:
            try:
                pull(self.repo, [md5])
                pull(self.repo, (_listing(self.repo, md5) or {}).values())
            except (DvcException, OSError):
                pass  # there is no remote, or it lacks them or does not answer: that they are nowhere is said below
            found = self._cached(md5)
        if found is None:
            remedy = f"`git checkout {self.name}` and `dvc repro` make it anew" if self.commit else "run `dvc repro`"
            raise Unanswerable(f"{self.name}: {out} is neither in the cache nor in a remote; {remedy}")
        return found

    def _cached(self, md5: str) -> dict[str, Path] | None:
        listing = _listing(self.repo, md5)
        files = {name: cached_file(self.repo, value) for name, value in (listing or {}).items()}
        return files if listing is not None and all(file.exists() for file in files.values()) else None

    def _in_workspace(self, out: str, md5: str) -> dict[str, Path] | None:
        path = self.root / out
        if self.commit is not None or not path.exists():
            return None
        content = content_of(self.repo, str(path))
        names = ["."] if content.files is None else content.files
        return {name: path / name for name in names} if content.md5 == md5 else None


def _listing(repo: Any, md5: str) -> dict[str, str] | None:
    return cached_listing(repo, md5) if md5.endswith(".dir") else {".": md5}


def find_revision(repo: Any, name: str) -> Revision:
    """Finds a branch, tag, commit or experiment by its name.

    Raises:
        Unanswerable: there is none.
    """
    commit = find_commit(repo, name)
    if commit is None:
        raise Unanswerable(f"no revision {name!r} in this repository; `git branch --all` lists its branches")
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
    before = cached_listing(repo, md5)
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
