"""How hard the bundled pairs are: three baselines and the default model, on their test split, by kind of pair.

    python -m benchmarks.sample [sample|hard] [--seeds 1 2 3]

The baselines are fitted on train. The model is the committed params.yaml's, each seed in a scratch clone of HEAD.
Nothing is chosen on test, so the figures are of that. Writes benchmarks/results/<corpus>.json; the README.md of
data/<corpus> quotes it.
"""

import argparse
import csv
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.sparse import hstack
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from benchmarks.clone import ROOT, SCRATCH, fresh_clone, repro, run_key
from benchmarks.hard_pairs import HARD_PAIRS
from benchmarks.machine import describe

RESULTS = ROOT / "benchmarks" / "results"
SPLIT = "test"

Rows = list[dict[str, str]]


@dataclass(frozen=True)
class Corpus:
    """Pairs of texts that come with the project, in data/<name>."""

    name: str
    columns: tuple[str, str]
    download: dict[str, Any] = field(default_factory=dict)  # what params.yaml must say other than committed

    def read(self, split: str) -> Rows:
        """Reads one split; its two texts are called `one` and `two`."""
        with (ROOT / "data" / self.name / f"{split}.csv").open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        return [row | {"one": row[self.columns[0]], "two": row[self.columns[1]]} for row in rows]

    def result(self) -> dict[str, Any]:
        """Reads what was measured last."""
        return dict(json.loads((RESULTS / f"{self.name}.json").read_text(encoding="utf-8")))


CORPORA = {
    "sample": Corpus("sample", ("word", "definition")),
    "hard": Corpus("hard", ("sentence1", "sentence2"), HARD_PAIRS),
}


def labels(rows: Rows) -> np.ndarray:
    """Returns int64[rows]."""
    return np.array([int(row["label"]) for row in rows])


def majority(train: Rows, test: Rows) -> np.ndarray:
    """Predicts train's most frequent class, the second where the classes are equal: int64[rows]."""
    return np.full(len(test), int(labels(train).mean() >= 0.5))


def words(text: str) -> set[str]:
    """Returns the words and numbers of a text, in lower case."""
    return set(re.findall(r"\w+", text.lower()))


def overlap(rows: Rows) -> np.ndarray:
    """Returns the share of all words of a pair that both texts hold (Jaccard): float64[rows]."""
    pairs = [(words(row["one"]), words(row["two"])) for row in rows]
    return np.array([len(one & two) / len(one | two) for one, two in pairs])


def word_overlap(train: Rows, test: Rows) -> np.ndarray:
    """Predicts by the threshold on the overlap, and the side of it, that fit train best: int64[rows]."""
    found, truth = overlap(train), labels(train)
    rules = [(((found >= cut) == above) == truth).mean() for cut in np.unique(found) for above in (True, False)]
    best = int(np.argmax(rules))
    return ((overlap(test) >= np.unique(found)[best // 2]) == (best % 2 == 0)).astype(int)


def bag_of_words(train: Rows, test: Rows) -> np.ndarray:
    """Predicts by a logistic regression on the counts of both texts' words and their difference: int64[rows]."""
    counter = CountVectorizer().fit(row[name] for row in train for name in ("one", "two"))

    def features(rows: Rows) -> Any:
        one, two = (counter.transform([row[name] for row in rows]) for name in ("one", "two"))
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


def baselines(corpus: Corpus) -> dict[str, dict[str, float]]:
    """Returns the accuracies of the three baselines."""
    train, test = corpus.read("train"), corpus.read(SPLIT)
    return {name: accuracies(predict(train, test), test) for name, predict in BASELINES.items()}


def model_runs(corpus: Corpus, seeds: list[int]) -> list[dict[str, float]]:
    """Trains the default model with each seed that was not trained yet, and returns the accuracies of each."""
    clone, runs = fresh_clone("sample"), []
    files = [f"data/{corpus.name}/{split}.csv" for split in ("train", "validation", SPLIT)]
    key = run_key(["stages", "params.yaml", "requirements.txt", *files], [])
    for seed in seeds:
        done = SCRATCH / "sample" / f"{key}-{seed}.json"
        if not done.exists():
            print(f"seed {seed} ...", flush=True)
            repro(clone, {"download": corpus.download, "train": {"seed": seed}})
            logits = np.load(clone / "data" / "predictions" / SPLIT / "logits.npy")
            done.write_text(json.dumps(accuracies(logits.argmax(axis=1), corpus.read(SPLIT))))
        runs.append(json.loads(done.read_text()))
    return runs


def table(result: dict[str, Any]) -> str:
    """Formats the table that the README.md of the corpus shows; two tests hold it to that."""
    runs, columns = result["model"], result["baselines"]
    model = f"default model, {len(runs)} seeds: mean (lowest to highest)"
    lines = [
        f"| pairs of test | number | {' | '.join(columns)} | {model} |",
        f"| --- | --- |{' --- |' * (len(columns) + 1)}",
    ]
    for kind, count in result["pairs"].items():
        found = [100 * run[kind] for run in runs]
        cells = [f"{100 * column[kind]:.1f}" for column in columns.values()]
        cells.append(f"{np.mean(found):.1f} ({min(found):.1f} to {max(found):.1f})")
        lines.append(f"| {kind.replace('_', ' ')} | {count} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(corpus: Corpus, seeds: list[int]) -> None:
    """Measures, prints the table and writes the result file."""
    rows = corpus.read(SPLIT)
    kinds = [row["kind"] for row in rows]
    result = {
        **describe(),
        "pairs": {"overall": len(rows)} | {kind: kinds.count(kind) for kind in sorted(set(kinds))},
        "baselines": baselines(corpus),
        "seeds": seeds,
        "model": model_runs(corpus, seeds),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{corpus.name}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", choices=CORPORA, nargs="?", default="sample")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    chosen = parser.parse_args()
    main(CORPORA[chosen.corpus], chosen.seeds)
