"""Finds repeated, shared, empty and contradictory texts before anything is trained on them."""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from tqdm import tqdm

from stages.download.groups import group_codes
from stages.download.near_duplicates import near_duplicates, sketch
from stages.download.problems import MAX_LISTED_ROWS
from stages.download.source import BATCH_ROWS, UNLABELLED
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.terminal import visible, warn
from stages.shared.task.kept_columns import ID
from stages.shared.task.overlap import NEAR_DUPLICATE, SAME_TEXTS, SHARED_SENTENCE

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


Facts = dict[str, list[dict[str, Any]]]


def describe(splits: Mapping[str, Dataset], label_names: Sequence[str]) -> tuple[Facts, dict[str, np.ndarray]]:
    """Returns what metrics/data.json holds, and what of every other split stands in train too (see `overlap`).

    `splits`: of each split the `examples`, their `labels` (name -> count) or `label_range`, the `duplicates` (rows
    whose texts were seen before in the split), the `empty_texts`, and the `conflicting_labels` (distinct texts, pairs
    in their order, that carry more than one label). `repeated` names the first rows of each split whose texts were seen
    before, as {split, rows: [[row, the first one like it], ...]}, and `contradictory` those with different labels, as
    {split, rows: [[row, row, ...], ...]}, a list for each text; rows are those of data/raw, counted from 1, and what
    there is none of has no key. `shared`: for any two splits with texts in common, how many `examples` of the second
    the first one holds too, and the first few as `rows` of both, counted from 1. In the same form `shared_sentences`,
    the pairs that share one text with a pair of train, and `near_duplicates` of train. Where rows have groups, each
    split has the number of its `groups`, and `shared_groups` are those of any two splits.
    """
    texts = text_codes(list(splits.values()))
    groups = group_codes(list(splits.values()))
    facts: list[dict[str, Any]] = []
    named: Facts = {"repeated": [], "contradictory": []}
    for (name, split), codes, swapped, empty in zip(splits.items(), *texts, strict=True):
        values = label_values(split)
        repeated = _repeated(codes)
        if len(repeated):
            named["repeated"].append({"split": name, "rows": (repeated[:MAX_LISTED_ROWS] + 1).tolist()})
        # A pair in the other order may rightly have another label: b may follow from a, and a not from b.
        ordered = 2 * codes + swapped
        both = _conflicting(ordered, values)
        if len(both):
            places = [np.flatnonzero(ordered == text)[:MAX_LISTED_ROWS] for text in both[:MAX_LISTED_ROWS]]
            named["contradictory"].append({"split": name, "rows": sorted((rows + 1).tolist() for rows in places)})
        faults = {"duplicates": len(repeated), "empty_texts": empty, "conflicting_labels": len(both)}
        facts.append({"split": name, "examples": len(split)} | _balance(values, label_names) | faults)
    found = {"splits": facts, "shared": _shared(dict(zip(splits, texts.codes, strict=True)))}
    found |= {kind: records for kind, records in named.items() if records}
    near, flags = _near_train(splits, texts)
    found |= near
    if groups is not None:
        for counts, codes in zip(facts, groups, strict=True):
            counts["groups"] = len(np.unique(codes))
        found["shared_groups"] = _shared(dict(zip(splits, groups, strict=True)), count="groups")
    return found, flags


def _repeated(codes: np.ndarray) -> np.ndarray:
    """Returns the rows whose texts were seen before, each with the first row like it: int64[repeated, 2], from 0."""
    _, first, place = np.unique(codes, return_index=True, return_inverse=True)
    earlier = first[place]
    again = np.flatnonzero(earlier != np.arange(len(codes)))
    return np.stack([again, earlier[again]], axis=1)


def _shared(codes: Mapping[str, np.ndarray], count: str | None = None) -> list[dict[str, Any]]:
    """Finds what any two splits have in common, by int64[rows] of each; `count` names how many codes that are."""
    shared = []
    for (first, ours), (second, theirs) in combinations(codes.items(), 2):
        rows = np.flatnonzero(np.isin(theirs, ours))
        if len(rows):
            distinct = {} if count is None else {count: len(np.unique(theirs[rows]))}
            partners = [int(np.argmax(ours == theirs[row])) for row in rows[:MAX_NAMED_ROWS]]
            shared.append(_record(first, second, rows, partners) | distinct)
    return shared


def _near_train(splits: Mapping[str, Dataset], texts: TextCodes) -> tuple[Facts, dict[str, np.ndarray]]:
    """Compares every other split with train, by single sentences and by runs of words."""
    (name, train), *others = splits.items()
    sentences, near, flags = [], [], {}
    ours = sketch(train)
    for number, (other, split) in enumerate(others, 1):
        flag = SAME_TEXTS * np.isin(texts.codes[number], texts.codes[0]).astype(np.uint8)
        theirs = sketch(split)
        close = near_duplicates(train, split, (ours, theirs), flag > 0)
        flag += NEAR_DUPLICATE * (close >= 0).astype(np.uint8)
        if len(rows := np.flatnonzero(close >= 0)):
            near.append(_record(name, other, rows, close[rows].tolist()))
        if theirs.sentences.shape[1] == 2:
            held = np.isin(theirs.sentences, ours.sentences) & (theirs.sentences > 0)
            flag += SHARED_SENTENCE * held.any(axis=1).astype(np.uint8)
            if len(rows := np.flatnonzero(held.any(axis=1))):
                first = [theirs.sentences[row, np.argmax(held[row])] for row in rows[:MAX_NAMED_ROWS]]
                partners = [int(np.argmax((ours.sentences == one).any(axis=1))) for one in first]
                sentences.append(_record(name, other, rows, partners))
        flags[other] = flag
    return {"shared_sentences": sentences, "near_duplicates": near}, flags


def _record(first: str, second: str, rows: np.ndarray, partners: Sequence[int]) -> dict[str, Any]:
    """Writes down how many rows of `second` are like one of `first`; `partners` are those of the first few."""
    named = [[partner + 1, row + 1] for partner, row in zip(partners, rows[:MAX_NAMED_ROWS].tolist(), strict=False)]
    return {"splits": [first, second], "examples": len(rows), "rows": named}


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


def _conflicting(texts: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns the distinct texts, of int64[rows], that carry more than one label."""
    # A row of a thousand labels is compared as 125 bytes.
    packed = values if values.ndim == 1 else np.packbits(values == 1, axis=1)
    labels = np.unique(packed, axis=0, return_inverse=True)[1].ravel()
    both = np.unique(texts * (labels.max() + 1) + labels) // (labels.max() + 1)
    distinct, counts = np.unique(both, return_counts=True)
    return np.asarray(distinct[counts > 1])


def format_table(facts: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Lays the facts out in aligned columns, one line a split."""
    counted = {"examples": "examples", "duplicates": "duplicates", "empty": "empty_texts"}
    counted |= {"conflicting": "conflicting_labels"} | ({"groups": "groups"} if "shared_groups" in facts else {})
    rows = [["split", *counted, "labels"]]
    rows += [
        [counts["split"], *(str(counts[name]) for name in counted.values()), _labels(counts)]
        for counts in facts["splits"]
    ]
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
    return ", ".join(f"{visible(name)} {count}" for name, count in labels.items()) or "none"


def say_repeated(facts: Mapping[str, Sequence[Mapping[str, Any]]], splits: Mapping[str, Dataset]) -> None:
    """Points out, by row and id, the rows of each split that repeat another one, and those that contradict others."""
    counts = {one["split"]: one for one in facts["splits"]}
    for kind, one, many, key in (
        ("repeated", "row repeats an earlier one", "rows repeat an earlier one", "duplicates"),
        ("contradictory", "text has more than one label", "texts have more than one label", "conflicting_labels"),
    ):
        for record in facts.get(kind, []):
            name, total = record["split"], counts[record["split"]][key]
            ids = splits[name].data.table[ID] if ID in splits[name].column_names else None

            def named(row: int, ids: Any = ids) -> str:
                return str(row) if ids is None else f"{row} (id {ids[row - 1].as_py()})"

            listed = "; ".join("rows " + " and ".join(map(named, rows)) for rows in record["rows"])
            listed += " of data/raw"  # where rows that were left out or carved have no number
            more = "; ..." if total > len(record["rows"]) else ""
            warn(f"download: {name}: {total} {one if total == 1 else many}: {listed}{more}")


LEAKS = {  # what two splits may have in common -> how it is said
    "shared": "are also in {first}",
    "shared_groups": "are in {groups} groups that are also in {first}",
    "shared_sentences": "share one of their two texts with {first}",
    "near_duplicates": "are near-duplicates of examples in {first}",
}
REFUSED = ("shared", "shared_groups")  # where on_leakage is "error"; whether the others leak is for people to judge


def check_leakage(facts: Mapping[str, Sequence[Mapping[str, Any]]], on_leakage: str) -> None:
    """Warns of what two splits have in common, and how much of a score it can be; or refuses it where one is train.

    Raises:
        BadInput: train shares texts or groups with another split, and `on_leakage` is "error".
    """
    sizes = {counts["split"]: counts["examples"] for counts in facts["splits"]}
    for kind, words in LEAKS.items():
        for shared in facts.get(kind, []):
            first, second = shared["splits"]
            rows = ", ".join(f"{second} row {two} = {first} row {one}" for one, two in shared["rows"])
            more = ", ..." if shared["examples"] > len(shared["rows"]) else ""
            said = words.format(first=first, groups=shared.get("groups"))
            message = f"{shared['examples']} of {sizes[second]} {second} examples {said}"
            if first == "train" and kind in REFUSED and on_leakage == "error":
                raise BadInput(f"{message}; remove them, or set download.on_leakage to warn ({rows}{more})")
            most = (
                f"; they can change the accuracy by at most {shared['examples'] / sizes[second]:.4f}"
                if first == "train"
                else ""
            )
            warn(f"download: warning: {message} ({rows}{more}){most}")
