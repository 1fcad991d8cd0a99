"""Merges a newer tunelock into a project that `checks.new` made, and says which stages will run again.

    python -m checks.upgrade [--to v2] [--upstream URL]

The changes of tunelock since the commit in .tunelock.json are merged into your files, as Git merges a branch.
params.yaml keeps your values and gets the new keys, with their comments. Nothing is committed: `git diff --cached`
shows the changes, and `git reset --hard` undoes them.
Exit status: 0 if merged or already up to date; 1 if merged with conflicts that you must resolve; 2 with one line on
stderr if it cannot merge.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from checks import cli
from checks.params_text import with_new_keys
from checks.upstream import (
    NOBODY,
    OWNED,
    RECORD,
    ProjectOrigin,
    code_tree,
    git,
    read_origin,
    refuse_part_of_repository,
    write_origin,
)
from stages.shared.runtime.terminal import say

PARAMS = "params.yaml"


def upgrade(root: Path, upstream: str | None, to: str) -> list[str] | None:
    """Merges what is newer into the working tree and Git's index.

    Returns:
        The files that need a hand; None if nothing is newer.

    Raises:
        Unanswerable: the project was not made by `checks.new`, has changes that are not committed, or the upstream
            cannot be read or no longer has the commit that the project came from.
    """
    origin = read_origin(root)
    if origin is None:
        raise cli.Unanswerable(f"{RECORD}: not found; only a project made by `python -m checks.new` can be upgraded")
    refuse_part_of_repository(root)
    if git(root, "status", "--porcelain", "--untracked-files=no"):
        raise cli.Unanswerable("there are uncommitted changes; commit them first, so that you can undo the upgrade")
    source = upstream or origin.upstream
    git(root, "fetch", "--quiet", "--no-tags", source, to)
    new = git(root, "rev-parse", "FETCH_HEAD^{commit}")
    if new == origin.commit:
        return None
    try:
        git(root, "cat-file", "-e", f"{origin.commit}^{{commit}}")
    except cli.Unanswerable:
        raise cli.Unanswerable(f"{source}: has no commit {origin.commit}, from which this project was made") from None
    trees = [code_tree(root, commit, OWNED) for commit in (origin.commit, new)]
    base = git(root, "commit-tree", trees[0], "-m", "before", **NOBODY)
    newer = git(root, "commit-tree", trees[1], "-p", base, "-m", "after", **NOBODY)
    picked = ["git", "cherry-pick", "--no-commit", "--allow-empty", newer]
    done = subprocess.run(picked, cwd=root, capture_output=True, text=True, env=os.environ | NOBODY)
    if done.returncode and not git(root, "ls-files", "--unmerged"):
        raise cli.Unanswerable(f"git cherry-pick: {' '.join(done.stderr.split())}")
    conflicts = settle(root)
    ours, theirs = (root / PARAMS).read_text(encoding="utf-8"), git(root, "show", f"{new}:{PARAMS}")
    (root / PARAMS).write_text(with_new_keys(ours, theirs), encoding="utf-8")
    write_origin(root, ProjectOrigin(source, new))
    git(root, "add", PARAMS, RECORD)
    return conflicts


def settle(root: Path) -> list[str]:
    """Leaves out again what the project has removed, and returns the files whose changes contradict each other."""
    conflicts = []
    for line in git(root, "status", "--porcelain", "-z", "--untracked-files=no").split("\0"):
        state, path = line[:2], line[3:]
        if state == "DU":
            git(root, "rm", "-f", "--quiet", "--", path)
        elif state in ("UU", "AA", "UD", "UA", "AU"):
            conflicts.append(path)
    return conflicts


def main(arguments: Sequence[str]) -> int:
    """Upgrades the project, says what will run again and returns the exit status."""
    parser = cli.make_parser("upgrade", __doc__)
    parser.add_argument("--to", default="HEAD", help="a branch, tag or commit of tunelock; default: its newest")
    parser.add_argument("--upstream", help="where tunelock is, if not where .tunelock.json says")
    options = parser.parse_args(arguments)

    def ask(repo: Any) -> int:
        root = Path(repo.root_dir)
        conflicts = upgrade(root, options.upstream, options.to)
        if conflicts is None:
            say("upgrade: already up to date")
            return 0
        say(f"upgrade: merged; `git diff --cached` shows it, `git reset --hard` undoes it. {RECORD} has the commit.")
        if conflicts:
            say("Both you and tunelock changed the same lines of:")
            for path in conflicts:
                say(f"    {path}")
            say("Edit them, `git add` them, run `python -m checks.why`, and commit.")
            return 1
        if "requirements" in git(root, "diff", "--cached", "--name-only"):
            say("Packages changed: run `make setup` before anything else.")
        sys.stdout.flush()
        # by the code that has just come
        subprocess.run([sys.executable, "-m", "checks.why"], cwd=root, check=False)
        return 0

    return cli.answer("upgrade", ask)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
