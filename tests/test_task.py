"""Problem types and metrics: what each does, said once, and what follows from one entry in the table."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard

from stages.download.download import DownloadParams
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.params import fill
from stages.shared.task.metrics import METRICS, Metric, OverCounts, OverMeans
from stages.shared.task.problem_types import CLASSES, NUMBERS, PROBLEMS, SETS, Classification
from stages.shared.task.task import read_task
from stages.train.objective import Objective
from tests.made_run import make_run
from tests.project import PARAMS
from tests.test_evaluate import run
from tests.test_report import render

LABELS: dict[str, Any] = {
    CLASSES: np.array([0, 2, 1, 2]),
    SETS: np.array([[0, 1, 1], [1, 1, 0], [0, 0, 0], [1, 1, 1]], dtype=np.float32),
    NUMBERS: np.array([0.5, 2.0, -1.0, 0.0], dtype=np.float32),
}


def logits_for(problem: str, spread: float) -> np.ndarray:
    generator = np.random.default_rng(0)
    return (spread * generator.normal(size=(4, 1 if problem == NUMBERS else 3))).astype(np.float32)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("spread", [0.0, 1.0, 40.0])
def test_the_loss_that_is_scored_is_the_one_that_is_trained(problem: str, spread: float) -> None:
    logits, labels = logits_for(problem, spread), LABELS[problem]
    scored = PROBLEMS[problem].losses(logits, labels).reshape(4, -1).mean(axis=1)
    trained = Objective(PROBLEMS[problem]).losses(torch.from_numpy(logits), torch.from_numpy(labels))
    assert trained.numpy() == pytest.approx(scored, rel=1e-5, abs=1e-6)
    assert PROBLEMS[problem].loss(logits, labels) == pytest.approx(scored.mean(), rel=1e-12)


@pytest.mark.parametrize("name", [CLASSES, SETS])
@pytest.mark.parametrize("spread", [0.0, 1.0, 40.0])
def test_the_confidence_is_the_probability_of_the_prediction(name: str, spread: float) -> None:
    problem, logits = PROBLEMS[name], logits_for(name, spread)
    assert isinstance(problem, Classification)
    members, probabilities = problem.members(problem.predict(logits), 3), problem.probabilities(logits)
    own = np.where(members, probabilities, 1 - probabilities)
    expected = own if name == SETS else own[members]
    assert problem.confidence(logits) == pytest.approx(expected, abs=1e-12)
    odds = np.stack([problem.log_odds(logits, column) for column in range(3)], axis=1)
    assert 1 / (1 + np.exp(-odds)) == pytest.approx(probabilities, abs=1e-12)


def test_labels_are_counted_and_said_as_they_are() -> None:
    classes, sets, numbers = (PROBLEMS[name] for name in (CLASSES, SETS, NUMBERS))
    assert isinstance(classes, Classification) and isinstance(sets, Classification)
    assert classes.tally(LABELS[CLASSES], 4).tolist() == [1, 1, 2, 0]
    assert classes.tally(LABELS[CLASSES], 4, np.array([True, True, False, False])).tolist() == [1, 0, 1, 0]
    assert sets.tally(LABELS[SETS], 3).tolist() == [2, 3, 2]
    assert sets.tally(LABELS[SETS], 3, np.eye(4, 3) > 0).tolist() == [0, 1, 0]
    names = ["a", "b", "c"]
    assert [classes.say(label, names) for label in LABELS[CLASSES]] == ["a", "c", "b", "c"]
    assert [sets.say(label, names) for label in LABELS[SETS]] == ["b, c", "a, b", "none", "a, b, c"]
    assert [numbers.say(label, []) for label in LABELS[NUMBERS]] == ["0.500", "2.000", "-1.000", "0.000"]


def test_a_set_is_right_when_all_of_it_is() -> None:
    predicted = np.array([[0, 1, 1], [1, 1, 1], [0, 0, 0], [0, 0, 0]], dtype=np.float32)
    assert PROBLEMS[SETS].right(predicted, LABELS[SETS]).tolist() == [True, False, True, False]


def wrong(labels: np.ndarray, predictions: np.ndarray) -> float:
    return float(np.mean(labels != predictions))


def far(labels: np.ndarray, predictions: np.ndarray) -> float:
    return float(np.mean(np.abs(labels.astype(np.float64) - predictions)))


NEW = {
    CLASSES: Metric(
        title="Error rate",
        hub_id="error_rate",
        problem_types=(CLASSES,),
        score=wrong,
        resampled=OverCounts(lambda c: 1 - c.right / c.examples),
        greater_is_better=False,
    ),
    NUMBERS: Metric(
        title="Mean absolute error",
        hub_id="mae",
        problem_types=(NUMBERS,),
        score=far,
        resampled=OverMeans(
            lambda labels, predictions: [np.abs(predictions.astype(np.float64) - labels)], lambda error: error
        ),
        greater_is_better=False,
    ),
}


@pytest.mark.parametrize("problem", NEW)
def test_one_entry_in_the_table_is_a_metric_everywhere(
    problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = PARAMS["download"] | {"metrics": ["new"]}
    with pytest.raises(BadInput, match=r"download\.metrics\.0: must be one of 'accuracy', .* or .*, got 'new'"):
        fill(DownloadParams, section, "params.yaml: download")
    metric = NEW[problem]
    monkeypatch.setitem(METRICS, "new", metric)
    assert fill(DownloadParams, section, "params.yaml: download").metrics == ["new"]

    files = make_run(tmp_path / "run", problem=problem, metrics=["new"], examples=200)
    labels, logits = (np.load(files.predictions / "validation" / f"{name}.npy") for name in ("labels", "logits"))
    task = read_task(files.raw / "task.json")
    scores = run(tmp_path / "scored", {"validation": labels}, {"validation": logits}, task, "validation")
    expected = metric.score(labels, PROBLEMS[problem].predict(logits))
    assert scores["validation"]["new"] == pytest.approx(expected, rel=1e-6)
    (record, _) = json.loads((tmp_path / "scored" / "intervals.json").read_text())["intervals"]
    assert record["metric"] == "new" and record["low"] < expected < record["high"] < record["baseline"]
    answers = np.unique(labels)
    best = min(metric.score(labels, np.full(len(labels), answer)) for answer in answers)
    assert record["baseline"] == pytest.approx(best, rel=1e-2)

    for name in ("metrics", "intervals", "warnings"):
        getattr(files, name).write_bytes((tmp_path / "scored" / f"{name}.json").read_bytes())
    page, card, said = render(files)
    assert f"{expected:.3f}" in page and ">new</th>" in page and f"{expected:.3f}" in said
    assert f"| validation | {metric.title} | {expected:.3f} | {record['low']:.3f} to " in card
    (result,) = ModelCard.load(files.card).data.eval_results or []
    assert (result.metric_type, result.metric_name) == (metric.hub_id, metric.title)
