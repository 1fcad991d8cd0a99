"""Reads local files: the rows of a split are streamed into one memory-mapped table."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pyarrow as pa
from tqdm import tqdm

from stages.download.column_types import kind_of_labels, parse_columns
from stages.download.readers import DIALECTS, TEXT_FORMATS, file_format, open_typed, read_rows
from stages.download.source import Labelling, Source, spill
from stages.download.split_files import find_files
from stages.download.stored_labels import stored_feature, stored_names
from stages.download.watched import check_watched
from stages.shared.runtime.errors import BadInput


def read_files(path: Path, patterns: Mapping[str, str] | None, labelling: Labelling, scratch: Path) -> Source:
    """Reads the splits that lie in the folder `path`, or the train split that is the file `path`.

    Args:
        patterns: split name -> pattern of its files in the folder. None: files or folders are named after their splits.
        scratch: an existing folder that lives as long as the tables are used; the rows are there, not in memory.

    Raises:
        BadInput: files are missing or stand in two splits, lack a column, or cannot be parsed.
    """
    files = find_files(path, patterns)
    if path.is_dir():
        check_watched(path, chain.from_iterable(files.values()), "params.yaml: download.dataset_files")
    tables = {split: _read_split(split, files[split], labelling, scratch / f"{split}.arrow") for split in files}
    formats = {split: file_format(files[split][0]) for split in files}
    cells = [table for split, table in tables.items() if formats[split] in DIALECTS and table.num_rows]
    kind = kind_of_labels(cells, labelling)
    for split, table in tables.items():
        if formats[split] in TEXT_FORMATS and table.num_rows:
            tables[split] = parse_columns(table, labelling, formats[split], _place(files[split]), kind)
    if labelling.label_names is None:
        labelling = replace(labelling, label_names=_stored_names(files["train"][0], labelling.label_column))
    return Source("files", _hash(files), tables, {split: _place(files[split]) for split in files}, labelling)


def _read_split(split: str, files: Sequence[Path], labelling: Labelling, spilled: Path) -> pa.Table:
    """Brings the columns of use from all files of a split into one memory-mapped table; those of text are all texts."""
    batches = _batches(split, files, labelling)
    first = next(batches, None)
    if first is None:
        return pa.table({})
    return spill(chain([first], batches), first.schema, spilled)


def _batches(split: str, files: Sequence[Path], labelling: Labelling) -> Iterator[pa.RecordBatch]:
    """Yields the rows of the files one after the other, all with the columns of the first."""
    schema: pa.Schema | None = None
    # A terminal shows how many rows have passed; how many there will be, a csv does not say.
    with tqdm(desc=f"read {split}", unit=" examples", disable=None) as progress:
        for file in files:
            for batch in read_rows(file, split, labelling):
                schema = schema or batch.schema
                if not batch.schema.equals(schema):
                    raise BadInput(
                        f"{file}: its columns are {_types(batch.schema)}, but {_types(schema)} in {files[0]}; give "
                        "all files the same columns"
                    )
                yield batch
                progress.update(batch.num_rows)


def _types(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


def _stored_names(file: Path, column: str) -> list[str] | None:
    """Returns the names that `datasets` stored with the labels of a file; None where there are none."""
    if file_format(file) in TEXT_FORMATS:
        return None
    with open_typed(file) as (schema, _):
        return stored_names(stored_feature(schema, column, str(file)))


def _place(files: Sequence[Path]) -> str:
    """Names a split in messages; their row numbers go on from file to file."""
    return str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"


def _hash(files: Mapping[str, Sequence[Path]]) -> str:
    """Returns what stands for a commit in task.json; no path goes into it, so that moved files have the same hash."""
    digest = hashlib.sha256()
    for split, shards in files.items():
        for file in shards:
            with file.open("rb") as stream:
                digest.update(f"{split} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()
