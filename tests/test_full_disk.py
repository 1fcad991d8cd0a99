"""A full disk ends a stage with one line, publishes nothing by halves, and is forgotten once there is space again."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.project import Project

pytestmark = pytest.mark.exhaustive
ROOT = Path(__file__).parents[1]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB in memory; mounting it takes root, as in a container."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path, leave: int) -> Path:
    """Fills the disk but for `leave` bytes."""
    filler = folder / "filler"
    with filler.open("wb") as stream:
        stream.write(b"\0" * (shutil.disk_usage(folder).free - leave))
    return filler


def test_logits_that_do_not_fit_are_an_error_and_not_the_end_of_the_process(small_disk: Path) -> None:
    code = "import pathlib, stages.predict.predict as predict; predict.open_logits(pathlib.Path('x.npy'), 10**7, 2)"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=small_disk, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "No space left on device" in done.stderr


@pytest.mark.parametrize(("stage", "leave"), [("tokenize", 40_000), ("train", 150_000)])
def test_a_full_disk_is_one_line_and_no_loss(stage: str, leave: int, finished_once: Project, small_disk: Path) -> None:
    shutil.copytree(finished_once.folder, small_disk / "project")
    project = Project(small_disk / "project")
    committed = project.read("dvc.lock")
    filler = fill(small_disk, leave)
    failed = project.run("python", "-m", f"stages.{stage}", check=False)
    assert failed.returncode == 1
    assert f"{stage}: the disk is full; free some space and run `dvc repro` again" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not list(project.folder.rglob("*.partial"))
    filler.unlink()
    project.repro("--force")
    assert project.read("dvc.lock") == committed
