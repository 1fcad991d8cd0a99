"""evaluate: data/predictions/, data/raw/task.json -> metrics/metrics.json, metrics/plots/."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from stages.shared.errors import BadInput
from stages.shared.params import params_dataclass, read_params
from stages.shared.publish import publish, write_json
from stages.shared.scoring import predict_labels, score
from stages.shared.stage import stage
from stages.shared.task import Task, read_task

PREDICTIONS = Path("data/predictions")
TASK = Path("data/raw/task.json")
METRICS = Path("metrics/metrics.json")
PLOTS = Path("metrics/plots")


@params_dataclass
class EvaluateParams:
    splits: Annotated[list[str], Field(min_length=1)]  # `validation` also means validation_matched and its like


def evaluate(p: EvaluateParams, predictions_dir: Path, task_file: Path, metrics_file: Path, plots_dir: Path) -> None:
    """Scores the logits of the chosen splits and counts which label was taken for which.

    Raises:
        BadInput: a split was not predicted, or has no labels.
    """
    task = read_task(task_file)
    metrics: dict[str, dict[str, float]] = {}
    confusion: list[tuple[str, str, str, int]] = []
    for split in chosen_splits(p.splits, sorted(folder.name for folder in predictions_dir.iterdir())):
        logits = np.load(predictions_dir / split / "logits.npy", mmap_mode="r")
        labels = np.load(predictions_dir / split / "labels.npy", mmap_mode="r")
        if np.all(labels == -1):
            raise BadInput(f"params.yaml: evaluate.splits: the {split} split has no labels to score against")
        if not np.isfinite(logits).all():
            raise BadInput(f"{split}: logits that are not finite; the training diverged: lower train.learning_rate")
        metrics[split] = score(task, logits, labels) | {"examples": len(labels)}
        if task.problem_type == "single_label_classification":
            confusion += count_confusion(split, task, logits, labels)
    with publish(metrics_file, plots_dir) as (metrics_out, plots):
        write_json(metrics_out, metrics)
        plots.mkdir()
        if confusion:
            with (plots / "confusion.csv").open("w", newline="", encoding="utf-8") as stream:
                rows = csv.writer(stream, lineterminator="\n")
                rows.writerows([("split", "actual", "predicted", "examples"), *confusion])


def chosen_splits(wanted: Sequence[str], predicted: Sequence[str]) -> list[str]:
    """Resolves `evaluate.splits`; `validation` stands for validation_matched and its like too."""
    chosen: list[str] = []
    for name in wanted:
        found = [split for split in predicted if split == name or split.startswith(f"{name}_")]
        if not found:
            raise BadInput(
                f"params.yaml: evaluate.splits: no predictions for {name!r}, only for {', '.join(predicted)}"
            )
        chosen += [split for split in found if split not in chosen]
    return chosen


def count_confusion(split: str, task: Task, logits: np.ndarray, labels: np.ndarray) -> list[tuple[str, str, str, int]]:
    """Returns a row (split, actual, predicted, examples) for every pair of labels, those without examples too."""
    names = task.label_names
    flat = labels * len(names) + predict_labels(task, logits)
    counts = np.bincount(flat, minlength=len(names) ** 2).reshape(len(names), len(names))
    return [
        (split, actual, predicted, int(counts[i, j]))
        for i, actual in enumerate(names)
        for j, predicted in enumerate(names)
    ]


if __name__ == "__main__":
    with stage("evaluate"):
        evaluate(read_params("evaluate", EvaluateParams), PREDICTIONS, TASK, METRICS, PLOTS)
