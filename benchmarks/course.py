"""The peer: the Hugging Face course's fine-tuning of MRPC, as everybody writes it.

    python -m benchmarks.course FOLDER CHECKPOINT SEED RESULT

`Trainer` with its default arguments (3 epochs, batches of 8 in random order, learning rate 5e-5 falling to 0, fp32),
dynamic padding, an evaluation each epoch, the last epoch's weights. The one addition is `set_seed` before the model:
without it the classification head is drawn unseeded and no run can be repeated.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from datasets import load_dataset
from sklearn.metrics import accuracy_score, f1_score
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)


def course(folder: Path, checkpoint: Path, seed: int) -> dict[str, float]:
    """Fine-tunes on `folder`'s train split and returns accuracy and F1 on its validation split."""
    files = {split: str(folder / f"{split}.parquet") for split in ("train", "validation")}
    with tempfile.TemporaryDirectory() as scratch:
        raw = load_dataset("parquet", data_files=files, cache_dir=scratch)
        tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        tokenized = raw.map(
            lambda batch: tokenizer(batch["sentence1"], batch["sentence2"], truncation=True), batched=True
        )
        set_seed(seed)
        model = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=2)
        trainer = Trainer(
            model,
            TrainingArguments(scratch, eval_strategy="epoch", seed=seed, save_strategy="no", disable_tqdm=True),
            train_dataset=tokenized["train"],
            eval_dataset=tokenized["validation"],
            data_collator=DataCollatorWithPadding(tokenizer),
            processing_class=tokenizer,
        )
        trainer.train()
        predicted = trainer.predict(tokenized["validation"])
    labels, classes = predicted.label_ids, np.argmax(predicted.predictions, axis=-1)
    return {"accuracy": float(accuracy_score(labels, classes)), "f1": float(f1_score(labels, classes))}


if __name__ == "__main__":
    Path(sys.argv[4]).write_text(json.dumps(course(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))))
