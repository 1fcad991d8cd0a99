"""What choosing the best epoch was worth: corrected by repeating the choice, held to what is true of made models."""

from typing import Any

import numpy as np
import pytest

from stages.evaluate.selection import selection_cost
from stages.shared.task.metrics import METRICS
from tests.test_statistics import CLASSES, NUMBERS, SETS, draw, make_task


def epochs_of(labels: np.ndarray, accuracies: list[float], generator: np.random.Generator) -> np.ndarray:
    right = generator.random((len(accuracies), len(labels))) < np.array(accuracies)[:, None]
    return np.where(right, labels, 1 - labels).astype(np.uint8)


def best_of(labels: np.ndarray, epochs: np.ndarray) -> int:
    return int((epochs == labels).mean(axis=1).argmax())


def test_of_equal_epochs_the_choice_cost_nothing() -> None:
    labels = np.random.default_rng(0).integers(0, 2, 100)
    epochs = np.stack([np.ones(100, dtype=np.uint8)] * 3)
    cost = selection_cost(make_task(CLASSES, metrics=["accuracy"]), labels, epochs, 0, 0)
    assert cost.value == cost.corrected == pytest.approx(labels.mean()) and cost.lost == 0


def test_the_corrected_score_is_the_true_one_on_average() -> None:
    """Ten epochs that are all right in 0.7 of new examples: the best of them says 0.75."""
    generator, task = np.random.default_rng(0), make_task(CLASSES, metrics=["accuracy"])
    values, corrected = [], []
    for sample in range(60):
        labels = generator.integers(0, 2, 200)
        epochs = epochs_of(labels, [0.7] * 10, generator)
        cost = selection_cost(task, labels, epochs, best_of(labels, epochs), sample)
        values.append(cost.value)
        corrected.append(cost.corrected)
        assert cost.lost == pytest.approx(cost.value - cost.corrected)
    assert np.mean(values) > 0.74
    assert np.mean(corrected) == pytest.approx(0.7, abs=0.012)


def test_where_one_epoch_is_far_better_the_choice_is_free() -> None:
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 2, 400)
    epochs = epochs_of(labels, [0.5, 0.9, 0.6], generator)
    cost = selection_cost(make_task(CLASSES, metrics=["accuracy"]), labels, epochs, 1, 0)
    assert cost.lost == 0


def test_it_is_the_papers_mean_over_the_examples_left_out() -> None:
    generator = np.random.default_rng(2)
    labels = generator.integers(0, 2, 150)
    epochs = epochs_of(labels, [0.7, 0.72, 0.74], generator)
    cost = selection_cost(make_task(CLASSES, metrics=["accuracy"]), labels, epochs, best_of(labels, epochs), 0)
    right, plain = epochs == labels, []
    for _ in range(3000):
        drawn = generator.integers(0, 150, 150)
        out = np.setdiff1d(np.arange(150), drawn)
        plain.append(right[right[:, drawn].mean(axis=1).argmax(), out].mean())
    assert cost.corrected == pytest.approx(np.mean(plain), abs=0.006)


@pytest.mark.parametrize(("problem", "columns"), [(CLASSES, 3), (SETS, 3), (NUMBERS, 1)])
def test_every_metric_that_can_choose_can_be_corrected(problem: Any, columns: int) -> None:
    for name in make_task(problem, columns).metrics:
        task = make_task(problem, columns, metrics=[name])
        labels, logits = draw(task, 200, models=4)
        epochs = np.stack([task.problem.predict(one) for one in logits])
        scores = [METRICS[name].score(labels, one) for one in epochs]
        sign = 1 if METRICS[name].greater_is_better else -1
        kept = int(np.argmax([sign * score for score in scores]))
        cost = selection_cost(task, labels, epochs, kept, 0)
        assert cost.value == pytest.approx(scores[kept], abs=1e-6), name
        assert cost.lost >= -0.005 and cost.lost == pytest.approx(sign * (cost.value - cost.corrected)), name


def test_groups_are_left_out_whole() -> None:
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 2, 300)
    epochs = np.repeat(epochs_of(labels[::10], [0.7] * 6, generator), 10, axis=1)
    labels = np.repeat(labels[::10], 10)
    task, kept = make_task(CLASSES, metrics=["accuracy"]), best_of(labels, epochs)
    alone, together = (selection_cost(task, labels, epochs, kept, 0, groups) for groups in (None, np.arange(300) // 10))
    assert together.lost > alone.lost + 0.01
