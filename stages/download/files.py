"""Local tables: csv, tsv, jsonl and parquet."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from stages.download.source import Labelling, Source
from stages.shared.errors import BadInput

BLOCK = 2**24  # bytes; a row may not be longer


def read_files(folder: Path, labelling: Labelling, metrics: list[str]) -> Source:
    """Reads `<split>.<csv|tsv|jsonl|parquet>` of train, validation and test; `validation_matched` and its like too.

    Raises:
        BadInput: the folder or its train file is missing, a split stands in two files, or a file cannot be parsed.
    """
    if not folder.is_dir():
        raise BadInput(f"params.yaml: download.dataset_files: no such folder: {folder}")
    files = _split_files(folder)
    return Source(
        kind="files",
        revision=_hash(files),
        tables={split: _read_table(file, labelling) for split, file in files.items()},
        places={split: str(file) for split, file in files.items()},
        labelling=labelling,
        metrics=metrics,
    )


def _split_files(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        split = file.stem
        if file.suffix.lstrip(".") not in READERS or split.split("_")[0] not in ("train", "validation", "test"):
            continue
        if split in found:
            raise BadInput(f"{folder}: {found[split].name} and {file.name} are both the {split} split; keep one")
        found[split] = file
    if "train" not in found:
        names = ", ".join(sorted(file.name for file in folder.iterdir())[:10]) or "nothing"
        raise BadInput(f"{folder}: no train.{'|'.join(READERS)} there, only {names}; name the files after the splits")
    order = ("train", "validation", "test")
    return {split: found[split] for split in sorted(found, key=lambda name: (order.index(name.split("_")[0]), name))}


def _hash(files: dict[str, Path]) -> str:
    digest = hashlib.sha256()
    for split, file in files.items():
        with file.open("rb") as stream:
            digest.update(f"{split} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def _read_table(file: Path, labelling: Labelling) -> pa.Table:
    texts = [column for column in (labelling.text_column, labelling.text_pair_column) if column is not None]
    try:
        return READERS[file.suffix.lstrip(".")](file, texts)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise BadInput(f"{file}: cannot be read as {file.suffix.lstrip('.')}: {' '.join(str(error).split())}") from None


def _read_csv(file: Path, texts: list[str]) -> pa.Table:
    return _read_delimited(file, texts, pyarrow.csv.ParseOptions(newlines_in_values=True))


def _read_tsv(file: Path, texts: list[str]) -> pa.Table:
    """Takes a quote for a character like any other: in GLUE's own files one that is never closed swallows rows."""
    return _read_delimited(file, texts, pyarrow.csv.ParseOptions(delimiter="\t", quote_char=False))


def _read_delimited(file: Path, texts: list[str], parse_options: pyarrow.csv.ParseOptions) -> pa.Table:
    if file.stat().st_size == 0:
        raise BadInput(f"{file}: the file is empty; expected a header line and rows")
    return pyarrow.csv.read_csv(
        file,
        parse_options=parse_options,
        read_options=pyarrow.csv.ReadOptions(block_size=BLOCK),
        # A text "NA" or "null" is a text; only an empty cell is no value.
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(texts, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            auto_dict_encode=False,
        ),
    )


def _read_jsonl(file: Path, texts: list[str]) -> pa.Table:
    if file.stat().st_size == 0:
        return pa.table({})
    schema = pa.schema([(column, pa.string()) for column in texts])
    return pyarrow.json.read_json(
        file,
        parse_options=pyarrow.json.ParseOptions(explicit_schema=schema, newlines_in_values=False),
        read_options=pyarrow.json.ReadOptions(block_size=BLOCK),
    )


def _read_parquet(file: Path, texts: list[str]) -> pa.Table:
    table = pyarrow.parquet.read_table(file)
    for index, column in enumerate(table.schema):
        if pa.types.is_dictionary(column.type):  # what pandas writes for a categorical
            table = table.set_column(index, column.name, table[column.name].cast(column.type.value_type))
    return table


READERS: dict[str, Callable[[Path, list[str]], pa.Table]] = {
    "csv": _read_csv,
    "tsv": _read_tsv,
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
}
