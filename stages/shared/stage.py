"""What every stage's program has around its story: one at a time, gone with its parent, one line for a bad input."""

import ctypes
import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.shared.errors import BadInput
from stages.shared.hermetic import PARENT
from stages.shared.imports import settle
from stages.shared.processes import is_worker, rank, record
from stages.shared.provenance import refuse_changes, snapshot
from stages.shared.publish import is_full_disk, write_json

SCRATCH = Path(".scratch")
LOCK_SECONDS = 20.0  # a stage whose dvc was killed dies at once, but its memory takes a while to be given back


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Runs the block as the stage `name` of the project in the current folder.

    Raises:
        SystemExit: 1 for bad input or a full disk, 130 for Ctrl-C; each with one line on stderr and no traceback.
    """
    with program(name), alone(name):
        yield


@contextmanager
def program(name: str) -> Iterator[None]:
    """Ends with its parent, and turns what the user can mend into one line: a stage's launcher, and each worker."""
    _die_with_parent()
    settle()
    try:
        yield
    except BadInput as error:
        _end(name, 1, str(error))
    except KeyboardInterrupt:
        _end(name, 130, "interrupted; run `dvc repro` again")
    except Exception as error:
        if not is_full_disk(error, SCRATCH):
            if is_worker():
                _end(name, 1, "")  # the launcher tells it, if it is not the consequence of another's end
            raise
        _end(name, 1, "the disk is full; free some space and run `dvc repro` again")
    finally:
        settle()


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Keeps a second run out, notices inputs that change meanwhile, notes the seconds; of several processes, rank 0."""
    if rank() > 0:
        yield
        return
    start = time.monotonic()
    with _locked(name):
        inputs = snapshot(name)
        yield
        refuse_changes(inputs, snapshot(name))
        write_json(SCRATCH / f"{name}.seconds.json", round(time.monotonic() - start, 1))


def _end(name: str, status: int, line: str) -> None:
    if is_worker():
        record(line)
    else:
        print(f"{name}: {line}", file=sys.stderr)
    raise SystemExit(status) from None


def _die_with_parent() -> None:
    """A killed `dvc` takes its stage along: without this the stage runs on and the next `dvc repro` starts a second."""
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != PARENT:  # killed while this program was importing its libraries
        raise SystemExit(1)


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
