"""How far apart results are on other processors: one machine plays several, through the variables the stages refuse.

    python -m benchmarks.machines

Trains the default recipe for one epoch in a scratch clone of HEAD, then again as an older processor or with another
number of threads would, and compares weights and logits with the first. The variables are set behind the seal that
refuses them (stages/shared/hermetic.py), before torch is imported. Writes benchmarks/results/machines.json; the README
quotes it.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.clone import ROOT, fresh_clone, repro
from benchmarks.hard_pairs import HARD_PAIRS
from benchmarks.machine import describe
from checks.artifacts import Tolerance, compare_files

RESULT = ROOT / "benchmarks" / "results" / "machines.json"
WEIGHTS = "models/finetuned/model.safetensors"
LOGITS = "data/predictions/validation/logits.npy"

OLD = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
VARIANTS: dict[str, tuple[dict[str, str], int]] = {
    "the same machine": ({}, 2),
    "1 thread instead of 2": ({}, 1),
    "AVX2 in ATen": ({"ATEN_CPU_CAPABILITY": "avx2"}, 2),
    "AVX2 in oneDNN": ({"ONEDNN_MAX_CPU_ISA": "AVX2"}, 2),
    "AVX2 in MKL": ({"MKL_ENABLE_INSTRUCTIONS": "AVX2"}, 2),
    "AVX2 in all three": (OLD, 2),
}


def main() -> None:
    """Runs every variant, prints the table and writes the result file."""
    clone = fresh_clone("machines")
    recipe: dict[str, dict[str, Any]] = {
        "download": HARD_PAIRS,
        "train": {"epochs": 1, "threads": 2},
        "predict": {"threads": 2},
    }
    repro(clone, recipe)
    reference = clone.parent / "reference"
    for name in (WEIGHTS, LOGITS):
        (reference / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(clone / name, reference / name)
    rows = {}
    for variant, (variables, threads) in VARIANTS.items():
        print(f"{variant} ...", flush=True)
        set_threads(clone, threads)
        for stage in ("train", "predict"):
            run_stage(clone, stage, variables)
        rows[variant] = {
            "weights": compare_files(WEIGHTS, reference / WEIGHTS, clone / WEIGHTS, Tolerance()).figures,
            "logits": compare_files(LOGITS, reference / LOGITS, clone / LOGITS, Tolerance()).figures,
        }
    result = {**describe(), "epochs": 1, "differences": rows}
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))


def run_stage(clone: Path, stage: str, variables: dict[str, str]) -> None:
    """Runs one stage with `variables` set after the seal."""
    program = (
        f"import os, runpy, stages; os.environ.update({variables!r}); "
        f"runpy.run_module('stages.{stage}', run_name='__main__', alter_sys=True)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=clone, check=True, env=os.environ | {"PYTHONPATH": str(clone)})


def set_threads(clone: Path, threads: int) -> None:
    """Changes both thread counts in the clone's params.yaml."""
    file = clone / "params.yaml"
    lines = file.read_text(encoding="utf-8").splitlines()
    changed = [f"  threads: {threads}" if line.startswith("  threads: ") else line for line in lines]
    file.write_text("\n".join(changed) + "\n", encoding="utf-8")


def table(result: dict[str, Any]) -> str:
    """Formats the README's table; tests/test_readme.py holds the README to it."""
    lines = [
        "| what is other | weights: largest, mean | logits: largest, mean | predictions flipped |",
        "| --- | --- | --- | --- |",
    ]
    for variant, row in result["differences"].items():
        cells = [
            f"{found['largest']:.1e}, {found['mean']:.1e}" if found else "same bytes"
            for found in (row["weights"], row["logits"])
        ]
        logits = row["logits"]
        flipped = f"{logits['flipped']} of {logits['of']}" if logits else "none"
        lines.append(f"| {variant} | {cells[0]} | {cells[1]} | {flipped} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
