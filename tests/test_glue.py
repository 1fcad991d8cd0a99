"""GLUE whole: ten names from the loopback Hub, each with its official columns, labels, splits and metrics."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import load_from_disk
from scipy import stats
from sklearn import metrics as reference

from stages.download.glue import GLUE
from stages.shared.task.scorer import score
from stages.shared.task.task import Task, read_task
from tests.hub import Hub
from tests.project import Project
from tests.repositories import GLUE_COMMIT, Downloader, glue, hub_of

NAMES = ("cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte", "wnli", "ax")
MNLI_SPLITS = ["train", "validation_matched", "validation_mismatched"]
ENTAILMENT = ["entailment", "neutral", "contradiction"]

# Written down from the dataset card and the GLUE paper, apart from the table in stages/download/glue.py:
# texts, label names, metrics.
OFFICIAL: dict[str, tuple[int, list[str], list[str]]] = {
    "cola": (1, ["unacceptable", "acceptable"], ["matthews_correlation"]),
    "sst2": (1, ["negative", "positive"], ["accuracy"]),
    "mrpc": (2, ["not_equivalent", "equivalent"], ["accuracy", "f1"]),
    "qqp": (2, ["not_duplicate", "duplicate"], ["accuracy", "f1"]),
    "stsb": (2, [], ["pearson", "spearmanr"]),
    "mnli": (2, ENTAILMENT, ["accuracy"]),
    "qnli": (2, ["entailment", "not_entailment"], ["accuracy"]),
    "rte": (2, ["entailment", "not_entailment"], ["accuracy"]),
    "wnli": (2, ["not_entailment", "entailment"], ["accuracy"]),
    "ax": (2, ENTAILMENT, ["matthews_correlation"]),
}


def test_the_ten_names_are_there() -> None:
    assert tuple(GLUE) == NAMES == tuple(OFFICIAL)


# One process for all ten: the imports cost seconds, a download of a few rows does not.
EVERY_TASK = """
import sys
from pathlib import Path
import stages
stages.environment.go_online()
from stages.download.download import DownloadFiles, DownloadParams, download
from stages.shared.runtime.execution import Execution
from stages.shared.runtime.params import read_params
from stages.tokenize.tokenize import TokenizeFiles, TokenizeParams, tokenize

for task in sys.argv[1:]:
    params, folder = read_params("download", DownloadParams), Path(task)
    params = DownloadParams(**(vars(params) | {"dataset": f"glue/{task}"}))
    files = DownloadFiles(folder / "raw", folder / "pretrained", folder / "overlap", folder / "data.json")
    execution = Execution("cpu", 60.0, 1, 60.0, 1, 1, None)
    download(params, execution, files)
    tokenized = TokenizeFiles(files.raw, files.pretrained, folder / "tokenized", folder / "truncation.json")
    tokenize(TokenizeParams(32, "truncate", 0, "mean", None), execution, tokenized)
"""


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    """A folder for each task with what download and tokenize made of it."""
    download = Downloader(tmp_path_factory.mktemp("glue"), tiny_checkpoint)
    with hub_of() as hub:
        download(hub, dataset="glue/none")  # writes params.yaml; there is no such task
        environment = download.environment | {"HF_ENDPOINT": hub.endpoint}
        done = subprocess.run(
            [sys.executable, "-c", EVERY_TASK, *NAMES],
            cwd=download.folder,
            env=environment,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    return download.folder


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_task_arrives_with_its_own_columns_labels_splits_and_metrics(name: str, fetched: Path) -> None:
    texts, label_names, metrics = OFFICIAL[name]
    task = read_task(fetched / name / "raw" / "task.json")
    assert (task.name, task.source, task.revision) == (f"glue/{name}", "glue", GLUE_COMMIT)
    assert (task.label_names, task.metrics) == (label_names, metrics)
    assert task.problem_type == ("single_label_classification" if label_names else "regression")
    raw = load_from_disk(str(fetched / name / "raw"))
    tests = {"mnli": ["test_matched", "test_mismatched"]}.get(name, ["test"])
    labelled = MNLI_SPLITS if name in ("mnli", "ax") else ["train", "validation"]
    assert list(raw) == [*labelled, *tests]
    config = "mnli" if name == "ax" else name
    for split, rows in raw.items():
        assert rows.column_names == ["text", *(["text_pair"] if texts == 2 else []), "label", "idx"]
        assert getattr(rows.features["label"], "names", []) == label_names
        labels = rows["label"][:]
        assert set(labels) == {-1} if split in tests else -1 not in labels
        source = name if split in tests else config
        assert rows[0]["text"].startswith(f"{source} {split} row 0 ")
        if texts == 2:
            assert rows[0]["text"] != rows[0]["text_pair"]
    tokenized = load_from_disk(str(fetched / name / "tokenized"))
    assert {split: len(rows) for split, rows in tokenized.items()} == {split: len(rows) for split, rows in raw.items()}
    assert all(rows["length"][0] > 3 for rows in tokenized.values())
    assert (1 in tokenized["train"]["token_type_ids"][0]) == (texts == 2)


def test_the_bare_name_and_an_unknown_task_are_refused(download: Downloader) -> None:
    with hub_of() as hub:
        done = download(hub, dataset="glue")
        assert done.stderr == (
            "download: params.yaml: download.dataset: must be files, glue/<task> or hub:<owner>/<name>, got 'glue'\n"
        )
    assert done.returncode == 1 and not hub.requests


# What the metrics are, by libraries called directly.
DEFINITIONS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": lambda y, p: float(reference.accuracy_score(y, p)),
    "f1": lambda y, p: float(reference.f1_score(y, p, pos_label=1, average="binary", zero_division=0)),
    "matthews_correlation": lambda y, p: float(reference.matthews_corrcoef(y, p)),
    "pearson": lambda y, p: float(stats.pearsonr(y, p)[0]),
    "spearmanr": lambda y, p: float(stats.spearmanr(y, p)[0]),
}


def task_of(name: str) -> Task:
    row = GLUE[name]
    return Task(f"glue/{name}", row.problem_type, row.label_names, row.metrics, "glue", GLUE_COMMIT)


def scores_of(name: str, labels: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """Scores predictions by way of logits, as the pipeline does."""
    if GLUE[name].label_names:
        logits = np.eye(len(GLUE[name].label_names), dtype=np.float32)[predictions]
    else:
        logits, labels = predictions.astype(np.float32)[:, None], labels.astype(np.float32)
    return score(task_of(name), logits, labels)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(5))
def test_the_metrics_are_those_of_the_definition(name: str, seed: int) -> None:
    generator = np.random.default_rng(seed)
    if GLUE[name].label_names:
        labels, predictions = generator.integers(0, len(GLUE[name].label_names), (2, 97))
    else:
        labels = generator.integers(0, 26, 97) / 5  # STS-B's own scores: a fifth apart, so with ties
        predictions = np.round(labels + generator.normal(size=97), seed % 3)  # and ties here too
    scores = scores_of(name, labels, predictions)
    for metric in OFFICIAL[name][2]:
        assert scores[metric] == pytest.approx(DEFINITIONS[metric](labels, predictions), abs=1e-6), metric


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", ["predictions", "labels", "both"])
def test_constant_predictions_and_labels_have_a_score(name: str, what: str) -> None:
    """A correlation with a constant is undefined (SciPy: nan); it is scored 0, as no better than chance."""
    varied = np.array([0, 1, 1, 0, 1])
    constant = np.ones(5, dtype=int)
    labels = varied if what == "predictions" else constant
    predictions = varied if what == "labels" else constant
    scores = scores_of(name, labels, predictions)
    for metric in OFFICIAL[name][2]:
        expected = 0.0 if metric in ("pearson", "spearmanr") else DEFINITIONS[metric](labels, predictions)
        assert scores[metric] == pytest.approx(expected, abs=1e-12), metric


@pytest.mark.parametrize(
    ("names", "labels", "result"),
    [
        (("sst2", "mnli", "qnli", "rte", "wnli"), [0, 1], {"accuracy": 1.0}),
        (("mrpc", "qqp"), [0, 1], {"accuracy": 1.0, "f1": 1.0}),
        (("stsb",), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0], {"pearson": 1.0, "spearmanr": 1.0}),
        (("cola",), [0, 1], {"matthews_correlation": 1.0}),
    ],
)
def test_the_worked_examples_of_the_glue_metric_come_out(
    names: tuple[str, ...], labels: list[float], result: dict[str, float]
) -> None:
    for name in names:
        scores = scores_of(name, np.array(labels), np.array(labels))
        del scores["loss"]
        assert scores == pytest.approx(result)


def test_ties_share_a_rank() -> None:
    """By hand: ranks 1, 2.5, 2.5, 4 against 1, 2, 3.5, 3.5 have the correlation 3.75 / 4.5."""
    scores = scores_of("stsb", np.array([0.0, 1.0, 1.0, 2.0]), np.array([0.0, 1.0, 2.0, 2.0]))
    assert scores["spearmanr"] == pytest.approx(3.75 / 4.5, abs=1e-6)


# The whole DAG.

EVALUATED = {name: ["validation"] for name in NAMES} | {"mnli": MNLI_SPLITS[1:], "ax": MNLI_SPLITS[1:]}


@pytest.mark.exhaustive  # tests/test_bert_base.py takes MRPC through it in the slow tier
@pytest.mark.parametrize("name", ["cola", "mrpc", "stsb", "mnli", "rte", "ax"])
def test_a_task_goes_through_the_whole_dag(name: str, project: Project, tiny_checkpoint: Path, tmp_path: Path) -> None:
    environment = {"HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": ""}
    project.set(
        download__dataset=f"glue/{name}",
        download__checkpoint="files",
        download__checkpoint_files=str(tiny_checkpoint),
        tokenize__max_length=32,
        train__epochs=1,
    )
    with Hub({("dataset", "nyu-mll/glue"): {GLUE_COMMIT: glue(24)}}) as hub:
        done = project.repro(HF_ENDPOINT=hub.endpoint, **environment)
    assert done[:7] == ["download", "tokenize", "train", "predict", "calibrate", "evaluate", "baselines"]
    metrics: dict[str, Any] = json.loads(project.read("metrics/metrics.json"))
    assert list(metrics) == EVALUATED[name]
    for scores in metrics.values():
        assert [*scores][: len(OFFICIAL[name][2])] == OFFICIAL[name][2]
        assert set(scores) >= {"loss", "examples"} and scores["examples"] == 12
    predicted = {folder.name for folder in (project.folder / "data" / "predictions").iterdir()}
    assert predicted >= {*EVALUATED[name], *(["test_matched", "test_mismatched"] if name == "mnli" else ["test"])}
    assert project.repro() == []  # the Hub is gone, and nobody asks for it
