"""Time and memory of download where the training data are large: near-duplicates of 1,000,000 train pairs.

    python -m benchmarks.near_duplicates [--rows 1000000]

A tenth as many test pairs are looked for in train. Texts of 12 to 25 words as in benchmarks.scale: none like another;
test pairs that are train's but for one word in each text; and texts that all have a frame in common, such as letters by
a form, where any two are alike. Writes benchmarks/results/near_duplicates.json.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from benchmarks.clone import ROOT
from benchmarks.hard_pairs import PAIRS
from benchmarks.machine import describe
from benchmarks.scale import run_stage, vocabulary, write_pairs

RESULT = ROOT / "benchmarks" / "results" / "near_duplicates.json"
CASES = ("none alike", "one word of each text changed", "a frame in common")
SHARE = 10  # so many train pairs for a test pair
FRAME = "dear customer thank you for your order of {} which we have sent to the address that you gave us in {}"


def main(rows: int) -> None:
    """Measures, prints the table and writes the result file."""
    runs = []
    for case in CASES:
        print(f"{rows:,} pairs, {case} ...", flush=True)
        with tempfile.TemporaryDirectory(prefix="near-") as folder:
            runs.append({"case": case, "rows": rows, **measure(Path(folder), case, rows)})
        print(f"  {runs[-1]}", flush=True)
    result = {**describe(), "runs": runs}
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))


def measure(folder: Path, case: str, rows: int) -> dict[str, Any]:
    """Makes the corpus in a process of its own, whose memory would count as the stage's, and runs download on it."""
    program = f"from benchmarks.near_duplicates import *; make(Path({str(folder)!r}), {case!r}, {rows})"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    params = YAML().load(ROOT / "params.yaml")
    params["download"] |= PAIRS | {"dataset_files": str(folder / "corpus")}
    YAML().dump(params, folder / "params.yaml")
    for name in ("stages", "dvc.yaml", "requirements.txt", "hashes"):
        (folder / name).symlink_to(ROOT / name)
    found = run_stage("download", folder)
    near = json.loads((folder / "metrics" / "data.json").read_text(encoding="utf-8"))["near_duplicates"]
    return {**found, "near_duplicates": sum(one["examples"] for one in near if one["splits"] == ["train", "test"])}


def make(folder: Path, case: str, rows: int) -> None:
    """Writes the corpus of a case."""
    corpus = folder / "corpus"
    corpus.mkdir()
    sizes = {"train": rows, "validation": 1000, "test": rows // SHARE}
    for seed, (split, size) in enumerate(sizes.items()):
        if case != CASES[2]:
            write_pairs(corpus / f"{split}.csv", size, seed)
        else:
            with (corpus / f"{split}.csv").open("w", encoding="utf-8", newline="") as stream:
                csv.writer(stream).writerows([["sentence1", "sentence2", "label"], *framed(size, seed)])
    if case == CASES[1]:
        train, test = corpus / "train.csv", corpus / "test.csv"
        with train.open(encoding="utf-8", newline="") as stream, test.open("w", encoding="utf-8", newline="") as out:
            writer = csv.writer(out)
            for row, (first, second, label) in enumerate(csv.reader(stream)):
                if row % SHARE == 0:
                    changed = [" ".join([*text.split(" ")[:-1], "changed"]) for text in (first, second)]
                    writer.writerow([*changed, label] if row else [first, second, label])


def framed(rows: int, seed: int) -> Iterator[list[str]]:
    """Yields pairs of texts that differ in two words each."""
    generator, words = np.random.default_rng(seed), vocabulary()
    for row in range(rows):
        first, second = (FRAME.format(*generator.choice(words, 2)) for _ in range(2))
        yield [first, second, str(row % 2)]


def table(result: dict[str, Any]) -> str:
    """Formats the figures."""
    lines = [
        f"| download, {result['runs'][0]['rows']:,} train pairs and a tenth as many test pairs | seconds | "
        "peak memory | near-duplicates found |",
        "| --- | --- | --- | --- |",
    ]
    for run in result["runs"]:
        memory = f"{run['peak_mib'] / 1024:.1f} GiB"
        lines.append(f"| {run['case']} | {run['seconds']:.0f} | {memory} | {run['near_duplicates']:,} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    main(parser.parse_args().rows)
