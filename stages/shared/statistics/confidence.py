"""Chooses the interval of each metric, and withholds one that cannot be trusted, with the reason.

- the accuracy: the score intervals of Wilson and, for a difference, Tango; always
- other metrics of counts: the wider, at each end, of the bootstrap's BCa and of the interval in `proportions`
- the loss, the squared error, correlations: Student's, from each example's influence
- of these last a difference is nowhere surer than that a sample may miss examples whose answers changed

docs/statistics.md has their sources, and how often each holds the truth by simulation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from stages.shared.statistics.bootstrap import Interval, bootstrap_intervals
from stages.shared.statistics.influence import (
    FISHER,
    LOGARITHM,
    PLAIN,
    Influence,
    influences,
    of_means,
    student_interval,
)
from stages.shared.statistics.probabilities import highest, probability_influence, unseen_ends
from stages.shared.statistics.proportions import score_intervals, tango_ends, wilson_ends
from stages.shared.statistics.ranks import spearman_influence
from stages.shared.statistics.tables import example_losses
from stages.shared.task.groups import effective_examples
from stages.shared.task.metrics import METRICS, OverCounts, OverMeans
from stages.shared.task.task import Task

FEWEST_EXAMPLES = 10  # an interval from fewer means nothing, but for the score intervals of an accuracy
FEWEST_OF_A_CLASS = 5
FEWEST_WRONG = 20  # they carry the loss
FEWEST_NUMBERS = 30
FEWEST_GROUPS = 20  # where whole groups are drawn, they are what there is a sample of


@dataclass(frozen=True)
class MetricInterval:
    """The interval of a metric's value, or of the difference of two, or the reason why there is none."""

    low: float | None
    high: float | None
    method: str
    withheld: str | None


def metric_intervals(
    task: Task,
    labels: np.ndarray,
    logits: Sequence[np.ndarray],
    *,
    confidence: float,
    resamples: int,
    seed: int,
    groups: np.ndarray | None = None,
    losses: Sequence[np.ndarray] | None = None,
    names: Sequence[str] | None = None,
) -> dict[str, MetricInterval]:
    """Returns an interval for each metric of the task and for the loss, or why there is none.

    Args:
        labels, logits, groups: as in `bootstrap.bootstrap_intervals`: of one model, or of two for their difference.
        losses: of each model's examples, as `tables.example_losses` has them, where they are known already.
        names: of the metrics and the loss, those that are asked for; None: all.
    """
    predictions = [task.problem.predict(one) for one in logits]
    names = (*task.metrics, "loss") if names is None else names
    reasons = {name: why_withheld(task, name, labels, predictions, groups) for name in names}
    forms = {name: METRICS[name].resampled for name in names if name != "loss" and not is_share(task, name)}
    counted = {name: form for name, form in forms.items() if isinstance(form, OverCounts)}
    drawn: dict[str, Interval] = {}
    if any(reasons[name] is None for name in counted):
        drawn = bootstrap_intervals(
            task, labels, predictions, confidence=confidence, resamples=resamples, seed=seed, groups=groups
        )
        formulas = {name: form.formula for name, form in counted.items()}
        scored = score_intervals(task, labels, predictions, formulas, confidence, groups)
    found: dict[str, MetricInterval] = {}
    for name in names:
        if is_share(task, name):
            found[name] = _of_shares(task, labels, predictions, confidence, groups)
        elif reasons[name] is not None:
            found[name] = MetricInterval(None, None, "bootstrap" if name in counted else "student", reasons[name])
        elif name in counted:
            low, high = scored[name]
            found[name] = _checked(min(drawn[name].low, low), max(drawn[name].high, high), "bootstrap")
    if len(found) < len(names):
        known = losses if losses is not None else [example_losses(task, one, labels) for one in logits]
        models = [dict(influences(task, labels, *one)) for one in zip(logits, known, strict=True)]
        for name in names:
            if name not in found:
                reach = unseen(task, name, labels, logits, confidence, seed, groups) if len(logits) == 2 else 0.0
                found[name] = _by_influence(name, [one[name] for one in models], reach, confidence, groups)
    return {name: found[name] for name in names}


def _by_influence(
    name: str, models: Sequence[Influence], reach: float, confidence: float, groups: np.ndarray | None
) -> MetricInterval:
    value, influence = models[0]
    if len(models) == 2:
        value, influence = models[1][0] - value, models[1][1] - influence
        low, high = student_interval(value, influence, PLAIN, confidence, groups)
        return _checked(min(low, value - reach), max(high, value + reach), "student")
    scale = FISHER if name != "loss" and METRICS[name].greater_is_better else LOGARITHM
    with np.errstate(divide="ignore", invalid="ignore"):
        return _checked(*student_interval(value, influence, scale, confidence, groups), "student")


def probability_interval(
    task: Task,
    name: str,
    labels: np.ndarray,
    logits: np.ndarray,
    confidence: float,
    groups: np.ndarray | None = None,
) -> tuple[float, MetricInterval]:
    """Returns a metric of probabilities and its interval: Student's, and never narrower than `unseen_ends` says.

    Args:
        labels, groups: as in `bootstrap.bootstrap_intervals`.
        logits: float32[examples, columns].
    """
    (value, influence), scale = probability_influence(task, name, labels, logits)
    reason = why_withheld(task, name, labels, [task.problem.predict(logits)], groups)
    if reason is not None:
        return value, MetricInterval(None, None, "student", reason)
    low, high = unseen_ends(task, name, labels, logits, value, confidence, groups)
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = student_interval(value, influence, scale, confidence, groups)
    if np.isfinite(ends).all():  # a perfect ranking lies at the end of Student's scale
        low, high = min(low, ends[0]), max(high, ends[1])
    return value, _checked(max(low, 0.0), min(high, highest(task, name)), "student")


def is_share(task: Task, name: str) -> bool:
    """Says whether a metric is the share of examples that are right, as the micro F1 is where each has one label."""
    return name == "accuracy" or (name == "f1_micro" and task.problem.exclusive)


def why_withheld(
    task: Task, name: str, labels: np.ndarray, predictions: Sequence[np.ndarray], groups: np.ndarray | None = None
) -> str | None:
    """Says why a metric's interval cannot be trusted; None where it can.

    Args:
        predictions: of one model, or of two.
        groups: int64[examples] from 0.
    """
    if is_share(task, name):
        return None
    if groups is not None and groups.max() + 1 < FEWEST_GROUPS:
        return f"{groups.max() + 1} groups; an interval takes {FEWEST_GROUPS}"
    if len(labels) < FEWEST_EXAMPLES:
        return f"{len(labels)} examples; an interval takes {FEWEST_EXAMPLES}"
    if task.problem.numeric:
        if len(labels) < FEWEST_NUMBERS:
            return f"{len(labels)} examples; that of numbers takes {FEWEST_NUMBERS}"
        return None
    if name == "loss":
        wrong = np.zeros(len(labels), dtype=bool)
        for one in predictions:
            wrong |= ~task.problem.right(one, labels)
        few = _drawn_with(wrong, groups)
        if few < FEWEST_WRONG:
            what = "wrong answers" if groups is None else "groups with wrong answers"
            return f"{few} {what} carry the loss; its interval takes {FEWEST_WRONG}"
        return None
    carried = (task.classification.carries(labels, column) for column in range(task.columns))
    sizes = [_drawn_with(where, groups) for where in carried]
    rarest = int(np.argmin(sizes))
    if sizes[rarest] < FEWEST_OF_A_CLASS:
        what = "examples of" if groups is None else "groups with"
        label = task.label_names[rarest]
        return f"{sizes[rarest]} {what} {label!r}; an interval takes {FEWEST_OF_A_CLASS} of each label"
    return None


def _drawn_with(where: np.ndarray, groups: np.ndarray | None) -> int:
    """Counts the examples that bool[examples] is true of; where they come in groups, the groups that have one."""
    return int(where.sum()) if groups is None else len(np.unique(groups[where]))


def unseen(
    task: Task,
    name: str,
    labels: np.ndarray,
    logits: Sequence[np.ndarray],
    confidence: float,
    seed: int,
    groups: np.ndarray | None = None,
) -> float:
    """Returns how far a difference of means or correlations may be off by changed answers of which a sample has none.

    A sample may miss as many as Tango's interval says of no flips, in so many examples, or groups where there are such.
    An example of that kind is taken to get another example's answer. (Metrics of counts know their flips by class, in
    `proportions`.)
    """
    if name != "loss" and isinstance(METRICS[name].resampled, OverCounts):
        return 0.0
    z = float(ndtri((1 + confidence) / 2))
    order = np.random.default_rng(seed).permutation(len(labels))
    effects = [_effect_of_changing(task, name, labels, one, one[order]) for one in logits]
    drawn = len(labels) if groups is None else int(groups.max()) + 1
    return z**2 / (drawn + z**2) * float(np.mean(effects))


def _effect_of_changing(task: Task, name: str, labels: np.ndarray, logits: np.ndarray, shuffled: np.ndarray) -> float:
    """Returns what it costs a metric if every example gets another one's answer; a correlation is gone then."""
    if name == "loss":
        return float(example_losses(task, shuffled, labels).mean())
    metric = METRICS[name]
    predictions = task.problem.predict(logits if metric.greater_is_better else shuffled)
    if isinstance(metric.resampled, OverMeans):
        return abs(of_means(metric.resampled, labels, predictions)[0])
    return abs(spearman_influence(labels, predictions)[0])


def _of_shares(
    task: Task, labels: np.ndarray, predictions: Sequence[np.ndarray], confidence: float, groups: np.ndarray | None
) -> MetricInterval:
    """Returns the score interval of the share of right examples, or of the difference of two models' shares.

    Of groups, it is that of as many examples as say as much.
    """
    right = [task.problem.right(one, labels) for one in predictions]
    values = right[0] if len(right) == 1 else right[1].astype(np.int8) - right[0]
    examples = float(len(labels)) if groups is None else effective_examples(values, groups, confidence)
    if len(right) == 1:
        low, high = wilson_ends(np.array(values.mean() * examples), np.array(examples), confidence)
        return MetricInterval(float(low), float(high), "wilson", None)
    gained, lost = (np.array((values == change).mean() * examples) for change in (1, -1))
    low, high = tango_ends(gained, lost, np.array(examples), confidence)
    return MetricInterval(float(low), float(high), "tango", None)


def _checked(low: float, high: float, method: str) -> MetricInterval:
    """Withholds an interval without ends, and one that is a point."""
    if np.isfinite(low) and np.isfinite(high) and low < high:
        return MetricInterval(low, high, method, None)
    return MetricInterval(None, None, method, "no example differs from the others, so nothing says how sure it is")
