"""Arrow datasets on disk whose bytes depend on their rows alone."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset, DatasetInfo, Features, load_from_disk

BATCH = 1000  # rows that are written, and so read again, at once
DATA = "data-00000-of-00001.arrow"
NAMES = "dataset_dict.json"


def save_splits(splits: Mapping[str, Dataset], folder: Path) -> None:
    """Saves `splits` as the `DatasetDict` folder that `datasets.load_from_disk` reads, with one data file each."""
    for name, split in splits.items():
        with add_split(folder, name, split.features) as rows:
            for batch in split.with_format("arrow").iter(BATCH):
                rows.write(batch.combine_chunks())


@contextmanager
def add_split(folder: Path, name: str, features: Features) -> Iterator[Any]:
    """Yields the writer of the rows of a new split of the `DatasetDict` in `folder`, which is made if need be.

    The rows, a `pa.RecordBatch` or `pa.Table` of one chunk at a time, go straight to the disk. `save_to_disk` would
    want all of them first, cut them into files by how they lie in memory, and put a fingerprint into state.json that
    depends on paths and times. So it writes the metadata alone, of no row, and the fingerprint is the rows' hash.
    """
    schema = features.arrow_schema
    empty = Dataset(schema.empty_table(), info=DatasetInfo(features=features), fingerprint="0")
    empty.save_to_disk(folder / name, num_shards=1)
    data = folder / name / DATA
    with data.open("wb") as stream, pa.ipc.new_stream(stream, schema) as rows:
        yield rows
    with data.open("rb") as stream:
        digest = hashlib.sha256(hashlib.file_digest(stream, "sha256").digest())
    state = json.loads((folder / name / "state.json").read_text(encoding="utf-8"))
    state |= {"_fingerprint": digest.hexdigest()[:16], "_split": name}
    (folder / name / "state.json").write_text(json.dumps(state, indent=2, sort_keys=True), encoding="utf-8")
    names = [*(_names(folder) if (folder / NAMES).exists() else []), name]
    (folder / NAMES).write_text(json.dumps({"splits": list(dict.fromkeys(names))}), encoding="utf-8")


def load_splits(folder: Path) -> dict[str, Dataset]:
    """Opens every split of a saved `DatasetDict`, memory-mapped, in the order in which it was saved."""
    return {name: load_from_disk(folder / name) for name in _names(folder)}


def stream_rows(folder: Path, name: str) -> Iterator[pa.RecordBatch]:
    """Reads the batches of a saved split one after the other, for whoever needs each once.

    It does not map the file: what was read of a mapped one counts as the process's memory until others need it.
    """
    with pa.OSFile(str(folder / name / DATA)) as file, pa.ipc.open_stream(file) as reader:
        yield from reader


def _names(folder: Path) -> list[str]:
    return list(json.loads((folder / NAMES).read_text(encoding="utf-8"))["splits"])
