"""The rows of metrics/plots/*.csv. Every file is always written, with only a header if it does not apply.

People open these files in a spreadsheet, and labels come from the data: no cell is a formula (`shared/task/cells.py`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_curve

from stages.evaluate.calibration import Bin
from stages.shared.task.cells import csv_line
from stages.shared.task.task import Task

HEADERS = {
    "confusion": ("split", "actual", "predicted", "examples"),
    "calibrated": ("split", "bin", "confidence", "accuracy", "examples"),
    "calibration": ("split", "bin", "confidence", "accuracy", "examples"),
    "precision_recall": ("split", "label", "recall", "precision"),
    "roc": ("split", "label", "false_positive_rate", "true_positive_rate"),
    "scatter": ("split", "actual", "predicted"),
}
CURVE_POINTS = 200
MOST_CURVES = 10  # more of them cannot be told apart in a drawing
SCATTER_POINTS = 1000

Row = tuple[Any, ...]


def plot_rows(
    task: Task,
    split: str,
    logits: np.ndarray,
    labels: np.ndarray,
    bins: Sequence[Bin],
    calibrated_bins: Sequence[Bin] = (),
) -> dict[str, list[Row]]:
    """Returns the rows of each file for one split.

    Args:
        logits: float32[examples, columns].
        labels: as in `problem_types.Problem`.
    """
    if task.problem.numeric:
        return {"scatter": _scatter(split, task.problem.predict(logits), labels)}
    rows = {"calibration": _binned(split, bins), "calibrated": _binned(split, calibrated_bins)}
    rows |= _curves(task, split, logits, labels)
    return rows | ({"confusion": count_confusion(split, task, logits, labels)} if task.problem.exclusive else {})


def _binned(split: str, bins: Sequence[Bin]) -> list[Row]:
    return [(split, one.number, _short(one.confidence), _short(one.accuracy), one.examples) for one in bins]


def write_plot(file: Path, name: str, rows: Sequence[Row]) -> None:
    """Writes one csv."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        stream.writelines(map(csv_line, [HEADERS[name], *rows]))


def count_confusion(split: str, task: Task, logits: np.ndarray, labels: np.ndarray) -> list[Row]:
    """Returns a row (split, actual, predicted, examples) for every pair of labels, those without examples too."""
    names = task.label_names
    flat = labels * len(names) + task.problem.predict(logits)
    counts = np.bincount(flat, minlength=len(names) ** 2).reshape(len(names), len(names))
    return [
        (split, actual, predicted, int(counts[i, j]))
        for i, actual in enumerate(names)
        for j, predicted in enumerate(names)
    ]


def _curves(task: Task, split: str, logits: np.ndarray, labels: np.ndarray) -> dict[str, list[Row]]:
    """One label against the others, for each label that has examples of both kinds; of two classes, the second.

    Of more than MOST_CURVES labels they are those that most examples carry.
    """
    rows: dict[str, list[Row]] = {"precision_recall": [], "roc": []}
    problem = task.classification
    order = np.argsort(-problem.tally(labels, task.columns), kind="stable")
    columns = [1] if task.binary else sorted(order[:MOST_CURVES].tolist())
    for column in columns:
        # The odds order the examples as the probability does, and still do where that is rounded to 1.
        scores, positive = problem.log_odds(logits, column), problem.carries(labels, column)
        if positive.any() and not positive.all():
            precision, recall, _ = precision_recall_curve(positive, scores)
            rates = roc_curve(positive, scores)[:2]
            for name, curve in (("precision_recall", (recall, precision)), ("roc", rates)):
                rows[name] += [(split, task.label_names[column], *point) for point in _thinned(*curve)]
    return rows


def _thinned(x: np.ndarray, y: np.ndarray) -> list[tuple[float, float]]:
    """Returns at most CURVE_POINTS points of a curve, evenly along it; the first and the last are among them."""
    along = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    chosen = np.searchsorted(along, np.linspace(0.0, along[-1], CURVE_POINTS - 1))
    chosen = np.unique(np.append(np.minimum(chosen, len(x) - 1), len(x) - 1))
    return [(_short(x[i]), _short(y[i])) for i in chosen]


def _scatter(split: str, predictions: np.ndarray, labels: np.ndarray) -> list[Row]:
    chosen = np.unique(np.linspace(0, len(labels) - 1, min(len(labels), SCATTER_POINTS)).round().astype(np.int64))
    return [(split, _short(labels[i]), _short(predictions[i])) for i in chosen]


def _short(value: Any) -> float:
    """Six digits behind the point: enough to draw, and blind to the last bits of a sum."""
    return round(float(value), 6)
