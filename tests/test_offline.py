"""The watch over sockets and writes notices what it should; tests/test_again.py runs each stage under it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.repositories import PINNED_DATASET, Downloader, hub_of

# Python imports this before anything else. What would leave the process is written down, and fails.
WATCH = """
import os, socket, sys

PROJECT, WRITES = os.getcwd(), os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = ("os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.symlink", "os.link", "os.truncate")

def note(event, arguments):
    with open(os.environ["NOTES"], "a") as log:
        log.write(f"{event} {arguments}\\n")

def is_elsewhere(path):
    path = os.path.abspath(os.fsdecode(path))
    own = (os.environ["NOTES"], os.devnull)
    places = (PROJECT, os.environ["TMPDIR"])  # libraries try whether the latter can be written, and leave nothing there
    return path not in own and not any(path.startswith(place + os.sep) for place in places)

def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)) and isinstance(arguments[2], int):
        if arguments[2] & WRITES and is_elsewhere(arguments[0]):
            note(event, arguments)
        return
    if event in CHANGES:
        path = arguments[1 if event in ("os.symlink", "os.link") else 0]
        if isinstance(path, (str, bytes, os.PathLike)) and is_elsewhere(path):
            note(event, arguments)
        return
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        if arguments[0].family == getattr(socket, "AF_UNIX", None):
            return
    elif event not in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        return
    note(event, arguments[1:])
    raise OSError("no network in this test")

sys.addaudithook(watch)
"""


def watch(here: Path) -> dict[str, str]:
    """Returns the environment in which each Python program notes its sockets, and what it writes elsewhere, in `notes`.

    As in a container with a user id of its own there is no home: nobody, not even root, can make a folder in it.
    """
    folder = here / "watch"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(WATCH.replace("\\\\", "\\"))
    (here / "no").write_text("a file, and no folder")
    home = str(here / "no" / "home")
    (here / "tmp").mkdir()
    places = {"NOTES": str(here / "notes"), "HOME": home, "TMPDIR": str(here / "tmp")}
    return {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", **places}


@pytest.fixture
def watched(tmp_path: Path) -> dict[str, str]:
    """Such an environment; the notes are in tmp_path/notes."""
    return watch(tmp_path)


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
    assert "socket." in (tmp_path / "notes").read_text()


@pytest.mark.parametrize(
    "code",
    [
        "open('../x', 'w')",
        "import os; os.mkdir('../x')",
        "import os; open('x', 'w'); os.remove('../no')",
        "import pathlib; pathlib.Path('../x').symlink_to('own')",
        "import os; open('x', 'w'); os.rename('../no', 'own')",
    ],
    ids=["write", "folder", "removal", "link", "rename"],
)
def test_a_change_elsewhere_is_noticed(code: str, watched: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    subprocess.run([sys.executable, "-c", code], env=watched, cwd=tmp_path / "project", check=True)
    assert len((tmp_path / "notes").read_text().splitlines()) == 1


def test_the_watch_notices_a_stage_that_goes_out(download: Downloader, watched: dict[str, str], tmp_path: Path) -> None:
    with hub_of() as hub:
        path = f"{watched['PYTHONPATH']}:{download.environment['PYTHONPATH']}"
        done = download(hub, env=watched | {"PYTHONPATH": path}, seconds=1, **PINNED_DATASET)
        assert not hub.requests
    assert done.returncode == 1 and "no network in this test" in done.stderr
    assert "socket.getaddrinfo" in (tmp_path / "notes").read_text()
