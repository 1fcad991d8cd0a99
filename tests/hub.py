"""A stand-in for the Hugging Face Hub on 127.0.0.1: what its clients ask for and upload, and faults on demand."""

import base64
import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Files = dict[str, bytes]  # path -> content
Repositories = dict[tuple[str, str], dict[str, Files]]  # ("dataset" or "model", id) -> commit -> files; newest last

LARGE = (".parquet", ".safetensors", ".bin")  # as on the Hub: kept outside Git, known by SHA-256


@dataclass
class Fault:
    """What goes wrong with the requests whose path a regular expression is found in."""

    path: str
    times: int | None = None  # None: always
    methods: tuple[str, ...] = ("GET", "HEAD")
    silent: bool = False  # no answer, for ever
    status: int | None = None  # an answer of this status
    headers: dict[str, str] = field(default_factory=dict)  # with the answer, in place of those of the same names
    content: bytes | None = None  # arrives in place of what was meant, under its hashes
    alter: Callable[[bytes], bytes] | None = None  # makes it of an answer that is no file
    keep: int | None = None  # bytes of the body that are sent before the connection is closed
    reset: bool = False  # ... before it is reset
    stall: bool = False  # ... before nothing more comes
    trickle: float = 0.0  # seconds between two bytes of the body
    dribble: float = 0.0  # seconds between two bytes of headers that never end
    endless: bytes = b""  # comes again and again, as a body that does not say how long it is


@dataclass(frozen=True)
class Request:
    """One request as it came."""

    method: str
    path: str
    host: str
    authorization: str | None
    range: str | None


@dataclass
class Hub:
    """Serves `repositories` while the context lasts; afterwards nothing listens at `endpoint` any more."""

    repositories: Repositories
    faults: list[Fault] = field(default_factory=list)  # the first that fits, and is not used up, counts
    token: str | None = None  # without it, every repository is a secret
    storage: bool = False  # large files are kept by another host, as the Hub's are
    ranges: bool = True  # parts of a file can be asked for
    page: int = 1000  # entries on a page of a list of files
    visibility: dict[str, str] = field(default_factory=dict)  # of the repositories that were made
    seen: list[Request] = field(default_factory=list)  # in the order they came

    @property
    def requests(self) -> list[tuple[str, str]]:
        """Method and path of each request."""
        return [(request.method, request.path) for request in self.seen]

    def __enter__(self) -> "Hub":
        self.closing = threading.Event()
        self.kept: Files = {}  # at the storage host: path -> content
        self._servers = [_Server(("127.0.0.1", 0), _Handler) for _ in range(2)]  # port 0: any free one
        self._threads = [
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}) for server in self._servers
        ]
        for server, thread in zip(self._servers, self._threads, strict=True):
            server.hub = self
            thread.start()
        self.endpoint = f"http://127.0.0.1:{self._servers[0].server_port}"
        self.storage_host = f"localhost:{self._servers[1].server_port}"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.closing.set()
        for server, thread in zip(self._servers, self._threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()


class _Server(ThreadingHTTPServer):
    hub: Hub
    daemon_threads = True


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
        path = unquote(url.path)
        self.hub = self.server.hub
        self.hub.seen.append(
            Request(
                self.command,
                path,
                self.headers["Host"],
                self.headers["Authorization"],
                self.headers["Range"],
            )
        )
        self.fault = self._next_fault(path)
        if self.fault.silent:
            self.hub.closing.wait()
            self.close_connection = True
        elif self.fault.dribble:
            self._dribble()
        elif self.fault.endless:
            self._endless()
        elif self.fault.status is not None:
            self._answer(self.fault.status, self.fault.content or b"a fault on demand")
        elif path in self.hub.kept:
            self._content(self.hub.kept[path], {})
        elif match := self.API.fullmatch(url.path):
            kind, repository, what, revision, folder = (unquote(part) if part else "" for part in match.groups())
            self._api(kind, repository, what or "revision", revision or "main", folder, parse_qs(url.query))
        elif match := self.FILE.fullmatch(url.path):
            datasets, repository, revision, file = (unquote(part) if part else "" for part in match.groups())
            self._file("dataset" if datasets else "model", repository, revision, file)
        else:
            self._missing("EntryNotFound")

    def do_POST(self) -> None:
        self._take_upload()

    def do_PUT(self) -> None:
        self._take_upload()

    def _take_upload(self) -> None:
        """Makes repositories and commits, as `HfApi.create_repo` and `create_commit` ask for them without Xet."""
        path = unquote(urlsplit(self.path).path)
        self.hub = self.server.hub
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        token = self.headers["Authorization"]
        self.hub.seen.append(Request(self.command, path, self.headers["Host"], token, None))
        self.fault = self._next_fault(path)
        if self.fault.status is not None:
            self._answer(self.fault.status, self.fault.content or b"a fault on demand")
        elif self.command == "PUT" and path.startswith("/lfs/"):  # the address alone gives the right to it
            self.hub.kept[path] = body if self.fault.alter is None else self.fault.alter(body)
            self._answer(200, b"")
        elif self.hub.token is not None and token != f"Bearer {self.hub.token}":
            self._answer(401, b"{}")
        elif path == "/api/validate-yaml":
            self._say({"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            self.hub.visibility.setdefault(name, asked.get("visibility", "public"))
            is_new = ("model", name) not in self.hub.repositories
            self.hub.repositories.setdefault(("model", name), {"0" * 40: {}})
            self._say({"url": f"{self.hub.endpoint}/{name}"}, 200 if is_new else 409)
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", path):
            modes = [
                {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular"}
                for file in json.loads(body)["files"]
            ]
            self._say({"files": [mode | {"shouldIgnore": False} for mode in modes]})
        elif path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                one | {"actions": {"upload": {"href": f"{self.hub.endpoint}/lfs/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            self._say({"objects": objects, "transfer": "basic"})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
            commits = self.hub.repositories["model", match[1]]
            files = dict(list(commits.values())[-1])
            for item in map(json.loads, body.splitlines()):
                value = item["value"]
                if item["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif item["key"] == "lfsFile":
                    files[value["path"]] = self.hub.kept[f"/lfs/{value['oid']}"]
            commit = hashlib.sha1(body).hexdigest()
            commits[commit] = files
            address = f"{self.hub.endpoint}/{match[1]}/commit/{commit}"
            self._say({"commitUrl": address, "commitOid": commit, "pullRequestUrl": None})
        else:
            self._missing("EntryNotFound")

    def _say(self, content: Any, status: int = 200) -> None:
        self._answer(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _next_fault(self, path: str) -> Fault:
        for fault in self.hub.faults:
            if fault.times != 0 and self.command in fault.methods and re.search(fault.path, path):
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return Fault("")

    def _api(
        self, kind: str, repository: str, what: str, revision: str, path: str, query: dict[str, list[str]]
    ) -> None:
        commit, files = self._look_up(kind, repository, revision)
        if files is None:
            return
        content: Any
        headers = {"Content-Type": "application/json"}
        if what == "revision":
            siblings = [{"rfilename": name} for name in files]
            content = {
                "id": repository,
                "sha": self.fault.headers.get("X-Repo-Commit", commit),
                "private": False,
                "tags": [],
                "siblings": siblings,
            }
        else:
            content = _tree(files, path, recursive=query.get("recursive", [""])[0].lower() in ("1", "true"))
            start = int(query.get("cursor", ["0"])[0])
            if start + self.hub.page < len(content):
                address = f"{self.hub.endpoint}{urlsplit(self.path).path}?recursive=true&cursor={start + self.hub.page}"
                headers["Link"] = f'<{address}>; rel="next"'
            content = content[start : start + self.hub.page]
        answer = json.dumps(content).encode() if self.fault.content is None else self.fault.content
        if self.fault.alter is not None:
            answer = self.fault.alter(answer)
        self._answer(200, answer, headers)

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
            if self.hub.storage:
                place = f"/storage/{_sha256(content)}"
                self.hub.kept[place] = content
                location = f"http://{self.hub.storage_host}{place}?signature=not-to-be-printed"
                self._answer(302, b"", headers | {"Location": location})
                return
        self._content(content, headers)

    def _content(self, content: bytes, headers: dict[str, str]) -> None:
        """Answers with a file, or with its rest from the byte that is asked for."""
        if self.fault.content is not None:
            content = self.fault.content
        part = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        if part is None or not self.hub.ranges:
            self._answer(200, content, headers)
            return
        start = int(part[1])
        told = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        self._answer(206, content[start:], headers | told)

    def _look_up(self, kind: str, repository: str, revision: str) -> tuple[str, Files | None]:
        """Returns the commit that `revision` means with its files, or answers that there is none."""
        commits = self.hub.repositories.get((kind, repository))
        if self.hub.token is not None and self.headers["Authorization"] != f"Bearer {self.hub.token}":
            commits = None
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
        for name, value in ((headers or {}) | self.fault.headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.fault.trickle:
            for byte in content:
                self.wfile.write(bytes([byte]))
                if self.hub.closing.wait(self.fault.trickle):
                    break
        elif self.fault.keep is None:
            self.wfile.write(content)
        else:
            self.wfile.write(content[: self.fault.keep])
            if self.fault.stall:
                self.hub.closing.wait()
            if self.fault.reset:
                self.wfile.flush()
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            self.close_connection = True

    def _endless(self) -> None:
        self.send_response(self.fault.status or 200)
        for name, value in self.fault.headers.items():
            self.send_header(name, value)
        self.end_headers()
        while not self.hub.closing.is_set():
            self.wfile.write(self.fault.endless)

    def _dribble(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Padding: ")
        while not self.hub.closing.wait(self.fault.dribble):
            self.wfile.write(b"x")
        self.close_connection = True

    def handle_one_request(self) -> None:
        """Takes it as it comes that a client gives up."""
        try:
            super().handle_one_request()
        except (ConnectionError, ValueError, OSError):
            self.close_connection = True

    def finish(self) -> None:
        """The same, for what is left to be sent."""
        with suppress(ConnectionError, ValueError, OSError):
            super().finish()

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
