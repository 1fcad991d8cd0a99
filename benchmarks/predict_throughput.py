"""How many examples a second are predicted: the stage `predict` beside `Trainer.predict` with its default arguments.

    python -m benchmarks.predict_throughput [FOLDER] [--rounds 5]

FOLDER holds a corpus of pairs in GLUE's columns; without it, it is the bundled sample. Both predict the test split with
the same model (MiniLM with a head, untrained: it is the time that is asked for) and number of threads, in turns, each
in a process of its own (benchmarks/prediction_clock.py).
Writes benchmarks/results/predict_throughput.json, or predict_throughput_avx2.json where the processor has no bf16.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from benchmarks.clone import as_parquet, call, fresh_clone, repro
from benchmarks.hard_pairs import PAIRS
from benchmarks.machine import arithmetics, describe, result_file
from benchmarks.repeat import interleaved, spread

LABELS = {
    "trainer": "`Trainer.predict`",
    "fp32": "tunelock, fp32 with MKL (the earlier default)",
    "portable": "tunelock, params.yaml as committed",
    "native": "tunelock, native",
    "bf16": "tunelock, bf16",
}


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

        def program(name: str) -> Callable[[], float]:
            def run() -> float:
                done = Path(scratch) / "done.npz"
                command = [
                    sys.executable,
                    "-m",
                    "benchmarks.prediction_clock",
                    str(done),
                    str(model),
                    str(corpus),
                    name,
                ]
                call(command, clone, {"OMP_NUM_THREADS": str(predict["threads"])})
                with np.load(done) as found:
                    logits[name] = found["logits"]
                    return float(len(found["logits"]) / found["seconds"])

            return run

        rates = interleaved({name: program(name) for name in ("trainer", *arithmetics())}, rounds)
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
