"""The HTTP client behind the Hub's libraries: it retries, resumes and gives up, where they hang or fail too soon.

Left to themselves they do not repeat the first request, take a 500 in mid-download for the end, obey any `Retry-After`,
and wait for ever for a server that goes silent or sends a byte now and then.
"""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

from huggingface_hub import set_client_factory
from huggingface_hub.utils import httpx, parse_ratelimit_headers  # type: ignore[attr-defined]

SLOWEST = 100  # bytes per second; what brings less for the whole time limit is as good as dead
PASSING = (408, 429, 500, 502, 503, 504)  # statuses that another attempt may not meet again
PASSING_ERRORS = (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError)
ATTEMPTS = 12  # in a row that bring nothing new, however fast they bring what had come before
CONNECTING = 3  # attempts to get a connection at all: 1.5 s, so that nobody without a network waits for long
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0  # seconds between two attempts; doubled each time
COMMIT_IN_PATH = re.compile(r"/resolve/([0-9a-f]{40})/")


class Unreachable(Exception):  # noqa: N818  (no httpx error: those the Hub's libraries would try again, or swallow)
    """A request that was given up: what was asked for, what came, how long it was tried, what to do."""


class Door:
    """What the requests of one download share: their time limit, and the first of them that was given up.

    Args:
        time_limit: seconds that a request may bring less than `SLOWEST` bytes each; time between requests is free.
    """

    def __init__(self, time_limit: float) -> None:
        self.time_limit = time_limit
        self.failure: Unreachable | None = None
        self.closed = threading.Event()
        self.names: dict[str, str] = {}  # address of a storage host -> the file that the Hub keeps there

    def fail(self, reason: str, remedy: str) -> Unreachable:
        """Ends this and every other request; the first reason is the one to tell."""
        if self.failure is None:
            self.failure = Unreachable(f"{reason}; {remedy}")
        self.closed.set()
        return self.failure


@contextmanager
def open_door(time_limit: float) -> Iterator[Door]:
    """Makes every request of `huggingface_hub` and `datasets` in the block go through one `Door`."""
    door = Door(time_limit)
    set_client_factory(lambda: _Client(door))
    try:
        yield door
    finally:
        door.closed.set()
        set_client_factory(lambda: httpx.Client(follow_redirects=True))


class _Client(httpx.Client):
    """`httpx.Client` whose requests are those of a `Door`; proxies and certificates are the environment's, as ever."""

    def __init__(self, door: Door) -> None:
        super().__init__(follow_redirects=True)
        self.door = door

    def send(self, request: httpx.Request, *, stream: bool = False, **how: Any) -> httpx.Response:
        """Sends as `httpx.Client.send` does; a passing fault is repeated, a body that breaks off is resumed.

        Raises:
            Unreachable: nothing, or too little, came within the time limit, or it is of another commit.
        """
        fetch = _Fetch(self, request, how)
        while True:
            response = fetch.answer()
            response.stream = _Body(fetch, response)
            if stream:
                return response
            try:
                response.read()
                return response
            except httpx.DecodingError as error:  # broken off and resumed, but compressed anew
                fetch.pause(_reason(error))

    def send_once(self, request: httpx.Request, how: dict[str, Any], seconds: float) -> httpx.Response:
        """Sends without repetition; a server that dribbles out its headers for `seconds` loses its connection."""
        timer = threading.Timer(seconds, self.close)
        timer.daemon = True
        timer.start()
        try:
            return super().send(request, stream=True, **how)
        finally:
            timer.cancel()


class _Fetch:
    """One request with its repetitions."""

    def __init__(self, client: _Client, request: httpx.Request, how: dict[str, Any]) -> None:
        self.client = client
        self.door = client.door
        self.request = request
        self.how = how
        self.what = self.door.names.get(str(request.url)) or asked_for(request.url)
        self.commit = match[1] if (match := COMMIT_IN_PATH.search(request.url.path)) else None
        self.limit = f"; execution.network_timeout_seconds: {self.door.time_limit:g}"  # to name in a message
        self.attempts = 0  # in vain, since something came
        self.started = time.monotonic()
        self.deadline = self.started + self.door.time_limit
        self.furthest = 0  # bytes of the body that have come, over all attempts
        self.counted = 0  # of them, those that were there when `attempts` began anew
        self.received = 0  # bytes since the deadline was moved, those that had come before included

    def answer(self, start: int = 0, tag: str = "") -> httpx.Response:
        """Returns the first answer that is not a passing fault; from byte `start` on, if the server can do that."""
        while True:
            if self.door.closed.is_set():
                raise self.give_up("another request was given up")
            left = max(0.0, self.deadline - time.monotonic())
            silence = min(self.door.time_limit / 3, left)  # so that there is time for another connection
            self.request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), silence)
            request = self._from(start, tag) if start else self.request
            try:
                response = self.client.send_once(request, self.how, left + self.door.time_limit / 10)
            except PASSING_ERRORS as error:
                if self.client.is_closed:
                    raise self.give_up("no whole answer", self.limit) from None
                self.pause(_reason(error), most=CONNECTING if isinstance(error, httpx.ConnectError) else ATTEMPTS)
                continue
            self._check_commit(response)
            if response.next_request is not None:
                self.door.names[str(response.next_request.url)] = self.what
            if response.status_code not in PASSING:
                return response
            response.close()
            self.pause(_status(response), wait=_asked_wait(response))

    def pause(self, reason: str, wait: float | None = None, most: int = ATTEMPTS) -> None:
        """Waits before the next attempt, or gives up where it would come too late.

        Args:
            wait: seconds that the server asks for.
            most: attempts after which there is no point in another.
        """
        self.attempts += 1
        seconds = min(FIRST_PAUSE * 2 ** (self.attempts - 1), LONGEST_PAUSE) if wait is None else wait
        if wait is not None:
            reason += f", and it asks to wait {wait:g} s"
        if self.attempts >= most:
            raise self.give_up(reason)
        if time.monotonic() + seconds >= self.deadline or self.door.closed.wait(seconds):
            raise self.give_up(reason, self.limit)

    def note(self, position: int, size: int) -> None:
        """Takes down that `size` more bytes have come, and the body as far as byte `position`."""
        if self.door.closed.is_set():
            raise self.give_up("another request was given up")
        enough = SLOWEST * self.door.time_limit
        now = time.monotonic()
        self.furthest = max(self.furthest, position)
        self.received += size
        if self.furthest - self.counted >= enough:
            self.counted, self.attempts = self.furthest, 0
        if self.received >= enough:
            self.received, self.deadline = 0, now + self.door.time_limit
        elif now >= self.deadline:
            raise self.give_up("too slow", self.limit)

    def give_up(self, reason: str, limit: str = "") -> Unreachable:
        """Ends all requests of the door, for this `reason` unless there was one before."""
        times = f"{self.attempts} attempts" if self.attempts > 1 else "1 attempt"
        seconds = time.monotonic() - self.started
        came = f"{self.furthest} bytes came, " if self.furthest else ""
        return self.door.fail(
            f"{self.what}: {reason} ({came}{times} in {seconds:.0f} s{limit})",
            "check the network and run again, or use local files",
        )

    def _from(self, start: int, tag: str) -> httpx.Request:
        """Asks for the rest of the body, if it is still the one of `tag`, and for all of it if not."""
        headers = self.request.headers.copy()
        first, last = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("Range", "bytes=0-")).groups()  # type: ignore[union-attr]
        headers["Range"] = f"bytes={int(first) + start}-{last}"
        if tag.startswith('"'):  # a weak one, W/"...", does not promise equal bytes
            headers["If-Range"] = tag
        return httpx.Request(self.request.method, self.request.url, headers=headers, extensions=self.request.extensions)

    def _check_commit(self, response: httpx.Response) -> None:
        """Refuses what is not of the commit that was asked for; a file's own address has none, but what led there."""
        for answer in (*response.history, response):
            found = answer.headers.get("X-Repo-Commit")
            if self.commit is not None and found not in (None, self.commit):
                response.close()
                raise self.door.fail(
                    f"{self.what}: asked for commit {self.commit}, the answer is of {found}",
                    "check that HF_ENDPOINT is the Hub or a faithful mirror of it",
                )


class _Body(httpx.SyncByteStream):
    """The body of a response, resumed where it broke off."""

    def __init__(self, fetch: _Fetch, response: httpx.Response) -> None:
        self.fetch = fetch
        self.tag = response.headers.get("ETag", "")
        self.stream = _stream(response)

    def __iter__(self) -> Iterator[bytes]:
        position, skip = 0, 0
        while True:
            try:
                for chunk in self.stream:
                    fresh, skip = chunk[skip:], max(0, skip - len(chunk))
                    position += len(fresh)
                    self.fetch.note(position, len(chunk))
                    if fresh:
                        yield fresh
                return
            except PASSING_ERRORS as error:
                self.close()
                self.fetch.pause(_reason(error))
            response = self.fetch.answer(position, self.tag)
            self.stream = _stream(response)
            if not response.is_success:
                raise self.fetch.give_up(_status(response))
            skip = 0 if response.status_code == httpx.codes.PARTIAL_CONTENT else position

    def close(self) -> None:
        self.stream.close()


def asked_for(url: httpx.URL) -> str:
    """Says what an address stands for, without its query: that may hold a signature."""
    path = unquote(url.path)
    return "the list of its files" if path.startswith("/api/") else COMMIT_IN_PATH.split(path)[-1]


def _stream(response: httpx.Response) -> httpx.SyncByteStream:
    assert isinstance(response.stream, httpx.SyncByteStream)
    return response.stream


def _asked_wait(response: httpx.Response) -> float | None:
    """Returns the seconds after which the server wants to be asked again; the Hub says it in a header of its own."""
    if (limits := parse_ratelimit_headers(response.headers)) is not None and limits.remaining == 0:
        return float(limits.reset_in_seconds)
    seconds = response.headers.get("Retry-After", "")
    return float(seconds) if seconds.isdigit() else None


def _status(response: httpx.Response) -> str:
    return f"the answer was {response.status_code} {response.reason_phrase}"


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
