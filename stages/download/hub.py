"""The Hugging Face Hub: datasets and checkpoints, pinned by commit, through private caches."""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from stages.download.source import Labelling, Source
from stages.shared.errors import BadInput

GLUE_REPOSITORY = "nyu-mll/glue"
GLUE_REVISION = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
COMMIT = re.compile(r"[0-9a-f]{40}")
TIMEOUT_SECONDS = "10"  # a silent server is given up after this long, and a few tries


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
    of reach.

    Raises:
        BadInput: the Hub cannot be reached, or has no such dataset, configuration or commit.
    """
    repository, _, config = name.partition(":")
    _check_repository(repository, "dataset")
    with _hub_errors(f"dataset {repository}"), tempfile.TemporaryDirectory() as cache:
        from datasets import load_dataset

        revision = revision or _resolve(repository, "dataset")
        _check_commit(revision, "dataset")
        splits = load_dataset(repository, config or None, revision=revision, cache_dir=cache, keep_in_memory=True)
        tables = {str(split): rows.data.table.combine_chunks() for split, rows in splits.items()}
        names = next(iter(splits.values())).features.get(labelling.label_column)
    if labelling.label_names is None and hasattr(names, "names"):
        labelling = replace(labelling, label_names=list(names.names))
    if "train" not in tables:
        raise BadInput(f"dataset {repository}: no train split, only {', '.join(tables)}")
    return Source("hub", revision, tables, dict.fromkeys(tables, name), labelling, metrics)


@contextmanager
def fetch_snapshot(repository: str, revision: str | None, patterns: list[str]) -> Iterator[Path]:
    """Yields a folder with the files of a Hub model at one commit that match `patterns`.

    Raises:
        BadInput: the Hub cannot be reached, or has no such model or commit.
    """
    _check_repository(repository, "checkpoint")
    with tempfile.TemporaryDirectory() as folder:
        with _hub_errors(f"checkpoint {repository}"):
            from huggingface_hub import snapshot_download

            revision = revision or _resolve(repository, "model")
            _check_commit(revision, "checkpoint")
            snapshot_download(repository, revision=revision, allow_patterns=patterns, local_dir=folder)
        yield Path(folder)


def _resolve(repository: str, kind: str) -> str:
    """Asks the Hub for the newest commit, and says which line of params.yaml would pin it."""
    from huggingface_hub import HfApi

    commit = HfApi().repo_info(repository, repo_type=kind).sha
    key = "dataset_revision" if kind == "dataset" else "checkpoint_revision"
    print(f"download: warning: {repository} is not pinned; paste into params.yaml: {key}: {commit}", file=sys.stderr)
    return str(commit)


def _check_repository(repository: str, key: str) -> None:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise BadInput(f"params.yaml: download.{key}: expected hub:<owner>/<name>, got {repository!r}")


def _check_commit(revision: str, key: str) -> None:
    if not COMMIT.fullmatch(revision):
        raise BadInput(
            f"params.yaml: download.{key}_revision: expected the 40 hexadecimal digits of a commit, got {revision!r}"
        )


@contextmanager
def _hub_errors(what: str) -> Iterator[None]:
    """Turns what the clients raise into one line."""
    os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", TIMEOUT_SECONDS)
    os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", TIMEOUT_SECONDS)
    from datasets.exceptions import DatasetsError
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

    try:
        yield
    except GatedRepoError:
        raise BadInput(f"{what}: gated on the Hub; accept its terms there and log in with `hf auth login`") from None
    except RepositoryNotFoundError:
        raise BadInput(f"{what}: the Hub has no such repository, or it is private; check the name") from None
    except RevisionNotFoundError:
        raise BadInput(f"{what}: the Hub has no such commit; check the revision") from None
    except (OSError, ValueError, httpx.HTTPError, DatasetsError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise BadInput(
            f"{what}: cannot be fetched from {constants.ENDPOINT}: {reason}; check the network, or use local files"
        ) from None
