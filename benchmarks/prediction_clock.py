"""Predicts a split with `Trainer.predict` or the stage `predict`, and says how long that took.

    python -m benchmarks.prediction_clock RESULT MODEL CORPUS trainer|portable|native|bf16

A program of its own, which imports nothing before it knows what it is: a stage seals the environment for its arithmetic
before anybody imports torch, and a peer is to run as its users start it, unsealed. RESULT is an .npz with `seconds` and
`logits`, float32[rows, labels]. The clock runs from tokenized rows to logits, after a few rows to warm up.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SPLIT = "test"
WARM_UP = 64  # rows


def by_trainer(model: Path, corpus: Path) -> tuple[float, np.ndarray]:
    """Predicts as everybody does, and returns seconds and logits."""
    from datasets import load_dataset
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

    tokenizer = AutoTokenizer.from_pretrained(model)
    with tempfile.TemporaryDirectory() as scratch:
        raw = load_dataset("parquet", data_files={SPLIT: f"{corpus}/{SPLIT}.parquet"}, cache_dir=scratch)[SPLIT]
        rows = raw.map(
            lambda batch: tokenizer(batch["sentence1"], batch["sentence2"], truncation=True, max_length=128),
            batched=True,
        )
        trainer = Trainer(
            AutoModelForSequenceClassification.from_pretrained(model),
            TrainingArguments(scratch, disable_tqdm=True),
            processing_class=tokenizer,
        )
        trainer.predict(rows.select(range(WARM_UP)))
        start = time.perf_counter()
        logits = trainer.predict(rows).predictions
        return time.perf_counter() - start, logits


def by_stage(model: Path, arithmetic: str) -> tuple[float, np.ndarray]:
    """Predicts with the stage's own code, and returns seconds and logits."""
    from stages.shared.runtime.arithmetic import prepare_for  # seals the environment

    prepare_for(arithmetic)
    from stages.predict.predict import PredictFiles, Predictor, PredictParams, deal
    from stages.shared.model.batches import Pieces
    from stages.shared.runtime.params import read_params
    from stages.shared.runtime.splits import load_splits

    p = read_params("predict", PredictParams)
    compute = Predictor(PredictParams(arithmetic, p.token_budget, p.threads), "auto", model)  # type: ignore[arg-type]
    split = load_splits(PredictFiles.tokenized)[SPLIT]
    list(compute(split, [np.arange(WARM_UP)]))
    start = time.perf_counter()
    logits = np.empty((len(split), 2), dtype=np.float32)
    for rows, found in compute(split, deal(Pieces(split), p.token_budget)[0]):
        logits[rows] = found
    return time.perf_counter() - start, logits


if __name__ == "__main__":
    result, model, corpus, name = sys.argv[1:]
    seconds, logits = by_trainer(Path(model), Path(corpus)) if name == "trainer" else by_stage(Path(model), name)
    np.savez(result, seconds=seconds, logits=logits)
