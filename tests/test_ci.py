"""checks.ci, and the workflow of a pull request step by step, in a fresh shallow clone that pulls from a remote."""

# ruff: noqa: F811  (a fixture of another module is a parameter here)

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.project import ROOT, Project
from tests.test_remotes import add_s3, s3  # noqa: F401  (a fixture)

DOCUMENT = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
WORKFLOW = ROOT / ".github" / "workflows" / "pull_request.yml"


def steps(file: Path = WORKFLOW) -> list[dict[str, Any]]:
    """The steps of the one job that run a script."""
    (job,) = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))["jobs"].values()
    return [step for step in job["steps"] if "run" in step]


def cached_environment(clone: Project) -> None:
    """Puts this environment where a cache would have restored it: a folder whose parts are links."""
    (clone.folder / ".venv").mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (clone.folder / ".venv" / name).symlink_to(Path(sys.prefix) / name)
    (clone.folder / ".venv" / ".installed").touch()


def run_step(clone: Project, script: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Runs a script as GitHub's runner does."""
    path = (clone.folder / "github_path").read_text().strip() if (clone.folder / "github_path").exists() else ""
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=clone.folder,
        env=os.environ | environment | {"PATH": f"{path}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def shallow_clone(project: Project, folder: Path, branch: str) -> Project:
    """The one commit that a runner fetches."""
    address = f"file://{project.folder}"
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", "--branch", branch, address, str(folder)], check=True)
    clone = Project(folder)
    (folder / ".git" / "info" / "exclude").write_text("github_*\n")
    return clone


@pytest.mark.release
@pytest.mark.slow
def test_the_workflow_of_a_pull_request_runs_step_by_step_in_a_shallow_clone(
    branched: Project,
    s3: str,
    tmp_path: Path,
) -> None:
    """What main's run made is in the remote, and the branch's is not."""
    branched.run("git", "checkout", "--quiet", "main")
    branched.run("dvc", "checkout")
    add_s3(branched, s3)
    branched.run("dvc", "push")
    branched.run("git", "checkout", "--quiet", "faster")
    branched.run("git", "merge", "--quiet", "--no-edit", "main")
    branched.run("dvc", "checkout")
    clone = shallow_clone(branched, tmp_path / "runner", "faster")
    cached_environment(clone)
    done = []
    for step in steps():
        files = {f"GITHUB_{name}": str(clone.folder / f"github_{name.lower()}") for name in ("PATH", "STEP_SUMMARY")}
        names = dict.fromkeys(step.get("env", {}), "main")
        done.append(run_step(clone, step["run"], **files, **names))
        assert done[-1].returncode == 0, f"{step['name']}: {done[-1].stdout}{done[-1].stderr}"
    assert "pip install" not in done[0].stdout  # the environment was there
    summary = clone.read("github_step_summary")
    assert "**compare origin/main" in summary and "| accuracy | primary |" in summary and "flip" in summary
    assert "## Gate: no rules" in summary
    assert "- ran here: train, predict" in summary  # the branch's results were not pushed
    assert "- the remote lacks data/predictions" in summary and "run `dvc push` on the machine that made it" in summary
    assert "- the report: the artifact below" in summary
    assert clone.run("git", "status", "--porcelain").stdout == ""  # not even a cached environment

    # what is pushed is not computed again, and a rule that is broken fails the job
    branched.run("dvc", "push")
    text = branched.read("params.yaml").replace(
        "gate: []", "gate: [{split: validation, metric: accuracy, at_least: 1}]"
    )
    (branched.folder / "params.yaml").write_text(text, encoding="utf-8")
    branched.commit("a rule")
    clone = shallow_clone(branched, tmp_path / "another", "faster")
    answer = clone.run("python", "-m", "checks.ci", "--base", "main", check=False)
    assert answer.returncode == 1
    assert "## Gate: failed" in answer.stdout and "- nothing had to run" in answer.stdout
    assert "- the remote has everything that dvc.lock names" in answer.stdout


def test_a_base_that_is_not_there_is_one_line(project: Project) -> None:
    done = project.run("python", "-m", "checks.ci", "--base", "nowhere", check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("ci: --base nowhere: neither this clone nor `origin` has such a branch")


def test_a_shallow_clone_says_how_to_bring_its_history(project: Project, tmp_path: Path) -> None:
    project.set(report__errors=3)
    project.commit("more")
    clone = shallow_clone(project, tmp_path / "clone", "main")
    for check in (("compare", "HEAD~1"), ("seeds", "--seeds", "1,2")):
        done = clone.run("python", "-m", f"checks.{check[0]}", *check[1:], check=False)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "clone is shallow" in done.stderr and "`git fetch --unshallow`" in done.stderr


def test_a_cached_environment_that_is_a_link_is_no_change(project: Project, tmp_path: Path) -> None:
    (project.folder / ".venv").symlink_to(tmp_path)
    assert project.run("git", "status", "--porcelain").stdout == ""


def test_gitlab_runs_the_same(project: Project) -> None:
    (block,) = [part.partition("```")[0] for part in DOCUMENT.split("```yaml\n")[1:]]
    (job,) = YAML(typ="safe", pure=True).load(block).values()
    ours = [line for step in steps() for line in step["run"].strip().splitlines()]
    assert job["script"][:2] == ours[:2]
    command, _, _ = ours[-1].partition(" --base")
    assert job["script"][-1].startswith(f"{command} --base ")
    assert {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= set(DOCUMENT.split("`"))
