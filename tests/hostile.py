"""A Hub that means harm, and what it must not reach: decoys below the test's folder, other hosts, a second line."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from benchmarks.hard_pairs import HARD_PAIRS
from stages.download.download import DownloadFiles, DownloadParams, download
from stages.shared.runtime.execution import Execution
from tests.hub import Hub
from tests.project import PARAMS
from tests.repositories import TRAIN, VALIDATION, parquet

DECOY = b"a file of the user's"
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = ("os.remove", "os.rmdir", "os.mkdir", "os.rename", "os.link", "os.symlink", "os.truncate", "os.chmod")


class Ground:
    """A project and a home in tmp_path, where `download` runs in this process, and the decoys beside them."""

    def __init__(self, folder: Path, checkpoint: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.checkpoint, self.patch = folder, checkpoint, patch
        self.project, self.cache, self.decoys = folder / "project", folder / "hf" / "hub", folder / "decoys"
        for place in (self.project, self.cache, self.decoys / "folder"):
            place.mkdir(parents=True)
        for decoy in (self.decoys / "file", self.decoys / "folder" / "config.json"):
            decoy.write_bytes(DECOY)
        patch.setenv("HF_TOKEN", "hf_secret")
        patch.chdir(self.project)
        patch.setattr(constants, "HF_HUB_CACHE", str(self.cache))
        (self.project / "local").mkdir()
        for split, rows in {"train": TRAIN, "validation": VALIDATION}.items():
            (self.project / "local" / f"{split}.parquet").write_bytes(parquet(rows))

    def download(self, hub: Hub, seconds: float = 2, endpoint: str = "", **changes: Any) -> None:
        """Runs the stage's story with `changes` of its parameters."""
        self.patch.setattr(constants, "ENDPOINT", endpoint or hub.endpoint)
        template = "{repo_id}/resolve/{revision}/{filename}"
        self.patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{endpoint or hub.endpoint}/{template}")
        values = PARAMS["download"]
        own = {"dataset": "files", "dataset_files": "local", "checkpoint": "files"}
        own |= {"checkpoint_files": str(self.checkpoint)}
        p = DownloadParams(**(values | HARD_PAIRS | own | changes))
        download(p, Execution("cpu", 60.0, 1, seconds, 1, 1, None), DownloadFiles())

    def published(self) -> dict[str, bytes]:
        """The bytes of what the stage wrote."""
        outs = [self.project / name for name in ("data", "models", "metrics")]
        files = [file for out in outs for file in sorted(out.rglob("*")) if file.is_file()]
        return {str(file.relative_to(self.project)): file.read_bytes() for file in files}

    def assert_unharmed(self, hub: Hub) -> None:
        """Every decoy is as it was, and the token was seen by the Hub alone."""
        there = {file: file.read_bytes() for file in self.decoys.rglob("*") if file.is_file()}
        assert there == dict.fromkeys((self.decoys / "file", self.decoys / "folder" / "config.json"), DECOY)
        own = hub.endpoint.partition("://")[2]
        assert not [request for request in hub.seen if request.host != own and request.authorization]
        assert not [file for file in self.folder.rglob("*") if file.name.endswith((".incomplete", ".partial"))]


class Watch:
    """Notes what this process writes, moves or removes outside of some folders; a hook cannot be taken out again."""

    def __init__(self) -> None:
        self.allowed: tuple[Path, ...] | None = None
        self.outside: list[str] = []
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.allowed is None:
            return
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES:
            paths = arguments[:1]
        elif event in CHANGES:
            paths = arguments[1:2] if event in ("os.link", "os.symlink") else arguments[:2]
        else:
            return
        for path in paths:
            if isinstance(path, str | bytes | os.PathLike):
                place = Path(os.fsdecode(path)).absolute()
                if not any(place.is_relative_to(folder) for folder in self.allowed) and str(place) != os.devnull:
                    self.outside.append(f"{event} {place}")

    @contextmanager
    def watching(self, *allowed: Path) -> Iterator[list[str]]:
        """Yields the list of what is noted in the block."""
        self.outside, self.allowed = [], allowed
        try:
            yield self.outside
        finally:
            self.allowed = None
