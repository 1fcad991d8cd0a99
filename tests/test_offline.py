"""After download nothing leaves the process, and download itself goes out for Hub sources only."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.project import Project
from tests.repositories import PINNED_DATASET, Downloader, hub_of

STAGES = ("download", "tokenize", "train", "predict", "evaluate")

# Python imports this before anything else. What would leave the process is written down, and fails.
WATCH = """
import os, socket, sys

def watch(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        if arguments[0].family == getattr(socket, "AF_UNIX", None):
            return
    elif event not in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        return
    with open(os.environ["SOCKETS"], "a") as log:
        log.write(f"{event} {arguments[1:]}\\\\n")
    raise OSError("no network in this test")

sys.addaudithook(watch)
"""


@pytest.fixture
def watched(tmp_path: Path) -> dict[str, str]:
    """The environment in which every Python program notes its sockets in tmp_path/sockets."""
    folder = tmp_path / "watch"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(WATCH.replace("\\\\", "\\"))
    return {"PYTHONPATH": str(folder), "SOCKETS": str(tmp_path / "sockets"), "HF_HOME": str(tmp_path / "hf")}


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_no_socket_leaves_a_stage_that_has_its_inputs(
    stage: str, tiny: Project, watched: dict[str, str], tmp_path: Path
) -> None:
    """download too: its sources here are files."""
    tiny.run(sys.executable, "-m", f"stages.{stage}", HF_ENDPOINT="http://127.0.0.1:9", **watched)
    assert not (tmp_path / "sockets").exists(), (tmp_path / "sockets").read_text()


@pytest.mark.parametrize(
    "code",
    [
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "import socket; socket.getaddrinfo('example.org', 80)",
        "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'', ('127.0.0.1', 9))",
        "import os, socket; os.fork() or socket.socket().connect(('127.0.0.1', 9)); os.wait()",
    ],
    ids=["connect", "look-up", "datagram", "child process"],
)
def test_a_socket_is_noticed(code: str, watched: dict[str, str], tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", code], env=watched, capture_output=True, cwd=tmp_path)
    assert "socket." in (tmp_path / "sockets").read_text()


def test_the_watch_notices_a_stage_that_goes_out(download: Downloader, watched: dict[str, str], tmp_path: Path) -> None:
    with hub_of() as hub:
        path = f"{watched['PYTHONPATH']}:{download.environment['PYTHONPATH']}"
        done = download(hub, env=watched | {"PYTHONPATH": path}, seconds=1, **PINNED_DATASET)
        assert not hub.requests
    assert done.returncode == 1 and "no network in this test" in done.stderr
    assert "socket.getaddrinfo" in (tmp_path / "sockets").read_text()
