"""evaluate: the metrics by their definition, the confusion by counting."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as reference

from stages.evaluate import EvaluateParams, chosen_splits, evaluate
from stages.shared.errors import BadInput
from stages.shared.scoring import METRICS, check_metrics, score
from stages.shared.task import Task, write_task

PAIR_TASK = Task("files", "single_label_classification", ["no", "yes"], ["accuracy", "f1"], "files", "0")


def task(**changes: Any) -> Task:
    return Task(**(vars(PAIR_TASK) | changes))


def run(tmp_path: Path, labels: dict[str, np.ndarray], logits: dict[str, np.ndarray], of: Task, *splits: str) -> Any:
    for name in labels:
        folder = tmp_path / "predictions" / name
        folder.mkdir(parents=True)
        np.save(folder / "labels.npy", labels[name])
        np.save(folder / "logits.npy", logits[name])
    write_task(tmp_path / "task.json", of)
    evaluate(
        EvaluateParams(splits=list(splits)),
        tmp_path / "predictions",
        tmp_path / "task.json",
        tmp_path / "metrics.json",
        tmp_path / "plots",
    )
    return json.loads((tmp_path / "metrics.json").read_text())


def test_accuracy_f1_and_loss_are_those_of_the_definition(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 101)
    logits = generator.normal(size=(101, 2)).astype(np.float32)
    scores = run(tmp_path, {"validation": labels}, {"validation": logits}, PAIR_TASK, "validation")["validation"]
    probabilities = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum(axis=1, keepdims=True)
    assert scores["examples"] == 101
    assert scores["accuracy"] == pytest.approx((logits.argmax(1) == labels).mean(), abs=1e-12)
    assert scores["f1"] == pytest.approx(reference.f1_score(labels, logits.argmax(1)), abs=1e-12)
    assert scores["loss"] == pytest.approx(reference.log_loss(labels, probabilities), abs=1e-7)


def test_the_confusion_counts_every_pair_of_labels(tmp_path: Path) -> None:
    of = task(label_names=["a", "b", "c"], metrics=["accuracy"])
    labels, predicted = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 0])
    run(tmp_path, {"validation": labels}, {"validation": np.eye(3, dtype=np.float32)[predicted]}, of, "validation")
    with (tmp_path / "plots" / "confusion.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    counts = {(row["actual"], row["predicted"]): int(row["examples"]) for row in rows}
    assert len(rows) == 9 and sum(counts.values()) == 5
    assert counts["a", "a"] == 1 and counts["a", "b"] == 1 and counts["b", "b"] == 2 and counts["b", "a"] == 1


def test_only_the_chosen_splits_are_scored(tmp_path: Path) -> None:
    labels = {name: np.array([0, 1]) for name in ("validation", "test")}
    logits = {name: np.eye(2, dtype=np.float32) for name in labels}
    assert list(run(tmp_path, labels, logits, PAIR_TASK, "validation")) == ["validation"]


def test_validation_stands_for_both_of_mnli(tmp_path: Path) -> None:
    names = ["test_matched", "test_mismatched", "validation_matched", "validation_mismatched"]
    assert chosen_splits(["validation"], names) == ["validation_matched", "validation_mismatched"]
    assert chosen_splits(["validation_matched", "validation"], names) == names[2:]
    with pytest.raises(BadInput, match=r"evaluate.splits: no predictions for 'valid', only for test_matched, "):
        chosen_splits(["valid"], names)


def test_an_unlabelled_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"evaluate.splits: the test split has no labels to score against"):
        run(tmp_path, {"test": np.array([-1, -1])}, {"test": np.eye(2, dtype=np.float32)}, PAIR_TASK, "test")
    assert not (tmp_path / "metrics.json").exists()


def test_logits_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="validation: logits that are not finite; the training diverged"):
        run(
            tmp_path,
            {"validation": np.array([0])},
            {"validation": np.array([[np.nan, 0.0]], dtype=np.float32)},
            PAIR_TASK,
            "validation",
        )


def test_constant_predictions_score_and_do_not_crash() -> None:
    labels, constant = np.array([1, 0, 1]), np.tile(np.array([[1.0, 0.0]], dtype=np.float32), (3, 1))
    scores = score(task(metrics=["accuracy", "f1", "f1_macro", "matthews_correlation"]), constant, labels)
    assert scores["accuracy"] == pytest.approx(1 / 3)
    assert (scores["f1"], scores["f1_macro"], scores["matthews_correlation"]) == (0.0, 0.25, 0.0)
    numbers = task(problem_type="regression", label_names=[], metrics=["pearson", "spearmanr", "mean_squared_error"])
    scores = score(numbers, np.ones((3, 1), dtype=np.float32), labels.astype(np.float32))
    assert (scores["pearson"], scores["spearmanr"]) == (0.0, 0.0)
    assert scores["loss"] == scores["mean_squared_error"] == pytest.approx(1 / 3)


def test_multi_label_scores_are_those_of_the_definition() -> None:
    of = task(problem_type="multi_label_classification", metrics=["f1_micro", "f1_macro", "accuracy"])
    logits = np.array([[2.0, -1.0], [-3.0, 1.0], [1.0, 1.0]], dtype=np.float32)
    labels = np.array([[1, 0], [1, 1], [1, 1]], dtype=np.float32)
    scores = score(of, logits, labels)
    predicted = (logits > 0).astype(int)
    assert scores["accuracy"] == pytest.approx(2 / 3)
    assert scores["f1_micro"] == pytest.approx(reference.f1_score(labels, predicted, average="micro"))
    probabilities = 1 / (1 + np.exp(-logits.astype(float)))
    expected = -np.mean(labels * np.log(probabilities) + (1 - labels) * np.log(1 - probabilities))
    assert scores["loss"] == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_refused_where_it_is_not_defined(name: str) -> None:
    for problem in ("single_label_classification", "multi_label_classification", "regression"):
        of = task(problem_type=problem, metrics=[name])
        if problem in METRICS[name].problem_types:
            check_metrics(of)
        else:
            with pytest.raises(BadInput, match=f"download.metrics: {name} is not defined for {problem}; use "):
                check_metrics(of)


def test_f1_is_refused_for_three_classes() -> None:
    with pytest.raises(BadInput, match="f1 is that of two classes, not 3; use f1_macro or f1_micro"):
        check_metrics(task(label_names=["a", "b", "c"], metrics=["f1"]))
