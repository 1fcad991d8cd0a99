"""How many examples a second are predicted: the stage `predict` beside `Trainer.predict` with its default arguments.

    python -m benchmarks.predict_throughput [FOLDER] [--rounds 5]

FOLDER holds a corpus of pairs in GLUE's columns; without it, it is the bundled sample. Both predict the test split with
the same model (MiniLM with a head, untrained: it is the time that is asked for) and number of threads, in turns, each
in a process of its own. The clock runs from tokenized rows to logits in the rows' order, after a few rows to warm up.
Writes benchmarks/results/predict_throughput.json, or predict_throughput_avx2.json where the processor has no bf16.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from benchmarks.clone import as_parquet, call, fresh_clone, repro
from benchmarks.hard_pairs import PAIRS
from benchmarks.machine import arithmetics, describe, result_file
from benchmarks.repeat import interleaved, spread

SPLIT = "test"
WARM_UP = 64  # rows
LABELS = {
    "trainer": "`Trainer.predict`",
    "fp32": "tunelock, fp32 with MKL (the earlier default)",
    "portable": "tunelock, params.yaml as committed",
    "native": "tunelock, native",
    "bf16": "tunelock, bf16",
}


def by_trainer(model_dir: str, corpus: str, result: str) -> None:
    """Predicts as everybody does, and writes seconds and logits."""
    from datasets import load_dataset
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    with tempfile.TemporaryDirectory() as scratch:
        raw = load_dataset("parquet", data_files={SPLIT: f"{corpus}/{SPLIT}.parquet"}, cache_dir=scratch)[SPLIT]
        rows = raw.map(
            lambda batch: tokenizer(batch["sentence1"], batch["sentence2"], truncation=True, max_length=128),
            batched=True,
        )
        model = AutoModelForSequenceClassification.from_pretrained(model_dir)
        trainer = Trainer(model, TrainingArguments(scratch, disable_tqdm=True), processing_class=tokenizer)
        trainer.predict(rows.select(range(WARM_UP)))
        start = time.perf_counter()
        logits = trainer.predict(rows).predictions
        _write(result, time.perf_counter() - start, logits)


def by_stage(model_dir: str, arithmetic: str, result: str) -> None:
    """Predicts with the stage's own code, and writes seconds and logits."""
    from stages.shared.runtime.environment import go_native  # sets the environment, before anybody imports torch

    if arithmetic != "portable":
        go_native()
    from stages.predict.predict import PredictFiles, Predictor, PredictParams, deal
    from stages.shared.runtime.params import read_params
    from stages.shared.runtime.splits import load_splits

    p = read_params("predict", PredictParams)
    compute = Predictor(PredictParams(arithmetic, p.token_budget, p.threads), "auto", Path(model_dir))  # type: ignore[arg-type]
    split = load_splits(PredictFiles.tokenized)[SPLIT]
    list(compute(split, [np.arange(WARM_UP)]))
    start = time.perf_counter()
    logits = np.empty((len(split), 2), dtype=np.float32)
    for rows, found in compute(split, deal(split, p.token_budget)[0]):
        logits[rows] = found
    _write(result, time.perf_counter() - start, logits)


def _write(result: str, seconds: float, logits: np.ndarray) -> None:
    np.savez(result, seconds=seconds, logits=logits)


def main(folder: Path | None, rounds: int) -> None:
    """Measures, prints the table and writes the result file."""
    from transformers import AutoModelForSequenceClassification

    clone = fresh_clone("throughput")
    repro(clone, {"download": PAIRS | {"dataset_files": str(folder.resolve())}} if folder else {}, "tokenize")
    corpus, checkpoint = as_parquet(clone), clone / "models" / "pretrained"
    predict = YAML(typ="safe", pure=True).load(clone / "params.yaml")["predict"]
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "model"
        AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=2).save_pretrained(model)
        for file in checkpoint.glob("*token*"):
            (model / file.name).write_bytes(file.read_bytes())
        logits: dict[str, np.ndarray] = {}

        def program(name: str, function: str, *arguments: str) -> Callable[[], float]:
            def run() -> float:
                done = Path(scratch) / "done.npz"
                code = (
                    f"from benchmarks.predict_throughput import *; {function}(*{[str(model), *arguments, str(done)]})"
                )
                call([sys.executable, "-c", code], clone, {"OMP_NUM_THREADS": str(predict["threads"])})
                with np.load(done) as found:
                    logits[name] = found["logits"]
                    return float(len(found["logits"]) / found["seconds"])

            return run

        rates = interleaved(
            {
                "trainer": program("trainer", "by_trainer", str(corpus)),
                **{name: program(name, "by_stage", name) for name in arithmetics()},
            },
            rounds,
        )
    result = {
        **describe(),
        "corpus": folder.name if folder else "sample",
        "examples": len(logits["trainer"]),
        "recipe": predict,
        "examples_per_second": rates,
        "largest_difference": {
            name: float(np.abs(found - logits["trainer"]).max()) for name, found in logits.items() if name != "trainer"
        },
    }
    result_file("predict_throughput").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))


def table(result: dict[str, Any]) -> str:
    """Formats the figures; benchmarks/RESULTS.md shows them."""
    rates = {name: spread(values) for name, values in result["examples_per_second"].items()}
    lines = [
        f"| prediction, {result['examples']} pairs of {result['corpus']} | examples/s: median (min to max) | "
        "to `Trainer.predict` | largest difference of a logit |",
        "| --- | --- | --- | --- |",
    ]
    for name, values in rates.items():
        ratio = values["median"] / rates["trainer"]["median"]
        difference = f"{result['largest_difference'][name]:.1e}" if name != "trainer" else ""
        cells = f"{values['median']:.0f} ({values['min']:.0f} to {values['max']:.0f})"
        lines.append(f"| {LABELS[name]} | {cells} | {ratio:.2f} | {difference} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    main(chosen.folder, chosen.rounds)
