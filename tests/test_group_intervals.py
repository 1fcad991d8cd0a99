"""Where examples come in groups, intervals and tests that take each for itself are wrong; simulated, by how much."""

import json

import numpy as np
import pytest

from benchmarks import sample
from benchmarks.recipes import CONFIDENCE, DRAWS, GROUPS, RESULT, alike, answers, coverage
from checks.swaps import PairedPredictions, swap_p_values
from stages.shared.task.groups import effective_examples, wilson_ends
from stages.shared.task.task import Task
from tests.test_statistics import CLASSES, make_task


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
    for draw in range(draws):
        labels = generator.integers(0, 2, 400)
        flipped, way = generator.random(400) < 0.2, np.repeat(generator.random(50) < 0.5, 8)
        right = generator.random(400) < 0.8
        models = [answers(labels, np.where(flipped, way == first, right)) for first in (True, False)]
        for whole in alarms:
            pair = PairedPredictions(task, labels, *models, members if whole else None)
            alarms[whole] += swap_p_values(pair, 400, draw)["accuracy"] < 0.05
    assert alarms[False] / draws > 0.15
    assert alarms[True] / draws <= 0.065 + 2 * (0.05 * 0.95 / draws) ** 0.5


def test_examples_that_are_not_alike_count_nearly_as_many_as_they_are() -> None:
    generator = np.random.default_rng(0)
    right, groups = generator.random(4000) < 0.8, np.arange(4000) // 4
    assert effective_examples(right, groups, CONFIDENCE) == pytest.approx(4000, rel=0.06)
    assert effective_examples(np.repeat(right[:1000], 4), groups, CONFIDENCE) == pytest.approx(1000, rel=0.01)


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
        ("sample", "group", {"majority class": 0.0}),
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
