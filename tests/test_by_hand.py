"""Stages and commands as people start them by hand: too early, into `head`, on a Latin terminal, without docstrings."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.repo import Repo

from checks import cli, upgrade, verify, why
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.snapshot import made_at, refuse_absent
from tests.project import STAGES, Project, run_python

ROOT = Path(__file__).parents[1]
COMMANDS = [
    f"{folder}.{file.stem}"
    for folder in ("checks", "ship", "examples")
    for file in sorted((ROOT / folder).glob("*.py"))
    if 'if __name__ == "__main__":' in file.read_text(encoding="utf-8")
]


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in which no stage has run."""
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    shutil.copy(ROOT / "tests" / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("stage", [name for name in STAGES if name != "download"])
def test_a_stage_before_those_it_reads_says_which_makes_what_it_misses(stage: str, empty: Path) -> None:
    with pytest.raises(BadInput, match=rf"not there; \w+ makes it: `dvc repro {stage}` runs what is missing first$"):
        refuse_absent(stage)


def test_the_programs_say_so_in_one_line(empty: Path) -> None:
    done = run_python("-m", "stages.report", folder=empty)
    assert done.returncode == 1
    assert done.stderr == (
        "report: data/overlap: not there; download makes it: `dvc repro report` runs what is missing first\n"
    )


def test_a_file_that_is_missing_in_what_a_stage_reads_is_named(empty: Path) -> None:
    for name in ("data/predictions/validation", "data/raw"):
        (empty / name).mkdir(parents=True)
    for name in ("requirements.txt", "stages"):
        (empty / name).symlink_to(ROOT / name)
    done = run_python("-m", "stages.calibrate", folder=empty)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr == "calibrate: data/raw/task.json: not there; `dvc repro calibrate` makes what it reads anew\n"


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("data", ("download", "data/overlap")),
        ("data/raw/train", ("download", "data/raw")),
        ("./models/../models/finetuned/", ("train", "models/finetuned")),
        (".", ("download", "data/overlap")),
        ("data/mine", None),
        ("/data", None),
    ],
)
def test_what_a_stage_writes_is_found(path: str, found: tuple[str, str] | None, empty: Path) -> None:
    assert made_at(Path(path)) == found
    assert made_at(empty / path) == found or path == "/data"


LOUD = "from stages.shared.runtime.run_stage import program\nfrom stages.shared.runtime.terminal import say\n"


def test_a_latin_terminal_gets_the_letters_that_it_lacks_written_out() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOUD + "with program('x'): say('Größe, ж')"],
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
        capture_output=True,
    )
    assert done.stdout == "Größe, \\u0436\n".encode("latin-1")


def test_a_stage_whose_reader_has_gone_ends_without_a_word() -> None:
    running = subprocess.Popen(
        [sys.executable, "-c", LOUD + "with program('x'):\n    while True: say('line')"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None and running.stderr is not None
    assert running.stdout.readline() == "line\n"
    running.stdout.close()
    assert (running.wait(60), running.stderr.read()) == (141, "")


def test_a_parser_needs_no_docstring() -> None:
    assert cli.make_parser("x", None).description == ""


@pytest.mark.exhaustive
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_starts_without_docstrings(command: str) -> None:
    done = run_python("-OO", "-m", command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"usage: python -m {command}" in done.stdout


DAG = """\
stages:
  copy:
    cmd: mkdir -p metrics; cp data/mine/row.json metrics/metrics.json
    params: [download]
    deps: ["${download.dataset_files}"]
    metrics:
      - metrics/metrics.json:
          cache: false
"""


@pytest.fixture
def part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A finished project in a folder of a larger Git repository, beside a file that has changed."""
    project = Project(tmp_path / "repository" / "some" / "part")
    (project.folder / "data" / "mine").mkdir(parents=True)
    (project.folder / "data" / "mine" / "row.json").write_text('{"score": 1}\n')
    (project.folder / "dvc.yaml").write_text(DAG)
    (project.folder / "params.yaml").write_text("download:\n  dataset_files: data/mine\n")
    project.start_git("../..")
    Repo.init(str(project.folder), subdir=True).close()
    monkeypatch.chdir(project.folder)
    project.run("dvc", "repro")
    (tmp_path / "repository" / "other.txt").write_text("one")
    project.run("git", "add", "../..")
    project.run("git", "commit", "--quiet", "-m", "run")
    (tmp_path / "repository" / "other.txt").write_text("two")
    return project


def test_a_project_in_a_folder_of_a_repository_is_verified(part: Project, capfd: pytest.CaptureFixture[str]) -> None:
    assert verify.main(["--quick"]) == 0
    assert verify.main([]) == 0
    assert "copy  identical" in capfd.readouterr().out


@pytest.mark.parametrize("folder", ["metrics", ".", "./metrics/metrics.json"])
def test_why_names_the_key_that_dvc_does_not(folder: str, part: Project, capsys: pytest.CaptureFixture[str]) -> None:
    (part.folder / "params.yaml").write_text(f"download:\n  dataset_files: {folder}\n")
    assert why.main([]) == 1
    assert capsys.readouterr().err == (
        f"why: params.yaml: download.dataset_files: {folder!r} is or holds metrics/metrics.json, which copy writes; "
        "use a place of your own, such as a copy\n"
    )


def test_a_project_in_a_folder_of_a_repository_is_not_upgraded(
    part: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    (part.folder / ".tunelock.json").write_text('{"upstream": "..", "commit": "0"}')
    assert upgrade.main([]) == 2
    assert "the folder some/part/ of a larger Git repository" in capsys.readouterr().err
