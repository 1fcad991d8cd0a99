"""The `Trainer` of transformers, made exact: batches by (seed, epoch), averaged accumulation, whole checkpoints."""

import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import Sampler
from tqdm.auto import tqdm
from transformers import EvalPrediction, PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from stages.shared.errors import BadInput
from stages.shared.publish import write_json
from stages.shared.scoring import METRICS, score
from stages.shared.task import Task

HISTORY = "history.json"
LIVE_ROWS = 400  # of the file with the loss so far: enough for a curve, too few to cost a step anything
MEGABATCH = 50  # batches that are sorted by length together, as in transformers' own sampler


class EpochSampler(Sampler[int]):
    """Draws each epoch's order from (seed, epoch) alone.

    The samplers of torch and transformers draw it from the global generator, whose state a resumed run restores only
    after the batches that it skips: with them, a run resumed in mid-epoch sees other batches.
    """

    def __init__(self, size: int, batch_size: int, seed: int, lengths: np.ndarray | None = None) -> None:
        """Shuffles `size` examples; with `lengths`, int32[size], examples of like length meet in a batch."""
        self.size, self.batch_size, self.seed, self.lengths = size, batch_size, seed, lengths
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng([self.seed, self.epoch])
        order = generator.permutation(self.size)
        if self.lengths is not None:
            order = self._group(order, generator)
        return iter(order.tolist())

    def _group(self, order: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        assert self.lengths is not None
        # At least four groups, so that small data keep some randomness in who meets whom.
        batches = max(1, min(MEGABATCH, self.size // (4 * self.batch_size)))
        grouped = []
        for start in range(0, self.size, batches * self.batch_size):
            group = order[start : start + batches * self.batch_size]
            group = group[np.argsort(-self.lengths[group], kind="stable")]
            whole = len(group) // self.batch_size * self.batch_size
            shuffled = generator.permutation(group[:whole].reshape(-1, self.batch_size))
            grouped += [shuffled.ravel(), group[whole:]]
        return np.concatenate(grouped)


class LengthSampler(Sampler[int]):
    """Goes through the examples from the longest to the shortest: least padding, and the largest batch comes first."""

    def __init__(self, lengths: np.ndarray) -> None:
        self.order = np.argsort(-lengths, kind="stable").tolist()

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[int]:
        return iter(self.order)


class ExactTrainer(Trainer):
    """A `Trainer` whose run does not depend on when it was interrupted.

    `history` holds a row an epoch: `epoch`, `step`, `learning_rate`, `train_loss` (mean over the epoch's steps), then
    the validation split's metrics and `loss`.
    """

    def __init__(
        self,
        task: Task,
        group_by_length: bool,
        patience: int | None,
        minutes: float,
        live_file: Path,
        **arguments: Any,
    ) -> None:
        self.task = task
        self.group_by_length = group_by_length
        self.patience = patience
        self.history: list[dict[str, float]] = []
        self.loss_sum = torch.zeros((), dtype=torch.float64)
        self.loss_steps = 0
        super().__init__(
            compute_loss_func=averaged_loss(task.problem_type), compute_metrics=self._compute_metrics, **arguments
        )
        # The model's own loss would be summed over accumulated batches, not averaged.
        self.model_accepts_loss_kwargs = False
        self.remove_callback(PrinterCallback)
        self.add_callback(_EpochEnd(self))
        self.add_callback(_Timer(minutes))
        self.add_callback(_Live(self, live_file))

    # Data order

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        lengths = _lengths(self.train_dataset) if self.group_by_length else None
        batch_size = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return EpochSampler(len(dataset), batch_size, self.args.seed, lengths)

    def _get_eval_sampler(self, eval_dataset: Any) -> Sampler[int]:
        return LengthSampler(_lengths(self.eval_dataset))

    # Loss and metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Prints nothing: the line after each epoch says it, and `history` keeps it."""

    def training_step(self, *arguments: Any, **keywords: Any) -> torch.Tensor:
        loss = super().training_step(*arguments, **keywords)
        self.loss_sum = self.loss_sum.to(loss.device) + loss.detach()
        return loss

    def _compute_metrics(self, predicted: EvalPrediction) -> dict[str, float]:
        logits = np.asarray(predicted.predictions)
        if not np.isfinite(logits).all():
            raise BadInput(
                f"the training diverged in epoch {len(self.history) + 1} (logits that are not finite); "
                "lower train.learning_rate or add train.warmup_steps"
            )
        labels = np.asarray(predicted.label_ids)
        self.scores = score(self.task, logits, labels)
        return {}

    # Checkpoints

    def _get_output_dir(self, trial: Any) -> str:
        return str(Path(self.args.output_dir) / "partial")

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Writes a checkpoint aside and renames it once it is whole and on the disk; a kill leaves none that is not."""
        folder = Path(self.args.output_dir)
        partial = folder / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        super()._save_checkpoint(model, trial)
        written = partial / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        write_json(
            written / HISTORY,
            {"rows": self.history, "loss_sum": self.loss_sum.item(), "loss_steps": self.loss_steps},
        )
        for file in written.iterdir():
            _flush(file)
        _flush(written)
        final = folder / written.name
        if final.exists():
            final.rename(partial / "replaced")
        written.rename(final)
        _flush(folder)
        wanted = {final.name}
        if self.history:
            wanted.add(f"{PREFIX_CHECKPOINT_DIR}-{kept_row(self.history, self.task, 'best')['step']}")
        for old in checkpoints(folder):
            if old.name not in wanted:
                old.rename(partial / old.name)
        shutil.rmtree(partial)

    def resume(self, checkpoint: Path | None) -> None:
        """Trains from `checkpoint`, or from the start; a run that had ended there is not trained further."""
        if checkpoint is not None:
            kept = json.loads((checkpoint / HISTORY).read_text(encoding="utf-8"))
            self.history, self.loss_steps = kept["rows"], kept["loss_steps"]
            self.loss_sum = torch.tensor(kept["loss_sum"], dtype=torch.float64)
            if self.exhausted():
                return
        self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)

    def exhausted(self) -> bool:
        """Says whether the best score is so old that the training is to stop."""
        if self.patience is None or not self.history:
            return False
        return len(self.history) - kept_row(self.history, self.task, "best")["epoch"] >= self.patience


class _EpochEnd(TrainerCallback):
    """Adds the history's row after each epoch, says it in one line, and stops when the patience is used up."""

    def __init__(self, trainer: ExactTrainer) -> None:
        self.trainer = trainer

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.trainer.loss_steps += 1

    def on_evaluate(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        trainer = self.trainer
        row = {
            "epoch": len(trainer.history) + 1,
            "step": state.global_step,
            "learning_rate": trainer._get_learning_rate(),
            "train_loss": trainer.loss_sum.item() / trainer.loss_steps,
            **trainer.scores,
        }
        trainer.loss_sum, trainer.loss_steps = torch.zeros((), dtype=torch.float64), 0
        trainer.history.append(row)
        scores = ", ".join(f"{name} {value:.4f}" for name, value in trainer.scores.items())
        tqdm.write(
            f"epoch {row['epoch']}/{math.ceil(args.num_train_epochs)}: train loss {row['train_loss']:.4f}, "
            f"validation {scores}",
            file=sys.stderr,
        )
        if trainer.exhausted():
            control.should_training_stop = True


class _Timer(TrainerCallback):
    """Asks for a checkpoint every few minutes, except at an epoch's last step: its end writes one."""

    def __init__(self, minutes: float) -> None:
        self.seconds, self.last = 60.0 * minutes, time.monotonic()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        last_step = state.epoch is not None and float(state.epoch).is_integer()
        if time.monotonic() - self.last >= self.seconds and not last_step:
            control.should_save = True

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.last = time.monotonic()


class _Live(TrainerCallback):
    """Writes the loss so far where it can be watched while the training runs; no artifact, and nothing reads it."""

    def __init__(self, trainer: ExactTrainer, file: Path) -> None:
        self.trainer, self.file = trainer, file

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Starts the file anew, or keeps the rows of the steps that a resumed run does not repeat."""
        self.every = max(1, state.max_steps // LIVE_ROWS)
        rows = (
            self.file.read_text(encoding="utf-8").splitlines()[1:] if state.global_step and self.file.exists() else []
        )
        kept = [row for row in rows if int(row.partition(",")[0]) <= state.global_step]
        self.file.write_text("\n".join(["step,train_loss", *kept, ""]), encoding="utf-8")

    def on_epoch_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.total, self.steps = self.trainer.loss_sum.item(), self.trainer.loss_steps

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step % self.every == 0:
            total, steps = self.trainer.loss_sum.item(), self.trainer.loss_steps
            with self.file.open("a", encoding="utf-8") as stream:
                stream.write(f"{state.global_step},{(total - self.total) / (steps - self.steps):.6f}\n")
            self.total, self.steps = total, steps


def averaged_loss(problem_type: str) -> Callable[..., torch.Tensor]:
    """Returns a loss that is summed over a device's examples and divided by the count of the whole optimizer step."""

    def compute(outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | None = None) -> torch.Tensor:
        logits = outputs["logits"].float()
        if problem_type == "single_label_classification":
            total = functional.cross_entropy(logits, labels, reduction="sum")
        elif problem_type == "multi_label_classification":
            total = functional.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
        else:
            total = functional.mse_loss(logits[:, 0], labels, reduction="sum")
        return total / (labels.numel() if num_items_in_batch is None else num_items_in_batch)

    return compute


def kept_row(history: list[dict[str, float]], task: Task, keep: str) -> dict[str, float]:
    """Returns the row of the epoch that becomes the model: the last one, or the first of those with the best score."""
    if keep == "last":
        return history[-1]
    name = task.metrics[0]
    sign = 1.0 if METRICS[name].greater_is_better else -1.0
    return max(history, key=lambda row: sign * row[name])


def checkpoints(folder: Path) -> list[Path]:
    """Returns the whole checkpoints in a run's folder, oldest first."""
    return sorted(folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"), key=lambda path: int(path.name.rpartition("-")[2]))


def _lengths(dataset: Any) -> np.ndarray:
    return np.asarray(dataset.with_format("numpy")["length"][:])


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
