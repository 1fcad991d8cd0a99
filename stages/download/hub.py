"""The Hugging Face Hub: datasets and checkpoints, pinned by commit, through private caches."""

import errno
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import datasets
from datasets.exceptions import DatasetGenerationError, DatasetsError
from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

from stages.download.source import Labelling, Source
from stages.shared.errors import BadInput

GLUE_REPOSITORY = "nyu-mll/glue"
GLUE_REVISION = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
COMMIT = re.compile(r"[0-9a-f]{40}")

Kind = Literal["dataset", "checkpoint"]  # as params.yaml calls them


@dataclass(frozen=True)
class GlueTask:
    """One row of the GLUE table: what the Hub's columns mean and the official metrics."""

    text_column: str
    text_pair_column: str | None
    label_names: list[str]
    metrics: list[str]


GLUE = {
    "mrpc": GlueTask("sentence1", "sentence2", ["not_equivalent", "equivalent"], ["accuracy", "f1"]),
}


def read_glue(task: str) -> Source:
    """Reads a GLUE task at the commit fixed above; the task brings its own columns, label names and metrics."""
    if task not in GLUE:
        raise BadInput(f"params.yaml: download.dataset: unknown GLUE task {task!r}; known: {', '.join(GLUE)}")
    row = GLUE[task]
    labelling = Labelling(
        "single_label_classification", row.text_column, row.text_pair_column, "label", row.label_names
    )
    source = read_hub(f"{GLUE_REPOSITORY}:{task}", GLUE_REVISION, labelling, row.metrics)
    return replace(source, kind="glue")


def read_hub(name: str, revision: str | None, labelling: Labelling, metrics: list[str]) -> Source:
    """Reads every split of the Hub dataset `<owner>/<name>[:<config>]` at one commit.

    A private, empty cache keeps `datasets` from serving another revision that happens to be cached when the Hub is out
    of reach; the `hf://` keeps it from taking a local folder `<owner>/<name>` for the repository.

    Raises:
        BadInput: the Hub cannot be reached, or has no such dataset, configuration or commit, or a file is damaged.
    """
    repository, _, config = name.partition(":")
    commit, _ = look_up("dataset", repository, revision)
    remedy = "check the configuration (hub:<owner>/<name>:<config>) and the network, or use local files"
    with _hub_errors(f"dataset {name}", remedy), tempfile.TemporaryDirectory() as cache:
        datasets.config.HF_ENDPOINT = constants.ENDPOINT  # which has lost the slash that HF_ENDPOINT may end with
        try:
            splits = datasets.load_dataset(
                f"hf://datasets/{repository}", config or None, revision=commit, cache_dir=cache, keep_in_memory=True
            )
        except DatasetGenerationError:
            _verify("dataset", repository, commit, None)  # what cannot be read may have been damaged on the way
            raise
        _verify("dataset", repository, commit, None)
        tables = {str(split): rows.data.table.combine_chunks() for split, rows in splits.items()}
        names = next(iter(splits.values())).features.get(labelling.label_column)
    if labelling.label_names is None and hasattr(names, "names"):
        labelling = replace(labelling, label_names=list(names.names))
    if "train" not in tables:
        raise BadInput(f"dataset {name}: no train split, only {', '.join(tables)}")
    return Source("hub", commit, tables, dict.fromkeys(tables, name), labelling, metrics)


@contextmanager
def fetch_snapshot(repository: str, commit: str, patterns: list[str]) -> Iterator[Path]:
    """Yields a folder with the files of a Hub model at one commit that match `patterns`.

    Raises:
        BadInput: the Hub cannot be reached, or a file is damaged.
    """
    with tempfile.TemporaryDirectory() as folder:
        with _hub_errors(f"checkpoint {repository}", "check the network, or use local files"):
            snapshot_download(repository, revision=commit, allow_patterns=patterns, local_dir=folder)
            _verify("checkpoint", repository, commit, folder)
        yield Path(folder)


def look_up(kind: Kind, repository: str, revision: str | None) -> tuple[str, list[str]]:
    """Returns the commit that `revision` names (None: the newest one, with a warning) and the paths of its files.

    One request that is given up after HF_HUB_ETAG_TIMEOUT seconds, 10 unless set: the clients' own first requests are
    repeated for half a minute when the Hub cannot be reached, and for six minutes when it is silent.

    Raises:
        BadInput: the Hub cannot be reached, or has no such repository or commit.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise BadInput(f"params.yaml: download.{kind}: expected hub:<owner>/<name>, got {repository!r}")
    if revision is not None and not COMMIT.fullmatch(revision):
        raise BadInput(
            f"params.yaml: download.{kind}_revision: expected the 40 hexadecimal digits of a commit, got {revision!r}"
        )
    what = f"{kind} {repository}"
    with _hub_errors(what, "check the network and run again, or use local files"):
        try:
            ask = HfApi().dataset_info if kind == "dataset" else HfApi().model_info
            found = ask(repository, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
        except GatedRepoError:
            raise BadInput(f"{what}: gated; accept its terms on {constants.ENDPOINT}, then `hf auth login`") from None
        except RepositoryNotFoundError:
            raise BadInput(
                f"{what}: not found on {constants.ENDPOINT}; check download.{kind}, or `hf auth login` if it is private"
            ) from None
        except RevisionNotFoundError:
            raise BadInput(
                f"{what}: no commit {revision} on {constants.ENDPOINT}; check download.{kind}_revision"
            ) from None
    commit = str(found.sha)
    if revision is None:
        print(
            f"download: warning: {what} is not pinned; paste into params.yaml: {kind}_revision: {commit}",
            file=sys.stderr,
        )
    return commit, [file.rfilename for file in found.siblings or []]


def _verify(kind: Kind, repository: str, commit: str, folder: str | None) -> None:
    """Compares the files in `folder` (None: the Hub's cache) with the Hub's hashes; the clients compare sizes only."""
    checked = HfApi().verify_repo_checksums(
        repository, repo_type="dataset" if kind == "dataset" else "model", revision=commit, local_dir=folder
    )
    for file in checked.mismatches:
        again = "run again" if folder else f"delete {checked.verified_path.parents[1]} and run again"
        raise BadInput(
            f"{kind} {repository}: {file['path']} is damaged: {file['algorithm']} {file['actual']}, "
            f"expected {file['expected']}; {again}"
        )


@contextmanager
def _hub_errors(what: str, remedy: str) -> Iterator[None]:
    """Turns what the clients raise into one line; a full disk is none of theirs."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, httpx.HTTPError, DatasetsError) as error:
        root: BaseException = error  # what the clients wrap around it is long and says less
        while root.__cause__ is not None and not isinstance(root, HfHubHTTPError):
            root = root.__cause__
        if isinstance(root, OSError) and root.errno in (errno.ENOSPC, errno.EDQUOT):
            raise root from None
        if isinstance(root, HfHubHTTPError):
            reason = f"the answer was {root.response.status_code} {root.response.reason_phrase}"
        else:
            reason = " ".join(str(root).split())[:200].rstrip(".") or type(root).__name__
        raise BadInput(f"{what}: cannot be read from {constants.ENDPOINT}: {reason}; {remedy}") from None
