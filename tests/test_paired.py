"""Comparisons of two models: words that interval and test bear out, held to statsmodels and to all swaps."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as reference
from statsmodels.stats.multitest import multipletests

from stages.shared.statistics import swaps as module
from stages.shared.statistics.confidence import MetricInterval, metric_intervals
from stages.shared.statistics.labels import METRICS_OF_A_LABEL
from stages.shared.statistics.paired import (
    ALPHA,
    checked_margin,
    compare_labels,
    compare_split,
    detectable,
    holm,
    judged,
    loss_from_flips,
    paired_intervals,
    verdict,
)
from stages.shared.statistics.params import EvaluateParams
from stages.shared.statistics.swaps import PairedPredictions, Sums, mcnemar, p_values, swap_p_values, swapped_sums
from tests.test_statistics import CLASSES, NUMBERS, SETS, draw, make_task, value

PARAMS = EvaluateParams(splits=["validation"], metrics=[], confidence=0.95, resamples=1000, seed=0, per_class=False)


@pytest.mark.parametrize(
    ("metric", "low", "high", "p_holm", "words"),
    [
        ("accuracy", -0.02, 0.01, 0.2, "cannot be told apart"),
        ("accuracy", 0.001, 0.02, 0.01, "better"),
        ("accuracy", -0.02, -0.001, 0.01, "worse"),
        ("accuracy", 0.001, 0.004, 0.01, "equivalent within 0.005"),
        ("accuracy", -0.004, -0.001, 0.01, "equivalent within 0.005"),
        ("accuracy", -0.006, 0.004, 0.9, "cannot be told apart"),
        ("loss", 0.001, 0.02, 0.01, "worse"),
        ("mean_squared_error", -0.02, -0.001, 0.01, "better"),
        ("accuracy", 0.001, 0.02, 0.05, "cannot be told apart"),  # the test must agree
        ("f1", -0.001, 0.02, 0.01, "cannot be told apart"),  # and the interval
    ],
)
def test_the_words_follow_interval_test_and_direction(
    metric: str, low: float, high: float, p_holm: float, words: str
) -> None:
    difference = (low + high) / 2
    assert verdict(metric, low, high, difference, p_holm=p_holm, alpha=0.05, margin=0.005) == words


@pytest.mark.parametrize(("metric", "words"), [("f1", "worse"), ("loss", "better")])
def test_without_an_interval_nothing_is_equivalent_and_the_test_decides(metric: str, words: str) -> None:
    """A randomization test needs no interval."""
    assert verdict(metric, None, None, -0.001, p_holm=0.01, alpha=0.05, margin=0.005) == words
    assert verdict(metric, None, None, 0.0, p_holm=1.0, alpha=0.05, margin=0.005) == "cannot be told apart"


@pytest.mark.parametrize("seed", range(5))
def test_holms_correction_is_that_of_statsmodels(seed: int) -> None:
    generator = np.random.default_rng(seed)
    found = list(generator.random(seed + 1) ** 3)
    assert holm(found) == pytest.approx(list(multipletests(found, method="holm")[1]))


def test_holms_worked_example() -> None:
    """Three of 0.01, 0.02, 0.03: 3 * 0.01, 2 * 0.02, and no less than the one before."""
    assert holm([0.03, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([]) == []


def test_the_words_of_all_splits_are_corrected_together() -> None:
    """8 flips one way have p = 0.0078: 3 times that on one split, 6 times on two."""
    task = make_task(CLASSES, metrics=["accuracy", "f1"])
    labels = np.arange(200) % 2
    before, after = (
        2 * np.eye(2, dtype=np.float32)[np.where(np.arange(200) < wrong, 1 - labels, labels)] for wrong in (40, 32)
    )
    p = replace(PARAMS, resamples=20_000)
    split = compare_split("one", PairedPredictions(task, labels, before, after), p, ALPHA, {})
    (alone,) = judged([split], ALPHA)
    both = judged([split, split], ALPHA)
    assert alone.differences[0].p_holm == pytest.approx(3 * 2**-7, abs=5e-3)
    assert both[1].differences[0].p_holm == pytest.approx(6 * 2**-7, abs=0.01)
    assert [one.primary for part in both for one in part.differences] == [True] + [False] * 5


def test_the_detectable_difference_is_that_of_the_textbook() -> None:
    """2.8 standard errors (Bloom 1995): with 12 % flips and 408 examples 0.048, with 20 about 0.22."""
    for examples, expected in ((408, 0.048), (20, 0.217)):
        half = 1.959964 * float(np.sqrt(0.12 / examples))
        found = detectable(MetricInterval(-half, half, "tango", None), 0.05)
        assert found == pytest.approx(expected, abs=1e-3)
    assert detectable(MetricInterval(None, None, "bootstrap", "few"), 0.05) is None


@pytest.mark.parametrize(("metric", "margin"), [("accuracy", 0.0), ("pearson", 0.5), ("loss", 10.0), ("", 0.9)])
def test_what_can_be_a_margin(metric: str, margin: float) -> None:
    assert checked_margin(metric, margin) == margin


@pytest.mark.parametrize(
    ("metric", "margin"),
    [("accuracy", 1.0), ("", 10.0), ("loss", -1.0), ("loss", np.nan), ("", np.nan), ("loss", np.inf)],
)
def test_what_cannot_be_a_margin(metric: str, margin: float) -> None:
    with pytest.raises(ValueError, match=r"must be a finite number, at least 0.*, got "):
        checked_margin(metric, margin)


def test_how_much_of_the_loss_flips_make_up() -> None:
    """By hand: a flip of two logits 2 apart changes the loss by 2; the other example's answer is only surer."""
    task = make_task(CLASSES)
    before = np.array([[0, 2], [0, 2]], dtype=np.float32)
    after = np.array([[2, 0], [0, 3]], dtype=np.float32)
    flip, other = -2.0, float(np.log1p(np.exp(-3)) - np.log1p(np.exp(-2)))
    labels = np.array([0, 1])
    assert loss_from_flips(PairedPredictions(task, labels, before, after)) == pytest.approx(flip / (flip + other))
    assert loss_from_flips(PairedPredictions(task, labels, before, before)) is None


def test_the_losses_of_two_models_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a million examples with fifty classes they are most of the time of a comparison."""
    task = make_task(CLASSES)
    labels, logits = draw(task, 200, models=2)
    computed = []
    inner = module.example_losses
    monkeypatch.setattr(module, "example_losses", lambda *given: computed.append(1) or inner(*given))
    pair = PairedPredictions(task, labels, *logits)
    compare_split("validation", pair, PARAMS, 0.05, {})
    assert len(computed) == 2
    known = paired_intervals(pair, PARAMS, 0.05)
    assert known == metric_intervals(task, labels, logits, confidence=0.95, resamples=1000, seed=0)


def test_of_a_label_only_what_is_shown_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(CLASSES, 3)
    labels, logits = draw(task, 200, models=2)
    monkeypatch.setattr(module, "example_losses", lambda *_: pytest.fail("a loss was computed"))
    found = compare_labels(PairedPredictions(task, labels, *logits), [2, 0], PARAMS, 0.05, {})
    names = [(one.label, one.metric) for one in found]
    assert names == [(label, metric) for label in ("label 2", "label 0") for metric in METRICS_OF_A_LABEL]


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (5, 5), (12, 3), (30, 10), (121, 59)])
def test_mcnemars_exact_test_is_that_of_statsmodels(gained: int, lost: int) -> None:
    expected = reference([[7, lost], [gained, 9]], exact=True).pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(expected, abs=1e-12)


def test_mcnemars_worked_example() -> None:
    """Six flips one way and none the other: 2 * (1/2) ** 6."""
    assert mcnemar(6, 0) == pytest.approx(0.03125, abs=1e-12)


@pytest.mark.parametrize(("problem", "columns"), [(CLASSES, 2), (CLASSES, 3), (SETS, 2)])
def test_the_swaps_are_those_of_all_examples_written_out(problem: str, columns: int) -> None:
    """Every way to swap 6 flips, scored by scikit-learn; the test draws 20,000 of them."""
    task = make_task(problem, columns)
    labels, (one, two) = draw(task, 60, models=2)
    flipped = np.flatnonzero((task.problem.predict(one) != task.problem.predict(two)).reshape(60, -1).any(axis=1))
    two[flipped[6:]] = one[flipped[6:]]
    found = swap_p_values(PairedPredictions(task, labels, one, two), 20_000, 0)
    as_far = dict.fromkeys(task.metrics, 0)
    for swaps in product((False, True), repeat=6):
        before, after = one.copy(), two.copy()
        rows = flipped[:6][list(swaps)]
        before[rows], after[rows] = two[rows], one[rows]
        for name in task.metrics:
            own, other = (
                abs(value(name, task, labels, b) - value(name, task, labels, a))
                for b, a in ((two, one), (after, before))
            )
            as_far[name] += other >= own - 1e-12
    for name, number in as_far.items():
        assert found[name] == pytest.approx(number / 2**6, abs=0.015), name


def test_the_swaps_of_an_accuracy_are_mcnemars() -> None:
    task = make_task(CLASSES, metrics=["accuracy"])
    labels, (one, two) = draw(task, 300, models=2)
    right = [logits.argmax(axis=1) == labels for logits in (one, two)]
    expected = stats.binomtest(int((right[1] & ~right[0]).sum()), int((right[0] != right[1]).sum())).pvalue
    pair = PairedPredictions(task, labels, one, two)
    drawn = [sums for sums in swapped_sums(pair, task.metrics) if "accuracy" in sums.statistics]
    assert p_values(drawn[0], 20_000, 0)["accuracy"] == pytest.approx(expected, abs=0.015)
    assert swap_p_values(pair, 1000, 0)["accuracy"] == pytest.approx(expected, abs=1e-12)
    assert swap_p_values(PairedPredictions(task, labels, one, one), 1000, 0) == {"accuracy": 1.0, "loss": 1.0}


@pytest.mark.parametrize("problem", [CLASSES, NUMBERS])
def test_the_signs_of_a_mean_are_all_signs_written_out(problem: str) -> None:
    """Ten examples differ; there are 2 ** 10 ways to turn their signs."""
    metric = "accuracy" if problem == CLASSES else "mean_squared_error"
    task = make_task(problem, metrics=[metric])
    labels, (one, two) = draw(task, 40, models=2)
    two[10:] = one[10:]
    change = task.problem.losses(two, labels) - task.problem.losses(one, labels)
    signs = np.array(list(product((-1, 1), repeat=10)))
    expected = np.mean(np.abs(signs @ change[:10]) >= abs(change.sum()) * (1 - 1e-9))
    found = swap_p_values(PairedPredictions(task, labels, one, two), 20_000, 0)
    assert found["loss"] == pytest.approx(expected, abs=0.015)
    if problem == NUMBERS:
        assert found[metric] == found["loss"]


@pytest.mark.parametrize("metric", ["pearson", "spearmanr"])
def test_the_swaps_of_a_correlation_are_those_of_standardized_predictions(metric: str) -> None:
    """All 2 ** 9 of them; that one model's numbers have another scale changes nothing."""
    task = make_task(NUMBERS, metrics=[metric])
    labels, (one, two) = draw(task, 9, models=2)
    columns = [array[:, 0].astype(float) for array in (one, two)]
    if metric == "spearmanr":
        columns = [stats.rankdata(column) for column in columns]
    a, b = (stats.zscore(column) for column in columns)
    y = stats.rankdata(labels) if metric == "spearmanr" else labels
    own = abs(np.corrcoef(b, y)[0, 1] - np.corrcoef(a, y)[0, 1])
    far = 0
    for swaps in product((False, True), repeat=9):
        where = np.array(swaps)
        first, second = np.where(where, b, a), np.where(where, a, b)
        far += abs(np.corrcoef(second, y)[0, 1] - np.corrcoef(first, y)[0, 1]) >= own * (1 - 1e-9)
    for other in (two, 100 * two + 7):
        found = swap_p_values(PairedPredictions(task, labels, one, other), 20_000, 0)[metric]
        assert found == pytest.approx(far / 2**9, abs=0.015)


def test_groups_are_swapped_whole() -> None:
    """Six groups of five equal examples that all go one way are six flips, not thirty."""
    task = make_task(CLASSES, metrics=["accuracy", "f1"])
    groups = np.arange(100).repeat(5)
    labels = groups % 2
    wrong = np.where(groups < 6, 1 - labels, labels)
    before, after = (2 * np.eye(2, dtype=np.float32)[one] for one in (wrong, labels))
    found = swap_p_values(PairedPredictions(task, labels, before, after, groups), 20_000, 0)
    assert found == pytest.approx(dict.fromkeys(("accuracy", "f1", "loss"), 2**-5), abs=0.005)


def test_blocks_of_many_examples_have_the_p_value_of_single_ones() -> None:
    changes = np.random.default_rng(0).normal(0.006, 1.0, 50_000)
    expected = 2 * stats.norm.sf(abs(changes.sum()) / np.sqrt(np.sum(changes**2)))
    assert 0.01 < expected < 0.5
    for blocks in (50_000, 2000):
        steps = changes.reshape(blocks, -1).sum(axis=1)[:, np.newaxis]
        sums = Sums(np.zeros(1), steps, np.ones(blocks, dtype=np.int64), {"mean": lambda moved: moved[:, 0] / 50_000})
        assert p_values(sums, 2000, 0)["mean"] == pytest.approx(expected, abs=0.04)
