"""Which bytes a machine shows: the committed recipe again, with fewer cores, another thread count, another arithmetic.

    python -m benchmarks.machines [FOLDER] [--epochs 2]

FOLDER holds a corpus of pairs in GLUE's columns; without it, it is the bundled sample. Trains the committed recipe for
some epochs in a scratch clone of HEAD, then again as each variant has it, and compares weights and logits with the
first, and with its dvc.lock all that train and predict wrote. An older processor is played through the variables that
the stages refuse, which are set behind the seal (stages/shared/runtime/environment.py) and before torch is imported. On
a corpus of one's own only two variants are worth their time. Writes benchmarks/results/machines.json, or
machines_mrpc.json for a FOLDER of that name; the README quotes them.
"""

import argparse
import contextlib
import json
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from benchmarks.clone import ROOT, call, fresh_clone, repro, set_params
from benchmarks.hard_pairs import PAIRS
from benchmarks.machine import describe
from checks.artifacts import Tolerance, compare_files
from stages.shared.runtime.dvc_hash import dvc_hash

WEIGHTS = "models/finetuned/model.safetensors"
LOGITS = "data/predictions/validation/logits.npy"

WITHOUT_AVX512 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}


@dataclass(frozen=True)
class Variant:
    """What is other than in the first run."""

    arithmetic: str = "portable"
    threads: int = 2
    core: str | None = None  # the only one that it may use
    niceness: int = 0
    ambient: dict[str, str] = field(default_factory=dict)  # of the shell
    sealed: dict[str, str] = field(default_factory=dict)  # set where the stages let nobody


REAL = {
    "portable, on one core, with `nice`, in a shell with other settings of OpenMP and MKL": Variant(
        core="0", niceness=10, ambient={"OMP_DYNAMIC": "TRUE", "MKL_DYNAMIC": "TRUE", "OMP_NUM_THREADS": "7"}
    ),
    "native": Variant("native"),
}
VARIANTS = {
    "portable, the same again": Variant(),
    **REAL,
    "portable, 1 thread instead of 2": Variant(threads=1),
    "native, AVX2 in ATen and oneDNN": Variant("native", sealed=WITHOUT_AVX512),
}


def main(folder: Path | None, epochs: int) -> None:
    """Runs every variant, prints the table and writes the result file."""
    clone = fresh_clone("machines")
    data = {"download": PAIRS | {"dataset_files": str(folder.resolve())}} if folder else {}
    repro(clone, data | {"train": {"epochs": epochs}})
    reference = clone.parent / "reference"
    for name in (WEIGHTS, LOGITS):
        (reference / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(clone / name, reference / name)
    lock = YAML(typ="safe", pure=True).load(clone / "dvc.lock")["stages"]
    locked = {out["path"]: out["md5"] for stage in ("train", "predict") for out in lock[stage]["outs"]}
    rows: dict[str, dict[str, Any]] = {}
    for name, variant in (REAL if folder else VARIANTS).items():
        print(f"{name} ...", flush=True)
        section = {"arithmetic": variant.arithmetic, "threads": variant.threads}
        set_params(clone, data | {"train": {"epochs": epochs} | section, "predict": section})
        for stage in ("train", "predict"):
            run_stage(clone, stage, variant)
        rows[name] = {
            "weights": compare_files(WEIGHTS, reference / WEIGHTS, clone / WEIGHTS, Tolerance()).figures,
            "logits": compare_files(LOGITS, reference / LOGITS, clone / LOGITS, Tolerance()).figures,
        }
        with contextlib.chdir(clone):  # whose .dvcignore counts
            rows[name]["same_lock"] = all(dvc_hash(Path(path)) == md5 for path, md5 in locked.items())
    result = {**describe(), "corpus": folder.name if folder else "sample", "epochs": epochs, "differences": rows}
    file = f"machines_{folder.name}.json" if folder else "machines.json"
    (ROOT / "benchmarks" / "results" / file).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))


def run_stage(clone: Path, stage: str, variant: Variant) -> None:
    """Runs one stage as the variant has it."""
    program = (
        "import os, runpy; import stages.shared.runtime.arithmetic as arithmetic; "
        f"arithmetic.choose_arithmetic({stage!r}); arithmetic.go_native = lambda: None; "
        f"os.environ.update({variant.sealed!r}); "
        f"runpy.run_module('stages.{stage}', run_name='__main__', alter_sys=True)"
    )
    on_core = ["taskset", "--cpu-list", variant.core] if variant.core else []
    command = ["nice", f"-n{variant.niceness}", *on_core, sys.executable, "-c", program]
    call(command, clone, {"PYTHONPATH": str(clone), **variant.ambient})


def table(result: dict[str, Any]) -> str:
    """Formats the README's table; tests/test_readme.py holds the README to it."""
    lines = [
        "| what is other | weights: largest, mean | logits: largest, mean | predictions flipped |",
        "| --- | --- | --- | --- |",
    ]
    for variant, row in result["differences"].items():
        cells = [
            f"{found['largest']:.1e}, {found['mean']:.1e}" if found else "same bytes"
            for found in (row["weights"], row["logits"])
        ]
        logits = row["logits"]
        flipped = f"{logits['flipped']} of {logits['of']}" if logits else "none"
        lines.append(f"| {variant} | {cells[0]} | {cells[1]} | {flipped} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--epochs", type=int, default=2)
    chosen = parser.parse_args()
    main(chosen.folder, chosen.epochs)
