"""Lists the files of a Hub repository at one commit with their hashes, and fetches and verifies each file.

What is handed out is exactly what was asked for, each file copied and hashed at once, so that nobody can change it in
between. The Hub's cache of the user is only a place where the same bytes may lie already: whatever lies there that is
not what the list says is not used, and neither are the lists that its library keeps there.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from errno import EDQUOT, ENOSPC
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from huggingface_hub import constants, get_session, hf_hub_url
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import build_hf_headers, httpx
from huggingface_hub.utils.logging import set_verbosity
from tqdm import tqdm

from stages.download.hub_client import (
    CHECK_ENDPOINT,
    CHECK_NETWORK,
    Session,
    Unreachable,
    asked_for,
    is_hub,
    open_session,
)
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.terminal import warn

COMMIT = re.compile(r"[0-9a-f]{40}")
HASHES = {"sha256": re.compile(r"[0-9a-f]{64}"), "git-sha1": COMMIT}
CHUNK_BYTES = 2**20
MAX_PAGES = 200  # of a list of files; the Hub puts a thousand on each
MAX_FILES = 200_000  # They are held in memory, a hundred megabytes of them.
PARALLEL = 8  # files at once, as the Hub's own library fetches them

Kind = Literal["dataset", "checkpoint"]  # as params.yaml calls them
REPO_TYPES = {"dataset": "dataset", "checkpoint": "model"}  # as the Hub calls them


class Refused(Exception):  # noqa: N818  (it names what happened)
    """An answer that is no success and will not change."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(f"{asked_for(response.request.url)}: the answer was {response.status_code}")
        self.response = response


class HubFile(NamedTuple):
    """A file as the Hub's list describes it."""

    path: str
    size: int  # bytes
    algorithm: str  # sha256 | git-sha1, the hash that Git gives to a file
    hash: str


@dataclass(frozen=True)
class Repository:
    """A dataset or model of the Hub at one commit."""

    kind: Kind
    name: str  # <owner>/<name>
    commit: str
    time_limit: float  # seconds that a request may bring next to nothing before it is given up

    @property
    def what(self) -> str:
        """What a message calls it."""
        return f"{self.kind} {self.name}"

    @property
    def cache(self) -> Path:
        """Its folder in the Hub's cache: blobs/<hash> are the contents, snapshots/<commit>/<path> links to them."""
        folder = repo_folder_name(repo_id=self.name, repo_type=REPO_TYPES[self.kind])
        return Path(constants.HF_HUB_CACHE).resolve() / folder


def look_up(kind: Kind, name: str, revision: str | None, time_limit: float) -> tuple[Repository, list[str]]:
    """Returns the repository at the commit of `revision` (None: the newest, with a warning), and its files' paths.

    Raises:
        BadInput: the Hub cannot be reached, or has no such repository or commit.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise BadInput(f"params.yaml: download.{kind}: expected hub:<owner>/<name>, got {name!r}")
    if revision is not None and not COMMIT.fullmatch(revision):
        raise BadInput(
            f"params.yaml: download.{kind}_revision: expected the 40 hexadecimal digits of a commit, got {revision!r}"
        )
    what = f"{kind} {name}"
    with hub_session(what, time_limit, bounded=True):
        place = f"{constants.ENDPOINT}/api/{REPO_TYPES[kind]}s/{name}"
        answer = _ask(place if revision is None else f"{place}/revision/{revision}").json()
        if not isinstance(answer, dict) or not isinstance(answer.get("siblings", []), list):
            raise ValueError("the answer does not describe a repository")
        commit = str(answer.get("sha"))
        paths = [str(entry["rfilename"]) for entry in answer.get("siblings", [])]
    if not COMMIT.fullmatch(commit) or revision not in (None, commit):
        raise BadInput(
            f"{what}: asked {hub_host()} for commit {revision or 'main'}, but the answer is for {commit[:80]}; "
            f"{CHECK_ENDPOINT}"
        )
    # The newest commit is another one tomorrow, and the same parameters would then give other results.
    if revision is None:
        warn(f"download: warning: {what} is not pinned; paste into params.yaml: {kind}_revision: {commit}")
    return Repository(kind, name, commit, time_limit), paths


def list_files(repository: Repository, paths: Iterable[str]) -> dict[str, HubFile]:
    """Returns the files of a repository with their hashes, by path.

    Args:
        paths: those that it has by another answer of the Hub; a list that lacks one of them is not the commit's.

    Raises:
        BadInput: the Hub cannot be reached, or its list is not whole, not of this form, or does not end.
    """
    what, files = repository.what, {}
    with hub_session(what, repository.time_limit, bounded=True):
        for entry in _entries(repository):
            if entry.get("type") == "file":
                file = _described(entry, what)
                files[file.path] = file
                if len(files) > MAX_FILES:
                    raise BadInput(f"{what}: more than {MAX_FILES:,} files; use a copy with fewer, or local files")
    lacking = sorted(path for path in paths if path not in files)
    if lacking:
        raise BadInput(
            f"{what}: the Hub's list of hashes does not name {lacking[0][:200]}, so it cannot be verified; "
            f"{CHECK_ENDPOINT}"
        )
    return files


def _entries(repository: Repository) -> Iterator[dict[str, Any]]:
    """Yields the entries of the list of files, page by page."""
    url = httpx.URL(
        f"{constants.ENDPOINT}/api/{REPO_TYPES[repository.kind]}s/{repository.name}/tree/{repository.commit}",
        params={"recursive": "true"},
    )
    user = {"username": url.username, "password": url.password}  # that of HF_ENDPOINT, which links to pages may lack
    for _ in range(MAX_PAGES):
        response = _ask(str(url))
        page = response.json()
        if not isinstance(page, list) or not all(isinstance(entry, dict) for entry in page):
            raise ValueError("the list of its files is not a list of files")
        yield from page
        link = response.links.get("next", {}).get("url")
        if link is None:
            return
        url = url.join(link)
        if not is_hub(url):
            raise BadInput(f"{repository.what}: its list of files continues on another host; {CHECK_ENDPOINT}")
        url = url.copy_with(**user)
    raise BadInput(f"{repository.what}: its list of files does not end after {MAX_PAGES:,} pages; {CHECK_ENDPOINT}")


def _described(entry: Mapping[str, Any], what: str) -> HubFile:
    """Returns what an entry says of a file, with a path that leads nowhere but into the repository."""
    path, large = entry.get("path"), entry.get("lfs")
    algorithm = "git-sha1" if large is None else "sha256"
    described = entry if large is None else large
    size, digest = (described.get(key) for key in ("size", "oid")) if isinstance(described, dict) else (None, None)
    if not isinstance(path, str) or {"", ".", ".."} & set(path.split("/")) or "\0" in path:
        raise BadInput(
            f"{what}: its list of files names {str(path)[:200]!r}, which is outside the repository; {CHECK_ENDPOINT}"
        )
    if type(size) is not int or size < 0 or not isinstance(digest, str) or not HASHES[algorithm].fullmatch(digest):
        raise BadInput(f"{what}: its list of files has no size and hash for {path[:200]}; {CHECK_ENDPOINT}")
    return HubFile(path, size, algorithm, digest)


def fetch_files(repository: Repository, files: Iterable[HubFile], target: Path, remedy: str = CHECK_NETWORK) -> None:
    """Puts files of a repository into the folder `target`, under their paths, verified.

    Raises:
        BadInput: the Hub cannot be reached, or what it sends is twice not what its list says.
    """
    wanted = list(files)
    target.mkdir(parents=True, exist_ok=True)
    if sum(file.size for file in wanted) > shutil.disk_usage(target).free:
        raise OSError(ENOSPC, "No space left on device")
    with (
        hub_session(repository.what, repository.time_limit, remedy) as session,
        tqdm(
            total=sum(file.size for file in wanted), desc="fetch", unit="B", unit_scale=True, disable=None
        ) as progress,
        ThreadPoolExecutor(PARALLEL) as pool,
    ):
        for file in wanted[:1]:  # What is wrong with all of them is said of the first.
            _fetch(repository, file, target / file.path, progress)
        done = [pool.submit(_fetch, repository, file, target / file.path, progress) for file in wanted[1:]]
        try:
            for one in as_completed(done):
                one.result()
        except BaseException:
            session.closed.set()  # what the others are waiting for is of no use any more
            pool.shutdown(cancel_futures=True)
            raise


def _fetch(repository: Repository, file: HubFile, target: Path, progress: Any) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if _from_cache(repository, file, target):
        progress.update(file.size)
        return
    for _ in range(2):
        fault = _from_hub(repository, file, target, progress)
        if not fault:
            _keep(repository, file, target)
            return
    raise BadInput(
        f"{repository.what}: {file.path} is damaged: {fault}, twice; something between this machine and the Hub "
        "changes it"
    )


def _from_cache(repository: Repository, file: HubFile, target: Path) -> bool:
    """Copies a file from the Hub's cache, if it is there; what is there under its name and is not the file goes."""
    blob, name = _places(repository, file)
    if name.is_symlink() and name.resolve().parent != blob.parent:
        _remove_entry(name)
    for entry in (blob, name):
        content = _open(entry, file.size)
        if content is not None:
            with content, target.open("wb") as copy:
                if not _fault(file, iter(partial(content.read, CHUNK_BYTES), b""), copy):
                    return True
        _remove_entry(entry)
    return False


def _open(entry: Path, size: int) -> BinaryIO | None:
    """Opens a file of the cache if it can be read and has this size; what is no file, as a device, might never end."""
    with suppress(OSError):
        if entry.is_file() and entry.stat().st_size == size:
            return entry.open("rb")
    return None


def _from_hub(repository: Repository, file: HubFile, target: Path, progress: Any) -> str:
    """Fetches a file, and returns what is wrong with what came; an empty text where nothing is."""
    url = hf_hub_url(repository.name, file.path, repo_type=REPO_TYPES[repository.kind], revision=repository.commit)
    with get_session().stream("GET", url, headers=build_hf_headers()) as response, target.open("wb") as copy:
        if not response.is_success:
            raise Refused(response)
        return _fault(file, response.iter_raw(), copy, progress)


def _fault(file: HubFile, chunks: Iterable[bytes], copy: Any, progress: Any = None) -> str:
    """Copies a content, and says what of it is not as the Hub's list says; what is too much is not read."""
    digest = hashlib.sha256() if file.algorithm == "sha256" else hashlib.sha1(b"blob %d\0" % file.size)
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > file.size:
            return f"it should be of size {file.size} but is larger"
        digest.update(chunk)
        copy.write(chunk)
        if progress is not None:
            progress.update(len(chunk))
    if size < file.size:
        return f"it should be of size {file.size} but has size {size}"
    if digest.hexdigest() != file.hash:
        return f"{file.algorithm} {digest.hexdigest()}, expected {file.hash}"
    return ""


def _places(repository: Repository, file: HubFile) -> tuple[Path, Path]:
    """Returns where the Hub's cache has a file's content, and the name that stands for it."""
    cache = repository.cache
    return cache / "blobs" / file.hash, cache / "snapshots" / repository.commit / file.path


def _is_own(entry: Path) -> bool:
    """Says whether the folder of an entry of the cache is the cache's own, and no link that leads elsewhere."""
    return entry.parent.resolve() == entry.parent


def _remove_entry(entry: Path) -> None:
    """Removes what lies under a name in the cache; of a link the link alone, and nothing beyond one."""
    if _is_own(entry):
        with suppress(OSError):  # There is none, or the cache cannot be written.
            entry.unlink()


def _keep(repository: Repository, file: HubFile, verified: Path) -> None:
    """Puts a file into the Hub's cache as its library does; a cache that cannot be written stays as it is."""
    blob, name = _places(repository, file)
    if not (_is_own(blob) and _is_own(name)):
        return
    unfinished = blob.with_name(f"{blob.name}.{uuid.uuid4().hex[:8]}.incomplete")
    with suppress(OSError):
        blob.parent.mkdir(parents=True, exist_ok=True)
        name.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(verified, unfinished)
            unfinished.replace(blob)
        finally:
            unfinished.unlink(missing_ok=True)
        name.unlink(missing_ok=True)
        name.symlink_to(os.path.relpath(blob, name.parent))


def _ask(address: str) -> httpx.Response:
    """Asks the Hub for something that is not a file.

    Raises:
        Refused: the answer is no success.
    """
    response = get_session().get(address, headers=build_hf_headers())
    if not response.is_success:
        raise Refused(response)
    return response


def hub_host() -> str:
    """Returns the address of the Hub for a message: without the name and password that HF_ENDPOINT may hold."""
    scheme, separator, place = constants.ENDPOINT.rpartition("://")
    return f"{scheme}{separator}{place.rpartition('@')[2]}"


def without_credentials(text: str) -> str:
    """Takes names and passwords out of the addresses in a text."""
    return re.sub(r"(?<=://)[^/\s]*@", "", text.replace(constants.ENDPOINT, hub_host()))


@contextmanager
def hub_session(what: str, time_limit: float, remedy: str = CHECK_NETWORK, bounded: bool = False) -> Iterator[Session]:
    """Gives the Hub's libraries the client of `hub_client`, and turns what goes wrong into one line.

    Args:
        what: `dataset <name>` or `checkpoint <name>`.
        bounded: whether all requests in the block must end within the time limit.

    Raises:
        BadInput: something went wrong, but for a full disk, which is no fault of the Hub.
    """
    set_verbosity(logging.CRITICAL)  # It would print what the server wants it to.
    with open_session(time_limit, bounded) as session:
        try:
            yield session
        except (BadInput, MemoryError):
            raise
        except Exception as error:  # of any kind: an answer may hold anything
            root: BaseException = error if isinstance(error, Refused) else session.failure or error
            while root.__cause__ is not None and not isinstance(root, Refused | Unreachable):
                root = root.__cause__  # What the libraries wrap around the cause is long and says less.
            if isinstance(root, OSError) and root.errno in (ENOSPC, EDQUOT):
                raise root from None
            words = without_credentials(_explanation(root, what.partition(" ")[0], remedy))
            raise BadInput(f"{what}: {words}") from None


def _explanation(error: BaseException, key: str, remedy: str) -> str:
    """Says in words what went wrong with `download.<key>`, and what to do."""
    place = hub_host()
    match error:
        case Refused():
            return _refusal(error.response, key, remedy)
        case json.JSONDecodeError():
            reason = "the answer is not valid JSON"
        case httpx.InvalidURL():  # It may quote a password.
            reason = "an address is not one"
        case Unreachable():
            return f"cannot be read from {place}: {error}"
        case _:
            reason = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
    return f"cannot be read from {place}: {reason}; {remedy}"


def _refusal(response: httpx.Response, key: str, remedy: str) -> str:
    """Says in words what an answer means that is no success; the Hub has a header for that."""
    place, status = hub_host(), response.status_code
    wrong_token = response.headers.get("X-Error-Message") == "Invalid credentials in Authorization header"
    match response.headers.get("X-Error-Code"):
        case "GatedRepo":
            return f"gated; accept its terms on {place}, then `hf auth login`"
        case "RevisionNotFound":
            return f"no such commit on {place}; check download.{key}_revision"
        case "RepoNotFound":
            return f"not found on {place}; check download.{key}, or `hf auth login` if it is private"
    if status == httpx.codes.UNAUTHORIZED and not wrong_token:
        return f"not found on {place}; check download.{key}, or `hf auth login` if it is private"
    answer = f"{asked_for(response.request.url)}: the answer was {status} {response.reason_phrase}"
    return f"cannot be read from {place}: {answer}; {remedy}"
