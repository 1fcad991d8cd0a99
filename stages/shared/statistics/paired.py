"""The paired comparison of two models on the same examples.

A difference is "better" or "worse" only if a randomization test says so (`swaps`) after Holm's correction over
all that is printed, and its interval, where there is one, excludes 0. It is "equivalent" only if the whole interval
lies within the margin; it holds what changed answers that the sample may have missed could do to the metric.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri

from stages.shared.statistics.confidence import MetricInterval, metric_intervals
from stages.shared.statistics.labels import METRICS_OF_A_LABEL
from stages.shared.statistics.params import EvaluateParams
from stages.shared.statistics.swaps import PairedPredictions, mcnemar, swap_p_values
from stages.shared.task.metrics import METRICS, greater_is_better
from stages.shared.task.problem_types import CLASSES
from stages.shared.task.task import Task

ALPHA = 0.05  # how often equal models may be told apart
POWER = 0.8  # with which a difference is called detectable (Cohen 1988)
MARGIN = 0.005  # in the metric's own unit; differences up to it do not matter
APART = ("better", "worse")


@dataclass(frozen=True)
class Difference:
    """One metric of one split in two revisions."""

    metric: str
    primary: bool  # the one that the comparison is about, of all that are printed
    old: float
    new: float
    difference: float  # new minus old
    low: float | None  # of the interval at 1 - alpha; None: it is withheld
    high: float | None
    withheld: str | None  # why
    p_value: float  # could chance alone make so much of it?
    p_holm: float  # the same after Holm's correction over all that is printed
    detectable: float | None  # the smallest difference that so many examples would have shown with POWER
    margin: float
    verdict: str
    label: str | None = None  # whose precision, recall or F1 it is; None: of all


@dataclass(frozen=True)
class Flip:
    """An example whose prediction changed."""

    row: int  # in the split, from 1
    text: str
    text_pair: str | None
    label: str
    old: str
    new: str
    kind: str  # right -> wrong, ...
    confidence: float  # the new model's, in its prediction
    id: str | None = None  # of download.id_column


@dataclass(frozen=True)
class SplitComparison:
    """What changed on one split."""

    split: str
    examples: int
    differences: list[Difference]
    flips: dict[str, int] | None  # by kind; None for a regression
    groups: int | None  # drawn and swapped whole; None: each example is on its own
    p_value: float | None  # McNemar's exact test: could as many flips one way and the other be a coin's? None of groups
    loss_from_flips: float | None  # the share of the loss's change that the flipped examples make up
    flipped: list[Flip]  # most confident first; only as many as were asked for


def compare_split(
    split: str, pair: PairedPredictions, p: EvaluateParams, alpha: float, margins: Mapping[str, float]
) -> SplitComparison:
    """Compares two models on a split, without listing its flips; `judged` has the verdicts.

    Args:
        margins: by metric; MARGIN for those that have none here.
    """
    counts: dict[str, int] | None = None
    if not pair.task.problem.numeric:
        kinds = flip_kinds(pair)
        counts = {kind: int(np.sum(kinds == kind)) for kind in ("wrong -> right", "right -> wrong", "wrong -> wrong")}
    exact = mcnemar(counts["wrong -> right"], counts["right -> wrong"]) if counts and pair.groups is None else None
    return SplitComparison(
        split,
        len(pair.labels),
        _differences(pair, p, alpha, margins, [*pair.task.metrics, "loss"]),
        counts,
        None if pair.groups is None else int(pair.groups.max()) + 1,
        exact,
        loss_from_flips(pair),
        [],
    )


def compare_labels(
    pair: PairedPredictions, columns: Sequence[int], p: EvaluateParams, alpha: float, margins: Mapping[str, float]
) -> list[Difference]:
    """Compares two models by the precision, the recall and the F1 of some labels, each against the rest.

    Args:
        columns: of the labels.
        margins: as in `compare_split`.
    """
    found = []
    for column in columns:
        compared = _differences(one_against_rest(pair, column), p, alpha, margins, METRICS_OF_A_LABEL)
        found += [replace(difference, label=pair.task.label_names[column]) for difference in compared]
    return found


def one_against_rest(pair: PairedPredictions, column: int) -> PairedPredictions:
    """Returns the pair as a question about one label: does an example carry it, and does each model say so?

    Its metrics are those of a label. Its loss means nothing, for it only knows what a model says and not how surely.
    """
    problem = pair.task.classification
    name = pair.task.label_names[column]
    task = replace(pair.task, problem_type=CLASSES, label_names=["other", name], metrics=list(METRICS_OF_A_LABEL))
    labels = problem.carries(pair.labels, column).astype(np.int64)
    said = [problem.carries(one, column) for one in pair.predictions]
    before, after = (np.where(one[:, np.newaxis], (-1.0, 1.0), (1.0, -1.0)).astype(np.float32) for one in said)
    return PairedPredictions(task, labels, before, after, pair.groups)


def _differences(
    pair: PairedPredictions, p: EvaluateParams, alpha: float, margins: Mapping[str, float], names: Sequence[str]
) -> list[Difference]:
    """Compares two models by these metrics, of the task's and the loss; `judged` has the verdicts."""
    olds, news = (plain_scores(pair.task, pair.labels, logits) for logits in (pair.before, pair.after))
    intervals = paired_intervals(pair, p, alpha, names)
    p_values = swap_p_values(pair, p.resamples, p.seed, names)
    return [
        Difference(
            name,
            primary=False,
            old=olds[name],
            new=news[name],
            difference=news[name] - olds[name],
            low=intervals[name].low,
            high=intervals[name].high,
            withheld=intervals[name].withheld,
            p_value=p_values[name],
            p_holm=1.0,
            detectable=detectable(intervals[name], alpha),
            margin=margins.get(name, MARGIN),
            verdict="",
        )
        for name in names
    ]


def paired_intervals(
    pair: PairedPredictions, p: EvaluateParams, alpha: float, names: Sequence[str] | None = None
) -> dict[str, MetricInterval]:
    """Returns the intervals of the second model's scores minus the first one's, at 1 - alpha.

    Args:
        names: as in `metric_intervals`.
    """
    return metric_intervals(
        pair.task,
        pair.labels,
        [pair.before, pair.after],
        confidence=1 - alpha,
        resamples=p.resamples,
        seed=p.seed,
        groups=pair.groups,
        losses=pair.losses if names is None or "loss" in names else None,
        names=names,
    )


def judged(splits: Sequence[SplitComparison], alpha: float) -> list[SplitComparison]:
    """Corrects the p-values for each other, marks the first metric of the first split as primary, and says words."""
    corrected = iter(holm([one.p_value for split in splits for one in split.differences]))
    found: list[SplitComparison] = []
    for split in splits:
        differences: list[Difference] = []
        for one in split.differences:
            p_holm = next(corrected)
            words = verdict(
                one.metric, one.low, one.high, one.difference, p_holm=p_holm, alpha=alpha, margin=one.margin
            )
            primary = not found and not differences
            differences.append(replace(one, primary=primary, p_holm=p_holm, verdict=words))
        found.append(replace(split, differences=differences))
    return found


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrects p-values for how many there are (Holm 1979): any false alarm at all is as rare as one of one test."""
    order = np.argsort(p_values, kind="stable")
    steps = np.array(p_values)[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(order) else steps
    return [float(one) for one in corrected]


def verdict(
    metric: str,
    low: float | None,
    high: float | None,
    difference: float,
    *,
    p_holm: float,
    alpha: float,
    margin: float,
) -> str:
    """Says in words what a difference, new minus old, means.

    Args:
        low, high: its interval's ends; None if the interval is withheld: then nothing is equivalent.
    """
    if low is not None and high is not None:
        if -margin <= low and high <= margin:
            return f"equivalent within {margin:g}"
        if low <= 0 <= high:
            return "cannot be told apart"
    if p_holm >= alpha:
        return "cannot be told apart"
    return "better" if (difference > 0) == greater_is_better(metric) else "worse"


def checked_margin(metric: str, margin: float) -> float:
    """Returns a margin that can be one for this metric; without a name, for any.

    Raises:
        ValueError: it is negative or not finite, or nothing could be outside it: accuracy, F1 and their like end at 1.
    """
    ends = metric == "" or greater_is_better(metric)
    if not (np.isfinite(margin) and margin >= 0 and (margin < 1 or not ends)):
        bound = " and below 1" if ends else ""
        raise ValueError(f"must be a finite number, at least 0{bound}, got {margin:g}")
    return margin


def detectable(interval: MetricInterval, alpha: float) -> float | None:
    """Returns the smallest true difference that would have been told apart with POWER; None without an interval.

    In standard errors it is z(1 - alpha / 2) + z(POWER) (Bloom 1995), and the interval's half is z(1 - alpha / 2).
    """
    if interval.low is None or interval.high is None:
        return None
    z = float(ndtri(1 - alpha / 2))
    return (interval.high - interval.low) / 2 * (z + float(ndtri(POWER))) / z


def loss_from_flips(pair: PairedPredictions) -> float | None:
    """Returns the share of the loss's change that the flipped examples make up; None for a regression, or no change."""
    if pair.task.problem.numeric:
        return None
    old, new = pair.losses
    change, flipped = new - old, flip_kinds(pair) != ""
    return float(change[flipped].sum() / change.sum()) if change.sum() and flipped.any() else None


def unseen_flips(examples: int, confidence: float) -> float:
    """Returns the largest share of flips that may well show none in a sample: 3 / examples for 95 %.

    The "rule of three" (Hanley & Lippman-Hand 1983), not rounded.
    """
    return float(1 - (1 - confidence) ** (1 / examples))


def plain_scores(task: Task, labels: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Returns what `scorer.score` does, by the same functions, but without the seconds of the `evaluate` package."""
    predictions = task.problem.predict(logits)
    scores = {name: METRICS[name].score(labels, predictions) for name in task.metrics}
    return scores | {"loss": task.problem.loss(logits, labels)}


def flip_kinds(pair: PairedPredictions) -> np.ndarray:
    """Returns str[examples]: how each example's prediction changed; empty where it did not."""
    columns = [array.reshape(len(pair.labels), -1) for array in (pair.labels, *pair.predictions)]
    was, became = ((columns[0] == column).all(axis=1) for column in columns[1:])
    changed = (columns[1] != columns[2]).any(axis=1)
    kinds = np.where(was, "right -> wrong", np.where(became, "wrong -> right", "wrong -> wrong"))
    return np.where(changed, kinds, "")


def list_flips(
    pair: PairedPredictions, rows: list[tuple[str, str | None]], most: int, ids: Sequence[str] | None = None
) -> list[Flip]:
    """Returns the flips of which the new model is surest.

    Args:
        rows: the text, or the two, of each example.
        ids: of each example; None where rows have none.
    """
    task, kinds = pair.task, flip_kinds(pair)
    olds, news = pair.predictions
    # Of a set: that all of its labels are right, if they do not depend on each other.
    confidence = task.classification.confidence(pair.after).reshape(len(kinds), -1).prod(axis=1)
    order = np.lexsort((np.arange(len(kinds)), -confidence))
    chosen = [int(i) for i in order if kinds[i]][:most]
    flips = []
    for i in chosen:
        label, old, new = (task.say(array[i]) for array in (pair.labels, olds, news))
        flips.append(
            Flip(i + 1, *rows[i], label, old, new, str(kinds[i]), float(confidence[i]), ids[i] if ids else None)
        )
    return flips
