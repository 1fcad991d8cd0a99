"""A checkpoint that is not as it was written is not used, and the training ends as if nothing had happened to it."""

import copy
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.publish import write_json
from stages.shared.task.task import Task
from stages.train.checkpoints import (
    EPOCHS,
    HISTORY,
    MANIFEST,
    PARTIAL,
    SET_ASIDE,
    WEIGHTS,
    checkpoint_of,
    discard,
    latest,
    put_in_place,
    run_folder,
)
from stages.train.resume import train_to_the_end
from stages.train.trainer import ResumableTrainer
from tests.test_train import OUTPUTS, Run, interrupt
from tests.tiny import sample_pairs

FILES = (EPOCHS, HISTORY, WEIGHTS, "optimizer.pt", "rng_state.pth", "scheduler.pt", "trainer_state.json")
BEST, LAST = 5, 12  # steps

Damage = Callable[[Path], Any]  # does something to a checkpoint


def flip(file: Path, at: int = -1, mask: int = 1) -> None:
    """Flips bits of one byte."""
    content = bytearray(file.read_bytes())
    content[at] ^= mask
    file.write_bytes(content)


def replace(file: Path, other: Path) -> None:
    """Puts another file's content in place of this one's."""
    shutil.copyfile(other, file)


def link(path: Path) -> None:
    """Moves it elsewhere, and leaves a link to it."""
    run = path.parent if path.is_dir() else path.parent.parent
    elsewhere = path.rename(run / f"moved-{path.name}")
    path.symlink_to(elsewhere.absolute())


def into_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def into_a_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def into_a_file(checkpoint: Path) -> None:
    shutil.rmtree(checkpoint)
    checkpoint.write_text("a checkpoint was here")


def empty(checkpoint: Path) -> None:
    for file in checkpoint.iterdir():
        file.unlink()


def forge_own_hash(checkpoint: Path) -> None:
    content = json.loads((checkpoint / MANIFEST).read_text())
    write_json(checkpoint / MANIFEST, content | {"sha256": "0" * 64})


# What is done to a checkpoint, and what is told of it: of which file, or of the checkpoint itself.
DAMAGES: dict[str, tuple[Damage, str]] = {
    **{f"a bit flipped in {name}": (lambda path, name=name: flip(path / name), f"/{name}") for name in FILES},
    **{f"{name} deleted": (lambda path, name=name: (path / name).unlink(), f"/{name} is missing") for name in FILES},
    "weights cut off": (lambda path: os.truncate(path / WEIGHTS, 100), f"/{WEIGHTS} is not what was written"),
    "weights emptied": (lambda path: os.truncate(path / WEIGHTS, 0), f"/{WEIGHTS} is not what was written"),
    "weights of another checkpoint": (
        lambda path: replace(path / WEIGHTS, checkpoint_of(path.parent, BEST) / WEIGHTS),
        f"/{WEIGHTS} is not what was written",
    ),
    "optimizer of another checkpoint": (
        lambda path: replace(path / "optimizer.pt", checkpoint_of(path.parent, BEST) / "optimizer.pt"),
        "/optimizer.pt is not what was written",
    ),
    "all of another checkpoint": (
        lambda path: shutil.copytree(checkpoint_of(path.parent, BEST), path, dirs_exist_ok=True),
        f" was written as checkpoint-{BEST} of",
    ),
    "a pickle added": (lambda path: replace(path / "scaler.pt", path / "optimizer.pt"), "/scaler.pt is not what"),
    "weights that are a link": (lambda path: link(path / WEIGHTS), f"/{WEIGHTS} is not what was written"),
    "weights that are a folder": (lambda path: into_a_folder(path / WEIGHTS), f"/{WEIGHTS} is not what was written"),
    "an optimizer that is a pipe": (lambda path: into_a_pipe(path / "optimizer.pt"), "/optimizer.pt is not what"),
    "manifest deleted": (lambda path: (path / MANIFEST).unlink(), f"/{MANIFEST} is missing or damaged"),
    "manifest cut off": (lambda path: os.truncate(path / MANIFEST, 40), f"/{MANIFEST} is missing or damaged"),
    "manifest of nothing": (lambda path: (path / MANIFEST).write_text("[]"), f"/{MANIFEST} is missing or damaged"),
    "manifest of bytes": (
        lambda path: (path / MANIFEST).write_bytes(b"\xff\xfe"),
        f"/{MANIFEST} is missing or damaged",
    ),
    "manifest that is a pipe": (lambda path: into_a_pipe(path / MANIFEST), f"/{MANIFEST} is missing or damaged"),
    "manifest whose own hash is another": (forge_own_hash, f"/{MANIFEST} is missing or damaged"),
    "checkpoint emptied": (empty, f"/{MANIFEST} is missing or damaged"),
    "a file in place of it": (into_a_file, " is not a folder"),
    "a link in place of it": (link, " is not a folder"),
    "another step's name": (lambda path: path.rename(path.with_name("checkpoint-13")), "checkpoint-13 was written as"),
    "a foreign name": (lambda path: path.rename(path.with_name("checkpoint-last")), "checkpoint-last was written as"),
    "a name with zeros": (lambda path: path.rename(path.with_name("checkpoint-012")), "checkpoint-012 was written as"),
}


# Checkpoints of anything


def write_checkpoint(run: Path, step: int, best: int | None) -> None:
    """Writes a checkpoint as the trainer does, of files that say which step they are of."""
    written = checkpoint_of(run / PARTIAL, step)
    written.mkdir(parents=True)
    for name in FILES:
        (written / name).write_text(f"{name} of {step}")
    rows = [{"step": epoch_end} for epoch_end in (5, 10) if epoch_end <= step]
    write_json(written / HISTORY, {"rows": rows, "loss_sums": [0.0], "loss_steps": step % 5})
    put_in_place(written, run, best)


@pytest.fixture(scope="module")
def stored_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with the best epoch's checkpoint and the last one."""
    run = run_folder(tmp_path_factory.mktemp("stored") / "scratch", "key")
    for step, best in ((BEST, None), (10, BEST), (LAST, BEST)):
        write_checkpoint(run, step, best)
    assert names(run) == {f"checkpoint-{BEST}", f"checkpoint-{LAST}"}
    return run


@pytest.fixture
def stored(stored_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stored_once, tmp_path / "scratch" / "key"))


def names(run: Path) -> set[str]:
    return {path.name for path in run.iterdir()}


def nothing(rows: list[dict[str, float]]) -> None:
    return None


def first_epoch(rows: list[dict[str, float]]) -> int:
    return int(rows[0]["step"])


def test_the_last_checkpoint_is_used_where_nothing_happened(stored: Path) -> None:
    for needed in (nothing, first_epoch):
        assert latest(stored, needed) == (checkpoint_of(stored, LAST), [])
    assert latest(run_folder(stored.parent, "another key"), nothing) == (None, [])


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_takes_over(damage: str, stored: Path) -> None:
    inflict, told = DAMAGES[damage]
    inflict(checkpoint_of(stored, LAST))
    checkpoint, (fault,) = latest(stored, first_epoch)
    assert checkpoint == checkpoint_of(stored, BEST)
    assert told in fault and fault.startswith("checkpoint-") and "\n" not in fault
    assert {SET_ASIDE, f"checkpoint-{BEST}"} == {name for name in names(stored) if not name.startswith("moved-")}
    discard(stored)
    assert not list(stored.parent.iterdir())


@pytest.mark.parametrize("file", [WEIGHTS, MANIFEST])
def test_a_checkpoint_is_of_no_use_without_the_weights_of_the_best_epoch(file: str, stored: Path) -> None:
    flip(checkpoint_of(stored, BEST) / file, 20)
    assert latest(stored, nothing) == (checkpoint_of(stored, LAST), [])  # these are not needed where the last is kept
    checkpoint, (fault,) = latest(stored, first_epoch)
    assert checkpoint is None
    assert fault.startswith(f"checkpoint-{LAST} needs the best epoch's weights, and checkpoint-{BEST}/{file} is")
    assert names(stored) == {SET_ASIDE}  # one at most: it could fill the disk


def test_of_the_best_epoch_only_the_weights_are_needed(stored: Path) -> None:
    flip(checkpoint_of(stored, BEST) / "optimizer.pt")
    assert latest(stored, first_epoch) == (checkpoint_of(stored, LAST), [])


def test_a_lost_best_epoch_is_named(stored: Path) -> None:
    shutil.rmtree(checkpoint_of(stored, BEST))
    faults = [f"checkpoint-{LAST} needs the best epoch's weights, and checkpoint-{BEST} is missing"]
    assert latest(stored, first_epoch) == (None, faults)


def test_a_checkpoint_of_another_recipe_is_not_used_under_this_ones_name(stored: Path) -> None:
    other = run_folder(stored.parent.parent / "other", "other-key")
    shutil.copytree(checkpoint_of(stored, LAST), checkpoint_of(other, LAST))
    assert latest(other, nothing) == (None, [f"checkpoint-{LAST} was written as checkpoint-{LAST} of key"])


def test_what_has_a_checkpoints_name_gives_way_to_the_next_checkpoint(stored: Path) -> None:
    checkpoint_of(stored, 7).write_text("a file")
    write_checkpoint(stored, 15, BEST)
    assert names(stored) == {f"checkpoint-{BEST}", "checkpoint-15"}


@pytest.mark.parametrize("in_the_way", ["scratch", "scratch/key", "scratch/discarded", "scratch/old-key"])
@pytest.mark.parametrize("what", ["file", "link"])
def test_a_run_has_a_folder_whatever_lies_in_its_place(in_the_way: str, what: str, tmp_path: Path) -> None:
    (tmp_path / in_the_way).parent.mkdir(exist_ok=True)
    if what == "file":
        (tmp_path / in_the_way).write_text("a file")
    else:
        (tmp_path / in_the_way).symlink_to(tmp_path / "nowhere")
    run = run_folder(tmp_path / "scratch", "key")
    assert [path.name for path in run.parent.iterdir()] == ["key"] and not list(run.iterdir())


# Trainings


class HalfRun:
    """A training of three epochs, the first of which is the best, killed in the last; and what it gives when whole."""

    def __init__(self, run: Run, keep: str) -> None:
        self.run, self.recipe = run, {"epochs": 3, "keep": keep, "learning_rate": 1e-3}
        self.whole = outputs(run("whole", **self.recipe))
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            interrupt(patch, LAST + 1)
            run("out", minutes=1e-9, **self.recipe)
        (folder,) = (run.folder / "scratch").iterdir()
        assert names(folder) == {f"checkpoint-{BEST}", f"checkpoint-{LAST}"}

    def copy(self, folder: Path) -> "HalfRun":
        """Returns the same in another folder, to be damaged there."""
        copied = copy.copy(self)
        copied.run = copy.copy(self.run)
        copied.run.folder = Path(shutil.copytree(self.run.folder, folder))
        return copied

    @property
    def folder(self) -> Path:
        """Where its checkpoints lie."""
        (folder,) = (self.run.folder / "scratch").iterdir()
        return folder

    def assert_ends_as_if_whole(self) -> None:
        """Goes on with the training, and compares."""
        assert outputs(self.run("out", **self.recipe)) == self.whole
        assert not list((self.run.folder / "scratch").iterdir())


def outputs(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in (*OUTPUTS, "environment.json")}


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> dict[str, HalfRun]:
    """One that keeps the best epoch, and one that keeps the last."""
    rows = sample_pairs()[:48]
    return {keep: HalfRun(Run(tmp_path_factory.mktemp(keep), tiny_checkpoint, rows), keep) for keep in ("best", "last")}


@pytest.fixture
def half(halves: dict[str, HalfRun], tmp_path: Path, request: pytest.FixtureRequest) -> HalfRun:
    return halves[request.param].copy(tmp_path / "run")


def both(damage: Damage) -> Damage:
    """Does the same to the last checkpoint and to the best epoch's."""

    def inflict(last: Path) -> None:
        for checkpoint in (last, checkpoint_of(last.parent, BEST)):
            damage(checkpoint)

    return inflict


@pytest.mark.slow
@pytest.mark.parametrize(
    ("half", "damage", "told"),
    [
        pytest.param(
            "last",
            lambda last: flip(last / WEIGHTS),
            f"checkpoint-12/{WEIGHTS} is not what was written: set aside, resuming from step 5",
            id="weights",
        ),
        pytest.param(
            "best",
            lambda last: flip(last / "optimizer.pt", 5000),
            "checkpoint-12/optimizer.pt is not what was written: set aside, resuming from step 5",
            id="optimizer",
        ),
        pytest.param(
            "last",
            lambda last: (last / "rng_state.pth").unlink(),
            "checkpoint-12/rng_state.pth is missing: set aside, resuming from step 5",
            id="random numbers",
        ),
        pytest.param(
            "best",
            lambda last: flip(checkpoint_of(last.parent, BEST) / WEIGHTS),
            "checkpoint-12 needs the best epoch's weights, and checkpoint-5/model.safetensors is not what was written: "
            "set aside, starting from the first step",
            id="weights of the best epoch",
        ),
        pytest.param(
            "last",
            both(lambda checkpoint: os.truncate(checkpoint / "scheduler.pt", 100)),
            "checkpoint-12/scheduler.pt is not what was written; checkpoint-5/scheduler.pt is not what was written: "
            "set aside, starting from the first step",
            id="all schedulers",
        ),
        pytest.param(
            "best",
            lambda last: last.rename(last.with_name("checkpoint-14")),
            "checkpoint-14 was written as checkpoint-12 of ",
            id="name",
        ),
    ],
    indirect=["half"],
)
def test_a_training_with_a_damaged_checkpoint_ends_with_the_same_bytes(
    half: HalfRun, damage: Damage, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(checkpoint_of(half.folder, LAST))
    capsys.readouterr()
    half.assert_ends_as_if_whole()
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "set aside" in line]
    assert line.startswith(f"train: {told}")


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(30))
def test_a_training_damaged_at_random_ends_with_the_same_bytes(
    seed: int, halves: dict[str, HalfRun], tmp_path: Path
) -> None:
    draw = random.Random(seed)
    half = halves[draw.choice(["best", "last"])].copy(tmp_path / "run")
    for _ in range(draw.choice([1, 1, 2])):
        damage_at_random(draw, half.folder)
    half.assert_ends_as_if_whole()


def damage_at_random(draw: random.Random, run: Path) -> None:
    """Does one thing to a checkpoint, or to a file of one."""
    checkpoints = sorted(path for path in run.iterdir() if path.is_dir() and list(path.iterdir()))
    checkpoint = draw.choice(checkpoints)
    if draw.random() < 0.2:
        draw.choice([empty, shutil.rmtree, into_a_file, link])(checkpoint)
        return
    file = draw.choice(sorted(path for path in checkpoint.iterdir() if path.is_file() and path.stat().st_size))
    other = draw.choice(checkpoints) / file.name
    size = file.stat().st_size
    kind = draw.choice(["flip", "flip", "cut", "delete", "empty", "replace", "copy", "link", "folder"])
    if kind == "flip":
        flip(file, draw.randrange(size), draw.randrange(1, 256))
    elif kind == "cut":
        os.truncate(file, draw.randrange(size))
    elif kind == "delete":
        file.unlink()
    elif kind == "empty":
        os.truncate(file, 0)
    elif kind == "replace" and other.is_file() and other != file:
        replace(file, other)
    elif kind == "copy":
        shutil.copyfile(file, checkpoint / draw.choice(["scaler.pt", "pytorch_model.bin", "rng_state_0.pth"]))
    elif kind == "link":
        link(file)
    else:
        into_a_folder(file)


@pytest.mark.slow
@pytest.mark.parametrize("half", ["best"], indirect=True)
def test_weights_damaged_while_the_training_goes_on_are_not_published(
    half: HalfRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original: Callable[..., Any] = ResumableTrainer.training_step
    steps = iter(range(1, 1000))

    def training_step(self: ResumableTrainer, *arguments: Any, **keywords: Any) -> torch.Tensor:
        if next(steps) == 2:
            flip(checkpoint_of(half.folder, BEST) / WEIGHTS)
        result: torch.Tensor = original(self, *arguments, **keywords)
        return result

    monkeypatch.setattr(ResumableTrainer, "training_step", training_step)
    half.assert_ends_as_if_whole()
    assert "checkpoint-5/model.safetensors is not what was written: set aside, starting" in capsys.readouterr().err


class FailingDisk:
    """A trainer whose checkpoint is damaged as soon as it is written."""

    def __init__(self, run: Path) -> None:
        self.run, self.history = run, [{"epoch": 1.0, "step": float(BEST)}]

    def resume(self, checkpoint: Path | None) -> None:
        assert checkpoint is None
        write_checkpoint(self.run, BEST, None)
        flip(checkpoint_of(self.run, BEST) / WEIGHTS)


def test_a_disk_that_damages_the_weights_again_ends_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_folder(tmp_path / "scratch", "key")
    trainers = iter([FailingDisk(run), FailingDisk(run)])
    task = Task("files", "single_label_classification", ["no", "yes"], ["accuracy"], "files", "0")
    with pytest.raises(BadInput, match=r"checkpoint-5/model\.safetensors is not what was written, twice in this"):
        train_to_the_end(lambda: next(trainers), run, task, "last")
    told = "train: checkpoint-5/model.safetensors is not what was written: set aside, starting from the first step\n"
    assert capsys.readouterr().err == told
