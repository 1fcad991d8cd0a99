"""Local tables: csv, tsv, jsonl, parquet and Arrow, streamed into one memory-mapped table a split."""

import gzip
import hashlib
import json
import re
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from datasets import Features
from tqdm import tqdm

from stages.download.source import (
    BATCH,
    NUMBER,
    ORDER,
    SPLIT,
    Labelling,
    Source,
    check_split,
    decode_labels,
    in_order,
    spill,
    stored_names,
)
from stages.shared.runtime.errors import BadInput

BLOCK = 2**24  # bytes of csv at once; a row may not be longer
SHARD = re.compile(r"(?P<split>\w+)(-\d+-of-(?P<total>\d+))?(?P<suffix>\.\w+(\.gz)?)?")
FORMAT = re.compile(r".*\.(?:(csv|tsv|jsonl)(?:\.gz)?|(parquet|arrow))")
KNOWN = "csv|tsv|jsonl|parquet|arrow"
WHOLE = re.compile(r"[+-]?(0|[1-9]\d{0,17})")  # and of 64 bits; a longer one is a number like any other
MISFITS = (pa.ArrowException, OverflowError, UnicodeEncodeError)  # what pyarrow raises for values of no one type


def read_files(
    path: Path, globs: Mapping[str, str] | None, labelling: Labelling, metrics: list[str], scratch: Path
) -> Source:
    """Reads the splits that lie in the folder `path`, or the train split that is the file `path`.

    Args:
        globs: split name -> pattern of its files in the folder. None: files or folders are named after their splits.
        scratch: an existing folder that lives as long as the tables are used; the rows are there, not in memory.

    Raises:
        BadInput: files are missing or stand in two splits, lack a column, or cannot be parsed.
    """
    files = find_files(path, globs)
    tables = {
        split: _read_split(split, shards, labelling, scratch / f"{split}.arrow") for split, shards in files.items()
    }
    if labelling.label_names is None:
        labelling = replace(
            labelling, label_names=stored_names(_stored_feature(_schema(files["train"][0]), labelling.label_column))
        )
    return Source("files", _hash(files), tables, {split: _place(files[split]) for split in files}, labelling, metrics)


def find_files(path: Path, globs: Mapping[str, str] | None) -> dict[str, list[Path]]:
    """Returns the files of each split, sorted by name, in the order train, validation, test."""
    if path.is_file():
        if globs is not None:
            raise BadInput(f"params.yaml: download.split_files: {path} is one file; name its folder, or set it to null")
        _known_format(path)
        return {"train": [path]}
    if not path.is_dir():
        raise BadInput(f"params.yaml: download.dataset_files: no such folder or file: {path}")
    found = _by_name(path) if globs is None else _by_glob(path, globs)
    if "train" not in found:
        names = ", ".join(sorted(file.name for file in path.iterdir())[:10]) or "nothing"
        raise BadInput(
            f"{path}: no train.{KNOWN} there, only {names}; name the files after the splits, "
            "or say in download.split_files which are which"
        )
    for split, files in found.items():
        if len({_format(file) for file in files}) > 1:
            raise BadInput(f"{path}: the {split} split has files of several formats; bring them to one")
    return in_order(found)


def _by_name(folder: Path) -> dict[str, list[Path]]:
    """Finds `train.csv`, the shards `train-00000-of-00002.csv`, or all tables in the folder `train`."""
    forms: dict[str, dict[str, list[Path]]] = {}
    for entry in sorted(folder.iterdir()):
        matched = SHARD.fullmatch(entry.name)
        if matched is None or matched["split"].split("_")[0] not in ORDER or not (entry.is_dir() or _format(entry)):
            continue
        split, total = matched["split"], matched["total"]
        if not SPLIT.fullmatch(split) and entry.is_dir():
            continue  # somebody's train_logs
        if not SPLIT.fullmatch(split):
            raise BadInput(
                f"{entry}: there is one train split; name its files train-00000-of-00002 and so on, "
                "or say in download.split_files which they are"
            )
        form = entry.name if total is None or entry.is_dir() else f"{split}-*-of-{total}{matched['suffix']}"
        forms.setdefault(split, {}).setdefault(form, []).append(entry)
    found = {}
    for split, candidates in forms.items():
        if len(candidates) > 1:
            raise BadInput(f"{folder}: {' and '.join(candidates)} are both the {split} split; keep one")
        ((form, entries),) = candidates.items()
        total = form.partition("-*-of-")[2].partition(".")[0]
        if total and len(entries) != int(total):
            raise BadInput(f"{folder}: {len(entries)} of {int(total)} files {form} are there; add the others")
        found[split] = _inside(entries[0]) if entries[0].is_dir() else entries
    return found


def _inside(folder: Path) -> list[Path]:
    """Returns the tables in a split's folder; where `datasets` saved it, its own list, without its caches."""
    state = folder / "state.json"
    if state.is_file():
        saved = json.loads(state.read_text(encoding="utf-8"))
        return [folder / file["filename"] for file in saved["_data_files"]]
    files = sorted(file for file in folder.iterdir() if file.is_file() and _format(file) and not _hidden(file, folder))
    if not files:
        raise BadInput(f"{folder}: no {KNOWN} in it; a folder named after a split holds its files")
    return files


def _by_glob(folder: Path, globs: Mapping[str, str]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    owner: dict[Path, str] = {}
    for split, pattern in globs.items():
        key = f"params.yaml: download.split_files: {split}"
        check_split(split)
        if not pattern or Path(pattern).is_absolute() or ".." in Path(pattern).parts:
            raise BadInput(f"{key}: expected a pattern inside download.dataset_files, got {pattern!r}")
        try:
            matched = set(folder.glob(pattern))
        except ValueError as error:
            raise BadInput(f"{key}: {pattern!r} is no pattern: {str(error).rstrip('.')}") from None
        found[split] = sorted(file for file in matched if file.is_file() and not _hidden(file, folder))
        if not found[split]:
            raise BadInput(f"{key}: no file in {folder} matches {pattern!r}")
        for file in found[split]:
            _known_format(file)
            if file in owner:
                raise BadInput(f"{key}: {file} is in the {owner[file]} split too; narrow one of the patterns")
            owner[file] = split
    return found


def _hidden(file: Path, folder: Path) -> bool:
    """Says whether a file, or a folder between `folder` and it, is hidden: .ipynb_checkpoints, ._train.csv."""
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _format(file: Path) -> str:
    """Returns what the file's name says of its format, csv for a.csv and a.csv.gz; nothing where it says none."""
    matched = FORMAT.fullmatch(file.name)
    return (matched[1] or matched[2]) if matched else ""


def _known_format(file: Path) -> None:
    if not _format(file):
        raise BadInput(f"{file}: the name says no format; expected {KNOWN}, the first three also with .gz")


def _place(files: Sequence[Path]) -> str:
    """Names a split in messages; their row numbers go on from file to file."""
    return str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"


def _hash(files: Mapping[str, Sequence[Path]]) -> str:
    digest = hashlib.sha256()
    for split, shards in files.items():
        for file in shards:
            with file.open("rb") as stream:
                digest.update(f"{split} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def _read_split(split: str, files: Sequence[Path], labelling: Labelling, spilled: Path) -> pa.Table:
    """Brings the columns of use from all files of a split into one memory-mapped table."""
    kind = _format(files[0])
    rows = _counted(_batches(split, files, labelling), split)
    first = next(rows, None)
    if first is None:
        return pa.table({})
    table = spill(chain([first], rows), first.schema, spilled)
    if kind in PARSERS:
        table = _with_types(table, labelling, PARSERS[kind], _place(files))
    return table


def _batches(split: str, files: Sequence[Path], labelling: Labelling) -> Iterator[pa.RecordBatch]:
    """Yields the rows of the files one after the other, all with the columns of the first."""
    schema: pa.Schema | None = None
    for file in files:
        with _parse_errors(file):
            for batch in READERS[_format(file)](file, split, labelling):
                schema = schema or batch.schema
                if not batch.schema.equals(schema):
                    raise BadInput(
                        f"{file}: its columns are {_types(batch.schema)}, but {_types(schema)} in {files[0]}; "
                        "bring them to one"
                    )
                yield batch


def _counted(batches: Iterator[pa.RecordBatch], split: str) -> Iterator[pa.RecordBatch]:
    """Shows on a terminal how many rows have passed; how many there are, a csv does not say."""
    with tqdm(desc=f"read {split}", unit=" examples", disable=None) as progress:
        for batch in batches:
            yield batch
            progress.update(batch.num_rows)


def _types(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


@contextmanager
def _parse_errors(file: Path) -> Iterator[None]:
    """Turns what the parsers raise into one line."""
    try:
        yield
    except (pa.ArrowException, OSError, EOFError, UnicodeError, zlib.error) as error:
        if isinstance(error, UnicodeDecodeError) or "invalid UTF8" in str(error):
            raise BadInput(f"{file}: the text is not UTF-8; save it as UTF-8") from None
        raise BadInput(f"{file}: cannot be read as {_format(file)}: {' '.join(str(error).split())}") from None


def _read_csv(file: Path, split: str, labelling: Labelling) -> Iterator[pa.RecordBatch]:
    return _read_delimited(file, split, labelling, pyarrow.csv.ParseOptions(newlines_in_values=True))


def _read_tsv(file: Path, split: str, labelling: Labelling) -> Iterator[pa.RecordBatch]:
    """Takes a quote for a character like any other: in GLUE's own files one that is never closed swallows rows."""
    return _read_delimited(file, split, labelling, pyarrow.csv.ParseOptions(delimiter="\t", quote_char=False))


def _read_delimited(
    file: Path, split: str, labelling: Labelling, parse_options: pyarrow.csv.ParseOptions
) -> Iterator[pa.RecordBatch]:
    """Yields every cell as text: a type that is guessed from the first block need not fit the others."""
    if file.stat().st_size == 0:
        raise BadInput(f"{file}: the file is empty; expected a header line and rows")
    read_options = pyarrow.csv.ReadOptions(block_size=BLOCK)
    with pyarrow.csv.open_csv(file, read_options, parse_options) as header:
        labelling.check_columns(header.schema.names, split, str(file))
    # A text "NA" or "null" is a text; only an empty cell is no value.
    convert_options = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(labelling.columns, pa.string()),
        include_columns=labelling.columns,
        include_missing_columns=True,
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    with pyarrow.csv.open_csv(file, read_options, parse_options, convert_options) as reader:
        yield from reader


def _read_jsonl(file: Path, split: str, labelling: Labelling) -> Iterator[pa.RecordBatch]:
    """Yields texts as they are, and the other columns as JSON: their types are known at the end of the file only."""
    open_text = gzip.open if file.suffix == ".gz" else open
    names: dict[str, None] = {}
    done = 0
    with open_text(file, "rt", encoding="utf-8-sig") as lines:
        while rows := list(islice(_objects(file, lines), BATCH)):
            columns = {}
            for name in labelling.columns:
                values = [row.get(name) for row in rows]
                if name in labelling.text_columns:
                    columns[name] = _texts(values, f"{file}: row {{}}: column {name!r}", done)
                else:
                    columns[name] = pa.array([None if value is None else json.dumps(value) for value in values])
            names |= dict.fromkeys(name for row in rows for name in row)
            done += len(rows)
            yield pa.record_batch({name: column.cast(pa.string()) for name, column in columns.items()})
    if done:
        labelling.check_columns(list(names), split, str(file))


def _objects(file: Path, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for line in filter(str.strip, lines):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise BadInput(f"{file}: not valid JSON: {error}: {line.strip()[:60]}") from None
        if not isinstance(row, dict):
            raise BadInput(f"{file}: expected a JSON object in every line, found {line.strip()[:60]}")
        yield row


def _texts(values: list[Any], place: str, done: int) -> pa.Array:
    try:
        return pa.array(values, pa.string())
    except (pa.ArrowException, UnicodeEncodeError):
        for row, value in enumerate(values, done + 1):
            if not (value is None or isinstance(value, str)):
                raise BadInput(f"{place.format(row)}: expected a text, found {json.dumps(value)[:40]}") from None
            if value is not None and any("\ud800" <= character <= "\udfff" for character in value):
                raise BadInput(f"{place.format(row)}: the text holds half a character (a lone surrogate)") from None
        raise


def _read_parquet(file: Path, split: str, labelling: Labelling) -> Iterator[pa.RecordBatch]:
    with pyarrow.parquet.ParquetFile(file) as opened:
        names = opened.schema_arrow.names
        labelling.check_columns(names, split, str(file))
        wanted = [name for name in labelling.columns if name in names]
        feature = _stored_feature(opened.schema_arrow, labelling.label_column)
        for batch in opened.iter_batches(BATCH, columns=wanted):
            yield _decoded(_plain(batch.select(wanted)), feature, labelling, file)


def _read_arrow(file: Path, split: str, labelling: Labelling) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(file)) as mapped:
        opened = _open_arrow(mapped)
        labelling.check_columns(opened.schema.names, split, str(file))
        wanted = [name for name in labelling.columns if name in opened.schema.names]
        stream = isinstance(opened, pa.RecordBatchStreamReader)
        feature = _stored_feature(opened.schema, labelling.label_column)
        batches = opened if stream else (opened.get_batch(number) for number in range(opened.num_record_batches))
        for batch in batches:
            if batch.num_rows:
                yield _decoded(_plain(batch.select(wanted)), feature, labelling, file)


def _open_arrow(mapped: pa.MemoryMappedFile) -> Any:
    """Opens either of Arrow's two formats: the file, which begins with its name, and the stream."""
    is_file = mapped.read(6) == b"ARROW1"
    mapped.seek(0)
    return pa.ipc.open_file(mapped) if is_file else pa.ipc.open_stream(mapped)


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Undoes what other programs do to save space: categories, and texts and lists of other layouts."""
    columns = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        kind = column.type
        if pa.types.is_dictionary(kind):  # what pandas writes for a categorical
            column, kind = column.dictionary_decode(), kind.value_type
        if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
            column = column.cast(pa.string())
        elif pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_list_view(kind):
            column = column.cast(pa.list_(kind.value_type))
        columns[name] = column
    return pa.record_batch(columns)


def _decoded(batch: pa.RecordBatch, feature: Any, labelling: Labelling, file: Path) -> pa.RecordBatch:
    """Puts names in the place of label codes."""
    column = labelling.label_column
    if column not in batch.schema.names:
        return batch
    labels = decode_labels(batch[column], feature, labelling, str(file))
    return batch.set_column(batch.schema.get_field_index(column), column, labels)


def _schema(file: Path) -> pa.Schema | None:
    """Returns the schema that a file has, if its format has one."""
    if _format(file) == "parquet":
        return pyarrow.parquet.read_schema(file)
    if _format(file) == "arrow":
        with pa.memory_map(str(file)) as mapped:
            return _open_arrow(mapped).schema
    return None


def _stored_feature(schema: pa.Schema | None, column: str) -> Any:
    """Returns what `datasets` keeps of a column in the schema of its files; None where it keeps nothing."""
    if schema is None or b"huggingface" not in (schema.metadata or {}):
        return None
    return Features.from_arrow_schema(schema).get(column)


def _with_types(table: pa.Table, labelling: Labelling, parse: Callable[[list[str]], list[Any]], place: str) -> pa.Table:
    """Parses labels, each distinct one once, and `idx`; until then they are texts."""
    for name in {labelling.label_column, "idx"} - set(labelling.text_columns):
        column = table[name].combine_chunks().dictionary_encode()
        parsed = parse(column.dictionary.to_pylist())
        try:
            values = pa.array(parsed)
        except MISFITS:
            if name == labelling.label_column:
                number, reason = _misfit(parsed)
                row = pc.index(column.indices, number).as_py() + 1
                raise BadInput(f"{place}: row {row}: column {name!r}: {reason}") from None
            values = pa.nulls(len(parsed))  # somebody's own idx; the rows are counted instead
        table = table.set_column(table.schema.get_field_index(name), name, values.take(column.indices))
    return table


def _misfit(values: list[Any]) -> tuple[int, str]:
    """Returns the place of the first value that does not go with those before it, and says why."""
    number = bisect_left(range(len(values)), True, key=lambda last: not _fits(values[: last + 1]))
    found = json.dumps(values[number])[:40]
    if _fits([values[number]]):
        return number, f"{found} beside {json.dumps(values[0])[:40]}: values of several kinds; bring them to one"
    if "\\ud" in found:
        return number, f"{found} holds half a character (a lone surrogate); correct the row"
    if isinstance(values[number], int):
        return number, f"{found} is beyond the whole numbers of 64 bits; correct the row"
    return number, f"{found} holds what does not go together; bring it to one kind"


def _fits(values: list[Any]) -> bool:
    try:
        pa.array(values)
    except MISFITS:
        return False
    return True


def _parse_cells(cells: list[str]) -> list[Any]:
    """Reads the distinct cells of a column: numbers where all of them are such, else texts; a blank one has no value.

    Truth values are texts too: `True` is what it is called, in each split and in download.label_names.
    """
    bare = [cell.strip() for cell in cells]
    filled = list(filter(None, bare))
    kind = int if all(map(WHOLE.fullmatch, filled)) else float if all(map(NUMBER.fullmatch, filled)) else str
    return [kind(cell) if cell else None for cell in bare]


def _parse_json(cells: list[str]) -> list[Any]:
    return list(map(json.loads, cells))


PARSERS = {"csv": _parse_cells, "tsv": _parse_cells, "jsonl": _parse_json}
READERS: dict[str, Callable[[Path, str, Labelling], Iterator[pa.RecordBatch]]] = {
    "csv": _read_csv,
    "tsv": _read_tsv,
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
    "arrow": _read_arrow,
}
