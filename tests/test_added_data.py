"""checks.verify on data that `dvc add` keeps: fetched by the hash in their .dvc file, as everything else is."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo

from checks import verify
from tests.project import Project
from tests.test_damage import flip
from tests.test_why import repro, write

DAG = """\
stages:
  download:
    cmd: mkdir -p data; cp -r "${download.dataset_files}" data/raw
    params: [download]
    deps: ["${download.dataset_files}"]
    outs: [data/raw]
"""
# Where the data are that params.yaml names, and what of them `dvc add` keeps.
PLACES = {
    "a folder": ("source", "source"),
    "a file": ("reviews.csv", "reviews.csv"),
    "a folder in a folder": ("private/tables/source", "private/tables/source"),
    "a folder in what is added": ("vault/source", "vault"),
    "a file in what is added": ("vault/source/a.csv", "vault"),
    "a part of the folder": ("source", "source/more"),
}


OFTEN = ("a folder in a folder", "a part of the folder")


def make_added(folder: Path, place: str, added: str, add: str = "add") -> Project:
    project = Project(folder)
    write(project, "dvc.yaml", DAG)
    write(project, "params.yaml", f"download: {{dataset_files: {place}, checkpoint_files: local}}\n")
    project.start_git()
    Repo.init(str(folder)).close()
    if place.endswith(".csv"):
        write(project, place, "1\n")
    else:
        write(project, f"{place}/a.csv", "1\n")
        write(project, f"{place}/more/b.csv", "2\n")
    if add != "add":  # it is brought from elsewhere
        remove(project.folder / place)
    project.run("dvc", *add.split(), added)
    repro(project)
    project.run("dvc", "remote", "add", "--default", "storage", str(folder.parent / "storage"))
    project.commit("the first run")
    return project


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Project]:
    """Makes such a project and stays in it."""

    def make(*arguments: str) -> Project:
        project = make_added(tmp_path / "project", *arguments)
        monkeypatch.chdir(project.folder)
        return project

    return make


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def ask(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    status = verify.main(["--json", *arguments])
    said, error = capfd.readouterr()  # of programs that it starts, too
    return status, json.loads(said) if said else error


IDENTICAL = {"download": "identical bytes"}


def verdicts(report: Any) -> dict[str, str]:
    return {stage["stage"]: stage["verdict"] for stage in report["stages"]}


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind in OFTEN else pytest.mark.exhaustive) for kind in PLACES]
)
def test_data_that_were_not_pulled_come_from_the_cache_and_from_the_remote(
    kind: str, added: Callable[..., Project], capfd: pytest.CaptureFixture[str]
) -> None:
    place, kept = PLACES[kind]
    project = added(place, kept)
    project.run("dvc", "push")
    remove(project.folder / kept)
    status, report = ask(capfd)
    assert (status, verdicts(report)) == (0, IDENTICAL), report
    remove(project.folder / ".dvc" / "cache")
    assert ask(capfd, "--quick") == (0, {"revision": "HEAD", "belongs_together": True, "reasons": []})
    status, report = ask(capfd)
    assert (status, verdicts(report)) == (0, IDENTICAL), report
    assert not (project.folder / kept).exists()  # it is the clone that needed them


@pytest.mark.exhaustive
def test_the_workspaces_newer_data_are_not_those_of_the_commit(
    added: Callable[..., Project], capfd: pytest.CaptureFixture[str]
) -> None:
    project = added("source", "source")
    write(project, "source/a.csv", "other rows\n")
    write(project, "source/new.csv", "3\n")
    assert project.run("git", "status", "--porcelain").stdout == ""
    status, report = ask(capfd)
    assert (status, verdicts(report), report["mismatches"]) == (0, IDENTICAL, [])


@pytest.mark.exhaustive
def test_data_of_import_url_are_fetched_too(
    added: Callable[..., Project], capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.csv").write_text("1\n")
    project = added("imported", "imported", f"import-url --force {tmp_path / 'elsewhere'}")
    remove(project.folder / "imported")
    remove(tmp_path / "elsewhere")
    status, report = ask(capfd)
    assert (status, verdicts(report)) == (0, IDENTICAL), report


@pytest.mark.slow
def test_data_that_are_nowhere_or_damaged_are_one_line(
    added: Callable[..., Project], capfd: pytest.CaptureFixture[str]
) -> None:
    project = added("source", "source")
    objects = [file for file in (project.folder / ".dvc" / "cache" / "files").rglob("*") if file.is_file()]
    (damaged,) = [file for file in objects if file.read_bytes() == b"2\n"]
    flip(damaged, 0)
    status, line = ask(capfd)
    assert status == 2 and str(damaged) in line and "is damaged" in line and line.count("\n") == 1
    remove(project.folder / ".dvc" / "cache")
    assert ask(capfd)[0] == 0  # the workspace has them, of that very hash
    remove(project.folder / "source")
    assert ask(capfd) == (
        2,
        "verify: HEAD: source is neither in the cache nor in a remote; "
        "`dvc push source.dvc` on a machine that has the data uploads them\n",
    )
    write(project, "source.dvc", "outs: a\n")
    project.commit("a broken .dvc file")
    status, line = ask(capfd)
    assert status == 2 and line.startswith("verify: source.dvc: not as `dvc add` writes it: ") and line.count("\n") == 1
