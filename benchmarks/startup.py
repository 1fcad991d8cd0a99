"""From the start of a stage's program to its first useful work; and what of `dvc repro` is no stage's work.

    python -m benchmarks.startup [--times 7] [--runs 3]

First, for each stage: the seconds from the start of `python -m stages.<name>` until all is imported and the block of
its `stage(...)` or `program(...)` is entered, seen from outside, and the most memory it took until then. In turns with
programs that only import: what a stage cannot do without, and the naive peer, which imports at the top what everybody
does. All files were read once before. Second, on the sample: `dvc repro --force` in fresh clones of HEAD, each with an
empty cache, divided among the stages' own work, the start and the end of their programs, and DVC. Needs Linux. Writes
benchmarks/results/startup.json.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.clone import ROOT, SCRATCH, fresh_clone
from benchmarks.machine import describe
from benchmarks.repeat import interleaved, spread

RESULT = ROOT / "benchmarks" / "results" / "startup.json"
STAGES = ("download", "tokenize", "train", "predict", "calibrate", "evaluate", "baselines", "report")
PEER = "naive peer"
IMPORTS = {
    "python": "",
    "numpy and pyarrow": "import numpy, pyarrow",
    "datasets": "import datasets",
    "torch": "import torch",
    "AutoTokenizer": "from transformers import AutoTokenizer",
    "Trainer": "from transformers import Trainer",
    PEER: (
        "import torch, transformers, datasets, evaluate\n"
        "from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer"
    ),
}
# Says when it is, and the most memory that this program had; getrusage would count what it was forked from.
ARRIVED = """
import os, re, time
arrived = time.monotonic()
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
print(arrived, peak, flush=True)
os._exit(0)
"""
STAGE = """
import runpy, stages.shared.runtime.run_stage
def arrive(name):
    exec(ARRIVED)
stages.shared.runtime.run_stage.program = arrive
runpy.run_module("stages.NAME", run_name="__main__", alter_sys=True)
"""
# What DVC finds as `python`: the stage with a clock, and when its program began and ended.
SHIM = """#!/bin/sh
name=${{2#stages.}}
began=$(date +%s.%N)
"{python}" -m benchmarks.clock stage "{folder}/$name.json" "$name" || exit
echo "[$began, $(date +%s.%N)]" > "{folder}/$name.process.json"
"""


def main(times: int, runs: int) -> None:
    """Measures, prints the tables and writes the result file."""
    codes = {name: STAGE.replace("NAME", name).replace("ARRIVED", repr(ARRIVED)) for name in STAGES}
    codes |= {name: imports + ARRIVED for name, imports in IMPORTS.items()}
    memory: dict[str, list[float]] = {name: [] for name in codes}

    def arrival(name: str) -> Callable[[], float]:
        def seconds() -> float:
            began = time.monotonic()
            done = subprocess.run(
                [sys.executable, "-c", codes[name]], cwd=ROOT, env=environment(), check=True, stdout=subprocess.PIPE
            )
            arrived, peak = done.stdout.split()
            memory[name].append(int(peak) / 1024)
            return float(arrived) - began

        return seconds

    programs = {name: arrival(name) for name in codes}
    interleaved(programs, 1)  # so that all files were read and compiled before
    for peaks in memory.values():
        peaks.clear()
    seconds = interleaved(programs, times)
    result = {
        **describe(),
        "programs": [
            {"program": name, "seconds": spread(seconds[name]), "peak_mb": statistics.median(memory[name])}
            for name in codes
        ],
        "repro": [divide() for _ in range(runs)],
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))


def environment() -> dict[str, str]:
    """Returns this process's environment, in which Python keeps what it compiled, as it does by default."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def divide() -> dict[str, Any]:
    """Runs all stages under DVC in a fresh clone; returns seconds: of the whole, of DVC's part, and by stage."""
    shutil.rmtree(SCRATCH / "startup", ignore_errors=True)
    clone = fresh_clone("startup")
    print("dvc repro --force ...", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shim = folder / "python"
        shim.write_text(SHIM.format(python=sys.executable, folder=folder), encoding="utf-8")
        shim.chmod(0o755)
        path = f"{folder}{os.pathsep}{os.environ['PATH']}"
        began = time.time()
        subprocess.run(
            [sys.executable, "-m", "dvc", "repro", "--quiet", "--force"],
            cwd=clone,
            env=environment() | {"PATH": path},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        ended = time.time()
        stages = {name: read_stage(folder, name) for name in STAGES}
    processes = [stage["process"] for stage in stages.values()]
    gaps = {
        "start": processes[0][0] - began,
        "between and after": ended - processes[0][0] - sum(end - start for start, end in processes),
    }
    return {
        "seconds": ended - began,
        "dvc": gaps,
        "stages": [
            {"stage": name, **figures["seconds"], "parts": figures["parts"]} for name, figures in stages.items()
        ],
    }


def read_stage(folder: Path, name: str) -> dict[str, Any]:
    """Returns when a stage's program began and ended, and its seconds: until all is imported, own, and after that."""
    process = json.loads((folder / f"{name}.process.json").read_text())
    clocked = json.loads((folder / f"{name}.json").read_text())
    moments = clocked["moments"]
    own = moments["ended"] - moments["began"]
    return {
        "process": process,
        "parts": clocked["parts"],
        "seconds": {
            "start": moments["entered"] - process[0],
            "own": own,
            "rest": process[1] - moments["entered"] - own,
        },
    }


def overhead(run: dict[str, Any]) -> float:
    """Returns the seconds of a run that are no stage's own."""
    return run["seconds"] - sum(stage["own"] for stage in run["stages"])


def table(result: dict[str, Any]) -> str:
    """Formats the tables of benchmarks/RESULTS.md."""
    return "\n\n".join([programs_table(result), repro_table(result), parts_table(result)])


def programs_table(result: dict[str, Any]) -> str:
    """Formats the seconds until the first useful work."""
    peer = next(row["seconds"]["median"] for row in result["programs"] if row["program"] == PEER)
    lines = [
        "| program | seconds to first useful work: median (min to max) | vs the naive peer | peak MB |",
        "| --- | --- | --- | --- |",
    ]
    for row in result["programs"]:
        name, seconds = row["program"], row["seconds"]
        label = f"stage {name}" if name in STAGES else f"only imports: {name}"
        lines.append(
            f"| {label} | {seconds['median']:.2f} ({seconds['min']:.2f} to {seconds['max']:.2f}) "
            f"| {seconds['median'] / peer:.0%} | {row['peak_mb']:.0f} |"
        )
    return "\n".join(lines)


def repro_table(result: dict[str, Any]) -> str:
    """Formats what `dvc repro` spends outside the stages' own work: the run whose overhead is the median."""
    runs = sorted(result["repro"], key=overhead)
    run = runs[(len(runs) - 1) // 2]
    lines = ["| `dvc repro --force`, seconds | own work | start | end |", "| --- | --- | --- | --- |"]
    for stage in run["stages"]:
        lines.append(f"| {stage['stage']} | {stage['own']:.2f} | {stage['start']:.2f} | {stage['rest']:.2f} |")
    own, start, rest = (sum(stage[kind] for stage in run["stages"]) for kind in ("own", "start", "rest"))
    dvc = run["dvc"]
    several = f" ({overhead(runs[0]):.2f} to {overhead(runs[-1]):.2f} in {len(runs)} runs)" if len(runs) > 1 else ""
    lines += [
        f"| all stages | {own:.2f} | {start:.2f} | {rest:.2f} |",
        f"| DVC itself: until the first stage, {dvc['start']:.2f}; between the stages and after | | "
        f"| {dvc['between and after']:.2f} |",
        f"| outside the stages' own work, of {run['seconds']:.2f} in total | | | **{overhead(run):.2f}**{several} |",
    ]
    return "\n".join(lines)


def parts_table(result: dict[str, Any]) -> str:
    """Formats what the own seconds of train and predict are spent on, in the same run."""
    runs = sorted(result["repro"], key=overhead)
    stages = {stage["stage"]: stage for stage in runs[(len(runs) - 1) // 2]["stages"]}
    lines = ["| own seconds of | part | seconds |", "| --- | --- | --- |"]
    for name in ("train", "predict"):
        parts = stages[name]["parts"]
        lines += [f"| {name} | {part} | {seconds:.2f} |" for part, seconds in parts.items()]
        lines.append(f"| {name} | the rest | {stages[name]['own'] - sum(parts.values()):.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=7)
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()
    main(chosen.times, chosen.runs)
