"""A killed training goes on and ends with the same bytes, whoever was killed and whenever."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.project import Project, wait_for

pytestmark = pytest.mark.slow

OUTPUTS = ("models/finetuned/model.safetensors", "data/epochs.npy", "metrics/history.csv", "dvc.lock")


@pytest.fixture(scope="module")
def whole(finished_once: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that was trained for some seconds with a checkpoint after every step, and never interrupted."""
    project = finished_once.copy(tmp_path_factory.mktemp("whole") / "project")
    project.set(train__epochs=12, execution__checkpoint_minutes=1e-9)
    project.commit("a longer training")
    assert project.repro("train") == ["train"]
    return project


@pytest.fixture
def fresh(whole: Project, tmp_path: Path) -> Project:
    """The same recipe before it was run: the outputs and the cache are those of the shorter training."""
    project = whole.copy(tmp_path / "project")
    project.run("git", "checkout", "--", ".")
    shutil.rmtree(project.folder / ".dvc" / "cache" / "runs")  # else the finished training comes from the run cache
    return project


def kill(whom: str, dvc: "subprocess.Popen[bytes]", project: Project) -> None:
    if whom == "stage":
        for process in project.trainings():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    elif whom == "dvc":
        dvc.kill()
    elif whom == "everything":
        with contextlib.suppress(ProcessLookupError):
            os.killpg(dvc.pid, signal.SIGKILL)
    else:
        os.killpg(dvc.pid, signal.SIGINT if whom == "Ctrl-C" else signal.SIGTERM)
    dvc.wait(timeout=60)
    wait_for(lambda: not project.trainings(), 30)  # no orphan keeps running


def assert_same(project: Project, whole: Project) -> None:
    for name in OUTPUTS:
        assert (project.folder / name).read_bytes() == (whole.folder / name).read_bytes(), name
    assert not list((project.folder / ".scratch" / "train").iterdir())


@pytest.mark.parametrize(
    ("whom", "step"),
    [
        ("everything", 14),
        pytest.param("stage", 5, marks=pytest.mark.exhaustive),
        pytest.param("dvc", 9, marks=pytest.mark.exhaustive),
        pytest.param("Ctrl-C", 7, marks=pytest.mark.exhaustive),
        pytest.param("TERM", 11, marks=pytest.mark.exhaustive),
    ],
)
def test_a_killed_training_ends_with_the_same_bytes(whom: str, step: int, fresh: Project, whole: Project) -> None:
    dvc = fresh.start()
    wait_for(lambda: f"checkpoint-{step}" in fresh.checkpoints())
    kill(whom, dvc, fresh)
    left = fresh.checkpoints()
    assert left, "the training had ended before it was killed"
    done = fresh.run("dvc", "repro", "train")
    assert "train: resuming from step" in done.stderr
    assert_same(fresh, whole)


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(20))
def test_a_training_killed_at_any_moment_ends_with_the_same_bytes(seed: int, fresh: Project, whole: Project) -> None:
    draw = random.Random(seed)
    for _ in range(draw.choice([1, 2])):
        kill_at_random(draw, fresh)
        delete_torn_lock(fresh)
    fresh.run("dvc", "repro", "train")
    assert_same(fresh, whole)


@pytest.mark.exhaustive
def test_a_training_killed_in_windows_and_on_balanced_classes_ends_with_the_same_bytes(
    finished_once: Project, tmp_path: Path
) -> None:
    projects = [finished_once.copy(tmp_path / name) for name in ("whole", "killed")]
    for project in projects:
        project.set(
            tokenize__max_length=24,
            tokenize__long_texts="windows",
            tokenize__stride=4,
            train__epochs=12,
            train__device_batch_size=4,
            train__sampling="balanced",
            train__class_weights={"equivalent": 2},
            train__label_smoothing=0.1,
            execution__checkpoint_minutes=1e-9,
        )
    whole, killed = projects
    whole.repro("train")
    dvc = killed.start()
    wait_for(lambda: "checkpoint-9" in killed.checkpoints())
    kill("everything", dvc, killed)
    assert "train: resuming from step" in killed.run("dvc", "repro", "train").stderr
    assert_same(killed, whole)


def delete_torn_lock(project: Project) -> None:
    """Does what the README says to do after a kill in the instant in which DVC writes its lock file, or dvc.lock."""
    if not project.read("dvc.lock").strip():
        project.run("git", "checkout", "dvc.lock")
    lock = project.folder / ".dvc" / "tmp" / "rwlock"
    if lock.exists():
        try:
            json.loads(lock.read_text(encoding="utf-8"))
        except json.JSONDecodeError:
            lock.unlink()


def test_dvc_names_the_lock_file_that_a_kill_has_torn_and_works_without_it(whole: Project) -> None:
    (whole.folder / ".dvc" / "tmp" / "rwlock").write_text("", encoding="utf-8")
    done = whole.run("dvc", "repro", "train", check=False)
    assert done.returncode and ".dvc/tmp/rwlock" in done.stderr
    delete_torn_lock(whole)
    assert "up to date" in whole.run("dvc", "repro", "train").stdout


def kill_at_random(draw: random.Random, project: Project) -> None:
    dvc = project.start()
    folder = project.folder / ".scratch" / "train"
    wait_for(lambda: project.checkpoints() or dvc.poll() is not None)
    if draw.random() < 0.5:  # inside a checkpoint's write
        wait_for(lambda: list(folder.glob("*/partial/*")) or dvc.poll() is not None)
    time.sleep(draw.uniform(0, 1.5))
    kill(draw.choice(["stage", "dvc", "everything"]), dvc, project)
