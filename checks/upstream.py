"""What a new project takes from tunelock: the code, without tunelock's own documents, results and data."""

import json
import os
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from checks.cli import Unanswerable

RECORD = ".tunelock.json"  # in a project: where it came from, and at which commit
LICENCE = "LICENSE.tunelock"  # of the code; the project's own licence is its owner's to choose
# Tunelock's own: documents about itself, the results of its default run, its sample.
NOT_TAKEN = (
    *("README.md", "LOG.md", "CITATION.cff", "CONTRIBUTING.md", "SECURITY.md", "LICENSE", ".ci/run", "docs/report.png"),
    *("dvc.lock", "metrics", "data/sample", RECORD),
)
KEPT_OF_THESE = ("metrics/.gitignore",)
# Never brought by an upgrade: what the owner of a project writes into them is theirs.
OWNED = ("params.yaml", ".dvc/config", "data/.gitignore")
NOBODY = {f"GIT_{who}_{what}": "tunelock" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


@dataclass(frozen=True)
class ProjectOrigin:
    """Where a project came from."""

    upstream: str  # what `git fetch` reads
    commit: str


def read_origin(root: Path) -> ProjectOrigin | None:
    """Reads where a project came from; None where it was not made by `checks.new`.

    Raises:
        Unanswerable: the record is damaged.
    """
    if not (file := root / RECORD).is_file():
        return None
    try:
        return ProjectOrigin(**json.loads(file.read_text(encoding="utf-8")))
    except (TypeError, ValueError):
        raise Unanswerable(f"{RECORD}: expected an `upstream` and a `commit`, as `checks.new` writes them") from None


def write_origin(root: Path, origin: ProjectOrigin) -> None:
    """Records where a project came from."""
    (root / RECORD).write_text(json.dumps(asdict(origin), indent=2) + "\n", encoding="utf-8")


def code_tree(root: Path, commit: str, leave_out: tuple[str, ...] = ()) -> str:
    """Returns the Git tree of what a project takes from a commit.

    Args:
        leave_out: paths of it that are not wanted.
    """
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        git(root, "read-tree", commit, **index)
        kept = [entry(root, commit, path) for path in KEPT_OF_THESE]
        licence = entry(root, commit, "LICENSE")
        git(root, "rm", "-r", "-f", "--cached", "--quiet", "--ignore-unmatch", "--", *NOT_TAKEN, *leave_out, **index)
        for line in kept:
            if line:
                git(root, "update-index", "--add", "--cacheinfo", line, **index)
        if licence:
            git(root, "update-index", "--add", "--cacheinfo", licence.rpartition(",")[0] + f",{LICENCE}", **index)
        return git(root, "write-tree", **index)


def refuse_part_of_repository(root: Path) -> None:
    """Makes sure that a project is the whole of its Git repository, since Git merges whole trees.

    Raises:
        Unanswerable: it lies in a folder of a larger one.
    """
    if inside := git(root, "rev-parse", "--show-prefix"):
        raise Unanswerable(f"this project is the folder {inside} of a larger Git repository; it must be one of its own")


def entry(root: Path, commit: str, path: str) -> str | None:
    """Returns a file of a commit as `git update-index --cacheinfo` takes it: mode, object and path."""
    listed = git(root, "ls-tree", commit, "--", path)
    if not listed:
        return None
    mode, _, digest = listed.partition("\t")[0].split()
    return f"{mode},{digest},{path}"


def git(root: Path, *arguments: str, **environment: str) -> str:
    """Runs git and returns what it says, stripped.

    Raises:
        Unanswerable: it fails.
    """
    done = subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, text=True, errors="replace", env=os.environ | environment
    )
    if done.returncode:
        raise Unanswerable(f"git {arguments[0]}: {' '.join((done.stderr or done.stdout).split())}")
    return done.stdout.strip()
