"""Time and memory of `python -m ship.score` on a million pairs, against `tokenize` and `predict` on the same.

    python -m benchmarks.score [ROWS]

The pairs and the tiny model are those of `benchmarks.scale`: what is measured is the reading, cutting and writing, not
the matrix products. The stages run as the programs that DVC runs, then score runs on the csv that they came from. What
the run must give: at most 1.2 times the seconds of the two stages together, under 1.5 GiB, and their logits, byte for
byte. Writes benchmarks/results/score.json.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
from ruamel.yaml import YAML

from benchmarks.clone import ROOT, watched
from benchmarks.hard_pairs import PAIRS
from benchmarks.machine import describe
from benchmarks.scale import TRAIN, VALIDATION, write_pairs

RESULT = ROOT / "benchmarks" / "results" / "score.json"
ROWS = 1_000_000
STAGES = ("download", "tokenize", "train", "predict")
MOST_TIMES, MOST_MIB = 1.2, 1536


def main(rows: int = ROWS) -> None:
    """Measures, prints the figures and writes the result file."""
    with tempfile.TemporaryDirectory(prefix="score-") as folder:
        result = {**describe(), **measure(Path(folder) / "project", rows)}
    if rows == ROWS:
        RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))


def measure(project: Path, rows: int) -> dict[str, Any]:
    """Runs the stages, then score, in a new project with `rows` test pairs.

    Returns:
        For each of tokenize, predict and score the seconds and peak MiB; `times`, score's seconds as a multiple of
        the stages'; and whether the logits have the same bytes.
    """
    make_project(project, rows)
    found = {stage: watched([sys.executable, "-m", f"stages.{stage}"], project) for stage in STAGES}
    for command in (["dvc", "commit", "--force", "--quiet", *STAGES], ["git", "add", "--all"]):
        subprocess.run([sys.executable, "-m", *command] if command[0] == "dvc" else command, cwd=project, check=True)
    out = project / "scored.parquet"
    command = [sys.executable, "-m", "ship.score", "corpus/test.csv", "--logits", "--out", str(out)]
    found["score"] = watched(command, project)
    seconds = found["tokenize"]["seconds"] + found["predict"]["seconds"]
    return {
        "rows": rows,
        **{name: found[name] for name in ("tokenize", "predict", "score")},
        "times": round(found["score"]["seconds"] / seconds, 2),
        "same_bytes": read_logits(out).tobytes() == np.load(project / "data/predictions/test/logits.npy").tobytes(),
    }


def make_project(project: Path, rows: int) -> None:
    """Makes a repository of this code, with a corpus of `rows` test pairs and a tiny checkpoint."""
    project.mkdir()
    for name in ("stages", "checks", "ship", "hashes", "requirements.txt", "requirements-report.txt", "dvc.yaml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, project / name)
    (project / "corpus").mkdir()
    for seed, (split, size) in enumerate({"train": TRAIN, "validation": VALIDATION, "test": rows}.items()):
        write_pairs(project / "corpus" / f"{split}.csv", size, seed)
    program = (
        f"from pathlib import Path; from benchmarks.scale import *; make_checkpoint(Path({str(project / 'tiny')!r}))"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    params["download"] |= PAIRS | {"dataset_files": "corpus", "checkpoint": "files", "checkpoint_files": "tiny"}
    params["train"] |= {"epochs": 1}
    params["evaluate"] |= {"splits": ["test"]}
    yaml.dump(params, project / "params.yaml")
    for command in (["git", "init", "--quiet"], [sys.executable, "-m", "dvc", "init", "--quiet"]):
        subprocess.run(command, cwd=project, check=True)


def table(result: dict[str, Any]) -> str:
    """Formats the figures; benchmarks/RESULTS.md shows them."""
    lines = [f"| {result['rows']:,} pairs | seconds | processor seconds | peak MiB |", "| --- | --- | --- | --- |"]
    for name, title in (
        ("tokenize", "stage tokenize"),
        ("predict", "stage predict"),
        ("score", "`ship.score`, csv to parquet"),
    ):
        found = result[name]
        lines.append(f"| {title} | {found['seconds']:.0f} | {found['processor_seconds']:.0f} | {found['peak_mib']:,} |")
    same = "the same bytes" if result["same_bytes"] else "**other bytes**"
    return "\n".join(
        [*lines, f"| its time, of the two stages together; its logits | {result['times']:.2f} times | {same} | |"]
    )


def read_logits(file: Path) -> np.ndarray:
    """Returns the logits in a file that score wrote, float32[rows, columns]."""
    table = pyarrow.parquet.read_table(file)
    names = [name for name in table.column_names if name.startswith("predicted_logit_")]
    return np.stack([table[name].to_numpy() for name in names], axis=1)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
