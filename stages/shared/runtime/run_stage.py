"""Runs a stage's story: one run at a time, ended with its parent, with one-line errors for bad input."""

import fcntl
import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol, TypeVar

from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.execution import Execution
from stages.shared.runtime.last_results import bring_back_results, keep_results
from stages.shared.runtime.made_from import describe_inputs, publish_record
from stages.shared.runtime.params import read_params
from stages.shared.runtime.parent import die_with_parent
from stages.shared.runtime.publish import is_full_disk, write_json
from stages.shared.runtime.rank import is_worker, rank, record
from stages.shared.runtime.sections import check_sections
from stages.shared.runtime.snapshot import refuse_absent, refuse_changes, snapshot
from stages.shared.runtime.terminal import warn

# What no result depends on, such as the checkpoints of an unfinished training. Programs that run the stages in a folder
# that goes with them (checks/experiments.py) keep it elsewhere.
SCRATCH_VARIABLE = "TUNELOCK_SCRATCH"
SCRATCH = Path(os.environ.get(SCRATCH_VARIABLE) or ".scratch")
LOCK_SECONDS = 20.0  # a stage whose dvc was killed dies at once, but its memory takes a while to be given back

Params = TypeVar("Params")
Files = TypeVar("Files")


class Launcher(Protocol):
    """What starts several processes for a stage, where the stage can have several."""

    def start(self, stage: str, p: Any, execution: Execution) -> bool:
        """Runs the stage's program in several processes and waits for them; False: this process is to do the work."""
        ...

    def meet(self) -> None:
        """Waits until all of them have done their work."""
        ...


def run_stage(
    schema: type[Params],
    files: Files,
    story: Callable[[Params, Execution, Files], None],
    launcher: Launcher | None = None,
) -> None:
    """Runs `story(params, execution, files)` as the stage of the story's name, for the project in the current folder.

    Raises:
        SystemExit: 1 for bad input or a full disk, 130 for Ctrl-C; each with one line on stderr and no traceback.
    """
    name = story.__name__
    with program(name), results_kept(name):
        # before anything is read: what the stage works with is then what is compared at its end
        inputs = snapshot(name) if rank() == 0 else {}
        p, execution = read_params(name, schema), read_params("execution", Execution)
        if rank() == 0:
            check_sections()
            refuse_absent(name)
        if launcher is not None and launcher.start(name, p, execution):
            return
        with alone(name, inputs), whole_inputs(name, files):
            story(p, execution, files)
        if launcher is not None:
            launcher.meet()  # no process reports success before rank 0 has published


@contextmanager
def program(name: str) -> Iterator[None]:
    """Ends with its parent, and turns what the user can mend into one line: a stage's launcher, and each worker."""
    die_with_parent()
    try:
        yield
    except BadInput as error:
        _end(name, 1, str(error))
    except KeyboardInterrupt:
        _end(name, 130, "interrupted; run `dvc repro` again")
    except BrokenPipeError:  # whoever read what the stage says has gone, as `| head` does: it ends without a word
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # where Python flushes to at its end
        raise SystemExit(128 + signal.SIGPIPE) from None
    except Exception as error:
        if not is_full_disk(error, SCRATCH):
            if is_worker():
                _end(name, 1, "")  # the launcher tells it, if it is not the consequence of another's end
            raise
        _end(name, 1, "the disk is full; free some space and run `dvc repro` again")
    finally:
        gc.freeze()  # nothing is searched for garbage on the way out, which takes seconds after a training


@contextmanager
def results_kept(name: str) -> Iterator[None]:
    """Brings back the metrics of the last run that succeeded if this one fails, in whatever way it can still say so."""
    try:
        yield
    except BaseException:
        if rank() == 0:
            bring_back_results(name)
        raise


@contextmanager
def whole_inputs(name: str, files: Any) -> Iterator[None]:
    """Says in one line which file a stage misses in what it reads.

    Args:
        files: the stage's dataclass of paths.

    Raises:
        BadInput: one is missing.
    """
    try:
        yield
    except FileNotFoundError as error:
        paths = [str(getattr(files, field.name)) for field in fields(files)]
        missing = str(error.filename or error)
        if not any(path in missing for path in paths):
            raise
        raise BadInput(f"{missing}: not there; `dvc repro {name}` makes what it reads anew") from None


@contextmanager
def alone(name: str, inputs: Mapping[str, Any]) -> Iterator[None]:
    """Keeps a second run out, and notes the seconds and what the outputs are made from; with several processes, rank 0.

    Args:
        inputs: the `snapshot` of what the stage reads; it must be the same when the block has ended.
    """
    if rank() > 0:
        yield
        return
    start = time.monotonic()
    with _locked(name):
        made_from = describe_inputs(name)
        yield
        refuse_changes(inputs, snapshot(name))  # what was hashed is what was read
        publish_record(name, made_from)
        keep_results(name)
        write_json(SCRATCH / f"{name}.seconds.json", round(time.monotonic() - start, 1))


def _end(name: str, status: int, line: str) -> None:
    if is_worker():
        record(line)
    else:
        warn(f"{name}: {line}")
    raise SystemExit(status) from None


@contextmanager
def _locked(name: str) -> Iterator[None]:
    SCRATCH.mkdir(exist_ok=True)
    with (SCRATCH / f"{name}.lock").open("w") as lock:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise BadInput("this stage is already running in this folder; wait for it or end it") from None
                time.sleep(0.1)
        yield
