"""Arrow datasets on disk whose bytes depend only on their rows."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features, load_from_disk

BATCH = 1000  # rows that `save_splits` writes at once
DATA = "data-00000-of-00001.arrow"
NAMES = "dataset_dict.json"
# In data/tokenized: `max_length`, the tokens that the model reads at once, and, where the texts are in windows,
# `window_logits`.
LIMIT_FILE = "limit.json"
WindowLogits = Literal["mean", "max"]  # how the logits of a text's windows become one, for each label


def save_splits(splits: Mapping[str, Dataset], folder: Path) -> None:
    """Saves `splits` as the `DatasetDict` folder that `datasets.load_from_disk` reads, with one data file each."""
    for name, split in splits.items():
        with add_split(folder, name, split.features) as write:
            for rows in split.with_format("arrow").iter(BATCH):
                write(rows)


@contextmanager
def add_split(folder: Path, name: str, features: Features) -> Iterator[Callable[[pa.Table], None]]:
    """Yields what writes the rows of a new split of the `DatasetDict` in `folder`, batch by batch.

    They go straight to the disk. `save_to_disk` would want all of them first, cut them into files by how they lie in
    memory, and put a fingerprint into state.json that depends on paths and times; here it is the hash of the rows.
    """
    schema = features.arrow_schema
    (folder / name).mkdir(parents=True, exist_ok=True)
    data = folder / name / DATA
    with data.open("wb") as file, pa.ipc.new_stream(file, schema) as writer:

        def write(rows: pa.Table) -> None:
            # A copy, which needs two parts: what is cut from a larger table is padded with that table's next bytes.
            writer.write_table(pa.concat_tables([rows, schema.empty_table()]).combine_chunks())

        yield write
    with data.open("rb") as written:
        digest = hashlib.sha256(hashlib.file_digest(written, "sha256").digest())
    info = {"citation": "", "description": "", "features": features.to_dict(), "homepage": "", "license": ""}
    _write(folder / name / "dataset_info.json", info, indent=2)
    state: dict[str, Any] = {
        "_data_files": [{"filename": DATA}],
        "_fingerprint": digest.hexdigest()[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": name,
    }
    _write(folder / name / "state.json", state, indent=2)
    names = _names(folder) if (folder / NAMES).exists() else []
    _write(folder / NAMES, {"splits": list(dict.fromkeys([*names, name]))})


def load_splits(folder: Path) -> dict[str, Dataset]:
    """Opens every split of a saved `DatasetDict`, memory-mapped, in the order in which it was saved."""
    return {name: load_from_disk(folder / name) for name in _names(folder)}


def read_window_logits(folder: Path) -> WindowLogits | None:
    """Returns how the logits of a text's windows become one; None where a text is one input of the model.

    Args:
        folder: data/tokenized.
    """
    how: WindowLogits | None = json.loads((folder / LIMIT_FILE).read_text(encoding="utf-8")).get("window_logits")
    return how


def label_array(split: Dataset) -> np.ndarray:
    """Returns int64[examples] for classes, float32[examples, ...] otherwise."""
    labels = np.asarray(split.with_format("numpy")["label"][:])
    return labels.astype(np.int64 if np.issubdtype(labels.dtype, np.integer) else np.float32)


def stream_rows(folder: Path, name: str) -> Iterator[pa.RecordBatch]:
    """Reads the batches of a saved split one after the other, for whoever needs each once.

    It does not map the file: what was read of a mapped one counts as the process's memory until others need it.
    """
    with pa.OSFile(str(folder / name / DATA)) as file, pa.ipc.open_stream(file) as reader:
        yield from reader


def _names(folder: Path) -> list[str]:
    return list(json.loads((folder / NAMES).read_text(encoding="utf-8"))["splits"])


def _write(file: Path, content: dict[str, Any], indent: int | None = None) -> None:
    """Writes JSON as `save_to_disk` does."""
    file.write_text(json.dumps(content, indent=indent), encoding="utf-8")
