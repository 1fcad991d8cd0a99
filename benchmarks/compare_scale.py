"""Time and memory of checks.compare on as many pairs as MRPC's test split has, and on 1,000,000, through DVC.

    python -m benchmarks.compare_scale [--only NAME]

A scratch repository gets two commits, the second with another model's logits in DVC's cache. A stage copies what
was made up, so that Git, DVC, its lock and its cache are the real ones. The pairs have 12 to 25 words a text, as those
of benchmarks.scale; both models are right on about 85 %, and disagree on 3 %. What is measured is the program as it is
called, with params.yaml's resamples. Writes benchmarks/results/compare_scale.json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from ruamel.yaml import YAML

from benchmarks.clone import ROOT, call, watched
from benchmarks.machine import describe
from benchmarks.scale import vocabulary

RESULT = ROOT / "benchmarks" / "results" / "compare_scale.json"
MRPC, MILLION = 1_725, 1_000_000  # pairs
CHUNK = 10_000  # pairs at once: the memory of this process counts as the program's, since that is its child
SECONDS = {MRPC: 10, MILLION: 60}  # at most
MOST_MIB = 2048
DAG = {
    "stages": {
        "download": {"cmd": "rm -rf data/raw; cp -r made/raw data/raw", "deps": ["made/raw"], "outs": ["data/raw"]},
        "predict": {
            "cmd": "rm -rf data/predictions; cp -r made/predictions data/predictions",
            "deps": ["data/raw", "made/predictions"],
            "outs": ["data/predictions"],
        },
        "evaluate": {
            "cmd": "cp made/metrics.json metrics/metrics.json",
            "params": ["evaluate"],
            "deps": ["data/predictions", "made/metrics.json"],
            "metrics": [{"metrics/metrics.json": {"cache": False}}],
        },
    }
}


@dataclass(frozen=True)
class Case:
    """What is compared."""

    name: str
    rows: int
    problem: str = "single_label_classification"
    labels: int = 2
    metrics: tuple[str, ...] = ("accuracy", "f1")
    of_a_group: int | None = None  # pairs
    other_texts: bool = False  # the second commit has another train split, so that texts have to be compared
    options: tuple[str, ...] = ()


CASES = (
    Case("as many as MRPC's", MRPC),
    Case("two classes", MILLION),
    Case("ten flips listed", MILLION, options=("--flips", "10")),
    Case("in groups of five", MILLION, of_a_group=5),
    Case("another train split", MILLION, other_texts=True),
    Case("fifty classes", MILLION, labels=50, metrics=("accuracy", "f1_macro")),
    Case("ten labels at once", MILLION, "multi_label_classification", 10, ("f1_micro", "f1_macro")),
    Case("numbers", MILLION, "regression", 1, ("pearson", "spearmanr", "mean_squared_error")),
)


def main(only: str) -> None:
    """Measures, prints the table and writes the result file."""
    runs = {run["case"]: run for run in (json.loads(RESULT.read_text())["runs"] if only and RESULT.exists() else [])}
    for case in CASES:
        if only in case.name:
            print(f"{case.name}, {case.rows:,} pairs ...", flush=True)
            with tempfile.TemporaryDirectory(prefix="compare-") as folder:
                make_in_a_process(Path(folder), case)
                runs[case.name] = {"case": case.name, "rows": case.rows, **compare(Path(folder), case)}
                print(f"  {runs[case.name]}", flush=True)
    order = [case.name for case in CASES]
    result = {**describe(), "runs": sorted(runs.values(), key=lambda run: order.index(run["case"]))}
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))


def make_in_a_process(folder: Path, case: Case) -> None:
    """Makes the repository in a process of its own, see CHUNK."""
    program = f"from pathlib import Path; from benchmarks.compare_scale import *; make({str(folder)!r}, {case!r})"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def make(where: str, case: Case) -> None:
    """Makes a repository whose branches `main` and `other` have another model each, in DVC's cache."""
    folder = Path(where)
    for command in (["git", "init", "--quiet", "--initial-branch=main"], [sys.executable, "-m", "dvc", "init", "-q"]):
        call(command, folder)
    for key, value in {"user.name": "A Tester", "user.email": "tester@example.org"}.items():
        call(["git", "config", key, value], folder)
    YAML().dump(DAG, folder / "dvc.yaml")
    params = YAML().load(ROOT / "params.yaml")
    YAML().dump({"evaluate": {**params["evaluate"], "splits": ["validation"]}, "gate": []}, folder / "params.yaml")
    (folder / ".gitignore").write_text("/made/raw\n/made/predictions\n/data\n")
    for name in ("data", "metrics", "made/raw/validation", "made/raw/train", "made/predictions/validation"):
        (folder / name).mkdir(parents=True)
    names = [f"label {number}" for number in range(case.labels)] if case.problem != "regression" else []
    task = {"name": "files", "problem_type": case.problem, "label_names": names, "metrics": case.metrics}
    (folder / "made/raw/task.json").write_text(json.dumps({**task, "source": "files", "revision": "0"}))
    write_texts(folder / "made/raw/validation/data-00000-of-00001.arrow", case.rows, 0, case.of_a_group)
    labels, *models = answers(case)
    np.save(folder / "made/predictions/validation/labels.npy", labels)
    (folder / "made/metrics.json").write_text("{}")
    for branch, logits in zip(("main", "other"), models, strict=True):
        if branch == "main" or case.other_texts:
            write_texts(folder / "made/raw/train/data-00000-of-00001.arrow", 1000, len(branch), case.of_a_group)
        np.save(folder / "made/predictions/validation/logits.npy", logits)
        call(["git", "checkout", "--quiet", "-B", branch], folder)
        call([sys.executable, "-m", "dvc", "repro", "--quiet"], folder)
        call(["git", "add", "--all"], folder)
        call(["git", "commit", "--quiet", "--message", branch], folder)


def answers(case: Case) -> Iterator[np.ndarray]:
    """Yields labels, and float32[rows, labels] of two models that mostly agree."""
    generator = np.random.default_rng(0)
    shape = (case.rows, case.labels)
    if case.problem == "regression":
        truth = generator.normal(size=shape).astype(np.float32)
        yield truth[:, 0]
    elif case.problem == "multi_label_classification":
        truth = (generator.random(shape) < 0.3).astype(np.float32)
        yield truth
        truth = 3 * (2 * truth - 1)
    else:
        labels = generator.integers(0, case.labels, case.rows)
        yield labels
        truth = 3 * np.eye(case.labels, dtype=np.float32)[labels]
    shared = generator.normal(size=shape).astype(np.float32) * (0.5 if case.problem == "regression" else 2.0)
    for _ in range(2):
        yield truth + shared + 0.1 * generator.normal(size=shape).astype(np.float32)


def write_texts(file: Path, rows: int, seed: int, of_a_group: int | None) -> None:
    """Writes the Arrow file of a split, as download does."""
    generator, words = np.random.default_rng(seed), vocabulary()
    share = 1.0 / np.arange(1, len(words) + 1)
    names = ["text", "text_pair", *(["group"] if of_a_group else [])]
    with pa.OSFile(str(file), "wb") as stream, pa.ipc.new_stream(stream, schema(names)) as writer:
        for start in range(0, rows, CHUNK):
            size = min(CHUNK, rows - start)
            lengths = generator.integers(12, 26, size=2 * size)
            drawn = words[generator.choice(len(words), size=lengths.sum(), p=share / share.sum())]
            texts = [" ".join(part) for part in np.split(drawn, np.cumsum(lengths)[:-1])]
            columns = [texts[::2], texts[1::2]]
            if of_a_group:
                columns.append([f"author {row // of_a_group}" for row in range(start, start + size)])
            writer.write_batch(pa.record_batch(columns, schema=schema(names)))


def schema(names: list[str]) -> pa.Schema:
    """Returns that of the columns: all are texts."""
    return pa.schema([(name, pa.string()) for name in names])


def compare(folder: Path, case: Case) -> dict[str, float]:
    """Runs the program once: seconds of the clock, of the processor, and the most memory that it held in MiB."""
    return watched([sys.executable, "-m", "checks.compare", "main", "other", *case.options], folder)


def table(result: dict[str, Any]) -> str:
    """Formats the figures beside what they may be at most."""
    lines = [
        "| `checks.compare` | pairs | seconds | CPU seconds | limit | peak memory | limit |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for run in result["runs"]:
        seconds = f"{run['seconds']:.0f} | {run['processor_seconds']:.0f} | {SECONDS[run['rows']]}"
        memory = f"{run['peak_mib'] / 1024:.1f} GiB | {MOST_MIB / 1024:.0f} GiB"
        lines.append(f"| {run['case']} | {run['rows']:,} | {seconds} | {memory} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose names have this in them; the others keep their figures")
    main(parser.parse_args().only)
