"""What is wrong with the data before anything is trained on it: repeated, shared, empty and contradictory texts."""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from tqdm import tqdm

from stages.download.source import BATCH_ROWS, UNLABELLED
from stages.shared.runtime.errors import BadInput

DIGEST_BYTES = 16  # Among a billion texts, two have the same digest by chance in one of 1e21 corpora.
MAX_NAMED_ROWS = 3  # As many rows are named where many are shared.
MAX_LISTED_LABELS = 6  # The printed table counts so many labels one by one, and sums up more.


class TextCodes(NamedTuple):
    """Small numbers in place of texts, one array a split: equal where the texts are equal."""

    codes: list[np.ndarray]  # int64[rows]; a pair has the code of the same two texts in the other order
    swapped: list[np.ndarray]  # bool[rows]: which of the two orders it is
    empty: list[int]  # rows with a text that is nothing, or white space


def text_codes(splits: Sequence[Dataset]) -> TextCodes:
    """Numbers the texts of all splits; case and white space are ignored, and so is the order of a pair.

    Texts pass in batches, and 17 bytes a row are kept of them.
    """
    digests, swapped, empty = [], [], []
    progress = tqdm(total=sum(map(len, splits)), desc="compare texts", unit=" examples", disable=None)
    for split in splits:
        table = split.data.table.select([name for name in ("text", "text_pair") if name in split.column_names])
        keys, flags, blank = bytearray(), bytearray(), 0
        for batch in table.to_batches(BATCH_ROWS):
            for texts in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                # Texts that differ in case or white space alone are the same to a reader, and to many tokenizers.
                parts = [" ".join(text.casefold().split()) for text in texts]
                blank += "" in parts
                flags.append(parts[0] > parts[-1])
                # The line feed separates the two texts, because none is left in them.
                keys += hashlib.blake2b("\n".join(sorted(parts)).encode(), digest_size=DIGEST_BYTES).digest()
            progress.update(batch.num_rows)
        kind = pa.binary(DIGEST_BYTES)
        digests.append(pa.FixedSizeBinaryArray.from_buffers(kind, len(flags), [None, pa.py_buffer(keys)]))
        swapped.append(np.frombuffer(flags, dtype=bool))
        empty.append(blank)
    progress.close()
    numbers = pa.concat_arrays(digests).dictionary_encode().indices.to_numpy().astype(np.int64)
    return TextCodes(np.split(numbers, np.cumsum(list(map(len, splits)))[:-1]), swapped, empty)


def describe(splits: Mapping[str, Dataset], label_names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Returns what metrics/data.json holds.

    `splits`: of each split the `examples`, their `labels` (name -> count) or `label_range`, the `duplicates` (rows
    whose texts were seen before in the split), the `empty_texts`, and the `conflicting_labels` (distinct texts, pairs
    in their order, that carry more than one label). `shared`: for any two splits with texts in common, how many
    `examples` of the second the first one holds too, and the first few as `rows` of both, counted from 1.
    """
    texts = text_codes(list(splits.values()))
    facts = []
    for (name, split), codes, swapped, empty in zip(splits.items(), *texts, strict=True):
        values = label_values(split)
        faults = {"duplicates": len(codes) - len(np.unique(codes)), "empty_texts": empty}
        # A pair in the other order may rightly have another label: b may follow from a, and a not from b.
        faults["conflicting_labels"] = _conflicts(2 * codes + swapped, values)
        facts.append({"split": name, "examples": len(split)} | _balance(values, label_names) | faults)
    shared = []
    for (first, codes), (second, others) in combinations(zip(splits, texts.codes, strict=True), 2):
        rows = np.flatnonzero(np.isin(others, codes))
        if len(rows):
            named = [[int(np.argmax(codes == others[row])) + 1, int(row) + 1] for row in rows[:MAX_NAMED_ROWS]]
            shared.append({"splits": [first, second], "examples": len(rows), "rows": named})
    return {"splits": facts, "shared": shared}


def label_values(split: Dataset) -> np.ndarray:
    """Returns int64[rows] (classes), float32[rows] (numbers) or float32[rows, labels] (sets)."""
    column = split.data.table["label"]
    if pa.types.is_list(column.type):
        return np.asarray(pc.list_flatten(column).to_numpy().reshape(len(column), -1))
    return np.asarray(column.to_numpy())


def _balance(values: np.ndarray, label_names: Sequence[str]) -> dict[str, Any]:
    """Counts the labels of a split, or gives the range of its numbers; nothing where it has none."""
    if (values == UNLABELLED).all():
        return {}
    if not label_names:
        numbers = values.astype(np.float64)
        range_of = {"min": numbers.min(), "mean": numbers.mean(), "max": numbers.max()}
        return {"label_range": {name: round(float(value), 6) for name, value in range_of.items()}}
    counts = np.bincount(values, minlength=len(label_names)) if values.ndim == 1 else values.sum(0, dtype=np.int64)
    return {"labels": dict(zip(label_names, counts.tolist(), strict=True))}


def _conflicts(texts: np.ndarray, values: np.ndarray) -> int:
    """Counts the distinct texts, int64[rows], that carry more than one label."""
    # A row of a thousand labels is compared as 125 bytes.
    packed = values if values.ndim == 1 else np.packbits(values == 1, axis=1)
    labels = np.unique(packed, axis=0, return_inverse=True)[1].ravel()
    both = np.unique(texts * (labels.max() + 1) + labels) // (labels.max() + 1)
    return int((np.unique(both, return_counts=True)[1] > 1).sum())


def format_table(facts: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Lays the facts out in aligned columns, one line a split."""
    counted = ("examples", "duplicates", "empty_texts", "conflicting_labels")
    rows = [["split", "examples", "duplicates", "empty", "conflicting", "labels"]]
    rows += [[counts["split"], *(str(counts[name]) for name in counted), _labels(counts)] for counts in facts["splits"]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([name.ljust(widths[0]), *map(str.rjust, numbers, widths[1:-1]), labels])
        for name, *numbers, labels in rows
    )


def _labels(counts: Mapping[str, Any]) -> str:
    if "label_range" in counts:
        return "{min:g} to {max:g}, mean {mean:.4g}".format(**counts["label_range"])
    labels = counts.get("labels", {})
    if len(labels) > MAX_LISTED_LABELS:
        return f"{len(labels)}, each {min(labels.values())} to {max(labels.values())} times"
    return ", ".join(f"{name} {count}" for name, count in labels.items()) or "none"


def check_leakage(facts: Mapping[str, Sequence[Mapping[str, Any]]], on_leakage: str) -> None:
    """Warns of texts that stand in two splits, or refuses them where one of the two is train.

    Raises:
        BadInput: train shares texts with another split, and `on_leakage` is "error".
    """
    sizes = {counts["split"]: counts["examples"] for counts in facts["splits"]}
    for shared in facts["shared"]:
        first, second = shared["splits"]
        rows = ", ".join(f"{second} row {two} = {first} row {one}" for one, two in shared["rows"])
        more = ", ..." if shared["examples"] > len(shared["rows"]) else ""
        message = f"{shared['examples']} of {sizes[second]} {second} examples stand in {first} too"
        if first == "train" and on_leakage == "error":
            raise BadInput(f"{message}; remove them, or set download.on_leakage to warn ({rows}{more})")
        print(f"download: warning: {message} ({rows}{more})", file=sys.stderr)
