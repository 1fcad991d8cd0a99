"""Where examples come in groups, intervals and tests that take each for itself are wrong; simulated, by how much."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks import sample
from checks.swaps import PairedPredictions, swap_p_values
from stages.evaluate.confidence import metric_intervals
from stages.shared.task.groups import effective_examples, wilson_ends
from stages.shared.task.task import Task
from tests.test_statistics import CLASSES, make_task

CONFIDENCE = 0.95


def alike(generator: np.random.Generator, groups: int, size: int, share: float, alikeness: float) -> np.ndarray:
    """Draws bool[groups * size], in groups whose members agree beyond chance: `alikeness` is their correlation."""
    spread = (1 - alikeness) / alikeness
    of_group = generator.beta(share * spread, (1 - share) * spread, groups)
    return generator.random(groups * size) < np.repeat(of_group, size)


def answers(labels: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Returns logits that are right where they are to be, and surer the later the example."""
    predicted = np.where(right, labels, 1 - labels)
    return (np.eye(2)[predicted] * np.linspace(1, 2, len(labels))[:, None]).astype(np.float32)


def coverage(make: Callable[[], tuple[np.ndarray, np.ndarray]], groups: np.ndarray, draws: int, **truth: float) -> Any:
    """Returns how often the interval holds the truth of each metric: {groups drawn whole or not: {metric: share}}."""
    task = make_task(CLASSES, metrics=list(truth))
    held = {whole: dict.fromkeys(truth, 0) for whole in (False, True)}
    for draw in range(draws):
        labels, right = make()
        for whole, counts in held.items():
            found = metric_intervals(
                task,
                labels,
                [answers(labels, right)],
                confidence=CONFIDENCE,
                resamples=400,
                seed=draw,
                groups=groups if whole else None,
            )
            for name, true in truth.items():
                low, high = found[name].low, found[name].high
                assert low is not None and high is not None
                counts[name] += low <= true <= high
    return {whole: {name: count / draws for name, count in counts.items()} for whole, counts in held.items()}


def check(groups: int, draws: int) -> None:
    generator = np.random.default_rng(0)
    size, members = 8, np.repeat(np.arange(groups), 8)

    def make() -> tuple[np.ndarray, np.ndarray]:
        return generator.integers(0, 2, groups * size), alike(generator, groups, size, 0.8, 0.3)

    found = coverage(make, members, draws, accuracy=0.8, f1=0.8)
    error = (0.05 * 0.95 / draws) ** 0.5
    print(f"{groups} groups of {size}: {found} ± {error:.3f}")
    assert max(found[False].values()) < 0.85, found  # the design effect is 1 + 7 * 0.3
    assert min(found[True].values()) >= 0.92 - 2 * error, found


@pytest.mark.slow
def test_intervals_of_alike_examples_hold_the_truth_only_if_groups_are_drawn() -> None:
    check(groups=50, draws=300)


@pytest.mark.exhaustive
@pytest.mark.parametrize("groups", [20, 30, 50, 100])
def test_the_same_of_few_groups_and_many(groups: int) -> None:
    check(groups, draws=2000)


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
