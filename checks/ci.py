"""Shows what a pull request changes: runs the stages that changed, compares with the base branch, and asks the gate.

    python -m checks.ci --base main > summary.md

It prints Markdown and works the same on GitHub, on GitLab and on your machine (docs/ci.md). It deepens a shallow clone.
With a DVC remote, it pulls the results, so only what changed runs, and checks that the remote has everything that
dvc.lock names. The output of the stages goes to stderr.
Exit status: 0; 1 if a stage or the gate fails; 2 with one line on stderr if there is no answer.
"""

import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checks import cli
from checks.dvc_internals import missing_in_remote
from checks.lock import outs_of, read_sections, read_stages
from checks.revisions import WORKSPACE, Revision, added_data, git
from stages.report.markdown import plain
from stages.shared.runtime.terminal import say, warn

MOST_NAMED = 5  # of the files that a remote lacks


@dataclass(frozen=True)
class Finished:
    """What a program said."""

    status: int
    out: str
    last_line: str  # of what it said on stderr


def run(root: Path, *command: str) -> Finished:
    """Runs a Python program of this environment; what it says on stderr is passed on too."""
    done = subprocess.run([sys.executable, "-m", *command], cwd=root, capture_output=True, text=True)
    for line in done.stderr.splitlines():
        warn(line)
    lines = done.stderr.strip().splitlines() or [""]
    return Finished(done.returncode, done.stdout.strip(), lines[-1])


def deepen(root: Path, base: str) -> str:
    """Fetches the history that a shallow clone lacks, and the base branch; returns the name that Git has for it.

    Raises:
        Unanswerable: neither this clone nor its remote has the branch.
    """
    if git(root, "rev-parse", "--is-shallow-repository") == "true":
        git(root, "fetch", "--quiet", "--unshallow", "origin")
    git(root, "fetch", "--quiet", "origin", f"+refs/heads/{base}:refs/remotes/origin/{base}")
    for name in (f"origin/{base}", base):
        if git(root, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"):
            return name
    raise cli.Unanswerable(f"--base {base}: neither this clone nor `origin` has such a branch")


def reproduce(root: Path) -> list[str]:
    """Runs the stages that changed, and returns their names.

    Raises:
        SystemExit: one failed, and has said why.
    """
    program = [sys.executable, "-m", "dvc", "repro"]
    ran = []
    with subprocess.Popen(program, cwd=root, stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout or []:
            warn(line.rstrip("\n"))
            ran += re.findall(r"^Running stage '([^']+)'", line)
    if child.returncode:
        raise SystemExit(1)
    return ran


def missing(repo: Any) -> list[str]:
    """Names what dvc.lock and the .dvc files keep in DVC's cache, and the remote does not have."""
    root = Path(repo.root_dir)
    stages = read_stages(root, read_sections(root))
    in_git = {path for stage in stages.values() for path, is_in_git in outs_of(stage) if is_in_git}
    outs = [out for entry in Revision(WORKSPACE, None, repo).lock.values() for out in entry.get("outs", [])]
    kept = {out["path"]: out["md5"] for out in outs if "md5" in out and out["path"] not in in_git}
    kept |= {path: added.md5 for path, added in added_data(root).items()}
    return missing_in_remote(repo, kept)


def write_summary(repo: Any, base: str, flips: int, report: str) -> int:
    """Prints the summary and returns the exit status."""
    root = Path(repo.root_dir)
    has_remote = bool(repo.config.get("core", {}).get("remote"))
    name = deepen(root, base)
    if has_remote and (pulled := run(root, "dvc", "pull", "--quiet", "--allow-missing")).status:
        warn(f"ci: not everything could be pulled: {pulled.last_line}")
    ran = reproduce(root)
    lines = [f"## Against {plain(base)}", ""]
    compared = run(root, "checks.compare", name, "--markdown", "--flips", str(flips))
    if compared.status == 0:
        lines += [compared.out]
    else:
        lines += [f"No comparison: {plain(compared.last_line.removeprefix('compare: '))}", ""]
        lines += ["The plain differences, which may be due to chance:", ""]
        target = ("--targets", "metrics/metrics.json")
        lines += [run(root, "dvc", "metrics", "diff", "--md", "--all", name, *target).out]
    gate = run(root, "checks.gate")
    said = gate.out.splitlines() if gate.status in (0, 1) else [gate.last_line]
    verdict = "no rules" if "no rules" in gate.out else {0: "passed", 1: "failed"}.get(gate.status, "no answer")
    lines += ["", f"## Gate: {verdict}", "", *(f"- {plain(one)}" for one in said), "", "## Run", ""]
    lines += [f"- ran here: {', '.join(ran)}" if ran else "- nothing had to run: the results in Git match this code"]
    if git(root, "status", "--porcelain", "--", "dvc.lock"):
        lines += ["- dvc.lock does not match this code: run `dvc repro` and commit it"]
    if has_remote:
        lacking = missing(repo)
        lines += [
            f"- the remote lacks {plain(one)}: run `dvc push` on the machine that made it"
            for one in lacking[:MOST_NAMED]
        ]
        lines += [f"- and {len(lacking) - MOST_NAMED} more"] if len(lacking) > MOST_NAMED else []
        lines += [] if lacking else ["- the remote has everything that dvc.lock names"]
    else:
        lines += ["- there is no DVC remote, so nothing could be pulled: docs/ci.md"]
    lines += [f"- the report: {report}"] if report else []
    say("\n".join(lines))
    return {0: 0, 1: 1}.get(gate.status, 2)


def main(arguments: Sequence[str]) -> int:
    """Answers on stdout and returns the exit status."""
    parser = cli.make_parser("ci", __doc__)
    parser.add_argument("--base", default="main", help="the branch to compare with; default: main")
    parser.add_argument(
        "--flips", type=int, default=0, metavar="N", help="quote N texts whose prediction changed; default: none"
    )
    parser.add_argument("--report", default="", help="where the report can be read: a link or a sentence")
    options = parser.parse_args(arguments)
    return cli.answer("ci", lambda repo: write_summary(repo, options.base, options.flips, options.report))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
