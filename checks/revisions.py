"""What a revision made: its files in Git, and its outs in DVC's cache; nothing is checked out and nothing runs."""

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.tree import Tree
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from checks.why import changed_inputs, hashed

WORKSPACE = "workspace"


class Unanswerable(Exception):  # noqa: N818  (it names what happened)
    """The check cannot be made; the message is one line."""


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

    def files(self, folder: str) -> dict[str, Path]:
        """Returns where the files of a folder that is an out lie; those that its dvc.lock names, from the cache.

        What the cache lacks comes from the remote, if there is one. The workspace's own folder is taken only if it is
        what the lock says: after a `git checkout` without `dvc checkout` it is another branch's.

        Raises:
            Unanswerable: they are nowhere.
        """
        md5 = self.hash(folder)
        found = self._cached(md5) or self._here(folder, md5)
        if found is None:
            self._fetch(md5)
            found = self._cached(md5)
        if found is None:
            where = (
                "run `dvc repro`" if self.commit is None else f"`git checkout {self.name}` and `dvc repro` make it anew"
            )
            raise Unanswerable(f"{self.name}: {folder} is neither in the cache nor in a remote; {where}")
        return found

    def _here(self, folder: str, md5: str) -> dict[str, Path] | None:
        here = self.root / folder
        if self.commit is not None or not here.is_dir():
            return None
        if hashed(self.repo.fs, str(here), self.repo).hash_info.value != md5:
            return None
        return {file.relative_to(here).as_posix(): file for file in here.rglob("*") if file.is_file()}

    def _cached(self, md5: str) -> dict[str, Path] | None:
        if not self.repo.cache.local.exists(md5):
            return None
        files = {"/".join(key): Path(self.repo.cache.local.oid_to_path(info.value)) for key, info in self._listing(md5)}
        return files if all(file.exists() for file in files.values()) else None

    def _listing(self, md5: str) -> list[tuple[tuple[str, ...], HashInfo]]:
        tree = Tree.load(self.repo.cache.local, HashInfo("md5", md5))
        return [(key, info) for key, (_, info) in tree.iteritems()]

    def _fetch(self, md5: str) -> None:
        """Brings a folder from the default remote of today's configuration, which old revisions need not know."""
        try:
            self.repo.cloud.pull([HashInfo("md5", md5)])
            self.repo.cloud.pull([info for _, info in self._listing(md5)])
        except (DvcException, OSError):  # no remote, or one that lacks it or does not answer
            return


def find_revision(repo: Any, name: str) -> Revision:
    """Finds a branch, tag, commit or experiment by its name.

    Raises:
        Unanswerable: there is none.
    """
    from dvc.scm import resolve_rev  # here, since it brings all of DVC's Git backends
    from scmrepo.exceptions import SCMError

    try:
        return Revision(name, resolve_rev(repo.scm, name), repo)
    except (DvcException, SCMError):
        raise Unanswerable(f"no revision {name!r} in this repository; `git branch --all` lists its branches") from None


def stale(repo: Any) -> list[str]:
    """Says what in the workspace is no longer what its last run was made with, but for what the stages made: as
    `dvc status` does, whole folders, commands and newly listed deps included.

    What a stage made may be another branch's, or not there at all: of `metrics/`, which are in Git, checks.verify's
    `belonging` knows.
    """
    status = repo.status()
    stages = repo.index.stages
    # Data under `dvc add` have no stage that makes them: they count where they are there.
    made = [out for stage in stages for out in stage.outs if stage.cmd or not out.exists]
    reasons: list[str] = []
    for stage in (stage for stage in stages if stage.cmd):
        changes: dict[str, Any] = {}
        for entry in status.get(stage.addressing, []):
            changes |= entry if isinstance(entry, dict) else {entry: {}}
        changes.pop("always changed", None)  # what its last run made is judged like any other's
        reasons += changed_inputs(stage, changes, made, [])
    return list(dict.fromkeys(reasons))
