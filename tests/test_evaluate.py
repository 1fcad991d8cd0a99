"""evaluate: the metrics by their definition, the confusion by counting, and what it says against its own scores."""

import csv
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.special import softmax
from sklearn import metrics as reference

from stages.evaluate import score_warnings
from stages.evaluate.calibration import Bin, calibration_bins, calibration_error, error_by_chance
from stages.evaluate.evaluate import EvaluateFiles, evaluate
from stages.evaluate.plots import HEADERS
from stages.shared.runtime.errors import BadInput
from stages.shared.statistics.confidence import probability_interval
from stages.shared.statistics.params import EvaluateParams
from stages.shared.statistics.probabilities import average_precision, probability_influence, roc_auc, unseen_ends
from stages.shared.task.asked import chosen_splits, extra_metrics
from stages.shared.task.calibration import Calibration, Fit, folds_of, write_calibration
from stages.shared.task.metrics import METRICS, check_metrics
from stages.shared.task.overlap import NEAR_DUPLICATE, SAME_TEXTS, write_overlap
from stages.shared.task.scorer import score
from stages.shared.task.task import Task, write_task
from tests.tiny import EXECUTION

PAIR_TASK = Task("files", "single_label_classification", ["no", "yes"], ["accuracy", "f1"], "files", "0")


def task(**changes: Any) -> Task:
    return Task(**(vars(PAIR_TASK) | changes))


SELECTION = {"keep": "last", "epoch": 3, "epochs_trained": 3, "split": "validation", "metric": "accuracy", "value": 1.0}


def run(
    tmp_path: Path,
    labels: dict[str, np.ndarray],
    logits: dict[str, np.ndarray],
    of: Task,
    *splits: str,
    sizes: Any = None,
    shared: Any = (),
    near_duplicates: Any = (),
    flags: Any = None,
    epochs: Any = None,
    groups: Any = None,
    metrics: Sequence[str] = (),
    calibration: Calibration | None = None,
    per_class: bool | list[str] = False,
    **selection: Any,
) -> Any:
    for name in labels:
        folder = tmp_path / "predictions" / name
        folder.mkdir(parents=True)
        np.save(folder / "labels.npy", labels[name])
        np.save(folder / "logits.npy", logits[name])
        write_overlap(tmp_path / "overlap", name, np.zeros(len(labels[name]), np.uint8) if flags is None else flags)
        table = pa.table({"text": [""] * len(labels[name])} | ({} if groups is None else {"group": groups}))
        (tmp_path / "raw" / name).mkdir(parents=True)
        with pa.ipc.new_stream(tmp_path / "raw" / name / "data-00000-of-00001.arrow", table.schema) as stream:
            stream.write_table(table)
    write_task(tmp_path / "raw" / "task.json", of)
    if epochs is not None:
        np.save(tmp_path / "epochs.npy", epochs)
    sizes = {"train": 100} | {name: len(labels[name]) for name in labels} | (sizes or {})
    data = {"splits": [{"split": name, "examples": size} for name, size in sizes.items()], "shared": list(shared)}
    data["near_duplicates"] = list(near_duplicates)
    (tmp_path / "data.json").write_text(json.dumps(data))
    (tmp_path / "selection.json").write_text(json.dumps({"selection": [SELECTION | selection]}))
    write_calibration(tmp_path / "calibration.json", calibration, "off")
    places = {field.name: tmp_path / field.default.name for field in fields(EvaluateFiles)}
    plots = {name: tmp_path / "plots" / f"{name}.csv" for name in HEADERS}
    p = EvaluateParams(
        splits=list(splits), metrics=list(metrics), confidence=0.95, resamples=500, seed=0, per_class=per_class
    )
    evaluate(p, EXECUTION, EvaluateFiles(**(places | plots)))
    return json.loads((tmp_path / "metrics.json").read_text())


def found(tmp_path: Path, name: str) -> list[dict[str, Any]]:
    return list(json.loads((tmp_path / f"{name}.json").read_text())[name])


def warned(tmp_path: Path) -> dict[str, str]:
    return {warning["guard"]: warning["message"] for warning in found(tmp_path, "warnings")}


def plot(tmp_path: Path, name: str) -> list[dict[str, str]]:
    with (tmp_path / "plots" / f"{name}.csv").open() as stream:
        return list(csv.DictReader(stream))


def pairs(examples: int, right: float | None = None, spread: float = 1.0) -> tuple[dict[str, Any], dict[str, Any]]:
    """Labels and logits of a validation split that is right in a share `right`, or as often as its logits say."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, examples)
    margin = generator.uniform(0.5, 3.0, examples)
    odds = 1 / (1 + np.exp(-margin)) if right is None else right
    predicted = np.where(generator.random(examples) < odds, labels, 1 - labels)
    logits = spread * margin[:, None] * np.eye(2)[predicted]
    return {"validation": labels}, {"validation": logits.astype(np.float32)}


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
    with pytest.raises(BadInput, match=r"evaluate.splits: no split 'valid' to score, only test_matched, "):
        chosen_splits(["valid"], names)


def test_an_unlabelled_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"evaluate.splits: the test split has no labels to score against"):
        run(tmp_path, {"test": np.array([-1, -1])}, {"test": np.eye(2, dtype=np.float32)}, PAIR_TASK, "test")
    assert not (tmp_path / "metrics.json").exists()


def test_logits_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="validation: non-finite logits in row 1; the training diverged"):
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
    of = task(problem_type="multi_label_classification", metrics=["f1_micro", "f1_macro", "accuracy", "recall_macro"])
    logits = np.array([[2.0, -1.0], [-3.0, 1.0], [1.0, 1.0]], dtype=np.float32)
    labels = np.array([[1, 0], [1, 1], [1, 1]], dtype=np.float32)
    scores = score(of, logits, labels)
    predicted = (logits > 0).astype(int)
    assert scores["accuracy"] == pytest.approx(2 / 3)
    assert scores["f1_micro"] == pytest.approx(reference.f1_score(labels, predicted, average="micro"))
    assert scores["recall_macro"] == pytest.approx(reference.recall_score(labels, predicted, average="macro"))
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
    with pytest.raises(BadInput, match="f1 is for two classes, not 3; use f1_macro or f1_micro"):
        check_metrics(task(label_names=["a", "b", "c"], metrics=["f1"]))


def test_every_metric_has_an_interval(tmp_path: Path) -> None:
    labels, logits = pairs(200, 0.8)
    metrics = run(tmp_path, labels, logits, PAIR_TASK, "validation")["validation"]
    records = found(tmp_path, "intervals")
    methods = [(record["metric"], record["method"]) for record in records]
    assert methods == [("accuracy", "wilson"), ("f1", "bootstrap"), ("loss", "student")]
    for record in records:
        assert record["value"] == metrics[record["metric"]] and record["low"] < record["value"] < record["high"]
        assert (record["split"], record["examples"], record["confidence"]) == ("validation", 200, 0.95)
        assert record["withheld"] is None
    yes = float(labels["validation"].mean())
    expected = [yes, 2 * yes / (1 + yes), -yes * np.log(yes) - (1 - yes) * np.log(1 - yes)]  # always "yes"
    assert [record["baseline"] for record in records] == pytest.approx(expected, abs=1e-12)


EXTRA = ["precision", "recall", "balanced_accuracy", "f1_macro", "roc_auc", "average_precision", "brier_score"]


def test_metrics_that_are_asked_for_besides_are_those_of_sklearn_with_intervals(tmp_path: Path) -> None:
    labels, logits = pairs(300)
    without = run(tmp_path / "without", labels, logits, PAIR_TASK, "validation")["validation"]
    scores = run(tmp_path / "with", labels, logits, PAIR_TASK, "validation", metrics=[*EXTRA, "f1"])["validation"]
    truth, predicted = labels["validation"], logits["validation"].argmax(axis=1)
    chance = softmax(logits["validation"].astype(np.float64), axis=1)[:, 1]
    expected = {
        "precision": reference.precision_score(truth, predicted),
        "recall": reference.recall_score(truth, predicted),
        "balanced_accuracy": reference.balanced_accuracy_score(truth, predicted),
        "f1_macro": reference.f1_score(truth, predicted, average="macro"),
        "roc_auc": reference.roc_auc_score(truth, chance),
        "average_precision": reference.average_precision_score(truth, chance),
        "brier_score": reference.brier_score_loss(truth, chance),
    }
    assert list(scores) == ["accuracy", "f1", *EXTRA[:4], "loss", *EXTRA[4:], "examples"]
    assert {name: scores[name] for name in EXTRA} == pytest.approx(expected, abs=1e-12)
    assert {name: scores[name] for name in without} == without
    records = {record["metric"]: record for record in found(tmp_path / "with", "intervals")}
    assert list(records) == list(scores)[:-1]
    assert all(record["low"] < record["value"] < record["high"] for record in records.values())
    share = float(truth.mean())
    assert records["roc_auc"]["baseline"] == 0.5
    assert records["average_precision"]["baseline"] == pytest.approx(share)
    assert records["brier_score"]["baseline"] == pytest.approx(share * (1 - share))
    assert records["balanced_accuracy"]["baseline"] == 0.5


@pytest.mark.parametrize("metric", [roc_auc, average_precision])
def test_an_influence_is_what_more_of_an_example_does(metric: Any) -> None:
    generator = np.random.default_rng(0)
    scores, carry = generator.integers(0, 12, 40).astype(np.float64), generator.random(40) < 0.4
    value, influence = metric(scores, carry)
    assert influence.mean() == pytest.approx(0, abs=1e-12)
    for chosen in range(40):
        times = np.full(40, 400)
        times[chosen] += 1
        more = metric(np.repeat(scores, times), np.repeat(carry, times))[0]
        assert (more - value) * 400 * 40 == pytest.approx(influence[chosen], abs=0.01)


def test_examples_that_a_sample_missed_are_weighted_as_scikit_learn_does() -> None:
    """Of 12 examples with the label and 28 without it, Wilson leaves 24.2 % and 12.1 % to those that look otherwise."""
    generator = np.random.default_rng(0)
    labels = (np.arange(40) < 12).astype(np.int64)
    chance = 1 / (1 + np.exp(-generator.normal(3.0 * labels - 1.5)))
    logits = np.log(np.stack([1 - chance, chance], axis=1))
    scores_of = {
        "roc_auc": reference.roc_auc_score,
        "average_precision": reference.average_precision_score,
        "brier_score": lambda truth, chance, sample_weight: np.average((truth - chance) ** 2, weights=sample_weight),
    }
    for name, score_of in scores_of.items():
        changes = []
        for label, share in ((1, 0.24249), (0, 0.12065)):
            side = labels == label
            moved = np.full((~side).sum(), share * side.sum() / (~side).sum())
            truth, seen = np.append(labels, np.full(len(moved), label)), np.append(chance, chance[~side])
            weights = np.append(np.where(side, 1 - share, 1.0), moved)
            changes.append(
                score_of(truth, seen, sample_weight=weights) - score_of(labels, chance, sample_weight=np.ones(40))
            )
        low, high = unseen_ends(PAIR_TASK, name, labels, logits, 0.5, 0.95)
        reach = float(np.hypot(*changes))
        expected = (0.5, 0.5 + reach) if name == "brier_score" else (0.5 - reach, 0.5)
        assert (low, high) == pytest.approx(expected, abs=1e-4), name


@pytest.mark.parametrize("name", ["roc_auc", "average_precision"])
def test_a_perfect_ranking_has_an_interval_and_is_less_sure_of_few_examples(name: str) -> None:
    lows = []
    for examples in (30, 100, 1000):
        labels = (np.arange(examples) % 3 == 0).astype(np.int64)
        value, interval = probability_interval(PAIR_TASK, name, labels, np.eye(2)[labels] * 3, 0.95)
        assert value == interval.high == 1 and interval.low is not None
        lows.append(interval.low)
    assert 0.5 < lows[0] < lows[1] < lows[2] < 1


def test_no_brier_score_is_above_the_worst() -> None:
    """One wrong answer of thirty: its logarithm's interval would end far above 1."""
    labels = np.arange(30) % 2
    logits = np.eye(2)[np.where(np.arange(30) == 4, 1 - labels, labels)] * 6
    _, interval = probability_interval(PAIR_TASK, "brier_score", labels, logits, 0.95)
    assert interval.high == 1.0


@pytest.mark.parametrize("problem", ["single_label_classification", "multi_label_classification"])
def test_of_several_labels_metrics_of_ranks_are_means_over_those_that_vary(problem: str) -> None:
    generator = np.random.default_rng(0)
    of = task(problem_type=problem, label_names=["a", "b", "c", "never"], metrics=["f1_macro"])
    logits = generator.normal(size=(200, 4)).astype(np.float32)
    classes = generator.integers(0, 3, 200)
    labels = classes if problem.startswith("single") else np.eye(4, dtype=np.float32)[classes]
    chances = of.classification.probabilities(logits)
    truth = np.eye(4)[classes]
    (area, _), _ = probability_influence(of, "roc_auc", labels, logits)
    assert area == pytest.approx(np.mean([reference.roc_auc_score(truth[:, k], chances[:, k]) for k in range(3)]))
    (brier, _), _ = probability_influence(of, "brier_score", labels, logits)
    squares = (chances - truth) ** 2
    assert brier == pytest.approx(squares.sum(axis=1).mean() if problem.startswith("single") else squares.mean())


@pytest.mark.parametrize(
    ("metric", "of", "message"),
    [
        ("pearson", {}, "evaluate.metrics: pearson is not defined for single_label_classification"),
        ("roc_auc", {"problem_type": "regression", "label_names": []}, "evaluate.metrics: roc_auc is not defined for"),
        ("precision", {"label_names": ["a", "b", "c"]}, "evaluate.metrics: precision is for two classes, not 3"),
    ],
)
def test_a_metric_that_does_not_fit_the_problem_is_refused(metric: str, of: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        extra_metrics([metric], task(**({"metrics": ["accuracy"]} | of)))


def test_an_interval_that_cannot_be_trusted_is_withheld_in_words(tmp_path: Path) -> None:
    """About 10 of 500 carry the loss."""
    run(tmp_path, *pairs(500, 0.98), PAIR_TASK, "validation")
    records = {record["metric"]: record for record in found(tmp_path, "intervals")}
    assert (records["loss"]["low"], records["loss"]["high"]) == (None, None)
    assert records["loss"]["withheld"].endswith("wrong answers carry the loss; its interval takes 20")
    assert records["accuracy"]["low"] and records["f1"]["low"]
    message = warned(tmp_path)["no_interval"]
    assert message == f"no interval for loss: {records['loss']['withheld']}"


def test_a_sound_score_has_no_warning(tmp_path: Path) -> None:
    run(tmp_path, *pairs(400), PAIR_TASK, "validation")
    assert found(tmp_path, "warnings") == []


def test_the_split_that_chose_the_epoch_is_named_with_its_score_once_corrected(tmp_path: Path) -> None:
    labels, logits = pairs(400)
    generator = np.random.default_rng(1)
    last = logits["validation"].argmax(axis=1)
    right = last == labels["validation"]
    epochs = np.stack([last] * 3)
    for other in epochs[:2]:  # as good, but for one example, by other answers
        rows = [*generator.permutation(np.flatnonzero(right))[:21], *generator.permutation(np.flatnonzero(~right))[:20]]
        other[rows] = 1 - other[rows]
    run(tmp_path, labels, logits, PAIR_TASK, "validation", keep="best", epochs=epochs.astype(np.uint8))
    (warning,) = found(tmp_path, "warnings")
    message = "the epoch was chosen as the best of 3 by its accuracy here, so this score is too good: "
    score = (last == labels["validation"]).mean()
    assert warning["guard"] == "selection_split" and 0 < warning["effect"] < 0.02
    corrected = f"{score:.4f} is {score - warning['effect']:.4f} once corrected for the choice"
    assert warning["message"].startswith(message + corrected)


@pytest.mark.parametrize("harmless", [{"epochs_trained": 1}, {"split": "validation_matched"}, {"keep": "last"}])
def test_one_epoch_or_another_split_chose_nothing(harmless: dict[str, Any]) -> None:
    assert not score_warnings.chosen_on_split("validation", SELECTION | {"keep": "best"} | harmless)


def test_a_score_like_a_constants_is_named(tmp_path: Path) -> None:
    run(tmp_path, *pairs(200, 0.5), PAIR_TASK, "validation")
    message = warned(tmp_path)["constant_answer"]
    assert "not better than the best constant answer, the same to every example: accuracy 0." in message
    assert ", f1 0." in message


def test_all_right_of_ten_examples_is_not_sure_to_be_above_a_constant(tmp_path: Path) -> None:
    """All of its resamples are all right, too, and above 0.8; by Wilson's interval it may be 0.72."""
    labels = np.array([1] * 8 + [0] * 2)
    logits = np.eye(2, dtype=np.float32)[labels] * np.linspace(1, 2, 10, dtype=np.float32)[:, None]
    run(tmp_path, {"validation": labels}, {"validation": logits}, PAIR_TASK, "validation")
    records = {(record["metric"], record["method"]): record for record in found(tmp_path, "intervals")}
    assert records["f1", "bootstrap"]["withheld"] == "2 examples of 'no'; an interval takes 5 of each label"
    low = records["accuracy", "wilson"]["low"]
    assert low == pytest.approx(10 / (10 + 1.959964**2), abs=1e-6)
    assert f"accuracy 1.000 [{low:.3f}, 1.000] against 0.800" in warned(tmp_path)["constant_answer"]


def test_a_regression_is_held_to_the_mean(tmp_path: Path) -> None:
    of = task(problem_type="regression", label_names=[], metrics=["mean_squared_error", "pearson"])
    generator = np.random.default_rng(0)
    labels, noise = generator.normal(size=(2, 100)).astype(np.float32)
    run(tmp_path / "noise", {"test": labels}, {"test": noise[:, None]}, of, "test")
    message = warned(tmp_path / "noise")["constant_answer"]
    assert f" against {labels.var():.3f}, pearson" in message and message.endswith(" against 0.000")
    run(tmp_path / "good", {"test": labels}, {"test": (labels + 0.1 * noise)[:, None]}, of, "test")
    assert warned(tmp_path / "good") == {}
    assert len(plot(tmp_path / "good", "scatter")) == 100 and not plot(tmp_path / "good", "roc")


def test_examples_shared_with_train_are_named_with_what_they_may_do(tmp_path: Path) -> None:
    shared = [
        {"splits": ["train", "validation"], "examples": 7, "rows": [[3, 1], [9, 4]]},
        {"splits": ["validation", "test"], "examples": 2, "rows": [[1, 1]]},
    ]
    labels, logits = pairs(400)
    right = logits["validation"].argmax(axis=1) == labels["validation"]
    flags = np.zeros(400, np.uint8)
    flags[np.flatnonzero(right)[:7]] = SAME_TEXTS
    run(tmp_path, labels, logits, PAIR_TASK, "validation", shared=shared, flags=flags)
    (warning,) = found(tmp_path, "warnings")
    assert (warning["guard"], warning["effect"]) == ("shared_examples", 0.0175)
    assert warning["message"] == (
        "7 of the split's 400 examples are in train too, such as row 1 (row 3 of train), row 4 (row 9 of train), "
        "so this score may flatter, an accuracy by 0.0175 at most; without them accuracy is "
        f"{right[flags == 0].mean():.4f} instead of {right.mean():.4f}"
    )
    assert right.mean() - right[flags == 0].mean() <= 0.0175


def test_near_duplicates_of_train_are_a_warning_of_their_own(tmp_path: Path) -> None:
    near = [{"splits": ["train", "validation"], "examples": 100, "rows": [[3, 1]]}]
    flags = np.where(np.arange(400) < 100, NEAR_DUPLICATE, 0).astype(np.uint8)
    run(tmp_path, *pairs(400), PAIR_TASK, "validation", near_duplicates=near, flags=flags)
    assert "100 of the split's 400 examples nearly repeat one of train" in warned(tmp_path)["near_duplicates"]


def test_of_a_split_that_was_cut_short_the_shared_examples_are_those_of_the_whole(tmp_path: Path) -> None:
    shared = [{"splits": ["train", "validation"], "examples": 300, "rows": [[3, 1]]}]
    run(tmp_path, *pairs(20), PAIR_TASK, "validation", shared=shared, sizes={"validation": 400})
    message = "300 of the split's 400 examples, of which 20 are scored, are in train too, such as row 1 ("
    assert message in warned(tmp_path)["shared_examples"]


def test_probabilities_that_are_too_high_are_named(tmp_path: Path) -> None:
    run(tmp_path, *pairs(400, 0.8, spread=5.0), PAIR_TASK, "validation")
    assert "the probabilities are too high" in warned(tmp_path)["calibration"]


@pytest.mark.parametrize(
    ("bins", "words"),
    [
        ([(0.9, 0.7), (0.8, 0.6)], "are too high; use"),
        ([(0.9, 1.0), (0.6, 0.9)], "are too low; use"),
        ([(0.95, 0.7), (0.6, 0.8)], "are too high in places, too low in others; use"),
    ],
)
def test_a_direction_is_named_only_where_there_is_one(bins: list[tuple[float, float]], words: str) -> None:
    made = [Bin(number, said, right, 200, 1e-6) for number, (said, right) in enumerate(bins)]
    (only,) = score_warnings.badly_calibrated("test", made, 0)
    assert f"the probabilities {words}" in only.message


def test_the_calibration_error_is_that_of_its_definition() -> None:
    """By hand: 4 predictions of 0.9, 3 right; 2 of 0.62, both right; (4 * 0.15 + 2 * 0.38) / 6."""
    said, right = np.array([0.9] * 4 + [0.62] * 2), np.array([1, 1, 1, 0, 1, 1])
    logits = np.stack([np.zeros(6), np.log(said / (1 - said))], axis=1).astype(np.float32)
    bins = calibration_bins(PAIR_TASK, logits, right)
    assert calibration_error(bins) == pytest.approx((4 * 0.15 + 2 * 0.38) / 6, abs=1e-6)
    assert [(one.number, one.examples, one.accuracy) for one in bins] == [(10, 2, 1.0), (14, 4, 0.75)]


def test_a_calibrated_model_stays_under_the_error_by_chance_in_95_of_100_samples() -> None:
    generator = np.random.default_rng(0)
    under = 0
    for _ in range(300):
        said = generator.uniform(0.5, 1.0, 408)
        right = (generator.random(408) < said).astype(np.int64)
        logits = np.stack([np.zeros(408), np.log(said / (1 - said))], axis=1).astype(np.float32)
        bins = calibration_bins(PAIR_TASK, logits, right)
        under += calibration_error(bins) <= error_by_chance(bins, 0)
    assert under / 300 == pytest.approx(0.95, abs=0.03)


def test_fewer_than_ten_examples_have_no_interval(tmp_path: Path) -> None:
    metrics = run(tmp_path, *pairs(9, 0.8), PAIR_TASK, "validation")
    assert metrics["validation"]["examples"] == 9
    accuracy, *others = found(tmp_path, "intervals")
    assert accuracy["method"] == "wilson" and accuracy["low"] < accuracy["value"] < accuracy["high"]
    assert {(record["low"], record["high"]) for record in others} == {(None, None)}
    expected = "9 examples are too few for an interval, which takes 10; only the accuracy has one"
    assert warned(tmp_path)["few_examples"] == expected and "no_interval" not in warned(tmp_path)


def test_one_label_alone_is_said(tmp_path: Path) -> None:
    labels, logits = pairs(50, 0.8)
    run(tmp_path, {"validation": np.ones_like(labels["validation"])}, logits, PAIR_TASK, "validation")
    assert "all examples have the same label" in warned(tmp_path)["one_class"]
    assert not plot(tmp_path, "roc")


@pytest.mark.parametrize(
    ("of", "empty"),
    [
        (PAIR_TASK, {"calibrated", "scatter"}),
        (task(label_names=["a", "b", "c"], metrics=["accuracy"]), {"calibrated", "scatter"}),
        (task(problem_type="multi_label_classification", metrics=["f1_macro"]), {"calibrated", "scatter", "confusion"}),
        (
            task(problem_type="regression", label_names=[], metrics=["pearson"]),
            {"calibrated", "confusion", "calibration", "precision_recall", "roc"},
        ),
    ],
)
def test_every_plot_is_written_and_what_does_not_fit_is_a_header(tmp_path: Path, of: Task, empty: set[str]) -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(5000, of.columns)).astype(np.float32)
    labels = generator.integers(0, of.columns, 5000)
    if of.problem_type != "single_label_classification":
        labels = (generator.random((5000, of.columns)) < 0.5).astype(np.float32).squeeze()
    run(tmp_path, {"test": labels}, {"test": logits}, of, "test")
    for name, header in HEADERS.items():
        lines = (tmp_path / "plots" / f"{name}.csv").read_text().splitlines()
        assert lines[0] == ",".join(header) and (len(lines) == 1) == (name in empty), name
    for name in {"precision_recall", "roc"} - empty:
        curves: dict[str, int] = {}
        for row in plot(tmp_path, name):
            curves[row["label"]] = curves.get(row["label"], 0) + 1
        assert max(curves.values()) <= 200 and len(curves) == (1 if of is PAIR_TASK else len(of.label_names))


def test_of_many_labels_the_curves_are_those_of_the_most_frequent(tmp_path: Path) -> None:
    names = [f"label {i:02}" for i in range(14)]
    labels = np.repeat(np.arange(14), [5, 5, 5, 5, *range(10, 30, 2)])
    logits = np.random.default_rng(0).normal(size=(len(labels), 14)).astype(np.float32)
    run(tmp_path, {"test": labels}, {"test": logits}, task(label_names=names, metrics=["accuracy"]), "test")
    for name in ("roc", "precision_recall"):
        assert list(dict.fromkeys(row["label"] for row in plot(tmp_path, name))) == names[4:]


def classes(tmp_path: Path) -> dict[str, Any]:
    return dict(json.loads((tmp_path / "classes.json").read_text()))


@pytest.mark.parametrize("several", [False, True])
def test_every_label_has_its_precision_recall_and_f1_with_intervals(several: bool, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    names = ["a", "b.c", "d"]
    logits = generator.normal(size=(300, 3)).astype(np.float32)
    labels = (generator.random((300, 3)) < 0.4).astype(np.float32) if several else generator.integers(0, 3, 300)
    kind = {"problem_type": "multi_label_classification", "metrics": ["f1_macro"]} if several else {}
    of = task(**({"label_names": names, "metrics": ["accuracy"]} | kind))
    run(tmp_path, {"test": labels}, {"test": logits}, of, "test")
    written = classes(tmp_path)
    assert list(written) == ["classes"]  # a list, of which DVC prints nothing
    said = logits > 0 if several else logits.argmax(axis=1)
    expected = np.array(reference.precision_recall_fscore_support(labels, said))
    for record, values in zip(written["classes"], expected.T, strict=True):
        assert [record[name] for name in ("precision", "recall", "f1", "actual")] == pytest.approx(values.tolist())
        for name in ("precision", "recall", "f1"):
            assert record[f"{name}_low"] < record[name] < record[f"{name}_high"]
    assert [record["label"] for record in written["classes"]] == names


def test_the_labels_that_are_asked_for_are_what_dvc_prints(tmp_path: Path) -> None:
    for name, per_class, printed in (("all", True, ["no", "yes"]), ("one", ["yes"], ["yes"])):
        metrics = run(tmp_path / name, *pairs(200, 0.8), PAIR_TASK, "validation", per_class=per_class)
        written = classes(tmp_path / name)
        assert list(written["validation"]) == printed and len(written["classes"]) == 2
        yes = written["validation"]["yes"]
        assert yes["f1"] == pytest.approx(metrics["validation"]["f1"]) and list(yes) == ["precision", "recall", "f1"]
    run(tmp_path / "none", *pairs(200, 0.8), PAIR_TASK, "validation")
    plain = [(tmp_path / name / "metrics.json").read_bytes() for name in ("all", "one", "none")]
    assert plain[0] == plain[1] == plain[2]


def test_examples_of_a_group_are_worth_less_for_a_label_too(tmp_path: Path) -> None:
    """Each group is right or wrong as a whole."""
    labels = np.tile([0, 1], 100)
    wrong = np.repeat(np.random.default_rng(0).random(20) < 0.3, 10)
    logits = 3 * np.eye(2, dtype=np.float32)[np.where(wrong, 1 - labels, labels)]
    widths = []
    for name, groups in (("alone", None), ("together", [f"g{i // 10}" for i in range(200)])):
        run(tmp_path / name, {"test": labels}, {"test": logits}, PAIR_TASK, "test", groups=groups)
        record = classes(tmp_path / name)["classes"][1]
        widths.append(record["recall_high"] - record["recall_low"])
    assert widths[1] > 1.5 * widths[0]


def test_a_label_that_is_never_predicted_has_no_interval_of_its_precision(tmp_path: Path) -> None:
    labels = {"test": np.tile([0, 1], 20)}
    run(tmp_path, labels, {"test": np.tile(np.float32([[1, 0]]), (40, 1))}, PAIR_TASK, "test")
    record = classes(tmp_path)["classes"][1]
    assert (record["precision"], record["precision_low"], record["predicted"]) == (0.0, None, 0)
    assert record["recall_high"] < 0.2


def test_a_label_to_print_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"params.yaml: evaluate.per_class: no label 'maybe'; the labels are no, yes"):
        run(tmp_path, *pairs(200, 0.8), PAIR_TASK, "validation", per_class=["yes", "maybe"])


def test_numbers_have_no_labels(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).normal(size=100).astype(np.float32)
    of = task(problem_type="regression", label_names=[], metrics=["pearson"])
    logits = numbers[:, np.newaxis] + np.float32(0.1) * numbers[::-1, np.newaxis]
    run(tmp_path, {"test": numbers}, {"test": logits}, of, "test", per_class=True)
    assert classes(tmp_path) == {"classes": []}


def test_a_thinned_roc_has_the_area_of_the_whole_one(tmp_path: Path) -> None:
    labels, logits = pairs(5000, 0.8)
    run(tmp_path, labels, logits, PAIR_TASK, "validation")
    rows = plot(tmp_path, "roc")
    x, y = (np.array([float(row[name]) for row in rows]) for name in ("false_positive_rate", "true_positive_rate"))
    whole = reference.roc_auc_score(labels["validation"], np.diff(logits["validation"], axis=1)[:, 0])
    assert np.trapezoid(y, x) == pytest.approx(whole, abs=1e-3)
    assert ((x[0], y[0]), (x[-1], y[-1])) == ((0.0, 0.0), (1.0, 1.0))


def test_the_same_logits_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        run(tmp_path / name, *pairs(200, 0.8), PAIR_TASK, "validation")
    for file in (tmp_path / "one").rglob("*.*"):
        if file.is_file():
            assert file.read_bytes() == (tmp_path / "two" / file.relative_to(tmp_path / "one")).read_bytes()


@pytest.mark.parametrize(
    ("metric", "low", "high", "baseline", "reached"),
    [
        ("accuracy", 0.51, 0.71, 0.6, True),
        ("accuracy", 0.61, 0.71, 0.6, False),
        ("accuracy", 0.41, 0.51, 0.6, True),
        ("mean_squared_error", 0.5, 0.9, 1.0, False),
        ("mean_squared_error", 0.5, 1.1, 1.0, True),
        ("accuracy", None, None, 0.6, False),  # the value is above
        ("accuracy", None, None, 0.61, True),
        ("accuracy", 0.51, 0.71, None, False),
    ],
)
def test_a_constant_is_reached_by_the_interval_and_not_by_the_value(
    metric: str, low: float | None, high: float | None, baseline: float | None, reached: bool
) -> None:
    record = {"metric": metric, "value": 0.61, "low": low, "high": high, "baseline": baseline}
    assert score_warnings.reaches_constant(record) is reached


# What a calibration brings


def fit_of(*fits: Fit, **of: Any) -> Calibration:
    """A calibration on validation: the whole split's fit, then those without each fold."""
    made = {"splits": ["validation"], "metric": None, "costs": None, "error_rate": None, "notes": []}
    return Calibration(**(made | {"examples": 1, "drawn": 1, "whole": fits[0], "folds": list(fits[1:])} | of))


def brought(tmp_path: Path, kind: str, split: str = "validation") -> dict[str, Any]:
    """The records of metrics/calibrated.json, by metric where they have one."""
    records = json.loads((tmp_path / "calibrated.json").read_text())[kind]
    return {one.get("metric", number): one for number, one in enumerate(records) if one["split"] == split}


def written(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.rglob("*") if file.suffix in (".json", ".csv")}


def test_a_calibration_adds_its_own_files_and_judges_the_probabilities_that_a_user_gets(tmp_path: Path) -> None:
    labels, logits = pairs(2000, spread=3.0)
    without = run(tmp_path / "off", labels, logits, PAIR_TASK, "validation")
    message = warned(tmp_path / "off")["calibration"]
    assert "the probabilities are too high" in message and "plots/calibration.csv" in message
    assert run(tmp_path / "on", labels, logits, PAIR_TASK, "validation", calibration=fit_of(Fit(3.0))) == without
    assert "calibration" not in warned(tmp_path / "on")
    off, on = written(tmp_path / "off"), written(tmp_path / "on")
    changed = {name for name in off if off[name] != on[name]}
    assert changed == {"calibration.json", "calibrated.json", "calibrated.csv", "warnings.json"}
    run(tmp_path / "worse", labels, logits, PAIR_TASK, "validation", calibration=fit_of(Fit(0.1)))
    message = warned(tmp_path / "worse")["calibration"]
    assert "also as metrics/calibration.json calibrates them (0.1" in message and "plots/calibrated.csv" in message


def test_the_scores_after_are_those_of_the_divided_logits(tmp_path: Path) -> None:
    labels, logits = pairs(500, spread=3.0)
    run(tmp_path, labels, logits, PAIR_TASK, "validation", calibration=fit_of(Fit(2.5), examples=5))
    scores, truth, after = brought(tmp_path, "calibrated"), labels["validation"], logits["validation"] / 2.5
    for name, logit in (("before", logits["validation"]), ("after", after)):
        likely = softmax(logit.astype(float), axis=1)[:, 1]
        assert scores["loss"][name] == pytest.approx(reference.log_loss(truth, likely), abs=1e-6)
        assert scores["brier_score"][name] == pytest.approx(reference.brier_score_loss(truth, likely), abs=1e-6)
        error = calibration_error(calibration_bins(PAIR_TASK, logit, truth))
        assert scores["calibration_error"][name] == pytest.approx(error, abs=1e-6)
    assert scores["loss"]["low"] < scores["loss"]["after"] < scores["loss"]["high"]
    assert not any(one["cross_fitted"] for one in scores.values())
    assert len(plot(tmp_path, "calibrated")) == len(calibration_bins(PAIR_TASK, after, truth))


def test_on_the_split_that_was_fitted_on_no_example_is_judged_by_a_fit_that_has_seen_it(tmp_path: Path) -> None:
    labels, logits = pairs(100)
    groups = [f"g{i // 4}" for i in range(100)]
    fits = [Fit(float(number + 1)) for number in range(10)]
    calibration = fit_of(Fit(50.0), *fits, examples=100, drawn=25)
    both = [one | {"test": one["validation"]} for one in (labels, logits)]
    run(tmp_path, *both, PAIR_TASK, "validation", "test", calibration=calibration, groups=groups)
    folds = folds_of(tmp_path / "raw", {"validation": 100})["validation"]
    assert all(len({*folds[start : start + 4]}) == 1 for start in range(0, 100, 4))
    expected = PAIR_TASK.problem.loss(logits["validation"] / (folds[:, np.newaxis] + 1.0), labels["validation"])
    scores = brought(tmp_path, "calibrated")
    assert scores["loss"]["after"] == pytest.approx(expected, abs=1e-6) and scores["loss"]["cross_fitted"]
    expected = PAIR_TASK.problem.loss(logits["validation"] / 50, labels["validation"])
    scores = brought(tmp_path, "calibrated", "test")
    assert scores["loss"]["after"] == pytest.approx(expected, abs=1e-6) and not scores["loss"]["cross_fitted"]


def test_thresholds_and_costs_are_reported_beside_the_labels_of_the_model(tmp_path: Path) -> None:
    labels, logits = pairs(300)
    thresholds = fit_of(Fit(1.0, [0.9]), metric="f1")
    scores = run(tmp_path / "a", labels, logits, PAIR_TASK, "validation", calibration=thresholds)["validation"]
    found, truth = brought(tmp_path / "a", "calibrated"), labels["validation"]
    decided = softmax(logits["validation"].astype(float), axis=1)[:, 1] > 0.9
    for name, of in (("accuracy", reference.accuracy_score), ("f1", reference.f1_score)):
        assert found[name]["before"] == pytest.approx(scores[name], abs=1e-6)
        assert found[name]["after"] == pytest.approx(of(truth, decided), abs=1e-6)
        assert found[name]["low"] < found[name]["after"] < found[name]["high"]
    assert scores["accuracy"] == reference.accuracy_score(truth, logits["validation"].argmax(1))
    costs = fit_of(Fit(1.0), costs=[[0.0, 1.0], [9.0, 0.0]])
    run(tmp_path / "b", labels, logits, PAIR_TASK, "validation", calibration=costs)
    found = brought(tmp_path / "b", "calibrated")
    assert found["cost"]["after"] < found["cost"]["before"]
    wrong = logits["validation"].argmax(1) != truth
    assert found["cost"]["before"] == pytest.approx(np.where(truth == 1, 9.0, 1.0)[wrong].sum() / 300, abs=1e-6)


def test_several_labels_at_once_have_thresholds_and_one_temperature(tmp_path: Path) -> None:
    of = task(problem_type="multi_label_classification", label_names=["a", "b"], metrics=["f1_macro", "accuracy"])
    generator = np.random.default_rng(0)
    labels = {"validation": (generator.random((200, 2)) < 0.3).astype(np.float32)}
    logits = {"validation": (3 * labels["validation"] - 3 + generator.normal(size=(200, 2))).astype(np.float32)}
    fitted = fit_of(Fit(2.0, [0.3, 0.4]), metric="f1_macro")
    run(tmp_path, labels, logits, of, "validation", calibration=fitted)
    found = brought(tmp_path, "calibrated")
    decided = 1 / (1 + np.exp(-logits["validation"].astype(float) / 2)) > [0.3, 0.4]
    expected = reference.f1_score(labels["validation"], decided, average="macro")
    assert found["f1_macro"]["after"] == pytest.approx(expected, abs=1e-6)
    assert found["f1_macro"]["after"] > found["f1_macro"]["before"]
    assert not brought(tmp_path, "selective") and not brought(tmp_path, "sets")


def test_sets_are_counted_and_so_are_answers_at_their_error(tmp_path: Path) -> None:
    of = task(label_names=["a", "b", "c"], metrics=["accuracy"])
    labels = {"validation": np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])}
    logits = np.zeros((10, 3), dtype=np.float32)
    logits[np.arange(8), labels["validation"][:8]] = np.arange(8, 0, -1)  # the surest first; the last two are ties
    logits[8] = (1, 1, 0)
    logits[9] = (0, 9, 0)  # sure, and wrong
    fitted = fit_of(Fit(2.0, None, 1.0), error_rate=0.2)
    run(tmp_path, labels, {"validation": logits}, of, "validation", calibration=fitted)
    (sets,) = brought(tmp_path, "sets").values()
    assert sets["error_rate"] == 0.2 and sets["covered"] == 0.8 and sets["low"] < 0.8 < sets["high"]
    assert sets["sizes"] == [{"labels": 1, "examples": 9}, {"labels": 2, "examples": 1}] and sets["mean_size"] == 1.1
    assert sets["wrong_of_one"] == pytest.approx(1 / 9, abs=1e-6)
    rows = list(brought(tmp_path, "selective").values())
    assert [row["answered"] for row in rows] == [1.0, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5]
    assert [row["error"] for row in rows[:3]] == [0.2, 0.2, pytest.approx(1 / 9, abs=1e-6)]
    assert rows[-1]["error"] == 0.2 and rows[-1]["low"] < 0.2 < rows[-1]["high"]


def test_one_example_can_be_scored_with_a_calibration(tmp_path: Path) -> None:
    labels, logits = {"validation": np.array([1])}, {"validation": np.float32([[0.0, 1.0]])}
    calibration = fit_of(Fit(1.0, None, None), error_rate=0.1)
    run(tmp_path, labels, logits, PAIR_TASK, "validation", calibration=calibration)
    scores = brought(tmp_path, "calibrated")
    assert scores["loss"]["before"] == scores["loss"]["after"] and scores["loss"]["low"] is None
    (sets,) = brought(tmp_path, "sets").values()
    assert sets["covered"] == 1.0 and sets["sizes"] == [{"labels": 2, "examples": 1}]
