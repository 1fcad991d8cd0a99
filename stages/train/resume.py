"""Trains to the end from the newest intact checkpoint, so that interruptions do not change the result."""

import gc
from collections.abc import Callable, Mapping
from pathlib import Path

from stages.shared.model.collectives import broadcast
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.rank import rank
from stages.shared.runtime.terminal import warn
from stages.shared.task.task import Task
from stages.train.checkpoints import WEIGHTS, Rows, checkpoint_of, damage, latest, step_of
from stages.train.trainer import ResumableTrainer, kept_row
from stages.train.weights import load_weights


def train_to_the_end(
    make: Callable[[], ResumableTrainer], run: Path, task: Task, keep: str
) -> tuple[ResumableTrainer, Mapping[str, float]]:
    """Trains, and once more where the kept epoch's weights were damaged in the meantime.

    Args:
        make: makes the trainer anew; rank 0 picks the checkpoint from which it goes on, and the others follow.

    Returns:
        The trainer, in rank 0 with the weights of the kept epoch, and that epoch's row of the history.

    Raises:
        BadInput: the weights were damaged twice.
    """
    for _ in range(2):
        trainer = make()
        trainer.resume(broadcast(_pick(run, task, keep) if rank() == 0 else None))
        kept = kept_row(trainer.history, task, keep)
        checkpoint = checkpoint_of(run, int(kept["step"]))
        fault = broadcast(damage(checkpoint, [WEIGHTS]) if rank() == 0 else None)
        if fault is None:
            if rank() == 0:
                load_weights(trainer.model, checkpoint / WEIGHTS)
            return trainer, kept
        del trainer
        gc.collect()  # the next one needs the memory
    raise BadInput(
        f"{run}: {fault}, twice in this training; check whether another program changes files there, or the disk "
        "is failing"
    )


def _pick(run: Path, task: Task, keep: str) -> Path | None:
    """Returns the checkpoint to go on from, None for the start; says in a line which, and what is wrong with others."""

    def needed(rows: Rows) -> int | None:
        return int(kept_row(rows, task, keep)["step"]) if rows and keep == "best" else None

    checkpoint, faults = latest(run, needed)
    outcome = f"resuming from step {step_of(checkpoint)}" if checkpoint else "starting from the first step"
    if faults:
        warn(f"train: {'; '.join(faults)}: set aside, {outcome}")
    elif checkpoint:
        warn(f"train: {outcome}")
    return checkpoint
