"""Ends a program with its parent: a stage whose `dvc` is gone would otherwise run beside the next one."""

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

from stages.shared.runtime.environment import PARENT
from stages.shared.runtime.terminal import warn

DVC_STAGE = "DVC_STAGE"  # what DVC tells every command that it starts
DVC_LOCKS = Path(".dvc/tmp/rwlock")  # which of its processes is writing which outs


def die_with_parent() -> None:
    """Has the system kill this program when its parent ends, and ends at once where the parent is gone already.

    Raises:
        SystemExit: with status 1, if the program that started this one is not its parent any more.
    """
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != PARENT or _dvc_is_gone():
        warn("the program that started this stage has ended, so the stage ends too; run `dvc repro` again")
        raise SystemExit(1)


def _dvc_is_gone() -> bool:
    """Says whether DVC started this program and was killed before Python could note its parent: who is that by now?

    DVC writes down its process before it starts a stage's. A stage that was started by hand knows of no DVC.
    """
    if DVC_STAGE not in os.environ:
        return False
    try:
        writers = {writer["pid"] for writer in json.loads(DVC_LOCKS.read_text(encoding="utf-8"))["write"].values()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False  # DVC is just writing the file, or does without it
    import psutil  # here, since a stage that is run by hand has no use for it

    return bool(writers) and writers.isdisjoint(parent.pid for parent in psutil.Process().parents())
