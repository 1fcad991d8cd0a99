"""Actions around the steps of a training: rows of the history, checkpoints, the loss to watch."""

import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState

from stages.shared.model.collectives import broadcast, gather
from stages.shared.runtime.rank import rank, world_size
from stages.shared.runtime.terminal import warn

if TYPE_CHECKING:
    from stages.train.trainer import ResumableTrainer

LIVE_ROWS = 400  # of the file with the loss so far: enough for a curve, too few to cost a step anything


class Epochs(TrainerCallback):
    """Tells the sampler the epoch, adds the history's row after it, says it in a line, and stops without patience."""

    def __init__(self, trainer: "ResumableTrainer") -> None:
        self.trainer = trainer

    def on_epoch_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        steps = math.ceil(len(self.trainer.order) / self.trainer.order.batch_size)
        self.trainer.order.set_epoch(state.global_step // steps)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.trainer.loss_steps += 1
        self.trainer.turn = 0

    def on_evaluate(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        trainer = self.trainer
        row = {
            "epoch": len(trainer.history) + 1,
            "step": state.global_step,
            "learning_rate": trainer._get_learning_rate(),
            "train_loss": sum(gather(trainer.loss_sum.item())) / trainer.loss_steps,
            **trainer.scores,
        }
        trainer.loss_sum, trainer.loss_steps = torch.zeros((), dtype=torch.float64), 0
        trainer.history.append(row)
        scores = ", ".join(f"{name} {value:.4f}" for name, value in trainer.scores.items())
        if rank() == 0:
            tqdm.write(
                f"epoch {row['epoch']}/{math.ceil(args.num_train_epochs)}: train loss {row['train_loss']:.4f}, "
                f"validation {scores}",
                file=sys.stderr,
            )
        if trainer.exhausted():
            control.should_training_stop = True


class Timer(TrainerCallback):
    """Asks for a checkpoint every few minutes, except at an epoch's last step: its end writes one."""

    STRIDE = 16  # several processes have to agree, which costs an exchange: not after every step

    def __init__(self, minutes: float) -> None:
        self.seconds, self.last = 60.0 * minutes, time.monotonic()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        last_step = state.epoch is not None and float(state.epoch).is_integer()
        if last_step or (world_size() > 1 and state.global_step % self.STRIDE):
            return
        if broadcast(time.monotonic() - self.last >= self.seconds):
            control.should_save = True

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.last = time.monotonic()


class Live(TrainerCallback):
    """Writes how far the training is where it can be watched; no artifact, and nothing reads it.

    Where no terminal shows a progress bar, it says so in a line a minute too.
    """

    COLUMNS = ("step", "train_loss", "epoch", "examples_per_second", "minutes_left")
    SECONDS = 60.0  # between two lines

    def __init__(self, trainer: "ResumableTrainer", file: Path) -> None:
        self.trainer, self.file = trainer, file

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Starts the file anew, or keeps the rows of the steps that a resumed run does not repeat."""
        self.every = max(1, state.max_steps // LIVE_ROWS)
        self.first_step, self.start = state.global_step, time.monotonic()
        self.said = self.wrote = self.start
        header = ",".join(self.COLUMNS)
        try:
            found, *rows = self.file.read_text(encoding="utf-8").splitlines()
            kept = [row for row in rows if found == header and int(row.partition(",")[0]) <= state.global_step]
        except (OSError, ValueError):  # none yet, or none of ours
            kept = []
        self.file.write_text("\n".join([header, *kept, ""]), encoding="utf-8")

    def on_epoch_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.total, self.steps = self.trainer.loss_sum.item(), self.trainer.loss_steps

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        now = time.monotonic()
        if state.global_step % self.every and now - self.wrote < self.SECONDS:
            return
        self.wrote = now
        total, steps = self.trainer.loss_sum.item(), self.trainer.loss_steps
        # of several processes, what this one's share of the examples says
        loss = (total - self.total) * world_size() / (steps - self.steps)
        self.total, self.steps = total, steps
        done, seconds = state.global_step - self.first_step, max(now - self.start, 1e-9)
        rate = done * self.trainer.order.batch_size / seconds
        left = (state.max_steps - state.global_step) * seconds / done / 60
        epoch = math.ceil(state.epoch or 0)
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(f"{state.global_step},{loss:.6f},{epoch},{rate:.1f},{left:.1f}\n")
        if now - self.said >= self.SECONDS and not sys.stderr.isatty():
            self.said = now
            warn(
                f"train: epoch {epoch}/{math.ceil(args.num_train_epochs)}, step {state.global_step}/{state.max_steps}, "
                f"loss {loss:.4f}, {rate:.1f} examples/s, {left:.0f} min left"
            )
