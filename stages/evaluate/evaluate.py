"""evaluate: data/{predictions,raw,overlap}/, data/epochs.npy, metrics/*.json -> metrics/ (scores, plots)."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stages.evaluate import score_warnings
from stages.evaluate.calibrated import Calibrated, judge_calibration
from stages.evaluate.calibration import calibration_bins
from stages.evaluate.constant import constant_scores
from stages.evaluate.plots import plot_rows, write_plot
from stages.evaluate.selection import selection_cost
from stages.shared.runtime.execution import Execution
from stages.shared.runtime.publish import publish, write_json, write_records
from stages.shared.statistics.confidence import MetricInterval, metric_intervals, probability_interval
from stages.shared.statistics.labels import METRICS_OF_A_LABEL, Ends, LabelScore, chosen_labels, with_intervals
from stages.shared.statistics.params import EvaluateParams
from stages.shared.statistics.probabilities import constant_probability
from stages.shared.task.asked import check_per_class, chosen_splits, extra_metrics
from stages.shared.task.calibration import folds_of, read_calibration
from stages.shared.task.groups import row_groups
from stages.shared.task.metrics import METRICS, PROBABILITY_METRICS
from stages.shared.task.overlap import KINDS, read_overlap
from stages.shared.task.predictions import open_labelled
from stages.shared.task.scorer import score
from stages.shared.task.task import Task, read_task


@dataclass(frozen=True)
class EvaluateFiles:
    """What the stage reads, then what it writes."""

    predictions: Path = Path("data/predictions")
    raw: Path = Path("data/raw")
    overlap: Path = Path("data/overlap")
    epochs: Path = Path("data/epochs.npy")
    fitted: Path = Path("metrics/calibration.json")
    data: Path = Path("metrics/data.json")
    selection: Path = Path("metrics/selection.json")
    metrics: Path = Path("metrics/metrics.json")
    intervals: Path = Path("metrics/intervals.json")
    warnings: Path = Path("metrics/warnings.json")
    calibrated_scores: Path = Path("metrics/calibrated.json")
    classes: Path = Path("metrics/classes.json")
    confusion: Path = Path("metrics/plots/confusion.csv")
    calibrated: Path = Path("metrics/plots/calibrated.csv")
    calibration: Path = Path("metrics/plots/calibration.csv")
    precision_recall: Path = Path("metrics/plots/precision_recall.csv")
    roc: Path = Path("metrics/plots/roc.csv")
    scatter: Path = Path("metrics/plots/scatter.csv")

    @property
    def plots(self) -> tuple[Path, ...]:
        """The curves and counts that DVC draws."""
        return (self.confusion, self.calibrated, self.calibration, self.precision_recall, self.roc, self.scatter)


def evaluate(p: EvaluateParams, execution: Execution, files: EvaluateFiles) -> None:
    """Scores the logits of the chosen splits, says how sure the scores are, and gives reasons to doubt them.

    Raises:
        BadInput: a split was not predicted, or has no labels.
    """
    task = read_task(files.raw / "task.json")
    data = json.loads(files.data.read_text(encoding="utf-8"))
    (selection,) = json.loads(files.selection.read_text(encoding="utf-8"))["selection"]
    extra = extra_metrics(p.metrics, task)
    probabilities = [name for name in extra if name in PROBABILITY_METRICS]
    asked = replace(task, metrics=[*task.metrics, *(name for name in extra if name not in probabilities)])
    metrics: dict[str, dict[str, float]] = {}
    intervals: list[dict[str, Any]] = []
    warnings: list[score_warnings.ScoreWarning] = []
    calibration, calibrated = read_calibration(files.fitted), dict[str, Calibrated]()
    folds = {} if calibration is None else folds_of(files.raw, fitted_sizes(files.predictions, calibration.splits))
    rows: dict[str, list[tuple[Any, ...]]] = {}
    check_per_class(p.per_class, task)
    classes: dict[str, list[tuple[LabelScore, Ends]]] = {}
    for split in chosen_splits(p.splits, sorted(folder.name for folder in files.predictions.iterdir())):
        labels, logits = open_labelled(files.predictions, split)
        groups = row_groups(files.raw / split, len(labels))
        flags = read_overlap(files.overlap, split)[: len(labels)]
        sure = metric_intervals(
            asked, labels, [logits], confidence=p.confidence, resamples=p.resamples, seed=p.seed, groups=groups
        )
        ranked = {
            name: probability_interval(task, name, labels, logits, p.confidence, groups) for name in probabilities
        }
        metrics[split] = (
            score(asked, logits, labels)
            | {name: value for name, (value, _) in ranked.items()}
            | {"examples": len(labels)}
        )
        baseline = constant_scores(asked, labels) | {
            name: constant_probability(task, name, labels) for name in probabilities
        }
        sure |= {name: interval for name, (_, interval) in ranked.items()}
        records = [{"split": split} | one for one in describe_intervals(p, metrics[split], sure, baseline)]
        bins = calibration_bins(task, logits, labels)
        if calibration is not None:
            calibrated[split] = judge_calibration(
                asked, split, calibration, folds.get(split), labels, logits, p, groups
            )
        warnings += [
            *score_warnings.shared_with_train(
                split, flags, data, task.metrics[0], without(task, flags, labels, logits)
            ),
            *score_warnings.too_little(split, labels),
            *score_warnings.without_interval(split, records),
            *score_warnings.no_better_than_constant(split, task.metrics, records),
            *score_warnings.badly_calibrated(split, bins, p.seed, calibrated.get(split)),
        ]
        if score_warnings.chosen_on_split(split, selection):
            kept, epochs = int(selection["epoch"]) - 1, np.load(files.epochs)
            cost = selection_cost(task, labels, epochs, kept, p.seed, groups)
            warnings.append(score_warnings.selected_score(split, selection, cost))
        intervals += records
        if not task.problem.numeric:
            classes[split] = with_intervals(task, labels, task.problem.predict(logits), groups, p.confidence)
        after = calibrated[split].bins if split in calibrated else ()
        for name, lines in plot_rows(task, split, logits, labels, bins, after).items():
            rows.setdefault(name, []).extend(lines)
    published = (files.metrics, files.intervals, files.warnings, files.calibrated_scores, files.classes, *files.plots)
    with publish(*published) as outs:
        write_json(outs[0], metrics)
        write_records(outs[1], "intervals", intervals)
        write_records(outs[2], "warnings", [warned._asdict() for warned in warnings])
        write_json(outs[3], calibrated_records(calibrated.values()))
        write_json(outs[4], describe_classes(classes, chosen_labels(task, p.per_class)))
        for file, out in zip(files.plots, outs[5:], strict=True):
            write_plot(out, file.stem, rows.get(file.stem, []))


def fitted_sizes(predictions_dir: Path, splits: Sequence[str]) -> dict[str, int]:
    """Returns the number of examples of each split that the calibration was fitted on."""
    return {split: len(np.load(predictions_dir / split / "labels.npy", mmap_mode="r")) for split in splits}


def calibrated_records(splits: Iterable[Calibrated]) -> dict[str, list[dict[str, Any]]]:
    """Returns the content of metrics/calibrated.json: lists, so that DVC prints no second value of a metric."""
    parts = list(splits)
    return {
        "calibrated": [record for part in parts for record in part.scores],
        "sets": [record for part in parts for record in part.sets],
        "selective": [record for part in parts for record in part.selective],
    }


def describe_classes(splits: Mapping[str, Sequence[tuple[LabelScore, Ends]]], chosen: Sequence[int]) -> dict[str, Any]:
    """Returns the content of metrics/classes.json: what DVC is to print by split and label, then all with intervals.

    DVC prints what is in dictionaries, and nothing of lists.

    Args:
        chosen: columns of the labels that DVC is to print.
    """
    printed = {
        split: {scores[i][0].name: {name: getattr(scores[i][0], name) for name in METRICS_OF_A_LABEL} for i in chosen}
        for split, scores in splits.items()
        if chosen
    }
    records = [
        {"split": split, "label": score.name}
        | {key: value for name in METRICS_OF_A_LABEL for key, value in _with_ends(name, score, ends).items()}
        | {"actual": score.actual, "predicted": score.predicted}
        for split, scores in splits.items()
        for score, ends in scores
    ]
    return printed | {"classes": records}


def _with_ends(name: str, score: LabelScore, ends: Ends) -> dict[str, float | None]:
    """Returns a score with the ends of its interval; None where no example says anything of it."""
    low, high = ends[name] or (None, None)
    value = getattr(score, name)
    return {name: value} | {
        f"{name}_{end}": None if one is None else round(one, 6) for end, one in (("low", low), ("high", high))
    }


def without(task: Task, flags: np.ndarray, labels: np.ndarray, logits: np.ndarray) -> dict[int, float]:
    """Scores the examples without those that have something in common with train, by the task's first metric.

    Returns:
        The metric of all under 0, and under each kind of thing (see `overlap`) that of the rest, where there is one.
    """
    predictions, score_of = task.problem.predict(logits), METRICS[task.metrics[0]].score
    rests = {kind: (flags & kind) == 0 for kind in KINDS if (flags & kind).any()}
    return {0: score_of(labels, predictions)} | {
        kind: score_of(labels[rest], predictions[rest]) for kind, rest in rests.items() if rest.sum() > 1
    }


def describe_intervals(
    p: EvaluateParams,
    scores: Mapping[str, float],
    intervals: Mapping[str, MetricInterval],
    baseline: Mapping[str, float],
) -> list[dict[str, Any]]:
    """Returns a record for every metric. Where its interval is withheld, the bounds are null and `withheld` says why.

    Args:
        scores: of one split, its number of `examples` with them.
        baseline: the best constant answer's scores.
    """
    return [
        {
            "metric": name,
            "value": scores[name],
            "low": None if interval.low is None else round(interval.low, 6),  # chance is in the third digit
            "high": None if interval.high is None else round(interval.high, 6),
            "confidence": p.confidence,
            "method": interval.method,
            "withheld": interval.withheld,
            "baseline": baseline[name],
            "examples": scores["examples"],
        }
        for name, interval in intervals.items()
    ]
