"""The paired comparison: what a second model changes on the same examples, and whether chance alone would do as much.

The interval of a difference is the paired bootstrap's: both models on the same resampled examples. Few flips are judged
by tests that need no large sample: McNemar's for the accuracy, the randomization test for the other metrics of counts.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest

from stages.evaluate.bootstrap import WEIGHTS_AT_ONCE, bootstrap_intervals
from stages.evaluate.params import EvaluateParams
from stages.shared.task.metrics import METRICS, SAME, Counts, OverCounts
from stages.shared.task.task import Task

MARGIN = 0.005  # in the metric's own unit; differences up to it do not matter


@dataclass(frozen=True)
class PairedPredictions:
    """What two models say about the same examples."""

    task: Task
    labels: np.ndarray  # as in `problem_types.Problem`
    before: np.ndarray  # the first model's logits, float32[examples, columns]
    after: np.ndarray  # the second model's


@dataclass(frozen=True)
class Difference:
    """One metric of one split in two revisions."""

    metric: str
    old: float
    new: float
    difference: float  # new minus old
    low: float
    high: float
    p_value: float | None  # could chance alone make so much of the flips? None: flips do not make the metric
    verdict: str


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


@dataclass(frozen=True)
class SplitComparison:
    """What changed on one split."""

    split: str
    examples: int
    differences: list[Difference]
    flips: dict[str, int] | None  # by kind; None for a regression
    p_value: float | None  # McNemar's exact test: could as many flips one way and the other be a coin's?
    flipped: list[Flip]  # most confident first; only as many as were asked for


def compare_split(split: str, pair: PairedPredictions, p: EvaluateParams, margin: float) -> SplitComparison:
    """Compares two models on a split, without listing its flips."""
    olds, news = (plain_scores(pair.task, pair.labels, logits) for logits in (pair.before, pair.after))
    intervals = bootstrap_intervals(
        pair.task, pair.labels, [pair.before, pair.after], confidence=p.confidence, resamples=p.resamples, seed=p.seed
    )
    counts: dict[str, int] | None = None
    p_values: dict[str, float] = {}
    if not pair.task.problem.numeric:
        kinds = flip_kinds(pair)
        counts = {kind: int(np.sum(kinds == kind)) for kind in ("wrong -> right", "right -> wrong", "wrong -> wrong")}
        p_values = swap_p_values(pair, p.resamples, p.seed)
        p_values["accuracy"] = mcnemar(counts["wrong -> right"], counts["right -> wrong"])
    sample: dict[str, Any] = {"examples": len(pair.labels), "confidence": p.confidence, "margin": margin}
    differences = []
    for name, (_, low, high) in intervals.items():
        old, new, p_value = olds[name], news[name], p_values.get(name)
        word = verdict(name, low, high, p_value, **sample)
        differences.append(Difference(name, old, new, new - old, low, high, p_value, word))
    return SplitComparison(split, len(pair.labels), differences, counts, p_values.get("accuracy"), [])


def verdict(
    metric: str, low: float, high: float, p_value: float | None, *, examples: int, confidence: float, margin: float
) -> str:
    """Says in words what the interval of new minus old means; checks.gate goes by the same words.

    A metric of predictions knows the two models by their flips alone, and of few flips the bootstrap makes too much:
    three that all go one way leave no resample on the other side, and the interval excludes 0, though a coin throws
    three alike in a quarter of all cases. Of two equal models and 408 examples of which 5 flip, it "tells apart" one
    pair in ten. So such a metric is "better" or "worse" only where a test that needs no large sample says so too: the
    accuracy by McNemar's, any other by `swap_p_values`. Likewise no flip makes an interval of no width: "equivalent"
    takes so many examples that the flips which may be missed by chance lie within the margin.

    Args:
        p_value: of that test; None for the loss and for regressions, which every example moves.
    """
    seen = p_value is None or unseen_flips(examples, confidence) <= margin
    if -margin <= low and high <= margin and seen:
        return f"equivalent within {margin:g}"
    if low <= 0 <= high or (p_value is not None and p_value >= 1 - confidence):
        return "cannot be told apart"
    return "better" if (low > 0) == greater_is_better(metric) else "worse"


def unseen_flips(examples: int, confidence: float) -> float:
    """Returns the largest share of flips that may well show none in a sample: 3 / examples for 95 %.

    The "rule of three" (Hanley & Lippman-Hand 1983), not rounded.
    """
    return float(1 - (1 - confidence) ** (1 / examples))


def greater_is_better(metric: str) -> bool:
    """Says which direction of a metric, or of the loss, is the good one."""
    return metric != "loss" and METRICS[metric].greater_is_better


def plain_scores(task: Task, labels: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Returns what `scorer.score` does, by the same functions, but without the seconds of the `evaluate` package."""
    predictions = task.problem.predict(logits)
    scores = {name: METRICS[name].score(labels, predictions) for name in task.metrics}
    return scores | {"loss": task.problem.loss(logits, labels)}


def mcnemar(gained: int, lost: int) -> float:
    """Returns the two-sided p-value of McNemar's test (1947), exact: with binomial instead of chi-squared odds.

    Of the tests for two trained models on one test set it is the one with an acceptable rate of false alarms that
    needs no further training (Dietterich 1998).
    """
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def swap_p_values(pair: PairedPredictions, resamples: int, seed: int) -> dict[str, float]:
    """Returns for each metric of counts how often chance alone makes two models differ by as much, in either direction.

    The randomization test (Noreen 1989; Yeh 2000 for F1): were the models alike, each flip could as well have gone the
    other way, so all flips are swapped or not by a coin. It needs no large sample: for the accuracy it is McNemar's
    exact test, and k flips that all go one way are no less likely than 2 ** (1 - k).

    Args:
        pair: of classes or of sets.
    """
    problem, columns, labels = pair.task.classification, pair.task.columns, pair.labels
    old, new = (problem.predict(logits) for logits in (pair.before, pair.after))
    changed = np.flatnonzero((old != new).reshape(len(labels), -1).any(axis=1))
    codes = np.concatenate([problem.members(array[changed], columns) for array in (labels, old, new)], axis=1)
    kinds, number = np.unique(codes, axis=0, return_counts=True)
    is_in, was, becomes = (part.astype(np.float64) for part in np.split(kinds, 3, axis=1))
    # What one flip of each kind changes: hits and predictions of each label, and right examples.
    steps = np.concatenate([(becomes - was) * is_in, becomes - was], axis=1)
    right = (becomes == is_in).all(axis=1).astype(np.float64) - (was == is_in).all(axis=1)
    steps = np.concatenate([steps, right[:, np.newaxis]], axis=1)
    hits, predicted = problem.tally(labels, columns, old == labels), problem.tally(old, columns)
    start = np.concatenate([hits, predicted, [problem.right(old, labels).sum()]]).astype(np.float64)
    size = np.array([len(labels)], dtype=np.float64)
    every = problem.tally(labels, columns).astype(np.float64)[np.newaxis]
    forms = {name: METRICS[name].resampled for name in pair.task.metrics}
    formulas = {name: form.formula for name, form in forms.items() if isinstance(form, OverCounts)}

    def scores(counts: np.ndarray) -> dict[str, np.ndarray]:
        hits, predicted, right = np.split(counts, [columns, 2 * columns], axis=1)
        actual = np.repeat(every, len(counts), axis=0)
        one = Counts(hits, predicted, right[:, 0], actual, size, problem.exclusive)
        return {name: formula(one) for name, formula in formulas.items()}

    def differences(swapped: np.ndarray) -> dict[str, np.ndarray]:
        moved = swapped @ steps
        first, second = scores(start + moved), scores(start + number @ steps - moved)
        return {name: np.abs(second[name] - first[name]) for name in formulas}

    own = differences(np.zeros((1, len(number))))
    generator = np.random.default_rng(seed)
    draws = min(resamples, max(1000, 10 * WEIGHTS_AT_ONCE // max(len(number), 1)))
    rows = max(1, WEIGHTS_AT_ONCE // max(len(number), columns))
    as_far = dict.fromkeys(formulas, 1)  # the sample itself
    for done in range(0, draws, rows):
        swapped = generator.binomial(number, 0.5, size=(min(rows, draws - done), len(number)))
        for name, values in differences(swapped.astype(np.float64)).items():
            as_far[name] += int((values >= own[name] - SAME).sum())
    return {name: count / (draws + 1) for name, count in as_far.items()}


def flip_kinds(pair: PairedPredictions) -> np.ndarray:
    """Returns str[examples]: how each example's prediction changed; empty where it did not."""
    predictions = (pair.task.problem.predict(logits) for logits in (pair.before, pair.after))
    columns = [array.reshape(len(pair.labels), -1) for array in (pair.labels, *predictions)]
    was, became = ((columns[0] == column).all(axis=1) for column in columns[1:])
    changed = (columns[1] != columns[2]).any(axis=1)
    kinds = np.where(was, "right -> wrong", np.where(became, "wrong -> right", "wrong -> wrong"))
    return np.where(changed, kinds, "")


def list_flips(pair: PairedPredictions, rows: list[tuple[str, str | None]], most: int) -> list[Flip]:
    """Returns the flips of which the new model is surest.

    Args:
        rows: the text, or the two, of each example.
    """
    task, kinds = pair.task, flip_kinds(pair)
    olds, news = task.problem.predict(pair.before), task.problem.predict(pair.after)
    # Of a set: that all of its labels are right, if they do not depend on each other.
    confidence = task.classification.confidence(pair.after).reshape(len(kinds), -1).prod(axis=1)
    order = np.lexsort((np.arange(len(kinds)), -confidence))
    chosen = [int(i) for i in order if kinds[i]][:most]
    flips = []
    for i in chosen:
        label, old, new = (task.say(array[i]) for array in (pair.labels, olds, news))
        flips.append(Flip(i + 1, *rows[i], label, old, new, str(kinds[i]), float(confidence[i])))
    return flips
