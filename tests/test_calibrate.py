"""calibrate: a temperature by likelihood, thresholds by search, sets that keep their promise, and what it refuses."""

import json
from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.optimize import minimize_scalar

from stages.calibrate.calibrate import CalibrateFiles, CalibrateParams, _rows_of, calibrate
from stages.calibrate.sets import fewest, fit_greatest_loss, one_of_each
from stages.calibrate.temperature import MOST, fit_temperature
from stages.calibrate.thresholds import fit_thresholds
from stages.shared.runtime.errors import BadInput
from stages.shared.task.asked import check_calibration, threshold_metrics
from stages.shared.task.calibration import (
    FOLDS,
    Calibration,
    Fit,
    by_fold,
    calibrated_logits,
    decide,
    folds_of,
    label_sets,
    read_calibration,
)
from stages.shared.task.metrics import METRICS
from stages.shared.task.task import Task, write_task
from tests.tiny import EXECUTION

TWO = Task("files", "single_label_classification", ["no", "yes"], ["accuracy", "f1"], "files", "0")
THREE = replace(TWO, label_names=["a", "b", "c"], metrics=["accuracy"])
SETS = replace(TWO, problem_type="multi_label_classification", label_names=["a", "b", "c"], metrics=["f1_macro"])
NUMBERS = replace(TWO, problem_type="regression", label_names=[], metrics=["pearson"])
OFF = {"split": None, "thresholds": None, "costs": None, "error_rate": None}


def sample(task: Task, examples: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and logits that are `temperature` times those of the true probabilities."""
    generator = np.random.default_rng(seed)
    logits = 1.5 * generator.normal(size=(examples, task.columns))
    probabilities = task.classification.probabilities(logits)
    if task.problem.exclusive:
        labels: np.ndarray = (probabilities.cumsum(axis=1) < generator.random((examples, 1))).sum(axis=1)
    else:
        labels = (generator.random(logits.shape) < probabilities).astype(np.float32)
    return labels, (temperature * logits).astype(np.float32)


def run(
    folder: Path,
    task: Task,
    splits: dict[str, tuple[np.ndarray, np.ndarray]],
    groups: dict[str, Sequence[str]] | None = None,
    **asked: Any,
) -> Calibration | None:
    """Runs the stage on these labels and logits."""
    for name, (labels, logits) in splits.items():
        (folder / "predictions" / name).mkdir(parents=True, exist_ok=True)
        np.save(folder / "predictions" / name / "labels.npy", labels)
        np.save(folder / "predictions" / name / "logits.npy", logits)
        table = pa.table({"text": [""] * len(labels)} | ({} if groups is None else {"group": groups[name]}))
        (folder / "raw" / name).mkdir(parents=True, exist_ok=True)
        with pa.ipc.new_stream(folder / "raw" / name / "data-00000-of-00001.arrow", table.schema) as stream:
            stream.write_table(table)
    write_task(folder / "raw" / "task.json", task)
    files = CalibrateFiles(**{field.name: folder / field.default.name for field in fields(CalibrateFiles)})
    calibrate(CalibrateParams(**(OFF | asked)), EXECUTION, files)
    return read_calibration(files.calibration)


# The temperature


@pytest.mark.parametrize("task", [TWO, THREE, SETS], ids=lambda task: f"{task.problem_type} of {task.columns}")
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_is_that_of_the_greatest_likelihood(task: Task, temperature: float) -> None:
    labels, logits = sample(task, 4000, temperature)
    found, note = fit_temperature(task, labels, logits)
    best = minimize_scalar(
        lambda one: task.problem.loss(logits / np.exp(one), labels),
        bounds=(-3, 3),
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert note is None
    assert found == pytest.approx(np.exp(best.x), rel=1e-5)
    assert found == pytest.approx(temperature, rel=0.1)


ODD: dict[str, tuple[Task, Any, Any, float, str]] = {
    "all right": (TWO, [0, 1] * 10, [[4, 0], [0, 4]] * 10, 1.0, "every answer is right"),
    "all right, several labels": (SETS, [[0, 1, 1]] * 20, [[-1, 2, 3]] * 20, 1.0, "every answer is right"),
    "all wrong": (TWO, [1, 0] * 10, [[4, 0], [0, 4]] * 10, MOST, "the logits say nothing true"),
    "the same of every label": (THREE, [0, 1, 2, 0] * 5, [[1, 1, 1]] * 20, 1.0, "the logits say the same"),
    "nothing of several labels": (SETS, [[0, 1, 1]] * 20, [[0, 0, 0]] * 20, 1.0, "the logits say the same"),
    "one class, all right": (TWO, [1] * 20, [[0, 9]] * 20, 1.0, "every answer is right"),
    "logits beyond exp": (TWO, [0, 1] * 10, [[-1e4, 1e4], [-1e4, 1e4]] * 10, MOST, "the logits say nothing true"),
}


@pytest.mark.parametrize("case", ODD)
def test_where_no_temperature_is_the_likeliest_it_is_finite_and_says_why(case: str) -> None:
    task, labels, logits, expected, words = ODD[case]
    of = np.array(labels, dtype=task.problem.label_dtype)
    found, note = fit_temperature(task, of, np.array(logits, dtype=np.float32))
    assert found == expected and note is not None and note.startswith(words)


def test_a_constant_answer_is_as_sure_as_it_is_right() -> None:
    labels, logits = np.array([0, 0, 0, 1] * 10), np.tile(np.float32([5.0, 0.0]), (40, 1))
    found, note = fit_temperature(TWO, labels, logits)
    assert note is None
    assert TWO.classification.probabilities(calibrated_logits(Fit(found), logits))[0, 0] == pytest.approx(
        0.75, abs=1e-5
    )


def test_one_mistake_beside_a_hair_does_not_make_the_others_certain() -> None:
    logits = np.tile(np.float32([1.0, 0.0]), (40, 1))
    logits[0] = (0.0, 1e-9)
    found, note = fit_temperature(TWO, np.zeros(40, dtype=np.int64), logits)
    assert found == 0.1 and note is not None and "it is the lowest" in note


def test_a_temperature_changes_no_label() -> None:
    for task in (TWO, THREE, SETS):
        _, logits = sample(task, 500, 3.0)
        plain = Calibration(["validation"], 1, 1, None, None, None, Fit(3.0), [], [])
        assert not plain.decides
        assert np.array_equal(decide(task, plain, plain.whole, logits), task.problem.predict(logits))
        assert np.array_equal(
            task.problem.predict(calibrated_logits(plain.whole, logits)), task.problem.predict(logits)
        )


# Thresholds and costs


def best_of(task: Task, metric: str, labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Tries all thresholds between all probabilities."""
    columns = [1] if task.binary else range(task.columns)
    values = [np.concatenate([[-1.0], np.unique(probabilities[:, column])]) for column in columns]
    found = []
    for thresholds in product(*values):
        given = probabilities[:, columns] > np.array(thresholds)
        answers = given[:, 0].astype(np.int64) if task.binary else given.astype(np.float32)
        found.append(METRICS[metric].score(labels, answers))
    return max(found)


@pytest.mark.parametrize(
    ("task", "metric"),
    [(task, metric) for task in (TWO, SETS) for metric in threshold_metrics(task)],
    ids=lambda one: one if isinstance(one, str) else one.problem_type,
)
def test_no_other_thresholds_are_better(task: Task, metric: str) -> None:
    for seed in range(2):
        labels, logits = sample(task, 5, 1.0, seed)
        probabilities = task.classification.probabilities(logits).round(1)  # ties
        thresholds = fit_thresholds(task, metric, labels, probabilities)
        fitted = Calibration(["validation"], 1, 1, metric, None, None, Fit(1.0, thresholds), [], [])
        of = np.array(thresholds)
        answers = probabilities[:, 1] > of[0] if task.binary else probabilities > of
        score = METRICS[metric].score(labels, answers.astype(task.problem.label_dtype))
        assert score == pytest.approx(best_of(task, metric, labels, probabilities), abs=1e-12)
        assert fitted.decides


def test_of_equally_good_thresholds_it_is_the_one_next_to_a_half() -> None:
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.4, 0.6], [0.1, 0.9]])
    assert fit_thresholds(TWO, "f1", np.array([0, 0, 1, 1]), probabilities) == [0.5]
    assert fit_thresholds(TWO, "f1", np.array([1, 1, 1, 1]), probabilities) == [0.5]  # nothing says where it ends
    probabilities = np.array([[0.1, 0.9], [0.3, 0.7], [0.7, 0.3], [0.8, 0.2]])
    assert fit_thresholds(TWO, "accuracy", np.array([1, 0, 1, 0]), probabilities) == [0.25]  # and not 0.8
    labels = np.array([[1.0, 0.0, 1.0]] * 3 + [[0.0, 0.0, 1.0]] * 3)
    likely = np.array([[0.3, 0.2, 0.4]] * 3 + [[0.1, 0.2, 0.3]] * 3)
    for metric in ("f1_macro", "f1_micro"):
        assert fit_thresholds(SETS, metric, labels, likely) == pytest.approx([0.2, 0.5, 0.5])


def test_the_answer_of_the_least_expected_cost() -> None:
    def answers(task: Task, costs: list[list[float]], probabilities: Any) -> list[Any]:
        fitted = Calibration(["validation"], 1, 1, None, costs, None, Fit(2.0), [], [])
        odds = np.array(probabilities, dtype=np.float64)
        logits = 2.0 * (np.log(odds) if task.problem.exclusive else np.log(odds / (1 - odds)))
        assert fitted.decides
        return decide(task, fitted, fitted.whole, logits).tolist()

    assert answers(TWO, [[0, 1], [5, 0]], [[0.9, 0.1], [0.8, 0.2]]) == [0, 1]  # a miss is five false alarms: 1 in 6
    assert answers(TWO, [[0, 1], [1, 0]], [[0.51, 0.49], [0.49, 0.51]]) == [0, 1]
    to_c = [[0, 2, 1], [2, 0, 1], [9, 9, 0]]
    assert answers(THREE, to_c, [[0.8, 0.1, 0.1], [0.45, 0.45, 0.1], [0.98, 0.01, 0.01]]) == [2, 2, 0]
    assert answers(SETS, [[0, 1], [5, 0]], [[0.1, 0.2, 0.9]]) == [[0.0, 1.0, 1.0]]


# Sets of labels


@pytest.mark.parametrize("task", [TWO, THREE], ids=["two labels", "three labels"])
@pytest.mark.parametrize("examples", [5, 9, 20, 199])
@pytest.mark.parametrize("digits", [None, 0], ids=["no ties", "ties"])
def test_the_sets_hold_the_right_label_as_often_as_promised(task: Task, examples: int, digits: int | None) -> None:
    """The model's probabilities are far from true: the promise needs nothing of them."""
    error_rate, covered, sizes = 0.1, [], []
    for seed in range(400):
        labels, logits = sample(task, examples + 100, 4.0, seed)
        logits = logits if digits is None else logits.round(digits)
        losses = task.problem.losses(logits[:examples], labels[:examples])
        held = label_sets(Fit(1.0, None, fit_greatest_loss(losses, error_rate)), logits[examples:])
        covered.append(held[np.arange(100), labels[examples:]].mean())
        sizes.append(held.sum(axis=1).mean())
    error = np.std(covered) / np.sqrt(len(covered))
    assert np.mean(covered) >= 1 - error_rate - 3 * error
    if examples < fewest(error_rate):
        assert np.mean(sizes) == task.columns
    elif digits is None:  # no set is larger than the promise takes: n + 1 of n + 2 steps
        assert np.mean(covered) <= 1 - error_rate + 1 / (examples + 1) + 3 * error


def test_fewer_examples_than_the_error_rate_takes_leave_every_label_in_every_set() -> None:
    for rate in (0.1, 0.2, 0.05, 0.3, 0.5, 0.01):
        assert fit_greatest_loss(np.zeros(fewest(rate)), rate) == 0.0
        assert fit_greatest_loss(np.zeros(fewest(rate) - 1), rate) is None
    assert label_sets(Fit(1.0), np.float32([[9.0, -9.0]])).tolist() == [[True, True]]


def test_of_examples_that_resemble_each_other_one_of_each_group_counts() -> None:
    """A group's ten examples all have one label and nearly the same logits: they are one example, said ten times."""
    error_rate, groups, covered, naive = 0.1, 12, [], []
    for seed in range(400):
        labels, logits = sample(TWO, groups + 100, 2.0, seed)
        group = np.repeat(np.arange(groups), 10)
        losses = TWO.problem.losses(logits[group], labels[group])
        chosen = one_of_each(group)
        assert chosen.sum() == groups and len(set(group[chosen])) == groups
        for found, some in ((covered, losses[chosen]), (naive, losses)):
            held = label_sets(Fit(1.0, None, fit_greatest_loss(some, error_rate)), logits[groups:])
            found.append(held[np.arange(100), labels[groups:]].mean())
    error = np.std(covered) / np.sqrt(len(covered))
    assert np.mean(covered) >= 1 - error_rate - 3 * error
    assert np.mean(naive) < 1 - error_rate - 3 * error  # the test would notice


# The stage


def test_off_says_so(tmp_path: Path) -> None:
    assert run(tmp_path, TWO, {"validation": sample(TWO, 50, 2.0)}) is None
    said = json.loads((tmp_path / "calibration.json").read_text())
    assert said == {"calibration": [{"off": "params.yaml: calibrate.split is null"}]}


def test_a_regression_has_no_temperature_and_says_so(tmp_path: Path) -> None:
    numbers = np.arange(20, dtype=np.float32)
    assert run(tmp_path, NUMBERS, {"validation": (numbers, numbers[:, None])}, split="validation") is None
    assert "a regression has no probabilities" in (tmp_path / "calibration.json").read_text()


def test_the_whole_is_fitted_on_all_and_a_fold_on_the_others(tmp_path: Path) -> None:
    labels, logits = sample(THREE, 300, 2.0)
    fitted = run(tmp_path, THREE, {"validation": (labels, logits)}, split="validation", error_rate=0.2)
    assert fitted is not None and not fitted.notes and (fitted.examples, fitted.drawn) == (300, 300)
    assert fitted.whole.temperature == fit_temperature(THREE, labels, logits)[0]
    folds = folds_of(tmp_path / "raw", {"validation": 300})["validation"]
    assert np.bincount(folds).tolist() == [30] * FOLDS == [30] * len(fitted.folds)
    for number, part in enumerate(fitted.folds):
        others = folds != number
        assert part.temperature == fit_temperature(THREE, labels[others], logits[others])[0]
        losses = THREE.problem.losses(logits[others], labels[others])
        assert part.greatest_loss == fit_greatest_loss(losses, 0.2)


def test_the_like_of_validation_are_fitted_together_and_a_group_is_in_one_fold_of_both(tmp_path: Path) -> None:
    names = ["validation_matched", "validation_mismatched"]
    splits = {name: sample(TWO, 120, 2.0, seed) for seed, name in enumerate(names)}
    groups = {names[0]: [f"g{i // 3}" for i in range(120)], names[1]: [f"g{i // 3 + 20}" for i in range(120)]}
    fitted = run(tmp_path, TWO, splits, groups, split="validation", error_rate=0.1)
    assert fitted is not None and (fitted.splits, fitted.examples, fitted.drawn) == (names, 240, 60)
    labels, logits = (np.concatenate([splits[name][part] for name in names]) for part in (0, 1))
    assert fitted.whole.temperature == fit_temperature(TWO, labels, logits)[0]
    folds = folds_of(tmp_path / "raw", dict.fromkeys(names, 120))
    of_group: dict[str, set[int]] = {}
    for name in names:
        for group, fold in zip(groups[name], folds[name].tolist(), strict=True):
            of_group.setdefault(group, set()).add(fold)
    assert len(of_group) == 60 and all(len(of) == 1 for of in of_group.values())


@pytest.mark.parametrize("examples", [1, 2, 9])
def test_a_handful_of_examples_fits_nothing_and_says_so(tmp_path: Path, examples: int) -> None:
    asked = {"split": "validation", "thresholds": "f1", "error_rate": 0.1}
    fitted = run(tmp_path, TWO, {"validation": sample(TWO, examples, 2.0)}, **asked)
    assert fitted is not None and fitted.whole.temperature == 1.0 and fitted.whole.thresholds is None
    assert f"{examples} examples are too few to fit a temperature" in fitted.notes[0]
    assert len(fitted.folds) == (0 if examples == 1 else examples)
    assert (fitted.whole.greatest_loss is None) == (examples < 9)
    folds = folds_of(tmp_path / "raw", {"validation": examples})["validation"]
    logits = np.zeros((examples, 2), dtype=np.float32)
    assert by_fold(fitted, folds, logits, calibrated_logits).shape == (examples, 2)


def test_each_row_gets_the_fit_of_its_fold() -> None:
    fits = [Fit(float(number + 1)) for number in range(3)]
    fitted = Calibration(["validation"], 6, 6, None, None, None, Fit(10.0), fits, [])
    folds, logits = np.array([2, 0, 1, 1, 0, 2]), np.full((6, 2), 6.0, dtype=np.float32)
    assert by_fold(fitted, folds, logits, calibrated_logits)[:, 0].tolist() == [2.0, 6.0, 3.0, 3.0, 6.0, 2.0]
    assert by_fold(fitted, None, logits, calibrated_logits)[:, 0].tolist() == [0.6] * 6


def test_a_part_of_very_many_examples_is_fitted_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.calibrate.calibrate.MOST", 1000)
    names = ["validation_a", "validation_b"]
    splits = {name: sample(TWO, 2000, 2.0, seed) for seed, name in enumerate(names)}
    fitted = run(tmp_path, TWO, splits, split="validation", error_rate=0.1)
    assert fitted is not None and fitted.examples == 4000
    assert fitted.whole.temperature == pytest.approx(2.0, rel=0.2)
    arrays, rows = [np.arange(5), np.arange(5, 7), np.arange(7, 12)], np.array([0, 4, 5, 6, 7, 11])
    assert _rows_of(arrays, rows).tolist() == rows.tolist()


def test_a_split_without_labels_or_with_logits_that_are_not_finite_is_refused(tmp_path: Path) -> None:
    labels, logits = sample(TWO, 20, 1.0)
    with pytest.raises(BadInput, match=r"calibrate.split: the test split has no labels to fit on"):
        run(tmp_path, TWO, {"test": (np.full(20, -1), logits)}, split="test")
    with pytest.raises(BadInput, match=r"calibrate.split: no split 'dev' to fit on, only test"):
        run(tmp_path, TWO, {"test": (labels, logits)}, split="dev")
    logits[3] = np.nan
    with pytest.raises(BadInput, match=r"validation: non-finite logits in row 4"):
        run(tmp_path, TWO, {"validation": (labels, logits)}, split="validation")
    assert not (tmp_path / "calibration.json").exists()


REFUSED: list[tuple[Task, dict[str, Any], str]] = [
    (TWO, {"split": None, "thresholds": "f1"}, "calibrate.thresholds: takes calibrate.split"),
    (TWO, {"split": None, "costs": [[0, 1], [1, 0]]}, "calibrate.costs: takes calibrate.split"),
    (NUMBERS, {"thresholds": "f1"}, "calibrate.thresholds: is for labels, and this is a regression"),
    (NUMBERS, {"error_rate": 0.1}, "calibrate.error_rate: is for labels, and this is a regression"),
    (TWO, {"thresholds": "f1", "costs": [[0, 1], [1, 0]]}, "calibrate.costs: calibrate.thresholds decides already"),
    (TWO, {"thresholds": "recall"}, "calibrate.thresholds: no threshold is chosen by recall; use ['accuracy', "),
    (SETS, {"thresholds": "accuracy"}, "calibrate.thresholds: no threshold is chosen by accuracy; use ['f1_macro', "),
    (
        THREE,
        {"thresholds": "f1_macro"},
        "calibrate.thresholds: is for two classes or several labels at once, not for 3",
    ),
    (TWO, {"costs": [[0, 1]]}, "calibrate.costs: must have a row for each of 2 labels"),
    (THREE, {"costs": [[0, 1], [1, 0]]}, "calibrate.costs: must have a row for each of 3 labels"),
    (THREE, {"costs": []}, "calibrate.costs: must have a row for each of 3 labels"),
    (SETS, {"costs": [[0, 1, 1]] * 3}, "calibrate.costs: must have a row for no and one for yes"),
    (TWO, {"costs": [[0, float("nan")], [1, 0]]}, "calibrate.costs: must have a row for each of 2 labels"),
    (SETS, {"error_rate": 0.1}, "calibrate.error_rate: sets of labels are for examples that have one label each"),
]


@pytest.mark.parametrize(("task", "asked", "line"), REFUSED, ids=lambda one: one if isinstance(one, str) else "")
def test_what_does_not_fit_the_problem_is_refused_in_one_line(task: Task, asked: dict[str, Any], line: str) -> None:
    p = OFF | {"split": "validation"} | asked
    with pytest.raises(BadInput) as raised:
        check_calibration(task, p["split"], p["thresholds"], p["costs"], p["error_rate"])
    assert str(raised.value).startswith(f"params.yaml: {line}")
