"""How far several processes are from one: the same recipe without dropout, in one, two and three.

    python -m benchmarks.processes

Trains MiniLM-L6 on data/hard for one epoch in a scratch clone of HEAD, and compares weights and logits with those of
one process. Writes benchmarks/results/processes.json; docs/several_machines.md quotes it.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from benchmarks.clone import ROOT, fresh_clone, repro
from benchmarks.hard_pairs import HARD_PAIRS
from benchmarks.machine import describe
from checks.artifacts import Tolerance, compare_files

RESULT = ROOT / "benchmarks" / "results" / "processes.json"
WEIGHTS = "models/finetuned/model.safetensors"
LOGITS = "data/predictions/validation/logits.npy"
RECIPE: dict[str, dict[str, Any]] = {
    "download": HARD_PAIRS | {"checkpoint": "files", "checkpoint_files": "models/no_dropout"},
    "train": {"epochs": 1, "batch_size": 24, "device_batch_size": 24, "threads": 1},
    "predict": {"threads": 1},
}
PROCESSES = (1, 2, 3)


def main() -> None:
    """Runs every number of processes, prints the table and writes the result file."""
    clone = fresh_clone("processes")
    repro(clone, {"train": {"epochs": 1}})  # brings the default checkpoint
    without_dropout(clone / "models" / "pretrained", clone / "models" / "no_dropout")
    reference = clone.parent / "reference"
    rows = {}
    for processes in PROCESSES:
        print(f"{processes} processes ...", flush=True)
        repro(clone, RECIPE | {"train": RECIPE["train"] | {"processes": processes}})
        if processes == 1:
            for name in (WEIGHTS, LOGITS):
                (reference / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(clone / name, reference / name)
        else:
            rows[str(processes)] = {
                "weights": compare_files(WEIGHTS, reference / WEIGHTS, clone / WEIGHTS, Tolerance()).figures,
                "logits": compare_files(LOGITS, reference / LOGITS, clone / LOGITS, Tolerance()).figures,
            }
    result = {**describe(), "differences": rows}
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))


def without_dropout(pretrained: Path, target: Path) -> None:
    """Copies a checkpoint, with dropout switched off in its config."""
    shutil.copytree(pretrained, target, dirs_exist_ok=True)
    file = target / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    file.write_text(json.dumps(config, indent=2), encoding="utf-8")


def table(result: dict[str, Any]) -> str:
    """Formats the document's table; tests/test_readme.py holds the document to it."""
    lines = [
        "| processes | weights: largest, mean | logits: largest, mean | predictions flipped |",
        "| --- | --- | --- | --- |",
    ]
    for processes, row in result["differences"].items():
        cells = [f"{found['largest']:.1e}, {found['mean']:.1e}" for found in (row["weights"], row["logits"])]
        flipped = f"{row['logits']['flipped']} of {row['logits']['of']}"
        lines.append(f"| {processes} instead of 1 | {cells[0]} | {cells[1]} | {flipped} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
