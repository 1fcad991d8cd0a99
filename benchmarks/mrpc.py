"""MRPC for real: this pipeline beside the course's script, same checkpoint and seeds; and whether speed costs quality.

    python -m benchmarks.mrpc FOLDER [--seeds 1 2 3]

FOLDER holds train, validation and test as parquet, in GLUE's columns. The pipeline runs in a scratch clone of HEAD
with the committed params.yaml, but for the data, the seed, 3 epochs as the course, and `keep: last`: the course keeps
the last epoch, and choosing the best one on the split that is reported would flatter. bf16 and batches by length, which
make a training faster, are run with and without; what mixes the two, with the first seed alone. Writes
benchmarks/results/mrpc.json, figures only. An interrupted benchmark goes on where it was.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from benchmarks.clone import ROOT, SCRATCH, call, fresh_clone, repro, run_key
from benchmarks.machine import describe

RESULT = ROOT / "benchmarks" / "results" / "mrpc.json"
METRICS = ("accuracy", "f1")
OVERRIDES = {"epochs": 3, "keep": "last"}
RECIPES: dict[str, tuple[str, str]] = {  # train.sampling, and the precision of train and predict
    "random": ("random", "fp32"),
    "tunelock": ("group_by_length", "fp32"),
    "bf16_random": ("random", "bf16"),
    "bf16": ("group_by_length", "bf16"),
}
ONE_SEED = ("bf16_random",)
LABELS = {
    "course": "the course's script",
    "random": "fp32, random order",
    "tunelock": "tunelock",
    "bf16_random": "bf16, random order",
    "bf16": "tunelock, bf16",
}


def main(folder: Path, seeds: list[int]) -> None:
    """Runs what has not been run yet, prints the table and writes the result file."""
    clone = fresh_clone("mrpc")
    corpus = [folder / f"{split}.parquet" for split in ("train", "validation")]
    keys = {"course": run_key(["benchmarks/course.py", "requirements.txt"], corpus)} | {
        recipe: run_key(["stages", "params.yaml", "requirements.txt"], corpus, OVERRIDES, choice)
        for recipe, choice in RECIPES.items()
    }
    runs = []
    for seed in seeds:
        for recipe, key in keys.items():
            if recipe in ONE_SEED and seed != seeds[0]:
                continue
            done = SCRATCH / "mrpc" / f"{key}-{recipe}-{seed}.json"
            if not done.exists():
                print(f"{LABELS[recipe]}, seed {seed} ...", flush=True)
                if recipe in RECIPES:
                    run_pipeline(clone, folder, recipe, seed, done)
                else:
                    run_course(clone, folder, seed, done)
            runs.append({"recipe": recipe, "seed": seed, **json.loads(done.read_text())})
    result = {
        **describe(),
        "recipe": committed_recipe(),
        "runs": runs,
        "mean": {recipe: mean(runs, recipe) for recipe in keys},
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))


def run_pipeline(clone: Path, folder: Path, recipe: str, seed: int, done: Path) -> None:
    """Runs the pipeline in the clone on `folder`, and copies the validation split's metrics."""
    sampling, precision = RECIPES[recipe]
    repro(
        clone,
        {
            "download": {"dataset_files": str(folder.resolve())},
            "train": OVERRIDES | {"seed": seed, "sampling": sampling, "precision": precision},
            "predict": {"precision": precision},
        },
    )
    metrics = json.loads((clone / "metrics" / "metrics.json").read_text())["validation"]
    done.write_text(json.dumps({name: metrics[name] for name in METRICS}))


def run_course(clone: Path, folder: Path, seed: int, done: Path) -> None:
    """Runs the course's script on `folder`, from the checkpoint that the pipeline downloaded."""
    checkpoint = str(clone / "models" / "pretrained")
    call([sys.executable, "-m", "benchmarks.course", str(folder.resolve()), checkpoint, str(seed), str(done)], ROOT)


def committed_recipe() -> dict[str, Any]:
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
    return rows(result, ("course", "tunelock"))


def quality(result: dict[str, Any]) -> str:
    """Formats the table of what makes a training faster, with and without; benchmarks/RESULTS.md shows it."""
    names = LABELS | {"tunelock": "fp32, by length (params.yaml as committed)", "bf16": "bf16, by length"}
    return rows(result, RECIPES, names)


def rows(result: dict[str, Any], recipes: Iterable[str], labels: Mapping[str, str] = LABELS) -> str:
    """Formats a row for each recipe: accuracy and F1 of each seed, and their means."""
    seeds = sorted({run["seed"] for run in result["runs"]})
    found = {(run["recipe"], run["seed"]): run for run in result["runs"]}
    lines = [
        f"| MRPC validation, 408 pairs | {' | '.join(f'seed {seed}' for seed in seeds)} | mean |",
        f"| --- |{' --- |' * (len(seeds) + 1)}",
    ]
    for recipe in recipes:
        cells = [pair(found[recipe, seed]) if (recipe, seed) in found else "" for seed in seeds]
        cells.append("" if "" in cells else pair(result["mean"][recipe]))
        lines.append(f"| {labels[recipe]} (accuracy / F1) | {' | '.join(cells)} |")
    return "\n".join(lines)


def pair(scores: Mapping[str, float]) -> str:
    """Formats accuracy and F1."""
    return " / ".join(f"{scores[name]:.3f}" for name in METRICS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    chosen = parser.parse_args()
    main(chosen.folder, chosen.seeds)
