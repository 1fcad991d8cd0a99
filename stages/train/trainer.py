"""The `Trainer` of transformers, made exact: batches by (seed, epoch), averaged accumulation, whole checkpoints."""

import json
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm.auto import tqdm
from transformers import EvalPrediction, PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from stages.shared.model.collectives import barrier, broadcast, gather
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.publish import write_json
from stages.shared.runtime.rank import rank, world_size
from stages.shared.task.scoring import METRICS, score
from stages.shared.task.task import Task
from stages.train.dropout import StepDropout

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


Slot = tuple[int, float]  # a row, and the weight of its loss in the step: 0 for one that only fills a place


class StepBatches(Sampler[list[Slot]]):
    """Deals each step's examples to the processes, `device_batch_size` at a time.

    A step's examples are the same, in the same order, for any number of processes. Where they do not suffice, at the
    end of an epoch, a process computes on an example of weight 0: each takes part in every exchange of gradients, and
    no example counts twice.
    """

    def __init__(self, order: EpochSampler, device_batch_size: int, rank: int, processes: int) -> None:
        self.order, self.device_batch_size, self.rank, self.processes = order, device_batch_size, rank, processes

    def __len__(self) -> int:
        whole, rest = divmod(len(self.order), self.order.batch_size)
        return whole * self._turns(self.order.batch_size) + self._turns(rest)

    def __iter__(self) -> Iterator[list[Slot]]:
        rows = list(self.order)
        for start in range(0, len(rows), self.order.batch_size):
            step = rows[start : start + self.order.batch_size]
            for turn in range(self._turns(len(step))):
                first = (turn * self.processes + self.rank) * self.device_batch_size
                own = step[first : first + self.device_batch_size]
                yield [(row, 1.0 / len(step)) for row in own] or [(step[-1], 0.0)]

    def _turns(self, examples: int) -> int:
        return math.ceil(examples / (self.device_batch_size * self.processes))


class WeightedRows(Dataset[dict[str, Any]]):
    """The rows of a split, each with the weight that its slot gives it."""

    def __init__(self, split: Any) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitems__(self, slots: list[Slot]) -> list[dict[str, Any]]:
        rows = self.split.__getitems__([row for row, _ in slots])
        return [row | {"weight": weight} for row, (_, weight) in zip(rows, slots, strict=True)]


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
        dropout: StepDropout | None,
        **arguments: Any,
    ) -> None:
        self.task = task
        self.dropout = dropout
        self.turn = 0  # forward passes of the step so far
        self.patience = patience
        self.history: list[dict[str, float]] = []
        self.loss_sum = torch.zeros((), dtype=torch.float64)
        self.loss_steps = 0
        super().__init__(compute_metrics=self._compute_metrics, **arguments)
        # compute_loss has it already: the weights in a step add up to 1. The model's own loss would be summed.
        self.loss_is_scaled_for_ga = True
        self.model_accepts_loss_kwargs = False
        lengths = _lengths(self.train_dataset) if group_by_length else None
        share_of_step = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        self.order = EpochSampler(len(self.train_dataset), share_of_step * world_size(), self.args.seed, lengths)
        self.remove_callback(PrinterCallback)
        self.add_callback(_Epochs(self))
        self.add_callback(_Timer(minutes))
        if rank() == 0:
            self.add_callback(_Live(self, live_file))

    # Data order

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Not prepared by accelerate, which would deal out whole batches and repeat examples to fill the last one."""
        return DataLoader(
            WeightedRows(self._remove_unused_columns(self.train_dataset, "training")),
            batch_sampler=StepBatches(self.order, self.args.per_device_train_batch_size, rank(), world_size()),
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def _get_eval_sampler(self, eval_dataset: Any) -> Sampler[int]:
        return LengthSampler(_lengths(self.eval_dataset))

    # Loss and metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Prints nothing: the line after each epoch says it, and `history` keeps it."""

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool = False, **_: Any
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """Returns this process's part of the step's mean loss; in an evaluation, the batch's mean."""
        labels, weight = inputs.pop("labels"), inputs.pop("weight", None)
        outputs = model(**inputs)
        losses = example_losses(self.task.problem_type, outputs["logits"].float(), labels)
        # DDP takes the mean of the processes' gradients, where the sum is wanted
        loss = losses.mean() if weight is None else (losses * weight).sum() * world_size()
        return (loss, outputs) if return_outputs else loss

    def training_step(
        self, model: Any, inputs: dict[str, torch.Tensor], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        if self.dropout is not None:
            self.dropout.start(self.state.global_step, self.turn, rank())
        self.turn += 1
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        self.loss_sum = self.loss_sum.to(loss.device) + loss / world_size()
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
        if rank() == 0:
            shutil.rmtree(partial, ignore_errors=True)
        barrier()
        super()._save_checkpoint(model, trial)  # of rank 0 everything, of the others the random numbers' state
        loss_sums = gather(self.loss_sum.item())
        if rank() == 0:
            written = partial / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            write_json(written / HISTORY, {"rows": self.history, "loss_sums": loss_sums, "loss_steps": self.loss_steps})
            self._put_in_place(written, folder / written.name)
        barrier()

    def _put_in_place(self, written: Path, final: Path) -> None:
        folder, partial = final.parent, written.parent
        for file in written.iterdir():
            _flush(file)
        _flush(written)
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
            self.loss_sum = torch.tensor(kept["loss_sums"][rank()], dtype=torch.float64)
            if self.exhausted():
                return
        elif rank() > 0:
            # else every process drops the same units
            torch.manual_seed(int(np.random.SeedSequence([self.args.seed, rank()]).generate_state(1)[0]))
        self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)

    def exhausted(self) -> bool:
        """Says whether the best score is so old that the training is to stop."""
        if self.patience is None or not self.history:
            return False
        return len(self.history) - kept_row(self.history, self.task, "best")["epoch"] >= self.patience


class _Epochs(TrainerCallback):
    """Tells the sampler the epoch, adds the history's row after it, says it in a line, and stops without patience."""

    def __init__(self, trainer: ExactTrainer) -> None:
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


class _Timer(TrainerCallback):
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
                # of several processes, what this one's share of the examples says
                loss = (total - self.total) * world_size() / (steps - self.steps)
                stream.write(f"{state.global_step},{loss:.6f}\n")
            self.total, self.steps = total, steps


def example_losses(problem_type: str, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Returns the loss of each example, float32[examples]: cross-entropy, its mean over the classes, or squared error.

    Args:
        logits: float32[examples, columns].
        labels: int64[examples], float32[examples, columns] of 0 and 1, or float32[examples].
    """
    if problem_type == "single_label_classification":
        return functional.cross_entropy(logits, labels, reduction="none")
    if problem_type == "multi_label_classification":
        return functional.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(dim=1)
    return functional.mse_loss(logits[:, 0], labels, reduction="none")


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
