"""predict: data/tokenized/, data/raw/task.json, models/finetuned/ -> data/predictions/."""

import sys
from collections.abc import Iterator
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

from stages.shared.device import pick_device
from stages.shared.execution import read_execution
from stages.shared.params import params_dataclass, read_params
from stages.shared.publish import publish
from stages.shared.splits import load_splits
from stages.shared.stage import stage
from stages.shared.task import read_task

TOKENIZED = Path("data/tokenized")
TASK = Path("data/raw/task.json")
FINETUNED = Path("models/finetuned")
PREDICTIONS = Path("data/predictions")


@params_dataclass
class PredictParams:
    precision: Literal["fp32", "bf16"]
    token_budget: Annotated[int, Field(ge=1)]  # tokens in a batch, padding included
    threads: Annotated[int, Field(ge=1)]


def predict(
    p: PredictParams, device_name: str, tokenized_dir: Path, task_file: Path, finetuned_dir: Path, predictions_dir: Path
) -> None:
    """Writes `logits.npy`, float32[examples, columns], and `labels.npy` for every split but train, in its order."""
    device = pick_device(device_name, p.threads)
    columns = read_task(task_file).columns
    tokenizer = AutoTokenizer.from_pretrained(finetuned_dir)
    disable_progress_bar()  # that for loading the weights
    model = AutoModelForSequenceClassification.from_pretrained(finetuned_dir, dtype=torch.float32).to(device).eval()
    autocast = torch.autocast(device.type, torch.bfloat16) if p.precision == "bf16" else nullcontext()
    with publish(predictions_dir) as (predictions,), torch.inference_mode(), autocast:
        for name, split in load_splits(tokenized_dir).items():
            if name != "train":
                folder = predictions / name
                folder.mkdir(parents=True)
                np.save(folder / "labels.npy", label_array(split))
                logits = np.lib.format.open_memmap(
                    folder / "logits.npy", mode="w+", dtype=np.float32, shape=(len(split), columns)
                )
                predict_split(model, tokenizer, split, p.token_budget, device, name, logits)
                logits.flush()


def label_array(split: Dataset) -> np.ndarray:
    """Returns int64[examples] for classes, float32[examples, ...] otherwise."""
    labels = np.asarray(split.with_format("numpy")["label"][:])
    return labels.astype(np.int64 if np.issubdtype(labels.dtype, np.integer) else np.float32)


def predict_split(
    model: Any, tokenizer: Any, split: Dataset, token_budget: int, device: torch.device, name: str, logits: np.ndarray
) -> None:
    """Fills `logits`, float32[examples, columns], in the split's order; computes from the longest to the shortest."""
    lengths = np.asarray(split.with_format("numpy")["length"][:])
    inputs = split.select_columns([column for column in split.column_names if column in tokenizer.model_input_names])
    with tqdm(total=len(split), desc=f"predict {name}", unit="example", disable=not sys.stderr.isatty()) as progress:
        for rows in batches(lengths, token_budget):
            batch = tokenizer.pad(inputs[rows], return_tensors="pt").to(device)
            logits[rows] = model(**batch).logits.float().cpu().numpy()
            progress.update(len(rows))


def batches(lengths: np.ndarray, token_budget: int) -> Iterator[np.ndarray]:
    """Cuts the examples, longest first, into batches of at most `token_budget` tokens with their padding.

    Args:
        lengths: int32[examples], in tokens. An example longer than the budget makes a batch of its own.

    Yields:
        int64[batch] positions in the split.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, token_budget // int(lengths[order[start]]))
        yield order[start : start + size]
        start += size


if __name__ == "__main__":
    with stage("predict"):
        predict(read_params("predict", PredictParams), read_execution().device, TOKENIZED, TASK, FINETUNED, PREDICTIONS)
