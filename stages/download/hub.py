"""The Hugging Face Hub: datasets and checkpoints, pinned by commit, checked against the Hub's own hashes."""

import errno
import json
import logging
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, TypeVar

import datasets
import pyarrow as pa
from datasets.exceptions import DatasetGenerationError, DatasetsError
from huggingface_hub import DatasetCard, HfApi, constants, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import httpx  # type: ignore[attr-defined]
from yaml import YAMLError

from stages.download.door import Unreachable, asked_for, open_door
from stages.download.source import Labelling, Source, check_split, decode_labels, stored_names
from stages.shared.runtime.errors import BadInput
from stages.shared.task.task import ProblemType

SCRATCH = Path(".scratch")  # beside the outs, where there is space for large data; /tmp may be memory
COMMIT = re.compile(r"[0-9a-f]{40}")
GLUE_REPOSITORY = "nyu-mll/glue"
GLUE_REVISION = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"

Kind = Literal["dataset", "checkpoint"]  # as params.yaml calls them
Fetched = TypeVar("Fetched")


@dataclass(frozen=True)
class GlueTask:
    """One row of the GLUE table: what the Hub's columns mean and the official metrics."""

    columns: tuple[str, ...]  # one text or two
    label_names: list[str]  # in the Hub's order; empty: a regression
    metrics: list[str]

    @property
    def problem_type(self) -> ProblemType:
        return "single_label_classification" if self.label_names else "regression"


PAIR, NLI = ("sentence1", "sentence2"), ("premise", "hypothesis")
ENTAILMENT = ["entailment", "neutral", "contradiction"]
# Metrics: the GLUE paper (Wang et al., 2019), table 1; for the diagnostic set, section 4.
GLUE = {
    "cola": GlueTask(("sentence",), ["unacceptable", "acceptable"], ["matthews_correlation"]),
    "sst2": GlueTask(("sentence",), ["negative", "positive"], ["accuracy"]),
    "mrpc": GlueTask(PAIR, ["not_equivalent", "equivalent"], ["accuracy", "f1"]),
    "qqp": GlueTask(("question1", "question2"), ["not_duplicate", "duplicate"], ["accuracy", "f1"]),
    "stsb": GlueTask(PAIR, [], ["pearson", "spearmanr"]),
    "mnli": GlueTask(NLI, ENTAILMENT, ["accuracy"]),
    "qnli": GlueTask(("question", "sentence"), ["entailment", "not_entailment"], ["accuracy"]),
    "rte": GlueTask(PAIR, ["entailment", "not_entailment"], ["accuracy"]),
    "wnli": GlueTask(PAIR, ["not_entailment", "entailment"], ["accuracy"]),
    "ax": GlueTask(NLI, ENTAILMENT, ["matthews_correlation"]),
}


def read_glue(task: str, time_limit: float) -> Source:
    """Reads a GLUE task at the commit fixed above; the task brings its own columns, label names and metrics.

    `ax` is a test split only: its models are trained, and chosen, on MNLI.
    """
    if task not in GLUE:
        raise BadInput(f"params.yaml: download.dataset: unknown GLUE task {task!r}; known: {', '.join(GLUE)}")
    row = GLUE[task]
    second = row.columns[1] if len(row.columns) == 2 else None
    labelling = Labelling(row.problem_type, row.columns[0], second, "label", row.label_names or None)
    trained_on = "mnli" if task == "ax" else task
    source = read_hub(f"{GLUE_REPOSITORY}:{trained_on}", GLUE_REVISION, None, labelling, row.metrics, time_limit)
    if task == "ax":
        kept = {split: table for split, table in source.tables.items() if not split.startswith("test")}
        name = f"{GLUE_REPOSITORY}:ax"
        diagnostic, _ = _read_tables(name, GLUE_REVISION, labelling, time_limit)
        source = replace(source, tables=kept | diagnostic, places={**source.places, **dict.fromkeys(diagnostic, name)})
    return replace(source, kind="glue")


def read_hub(
    name: str,
    revision: str | None,
    chosen: Mapping[str, str] | None,
    labelling: Labelling,
    metrics: list[str],
    time_limit: float,
) -> Source:
    """Reads the splits of the Hub dataset `<owner>/<name>[:<config>]` at one commit.

    Args:
        chosen: split name -> what the dataset calls it. None: all of the dataset's splits, as it calls them.
        time_limit: seconds that a request may bring next to nothing before it is given up.

    Raises:
        BadInput: the Hub cannot be reached, has no such dataset, configuration, split or commit, or a file is damaged.
    """
    for split in chosen or ():
        check_split(split)
    repository = name.partition(":")[0]
    commit, files = look_up("dataset", repository, revision, time_limit)
    script = f"{repository.rpartition('/')[2]}.py"
    if script in files:
        raise BadInput(
            f"dataset {repository}: its data come from a program, {script}, which is never run; "
            "use a commit or a copy that has .parquet, .csv or .jsonl files"
        )
    if "README.md" in files:
        _check_card(repository, commit, time_limit)
    tables, names = _read_tables(name, commit, labelling, time_limit)
    if labelling.label_names is None and labelling.problem_type != "regression":
        labelling = replace(labelling, label_names=names)
    if chosen is not None:
        tables = _chosen(tables, chosen, name)
    if "train" not in tables:
        raise BadInput(
            f"dataset {name}: no train split, only {', '.join(tables)}; say in download.split_files which it is"
        )
    return Source("hub", commit, tables, dict.fromkeys(tables, name), labelling, metrics)


def _chosen(tables: Mapping[str, pa.Table], chosen: Mapping[str, str], name: str) -> dict[str, pa.Table]:
    """Takes the splits that `download.split_files` names; each of the dataset's own can be one of them only."""
    for split, own in chosen.items():
        key = f"params.yaml: download.split_files: {split}"
        if own not in tables:
            raise BadInput(f"{key}: dataset {name} has no split {own!r}, only {', '.join(tables)}")
        if list(chosen.values()).count(own) > 1:
            raise BadInput(f"{key}: {own!r} is another split too; name each once")
    return {split: tables[own] for split, own in chosen.items()}


def fetch_snapshot(repository: str, commit: str, patterns: list[str], time_limit: float) -> Path:
    """Returns the folder of the Hub's cache with the files of a model at one commit that match `patterns`.

    The folder may hold other files too, from other programs: they are nobody's promise.

    Raises:
        BadInput: the Hub cannot be reached, or a file is damaged.
    """
    with _hub(f"checkpoint {repository}", "check the network and run again, or use local files", time_limit):
        return _intact(
            "checkpoint",
            repository,
            commit,
            patterns,
            lambda: Path(snapshot_download(repository, revision=commit, allow_patterns=patterns)),
        )


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
    with _hub(what, "check the network and run again, or use local files", time_limit):
        ask = HfApi().dataset_info if kind == "dataset" else HfApi().model_info
        found = ask(repository, revision=revision)
    commit = str(found.sha)
    if not COMMIT.fullmatch(commit) or revision not in (None, commit):
        raise BadInput(
            f"{what}: asked {constants.ENDPOINT} for commit {revision or 'main'}, the answer is of {commit}; "
            "check that HF_ENDPOINT is the Hub or a faithful mirror of it"
        )
    if revision is None:
        print(
            f"download: warning: {what} is not pinned; paste into params.yaml: {kind}_revision: {commit}",
            file=sys.stderr,
        )
    return commit, [file.rfilename for file in found.siblings or []]


def _check_card(repository: str, commit: str, time_limit: float) -> None:
    """Refuses a dataset whose card takes data from elsewhere, before anybody goes there: no commit pins them."""
    with _hub(f"dataset {repository}", "check the network and run again, or use local files", time_limit):
        card = HfApi().hf_hub_download(repository, "README.md", repo_type="dataset", revision=commit)
        for config in DatasetCard.load(card).data.to_dict().get("configs") or []:
            address = re.search(r'[a-z0-9]+://[^"]+', json.dumps(config))
            if address is not None:
                raise BadInput(
                    f"dataset {repository}: its card takes data from {address[0]}, which no commit pins; "
                    "download that yourself and use local files"
                )


def _read_tables(
    name: str, commit: str, labelling: Labelling, time_limit: float
) -> tuple[dict[str, pa.Table], list[str] | None]:
    """Returns the rows of each split, memory-mapped but for labels that are codes, and the names of those codes."""
    repository, _, config = name.partition(":")
    remedy = "check the configuration (hub:<owner>/<name>:<config>) and the network, or use local files"
    with _hub(f"dataset {name}", remedy, time_limit):
        datasets.config.HF_ENDPOINT = constants.ENDPOINT  # which has lost the slash that HF_ENDPOINT may end with
        datasets.logging.set_verbosity(logging.CRITICAL)  # what it has to say is said in one line, below
        splits = _intact("dataset", repository, commit, ["*"], lambda: _load(repository, config or None, commit))
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

    In a shared one `datasets` finds another revision when the Hub is out of reach, and takes it. The `hf://` keeps it
    from taking a local folder `<owner>/<name>` for the repository. The rows are mapped from files that have no name
    any more when this returns: they are readable, and take up space, for as long as somebody holds the tables.
    """
    cache = SCRATCH / "hub"
    shutil.rmtree(cache, ignore_errors=True)  # a killed run's
    try:
        builder = datasets.load_dataset_builder(
            f"hf://datasets/{repository}", config, revision=commit, cache_dir=str(cache)
        )
        for file in (file for files in (builder.config.data_files or {}).values() for file in files):
            if not file.startswith(f"hf://datasets/{repository}@{commit}/"):
                raise BadInput(f"dataset {repository}: {file} is not of commit {commit}; use local files")
        builder.download_and_prepare()
        return dict(builder.as_dataset(in_memory=False))
    finally:
        shutil.rmtree(cache, ignore_errors=True)


def _intact(kind: Kind, repository: str, commit: str, patterns: list[str], fetch: Callable[[], Fetched]) -> Fetched:
    """Fetches, and compares what lies in the Hub's cache with the Hub's hashes: its clients compare sizes only.

    A damaged file is removed from the cache and fetched once more.

    Raises:
        BadInput: it is damaged again.
    """
    for _ in range(2):
        try:
            fetched = fetch()
            damaged = _remove_damaged(kind, repository, commit, patterns)
        except DatasetGenerationError:  # what cannot be read may have been damaged on the way
            damaged = _remove_damaged(kind, repository, commit, patterns)
            if not damaged:
                raise
        except OSError as error:
            size = re.match(
                r"Consistency check failed: file (should be of size \d+ but has size \d+) \((.*)\)", str(error)
            )
            if size is None:
                raise
            damaged = f"{re.sub('^.….[^/]*/', '', size[2])} is damaged: it {size[1]}"
        if not damaged:
            return fetched
    raise BadInput(f"{kind} {repository}: {damaged}, twice; something between here and the Hub alters it")


def _remove_damaged(kind: Kind, repository: str, commit: str, patterns: list[str]) -> str:
    """Removes files that are not what the Hub says, and returns a description of the first; empty: all are well."""
    checked = HfApi().verify_repo_checksums(
        repository, repo_type="dataset" if kind == "dataset" else "model", revision=commit
    )
    damaged = [file for file in checked.mismatches if any(fnmatchcase(file["path"], pattern) for pattern in patterns)]
    for file in damaged:
        name = checked.verified_path / file["path"]
        name.resolve().unlink(missing_ok=True)
        name.unlink(missing_ok=True)
    if not damaged:
        return ""
    first = damaged[0]
    return f"{first['path']} is damaged: {first['algorithm']} {first['actual']}, expected {first['expected']}"


@contextmanager
def _hub(what: str, remedy: str, time_limit: float) -> Iterator[None]:
    """Opens the door to the Hub, and turns what its clients raise into one line; a full disk is none of theirs."""
    with open_door(time_limit) as door:
        try:
            yield
        except (OSError, ValueError, RuntimeError, YAMLError, httpx.HTTPError, DatasetsError, Unreachable) as error:
            root: BaseException = door.failure or error
            while root.__cause__ is not None and not isinstance(root, HfHubHTTPError | Unreachable):
                root = root.__cause__  # what the clients wrap around it is long and says less
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
