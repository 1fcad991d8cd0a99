"""checks.paired: words that the interval bears out, and tests of few flips; held to statsmodels and to all swaps."""

from itertools import product

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as reference

from checks.paired import MARGIN, PairedPredictions, compare_split, mcnemar, swap_p_values, verdict
from stages.evaluate.params import EvaluateParams
from stages.shared.task.task import Task
from tests.predictions import TASK
from tests.test_statistics import CLASSES, SETS, draw, make_task, value


def said(
    metric: str, low: float, high: float, p_value: float | None, examples: int = 2000, confidence: float = 0.95
) -> str:
    return verdict(metric, low, high, p_value, examples=examples, confidence=confidence, margin=0.005)


@pytest.mark.parametrize(
    ("metric", "low", "high", "words"),
    [
        ("accuracy", -0.02, 0.01, "cannot be told apart"),
        ("accuracy", 0.001, 0.02, "better"),
        ("accuracy", -0.02, -0.001, "worse"),
        ("accuracy", 0.001, 0.004, "equivalent within 0.005"),
        ("accuracy", -0.004, -0.001, "equivalent within 0.005"),
        ("accuracy", -0.006, 0.004, "cannot be told apart"),
        ("loss", 0.001, 0.02, "worse"),
        ("mean_squared_error", -0.02, -0.001, "better"),
    ],
)
def test_the_words_follow_the_interval_and_the_metrics_direction(
    metric: str, low: float, high: float, words: str
) -> None:
    p_value = 0.001 if metric == "accuracy" else None
    assert said(metric, low, high, p_value) == words


@pytest.mark.parametrize(
    ("metric", "p_value", "confidence", "words"),
    [
        ("accuracy", mcnemar(3, 0), 0.95, "cannot be told apart"),  # 0.25
        ("accuracy", mcnemar(5, 0), 0.95, "cannot be told apart"),  # 0.0625
        ("accuracy", mcnemar(6, 0), 0.95, "better"),  # 0.03125
        ("accuracy", mcnemar(6, 0), 0.99, "cannot be told apart"),
        ("f1", 0.06, 0.95, "cannot be told apart"),
        ("f1", 0.04, 0.95, "better"),
        ("loss", None, 0.95, "worse"),
    ],
)
def test_few_flips_tell_nothing_apart_whatever_the_interval(
    metric: str, p_value: float | None, confidence: float, words: str
) -> None:
    assert said(metric, 0.007, 0.03, p_value, examples=408, confidence=confidence) == words


@pytest.mark.parametrize(("examples", "words"), [(408, "cannot be told apart"), (598, "equivalent within 0.005")])
def test_no_flip_is_equivalent_only_among_many_examples(examples: int, words: str) -> None:
    """3 / 408 of new examples may flip, more than the margin; 1 - 0.05 ** (1 / 598) is just below 0.005."""
    assert said("f1", 0.0, 0.0, 1.0, examples=examples) == words
    assert said("loss", -0.001, 0.001, None, examples=examples) == "equivalent within 0.005"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("share", "flips"),
    [(0.2, 12), *(pytest.param(*level, marks=pytest.mark.exhaustive) for level in [(0.5, 5), (0.68, 20), (0.68, 50)])],
)
def test_equal_models_are_told_apart_in_one_of_twenty_samples_at_most(share: float, flips: int) -> None:
    """Both models' predictions of an example differ by a coin alone; the bare interval excludes 0 in 12 % at 5."""
    generator = np.random.default_rng(0)
    task = Task(**TASK)  # type: ignore[arg-type]
    p = EvaluateParams(splits=["validation"], confidence=0.95, resamples=1000, seed=0)
    alarms, samples, examples = {"accuracy": 0, "f1": 0}, 500, 408
    for _ in range(samples):
        labels = (generator.random(examples) < share).astype(np.int64)
        answers = np.where(generator.random(examples) < 0.8, labels, 1 - labels)
        other, first = generator.random(examples) < flips / examples, generator.random(examples) < 0.5
        before, after = np.where(other & first, 1 - answers, answers), np.where(other & ~first, 1 - answers, answers)
        pair = PairedPredictions(task, labels, np.eye(2)[before], np.eye(2)[after])
        split = compare_split("validation", pair, p, MARGIN)
        for one in split.differences:
            if one.metric in alarms:
                alarms[one.metric] += one.verdict in ("better", "worse")
    # 0.06 is what 5 % reach by chance in 500 samples one time in six
    assert max(alarms.values()) / samples <= 0.06, alarms


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (5, 5), (12, 3), (30, 10), (121, 59)])
def test_mcnemars_exact_test_is_that_of_statsmodels(gained: int, lost: int) -> None:
    expected = reference([[7, lost], [gained, 9]], exact=True).pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(expected, abs=1e-12)


def test_mcnemars_worked_example() -> None:
    """Six flips one way and none the other: 2 * (1/2) ** 6."""
    assert mcnemar(6, 0) == pytest.approx(0.03125, abs=1e-12)


@pytest.mark.parametrize(("problem", "columns"), [(CLASSES, 2), (CLASSES, 3), (SETS, 2)])
def test_the_swaps_are_those_of_all_examples_written_out(problem: str, columns: int) -> None:
    """Every way to swap 8 flips, scored by scikit-learn; the test draws 20,000 of them."""
    task = make_task(problem, columns)
    labels, (one, two) = draw(task, 60, models=2)
    flipped = np.flatnonzero((task.problem.predict(one) != task.problem.predict(two)).reshape(60, -1).any(axis=1))
    two[flipped[8:]] = one[flipped[8:]]
    found = swap_p_values(PairedPredictions(task, labels, one, two), 20_000, 0)
    as_far = dict.fromkeys(task.metrics, 0)
    for swaps in product((False, True), repeat=8):
        before, after = one.copy(), two.copy()
        rows = flipped[:8][list(swaps)]
        before[rows], after[rows] = two[rows], one[rows]
        for name in task.metrics:
            own, other = (
                abs(value(name, task, labels, b) - value(name, task, labels, a))
                for b, a in ((two, one), (after, before))
            )
            as_far[name] += other >= own - 1e-12
    for name, number in as_far.items():
        assert found[name] == pytest.approx(number / 2**8, abs=0.015), name


def test_the_swaps_of_an_accuracy_are_mcnemars() -> None:
    task = make_task(CLASSES, metrics=["accuracy"])
    labels, (one, two) = draw(task, 300, models=2)
    right = [logits.argmax(axis=1) == labels for logits in (one, two)]
    expected = stats.binomtest(int((right[1] & ~right[0]).sum()), int((right[0] != right[1]).sum())).pvalue
    assert swap_p_values(PairedPredictions(task, labels, one, two), 20_000, 0)["accuracy"] == pytest.approx(
        expected, abs=0.015
    )
    assert swap_p_values(PairedPredictions(task, labels, one, one), 1000, 0) == {"accuracy": 1.0}
