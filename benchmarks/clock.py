"""Runs a stage, or DVC, with a clock on its parts; benchmarks.startup and benchmarks.noop start it.

    python -m benchmarks.clock stage RESULT NAME
    python -m benchmarks.clock dvc RESULT ARGUMENT...

Before the program does, it imports nothing but the standard library. The seconds of a part are without those of the
parts within it, so they add up. Moments are seconds since 1970.
"""

import builtins
import functools
import importlib
import json
import runpy
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# (module, name in it, part)
SNAPSHOT = ("stages.shared.runtime.run_stage", "snapshot", "inputs hashed")
STAGE_PARTS = {
    "train": [
        ("stages.train.train", "recipe_key", "inputs hashed"),
        ("stages.train.train", "load_pretrained", "model loaded"),
        ("stages.train.trainer", "ResumableTrainer.resume", "training"),
        ("stages.train.trainer", "ResumableTrainer.evaluate", "evaluations"),
        ("stages.train.trainer", "ResumableTrainer._save_checkpoint", "checkpoints"),
    ],
    "predict": [("stages.predict.predict", "Predictor.__init__", "model loaded")],
}
IMPORTS = "imports"
DVC_PARTS = [
    ("ruamel.yaml", "YAML.load", "dvc.yaml, dvc.lock, params.yaml read"),
    ("dvc.stage", "Stage.changed", "deps and outs checked"),
    ("dvc.repo.graph", "build_graph", "graph built"),
]


class Clock:
    """Divides seconds among named parts, by what runs."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.moments: dict[str, float] = {}
        self.running, self.since = "", time.perf_counter()

    def mark(self, moment: str) -> None:
        """Notes that `moment` is now."""
        self.moments[moment] = time.time()

    def counted(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        """Returns the function with its calls counted as `part`, but for what is counted within them."""

        @functools.wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            outer = self._switch(part)
            try:
                return function(*arguments, **options)
            finally:
                self._switch(outer)

        return call

    def watch(self, module: str, name: str, part: str) -> None:
        """Counts all calls of a function, or of a `Class.method`, as `part`."""
        *owners, last = name.split(".")
        owner: Any = functools.reduce(getattr, owners, importlib.import_module(module))
        setattr(owner, last, self.counted(getattr(owner, last), part))

    def write(self, file: Path) -> None:
        """Writes the seconds and the moments as JSON."""
        file.write_text(json.dumps({"parts": self.seconds, "moments": self.moments}), encoding="utf-8")

    def _switch(self, part: str) -> str:
        now, outer = time.perf_counter(), self.running
        if outer:
            self.seconds[outer] += now - self.since
        self.running, self.since = part, now
        return outer


def run_stage(clock: Clock, name: str) -> None:
    """Runs `stages.<name>`; moments: `entered` when all is imported, `began` and `ended` around its own work."""
    import stages.shared.runtime.run_stage as skeleton

    program, alone = skeleton.program, skeleton.alone

    @contextmanager
    def watched_program(name: str) -> Iterator[None]:
        clock.mark("entered")
        for part in [SNAPSHOT, *STAGE_PARTS.get(name, [])]:
            clock.watch(*part)
        with program(name):
            yield

    @contextmanager
    def watched_alone(name: str, inputs: Mapping[str, Any]) -> Iterator[None]:
        clock.mark("began")
        with alone(name, inputs):
            yield
        clock.mark("ended")

    skeleton.program, skeleton.alone = watched_program, watched_alone
    runpy.run_module(f"stages.{name}", run_name="__main__", alter_sys=True)


def run_dvc(clock: Clock, arguments: list[str]) -> None:
    """Runs DVC; moments: `started`, when this program did, and `ended`. Raises RuntimeError if DVC fails."""
    clock.mark("started")
    builtins.__import__ = clock.counted(builtins.__import__, IMPORTS)
    from dvc.cli import main

    for part in DVC_PARTS:
        clock.watch(*part)
    if status := main(arguments):
        raise RuntimeError(f"dvc {' '.join(arguments)}: exit status {status}")
    clock.mark("ended")


if __name__ == "__main__":
    kind, result, *rest = sys.argv[1:]
    sys.argv = sys.argv[:1]
    the_clock = Clock()
    if kind == "stage":
        run_stage(the_clock, rest[0])
    else:
        run_dvc(the_clock, rest)
    the_clock.write(Path(result))
