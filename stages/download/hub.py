"""Reads datasets of the Hugging Face Hub, pinned by commit and checked against the Hub's hashes."""

import json
import logging
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import yaml

from stages.download.hub_client import CHECK_NETWORK
from stages.download.hub_files import HubFile, Repository, fetch_files, hub_session, list_files, look_up
from stages.download.readers import TEXT_FORMATS, check_beginning, check_file_quotes, check_lines, file_format
from stages.download.source import Labelling, Source, check_split_name
from stages.download.stored_labels import decode_labels, stored_names
from stages.shared.runtime.errors import BadInput

SCRATCH = Path(".scratch")  # It lies beside the outs, where there is space for large data; /tmp may be memory.
CARDS = ("README.md", ".huggingface.yaml", "dataset_infos.json")  # where `datasets` looks for a description
MAX_CARD_BYTES = 2**22  # A card of a thousand configurations has 2 MB, and takes half a minute to parse.
MAX_CARD_VALUES = 2**18  # that a card may stand for, with what it repeats by a name: 10 lines can stand for billions
# Formats that are tables; others of `datasets` are media, archives, or need programs that nobody has looked at here.
FORMATS = ("arrow", "csv", "json", "parquet", "text")
GLOB_SIGNS = set("*?[")
REMEDY = "check the configuration (hub:<owner>/<name>:<config>) and the network, or use local files"


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
    tables, names, commit = read_tables(name, revision, labelling, time_limit)
    if labelling.label_names is None and labelling.problem_type != "regression":
        labelling = replace(labelling, label_names=names)
    if own_names is not None:
        tables = _renamed(tables, own_names, name)
    if "train" not in tables:
        raise BadInput(f"dataset {name}: no train split, only {', '.join(tables)}; set download.split_files")
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


def read_tables(
    name: str, revision: str | None, labelling: Labelling, time_limit: float
) -> tuple[dict[str, pa.Table], list[str] | None, str]:
    """Returns the rows of each split of `<owner>/<name>[:<config>]`, the names of stored label codes, and the commit.

    The rows are memory-mapped, but for labels that were codes: names have taken their place.

    Raises:
        BadInput: the Hub cannot be reached, has no such configuration, or a file is damaged.
    """
    owner_and_name, _, config = name.partition(":")
    repository, paths = look_up("dataset", owner_and_name, revision, time_limit)
    # `datasets` no longer runs such programs either, but it would say so only when it loads, and not what to do.
    script = f"{owner_and_name.rpartition('/')[2]}.py"
    if script in paths:
        raise BadInput(
            f"dataset {owner_and_name}: its data come from a program, {script}, which is never run; "
            "use a commit or a copy that has .parquet, .csv or .jsonl files"
        )
    files = list_files(repository, paths)
    splits = _load(repository, files, name, config or None)
    column = labelling.label_column
    tables = {}
    for split, rows in splits.items():
        table = rows.data.table
        if column in table.column_names:
            labels = decode_labels(table[column], rows.features[column], labelling, f"dataset {name}: {split}")
            table = table.set_column(table.column_names.index(column), column, labels)
        try:
            table.select([one for one in labelling.columns if one in table.column_names]).validate(full=True)
        except pa.ArrowInvalid:
            raise BadInput(f"dataset {name}: {split}: the text is not UTF-8; use a corrected copy") from None
        tables[str(split)] = table
    return tables, stored_names(next(iter(splits.values())).features.get(column)), repository.commit


def _load(
    repository: Repository, files: Mapping[str, HubFile], name: str, config: str | None
) -> dict[str, datasets.Dataset]:
    """Loads a dataset from a folder of its verified files, and without the network.

    `datasets` finds out by names which files belong to a configuration, and so it is shown the whole repository, but
    empty: only the files that it names are fetched. (By itself it would believe whatever lies in the user's cache, and
    where the Hub is out of reach take another revision.) The rows are mapped from files that are deleted before this
    returns: they stay readable, and take up space, for as long as the tables are in use.
    """
    scratch = SCRATCH.resolve() / "hub"
    shutil.rmtree(scratch, ignore_errors=True)  # A run that was killed may have left it.
    folder = scratch / f"files-{repository.commit}"
    if GLOB_SIGNS & set(str(folder)):
        raise BadInput(f"{folder}: `datasets` reads {', '.join(sorted(GLOB_SIGNS))} in a path as patterns; rename it")
    try:
        cards = [files[path] for path in CARDS if path in files]
        for card in cards:
            if card.size > MAX_CARD_BYTES:
                raise BadInput(
                    f"{repository.what}: {card.path} has more than {MAX_CARD_BYTES // 2**20} MiB; use a copy"
                )
        fetch_files(repository, cards, folder, CHECK_NETWORK)
        datasets.logging.set_verbosity(logging.CRITICAL)  # `hub_session` says in one line what went wrong.
        with hub_session(f"dataset {name}", repository.time_limit, REMEDY):
            for card in cards:
                _check_card(folder / card.path, repository.what)
            for path in files:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).touch()
            builder = datasets.load_dataset_builder(str(folder), config, cache_dir=str(scratch / "built"))
            wanted = _data_files(builder, folder, files, repository)
        fetch_files(repository, wanted, folder, REMEDY)
        with hub_session(f"dataset {name}", repository.time_limit, REMEDY):
            for file in wanted:
                _check_text(folder / file.path, builder, f"{repository.what}: {file.path}")
            builder.download_and_prepare()
            return dict(builder.as_dataset(in_memory=False))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _check_text(file: Path, builder: Any, place: str) -> None:
    """Refuses a file of lines that is no text, has endless lines, or quotes that pandas would read without complaint.

    Args:
        builder: what `datasets` reads it with.
    """
    if file_format(file) not in TEXT_FORMATS:
        return
    options = getattr(builder.config, "pd_read_csv_kwargs", {})  # of csv alone
    if options.get("encoding") is None:
        check_beginning(file, place)
    check_lines(file, place)
    delimiter = str(options.get("sep") or "").encode()
    usual = (options.get("quotechar"), options.get("quoting"), options.get("escapechar")) == ('"', 0, None)
    if usual and len(delimiter) == 1:
        check_file_quotes(file, place, delimiter)


def _data_files(builder: Any, folder: Path, files: Mapping[str, HubFile], repository: Repository) -> list[HubFile]:
    """Returns the files that a configuration consists of, each once, after a look at where and what they are."""
    kind = type(builder).__module__.rpartition(".")[2]
    if kind not in FORMATS:
        raise BadInput(
            f"{repository.what}: its files are read as {kind}, not as tables; "
            "use a copy that has .parquet, .csv or .jsonl files"
        )
    named: dict[str, HubFile] = {}
    for place in (str(place) for places in (builder.config.data_files or {}).values() for place in places):
        path = place.removeprefix(f"{folder}/")
        if path not in files:
            raise BadInput(f"{repository.what}: {place[:200]} is not of commit {repository.commit}; use local files")
        named[path] = files[path]
    return list(named.values())


def _check_card(file: Path, what: str) -> None:
    """Refuses a dataset whose card takes data from elsewhere, because no commit pins them, before they are fetched.

    The paths of a configuration are relative to the repository, unless they are addresses or lead out of it.
    """
    text = file.read_text(encoding="utf-8")
    if file.name == "README.md":
        block = re.match(r"\s*---\r?\n(.*?)\n---[ \t]*(?:\r?\n|$)", text, re.DOTALL)
        text = block[1] if block else ""
    card = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    for number, (keys, value) in enumerate(_values(card)):
        if number > MAX_CARD_VALUES:
            raise BadInput(f"{what}: {file.name} expands to more than {MAX_CARD_VALUES:,} values; use a corrected copy")
        if not isinstance(value, str) or "configs" not in keys[:1]:
            continue
        address = re.search(r'[a-z0-9]+://[^"]+', value)
        outside = {"data_files", "data_dir"} & set(keys) and (
            value.startswith(("/", "~")) or ".." in value.split("/") or "::" in value
        )
        if address is not None or outside:
            place = address[0] if address else value
            raise BadInput(
                f"{what}: its card takes data from {place[:200]}, which no commit pins; download them yourself and "
                "use local files"
            )


def _values(value: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yields all that a value of YAML holds, and under which keys; what it repeats by a name, as often as it does."""
    yield keys, value
    if isinstance(value, dict):
        for key, member in value.items():
            yield keys, key
            yield from _values(member, (*keys, str(key)))
    elif isinstance(value, list):
        for member in value:
            yield from _values(member, keys)
