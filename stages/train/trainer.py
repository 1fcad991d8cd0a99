"""The `Trainer` of transformers, made exact: batches by (seed, epoch), averaged accumulation, whole checkpoints."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler
from transformers import EvalPrediction, PrinterCallback, Trainer

from stages.shared.model.batches import lengths_of
from stages.shared.model.collectives import barrier, gather
from stages.shared.model.device import explain_nondeterminism
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.publish import remove, write_json
from stages.shared.runtime.rank import rank, world_size
from stages.shared.runtime.splits import label_array
from stages.shared.task.metrics import METRICS
from stages.shared.task.task import Task
from stages.train.callbacks import Epochs, Live, Timer
from stages.train.checkpoints import (
    EPOCHS,
    HISTORY,
    PARTIAL,
    WEIGHTS,
    Rows,
    checkpoint_of,
    put_in_place,
    read_history,
)
from stages.train.dropout import StepDropout
from stages.train.objective import Objective, strata
from stages.train.order import BalancedSampler, EpochSampler, LengthSampler, StepBatches, WeightedRows
from stages.train.weights import load_weights, save_weights

Sampling = Literal["random", "group_by_length", "balanced"]


class ResumableTrainer(Trainer):
    """A `Trainer` whose run does not depend on when it was interrupted.

    `history` holds a row an epoch: `epoch`, `step`, `learning_rate`, `train_loss` (mean over the epoch's steps), then
    the validation split's metrics and `loss`. `epochs` holds what each epoch predicted there, in the split's order and
    in the smallest type (see `compact`): what choosing the best of them was worth can be computed from that alone.
    """

    def __init__(
        self,
        *,
        task: Task,
        objective: Objective,
        sampling: Sampling,
        patience: int | None,
        minutes: float,
        live_file: Path,
        dropout: StepDropout | None,
        **arguments: Any,
    ) -> None:
        self.task, self.objective = task, objective
        self.dropout = dropout
        self.turn = 0  # forward passes of the step so far
        self.patience = patience
        self.history: Rows = []
        self.epochs: list[np.ndarray] = []
        self.loss_sum = torch.zeros((), dtype=torch.float64)
        self.loss_steps = 0
        super().__init__(compute_metrics=self._compute_metrics, **arguments)
        # compute_loss has it already: the weights in a step add up to 1. The model's own loss would be summed.
        self.loss_is_scaled_for_ga = True
        self.model_accepts_loss_kwargs = False
        self.order = self._order(sampling)
        self.remove_callback(PrinterCallback)
        self.add_callback(Epochs(self))
        self.add_callback(Timer(minutes))
        if rank() == 0:
            self.add_callback(Live(self, live_file))

    # Data order

    def _order(self, sampling: Sampling) -> EpochSampler:
        share_of_step = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        batch_size, seed = share_of_step * world_size(), self.args.seed
        if sampling == "balanced":
            return BalancedSampler(strata(self.task, label_array(self.train_dataset)), batch_size, seed)
        lengths = lengths_of(self.train_dataset) if sampling == "group_by_length" else None
        return EpochSampler(len(self.train_dataset), batch_size, seed, lengths)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Not prepared by accelerate, which would deal out whole batches and repeat examples to fill the last one."""
        return DataLoader(
            WeightedRows(self._remove_unused_columns(self.train_dataset, "training")),
            batch_sampler=StepBatches(self.order, self.args.per_device_train_batch_size, rank(), world_size()),
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def _get_eval_sampler(self, eval_dataset: Any) -> Sampler[int]:
        return LengthSampler(lengths_of(self.eval_dataset))

    # Loss and metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Prints nothing: the line after each epoch says it, and `history` keeps it."""

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool = False, **_: Any
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """Returns this process's part of the step's mean loss; in an evaluation, the batch's mean."""
        labels, weight = inputs.pop("labels"), inputs.pop("weight", None)
        outputs = model(**inputs)
        logits = outputs["logits"].float()
        if weight is None:
            loss = Objective(self.task.problem).losses(logits, labels).mean()
        else:
            # DDP takes the mean of the processes' gradients, where the sum is wanted
            loss = (self.objective.losses(logits, labels) * weight).sum() * world_size()
        # Only the logits: of an encoder-decoder or a decoder, `Trainer` would gather hidden states and caches, too.
        return (loss, {"logits": outputs["logits"]}) if return_outputs else loss

    def training_step(
        self, model: Any, inputs: dict[str, torch.Tensor], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        if self.dropout is not None:
            self.dropout.start(self.state.global_step, self.turn, rank())
        self.turn += 1
        with explain_nondeterminism():
            loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        self.loss_sum = self.loss_sum.to(loss.device) + loss / world_size()
        return loss

    def _compute_metrics(self, predicted: EvalPrediction) -> dict[str, float]:
        logits = np.asarray(predicted.predictions)
        if not np.isfinite(logits).all():
            raise BadInput(
                f"the training diverged in epoch {len(self.history) + 1} (non-finite logits); lower "
                "train.learning_rate or add train.warmup_steps"
            )
        # Imported when the first epoch has ended: a training that cannot start says so two seconds earlier.
        from stages.shared.task.scorer import score

        labels = np.asarray(predicted.label_ids)
        self.scores = score(self.task, logits, labels)
        predictions = compact(self.task, self.task.problem.predict(logits))
        # They came from the longest example to the shortest.
        in_order = np.empty_like(predictions)
        in_order[LengthSampler(lengths_of(self.eval_dataset)).order] = predictions
        self.epochs.append(in_order)
        return {}

    # Checkpoints

    def _get_output_dir(self, trial: Any) -> str:
        return str(Path(self.args.output_dir) / PARTIAL)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Writes a checkpoint aside and renames it once it is whole and on the disk; a kill leaves none that is not."""
        run = Path(self.args.output_dir)
        partial = run / PARTIAL
        if rank() == 0:
            remove(partial)
        barrier()
        super()._save_checkpoint(model, trial)  # of rank 0 everything, of the others the random numbers' state
        loss_sums = gather(self.loss_sum.item())
        if rank() == 0:
            written = checkpoint_of(partial, self.state.global_step)
            write_json(written / HISTORY, {"rows": self.history, "loss_sums": loss_sums, "loss_steps": self.loss_steps})
            np.save(written / EPOCHS, np.stack(self.epochs) if self.epochs else np.zeros((0, 0)))
            best = int(kept_row(self.history, self.task, "best")["step"]) if self.history else None
            put_in_place(written, run, best)
        barrier()

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        """Writes the weights alone: what else the model is made of is in the recipe."""
        if self.args.should_save:
            assert output_dir is not None
            folder = Path(output_dir)
            folder.mkdir(parents=True, exist_ok=True)
            save_weights(self.model, folder / WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Restores every tensor; Trainer's own leaves out those that it does not find under their names."""
        load_weights(self.model, Path(resume_from_checkpoint) / WEIGHTS)

    def resume(self, checkpoint: Path | None) -> None:
        """Trains from `checkpoint`, or from the start; a run that had ended there is not trained further."""
        if checkpoint is not None:
            so_far = read_history(checkpoint)
            self.history, self.loss_steps = so_far["rows"], so_far["loss_steps"]
            self.epochs = list(np.load(checkpoint / EPOCHS))
            self.loss_sum = torch.tensor(so_far["loss_sums"][rank()], dtype=torch.float64)
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


def compact(task: Task, predictions: np.ndarray) -> np.ndarray:
    """Returns predictions as whole numbers of as few bytes as the labels need; numbers stay float32."""
    if task.problem.numeric:
        return predictions.astype(np.float32)
    return predictions.astype(np.min_scalar_type(max(task.columns - 1, 1) if task.problem.exclusive else 1))


def kept_row(history: Rows, task: Task, keep: str) -> dict[str, float]:
    """Returns the row of the epoch that becomes the model: the last one, or the first of those with the best score."""
    if keep == "last":
        return history[-1]
    name = task.metrics[0]
    sign = 1.0 if METRICS[name].greater_is_better else -1.0
    return max(history, key=lambda row: sign * row[name])
