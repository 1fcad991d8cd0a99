"""Compares two versions of an artifact: same bytes, same content, or different and by how much."""

import csv
import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from safetensors.numpy import load_file


class Agreement(IntEnum):
    """How alike two artifacts are, from best to worst."""

    IDENTICAL = 0
    EQUAL = 1
    UNKNOWN = 2  # judged by what can be compared: the metrics are always in Git
    WITHIN = 3
    BEYOND = 4

    def __str__(self) -> str:
        return WORDS[self]


WORDS = (
    "identical bytes",
    "equal content",
    "differs, by how much cannot be said",
    "differs, within tolerance",
    "differs, beyond tolerance",
)


@dataclass(frozen=True)
class Tolerance:
    """What still counts as the same result on another machine."""

    weights: float = 1e-3  # largest absolute difference of a weight
    logits: float = 1e-2  # largest absolute difference of a logit
    flips: float = 0.005  # share of the predictions that changed
    metrics: float = 0.005  # absolute difference of a number in a json or csv file


UNROUNDED = ("epoch", "step", "learning_rate", "examples")  # numbers that no rounding touches


@dataclass(frozen=True)
class FileComparison:
    """The outcome for one file."""

    path: str
    verdict: Agreement
    figures: dict[str, Any] = field(default_factory=dict)


def compare_files(path: str, old: Path | None, new: Path, tolerance: Tolerance) -> FileComparison:
    """Compares two versions of the file `path`, by its kind where the bytes differ."""
    if old is None or not old.exists() or not new.exists():
        return FileComparison(path, Agreement.BEYOND, {"only in": "the new run" if new.exists() else "the revision"})
    if _digest(old) == _digest(new):
        return FileComparison(path, Agreement.IDENTICAL)
    compare = _BY_KIND.get(new.suffix)
    if compare is None:
        return FileComparison(path, Agreement.UNKNOWN)
    verdict, figures = compare(old, new, tolerance)
    return FileComparison(path, verdict, figures)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()


Judgement = tuple[Agreement, dict[str, Any]]  # how alike, and the figures that say so


def _compare_weights(old: Path, new: Path, tolerance: Tolerance) -> Judgement:
    one, two = load_file(old), load_file(new)
    shapes = [{name: (array.shape, str(array.dtype)) for name, array in tensors.items()} for tensors in (one, two)]
    if shapes[0] != shapes[1]:
        return Agreement.BEYOND, {"tensors": "other names, shapes or dtypes"}
    largest, total, count = 0.0, 0.0, 0
    for name in one:
        gap = _gap(one[name], two[name])
        largest = float(np.maximum(largest, gap.max(initial=0.0)))  # not max(): NaN must stay
        total, count = total + float(gap.sum()), count + gap.size
    return _graded(largest, tolerance.weights), {"largest": largest, "mean": total / count}


def _compare_arrays(old: Path, new: Path, tolerance: Tolerance) -> Judgement:
    """Compares logits, float32[examples, columns], labels, int64[examples] or float32[examples, ...], or `epochs`.

    These are whole numbers for what each epoch predicted, [epochs, examples, ...]: of them a share may be other ones.
    """
    one, two = np.load(old), np.load(new)
    if (one.shape, one.dtype) != (two.shape, two.dtype):
        return Agreement.BEYOND, {"shape": f"{one.dtype}{list(one.shape)} -> {two.dtype}{list(two.shape)}"}
    gap = _gap(one, two)
    figures: dict[str, Any] = {"largest": float(gap.max(initial=0.0)), "mean": float(gap.mean())}
    if new.stem == "epochs" and np.issubdtype(one.dtype, np.integer):
        figures |= {"flipped": int(np.count_nonzero(gap)), "of": gap.size}
        verdict = _graded(figures["flipped"] / max(gap.size, 1), tolerance.flips)
        return verdict, figures
    if one.ndim != 2 or one.shape[1] < 2 or new.stem != "logits":
        return _graded(figures["largest"], tolerance.logits), figures
    flipped = int(np.sum(one.argmax(axis=1) != two.argmax(axis=1)))
    figures |= {"flipped": flipped, "of": len(one)}
    verdict = _graded(figures["largest"], tolerance.logits)
    return (Agreement.BEYOND if flipped > tolerance.flips * len(one) else verdict), figures


def _gap(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Returns the absolute differences, float64; 0 where both are the same, NaN and infinity included."""
    same = (one == two) | (np.isnan(one) & np.isnan(two))
    with np.errstate(invalid="ignore"):
        return np.where(same, 0.0, np.abs(one.astype(np.float64) - two.astype(np.float64)))


def _compare_tables(old: Path, new: Path, tolerance: Tolerance) -> Judgement:
    one, two = (pa.ipc.open_stream(pa.memory_map(str(file))).read_all() for file in (old, new))
    if one.equals(two):
        return Agreement.EQUAL, {"rows": one.num_rows}
    if one.schema != two.schema:
        return Agreement.BEYOND, {"columns": f"{one.column_names} -> {two.column_names}"}
    same = min(one.num_rows, two.num_rows)
    pairs = zip(one.slice(0, same).to_pylist(), two.slice(0, same).to_pylist(), strict=True)
    changed = sum(before != after for before, after in pairs) + abs(one.num_rows - two.num_rows)
    return Agreement.BEYOND, {"rows changed": changed, "of": one.num_rows}


def _compare_json(old: Path, new: Path, tolerance: Tolerance) -> Judgement:
    one, two = (dict(_leaves(json.loads(file.read_text(encoding="utf-8")))) for file in (old, new))
    return _compare_values(one, two, tolerance)


def _compare_csv(old: Path, new: Path, tolerance: Tolerance) -> Judgement:
    tables = []
    for file in (old, new):
        with file.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        tables.append(
            {f"row {number} {name}": _number(cell) for number, row in enumerate(rows, 1) for name, cell in row.items()}
        )
    return _compare_values(tables[0], tables[1], tolerance)


def _compare_values(one: dict[str, Any], two: dict[str, Any], tolerance: Tolerance) -> Judgement:
    figures, worst = {}, Agreement.EQUAL
    for name in sorted(one.keys() | two.keys()):
        before, after = one.get(name), two.get(name)
        if before == after:
            continue
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (before, after))
        gap = abs(after - before) if numbers and after is not None and before is not None else math.inf
        worst = max(worst, _graded(gap, 0.0 if name.endswith(UNROUNDED) else tolerance.metrics))
        figures[name] = f"{before} -> {after}"
    return worst, figures


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{index}]")
    else:
        yield path, value


def _number(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell


def _graded(gap: float, limit: float) -> Agreement:
    if gap == 0.0:
        return Agreement.EQUAL
    return (
        Agreement.WITHIN if gap <= limit + 1e-9 else Agreement.BEYOND
    )  # 0.505 - 0.5 is above 0.005; NaN is beyond all


_BY_KIND: dict[str, Callable[[Path, Path, Tolerance], Judgement]] = {
    ".arrow": _compare_tables,
    ".csv": _compare_csv,
    ".json": _compare_json,
    ".npy": _compare_arrays,
    ".safetensors": _compare_weights,
}
