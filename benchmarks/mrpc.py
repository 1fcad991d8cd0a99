"""MRPC for real: this pipeline beside the course's script, how good and how soon; and whether speed costs quality.

    python -m benchmarks.mrpc FOLDER [--seeds 1 2 3] [--checkpoint FOLDER [--learning-rate 3e-5] [--arithmetic bf16]]

FOLDER holds train, validation and test as parquet, in GLUE's columns. The pipeline runs in a scratch clone of HEAD
with the committed params.yaml, but for the data, the seed, 3 epochs as the course, and `keep: last`: the course keeps
the last epoch, and choosing the best one on the split that is reported would flatter. bf16 and batches by length, which
make a training faster, are run with and without; what mixes the two, with the first seed alone. The seconds are from
the start of the script, or of `dvc repro --force`, to its end. Writes benchmarks/results/mrpc.json, figures only. An
interrupted benchmark goes on where it was.

With --checkpoint, another encoder than the default one is trained, by length, with the learning rate and the arithmetic
that are given; its figures go to benchmarks/results/mrpc_<name of the folder>.json.
"""

import argparse
import hashlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from scipy.stats import t

from benchmarks.clone import ROOT, SCRATCH, call, fresh_clone, repro, run_key
from benchmarks.hard_pairs import PAIRS
from benchmarks.machine import describe
from benchmarks.repeat import spread
from stages.shared.task.intervals import interval_of

RESULTS = ROOT / "benchmarks" / "results"
METRICS = ("accuracy", "f1")
OVERRIDES = {"epochs": 3, "keep": "last"}
RECIPES: dict[str, tuple[str, str]] = {  # train.sampling, and the arithmetic of train and predict
    "random": ("random", "portable"),
    "tunelock": ("group_by_length", "portable"),
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
    """Runs what has not been run yet with the default checkpoint, prints the tables and writes the result file."""
    clone, data, corpus = prepare(folder)
    keys = {"course": run_key(["benchmarks/course.py", "requirements.txt"], corpus)} | {
        recipe: pipeline_key(corpus, choice) for recipe, choice in RECIPES.items()
    }
    repro(clone, {"download": data}, "download")  # the checkpoint for all
    runs = []
    for seed in seeds:
        for recipe, key in keys.items():
            if recipe in ONE_SEED and seed != seeds[0]:
                continue
            run = (
                partial(run_pipeline, clone, data, {}, recipe, seed)
                if recipe in RECIPES
                else partial(run_course, clone, folder, seed)
            )
            runs.append({"recipe": recipe, "seed": seed, **once(f"{key}-{recipe}-{seed}", LABELS[recipe], run)})
    result = write_result("mrpc", runs, {})
    print(rows(result, RECIPES), end_to_end(result), selection(result), sep="\n\n")


def main_of_another(folder: Path, seeds: list[int], checkpoint: Path, learning_rate: float, arithmetic: str) -> None:
    """Runs what has not been run yet with another checkpoint, prints its row and writes its result file."""
    clone, data, corpus = prepare(folder)
    data = data | {"checkpoint": "files", "checkpoint_files": str(checkpoint.resolve())}
    recipe = {"bf16": "bf16", "portable": "tunelock"}[arithmetic]
    train: dict[str, Any] = {"learning_rate": learning_rate}
    weights = sorted(checkpoint.glob("*.safetensors"))
    key = pipeline_key([*corpus, *weights, checkpoint / "config.json"], RECIPES[recipe], train)
    runs = []
    for seed in seeds:
        run = partial(run_pipeline, clone, data, train, recipe, seed)
        name = f"{checkpoint.name}, {arithmetic}"
        runs.append({"recipe": recipe, "seed": seed, **once(f"{key}-{recipe}-{seed}", name, run)})
    digests = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in weights}
    result = write_result(f"mrpc_{checkpoint.name}", runs, train | {"arithmetic": arithmetic})
    print(rows(result, [recipe], {recipe: checkpoint.name}), json.dumps(digests), sep="\n\n")


def prepare(folder: Path) -> tuple[Path, dict[str, Any], list[Path]]:
    """Returns a clone of HEAD, what params.yaml says of the corpus in `folder`, and the files that are learned from."""
    data = PAIRS | {"dataset_files": str(folder.resolve())}
    return fresh_clone("mrpc"), data, [folder / f"{split}.parquet" for split in ("train", "validation")]


def pipeline_key(files: list[Path], *choices: object) -> str:
    """Hashes all that a run of the pipeline depends on, its seed aside."""
    return run_key(["stages", "params.yaml", "requirements.txt"], files, OVERRIDES, *choices)


def once(key: str, label: str, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Returns the scores and seconds of a run, from the file that it left behind if it was run before."""
    done = SCRATCH / "mrpc" / f"{key}.json"
    if not done.exists():
        print(f"{label}: {key} ...", flush=True)
        start = time.monotonic()
        scores = run()
        done.write_text(json.dumps({**scores, "seconds": round(time.monotonic() - start, 1)}))
    return dict(json.loads(done.read_text()))


def write_result(name: str, runs: list[dict[str, Any]], train: dict[str, Any]) -> dict[str, Any]:
    """Writes benchmarks/results/<name>.json: the runs, their means, and by which recipe, on what machine."""
    result = {
        **describe(),
        "recipe": committed_recipe() | train,
        "runs": runs,
        "mean": {recipe: mean(runs, recipe) for recipe in dict.fromkeys(run["recipe"] for run in runs)},
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


def run_pipeline(
    clone: Path, data: Mapping[str, str], train: Mapping[str, Any], recipe: str, seed: int
) -> dict[str, Any]:
    """Runs all of the pipeline in the clone, and returns the validation split's metrics with their 95 % intervals.

    Args:
        data: changes to params.yaml's section `download`.
        train: changes to its section `train`, beyond those of the recipe.
    """
    sampling, arithmetic = RECIPES[recipe]
    repro(
        clone,
        {
            "download": data,
            "train": {**OVERRIDES, "seed": seed, "sampling": sampling, "arithmetic": arithmetic, **train},
            "predict": {"arithmetic": arithmetic},
        },
        "--force",
    )
    metrics = json.loads((clone / "metrics" / "metrics.json").read_text())["validation"]
    records = json.loads((clone / "metrics" / "intervals.json").read_text())["intervals"]
    shown = {name: interval_of(records, "validation", name) for name in METRICS}
    intervals = {name: [record["low"], record["high"]] for name, record in shown.items() if record is not None}
    return {name: metrics[name] for name in METRICS} | {"intervals": intervals}


def run_course(clone: Path, folder: Path, seed: int) -> dict[str, float]:
    """Runs the course's script on `folder`, from the checkpoint that the pipeline downloaded."""
    result = clone.parent / "course.json"
    files = map(str, (folder.resolve(), clone / "models" / "pretrained", seed, result))
    call([sys.executable, "-m", "benchmarks.course", *files], ROOT, {"OMP_NUM_THREADS": str(committed()["threads"])})
    return dict(json.loads(result.read_text()))


def committed_recipe() -> dict[str, Any]:
    """Returns the train section that was run, seeds aside."""
    return {key: value for key, value in (committed() | OVERRIDES).items() if key != "seed"}


def committed() -> dict[str, Any]:
    """Returns the train section of params.yaml."""
    return dict(YAML(typ="safe", pure=True).load(ROOT / "params.yaml")["train"])


def mean(runs: list[dict[str, Any]], recipe: str) -> dict[str, float]:
    """Averages a recipe's seeds, and gives their standard deviation."""
    values = {name: [run[name] for run in runs if run["recipe"] == recipe] for name in METRICS}
    figures = {name: statistics.mean(found) for name, found in values.items()}
    if all(len(found) > 1 for found in values.values()):
        figures |= {f"{name}_deviation": statistics.stdev(found) for name, found in values.items()}
    return figures


def table(result: dict[str, Any], of_another: dict[str, Any]) -> str:
    """Formats the README's table; tests/test_readme.py holds the README to it.

    Args:
        of_another: the result with a base-size checkpoint.
    """
    small = rows(
        result, ("course", "tunelock", "bf16"), {name: f"{label}, MiniLM-L6" for name, label in LABELS.items()}
    )
    base = rows(of_another, ("bf16",), {"bf16": "tunelock, bf16, all-mpnet-base-v2"})
    return "\n".join([small, base.splitlines()[-1]])


def end_to_end(result: dict[str, Any]) -> str:
    """Formats the table of the seconds to metrics; benchmarks/RESULTS.md shows it."""
    recipes = ("course", "tunelock", "bf16")
    seconds = {name: spread([run["seconds"] for run in result["runs"] if run["recipe"] == name]) for name in recipes}
    lines = [
        "| MRPC, 3 epochs, from process start to metrics | seconds: median (min to max) | vs the course |",
        "| --- | --- | --- |",
    ]
    for name, values in seconds.items():
        cells = f"{values['median']:.0f} ({values['min']:.0f} to {values['max']:.0f})"
        lines.append(
            f"| {LABELS[name]} | {cells} | {seconds['course']['median'] / values['median']:.2f} times as fast |"
        )
    return "\n".join(lines)


def quality(result: dict[str, Any]) -> str:
    """Formats the table of what makes a training faster, with and without; benchmarks/RESULTS.md shows it."""
    names = LABELS | {"tunelock": "fp32, by length", "bf16": "bf16, by length"}
    return rows(result, RECIPES, names)


def selection(result: dict[str, Any]) -> str:
    """Formats what choosing among three seeds does to a comparison of accuracies; the README shows it as a lesson."""
    one, two = (
        [run["accuracy"] for run in result["runs"] if run["recipe"] == recipe] for recipe in ("tunelock", "random")
    )
    differences = [a - b for a, b in zip(one, two, strict=True)]
    mean, reach = statistics.mean(differences), student_reach(differences)
    lines = [
        ("by length, its best seed minus its worst: one recipe", f"{max(one) - min(one):+.3f}"),
        ("by length, its best seed, minus random order, its worst", f"{max(one) - min(two):+.3f}"),
        ("by length, its worst seed, minus random order, its best", f"{min(one) - max(two):+.3f}"),
        ("by length minus random order, seed by seed", f"{mean:+.3f} [{mean - reach:+.3f}, {mean + reach:+.3f}]"),
    ]
    head = ["| MRPC validation, 3 seeds, fp32 | accuracy |", "| --- | --- |"]
    return "\n".join(head + [f"| {what} | {value} |" for what, value in lines])


def rows(result: dict[str, Any], recipes: Iterable[str], labels: Mapping[str, str] = LABELS) -> str:
    """Formats a row for each recipe: accuracy and F1 of each seed, and their means with Student's 95 % intervals.

    Such an interval holds what other seeds would do on these very examples, and nothing of what others would.
    """
    seeds = sorted({run["seed"] for run in result["runs"]})
    found = {(run["recipe"], run["seed"]): run for run in result["runs"]}
    lines = [
        f"| MRPC validation, 408 pairs | {' | '.join(f'seed {seed}' for seed in seeds)} | mean, 95 % of seeds |",
        f"| --- |{' --- |' * (len(seeds) + 1)}",
    ]
    for recipe in recipes:
        cells = [pair(found[recipe, seed]) if (recipe, seed) in found else "" for seed in seeds]
        runs = [run for run in result["runs"] if run["recipe"] == recipe]
        cells.append("" if "" in cells or len(runs) < 2 else mean_of_seeds(runs))
        lines.append(f"| {labels[recipe]} (accuracy / F1) | {' | '.join(cells)} |")
    return "\n".join(lines)


def mean_of_seeds(runs: list[dict[str, Any]]) -> str:
    """Formats the means of accuracy and F1, each with half the width of Student's interval, t times s / sqrt(n)."""
    cells = []
    for name in METRICS:
        values = [run[name] for run in runs]
        cells.append(f"{statistics.mean(values):.3f} ± {student_reach(values):.3f}")
    return " / ".join(cells)


def student_reach(values: list[float]) -> float:
    """Returns half the width of the mean's 95 % interval (Student 1908)."""
    return float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5


def pair(scores: Mapping[str, float]) -> str:
    """Formats accuracy and F1."""
    return " / ".join(f"{scores[name]:.3f}" for name in METRICS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--checkpoint", type=Path, help="a folder with config.json, a tokenizer and safetensors")
    parser.add_argument("--learning-rate", type=float, default=3e-5, help="of the training of --checkpoint")
    parser.add_argument("--arithmetic", choices=["bf16", "portable"], default="bf16", help="of the same")
    chosen = parser.parse_args()
    if chosen.checkpoint is None:
        main(chosen.folder, chosen.seeds)
    else:
        main_of_another(chosen.folder, chosen.seeds, chosen.checkpoint, chosen.learning_rate, chosen.arithmetic)
