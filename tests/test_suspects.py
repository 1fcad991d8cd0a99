"""Suspect labels: confident learning finds the labels that are wrong, and hands them to annotators."""

import csv
import io
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from checks import suspects
from checks.out_of_fold import OutOfFold
from checks.suspects import csv_rows, row_of
from stages.report.suspects import SMOOTHING, confident_thresholds, find_suspects
from stages.shared.task.cells import csv_line
from stages.shared.task.task import Task

CLASSES, SETS = "single_label_classification", "multi_label_classification"


def task_of(*names: str, problem: str = CLASSES) -> Task:
    return Task("files", problem, list(names), ["accuracy"], "files", "0")


def logits_of(probabilities: Any) -> np.ndarray:
    return np.log(np.asarray(probabilities)).astype(np.float32)


def planted(share: float = 0.05, rows: int = 600) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns labels of three classes of which a share is wrong, logits of five folds, and which labels are wrong."""
    draws = np.random.default_rng(0)
    true = draws.choice(3, rows, p=[0.6, 0.3, 0.1])
    points = np.eye(3)[true] * 2.5 + draws.normal(size=(rows, 3))
    wrong = np.zeros(rows, dtype=bool)
    wrong[draws.choice(rows, round(share * rows), replace=False)] = True
    labels = np.where(wrong, (true + draws.integers(1, 3, rows)) % 3, true)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    probabilities = cross_val_predict(LogisticRegression(C=10), points, labels, cv=folds, method="predict_proba")
    return labels, logits_of(probabilities), wrong


def test_of_five_per_cent_planted_mistakes_most_are_in_the_top_tenth() -> None:
    labels, logits, wrong = planted()
    found = find_suspects(task_of("a", "b", "c"), labels, logits)
    top = found.ranked()[:60]
    assert wrong[top].sum() >= 0.6 * wrong.sum()
    assert wrong[found.suspect].mean() > 0.4  # the suspects are a list worth reading
    assert sorted(found.ranked().tolist()) == list(range(600))


def test_a_label_is_suspect_if_the_model_is_confident_of_another_one() -> None:
    probabilities = [
        [0.9, 0.1],
        [0.7, 0.3],  # the mean of these two and the last, 0.6, is what rows of `a` get
        [0.2, 0.8],  # called b, and the mean of b is 0.65
        [0.5, 0.5],
        [0.2, 0.8],  # called a: confident of b
    ]
    labels = np.array([0, 0, 1, 1, 0])
    task = task_of("a", "b")
    assert confident_thresholds(task, labels, logits_of(probabilities)) == pytest.approx([0.6, 0.65], abs=1e-6)
    found = find_suspects(task, labels, logits_of(probabilities))
    assert found.suspect.tolist() == [False, False, False, False, True]
    assert found.suggested.tolist() == [1, 1, 0, 0, 1]
    assert found.quality == pytest.approx([0.9, 0.7, 0.8, 0.5, 0.2], abs=1e-6)
    assert found.ranked().tolist() == [4, 3, 1, 2, 0]


def test_a_label_that_the_model_finds_most_probable_itself_is_not_suspect() -> None:
    """Of a rare class the model is confident early: 0.3 is more than its rows get, and still the label is likelier."""
    probabilities = [[0.9, 0.1], [0.95, 0.05], [0.7, 0.3], [0.8, 0.2]]
    labels = np.array([0, 0, 0, 1])
    assert not find_suspects(task_of("a", "rare"), labels, logits_of(probabilities)).suspect.any()


def test_a_label_that_no_row_has_is_never_what_the_model_is_confident_of() -> None:
    found = find_suspects(task_of("a", "b", "none"), np.array([0, 1]), logits_of([[0.1, 0.2, 0.7], [0.2, 0.2, 0.6]]))
    assert found.suspect.all() and found.suggested.tolist() == [1, 0]


def test_of_several_labels_each_is_a_question_of_its_own() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.9], [0.1, 0.2], [0.9, 0.95], [0.1, 0.1]])
    labels = np.array([[1, 0], [1, 1], [0, 0], [1, 0], [0, 0]], dtype=np.float32)
    logits = np.log(probabilities / (1 - probabilities)).astype(np.float32)
    found = find_suspects(task_of("a", "b", problem=SETS), labels, logits)
    assert found.suspect.tolist() == [False, False, False, True, False]
    assert found.suggested[3].tolist() == [1, 1] and found.suggested[0].tolist() == [1, 0]
    assert found.quality[3] == pytest.approx(SMOOTHING * 0.05 + (1 - SMOOTHING) * 0.9, abs=1e-6)
    assert found.ranked()[0] == 3


def test_the_suspects_are_those_of_cleanlab() -> None:
    """Recorded with cleanlab 2.9.0: its `confident_learning` filter, its normalized margin, and for several labels its
    exponential moving average of the self-confidence at 0.8."""
    draws = np.random.default_rng(7)
    true = draws.integers(0, 3, 60)
    logits = (np.eye(3)[true] * 2 + draws.normal(size=(60, 3)) * 1.5).astype(np.float32)
    labels = np.where(draws.random(60) < 0.15, draws.integers(0, 3, 60), true)
    found = find_suspects(task_of("a", "b", "c"), labels, logits)
    assert np.flatnonzero(found.suspect).tolist() == [16, 22, 24, 38, 45, 47, 48, 51, 52, 53, 56]
    assert found.quality.sum() == pytest.approx(36.570590429812874, abs=1e-9)
    draws = np.random.default_rng(7)
    sets = (draws.random((40, 3)) < 0.4).astype(np.float32)
    logits = ((2 * sets - 1) * 2 + draws.normal(size=sets.shape) * 2).astype(np.float32)
    found = find_suspects(task_of("a", "b", "c", problem=SETS), sets, logits)
    assert np.flatnonzero(found.suspect).tolist() == [1, 5, 14, 28, 31, 38]
    assert found.quality.sum() == pytest.approx(25.057523290400653, abs=1e-9)


def test_a_few_rows_at_a_time_give_what_all_at_once_give(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, logits, _ = planted()
    whole = find_suspects(task_of("a", "b", "c"), labels, logits)
    monkeypatch.setattr("stages.report.suspects.PROBABILITIES_AT_ONCE", 21)
    parts = find_suspects(task_of("a", "b", "c"), labels, logits)
    assert np.array_equal(whole.suspect, parts.suspect) and np.array_equal(whole.suggested, parts.suggested)
    assert np.array_equal(whole.quality, parts.quality)


def out_of_fold(texts: list[str]) -> OutOfFold:
    rows = pa.table(
        {
            "id": ["t1", "-t2", "t3"],
            "text": texts,
            "idx": pa.array([0, 4, 5], pa.int32()),
            "kept:source": ["x", "=y", "z"],
        }
    )
    labels = np.array([0, 1, 0])
    logits = logits_of([[0.9, 0.1], [0.1, 0.9], [0.1, 0.9]])
    return OutOfFold(
        task_of("=no", "yes"),
        ["fold-1", "fold-2"],
        np.array([0, 1, 0]),
        np.array([0, 4, 5]),
        labels,
        logits,
        None,
        rows,
        0,
    )


def test_annotators_get_the_suspects_first_and_no_formulas() -> None:
    found = out_of_fold(["one", "two", "=three\nlines"])
    judged = find_suspects(found.task, found.labels, found.logits)
    text = "".join(map(csv_line, csv_rows(found, judged, True)))
    header, first, *others = csv.reader(io.StringIO(text))
    assert header == ["idx", "id", "text", "label", "suggested_label", "quality", "suspect", "source"]
    assert first == ["5", "t3", "'=three\nlines", "'=no", "yes", "0.1000", "yes", "z"]
    assert [row[0] for row in others] == ["0", "4"] and [row[-2] for row in others] == ["no", "no"]
    assert others[1][-1] == "'=y" and others[1][1] == "'-t2"
    assert len(list(csv_rows(found, judged, False))) == 2
    assert row_of(found, judged, 2).texts == ["=three\nlines"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--k", "1"], "--k 1: must be at least 2"),
        (["--all"], "--all: takes --out, the file to write all rows to"),
        (["--out", "nowhere/a.csv"], "--out nowhere/a.csv: no folder nowhere; make it first"),
        (
            ["-S", "download.fold=null"],
            "'download.fold=null': expected section.key=value, and download.fold comes from --k",
        ),
    ],
)
def test_arguments_that_make_no_sense_are_one_line(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert suspects.main(arguments) == 2
    assert capsys.readouterr() == ("", f"suspects: {line}\n")


@pytest.mark.parametrize("change", ["download.problem_type=regression", "download.dataset=glue/stsb"])
def test_a_regression_is_refused_before_anything_is_trained(
    change: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(suspects, "predict_out_of_fold", lambda *_: pytest.fail("something ran"))
    assert suspects.main(["-S", change]) == 2
    assert capsys.readouterr().err == (
        "suspects: a regression has no labels to be suspect: confident learning is for classes\n"
    )


def test_what_is_shown_in_a_terminal_cannot_move_its_cursor() -> None:
    found = out_of_fold(["one", "two", "\x1b[2Jthree"])
    judged = find_suspects(found.task, found.labels, found.logits)
    worst = [row_of(found, judged, 2)]
    text = suspects.as_text(suspects.SuspectList(found.experiments, 3, 1, worst, ["a note"]))
    assert text.splitlines()[0] == "1 of 3 labels of train are suspect (33.3 %)"
    assert "\\x1b[2Jthree" in text and "\x1b" not in text and text.endswith("a note")
