"""What handing a model on in another form costs: flipped predictions, moved scores, size and speed."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from checks.cli import Unanswerable
from checks.predictions import check_labels
from stages.shared.statistics.paired import ALPHA, compare_split, judged
from stages.shared.statistics.params import EvaluateParams
from stages.shared.statistics.swaps import PairedPredictions
from stages.shared.task.task import Task


def price(split: str, pair: PairedPredictions, p: EvaluateParams) -> dict[str, Any]:
    """Returns what a form of a model changes on one split, `before` being the model's own logits."""
    found: dict[str, Any] = {
        "split": split,
        "examples": len(pair.before),
        "largest_logit_difference": float(np.abs(pair.after - pair.before).max()),
        "flipped": flipped(pair.task, pair.before, pair.after),
    }
    try:
        check_labels(split, pair.labels)
    except Unanswerable as error:
        return found | {"metrics": [], "no_metrics": str(error)}
    [compared] = judged([compare_split(split, pair, p, ALPHA, {})], ALPHA)
    return found | {
        "metrics": [
            {
                "metric": one.metric,
                "model": one.old,
                "exported": one.new,
                "difference": one.difference,
                "low": one.low,
                "high": one.high,
                "verdict": one.verdict,
            }
            for one in compared.differences
        ]
    }


def flipped(task: Task, before: np.ndarray, after: np.ndarray) -> float:
    """Returns the share of predictions that are others.

    A number is never quite the same. Of a regression it is the root of the mean square of the differences, in standard
    deviations of the predictions: noise has 1 or more, too.
    """
    if task.problem.numeric:
        scale = float(before.std()) or 1.0
        return float(np.sqrt(np.mean((after - before) ** 2)) / scale)
    one, other = (task.problem.predict(logits).reshape(len(logits), -1) for logits in (before, after))
    return float((one != other).any(axis=1).mean())


def most_flipped(splits: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Returns the split of which the largest share is flipped."""
    return max(splits, key=lambda one: float(one["flipped"]))
