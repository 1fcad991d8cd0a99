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

    def start_git(self, where: str = ".") -> None:
        """Makes a Git repository of the folder, or of one above it."""
        self.run("git", "init", "--quiet", "--initial-branch=main", where)
        self.run("git", "config", "user.name", "A Tester")
        self.run("git", "config", "user.email", "tester@example.org")

    def commit(self, message: str) -> None:
        """Commits everything that Git does not ignore."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)


def wait_for(condition: Callable[[], object], seconds: float = 120.0) -> None:
    """Returns as soon as the condition holds; an assertion fails if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


def copy_project(root: Path, folder: Path) -> Project:
    """Copies what Git knows of `root`, or would add, into a new repository with one commit on main."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (root / name).is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target)
    project = Project(folder)
    project.start_git()
    project.commit("as it is")
    return project
