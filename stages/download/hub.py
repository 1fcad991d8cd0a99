"""The Hugging Face Hub: datasets and checkpoints, pinned by commit, checked against the Hub's own hashes."""

import errno
import json
import logging
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import datasets
import pyarrow as pa
from datasets.exceptions import DatasetGenerationError, DatasetsError
from huggingface_hub import DatasetCard, HfApi, constants, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import httpx  # type: ignore[attr-defined]
from yaml import YAMLError

from stages.download.hub_client import CHECK_ENDPOINT, CHECK_NETWORK, Unreachable, asked_for, open_session
from stages.download.source import Labelling, Source, check_split_name
from stages.download.stored_labels import decode_labels, stored_names
from stages.shared.runtime.errors import BadInput

SCRATCH = Path(".scratch")  # It lies beside the outs, where there is space for large data; /tmp may be memory.
COMMIT = re.compile(r"[0-9a-f]{40}")

Kind = Literal["dataset", "checkpoint"]  # as params.yaml calls them
REPO_TYPES = {"dataset": "dataset", "checkpoint": "model"}  # as the Hub calls them


def read_hub(
    name: str, revision: str | None, own_names: Mapping[str, str] | None, labelling: Labelling, time_limit: float
) -> Source:
    """Reads the splits of the Hub dataset `<owner>/<name>[:<config>]` at one commit.

    Args:
        own_names: split name -> what the dataset calls it. None: all of the dataset's splits, as it calls them.
        time_limit: seconds that a request may bring next to nothing before it is given up.

    Raises:
        BadInput: the Hub cannot be reached, has no such dataset, configuration, split or commit, or a file is damaged.
    """
    for split in own_names or ():
        check_split_name(split)
    repository = name.partition(":")[0]
    commit, files = look_up("dataset", repository, revision, time_limit)
    # `datasets` no longer runs such programs either, but it would say so only when it loads, and not what to do.
    script = f"{repository.rpartition('/')[2]}.py"
    if script in files:
        raise BadInput(
            f"dataset {repository}: its data come from a program, {script}, which is never run; "
            "use a commit or a copy that has .parquet, .csv or .jsonl files"
        )
    if "README.md" in files:
        _check_card(repository, commit, time_limit)
    tables, names = read_tables(name, commit, labelling, time_limit)
    if labelling.label_names is None and labelling.problem_type != "regression":
        labelling = replace(labelling, label_names=names)
    if own_names is not None:
        tables = _renamed(tables, own_names, name)
    if "train" not in tables:
        raise BadInput(
            f"dataset {name}: no train split, only {', '.join(tables)}; say in download.split_files which it is"
        )
    return Source("hub", commit, tables, dict.fromkeys(tables, name), labelling)


def _renamed(tables: Mapping[str, pa.Table], own_names: Mapping[str, str], name: str) -> dict[str, pa.Table]:
    """Takes the splits that `download.split_files` names; each of the dataset's own can be one of them only."""
    for split, own_name in own_names.items():
        key = f"params.yaml: download.split_files: {split}"
        if own_name not in tables:
            raise BadInput(f"{key}: dataset {name} has no split {own_name!r}, only {', '.join(tables)}")
        if list(own_names.values()).count(own_name) > 1:
            raise BadInput(f"{key}: {own_name!r} is another split too; name each once")
    return {split: tables[own_name] for split, own_name in own_names.items()}


def fetch_snapshot(repository: str, commit: str, patterns: list[str], time_limit: float) -> Path:
    """Returns the folder of the Hub's cache with the files of a model at one commit that match `patterns`.

    The cache belongs to the user, so the folder may hold files that other programs fetched; those are not checked.

    Raises:
        BadInput: the Hub cannot be reached, or a file is damaged.
    """
    fetch = partial(snapshot_download, repository, revision=commit, allow_patterns=patterns)
    with hub_session(f"checkpoint {repository}", time_limit):
        return Path(_intact("checkpoint", repository, commit, patterns, fetch))


def look_up(kind: Kind, repository: str, revision: str | None, time_limit: float) -> tuple[str, list[str]]:
    """Returns the commit that `revision` names (None: the newest one, with a warning) and the paths of its files.

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
    with hub_session(what, time_limit):
        ask = HfApi().dataset_info if kind == "dataset" else HfApi().model_info
        answer = ask(repository, revision=revision)
    commit = str(answer.sha)
    if not COMMIT.fullmatch(commit) or revision not in (None, commit):
        raise BadInput(
            f"{what}: asked {constants.ENDPOINT} for commit {revision or 'main'}, the answer is of {commit}; "
            f"{CHECK_ENDPOINT}"
        )
    # The newest commit is another one tomorrow, and the same parameters would then give other results.
    if revision is None:
        print(
            f"download: warning: {what} is not pinned; paste into params.yaml: {kind}_revision: {commit}",
            file=sys.stderr,
        )
    return commit, [file.rfilename for file in answer.siblings or []]


def _check_card(repository: str, commit: str, time_limit: float) -> None:
    """Refuses a dataset whose card takes data from elsewhere, because no commit pins them, before they are fetched."""
    with hub_session(f"dataset {repository}", time_limit):
        card = HfApi().hf_hub_download(repository, "README.md", repo_type="dataset", revision=commit)
        for config in DatasetCard.load(card).data.to_dict().get("configs") or []:
            # The paths of a configuration are relative to the repository, unless they are addresses.
            address = re.search(r'[a-z0-9]+://[^"]+', json.dumps(config))
            if address is not None:
                raise BadInput(
                    f"dataset {repository}: its card takes data from {address[0]}, which no commit pins; "
                    "download that yourself and use local files"
                )


def read_tables(
    name: str, commit: str, labelling: Labelling, time_limit: float
) -> tuple[dict[str, pa.Table], list[str] | None]:
    """Returns the rows of each split of `<owner>/<name>[:<config>]`, and the names of label codes that are stored.

    The rows are memory-mapped, but for labels that were codes: names have taken their place.

    Raises:
        BadInput: the Hub cannot be reached, has no such configuration, or a file is damaged.
    """
    repository, _, config = name.partition(":")
    remedy = "check the configuration (hub:<owner>/<name>:<config>) and the network, or use local files"
    with hub_session(f"dataset {name}", time_limit, remedy):
        # `huggingface_hub` has removed the slash that the variable HF_ENDPOINT may end with, and `datasets` has not.
        datasets.config.HF_ENDPOINT = constants.ENDPOINT
        datasets.logging.set_verbosity(logging.CRITICAL)  # `hub_session` says in one line what went wrong.
        splits = _intact("dataset", repository, commit, ["*"], partial(_load, repository, config or None, commit))
    column = labelling.label_column
    tables = {}
    for split, rows in splits.items():
        table = rows.data.table
        if column in table.column_names:
            labels = decode_labels(table[column], rows.features[column], labelling, f"dataset {name}: {split}")
            table = table.set_column(table.column_names.index(column), column, labels)
        tables[str(split)] = table
    return tables, stored_names(next(iter(splits.values())).features.get(column))


def _load(repository: str, config: str | None, commit: str) -> dict[str, datasets.Dataset]:
    """Loads a dataset through a private cache, empty before and after.

    In a shared cache `datasets` finds another revision when the Hub is out of reach, and takes it. The `hf://` keeps it
    from taking a local folder `<owner>/<name>` for the repository. The rows are mapped from files that are deleted
    before this returns: they stay readable, and take up space, for as long as the tables are in use.
    """
    cache = SCRATCH / "hub"
    shutil.rmtree(cache, ignore_errors=True)  # A run that was killed may have left it.
    try:
        builder = datasets.load_dataset_builder(
            f"hf://datasets/{repository}", config, revision=commit, cache_dir=str(cache)
        )
        for file in chain.from_iterable((builder.config.data_files or {}).values()):
            if not file.startswith(f"hf://datasets/{repository}@{commit}/"):
                raise BadInput(f"dataset {repository}: {file} is not of commit {commit}; use local files")
        builder.download_and_prepare()
        return dict(builder.as_dataset(in_memory=False))
    finally:
        shutil.rmtree(cache, ignore_errors=True)


def _intact(kind: Kind, repository: str, commit: str, patterns: list[str], fetch: Callable[[], Any]) -> Any:
    """Fetches, and compares the files in the Hub's cache with the Hub's hashes, because its clients compare sizes only.

    A damaged file is removed from the cache and fetched once more.

    Raises:
        BadInput: it is damaged again.
    """
    for _ in range(2):
        try:
            fetched = fetch()
            damaged = _remove_damaged(kind, repository, commit, patterns)
        except DatasetGenerationError:  # A file that cannot be read may have been damaged on the way.
            damaged = _remove_damaged(kind, repository, commit, patterns)
            if not damaged:
                raise
        except OSError as error:
            size = re.match(
                r"Consistency check failed: file (should be of size \d+ but has size \d+) \((.*)\)", str(error)
            )
            if size is None:
                raise
            # The library shortens a long name at its beginning, to (…) and what may be half a folder.
            damaged = f"{re.sub('^.….[^/]*/', '', size[2])} is damaged: it {size[1]}"
        if not damaged:
            return fetched
    raise BadInput(f"{kind} {repository}: {damaged}, twice; something between here and the Hub alters it")


def _remove_damaged(kind: Kind, repository: str, commit: str, patterns: list[str]) -> str:
    """Removes files that are not what the Hub says, and returns a description of the first; empty: all are well."""
    checked = HfApi().verify_repo_checksums(repository, repo_type=REPO_TYPES[kind], revision=commit)
    damaged = [file for file in checked.mismatches if any(fnmatchcase(file["path"], pattern) for pattern in patterns)]
    for file in damaged:
        # In the Hub's cache a file's name is a link to its content, and a content that stays would be linked again.
        name = checked.verified_path / file["path"]
        name.resolve().unlink(missing_ok=True)
        name.unlink(missing_ok=True)
    if not damaged:
        return ""
    first = damaged[0]
    return f"{first['path']} is damaged: {first['algorithm']} {first['actual']}, expected {first['expected']}"


@contextmanager
def hub_session(what: str, time_limit: float, remedy: str = CHECK_NETWORK) -> Iterator[None]:
    """Gives the Hub's libraries the client of `hub_client`, and turns what they raise into one line.

    Args:
        what: `dataset <name>` or `checkpoint <name>`.

    Raises:
        BadInput: what they raise, but for a full disk, which is no fault of the Hub.
    """
    with open_session(time_limit) as session:
        try:
            yield
        except (OSError, ValueError, RuntimeError, YAMLError, httpx.HTTPError, DatasetsError, Unreachable) as error:
            root: BaseException = session.failure or error
            while root.__cause__ is not None and not isinstance(root, HfHubHTTPError | Unreachable):
                root = root.__cause__  # What the libraries wrap around the cause is long and says less.
            if isinstance(root, OSError) and root.errno in (errno.ENOSPC, errno.EDQUOT):
                raise root from None
            raise BadInput(f"{what}: {_explanation(root, what.partition(' ')[0], remedy)}") from None


def _explanation(error: BaseException, key: str, remedy: str) -> str:
    """Says in words what went wrong with `download.<key>`, and what to do."""
    place = constants.ENDPOINT
    match error:
        case GatedRepoError():
            return f"gated; accept its terms on {place}, then `hf auth login`"
        case RepositoryNotFoundError():
            return f"not found on {place}; check download.{key}, or `hf auth login` if it is private"
        case RevisionNotFoundError():
            return f"no such commit on {place}; check download.{key}_revision"
        case HfHubHTTPError():
            answer = f"{error.response.status_code} {error.response.reason_phrase}"
            reason = f"{asked_for(error.response.request.url)}: the answer was {answer}"
        case json.JSONDecodeError():
            reason = "the answer is not valid JSON"
        case Unreachable():
            return f"cannot be read from {place}: {error}"
        case _:
            reason = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
    return f"cannot be read from {place}: {reason}; {remedy}"
