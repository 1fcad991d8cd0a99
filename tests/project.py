"""A copy of this project, to run `dvc` in as a user does."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
# The parameters that the tests run with: params.yaml is its owner's, who may set it to anything that fits.
PARAMS: dict[str, Any] = YAML(typ="safe", pure=True).load(ROOT / "tests" / "params.yaml")
STAGES = ("download", "tokenize", "train", "predict", "calibrate", "evaluate", "baselines", "report")
# All else here is made by the owner of a project: data, results, documents. No test of tunelock's code looks at it.
CODE = (
    "stages/",
    "checks/",
    "ship/",
    "examples/",
    "benchmarks/",
    "tests/",
    "docs/",
    "hashes/",
    "requirements",
    "params.schema.json",
    "Makefile",
    "pyproject.toml",
)
CODE += (".dvc/.gitignore", ".dvc/plots/", ".dvcignore", ".gitattributes", ".gitignore", "data/hard/", "data/sample/")
CODE += ("data/.gitignore", "metrics/.gitignore", "models/.gitignore", "models/local/README.md")
DVC_CONFIG = "[core]\n    analytics = false\n    check_update = false\n"  # without a remote of theirs
PROGRAMS = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


@dataclass(frozen=True)
class Project:
    """One working copy."""

    folder: Path

    def run(self, *command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs a program of the virtual environment in the project's folder; its output comes back as text."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=os.environ | {"PATH": PROGRAMS} | environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        if check and done.returncode:
            raise AssertionError(f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def repro(self, *arguments: str, **environment: str) -> list[str]:
        """Runs `dvc repro` and returns the names of the stages whose programs ran."""
        done = self.run("dvc", "repro", *arguments, **environment)
        return re.findall(r"^Running stage '(\w+)'", done.stdout, re.MULTILINE)

    def start(self) -> "subprocess.Popen[bytes]":
        """Starts `dvc repro` in a process group of its own, and does not wait."""
        return subprocess.Popen(
            ["dvc", "repro"],
            cwd=self.folder,
            env=os.environ | {"PATH": PROGRAMS},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def trainings(self) -> list[psutil.Process]:
        """Returns the processes of the train stage that run in this project."""
        found = []
        for process in psutil.process_iter():
            try:
                if "stages.train" in process.cmdline() and Path(process.cwd()) == self.folder:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
        return found

    def checkpoints(self) -> list[str]:
        """Returns the names of the whole checkpoints of a training that has not ended."""
        return [path.name for path in (self.folder / ".scratch" / "train").glob("*/checkpoint-*")]

    def set(self, **values: Any) -> None:
        """Sets parameters, given as section__key=value, in params.yaml; comments stay."""
        yaml = YAML()
        file = self.folder / "params.yaml"
        params = yaml.load(file)
        for name, value in values.items():
            section, key = name.split("__")
            params[section][key] = value
        yaml.dump(params, file)

    def read(self, path: str) -> str:
        """Reads a text file of the project."""
        return (self.folder / path).read_text(encoding="utf-8")

    def copy(self, folder: Path) -> "Project":
        """Copies it as it is, cache and all."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)

    def start_git(self, where: str = ".") -> None:
        """Makes a Git repository of the folder, or of one above it."""
        self.run("git", "init", "--quiet", "--initial-branch=main", where)
        self.run("git", "config", "user.name", "A Tester")
        self.run("git", "config", "user.email", "tester@example.org")

    def commit(self, message: str) -> None:
        """Commits everything that Git does not ignore."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)


def run_python(*arguments: str, folder: Path = ROOT, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Runs this interpreter on the code of the project as it is now, in some folder, and waits for it."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def wait_for(condition: Callable[[], object], seconds: float = 120.0) -> None:
    """Returns as soon as the condition holds; an assertion fails if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


def own_dag() -> Any:
    """Returns dvc.yaml with its comments, but without the stages that somebody added to these."""
    dag = YAML().load(ROOT / "dvc.yaml")
    for name in [name for name in dag["stages"] if name not in STAGES]:
        del dag["stages"][name]
    return dag


def copy_project(folder: Path) -> Project:
    """Makes a new repository, with one commit on main, of this project's code and the parameters of the tests."""
    project = copy_files([name for name in tracked() if name.startswith(CODE)], folder)
    shutil.copy2(ROOT / "tests" / "params.yaml", folder / "params.yaml")
    YAML().dump(own_dag(), folder / "dvc.yaml")
    (folder / ".dvc" / "config").write_text(DVC_CONFIG, encoding="utf-8")
    project.commit("as it is")
    return project


def copy_release(folder: Path) -> Project:
    """Makes a new repository, with one commit on main, of all that Git knows of this one, results and all."""
    project = copy_files(tracked(), folder)
    project.commit("as it is")
    return project


def tracked() -> list[str]:
    """Returns the files that Git knows of, or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def copy_files(names: list[str], folder: Path) -> Project:
    """Copies files of this project into a new repository without a commit."""
    for name in names:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    project = Project(folder)
    project.start_git()
    return project
