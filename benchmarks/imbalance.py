"""What class weights and balanced sampling buy where 3 % of the examples are of interest, and what they cost.

    python -m benchmarks.imbalance [FOLDER] [--seeds 1 2 3]

Without FOLDER, the task is made from the bundled sample: does a word name a person? It does where its definition begins
with "a person", "someone" and the like; the model sees the word alone. FOLDER holds train, validation and test as
parquet in GLUE's columns, of two classes. In train and validation, rows of the second class are dropped until it is
3 %. Test keeps all of its rows, and they are weighed as if it were 3 % there, too: that says the same with less noise.

The model is the committed params.yaml's but for EPOCHS, in a scratch clone of HEAD. Each seed draws other rows, another
head and another order. Writes benchmarks/results/imbalance.json. An interrupted benchmark goes on where it was.
"""

import argparse
import csv
import json
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from scipy.special import expit
from scipy.stats import t
from sklearn.metrics import average_precision_score, precision_recall_fscore_support

from benchmarks.clone import ROOT, SCRATCH, fresh_clone, repro, run_key
from benchmarks.machine import describe
from stages.calibrate.temperature import fit_temperature
from stages.calibrate.thresholds import fit_thresholds
from stages.shared.task.task import Task

RESULT = ROOT / "benchmarks" / "results" / "imbalance.json"
SHARE = 0.03  # of the rare class
EPOCHS = 8
DATA = "data/imbalanced"
PERSON = re.compile(
    r"(an? |the |one )?(person|someone|somebody|man|woman|worker|official|leader|expert|member|one who) "
)
LABELS = ["common", "rare"]
TASK = Task("files", "single_label_classification", LABELS, ["f1", "accuracy"], "files", "0")
ARMS: dict[str, dict[str, Any]] = {
    "neither": {},
    "class_weights: balanced": {"class_weights": "balanced"},
    "sampling: balanced": {"sampling": "balanced"},
}
COLUMNS = {
    "average_precision": "average precision",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "f1_threshold": "F1, threshold chosen on validation",
    "probability": "mean probability of the rare class",
    "calibrated_probability": "the same, at the temperature",
}

Rows = list[dict[str, Any]]  # text, perhaps text_pair, and label: 1 for the rare class


def of_sample(generator: np.random.Generator) -> dict[str, Rows]:
    """Makes the splits from the sample's words: half of the common ones train."""
    rows: Rows = []
    for split in ("train", "validation", "test"):
        with (ROOT / "data" / "sample" / f"{split}.csv").open(encoding="utf-8", newline="") as stream:
            rows += [
                {"text": row["word"], "label": int(PERSON.match(row["definition"]) is not None)}
                for row in csv.DictReader(stream)
                if row["label"] == "1"  # it is the definition of that word
            ]
    kinds = [[row for row in rows if row["label"] == label] for label in (0, 1)]
    common, rare = ([kind[place] for place in generator.permutation(len(kind))] for kind in kinds)
    half, quarter = len(common) // 2, len(common) // 4
    few, fewer = number_of_rare(half), number_of_rare(quarter)
    return {
        "train": common[:half] + rare[:few],
        "validation": common[half : half + quarter] + rare[few : few + fewer],
        "test": common[half + quarter :] + rare[few + fewer :],
    }


def of_folder(folder: Path, generator: np.random.Generator) -> dict[str, Rows]:
    """Reads a corpus of pairs and drops rows of the second class, but in test."""
    splits = {}
    for split in ("train", "validation", "test"):
        rows = [
            {"text": row["sentence1"], "text_pair": row["sentence2"], "label": row["label"]}
            for row in pq.read_table(folder / f"{split}.parquet").to_pylist()
        ]
        common, rare = ([row for row in rows if row["label"] == label] for label in (0, 1))
        if split != "test":
            rare = [rare[place] for place in generator.permutation(len(rare))[: number_of_rare(len(common))]]
        splits[split] = common + rare
    return splits


def number_of_rare(common: int) -> int:
    """Returns how many rare examples so many common ones take."""
    return round(common * SHARE / (1 - SHARE))


def write_splits(splits: dict[str, Rows], folder: Path) -> None:
    """Writes a csv for each split."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in splits.items():
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(row | {"label": LABELS[row["label"]]} for row in rows)


def scores(validation: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    """Scores the logits on test, weighed as if the rare class were 3 %.

    Args:
        validation: as is `test`, labels, int64[examples], and logits, float32[examples, 2].
    """
    labels, logits = test
    weights = np.where(labels == 1, SHARE / (labels == 1).mean(), (1 - SHARE) / (labels == 0).mean())
    temperature, _ = fit_temperature(TASK, *validation)
    odds = TASK.classification.log_odds(logits, 1)
    probabilities = TASK.classification.probabilities(validation[1] / temperature)
    cut = fit_thresholds(TASK, "f1", validation[0], probabilities)[0]
    (precision, recall, f1, _), (*_, f1_threshold, _) = (
        precision_recall_fscore_support(labels, said, average="binary", sample_weight=weights, zero_division=0.0)
        for said in (logits.argmax(axis=1), expit(odds / temperature) > cut)
    )
    return {
        "average_precision": float(average_precision_score(labels, odds, sample_weight=weights)),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        "f1_threshold": float(f1_threshold),
        "probability": float(np.average(expit(odds), weights=weights)),
        "calibrated_probability": float(np.average(expit(odds / temperature), weights=weights)),
    }


def run(arm: str, seed: int, folder: Path | None) -> dict[str, Any]:
    """Trains one arm with one seed, unless that was done before, and returns its scores."""
    tracked = ["stages", "params.yaml", "requirements.txt", "benchmarks/imbalance.py", "data/sample"]
    key = run_key(tracked, sorted(folder.glob("*.parquet")) if folder else [], folder)
    done = SCRATCH / "imbalance" / f"{key}-{list(ARMS).index(arm)}-{seed}.json"
    if not done.exists():
        print(f"{arm}, seed {seed} ...", flush=True)
        clone, generator = fresh_clone("imbalance"), np.random.default_rng(seed)
        splits = of_folder(folder, generator) if folder else of_sample(generator)
        write_splits(splits, clone / DATA)
        download = {
            "dataset_files": DATA,
            "text_column": "text",
            "text_pair_column": "text_pair" if folder else None,
            "label_column": "label",
            "label_names": LABELS,
            "group_column": None,
            "keep_columns": [],
            "metrics": TASK.metrics,
        }
        train = {"seed": seed, "epochs": EPOCHS, "keep": "last", **ARMS[arm]}
        repro(clone, {"download": download, "train": train}, "predict")
        validation, test = (
            (np.load(of / "labels.npy"), np.load(of / "logits.npy"))
            for of in (clone / "data" / "predictions" / name for name in ("validation", "test"))
        )
        sizes = {
            name: [sum(row["label"] == label for row in rows) for label in (0, 1)] for name, rows in splits.items()
        }
        content = {"arm": arm, "seed": seed, "sizes": sizes, **scores(validation, test)}
        done.write_text(json.dumps(content), encoding="utf-8")
    return dict(json.loads(done.read_text(encoding="utf-8")))


def table(result: dict[str, Any]) -> str:
    """Formats a row for each arm: the mean over the seeds with Student's 95 % interval."""
    sizes = result["runs"][0]["sizes"]
    counts = ", ".join(f"{name} {common:,} + {rare:,}" for name, (common, rare) in sizes.items())
    lines = [
        f"Common and rare examples of {result['corpus']}: {counts}.",
        "",
        f"| {len(result['seeds'])} seeds, mean ± 95 % | {' | '.join(COLUMNS.values())} |",
        f"| --- |{' --- |' * len(COLUMNS)}",
    ]
    for arm in ARMS:
        runs = [run for run in result["runs"] if run["arm"] == arm]
        lines.append(f"| {arm} | {' | '.join(mean([run[name] for run in runs]) for name in COLUMNS)} |")
    return "\n".join(lines)


def mean(values: Sequence[float]) -> str:
    """Formats the mean with half the width of its 95 % interval (Student 1908)."""
    reach = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.mean(values):.3f} ± {reach:.3f}"


def main(folder: Path | None, seeds: list[int]) -> None:
    """Measures, prints the table and writes the result file."""
    result = {
        **describe(),
        "corpus": folder.name if folder else "words of the sample",
        "share": SHARE,
        "epochs": EPOCHS,
        "seeds": seeds,
        "runs": [run(arm, seed, folder) for seed in seeds for arm in ARMS],
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options = parser.parse_args()
    if len(options.seeds) < 2:
        parser.error("--seeds: two or more, for the intervals")
    main(options.folder, options.seeds)
