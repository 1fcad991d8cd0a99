"""What later sections ask of the data: it is refused as soon as the data are known, and not after the training."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.params import read_document
from stages.shared.task.metrics import METRICS, PROBABILITY_METRICS, check_metrics
from stages.shared.task.task import Task


def check_asked(params_file: Path, task: Task, splits: Mapping[str, Any]) -> None:
    """Holds `evaluate` and `report` of a params.yaml to the data; without the file, nothing is asked.

    It only refuses: no result depends on it, so these sections are no inputs of the stage that calls it.

    Args:
        splits: datasets with the column `label`.

    Raises:
        BadInput: a split that is to be scored is not there or has no labels, a metric is not defined for the task, a
            column that slices the scores is not kept.
    """
    if not params_file.is_file():
        return
    document = read_document(params_file)
    for name in chosen_splits(_names(document, "evaluate", "splits"), [name for name in splits if name != "train"]):
        if not has_labels(splits[name]):
            raise BadInput(no_labels(name))
    extra_metrics(_names(document, "evaluate", "metrics"), task)
    columns_to_slice(_names(document, "report", "slice_columns"), _names(document, "download", "keep_columns"))


def chosen_splits(wanted: Sequence[str], known: Sequence[str]) -> list[str]:
    """Resolves `evaluate.splits`; `validation` stands for validation_matched and its like too.

    Raises:
        BadInput: one is not known.
    """
    chosen: list[str] = []
    for name in wanted:
        found = [split for split in known if split == name or split.startswith(f"{name}_")]
        if not found:
            raise BadInput(f"params.yaml: evaluate.splits: no split {name!r} to score, only {', '.join(known)}")
        chosen += [split for split in found if split not in chosen]
    return chosen


def has_labels(split: Any) -> bool:
    """Says whether a split has labels: they are -1 throughout where it has none."""
    column = split.data.table["label"]
    values = pc.list_flatten(column) if pa.types.is_list(column.type) else column
    return not pc.all(pc.equal(values, -1)).as_py()


def no_labels(split: str) -> str:
    """Says that a split cannot be scored."""
    return f"params.yaml: evaluate.splits: the {split} split has no labels to score against"


def extra_metrics(wanted: Sequence[str], task: Task) -> list[str]:
    """Returns the metrics of `evaluate.metrics` that the task does not have already.

    Raises:
        BadInput: one is not defined for its kind of problem.
    """
    extra = [name for name in dict.fromkeys(wanted) if name not in task.metrics]
    check_metrics(replace(task, metrics=[name for name in extra if name in METRICS]), "evaluate.metrics")
    for name in extra:
        if name in PROBABILITY_METRICS and task.problem.numeric:
            raise BadInput(f"params.yaml: evaluate.metrics: {name} is not defined for {task.problem_type}; remove it")
    return extra


def columns_to_slice(wanted: Sequence[str] | None, available: Sequence[str]) -> list[str]:
    """Returns the kept columns to slice by; None: all of them.

    Raises:
        BadInput: one that is wanted was not kept.
    """
    if lacking := [name for name in wanted or [] if name not in available]:
        raise BadInput(
            f"params.yaml: report.slice_columns: {lacking[0]!r} is not in download.keep_columns; add it there"
        )
    return list(available if wanted is None else wanted)


def _names(document: Mapping[str, Any], section: str, key: str) -> list[str]:
    """Returns the names in a list of params.yaml; what is none is refused by the section's own check."""
    values = document.get(section)
    names = values.get(key) if isinstance(values, Mapping) else None
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
