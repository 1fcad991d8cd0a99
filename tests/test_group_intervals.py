"""Where examples come in groups, intervals and tests that take each for itself are wrong; simulated, by how much."""

import json

import numpy as np
import pytest

from benchmarks import sample
from benchmarks.recipes import CONFIDENCE, DRAWS, GROUPS, RESULT, alike, answers, coverage
from stages.shared.statistics.confidence import is_share, metric_intervals, probability_interval, unseen, why_withheld
from stages.shared.statistics.proportions import score_intervals
from stages.shared.statistics.swaps import PairedPredictions, swap_p_values
from stages.shared.task.groups import effective_examples, wilson_ends
from stages.shared.task.task import Task
from tests.test_statistics import CLASSES, SETS, draw, formula, make_task


def check(groups: int, draws: int, held: dict[str, dict[str, int]]) -> None:
    """The design effect is 1 + 7 * 0.3: intervals that take each example for itself are too narrow by a root of 3."""
    error = (0.05 * 0.95 / draws) ** 0.5
    assert max(held["alone"].values()) / draws < 0.85, (groups, held)
    assert min(held["grouped"].values()) / draws >= 0.92 - 2 * error, (groups, held)


@pytest.mark.slow
def test_intervals_of_alike_examples_hold_the_truth_only_if_groups_are_drawn() -> None:
    check(50, 300, coverage(50, 300))


def test_the_committed_figures_keep_what_is_promised() -> None:
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    assert [cell["groups"] for cell in result["groups"]] == list(GROUPS)
    for cell in result["groups"]:
        check(cell["groups"], result["draws"], cell["held"])


@pytest.mark.exhaustive
@pytest.mark.parametrize("groups", GROUPS)
def test_few_groups_and_many_simulated_anew(groups: int) -> None:
    check(groups, DRAWS, coverage(groups, DRAWS))


@pytest.mark.slow
def test_equal_models_are_rarely_told_apart_if_groups_are_swapped() -> None:
    """Of 50 groups of 8 in which the flips go one way together, McNemar's test is wrong in a third of all samples."""
    generator, draws = np.random.default_rng(0), 300
    task: Task = make_task(CLASSES, metrics=["accuracy", "f1"])
    members, alarms = np.repeat(np.arange(50), 8), {False: 0, True: 0}
    for seed in range(draws):
        labels = generator.integers(0, 2, 400)
        flipped, way = generator.random(400) < 0.2, np.repeat(generator.random(50) < 0.5, 8)
        right = generator.random(400) < 0.8
        models = [answers(labels, np.where(flipped, way == first, right)) for first in (True, False)]
        for whole in alarms:
            pair = PairedPredictions(task, labels, models[0], models[1], members if whole else None)
            alarms[whole] += swap_p_values(pair, 400, seed)["accuracy"] < 0.05
    assert alarms[False] / draws > 0.15
    assert alarms[True] / draws <= 0.065 + 2 * (0.05 * 0.95 / draws) ** 0.5


def test_examples_that_are_not_alike_count_nearly_as_many_as_they_are() -> None:
    generator = np.random.default_rng(0)
    right, groups = generator.random(4000) < 0.8, np.arange(4000) // 4
    assert effective_examples(right, groups, CONFIDENCE) == pytest.approx(4000, rel=0.06)
    assert effective_examples(np.repeat(right[:1000], 4), groups, CONFIDENCE) == pytest.approx(1000, rel=0.01)


@pytest.mark.parametrize(("problem", "columns"), [(CLASSES, 2), (CLASSES, 3), (SETS, 2)])
@pytest.mark.parametrize("models", [1, 2])
def test_class_wise_intervals_are_of_groups_too(problem: str, columns: int, models: int) -> None:
    """Eight equal examples a group say as much as one of them, and Student's quantile makes that a little less."""
    task = make_task(problem, columns)
    labels, logits = draw(task, 300, models=models)
    predictions = [task.problem.predict(one) for one in logits]
    formulas = {name: formula(name) for name in task.metrics if not is_share(task, name)}
    single = score_intervals(task, labels, predictions, formulas, CONFIDENCE)
    repeated = labels.repeat(8, axis=0), [one.repeat(8, axis=0) for one in predictions]
    alone = score_intervals(task, *repeated, formulas, CONFIDENCE)
    whole = score_intervals(task, *repeated, formulas, CONFIDENCE, np.repeat(np.arange(300), 8))
    for name, (low, high) in single.items():
        width = whole[name][1] - whole[name][0]
        assert high - low <= width <= 1.06 * (high - low), name
        assert width > 2 * (alone[name][1] - alone[name][0]), name


def test_a_model_that_is_always_right_in_few_groups_is_not_sure_by_all_their_examples() -> None:
    task, members = make_task(CLASSES, metrics=["f1", "recall"]), np.repeat(np.arange(40), 8)
    labels = np.repeat(np.arange(40) % 2, 8)
    logits = answers(labels, np.ones(320, dtype=bool))
    found = metric_intervals(task, labels, [logits], confidence=CONFIDENCE, resamples=200, seed=0, groups=members)
    once = metric_intervals(task, labels[::8], [logits[::8]], confidence=CONFIDENCE, resamples=200, seed=0)
    for name in task.metrics:
        low, single = found[name].low, once[name].low
        assert low is not None and single is not None and single - 0.03 < low < single


@pytest.mark.parametrize("metric", ["f1", "loss"])
def test_few_groups_with_a_label_or_with_mistakes_are_few_however_many_examples_they_have(metric: str) -> None:
    """Four groups have all 32 examples of a label, and all 32 mistakes."""
    task, members = make_task(CLASSES), np.repeat(np.arange(60), 8)
    labels = (members < 4).astype(np.int64)
    reason = {
        "f1": "4 groups with 'label 1'; an interval takes 5 of each label",
        "loss": "4 groups with wrong answers carry the loss; its interval takes 20",
    }[metric]
    assert why_withheld(task, metric, labels, [np.zeros_like(labels)], members) == reason
    assert why_withheld(task, metric, labels, [np.zeros_like(labels)]) is None


def test_groups_of_which_none_changes_may_be_missed_like_examples() -> None:
    task = make_task(CLASSES, metrics=["accuracy"])
    labels, (logits,) = draw(task, 400)
    pair, groups = [logits, logits], np.arange(400) // 8
    alone, whole = (unseen(task, "loss", labels, pair, CONFIDENCE, 0, of) for of in (None, groups))
    assert whole / alone == pytest.approx((400 + 1.96**2) / (50 + 1.96**2), rel=1e-4)


@pytest.mark.parametrize("name", ["roc_auc", "average_precision", "brier_score"])
def test_metrics_of_probabilities_are_of_groups_too(name: str) -> None:
    task = make_task(CLASSES)
    labels, (logits,) = draw(task, 60)
    repeated = labels.repeat(8), logits.repeat(8, axis=0)
    _, single = probability_interval(task, name, labels, logits, CONFIDENCE)
    _, whole = probability_interval(task, name, *repeated, CONFIDENCE, np.repeat(np.arange(60), 8))
    assert single.low is not None and (whole.low, whole.high) == pytest.approx((single.low, single.high))
    right = np.stack([-(2.0 * labels - 1), 2.0 * labels - 1], axis=1)  # nothing but unseen examples widens this one
    _, single = probability_interval(task, name, labels, right, CONFIDENCE)
    _, whole = probability_interval(
        task, name, labels.repeat(8), right.repeat(8, axis=0), CONFIDENCE, np.repeat(np.arange(60), 8)
    )
    assert (whole.low, whole.high) == pytest.approx((single.low, single.high))


def test_it_is_the_design_effect_of_the_analysis_of_variance() -> None:
    """Kish: 1 + (m - 1) * rho, by a correlation within groups that is known."""
    right = alike(np.random.default_rng(0), 4000, 5, 0.7, 0.4)
    found = len(right) / effective_examples(right, np.arange(len(right)) // 5, CONFIDENCE)
    assert found == pytest.approx(1 + 4 * 0.4, rel=0.05)


def test_where_all_are_right_each_group_counts_as_one() -> None:
    groups = np.arange(60) // 3
    assert effective_examples(np.ones(60, dtype=bool), groups, CONFIDENCE) < 20
    assert effective_examples(np.ones(60, dtype=bool), np.zeros(60, dtype=np.int64), CONFIDENCE) == 1


@pytest.mark.parametrize(("right", "examples", "low", "high"), [(81, 263, 0.2553, 0.3662), (0, 20, 0.0, 0.1611)])
def test_the_score_interval_is_newcombes(right: int, examples: int, low: float, high: float) -> None:
    """Newcombe (1998), Statistics in Medicine 17, table I, method 3."""
    assert wilson_ends(right / examples, examples, CONFIDENCE) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("corpus", "column", "expected"),
    [
        ("hard", "fact", {"majority class": 0.0, "word overlap": 0.46, "bag of words": 0.70}),
        pytest.param("sample", "group", {"majority class": 0.0}, marks=pytest.mark.release),
    ],
)
def test_the_bundled_pairs_of_a_group_are_less_alike_than_others(
    corpus: str, column: str, expected: dict[str, float]
) -> None:
    """A group has as many pairs with one label as with the other, told in the same words: who says the same of all of
    them is right in half. Taken each for itself, the pairs give a standard error that is far too large."""
    train, rows = (sample.CORPORA[corpus].read(split) for split in ("train", "test"))
    _, group = np.unique([row[column] for row in rows], return_inverse=True)
    for name, ratio in expected.items():
        right = sample.BASELINES[name](train, rows) == sample.labels(rows)
        away = np.bincount(group, weights=right - right.mean())
        error = (np.sum(away**2) * len(away) / (len(away) - 1)) ** 0.5 / len(right)
        assert error / (right.var() / len(right)) ** 0.5 == pytest.approx(ratio, abs=0.02), name
