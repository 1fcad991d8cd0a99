"""evaluate: data/predictions/, data/raw/task.json, metrics/{data,selection}.json -> metrics/ (scores, plots)."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from stages.evaluate import guards
from stages.evaluate.bootstrap import FEWEST, Interval, bootstrap_intervals, constant_scores, wilson_interval
from stages.evaluate.calibration import calibration_bins
from stages.evaluate.plots import plot_rows, write_plot
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.execution import Execution
from stages.shared.runtime.params import params_dataclass
from stages.shared.runtime.publish import publish, write_json, write_records
from stages.shared.task.intervals import interval_of
from stages.shared.task.scoring import CLASSES, predict_labels, score
from stages.shared.task.task import Task, read_task


@params_dataclass
class EvaluateParams:
    splits: Annotated[list[str], Field(min_length=1)]  # `validation` also means validation_matched and its like
    confidence: Annotated[float, Field(gt=0, lt=1)]  # of the intervals
    resamples: Annotated[int, Field(ge=100)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]


@dataclass(frozen=True)
class EvaluateFiles:
    """What the stage reads, then what it writes."""

    predictions: Path = Path("data/predictions")
    task: Path = Path("data/raw/task.json")
    data: Path = Path("metrics/data.json")
    selection: Path = Path("metrics/selection.json")
    metrics: Path = Path("metrics/metrics.json")
    intervals: Path = Path("metrics/intervals.json")
    warnings: Path = Path("metrics/warnings.json")
    confusion: Path = Path("metrics/plots/confusion.csv")
    calibration: Path = Path("metrics/plots/calibration.csv")
    precision_recall: Path = Path("metrics/plots/precision_recall.csv")
    roc: Path = Path("metrics/plots/roc.csv")
    scatter: Path = Path("metrics/plots/scatter.csv")

    @property
    def plots(self) -> tuple[Path, ...]:
        """The curves and counts that DVC draws."""
        return (self.confusion, self.calibration, self.precision_recall, self.roc, self.scatter)


def evaluate(p: EvaluateParams, execution: Execution, files: EvaluateFiles) -> None:
    """Scores the logits of the chosen splits, says how sure the scores are, and what speaks against them.

    Raises:
        BadInput: a split was not predicted, or has no labels.
    """
    task = read_task(files.task)
    data = json.loads(files.data.read_text(encoding="utf-8"))
    (selection,) = json.loads(files.selection.read_text(encoding="utf-8"))["selection"]
    sizes = {counts["split"]: counts["examples"] for counts in data["splits"]}
    metrics: dict[str, dict[str, float]] = {}
    intervals: list[dict[str, Any]] = []
    warnings: list[guards.Warned] = []
    rows: dict[str, list[tuple[Any, ...]]] = {}
    for split in chosen_splits(p.splits, sorted(folder.name for folder in files.predictions.iterdir())):
        labels, logits = read_predictions(files.predictions, split)
        metrics[split] = score(task, logits, labels) | {"examples": len(labels)}
        found = describe_intervals(p, task, split, logits, labels, metrics[split])
        bins = calibration_bins(task, logits, labels)
        warnings += [
            *guards.selected(split, selection),
            *guards.shared(split, sizes.get(split, len(labels)), len(labels), data.get("shared", [])),
            *guards.too_little(split, labels),
            *guards.no_better_than_constant(split, task.metrics, found),
            *guards.badly_calibrated(split, bins, p.seed),
        ]
        intervals += found
        for name, lines in plot_rows(task, split, logits, labels, bins).items():
            rows.setdefault(name, []).extend(lines)
        print(f"{split}: {summary(split, (*task.metrics, 'loss'), found)}")
    for warned in warnings:
        print(f"evaluate: warning: {warned.split}: {warned.message}", file=sys.stderr)
    with publish(files.metrics, files.intervals, files.warnings, *files.plots) as outs:
        write_json(outs[0], metrics)
        write_records(outs[1], "intervals", intervals)
        write_records(outs[2], "warnings", [warned._asdict() for warned in warnings])
        for file, out in zip(files.plots, outs[3:], strict=True):
            write_plot(out, file.stem, rows.get(file.stem, []))


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


def read_predictions(predictions_dir: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Opens the labels and logits of a split, memory-mapped.

    Raises:
        BadInput: the split has no labels, or its logits are not finite.
    """
    labels, logits = (np.load(predictions_dir / split / f"{name}.npy", mmap_mode="r") for name in ("labels", "logits"))
    if np.all(labels == -1):
        raise BadInput(f"params.yaml: evaluate.splits: the {split} split has no labels to score against")
    if not np.isfinite(logits).all():
        raise BadInput(f"{split}: logits that are not finite; the training diverged: lower train.learning_rate")
    return labels, logits


def describe_intervals(
    p: EvaluateParams,
    task: Task,
    split: str,
    logits: np.ndarray,
    labels: np.ndarray,
    scores: Mapping[str, float],
) -> list[dict[str, Any]]:
    """Returns a record for every metric, and one more for the accuracy by Wilson's method.

    The bounds are null of fewer than FEWEST examples, and where all resamples score the same: such a point does not
    say how sure the score is, but that the bootstrap cannot.
    `baseline` is the best constant answer's score.
    """
    baseline = constant_scores(task, labels)
    found: list[tuple[str, str, Interval | None]] = [(name, "bootstrap", None) for name in (*task.metrics, "loss")]
    if len(labels) >= FEWEST:
        intervals = bootstrap_intervals(task, labels, [logits], p.confidence, p.resamples, p.seed)
        found = [
            (name, "bootstrap", interval if interval.low < interval.high else None)
            for name, interval in intervals.items()
        ]
        if "accuracy" in task.metrics:
            right = predict_labels(task, logits) == labels
            count = int((right if task.problem_type == CLASSES else right.all(axis=1)).sum())
            found.append(("accuracy", "wilson", wilson_interval(count, len(labels), p.confidence)))
    return [
        {
            "split": split,
            "metric": name,
            "value": scores[name],
            "low": None if interval is None else round(interval.low, 6),  # the resamples' chance is in the third digit
            "high": None if interval is None else round(interval.high, 6),
            "confidence": p.confidence,
            "method": method,
            "baseline": baseline[name],
            "examples": len(labels),
        }
        for name, method, interval in found
    ]


def summary(split: str, metrics: Sequence[str], intervals: Sequence[Mapping[str, Any]]) -> str:
    """Says the scores with their intervals in one line."""
    records = [record for name in metrics if (record := interval_of(intervals, split, name))]
    return ", ".join(
        f"{record['metric']} {record['value']:.4f}"
        + ("" if record["low"] is None else f" [{record['low']:.4f}, {record['high']:.4f}]")
        for record in records
    )
