"""bert-base-uncased: seconds per step, memory and disk space, compared with the course's script.

    python -m benchmarks.bert_base [FOLDER] [--rounds 3] [--steps 20]

FOLDER holds a corpus of pairs in GLUE's columns; without it, it is the bundled sample. The checkpoint is a replica
(benchmarks/replica.py): what a step costs does not depend on the values of the weights, what the model learns does, so
no scores are shown. As in benchmarks/train_throughput.py the programs take turns, each as its users start it, and the
clock runs while they train. Since few steps are timed, and they hold shorter or longer pairs by chance, what is
compared is tokens a second, padding not counted; pairs a second, seconds a step and the time of three epochs are
computed from it and the corpus's mean number of tokens. bf16 is left out where the processor does not have it in
hardware. Peak memory and the size of a checkpoint are those of whole runs of the stage `train` on the longest pairs,
where the peak is. Writes benchmarks/results/bert_base.json.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
from ruamel.yaml import YAML

from benchmarks.clone import ROOT, as_parquet, call, fresh_clone, repro, set_params
from benchmarks.hard_pairs import PAIRS
from benchmarks.machine import arithmetics, describe
from benchmarks.repeat import interleaved, spread
from benchmarks.train_throughput import LABELS
from stages.shared.runtime.splits import load_splits

RESULT = ROOT / "benchmarks" / "results" / "bert_base.json"
COURSE_BATCH = 8  # the default of Trainer
EPOCHS = 3
LONGEST = {"train": 48, "validation": 64}  # pairs of the runs whose memory and disk space are measured
NEVER = 1e6  # minutes


def main(folder: Path | None, rounds: int, steps: int) -> None:
    """Measures, prints the tables and writes the result file."""
    clone = fresh_clone("bert_base")
    shutil.rmtree(clone / ".dvc" / "cache", ignore_errors=True)  # its growth is measured
    replica = clone.parent / "replica"
    call([sys.executable, "-m", "benchmarks.replica", str(replica)], ROOT)
    data: dict[str, Any] = {"checkpoint": "files", "checkpoint_files": str(replica)}
    corpus = PAIRS | {"dataset_files": str(folder.resolve())} if folder else {}
    repro(clone, {"download": data | corpus}, "tokenize")
    lengths = {
        split: np.asarray(load_splits(clone / "data" / "tokenized")[split].with_format("numpy")["length"][:])
        for split in LONGEST
    }
    choices = arithmetics()
    batch_size = YAML(typ="safe", pure=True).load(clone / "params.yaml")["train"]["batch_size"]
    corpus_folder = as_parquet(clone)
    timed = time_steps(clone, data | corpus, corpus_folder, choices, batch_size, rounds, steps)
    longest = data | {"dataset_files": str(write_longest(corpus_folder, lengths))}
    peaks, checkpoint, added = measure_space(clone, longest, choices)
    result = {
        **describe(),
        "corpus": folder.name if folder else "sample",
        "pairs": len(lengths["train"]),
        "tokens_per_pair": float(lengths["train"].mean()),
        "batch_sizes": {"course": COURSE_BATCH} | dict.fromkeys(choices, batch_size),
        "tokens_per_second": timed,
        "peak_mib": peaks,
        "checkpoint_bytes": checkpoint,
        "cache_bytes": added,
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))


def time_steps(
    clone: Path,
    data: dict[str, Any],
    corpus: Path,
    choices: list[str],
    batch_size: int,
    rounds: int,
    steps: int,
) -> dict[str, list[float]]:
    """Returns the tokens a second of the course's script, and of the stage in each arithmetic, round by round."""
    checkpoint = clone / "models" / "pretrained"
    threads = str(YAML(typ="safe", pure=True).load(clone / "params.yaml")["train"]["threads"])
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "measured.json"

        def clock(examples: int, *program: str) -> float:
            command = ["benchmarks.training_clock", str(file), str(examples), "0", *program]
            call([sys.executable, "-m", *command], clone, {"OMP_NUM_THREADS": threads})
            measured = json.loads(file.read_text(encoding="utf-8"))
            return float(measured["tokens"] / measured["seconds"])

        def course() -> float:
            arguments = [str(corpus), str(checkpoint), "1", os.devnull]
            return clock(steps * COURSE_BATCH, "benchmarks.course", *arguments)

        def stage(arithmetic: str) -> Callable[[], float]:
            def run() -> float:
                train, execution = {"arithmetic": arithmetic}, {"checkpoint_minutes": NEVER}
                set_params(clone, {"download": data, "train": train, "execution": execution})
                return clock(steps * batch_size, "stages.train")

            return run

        return interleaved({"course": course} | {name: stage(name) for name in choices}, rounds)


def write_longest(corpus: Path, lengths: dict[str, np.ndarray]) -> Path:
    """Writes the longest pairs of the corpus into a folder beside it, and returns that."""
    target = corpus.with_name("longest")
    target.mkdir(exist_ok=True)
    for split, number in LONGEST.items():
        rows = np.argsort(-lengths[split], kind="stable")[:number]
        pyarrow.parquet.write_table(
            pyarrow.parquet.read_table(corpus / f"{split}.parquet").take(rows), target / f"{split}.parquet"
        )
    return target


def measure_space(clone: Path, data: dict[str, Any], choices: list[str]) -> tuple[dict[str, int], int, int]:
    """Runs the pipeline on `data` in each arithmetic.

    Returns:
        The peak memory of the stage `train` in MiB, by arithmetic; the bytes of a checkpoint; those that one run, from
        `train` on, adds to DVC's cache.
    """
    peaks = {}
    cache = clone / ".dvc" / "cache" / "files"
    for arithmetic in choices:
        changes = {
            "download": data,
            "train": {"epochs": 2, "arithmetic": arithmetic},
            "execution": {"checkpoint_minutes": NEVER},
        }
        repro(clone, changes, "tokenize")
        before = size(cache)
        peaks[arithmetic], checkpoint = train_watched(clone)
        repro(clone, changes)
        added = size(cache) - before
    return peaks, checkpoint, added


def train_watched(clone: Path) -> tuple[int, int]:
    """Runs the stage `train` by DVC: the most memory that it held at once in MiB, and the bytes of a checkpoint."""
    process = subprocess.Popen([sys.executable, "-m", "dvc", "repro", "train"], cwd=clone)
    checkpoint, done = 0, 0
    while not done:
        time.sleep(0.1)
        for folder in (clone / ".scratch" / "train").glob("*/checkpoint-*"):
            with suppress(FileNotFoundError):  # it makes room for the next one
                checkpoint = max(checkpoint, size(folder))
        done, status, usage = os.wait4(process.pid, os.WNOHANG)  # of DVC and, far larger, the stage that it waited for
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"train ended with {process.returncode}")
    return round(usage.ru_maxrss / 1024), checkpoint


def size(folder: Path) -> int:
    """Returns the bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def table(result: dict[str, Any]) -> str:
    """Formats the figures; benchmarks/RESULTS.md shows them."""
    pairs = EPOCHS * result["pairs"]
    lines = [
        f"| bert-base-uncased's layout on {result['corpus']} | seconds per step: median (min to max) | pairs/s "
        f"| vs the course | computed: {EPOCHS} epochs, {pairs:,} pairs |",
        "| --- | --- | --- | --- | --- |",
    ]
    rates = {name: spread(values) for name, values in result["tokens_per_second"].items()}
    for name in ("course", "fp32", "bf16"):
        if name not in rates:
            lines.append(f"| {LABELS[name]} | not measured: this processor has no bf16 in hardware | | | |")
            continue
        batch = result["batch_sizes"][name]
        rate = {key: value / result["tokens_per_pair"] for key, value in rates[name].items()}
        lines.append(
            f"| {LABELS[name]}, {batch} pairs per step "
            f"| {batch / rate['median']:.2f} ({batch / rate['max']:.2f} to {batch / rate['min']:.2f}) "
            f"| {rate['median']:.1f} | {rates[name]['median'] / rates['course']['median']:.2f} "
            f"| {pairs / rate['median'] / 60:.0f} min |"
        )
    lines += ["", "| a training needs | |", "| --- | --- |"]
    lines += [
        f"| peak memory of the stage `train`, {name} | {mebibytes / 1024:.1f} GiB |"
        for name, mebibytes in sorted(result["peak_mib"].items(), reverse=True)
    ]
    lines += [
        f"| a checkpoint (`.scratch/` has up to three) | {result['checkpoint_bytes'] / 1e9:.2f} GB |",
        f"| added to DVC's cache by one run | {result['cache_bytes'] / 1e9:.2f} GB |",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20, help="that are timed, after some to warm up")
    chosen = parser.parse_args()
    main(chosen.folder, chosen.rounds, chosen.steps)
