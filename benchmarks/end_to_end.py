"""How long until there are metrics: `dvc repro` beside the course's script, both from the start of the process.

    python -m benchmarks.end_to_end [FOLDER] [--rounds 3]

FOLDER holds a corpus of pairs in GLUE's columns; without it, it is the bundled sample. The pipeline runs in a scratch
clone of HEAD, all of its stages (--force), with the committed params.yaml and in bf16; both train 3 epochs of the same
checkpoint. They take turns. Writes benchmarks/results/end_to_end.json.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from benchmarks.clone import ROOT, as_parquet, call, fresh_clone, repro
from benchmarks.machine import describe
from benchmarks.repeat import interleaved, spread

RESULT = ROOT / "benchmarks" / "results" / "end_to_end.json"
RECIPES: dict[str, dict[str, dict[str, Any]]] = {
    "fp32": {},
    "bf16": {"train": {"precision": "bf16"}, "predict": {"precision": "bf16"}},
}
LABELS = {
    "course": "the course's script",
    "fp32": "`dvc repro`, params.yaml as committed",
    "bf16": "`dvc repro`, bf16",
}


def main(folder: Path | None, rounds: int) -> None:
    """Measures, prints the table and writes the result file."""
    clone = fresh_clone("throughput")
    data = {"download": {"dataset_files": str(folder.resolve())}} if folder else {}
    repro(clone, data, "tokenize")
    corpus, checkpoint = as_parquet(clone), clone / "models" / "pretrained"
    threads = YAML(typ="safe", pure=True).load(clone / "params.yaml")["train"]["threads"]

    def course() -> None:
        script = ["benchmarks.course", str(corpus), str(checkpoint), "1", os.devnull]
        call([sys.executable, "-m", *script], clone, {"OMP_NUM_THREADS": str(threads)})

    def pipeline(recipe: dict[str, dict[str, Any]]) -> Callable[[], None]:
        return lambda: repro(clone, data | recipe, "--force")

    programs = {"course": course} | {name: pipeline(recipe) for name, recipe in RECIPES.items()}
    result = {
        **describe(),
        "corpus": folder.name if folder else "sample",
        "seconds": interleaved({name: timed(run) for name, run in programs.items()}, rounds),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))


def timed(run: Callable[[], None]) -> Callable[[], float]:
    """Returns what calls `run` and returns its seconds."""

    def call_it() -> float:
        start = time.monotonic()
        run()
        return time.monotonic() - start

    return call_it


def table(result: dict[str, Any]) -> str:
    """Formats the figures; benchmarks/RESULTS.md shows them."""
    seconds = {name: spread(values) for name, values in result["seconds"].items()}
    lines = [
        f"| {result['corpus']}, from process start to metrics | seconds: median (min to max) | faster |",
        "| --- | --- | --- |",
    ]
    for name, values in seconds.items():
        ratio = seconds["course"]["median"] / values["median"]
        cells = f"{values['median']:.0f} ({values['min']:.0f} to {values['max']:.0f})"
        lines.append(f"| {LABELS[name]} | {cells} | {ratio:.2f} times |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    main(chosen.folder, chosen.rounds)
