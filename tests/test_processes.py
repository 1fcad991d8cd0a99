"""train and predict in several processes: the same steps, the same numbers up to rounding, and a clean end."""

import csv
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from stages.shared.model.launcher import _first, launch
from stages.shared.runtime.errors import BadInput
from stages.train.order import EpochSampler, StepBatches
from tests.project import PROGRAMS, Project, copy_project, run_python, wait_for
from tests.tiny import make_checkpoint

ROOT = Path(__file__).parents[1]


# The steps


@pytest.mark.parametrize(
    ("examples", "processes", "device"), [(48, 2, 12), (50, 3, 8), (25, 3, 4), (24, 2, 6), (5, 4, 2)]
)
def test_every_process_count_sees_the_same_examples_in_the_same_steps(
    examples: int, processes: int, device: int
) -> None:
    order = EpochSampler(examples, 24, 1)
    alone = [row for batch in StepBatches(order, 24, 0, 1) for row, _ in batch]
    dealt = [list(StepBatches(order, device, rank, processes)) for rank in range(processes)]
    turns = 24 // (device * processes)
    assert {len(batches) for batches in dealt} == {len(StepBatches(order, device, 0, processes))}
    for step, start in enumerate(range(0, examples, 24)):
        batches = [dealt[rank][step * turns : (step + 1) * turns] for rank in range(processes)]
        slots = [slot for turn in zip(*batches, strict=True) for batch in turn for slot in batch]
        assert [row for row, weight in slots if weight] == alone[start : start + 24]
        assert sum(weight for _, weight in slots) == pytest.approx(1.0)


def test_a_process_without_examples_computes_on_one_that_does_not_count() -> None:
    order = EpochSampler(1, 3, 1)
    assert [list(StepBatches(order, 1, rank, 3)) for rank in range(3)] == [[[(0, 1.0)]], [[(0, 0.0)]], [[(0, 0.0)]]]


# The launch


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, 2, "a:1"), "execution.nodes: must divide the 3 processes of train, got 2"),
        ((4, 2, None), "execution.rendezvous: several nodes need a host:port to meet at, got null"),
    ],
)
def test_nodes_that_cannot_meet_are_refused(arguments: tuple[int, int, str | None], message: str) -> None:
    with pytest.raises(BadInput, match=re.escape(message)):
        launch("train", *arguments)


class Failure:
    def __init__(self, exitcode: int, message: str = "", stack: str = "") -> None:
        self.exitcode = exitcode
        self.message = {"message": message, "extraInfo": {"py_callstack": stack}} if exitcode > 0 else "Signal"

    def signal_name(self) -> str:
        return signal.Signals(-self.exitcode).name


def test_of_several_failures_the_one_that_caused_the_others_is_told() -> None:
    lost, full, killed, ended = Failure(1, stack="lost it"), Failure(1, "the disk is full"), Failure(-9), Failure(-15)
    assert "process 2 was killed (SIGKILL)" in str(_first({0: lost, 1: ended, 2: killed}))
    assert str(_first({0: ended, 1: lost, 2: full})) == "the disk is full"
    assert "process 1 was killed (SIGTERM)" in str(_first({1: ended}))
    bug = _first({0: lost})
    assert not isinstance(bug, BadInput) and "lost it" in str(bug)


def test_what_a_scheduler_says_of_ranks_does_not_make_a_lone_process_wait(tmp_path: Path) -> None:
    code = "import stages; from stages.shared.runtime.rank import rank, world_size; print(rank(), world_size())"
    variables = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "elsewhere", "MASTER_PORT": "1"}
    assert run_python("-c", code, folder=tmp_path, **variables).stdout == "0 1\n"
    assert run_python("-c", code, folder=tmp_path, TORCHELASTIC_RUN_ID="x", **variables).stdout == "1 2\n"


# The DAG


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project without dropout, run in one process; 39 training and 31 validation examples divide by nothing."""
    project = copy_project(tmp_path_factory.mktemp("alone") / "project")
    make_checkpoint(project.folder / "data" / "tiny", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    project.set(
        download__checkpoint="files",
        download__checkpoint_files="data/tiny",
        tokenize__max_samples=39,
        train__epochs=3,
        train__batch_size=12,
        train__device_batch_size=12,
        train__learning_rate=1e-3,
        train__threads=1,
        predict__threads=1,
        predict__token_budget=512,
    )
    project.commit("without dropout")
    project.repro("predict")
    project.commit("in one process")
    return project


def copy(project: Project, folder: Path) -> Project:
    project.run("git", "clone", "--quiet", ".", str(folder))
    cloned = Project(folder)
    cloned.run("dvc", "config", "cache.dir", str(project.folder / ".dvc" / "cache"))
    cloned.run("dvc", "checkout", "--quiet", "--with-deps", "predict")
    return cloned


def logits(project: Project, split: str) -> np.ndarray:
    return np.load(project.folder / "data" / "predictions" / split / "logits.npy")


def assert_same_up_to_rounding(project: Project, alone: Project) -> None:
    one, two = (load_file(each.folder / "models" / "finetuned" / "model.safetensors") for each in (project, alone))
    assert max(np.abs(one[name] - two[name]).max() for name in one) < 1e-4
    for split in ("validation", "test"):
        assert logits(project, split).shape == logits(alone, split).shape == (39, 2)
        assert np.abs(logits(project, split) - logits(alone, split)).max() < 1e-6
    # What each epoch predicted is put back into the order of the split, whoever computed it.
    labels = np.load(project.folder / "data" / "predictions" / "validation" / "labels.npy")
    rows = csv.DictReader(project.read("metrics/history.csv").splitlines())
    epochs = np.load(project.folder / "data" / "epochs.npy")
    assert [float(row["accuracy"]) for row in rows] == [(one == labels).mean() for one in epochs]
    assert (
        project.read("metrics/selection.json").partition("value")[0]
        == alone.read("metrics/selection.json").partition("value")[0]
    )


@pytest.mark.slow
def test_two_processes_train_what_one_trains(alone: Project, tmp_path: Path) -> None:
    two = copy(alone, tmp_path / "two")
    two.set(train__processes=2, execution__predict_processes=2)
    assert two.repro("predict") == ["train", "predict"]
    assert (two.folder / "models/finetuned/model.safetensors").read_bytes() != (
        alone.folder / "models/finetuned/model.safetensors"
    ).read_bytes()
    assert_same_up_to_rounding(two, alone)
    assert not two.trainings()
    # Who computes a batch of predictions changes no byte.
    first = {split: logits(two, split).tobytes() for split in ("validation", "test")}
    two.set(execution__predict_processes=1)
    two.run("dvc", "repro", "--force", "--single-item", "predict")
    assert {split: logits(two, split).tobytes() for split in first} == first


@pytest.mark.exhaustive
def test_three_processes_train_and_predict_splits_that_do_not_divide(alone: Project, tmp_path: Path) -> None:
    three = copy(alone, tmp_path / "three")
    three.set(train__processes=3, execution__predict_processes=3)
    assert three.repro("predict") == ["train", "predict"]
    assert_same_up_to_rounding(three, alone)


@pytest.mark.exhaustive
def test_two_processes_train_and_predict_in_windows_what_one_does(alone: Project, tmp_path: Path) -> None:
    windows: dict[str, Any] = {"tokenize__max_length": 24, "tokenize__long_texts": "windows", "tokenize__stride": 4}
    imbalance: dict[str, Any] = {"train__sampling": "balanced", "train__class_weights": {"equivalent": 2}}
    one, two = copy(alone, tmp_path / "one"), copy(alone, tmp_path / "two")
    for project, processes in ((one, 1), (two, 2)):
        project.set(**windows, **imbalance, train__device_batch_size=3, train__processes=processes)
        project.set(execution__predict_processes=processes)
        project.repro("predict")
    assert_same_up_to_rounding(two, one)
    first = {split: logits(two, split).tobytes() for split in ("validation", "test")}
    two.set(execution__predict_processes=1)
    two.run("dvc", "repro", "--force", "--single-item", "predict")
    assert {split: logits(two, split).tobytes() for split in first} == first


@pytest.fixture
def interrupted(tiny: Project, request: pytest.FixtureRequest) -> Project:
    """A project with dropout that trains in several processes and is not done; a checkpoint after every 16 steps."""
    tiny.set(
        train__epochs=8,
        train__processes=request.param,
        train__batch_size=6,
        execution__checkpoint_minutes=1e-9,
        tokenize__max_samples=39,
    )
    tiny.repro("tokenize")
    return tiny


def run_to_the_end(project: Project) -> dict[str, bytes]:
    project.repro("train")
    outs = ("models/finetuned/model.safetensors", "metrics/history.csv", "metrics/selection.json")
    return {name: (project.folder / name).read_bytes() for name in outs}


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("interrupted", "damaged"),
    [
        (2, None),
        (3, None),
        (2, "rng_state_1.pth"),
        (3, "model.safetensors"),
    ],
    indirect=["interrupted"],
)
def test_a_killed_worker_ends_the_stage_in_a_line_and_the_next_run_ends_with_the_same_bytes(
    interrupted: Project, damaged: str | None
) -> None:
    log = interrupted.folder / ".scratch" / "log"
    with log.open("w") as stream:
        dvc = subprocess.Popen(
            ["dvc", "repro", "train"],
            cwd=interrupted.folder,
            env=os.environ | {"PATH": PROGRAMS},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )
        wait_for(lambda: "checkpoint-16" in interrupted.checkpoints())  # in mid-epoch: an epoch has 7 steps
        launcher = next(process for process in interrupted.trainings() if process.ppid() == dvc.pid)
        launcher.children()[-1].kill()
        killed = time.monotonic()
        assert dvc.wait(timeout=60) != 0
        assert time.monotonic() - killed < 30
    assert not interrupted.trainings()
    told = log.read_text()
    assert re.search(r"^train: process \d was killed \(SIGKILL\), so the others ended too; run `dvc repro`", told, re.M)
    assert "Traceback" not in told
    assert interrupted.checkpoints()
    if damaged:
        folder = interrupted.folder / ".scratch" / "train"
        last = max(folder.glob("*/checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
        (last / damaged).write_bytes(b"")
    resumed = interrupted.run("dvc", "repro", "train")
    told = f"train: {last.name}/{damaged} is not what was written: set aside, " if damaged else "train: "
    assert f"{told}resuming from step" in resumed.stderr
    first = run_to_the_end(interrupted)
    interrupted.run("dvc", "repro", "--force", "--single-item", "train")
    assert run_to_the_end(interrupted) == first


@pytest.mark.exhaustive
@pytest.mark.parametrize("interrupted", [2], indirect=True)
@pytest.mark.parametrize("whom", ["dvc", "launcher", "Ctrl-C"])
def test_no_process_outlives_the_stage(whom: str, interrupted: Project) -> None:
    dvc = interrupted.start()
    wait_for(lambda: interrupted.checkpoints())
    assert len(interrupted.trainings()) == 3
    if whom == "dvc":
        dvc.kill()
    elif whom == "launcher":
        next(process for process in interrupted.trainings() if process.ppid() == dvc.pid).kill()
    else:
        os.killpg(dvc.pid, signal.SIGINT)
    dvc.wait(timeout=60)
    wait_for(lambda: not interrupted.trainings(), 30)


@pytest.mark.slow
def test_bad_input_is_told_once_by_all_processes(alone: Project, tmp_path: Path) -> None:
    two = copy(alone, tmp_path / "two")
    two.set(train__processes=2, train__batch_size=13)
    done = two.run("dvc", "repro", check=False)
    lines = [line for line in done.stderr.splitlines() if line.startswith("train: ")]
    assert lines == ["train: params.yaml: train.processes: must divide train.batch_size (13), got 2"]
    assert done.returncode and "Traceback" not in done.stderr


@pytest.mark.exhaustive
def test_two_nodes_train_what_one_machine_with_two_processes_trains(alone: Project, tmp_path: Path) -> None:
    """The second node has no dvc: it runs the stage in the shared folder, as docs/several_machines.md says."""
    two = copy(alone, tmp_path / "two")
    two.set(train__processes=2)
    expected = run_to_the_end(two)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    two.set(execution__nodes=2, execution__rendezvous=f"127.0.0.1:{port}")
    environment: dict[str, Any] = os.environ | {"PATH": PROGRAMS}
    second = subprocess.Popen([sys.executable, "-m", "stages.train"], cwd=two.folder, env=environment)
    two.run("dvc", "repro", "--force", "--single-item", "train")
    assert second.wait(timeout=60) == 0
    assert run_to_the_end(two) == expected


@pytest.mark.exhaustive
def test_a_recipe_joins_what_torchrun_started_and_refuses_another_number(alone: Project, tmp_path: Path) -> None:
    two = copy(alone, tmp_path / "two")
    two.set(train__processes=2)
    expected = run_to_the_end(two)
    command = ("torchrun", "--standalone", "--nproc-per-node", "2", "-m", "stages.train")
    two.run(*command)
    assert {name: (two.folder / name).read_bytes() for name in expected} == expected
    refused = two.run("torchrun", "--standalone", "--nproc-per-node", "3", "-m", "stages.train", check=False)
    assert refused.returncode
    assert "train.processes: the recipe has 2 processes, but torchrun started 3" in refused.stderr
