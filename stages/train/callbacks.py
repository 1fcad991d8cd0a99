"""What happens around the steps of a training: the history's rows, the moments of checkpoints, the loss to watch."""

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
    """Writes the loss so far where it can be watched while the training runs; no artifact, and nothing reads it."""

    def __init__(self, trainer: "ResumableTrainer", file: Path) -> None:
        self.trainer, self.file = trainer, file

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Starts the file anew, or keeps the rows of the steps that a resumed run does not repeat."""
        self.every = max(1, state.max_steps // LIVE_ROWS)
        try:
            rows = self.file.read_text(encoding="utf-8").splitlines()[1:]
            kept = [row for row in rows if int(row.partition(",")[0]) <= state.global_step]
        except (OSError, ValueError):  # none yet, or none of ours
            kept = []
        self.file.write_text("\n".join(["step,train_loss", *kept, ""]), encoding="utf-8")

    def on_epoch_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.total, self.steps = self.trainer.loss_sum.item(), self.trainer.loss_steps

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step % self.every == 0:
            total, steps = self.trainer.loss_sum.item(), self.trainer.loss_steps
            with self.file.open("a", encoding="utf-8") as stream:
                # of several processes, what this one's share of the examples says
                loss = (total - self.total) * world_size() / (steps - self.steps)
                stream.write(f"{state.global_step},{loss:.6f}\n")
            self.total, self.steps = total, steps
