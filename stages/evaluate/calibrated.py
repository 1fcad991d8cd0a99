"""What the calibration brings: scores before and after it, what the sets of labels hold, and answers at what error.

On the split that the calibration was fitted on, each example is judged by a fit that has not seen it.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from stages.evaluate.calibration import Bin, calibration_bins, calibration_error, error_by_chance
from stages.shared.statistics.confidence import MetricInterval, metric_intervals, probability_interval
from stages.shared.statistics.params import EvaluateParams
from stages.shared.statistics.probabilities import brier_losses
from stages.shared.task.calibration import Calibration, by_fold, calibrated_logits, decide, label_sets
from stages.shared.task.groups import effective_examples, wilson_ends
from stages.shared.task.metrics import METRICS
from stages.shared.task.task import Task

ANSWERED = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)  # shares of the examples, the surest first
DIGITS = 6  # of what is written; chance is in the third


@dataclass(frozen=True)
class Calibrated:
    """One split after calibration."""

    scores: list[dict[str, Any]]  # a record for each score: before, after, and the interval of that after
    sets: list[dict[str, Any]]  # one record, where there are sets of labels
    selective: list[dict[str, Any]]  # how many answers at what error, where each example has one label
    bins: list[Bin]


def judge_calibration(
    task: Task,
    split: str,
    calibration: Calibration,
    folds: np.ndarray | None,
    labels: np.ndarray,
    logits: np.ndarray,
    p: EvaluateParams,
    groups: np.ndarray | None,
) -> Calibrated:
    """Scores one split with and without the calibration.

    Args:
        task: with all the metrics of labels that are asked for.
        folds: as in `by_fold`.
        labels: as in `problem_types.Problem`.
        logits: float32[examples, columns].
        groups: int64[examples], as in `bootstrap.bootstrap_intervals`.
    """
    base = {"split": split, "cross_fitted": folds is not None and bool(calibration.folds)}
    after = by_fold(calibration, folds, logits, calibrated_logits)
    bins = [calibration_bins(task, one, labels) for one in (logits, after)]
    errors = [calibration_error(one) for one in bins]
    by_chance = {"by_chance": _short(error_by_chance(bins[1], p.seed))}
    scores = [
        base | _loss(task, labels, logits, after, p, groups),
        base | _brier(task, labels, logits, after, p, groups),
        base | _score("calibration_error", errors[0], errors[1], None) | by_chance,
    ]
    if calibration.decides:
        own = task.problem.predict(logits)
        decided = by_fold(calibration, folds, logits, lambda fit, some: decide(task, calibration, fit, some))
        scores += [base | one for one in _decisions(task, labels, own, decided, p, groups)]
        if calibration.costs is not None:
            before, now = (_mean_cost(labels, one, calibration.costs) for one in (own, decided))
            scores.append(base | _score("cost", before, now, None))
    sets, selective = [], []
    if calibration.error_rate is not None:
        held = by_fold(calibration, folds, logits, label_sets)
        sets.append(base | {"error_rate": calibration.error_rate} | _describe_sets(labels, held, p.confidence, groups))
    if task.problem.exclusive:
        right = task.problem.predict(logits) == labels
        sure = task.classification.confidence(after)
        selective = [{"split": split} | one for one in _answers_at_what_error(right, sure, p.confidence, groups)]
    return Calibrated(scores, sets, selective, bins[1])


def _score(name: str, before: float, after: float, interval: MetricInterval | None) -> dict[str, Any]:
    ends = {end: None if interval is None else asdict(interval)[end] for end in ("low", "high")}
    return {"metric": name, "before": _short(before), "after": _short(after)} | {
        end: None if value is None else _short(value) for end, value in ends.items()
    }


def _loss(
    task: Task,
    labels: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    p: EvaluateParams,
    groups: np.ndarray | None,
) -> dict[str, Any]:
    alone = replace(task, metrics=[])
    own, now = (task.problem.loss(one, labels) for one in (before, after))
    return _score("loss", own, now, _intervals(alone, labels, after, p, groups)["loss"])


def _brier(
    task: Task,
    labels: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    p: EvaluateParams,
    groups: np.ndarray | None,
) -> dict[str, Any]:
    own = float(brier_losses(task, labels, before).mean())
    now, interval = probability_interval(task, "brier_score", labels, after, p.confidence, groups)
    return _score("brier_score", own, now, interval)


def _decisions(
    task: Task,
    labels: np.ndarray,
    own: np.ndarray,
    decided: np.ndarray,
    p: EvaluateParams,
    groups: np.ndarray | None,
) -> list[dict[str, Any]]:
    """Scores the labels that thresholds or costs give, beside the model's own."""
    said = np.where(task.classification.members(decided, task.columns), 1.0, -1.0)  # logits of the decided labels
    intervals, truth = _intervals(task, labels, said, p, groups), np.asarray(labels)
    scores = {name: METRICS[name].score for name in task.metrics}
    return [_score(name, score(truth, own), score(truth, decided), intervals[name]) for name, score in scores.items()]


def _intervals(
    task: Task, labels: np.ndarray, logits: np.ndarray, p: EvaluateParams, groups: np.ndarray | None
) -> dict[str, MetricInterval]:
    return metric_intervals(
        task, labels, [logits], confidence=p.confidence, resamples=p.resamples, seed=p.seed, groups=groups
    )


def _mean_cost(labels: np.ndarray, answers: np.ndarray, costs: list[list[float]]) -> float:
    """Returns what an answer costs; of several labels at once, an answer about one label."""
    return float(np.array(costs)[np.asarray(labels).astype(np.int64), answers.astype(np.int64)].mean())


def _describe_sets(
    labels: np.ndarray, held: np.ndarray, confidence: float, groups: np.ndarray | None
) -> dict[str, Any]:
    """Counts the sets, bool[examples, columns], that hold the right label, and those of each size."""
    covered, sizes = held[np.arange(len(labels)), labels], held.sum(axis=1)
    counts = np.bincount(sizes, minlength=2)
    alone = sizes == 1
    return (
        {"covered": _short(covered.mean())}
        | _wilson(covered, confidence, groups)
        | {
            "mean_size": _short(sizes.mean()),
            "examples": len(labels),
            "sizes": [{"labels": size, "examples": int(count)} for size, count in enumerate(counts) if count],
            "wrong_of_one": _short(1 - covered[alone].mean()) if alone.any() else None,
        }
    )


def _answers_at_what_error(
    right: np.ndarray, sure: np.ndarray, confidence: float, groups: np.ndarray | None
) -> list[dict[str, Any]]:
    """Returns a record for each share of the examples, the surest first: what is wrong of these.

    Examples of equal probability are answered together or not at all, so a share may be larger than the one asked for.
    """
    ranked, found = np.sort(sure)[::-1], []
    for share in ANSWERED:
        least = ranked[max(int(np.ceil(share * len(sure) - 1e-9)), 1) - 1]
        answered = sure >= least
        wrong = ~right[answered]
        some = None if groups is None else groups[answered]
        record = {"answered": _short(answered.mean()), "examples": int(answered.sum()), "probability": _short(least)}
        found.append(record | {"error": _short(wrong.mean())} | _wilson(wrong, confidence, some))
    return found


def _wilson(values: np.ndarray, confidence: float, groups: np.ndarray | None) -> dict[str, float]:
    examples = float(len(values)) if groups is None else effective_examples(values, groups, confidence)
    low, high = wilson_ends(float(values.mean()), examples, confidence)
    return {"low": _short(low), "high": _short(high)}


def _short(value: Any) -> float:
    return round(float(value), DIGITS)
