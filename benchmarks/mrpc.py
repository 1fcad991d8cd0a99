"""MRPC for real: this pipeline beside the course's script, same checkpoint, same seeds.

    python -m benchmarks.mrpc FOLDER [--seeds 1 2 3]

FOLDER holds train, validation and test as parquet, in GLUE's columns. The pipeline runs in a scratch clone of HEAD
with the committed params.yaml, but for the data, the seed, 3 epochs as the course, and `keep: last`: the course keeps
the last epoch, and choosing the best one on the split that is reported would flatter. Writes
benchmarks/results/mrpc.json, figures only. An interrupted benchmark goes on where it was.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from benchmarks.machine import describe

ROOT = Path(__file__).parents[1]
SCRATCH = ROOT / ".scratch" / "benchmarks" / "mrpc"
RESULT = ROOT / "benchmarks" / "results" / "mrpc.json"
OVERRIDES = {"epochs": 3, "keep": "last"}
METRICS = ("accuracy", "f1")


def main(folder: Path, seeds: list[int]) -> None:
    """Runs what has not been run yet, prints the table and writes the result file."""
    clone = fresh_clone()
    runs = []
    for seed in seeds:
        for recipe in ("tunelock", "course"):
            done = SCRATCH / f"{run_key(recipe, folder)}-{recipe}-{seed}.json"
            if not done.exists():
                print(f"{recipe}, seed {seed} ...", flush=True)
                if recipe == "tunelock":
                    run_pipeline(clone, folder, seed, done)
                else:
                    run_course(clone, folder, seed, done)
            runs.append({"recipe": recipe, "seed": seed, **json.loads(done.read_text())})
    result = {
        **describe(),
        "recipe": committed_recipe(clone),
        "runs": runs,
        "mean": {recipe: mean(runs, recipe) for recipe in ("tunelock", "course")},
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))


def fresh_clone() -> Path:
    """Clones HEAD; what earlier runs cached there stays."""
    SCRATCH.mkdir(parents=True, exist_ok=True)
    clone = SCRATCH / "clone"
    if not clone.exists():
        call(["git", "clone", "--quiet", str(ROOT), str(clone)], SCRATCH)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True)
    call(["git", "fetch", "--quiet", "origin"], clone)
    call(["git", "reset", "--quiet", "--hard", head.stdout.strip()], clone)
    return clone


def run_key(recipe: str, folder: Path) -> str:
    """Hashes what a finished run depends on: a changed stage, recipe or corpus is measured anew."""
    if recipe == "tunelock":
        parts = ["HEAD:stages", "HEAD:params.yaml", "HEAD:requirements.txt"]
    else:
        parts = ["HEAD:benchmarks/course.py", "HEAD:requirements.txt"]
    trees = subprocess.run(["git", "rev-parse", *parts], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    digest = hashlib.sha256((trees + repr(OVERRIDES)).encode())
    for split in ("train", "validation"):
        digest.update((folder / f"{split}.parquet").read_bytes())
    return digest.hexdigest()[:12]


def run_pipeline(clone: Path, folder: Path, seed: int, done: Path) -> None:
    """Runs `dvc repro` in the clone on `folder`, and copies the validation split's metrics."""
    yaml = YAML()
    params = yaml.load(clone / "params.yaml")
    params["download"]["dataset_files"] = str(folder.resolve())
    params["train"].update(OVERRIDES | {"seed": seed})
    yaml.dump(params, clone / "params.yaml")
    call([sys.executable, "-m", "dvc", "repro"], clone)
    metrics = json.loads((clone / "metrics" / "metrics.json").read_text())["validation"]
    done.write_text(json.dumps({name: metrics[name] for name in METRICS}))


def run_course(clone: Path, folder: Path, seed: int, done: Path) -> None:
    """Runs the course's script on `folder`, from the checkpoint that the pipeline downloaded."""
    checkpoint = str(clone / "models" / "pretrained")
    call([sys.executable, "-m", "benchmarks.course", str(folder.resolve()), checkpoint, str(seed), str(done)], ROOT)


def committed_recipe(clone: Path) -> dict[str, Any]:
    """Returns the train section that was run, seeds aside."""
    params = YAML(typ="safe", pure=True).load(ROOT / "params.yaml")["train"] | OVERRIDES
    return {key: value for key, value in params.items() if key != "seed"}


def mean(runs: list[dict[str, Any]], recipe: str) -> dict[str, float]:
    """Averages a recipe's seeds, and gives their standard deviation."""
    values = {name: [run[name] for run in runs if run["recipe"] == recipe] for name in METRICS}
    figures = {name: statistics.mean(found) for name, found in values.items()}
    if all(len(found) > 1 for found in values.values()):
        figures |= {f"{name}_deviation": statistics.stdev(found) for name, found in values.items()}
    return figures


def table(result: dict[str, Any]) -> str:
    """Formats the README's table; tests/test_readme.py holds the README to it."""
    seeds = sorted({run["seed"] for run in result["runs"]})
    lines = [
        f"| MRPC validation, 408 pairs | {' | '.join(f'seed {seed}' for seed in seeds)} | mean |",
        f"| --- |{' --- |' * (len(seeds) + 1)}",
    ]
    for recipe, label in (("course", "the course's script"), ("tunelock", "tunelock")):
        cells = [
            " / ".join(f"{run[name]:.3f}" for name in METRICS)
            for seed in seeds
            for run in result["runs"]
            if run["recipe"] == recipe and run["seed"] == seed
        ]
        average = " / ".join(f"{result['mean'][recipe][name]:.3f}" for name in METRICS)
        lines.append(f"| {label} (accuracy / F1) | {' | '.join(cells)} | {average} |")
    return "\n".join(lines)


def call(command: list[str], folder: Path) -> None:
    """Runs a command with this interpreter's programs first on PATH; ends the benchmark if it fails."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(command, cwd=folder, check=True, env=os.environ | {"PATH": path})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    chosen = parser.parse_args()
    main(chosen.folder, chosen.seeds)
