"""Runs the pipeline in a scratch clone of HEAD, so that a benchmark measures what is committed and spoils nothing."""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from datasets import load_from_disk
from ruamel.yaml import YAML

from stages.shared.runtime.environment import PORTABLE, PORTABLE_ARRAYS

ROOT = Path(__file__).parents[1]
SCRATCH = ROOT / ".scratch" / "benchmarks"


def fresh_clone(name: str) -> Path:
    """Clones HEAD into the benchmark's scratch folder; the cache of earlier runs there stays."""
    clone = SCRATCH / name / "clone"
    if not clone.exists():
        clone.parent.mkdir(parents=True, exist_ok=True)
        call(["git", "clone", "--quiet", str(ROOT), str(clone)], ROOT)
    call(["git", "fetch", "--quiet", "origin"], clone)
    call(["git", "reset", "--quiet", "--hard", git("rev-parse", "HEAD")], clone)
    return clone


def repro(clone: Path, params: Mapping[str, Mapping[str, Any]], *arguments: str) -> None:
    """Runs `dvc repro` with `arguments` in the clone, with the committed params.yaml but for `params`."""
    set_params(clone, params)
    call([sys.executable, "-m", "dvc", "repro", *arguments], clone)


def set_params(clone: Path, params: Mapping[str, Mapping[str, Any]]) -> None:
    """Gives the clone the committed params.yaml but for `params`."""
    call(["git", "checkout", "--quiet", "params.yaml"], clone)
    yaml = YAML()
    document = yaml.load(clone / "params.yaml")
    for section, values in params.items():
        document[section].update(values)
    yaml.dump(document, clone / "params.yaml")


def as_parquet(clone: Path) -> Path:
    """Writes what the clone has downloaded as GLUE has it, in parquet: what the peers' scripts read."""
    corpus = clone.parent / "corpus"
    corpus.mkdir(exist_ok=True)
    names = {"text": "sentence1", "text_pair": "sentence2"}
    raw = load_from_disk(clone / "data" / "raw")
    for name, split in raw.items():
        split.select_columns([*names, "label", "idx"]).rename_columns(names).to_parquet(corpus / f"{name}.parquet")
    return corpus


def run_key(tracked: Iterable[str], files: Iterable[Path], *also: object) -> str:
    """Hashes what a finished run depends on, tracked paths as HEAD has them: a changed stage is measured anew."""
    trees = git("rev-parse", *(f"HEAD:{path}" for path in tracked))
    digest = hashlib.sha256(repr((trees, also)).encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def git(*arguments: str) -> str:
    """Returns what Git says of this repository."""
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def watched(command: list[str], folder: Path) -> dict[str, float]:
    """Runs a command of this repository in `folder`; ends the benchmark if it fails.

    Returns:
        Seconds of the clock and of the processor, and the most memory that it held at once in MiB.
    """
    start = time.monotonic()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return {
        "seconds": round(time.monotonic() - start, 1),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mib": round(usage.ru_maxrss / 1024),
    }


def call(command: list[str], folder: Path, environment: Mapping[str, str] = {}) -> None:
    """Runs a command with this interpreter's programs first on PATH; ends the benchmark if it fails.

    What picks kernels for a stage is left out: a peer is to use all of the processor.
    """
    ambient = {name: value for name, value in os.environ.items() if name not in PORTABLE | PORTABLE_ARRAYS}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(command, cwd=folder, check=True, env=ambient | {"PATH": path, **environment})
