"""`dvc repro` when nothing has changed: how long it takes, and on what.

    python -m benchmarks.noop [--times 15]

In a fresh clone of HEAD, after one full run; in turns with what it cannot be faster than (Python, DVC's own imports)
and with the tool that also asks whether files changed (`git status`). One more run under a clock says where the seconds
go. Writes benchmarks/results/noop.json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.clone import ROOT, fresh_clone, repro
from benchmarks.machine import describe
from benchmarks.repeat import interleaved, spread
from benchmarks.startup import environment

RESULT = ROOT / "benchmarks" / "results" / "noop.json"
PROGRAMS = {
    "dvc repro": [sys.executable, "-m", "dvc", "repro"],
    "dvc --version": [sys.executable, "-m", "dvc", "--version"],
    "python -c 'import dvc.repo'": [sys.executable, "-c", "import dvc.repo"],
    "python -c ''": [sys.executable, "-c", ""],
    "git status": ["git", "status"],
}
UP_TO_DATE = "Data and pipelines are up to date."


def main(times: int) -> None:
    """Measures, prints the tables and writes the result file."""
    clone = fresh_clone("noop")
    repro(clone, {})

    def run(command: list[str]) -> Callable[[], float]:
        def seconds() -> float:
            began = time.perf_counter()
            done = subprocess.run(command, cwd=clone, env=environment(), check=True, stdout=subprocess.PIPE, text=True)
            ended = time.perf_counter()
            if command == PROGRAMS["dvc repro"] and UP_TO_DATE not in done.stdout:
                raise RuntimeError(f"this was no no-op:\n{done.stdout}")
            return ended - began

        return seconds

    programs = {name: run(command) for name, command in PROGRAMS.items()}
    interleaved(programs, 1)  # so that all files were read and compiled before
    seconds = interleaved(programs, times)
    result = {
        **describe(),
        "times": times,
        "programs": [{"program": name, "seconds": spread(values)} for name, values in seconds.items()],
        "parts": divide(clone),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))


def divide(clone: Path) -> list[dict[str, Any]]:
    """Runs it once more under the clock, and returns the seconds of its parts; they add up to the whole."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "clock.json"
        began = time.time()
        subprocess.run(
            [sys.executable, "-m", "benchmarks.clock", "dvc", str(file), "repro", "--quiet"],
            cwd=clone,
            env=environment(),
            check=True,
        )
        ended = time.time()
        clocked = json.loads(file.read_text(encoding="utf-8"))
    moments, parts = clocked["moments"], clocked["parts"]
    within = moments["ended"] - moments["started"]
    parts["the rest of DVC"] = within - sum(parts.values())
    parts["Python's start and end"] = ended - began - within
    return [{"part": name, "seconds": value} for name, value in parts.items()]


def table(result: dict[str, Any]) -> str:
    """Formats the tables of benchmarks/RESULTS.md."""
    first = result["programs"][0]["seconds"]["median"]
    lines = ["| nothing has changed | seconds: median (min to max) | vs `dvc repro` |", "| --- | --- | --- |"]
    for row in result["programs"]:
        seconds = row["seconds"]
        lines.append(
            f"| `{row['program']}` | {seconds['median']:.3f} ({seconds['min']:.3f} to {seconds['max']:.3f}) "
            f"| {seconds['median'] / first:.0%} |"
        )
    whole = sum(part["seconds"] for part in result["parts"])
    lines += ["", "| where the time goes, in one timed run | seconds | share |", "| --- | --- | --- |"]
    for part in sorted(result["parts"], key=lambda part: -part["seconds"]):
        lines.append(f"| {part['part']} | {part['seconds']:.3f} | {part['seconds'] / whole:.0%} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=15)
    main(parser.parse_args().times)
