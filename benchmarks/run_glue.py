"""The other peer: fine-tuning as `run_glue.py` of transformers' examples does it with its defaults.

    python -m benchmarks.run_glue FOLDER CHECKPOINT SEED RESULT

`max_seq_length` is 128 and `pad_to_max_length` true: every pair is padded to 128 tokens when it is tokenized. The rest
is `Trainer` with its default arguments, 3 epochs, and the evaluation of the last epoch's weights.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from datasets import load_dataset
from sklearn.metrics import accuracy_score, f1_score
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    EvalPrediction,
    Trainer,
    TrainingArguments,
    default_data_collator,
    set_seed,
)


def run_glue(folder: Path, checkpoint: Path, seed: int) -> dict[str, Any]:
    """Fine-tunes on `folder`'s train split and returns accuracy and F1 on its validation split."""
    set_seed(seed)
    with tempfile.TemporaryDirectory() as scratch:
        files = {split: str(folder / f"{split}.parquet") for split in ("train", "validation")}
        raw = load_dataset("parquet", data_files=files, cache_dir=scratch)
        tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        model = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=2)

        def preprocess(examples: dict[str, list[str]]) -> Any:
            pairs = (examples["sentence1"], examples["sentence2"])
            return tokenizer(*pairs, padding="max_length", max_length=128, truncation=True)

        padded = raw.map(preprocess, batched=True)
        trainer = Trainer(
            model,
            TrainingArguments(scratch, seed=seed, save_strategy="no", disable_tqdm=True),
            train_dataset=padded["train"],
            eval_dataset=padded["validation"],
            compute_metrics=metrics,
            data_collator=default_data_collator,
            processing_class=tokenizer,
        )
        trainer.train()
        scores = trainer.evaluate()
    return {name: scores[f"eval_{name}"] for name in ("accuracy", "f1")}


def metrics(predicted: EvalPrediction) -> dict[str, float]:
    """Scores the classes with the largest logits."""
    labels, classes = predicted.label_ids, predicted.predictions.argmax(axis=-1)
    return {"accuracy": float(accuracy_score(labels, classes)), "f1": float(f1_score(labels, classes))}


if __name__ == "__main__":
    Path(sys.argv[4]).write_text(json.dumps(run_glue(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))))
