"""predict: data/tokenized/, data/raw/task.json, models/finetuned/ -> data/predictions/."""

import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from datasets import Dataset
from pydantic import Field
from torch import nn
from tqdm import tqdm

from stages.predict.linear import PackedLinear, supported
from stages.shared.model.batches import PaddedRows, Pieces
from stages.shared.model.collectives import barrier, connect
from stages.shared.model.device import advise, explain_nondeterminism, pick_device
from stages.shared.model.launcher import ElasticLauncher
from stages.shared.model.loading import discrepancies, load_classifier, load_tokenizer
from stages.shared.model.speed_up import speed_up
from stages.shared.runtime.arithmetic import Arithmetic
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.execution import Execution
from stages.shared.runtime.params import params_dataclass
from stages.shared.runtime.publish import publish
from stages.shared.runtime.rank import rank, world_size
from stages.shared.runtime.run_stage import SCRATCH
from stages.shared.runtime.splits import WindowLogits, label_array, load_splits, read_window_logits
from stages.shared.task.cells import csv_line
from stages.shared.task.kept_columns import ID
from stages.shared.task.task import read_task

LAUNCHER = ElasticLauncher(lambda p, execution: execution.predict_processes)


@params_dataclass
class PredictParams:
    arithmetic: Arithmetic
    token_budget: Annotated[int, Field(ge=1)]  # tokens in a batch, padding included
    threads: Annotated[int, Field(ge=1)]  # of each process


@dataclass(frozen=True)
class PredictFiles:
    """What the stage reads, then what it writes."""

    tokenized: Path = Path("data/tokenized")
    task: Path = Path("data/raw/task.json")
    finetuned: Path = Path("models/finetuned")
    predictions: Path = Path("data/predictions")
    scratch: Path = SCRATCH / "predict"  # where several processes leave their parts, and windows their logits


def predict(p: PredictParams, execution: Execution, files: PredictFiles) -> None:
    """Writes `logits.npy`, float32[examples, columns], and `labels.npy` for every split but train, in its order.

    Where rows have ids, `ids.csv` has one for each row of the two.

    Several processes share the batches; which of them computes a batch changes no byte. Where texts are in windows, the
    batches are of windows, and the logits of an example are made of those of its windows at the end.

    Raises:
        BadInput: the model is not whole, or not the task's.
    """
    connect(world_size(), "predict")  # any number of them
    compute = Predictor(p, execution.device, files.finetuned)
    columns = read_task(files.task).columns
    if compute.model.config.num_labels != columns:
        raise BadInput(
            f"{files.finetuned}: gives {compute.model.config.num_labels} logits, but the task needs {columns}; run "
            "`dvc repro -f train`"
        )
    window_logits = read_window_logits(files.tokenized)
    splits = {name: split for name, split in load_splits(files.tokenized).items() if name != "train"}
    pieces = {name: Pieces(split) for name, split in splits.items()}
    shares = {name: deal(one, p.token_budget) for name, one in pieces.items()}
    if rank() > 0:
        files.scratch.mkdir(parents=True, exist_ok=True)
        for name, split in splits.items():
            if own := shares[name][rank()]:
                part = open_logits(files.scratch / f"{name}.{rank()}.npy", sum(map(len, own)), columns)
                start = 0
                for rows, logits in compute(split, own):
                    part[start : start + len(rows)] = logits
                    start += len(rows)
                part.flush()
        barrier()
        return
    with publish(files.predictions) as (predictions,):
        wholes = {}
        for name, split in splits.items():
            folder = predictions / name
            folder.mkdir(parents=True)
            np.save(folder / "labels.npy", label_array(split))
            if ID in split.column_names:
                write_ids(folder / "ids.csv", split[ID])
            wholes[name] = open_logits(logits_file(files, folder, window_logits), len(pieces[name]), columns)
            unit = "window" if pieces[name].in_windows else "example"
            with progress(f"predict {name}", sum(map(len, shares[name][0])), unit) as bar:
                for rows, logits in compute(split, shares[name][0]):
                    wholes[name][rows] = logits
                    bar.update(len(rows))
        barrier()
        for name, whole in wholes.items():
            for number, share in enumerate(shares[name][1:], 1):
                if share:
                    whole[np.concatenate(share)] = np.load(files.scratch / f"{name}.{number}.npy", mmap_mode="r")
            whole.flush()
            if window_logits is not None:
                logits = open_logits(predictions / name / "logits.npy", len(splits[name]), columns)
                start = 0
                for rows in pieces[name].of_rows(whole, window_logits):
                    logits[start : start + len(rows)] = rows
                    start += len(rows)
                logits.flush()
    shutil.rmtree(files.scratch, ignore_errors=True)


class Predictor:
    """The fine-tuned model on its device."""

    def __init__(self, p: PredictParams, device_name: str, finetuned_dir: Path) -> None:
        """Loads it.

        Raises:
            BadInput: a tensor is missing, too many or of another shape.
        """
        self.device = pick_device(device_name, p.threads)
        advise("predict", p.arithmetic, self.device)
        self.tokenizer = load_tokenizer(finetuned_dir)
        model, accounts = load_classifier(finetuned_dir)
        words = discrepancies(accounts)
        if words:
            raise BadInput(
                f"{finetuned_dir}: changed since train wrote it: {'; '.join(words)}; run `dvc repro -f train`"
            )
        dtype = torch.bfloat16 if p.arithmetic == "bf16" else torch.float32
        if self.device.type == "cpu":
            pack = partial(PackedLinear, tokens=p.token_budget, dtype=dtype)
            speed_up(model, {nn.Linear: pack} if supported(dtype) else {})
        self.model = model.to(self.device).eval()
        self.autocast = torch.autocast(self.device.type, torch.bfloat16) if p.arithmetic == "bf16" else nullcontext()

    def __call__(self, split: Dataset, batches: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields int64[batch] positions in the split, of rows or windows, and their logits, float32[batch, columns]."""
        inputs = PaddedRows(split, self.tokenizer)
        for rows in batches:
            yield rows, self.forward(inputs[rows])

    def forward(self, batch: Mapping[str, torch.Tensor]) -> np.ndarray:
        """Returns float32[batch, columns] for int64[batch, tokens] of each input."""
        with torch.inference_mode(), self.autocast, explain_nondeterminism():
            inputs = {name: values.to(self.device) for name, values in batch.items()}
            logits: np.ndarray = self.model(**inputs).logits.float().cpu().numpy()
            return logits


def progress(words: str, total: int, unit: str) -> tqdm:
    """Makes a progress bar, for who watches a terminal."""
    return tqdm(total=total, desc=words, unit=unit, disable=not sys.stderr.isatty())


def write_ids(file: Path, ids: Iterable[str]) -> None:
    """Writes the ids of a split's rows, in the order of its logits."""
    with file.open("w", encoding="utf-8", newline="") as stream:
        stream.write(csv_line([ID]))
        stream.writelines(csv_line([one]) for one in ids)


def logits_file(files: PredictFiles, folder: Path, window_logits: WindowLogits | None) -> Path:
    """Returns where the logits of a split's batches go: into the split's folder, those of windows beside."""
    if window_logits is None:
        return folder / "logits.npy"
    files.scratch.mkdir(parents=True, exist_ok=True)
    return files.scratch / f"{folder.name}.windows.npy"


def open_logits(file: Path, examples: int, columns: int) -> np.memmap[Any, Any]:
    """Makes a file for float32[examples, columns] that is filled batch by batch, not held in memory."""
    logits = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=(examples, columns))
    with file.open("r+b") as stream:  # writing to a mapped page for which there is no space would kill the process
        os.posix_fallocate(stream.fileno(), 0, file.stat().st_size)
    return logits


def deal(pieces: Pieces, token_budget: int) -> list[list[np.ndarray]]:
    """Deals a split's batches to the processes, one after the other: each has long ones and short ones."""
    dealt = list(pieces.batches(token_budget))
    return [dealt[number :: world_size()] for number in range(world_size())]
