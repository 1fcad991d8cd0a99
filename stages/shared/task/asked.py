"""Checks what later sections ask of the data as soon as the data are known, and not after the training."""

import math
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
    """Holds what later sections of a params.yaml ask to the data; without the file, nothing is asked.

    It only refuses: no result depends on it, so these sections are no inputs of the stage that calls it.

    Args:
        splits: datasets with the column `label`.

    Raises:
        BadInput: a split that is to be scored, or calibrated on, is not there or has no labels, a metric is not
            defined for the task, class weights or a calibration do not fit it, a column that slices the scores is not
            kept.
    """
    if not params_file.is_file():
        return
    document = read_document(params_file)
    if isinstance(section := document.get("train"), Mapping):
        check_imbalance(task, *(section.get(key) for key in ("class_weights", "label_smoothing", "sampling")))
    predicted = [name for name in splits if name != "train"]
    for name in chosen_splits(_names(document, "evaluate", "splits"), predicted):
        if not has_labels(splits[name]):
            raise BadInput(no_labels(name))
    if isinstance(section := document.get("calibrate"), Mapping):
        split = section.get("split")
        check_calibration(task, split, *(section.get(key) for key in ("thresholds", "costs", "error_rate")))
        for name in chosen_splits([split] if isinstance(split, str) else [], predicted, "calibrate.split", "fit on"):
            if not has_labels(splits[name]):
                raise BadInput(no_labels(name, "calibrate.split", "fit on"))
    extra_metrics(_names(document, "evaluate", "metrics"), task)
    check_per_class(_names(document, "evaluate", "per_class"), task)
    columns_to_slice(_names(document, "report", "slice_columns"), _names(document, "download", "keep_columns"))


def chosen_splits(
    wanted: Sequence[str], known: Sequence[str], key: str = "evaluate.splits", use: str = "score"
) -> list[str]:
    """Resolves names of splits; `validation` stands for validation_matched and its like too.

    Args:
        key: the parameter to name in a message, and what it wants the splits for.

    Raises:
        BadInput: one is not known.
    """
    chosen: list[str] = []
    for name in wanted:
        found = [split for split in known if split == name or split.startswith(f"{name}_")]
        if not found:
            raise BadInput(f"params.yaml: {key}: no split {name!r} to {use}, only {', '.join(known)}")
        chosen += [split for split in found if split not in chosen]
    return chosen


def has_labels(split: Any) -> bool:
    """Says whether a split has labels: they are -1 throughout where it has none."""
    column = split.data.table["label"]
    values = pc.list_flatten(column) if pa.types.is_list(column.type) else column
    return not pc.all(pc.equal(values, -1)).as_py()


def no_labels(split: str, key: str = "evaluate.splits", use: str = "score against") -> str:
    """Says that a split cannot be scored, or used otherwise."""
    return f"params.yaml: {key}: the {split} split has no labels to {use}"


def check_calibration(task: Task, split: Any, metric: Any, costs: Any, error_rate: Any) -> None:
    """Holds what `calibrate` is asked to the kind of problem; what is mistyped is refused by the section's own check.

    Raises:
        BadInput: something is asked that is not defined for it, or that excludes something else.
    """
    asked = {"thresholds": metric, "costs": costs, "error_rate": error_rate}
    for key in [key for key, value in asked.items() if value is not None]:
        place = f"params.yaml: calibrate.{key}"
        if split is None:
            raise BadInput(
                f"{place}: takes calibrate.split, the labelled split to fit on; name one, or set this to null"
            )
        if task.problem.numeric:
            raise BadInput(f"{place}: is for labels, and this is a regression; set it to null")
    if metric is not None and costs is not None:
        raise BadInput("params.yaml: calibrate.costs: calibrate.thresholds decides already; set one of the two to null")
    if isinstance(metric, str):
        fitting = threshold_metrics(task)
        if not fitting:
            raise BadInput(
                f"params.yaml: calibrate.thresholds: is for two classes or several labels at once, not for "
                f"{task.columns} classes; use calibrate.costs, or null"
            )
        if metric not in fitting:
            raise BadInput(f"params.yaml: calibrate.thresholds: no threshold is chosen by {metric}; use {fitting}")
    if isinstance(costs, list):
        size = task.columns if task.problem.exclusive else 2
        square = len(costs) == size and all(isinstance(row, list) and len(row) == size for row in costs)
        if not square or not all(
            isinstance(cost, int | float) and math.isfinite(cost) for row in costs for cost in row
        ):
            what = f"a row for each of {size} labels" if task.problem.exclusive else "a row for no and one for yes"
            raise BadInput(
                f"params.yaml: calibrate.costs: must have {what} that may be right, of {size} finite numbers each: "
                f"what each answer then costs; got {costs!r}"
            )
    if error_rate is not None and not task.problem.exclusive:
        raise BadInput(
            "params.yaml: calibrate.error_rate: sets of labels are for examples that have one label each, and here "
            "they have several; set it to null"
        )


def check_imbalance(task: Task, class_weights: Any, label_smoothing: Any, sampling: Any) -> None:
    """Holds what `train` is asked of the labels to the task; what is mistyped is refused by the section's own check.

    Raises:
        BadInput: a regression has no classes to weigh, smooth or balance; or there is no label of that name.
    """
    if task.problem.numeric:
        asked = {
            "class_weights": (class_weights is not None, "null"),
            "label_smoothing": (bool(label_smoothing), "0"),
            "sampling": (sampling == "balanced", "random or group_by_length"),
        }
        for key, (is_asked, remedy) in asked.items():
            if is_asked:
                raise BadInput(f"params.yaml: train.{key}: is for labels, and this is a regression; set it to {remedy}")
    if isinstance(class_weights, Mapping):
        for name in class_weights:
            if name not in task.label_names:
                raise BadInput(
                    f"params.yaml: train.class_weights: no label {name!r}, only "
                    f"{', '.join(map(repr, task.label_names[:20]))}{', ...' if len(task.label_names) > 20 else ''}"
                )


def threshold_metrics(task: Task) -> list[str]:
    """Returns the metrics that thresholds can be chosen by; precision or recall alone is best at an end."""
    if not task.problem.exclusive:
        return ["f1_macro", "f1_micro"]
    return ["accuracy", "balanced_accuracy", "f1", "f1_macro", "matthews_correlation"] if task.binary else []


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


def check_per_class(wanted: bool | Sequence[str], task: Task) -> None:
    """Holds `evaluate.per_class` to the labels.

    Raises:
        BadInput: one that is named is not there.
    """
    if isinstance(wanted, bool):
        return
    for name in wanted:
        if name not in task.label_names:
            known = ", ".join(task.label_names) or "none, as this is a regression"
            raise BadInput(f"params.yaml: evaluate.per_class: no label {name!r}; the labels are {known}")


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
