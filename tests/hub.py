"""A stand-in for the Hugging Face Hub on 127.0.0.1: what its clients ask for, and faults on demand."""

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Files = dict[str, bytes]  # path -> content
Repositories = dict[tuple[str, str], dict[str, Files]]  # ("dataset" or "model", id) -> commit -> files; newest last

LARGE = (".parquet", ".safetensors", ".bin")  # as on the Hub: kept outside Git, known by SHA-256


@dataclass
class Hub:
    """Serves `repositories` while the context lasts; afterwards nothing listens at `endpoint` any more."""

    repositories: Repositories
    # Faults: what a path (a regular expression, searched in it) is answered with; None: with nothing, for ever.
    status: dict[str, int | None] = field(default_factory=dict)
    damaged: Files = field(default_factory=dict)  # path -> what arrives instead, under the hashes of what was meant
    requests: list[tuple[str, str]] = field(default_factory=list)  # (method, path), in the order they came

    def __enter__(self) -> "Hub":
        self.closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)  # port 0: any free one
        self._server.hub = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    hub: Hub


class _Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    server: _Server
    protocol_version = "HTTP/1.1"  # connections stay open, as the Hub's do

    API = re.compile(r"/api/(dataset|model)s/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+)(?:/(.+))?)?")
    FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.hub = self.server.hub
        self.hub.requests.append((self.command, unquote(url.path)))
        for pattern, status in self.hub.status.items():
            if re.search(pattern, unquote(url.path)):
                if status is None:
                    self.hub.closing.wait()
                    self.close_connection = True
                else:
                    self._answer(status, b"a fault on demand")
                return
        if match := self.API.fullmatch(url.path):
            kind, repository, what, revision, path = (unquote(part) if part else "" for part in match.groups())
            self._api(kind, repository, what or "revision", revision or "main", path, parse_qs(url.query))
        elif match := self.FILE.fullmatch(url.path):
            datasets, repository, revision, path = (unquote(part) if part else "" for part in match.groups())
            self._file("dataset" if datasets else "model", repository, revision, path)
        else:
            self._missing("EntryNotFound")

    def _api(
        self, kind: str, repository: str, what: str, revision: str, path: str, query: dict[str, list[str]]
    ) -> None:
        commit, files = self._look_up(kind, repository, revision)
        if files is None:
            return
        content: Any
        if what == "revision":
            siblings = [{"rfilename": name} for name in files]
            content = {"id": repository, "sha": commit, "private": False, "tags": [], "siblings": siblings}
        else:
            content = _tree(files, path, recursive=query.get("recursive", [""])[0].lower() in ("1", "true"))
        self._answer(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _file(self, kind: str, repository: str, revision: str, path: str) -> None:
        commit, files = self._look_up(kind, repository, revision)
        if files is None:
            return
        if path not in files:
            self._missing("EntryNotFound", {"X-Repo-Commit": commit})
            return
        content = files[path]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{_git_hash(content)}"'}
        if path.endswith(LARGE):
            headers |= {"X-Linked-Etag": f'"{_sha256(content)}"', "X-Linked-Size": str(len(content))}
        self._answer(200, self.hub.damaged.get(path, content), headers)

    def _look_up(self, kind: str, repository: str, revision: str) -> tuple[str, Files | None]:
        """Returns the commit that `revision` means with its files, or answers that there is none."""
        commits = self.hub.repositories.get((kind, repository))
        if commits is None:
            # The Hub does not tell strangers whether a repository is missing or private.
            self._answer(401, b"{}", {"X-Error-Code": "RepoNotFound"})
            return "", None
        commit = list(commits)[-1] if revision == "main" else revision
        if commit not in commits:
            self._missing("RevisionNotFound")
            return "", None
        return commit, commits[commit]

    def _missing(self, code: str, headers: dict[str, str] | None = None) -> None:
        self._answer(404, b"{}", {"X-Error-Code": code} | (headers or {}))

    def _answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        """Keeps stderr for what the tests say."""


def _tree(files: Files, folder: str, recursive: bool) -> list[dict[str, Any]]:
    """Lists a folder as the Hub does: files with their hashes, and the folders in between."""
    start = f"{folder}/" if folder else ""
    entries: dict[str, dict[str, Any]] = {}
    for path, content in files.items():
        if not path.startswith(start):
            continue
        parts = path.removeprefix(start).split("/")
        for depth in range(1, len(parts) if recursive else min(2, len(parts))):
            inner = start + "/".join(parts[:depth])
            entries[inner] = {"type": "directory", "path": inner, "oid": _git_hash(inner.encode()), "size": 0}
        if recursive or len(parts) == 1:
            entries[path] = {"type": "file", "path": path, "oid": _git_hash(content), "size": len(content)}
            if path.endswith(LARGE):
                entries[path]["lfs"] = {"oid": _sha256(content), "size": len(content), "pointerSize": 130}
    return list(entries.values())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
