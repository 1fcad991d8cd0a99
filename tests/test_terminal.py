"""On a terminal, a stage that may take minutes draws bars that move; what it writes into a log is in test_again.py."""

import os
import pty
import re
import subprocess
import sys
import termios

import pytest

from tests.project import Project

pytestmark = pytest.mark.slow

# Those stages, with the bars that they draw; how many rows a csv has is known at its end only.
BARS = {
    "download": ["read train: [1-9]\\d* examples", r"compare texts: 100%\|"],
    "tokenize": [r"tokenize: 100%\|"],
    "train": [r"100%\|"],
    "predict": [r"predict validation: 100%\|"],
}


def on_a_terminal(project: Project, stage: str) -> str:
    """Runs a stage whose output is a terminal, and returns what it wrote there."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))  # a new one has no columns, and so no room for a bar
    command = [sys.executable, "-m", f"stages.{stage}"]
    # A stage that was imported in this process, which has no terminal, has switched bars off in its environment.
    kept = {name: value for name, value in os.environ.items() if not name.endswith("DISABLE_PROGRESS_BARS")}
    with subprocess.Popen(command, cwd=project.folder, env=kept, stdin=theirs, stdout=theirs, stderr=theirs) as running:
        os.close(theirs)
        written = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # how Linux says that the other side is closed
                break
            written += piece
        assert running.wait() == 0, written.decode()
    os.close(ours)
    return written.decode()


@pytest.mark.parametrize("stage", BARS)
def test_a_stage_shows_its_progress_on_a_terminal(stage: str, tiny: Project) -> None:
    written = on_a_terminal(tiny, stage)
    assert [bar for bar in BARS[stage] if not re.search(bar, written)] == [], written
    assert "\r" in written.replace("\r\n", "")
