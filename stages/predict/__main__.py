"""predict: data/tokenized/, data/raw/task.json, models/finetuned/ -> data/predictions/."""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from datasets import Dataset
from pydantic import Field
from tqdm import tqdm
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from stages.predict.batches import PaddedRows, batches, lengths_of
from stages.predict.linear import pack_linear_layers
from stages.shared.attention import attend_step_by_step
from stages.shared.device import advise, pick_device
from stages.shared.execution import read_execution
from stages.shared.params import params_dataclass, read_params
from stages.shared.processes import barrier, connect, launch, rank, world_size
from stages.shared.publish import publish
from stages.shared.splits import load_splits
from stages.shared.stage import SCRATCH, alone, program
from stages.shared.task import read_task

TOKENIZED = Path("data/tokenized")
TASK = Path("data/raw/task.json")
FINETUNED = Path("models/finetuned")
PREDICTIONS = Path("data/predictions")


@params_dataclass
class PredictParams:
    precision: Literal["fp32", "bf16"]
    token_budget: Annotated[int, Field(ge=1)]  # tokens in a batch, padding included
    threads: Annotated[int, Field(ge=1)]  # of each process


def predict(
    p: PredictParams,
    device_name: str,
    tokenized_dir: Path,
    task_file: Path,
    finetuned_dir: Path,
    predictions_dir: Path,
    parts_dir: Path,
) -> None:
    """Writes `logits.npy`, float32[examples, columns], and `labels.npy` for every split but train, in its order.

    Several processes share the batches through `parts_dir`; which of them computes a batch changes no byte.
    """
    connect(world_size(), "predict")  # any number of them
    compute = Predictor(p, device_name, finetuned_dir)
    columns = read_task(task_file).columns
    splits = {name: split for name, split in load_splits(tokenized_dir).items() if name != "train"}
    shares = {name: deal(split, p.token_budget) for name, split in splits.items()}
    if rank() > 0:
        parts_dir.mkdir(parents=True, exist_ok=True)
        for name, split in splits.items():
            if own := shares[name][rank()]:
                part = open_logits(parts_dir / f"{name}.{rank()}.npy", sum(map(len, own)), columns)
                start = 0
                for rows, logits in compute(name, split, own):
                    part[start : start + len(rows)] = logits
                    start += len(rows)
                part.flush()
        barrier()
        return
    with publish(predictions_dir) as (predictions,):
        wholes = {}
        for name, split in splits.items():
            folder = predictions / name
            folder.mkdir(parents=True)
            np.save(folder / "labels.npy", label_array(split))
            wholes[name] = open_logits(folder / "logits.npy", len(split), columns)
            for rows, logits in compute(name, split, shares[name][0]):
                wholes[name][rows] = logits
        barrier()
        for name, whole in wholes.items():
            for number, share in enumerate(shares[name][1:], 1):
                if share:
                    whole[np.concatenate(share)] = np.load(parts_dir / f"{name}.{number}.npy", mmap_mode="r")
            whole.flush()
    shutil.rmtree(parts_dir, ignore_errors=True)


class Predictor:
    """The fine-tuned model on its device."""

    def __init__(self, p: PredictParams, device_name: str, finetuned_dir: Path) -> None:
        self.device = pick_device(device_name, p.threads)
        advise("predict", p.precision, self.device)
        self.tokenizer = AutoTokenizer.from_pretrained(finetuned_dir)
        disable_progress_bar()  # that for loading the weights
        model = AutoModelForSequenceClassification.from_pretrained(finetuned_dir, dtype=torch.float32)
        if self.device.type == "cpu" and p.precision == "bf16":
            attend_step_by_step(model)
            pack_linear_layers(model, p.token_budget)
        self.model = model.to(self.device).eval()
        self.autocast = torch.autocast(self.device.type, torch.bfloat16) if p.precision == "bf16" else nullcontext()

    def __call__(
        self, name: str, split: Dataset, batches: Sequence[np.ndarray]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields int64[batch] positions in the split and their logits, float32[batch, columns]."""
        inputs = PaddedRows(split, self.tokenizer)
        quiet = rank() > 0 or not sys.stderr.isatty()
        with tqdm(total=sum(map(len, batches)), desc=f"predict {name}", unit="example", disable=quiet) as progress:
            for rows in batches:
                yield rows, self._logits(inputs[rows])
                progress.update(len(rows))

    def _logits(self, batch: Mapping[str, torch.Tensor]) -> np.ndarray:
        with torch.inference_mode(), self.autocast:
            inputs = {name: values.to(self.device) for name, values in batch.items()}
            logits: np.ndarray = self.model(**inputs).logits.float().cpu().numpy()
            return logits


def label_array(split: Dataset) -> np.ndarray:
    """Returns int64[examples] for classes, float32[examples, ...] otherwise."""
    labels = np.asarray(split.with_format("numpy")["label"][:])
    return labels.astype(np.int64 if np.issubdtype(labels.dtype, np.integer) else np.float32)


def open_logits(file: Path, examples: int, columns: int) -> np.memmap[Any, Any]:
    """Makes a file for float32[examples, columns] that is filled batch by batch, not held in memory."""
    logits = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=(examples, columns))
    with file.open("r+b") as stream:  # writing to a mapped page for which there is no space would kill the process
        os.posix_fallocate(stream.fileno(), 0, file.stat().st_size)
    return logits


def deal(split: Dataset, token_budget: int) -> list[list[np.ndarray]]:
    """Deals the split's batches to the processes, one after the other: each has long ones and short ones."""
    dealt = list(batches(lengths_of(split), token_budget))
    return [dealt[number :: world_size()] for number in range(world_size())]


def main() -> None:
    execution = read_execution()
    if launch("predict", execution.predict_processes):
        return
    with alone("predict"):
        p = read_params("predict", PredictParams)
        predict(p, execution.device, TOKENIZED, TASK, FINETUNED, PREDICTIONS, SCRATCH / "predict")
    barrier()  # no process reports success before rank 0 has published


if __name__ == "__main__":
    with program("predict"):
        main()
