"""Reads the predictions of two revisions for the same examples."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa

from checks.cli import Unanswerable
from checks.revisions import Revision
from stages.shared.statistics.confidence import FEWEST_EXAMPLES
from stages.shared.statistics.swaps import PairedPredictions
from stages.shared.task.groups import groups_of_files
from stages.shared.task.kept_columns import ID
from stages.shared.task.predictions import open_predictions
from stages.shared.task.task import Task, read_task

RAW, PREDICTIONS = "data/raw", "data/predictions"
WARNINGS = "metrics/warnings.json"


def predicted_splits(revision: Revision) -> list[str]:
    """Returns the splits that a revision predicted, sorted."""
    return sorted({Path(name).parts[0] for name in revision.files(PREDICTIONS)})


def task_of(revision: Revision) -> Task:
    """Returns a revision's task."""
    return read_task(revision.files(RAW)["task.json"])


def same_task(old: Revision, new: Revision) -> Task:
    """Returns the new revision's task.

    Raises:
        Unanswerable: the old one's labels are others.
    """
    tasks = [task_of(one) for one in ((new,) if old.hash(RAW) == new.hash(RAW) else (new, old))]
    if any((one.problem_type, one.label_names) != (tasks[0].problem_type, tasks[0].label_names) for one in tasks):
        kinds = " against ".join(f"{one.problem_type} of {one.label_names}" for one in reversed(tasks))
        raise Unanswerable(f"{old.name} and {new.name} have different tasks: {kinds}")
    return tasks[0]


def read_pair(old: Revision, new: Revision, split: str) -> PairedPredictions:
    """Reads what both revisions predicted for a split, by the new one's task.

    Raises:
        Unanswerable: tasks, texts or labels are not the same, there are too few examples, or all have one label.
        BadInput: a logit is not finite.
    """
    task = same_task(old, new)
    (labels, before), (others, after) = (_read_split(one, split) for one in (old, new))
    if len(labels) != len(others):
        raise Unanswerable(
            f"{split}: {len(labels)} examples in {old.name} and {len(others)} in {new.name}; scores on different "
            "examples cannot be compared"
        )
    if not np.array_equal(labels, others):
        row = int(np.flatnonzero((labels != others).reshape(len(labels), -1).any(axis=1))[0]) + 1
        raise Unanswerable(f"{split}: {old.name} and {new.name} have different labels, first in row {row}")
    if old.hash(RAW) != new.hash(RAW):
        rows = [read_texts(one, split)[: len(labels)] for one in (old, new)]
        changed = [row for row, (one, other) in enumerate(zip(*rows, strict=True), 1) if one != other]
        if changed:
            raise Unanswerable(f"{split}: {old.name} and {new.name} have different texts, first in row {changed[0]}")
    check_labels(split, labels)
    return PairedPredictions(task, labels, before, after, read_groups(new, split, len(labels)))


def check_labels(split: str, labels: np.ndarray) -> None:
    """Makes sure that models can be compared by these labels.

    Raises:
        Unanswerable: there are none or too few, or all are the same.
    """
    if len(labels) < FEWEST_EXAMPLES:
        few = f"{len(labels)} examples are too few to compare by; {FEWEST_EXAMPLES} are the least"
        raise Unanswerable(f"{split}: {few}")
    if np.all(labels == -1):
        raise Unanswerable(f"{split}: no labels to score against")
    if (labels == labels[0]).all():
        raise Unanswerable(f"{split}: all examples have the same label, so no score can show which model is better")


def read_groups(revision: Revision, split: str, examples: int) -> np.ndarray | None:
    """Returns which of a split's first examples belong together, int64[examples]; None where none do."""
    files = revision.files(RAW)
    return groups_of_files([files[name] for name in arrow_files(files, split)], examples)


def read_warnings(revision: Revision, splits: Collection[str]) -> list[str]:
    """Returns what a revision's metrics/warnings.json says against its scores on these splits, if it has one."""
    if revision.text(WARNINGS) is None:
        return []
    found = revision.json(WARNINGS)["warnings"]
    return [f"{revision.name}: {one['split']}: {one['message']}" for one in found if one["split"] in splits]


def read_texts(revision: Revision, split: str) -> list[tuple[str, str | None]]:
    """Returns the text, or the two, of each example of a split."""
    rows = read_rows(revision, split)
    first = rows["text"].to_pylist()
    second = rows["text_pair"].to_pylist() if "text_pair" in rows.column_names else [None] * len(first)
    return list(zip(first, second, strict=True))


def read_ids(revision: Revision, split: str) -> list[str] | None:
    """Returns the id of each example of a split; None where the data have none (download.id_column)."""
    rows = read_rows(revision, split)
    return list(rows[ID].to_pylist()) if ID in rows.column_names else None


def read_rows(revision: Revision, split: str) -> pa.Table:
    """Returns the rows of a split in data/raw; they stay in their files until a column is used."""
    files = revision.files(RAW)
    tables = [pa.ipc.open_stream(pa.memory_map(str(files[name]))).read_all() for name in arrow_files(files, split)]
    return pa.concat_tables(tables)


def arrow_files(names: Collection[str], split: str) -> list[str]:
    """Returns those of the files of data/raw that hold the rows of a split, in their order."""
    return sorted(name for name in names if name.startswith(f"{split}/") and name.endswith(".arrow"))


def _read_split(revision: Revision, split: str) -> tuple[np.ndarray, np.ndarray]:
    files = revision.files(PREDICTIONS)
    if f"{split}/logits.npy" not in files:
        raise Unanswerable(f"{revision.name}: the {split} split was not predicted")
    return open_predictions(files[f"{split}/labels.npy"], files[f"{split}/logits.npy"], f"{revision.name}: {split}")
