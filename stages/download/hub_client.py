"""The HTTP client of every request to the Hub: it retries, resumes and gives up within one time limit.

`huggingface_hub` has retries of its own, and `set_client_factory` puts this client below them. What it does that they
do not: it repeats every request (theirs leave out the first look-up of a repository), also after a 500 in the middle
of a file, which ends their download; it gives up a server that is silent, endless in its headers or slower than 100
bytes a second, where theirs wait for ever as long as a byte comes now and then; it never waits for longer than the time
limit, where theirs obey any `Retry-After`; the first request that is given up ends those of other threads; it refuses
an answer of another commit than the one that was asked for; and its message names the file, what came of it, how often
and for how long it was tried.

Credentials (a token, a name and password in HF_ENDPOINT) go to the host of HF_ENDPOINT alone, by this scheme and port,
wherever a redirect leads. An answer that is read whole, as every answer but a file is, has a largest size.
"""

import math
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

from huggingface_hub import constants, set_client_factory
from huggingface_hub.utils import httpx, parse_ratelimit_headers

MIN_BYTES_PER_SECOND = 100  # A request that brings less, averaged over the whole time limit, is as good as dead.
TRANSIENT_STATUSES = (408, 429, 500, 502, 503, 504)  # Another attempt may not meet them again.
TRANSIENT_ERRORS = (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError)
MAX_ATTEMPTS = 12  # So many in a row may bring nothing new, however fast they bring what had come before.
MAX_CONNECTION_ATTEMPTS = 3  # They take 1.5 s, so that nobody without a network waits for long.
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.5, 8.0  # Pauses between attempts double from the first to the longest.
MAX_REDIRECTS = 20
MAX_ANSWER_BYTES = 2**24  # As JSON in Python's memory such an answer may take half a gigabyte.
CREDENTIALS = ("Authorization", "Cookie")
COMMIT_IN_PATH = re.compile(r"/resolve/([0-9a-f]{40})/")
CHECK_NETWORK = "check the network and run again, or use local files"
CHECK_ENDPOINT = "check that HF_ENDPOINT is the Hub or a faithful mirror of it"


class Unreachable(Exception):  # noqa: N818  (no httpx error: those the Hub's libraries would try again, or swallow)
    """A request that was given up: what was asked for, what came, how long it was tried, what to do."""


class Session:
    """What the requests of one download share: their time limit, and the first of them that was given up.

    Args:
        time_limit: seconds for which a request may bring less than `MIN_BYTES_PER_SECOND`; the time between two
            requests does not count.
        bounded: whether all of them together must end within the time limit, however much they bring.
    """

    def __init__(self, time_limit: float, bounded: bool = False) -> None:
        self.time_limit = time_limit
        self.end = time.monotonic() + time_limit if bounded else math.inf
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
def open_session(time_limit: float, bounded: bool = False) -> Iterator[Session]:
    """Makes every request of `huggingface_hub` and `datasets` in the block belong to one `Session`."""
    session = Session(time_limit, bounded)
    set_client_factory(lambda: _Client(session))
    try:
        yield session
    finally:
        session.closed.set()
        set_client_factory(lambda: httpx.Client(follow_redirects=True))


class _Client(httpx.Client):
    """`httpx.Client` whose requests belong to a session; proxies and certificates are those of the environment."""

    def __init__(self, session: Session) -> None:
        # A small answer that was compressed may be a large one.
        super().__init__(headers={"Accept-Encoding": "identity"})
        self.session = session

    def send(self, request: httpx.Request, *, stream: bool = False, **options: Any) -> httpx.Response:
        """Sends as `httpx.Client.send` does; a transient fault is repeated, a body that breaks off is resumed.

        Raises:
            Unreachable: nothing, or too little, came within the time limit, or it is of another commit.
        """
        follows = options.pop("follow_redirects", httpx.USE_CLIENT_DEFAULT) is not False
        transfer = _Transfer(self, request, options, follows)
        response = transfer.respond()
        response.stream = _ResumedBody(transfer, response, math.inf if stream else MAX_ANSWER_BYTES)
        if not stream:
            response.read()
        return response

    def send_once(self, request: httpx.Request, options: dict[str, Any], seconds: float) -> httpx.Response:
        """Sends without repetition; a server that dribbles out its headers for `seconds` loses its connection."""
        if not is_hub(request.url):
            for header in CREDENTIALS:
                request.headers.pop(header, None)
            request.url = request.url.copy_with(username="", password="")
        timer = threading.Timer(seconds, self.close)
        timer.daemon = True
        timer.start()
        try:
            return super().send(request, stream=True, follow_redirects=False, **options)
        finally:
            timer.cancel()


class _Transfer:
    """One request with its repetitions."""

    def __init__(self, client: _Client, request: httpx.Request, options: dict[str, Any], follows: bool) -> None:
        self.client = client
        self.follows = follows
        self.session = client.session
        self.request = request
        self.options = options
        self.what = self.session.names.get(str(request.url)) or asked_for(request.url)
        self.commit = match[1] if (match := COMMIT_IN_PATH.search(request.url.path)) else None
        self.limit = f"; execution.network_timeout_seconds: {self.session.time_limit:g}"  # to name in a message
        self.attempts = 0  # attempts in vain, since something came
        self.started = time.monotonic()
        self.deadline = min(self.started + self.session.time_limit, self.session.end)
        self.furthest = 0  # bytes of the body that have come, over all attempts
        self.counted = 0  # bytes of the body that were there when `attempts` began anew
        self.received = 0  # bytes since the deadline was moved, those that had come before included

    def respond(self, start: int = 0, etag: str = "") -> httpx.Response:
        """Returns the first response that is no transient fault; from byte `start` on, if the server can do that."""
        while True:
            if self.session.closed.is_set():
                raise self.give_up("another request was given up")
            left = max(0.0, self.deadline - time.monotonic())
            silence = min(self.session.time_limit / 3, left)  # A third leaves time for two more connections.
            self.request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), silence)
            request = self._from(start, etag) if start else self.request
            try:
                response = self._follow(request, left + self.session.time_limit / 10)
            except TRANSIENT_ERRORS as error:
                if self.client.is_closed:
                    raise self.give_up("no complete answer", self.limit) from None
                most = MAX_CONNECTION_ATTEMPTS if isinstance(error, httpx.ConnectError) else MAX_ATTEMPTS
                self.pause(_reason(error), max_attempts=most)
                continue
            if response.status_code not in TRANSIENT_STATUSES:
                return response
            response.close()
            self.pause(_status(response), retry_after=_retry_after(response))

    def _follow(self, request: httpx.Request, seconds: float) -> httpx.Response:
        """Sends, and goes where redirects lead; their bodies, which httpx itself would read to the end, are left.

        The address of a storage host names no commit, so the redirects that lead there are looked at too.
        """
        end = time.monotonic() + seconds
        for _ in range(MAX_REDIRECTS):
            response = self.client.send_once(request, self.options, max(0.0, end - time.monotonic()))
            self._check(response)
            if response.next_request is None:
                return response
            self.session.names[str(response.next_request.url)] = self.what
            if not self.follows:
                return response
            response.close()
            request = response.next_request
        raise self.give_up(f"more than {MAX_REDIRECTS} redirects")

    def pause(self, reason: str, retry_after: float | None = None, max_attempts: int = MAX_ATTEMPTS) -> None:
        """Waits before the next attempt, or gives up where it would come too late.

        Args:
            retry_after: seconds that the server asks to wait.
            max_attempts: attempts after which there is no point in another.
        """
        self.attempts += 1
        seconds = min(FIRST_PAUSE_SECONDS * 2 ** (self.attempts - 1), MAX_PAUSE_SECONDS)
        if retry_after is not None:
            seconds = retry_after
            reason += f", and it asks to wait {retry_after:g} s"
        if self.attempts >= max_attempts:
            raise self.give_up(reason)
        if time.monotonic() + seconds >= self.deadline or self.session.closed.wait(seconds):
            raise self.give_up(reason, self.limit)

    def record(self, position: int, size: int) -> None:
        """Records that `size` more bytes have come, and the body as far as byte `position`; gives up if it is slow."""
        if self.session.closed.is_set():
            raise self.give_up("another request was given up")
        enough = MIN_BYTES_PER_SECOND * self.session.time_limit
        now = time.monotonic()
        self.furthest = max(self.furthest, position)
        self.received += size
        if now >= self.session.end:
            raise self.give_up("too slow", self.limit)
        if self.furthest - self.counted >= enough:
            self.counted, self.attempts = self.furthest, 0
        if self.received >= enough:
            self.received, self.deadline = 0, min(now + self.session.time_limit, self.session.end)
        elif now >= self.deadline:
            raise self.give_up("too slow", self.limit)

    def give_up(self, reason: str, limit: str = "") -> Unreachable:
        """Ends all requests of the session, for this `reason` unless there was one before."""
        times = f"{self.attempts} attempts" if self.attempts > 1 else "1 attempt"
        seconds = time.monotonic() - self.started
        came = f"{self.furthest} bytes came, " if self.furthest else ""
        return self.session.fail(f"{self.what}: {reason} ({came}{times} in {seconds:.0f} s{limit})", CHECK_NETWORK)

    def _from(self, start: int, etag: str) -> httpx.Request:
        """Asks for the rest of the body, if it is still the one of `etag`, and for all of it if not."""
        headers = self.request.headers.copy()
        first, last = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("Range", "bytes=0-")).groups()  # type: ignore[union-attr]
        headers["Range"] = f"bytes={int(first) + start}-{last}"
        if etag.startswith('"'):  # A weak one, W/"...", does not promise equal bytes.
            headers["If-Range"] = etag
        return httpx.Request(self.request.method, self.request.url, headers=headers, extensions=self.request.extensions)

    def _check(self, response: httpx.Response) -> None:
        """Refuses what is not of the commit that was asked for, and what is compressed."""
        commit = response.headers.get("X-Repo-Commit")
        if self.commit is not None and commit not in (None, self.commit):
            response.close()
            reason = f"{self.what}: asked for commit {self.commit}, but the answer is for {commit}"
            raise self.session.fail(reason, CHECK_ENDPOINT)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            response.close()
            raise self.session.fail(
                f"{self.what}: the answer is compressed, although this was not requested", CHECK_ENDPOINT
            )


class _ResumedBody(httpx.SyncByteStream):
    """The body of a response, resumed where it broke off; one of more than `most` bytes is given up."""

    def __init__(self, transfer: _Transfer, response: httpx.Response, most: float) -> None:
        self.transfer = transfer
        self.most = most
        self.etag = response.headers.get("ETag", "")
        self.stream: Any = response.stream

    def __iter__(self) -> Iterator[bytes]:
        position, skip = 0, 0
        while True:
            try:
                for chunk in self.stream:
                    fresh, skip = chunk[skip:], max(0, skip - len(chunk))
                    position += len(fresh)
                    self.transfer.record(position, len(chunk))
                    if position > self.most:
                        self.close()
                        raise self.transfer.give_up(f"the answer has more than {self.most // 2**20} MiB")
                    if fresh:
                        yield fresh
                return
            except TRANSIENT_ERRORS as error:
                self.close()
                self.transfer.pause(_reason(error))
            response = self.transfer.respond(position, self.etag)
            self.stream = response.stream
            if not response.is_success:
                raise self.transfer.give_up(_status(response))
            # A server that cannot send parts begins at byte 0 again, and what has come before is skipped.
            skip = 0 if response.status_code == httpx.codes.PARTIAL_CONTENT else position

    def close(self) -> None:
        self.stream.close()


def is_hub(url: httpx.URL) -> bool:
    """Says whether an address is of the Hub's own host, by the same scheme and port."""
    hub = httpx.URL(constants.ENDPOINT)
    return bool((url.scheme, url.host, url.port) == (hub.scheme, hub.host, hub.port))


def asked_for(url: httpx.URL) -> str:
    """Says what an address stands for, without its query, because that may hold a signature."""
    path = unquote(url.path)
    return "the list of its files" if path.startswith("/api/") else COMMIT_IN_PATH.split(path)[-1]


def _retry_after(response: httpx.Response) -> float | None:
    """Returns the seconds after which the server wants to be asked again; the Hub says it in a header of its own."""
    if (limits := parse_ratelimit_headers(response.headers)) is not None and limits.remaining == 0:
        return float(limits.reset_in_seconds)
    seconds = response.headers.get("Retry-After", "")
    return float(seconds) if seconds.isdigit() else None


def _status(response: httpx.Response) -> str:
    return f"the answer was {response.status_code} {response.reason_phrase}"


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
