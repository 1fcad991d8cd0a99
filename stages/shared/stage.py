"""What every stage's program has around its story: one at a time, gone with its parent, one line for a bad input."""

import ctypes
import errno
import fcntl
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.shared.errors import BadInput

SCRATCH = Path(".scratch")
LOCK_SECONDS = 20.0  # a stage whose dvc was killed dies at once, but its memory takes a while to be given back


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Runs the block as the stage `name` of the project in the current folder.

    Raises:
        SystemExit: 1 for bad input or a full disk, 130 for Ctrl-C; each with one line on stderr and no traceback.
    """
    _die_with_parent()
    try:
        with _alone(name):
            yield
    except BadInput as error:
        print(f"{name}: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"{name}: the disk is full ({error}); free some space and run `dvc repro` again", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print(f"{name}: interrupted; `dvc repro` goes on from here", file=sys.stderr)
        raise SystemExit(130) from None


def _die_with_parent() -> None:
    """A killed `dvc` takes its stage along: without this the stage runs on and the next `dvc repro` starts a second."""
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def _alone(name: str) -> Iterator[None]:
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
