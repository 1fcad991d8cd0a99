"""How hard the bundled sample is: three baselines and the default model, on its test split, by kind of negative.

    python -m benchmarks.sample [--seeds 1 2 3]

The baselines are fitted on train. The model is the committed params.yaml's, each seed in a scratch clone of HEAD; its
epoch is chosen on validation, so the figures are of test, which nothing was chosen on. Writes
benchmarks/results/sample.json; data/sample/README.md quotes it.
"""

import argparse
import csv
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.sparse import hstack
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from benchmarks.clone import ROOT, SCRATCH, fresh_clone, repro, run_key
from benchmarks.machine import describe

SAMPLE = ROOT / "data" / "sample"
RESULT = ROOT / "benchmarks" / "results" / "sample.json"
SPLIT = "test"

Rows = list[dict[str, str]]


def read(split: str) -> Rows:
    """Reads one split of the sample."""
    with (SAMPLE / f"{split}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def labels(rows: Rows) -> np.ndarray:
    """Returns int64[rows]."""
    return np.array([int(row["label"]) for row in rows])


def majority(train: Rows, test: Rows) -> np.ndarray:
    """Predicts train's most frequent class, `equivalent` where the classes are equal: int64[rows]."""
    return np.full(len(test), int(labels(train).mean() >= 0.5))


def words(text: str) -> set[str]:
    """Returns the words and numbers of a text, in lower case."""
    return set(re.findall(r"\w+", text.lower()))


def overlap(rows: Rows) -> np.ndarray:
    """Returns the share of all words of a pair that both sentences hold (Jaccard): float64[rows]."""
    pairs = [(words(row["sentence1"]), words(row["sentence2"])) for row in rows]
    return np.array([len(one & two) / len(one | two) for one, two in pairs])


def word_overlap(train: Rows, test: Rows) -> np.ndarray:
    """Predicts by the threshold on the overlap, and the side of it, that fit train best: int64[rows]."""
    found, truth = overlap(train), labels(train)
    rules = [(((found >= cut) == above) == truth).mean() for cut in np.unique(found) for above in (True, False)]
    best = int(np.argmax(rules))
    return ((overlap(test) >= np.unique(found)[best // 2]) == (best % 2 == 0)).astype(int)


def bag_of_words(train: Rows, test: Rows) -> np.ndarray:
    """Predicts by a logistic regression on the counts of both sentences' words and their difference: int64[rows]."""
    counter = CountVectorizer().fit(row[name] for row in train for name in ("sentence1", "sentence2"))

    def features(rows: Rows) -> Any:
        one, two = (counter.transform([row[name] for row in rows]) for name in ("sentence1", "sentence2"))
        return hstack([one, two, abs(one - two)]).tocsr()

    return LogisticRegression(max_iter=2000).fit(features(train), labels(train)).predict(features(test))


BASELINES: dict[str, Callable[[Rows, Rows], np.ndarray]] = {
    "majority class": majority,
    "word overlap": word_overlap,
    "bag of words": bag_of_words,
}


def accuracies(predicted: np.ndarray, rows: Rows) -> dict[str, float]:
    """Returns the share of right answers, overall and by kind of pair."""
    right = predicted == labels(rows)
    kinds = [row["kind"] for row in rows]
    return {"overall": float(right.mean())} | {
        kind: float(right[[other == kind for other in kinds]].mean()) for kind in sorted(set(kinds))
    }


def baselines() -> dict[str, dict[str, float]]:
    """Returns the accuracies of the three baselines."""
    train, test = read("train"), read(SPLIT)
    return {name: accuracies(predict(train, test), test) for name, predict in BASELINES.items()}


def model_runs(seeds: list[int]) -> list[dict[str, float]]:
    """Trains the default model with each seed that was not trained yet, and returns the accuracies of each."""
    clone, runs = fresh_clone("sample"), []
    key = run_key(
        ["stages", "params.yaml", "requirements.txt", *(f"data/sample/{s}.csv" for s in ("train", SPLIT))], []
    )
    for seed in seeds:
        done = SCRATCH / "sample" / f"{key}-{seed}.json"
        if not done.exists():
            print(f"seed {seed} ...", flush=True)
            repro(clone, {"train": {"seed": seed}})
            logits = np.load(clone / "data" / "predictions" / SPLIT / "logits.npy")
            done.write_text(json.dumps(accuracies(logits.argmax(axis=1), read(SPLIT))))
        runs.append(json.loads(done.read_text()))
    return runs


def table(result: dict[str, Any]) -> str:
    """Formats the table that data/sample/README.md shows; tests/test_sample.py holds it to that."""
    runs = result["model"]
    mean = {kind: float(np.mean([run[kind] for run in runs])) for kind in runs[0]}
    columns = {**result["baselines"], f"default model, mean of {len(runs)} seeds": mean}
    counts = result["pairs"]
    lines = [f"| pairs of test | number | {' | '.join(columns)} |", f"| --- | --- |{' --- |' * len(columns)}"]
    for kind, count in counts.items():
        cells = " | ".join(f"{100 * column[kind]:.1f}" for column in columns.values())
        lines.append(f"| {kind.replace('_', ' ')} | {count} | {cells} |")
    return "\n".join(lines)


def main(seeds: list[int]) -> None:
    """Measures, prints the table and writes the result file."""
    rows = read(SPLIT)
    kinds = [row["kind"] for row in rows]
    result = {
        **describe(),
        "pairs": {"overall": len(rows)} | {kind: kinds.count(kind) for kind in sorted(set(kinds))},
        "baselines": baselines(),
        "seeds": seeds,
        "model": model_runs(seeds),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    main(parser.parse_args().seeds)
