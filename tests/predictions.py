"""A project of three lines of shell whose models are made up: what checks.compare and checks.gate read, in seconds."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from dvc.repo import Repo

from tests.project import Project

DAG = """\
stages:
  download:
    cmd: mkdir -p data; rm -rf data/raw; cp -r made/raw data/raw
    deps: [made/raw]
    outs: [data/raw]
  predict:
    cmd: mkdir -p models; cp made/model models/finetuned; rm -rf data/predictions; cp -r made/predictions data/
    params: [train]
    deps: [made/model, made/predictions]
    outs: [data/predictions, models/finetuned]
  evaluate:
    cmd: mkdir -p metrics; cp made/metrics.json metrics/metrics.json
    params: [evaluate]
    deps: [data/predictions, made/metrics.json]
    metrics:
      - metrics/metrics.json:
          cache: false
"""
PARAMS = """\
train:
  learning_rate: 1.0e-4
evaluate:
  splits: [validation]
  metrics: []
  confidence: 0.95
  resamples: 2000
  seed: 0
  per_class: false
gate: []
"""
TASK = {
    "name": "files",
    "problem_type": "single_label_classification",
    "label_names": ["no", "yes"],
    "metrics": ["accuracy", "f1"],
    "source": "files",
    "revision": "0",
}


def labels_of(examples: int, **task: Any) -> np.ndarray:
    generator = np.random.default_rng(0)
    if task.get("problem_type") == "regression":
        return generator.normal(size=examples).astype(np.float32)
    if task.get("problem_type") == "multi_label_classification":
        return (generator.random((examples, 2)) < 0.5).astype(np.float32)
    return generator.integers(0, 2, examples)


def logits_of(labels: np.ndarray, wrong: Sequence[int]) -> np.ndarray:
    """Answers of a model that is wrong in these rows; the surer, the later the row."""
    answers = labels.astype(np.float64).copy()
    answers[list(wrong)] = 1 - answers[list(wrong)]
    sure = np.linspace(0.5, 3.0, len(labels))
    if labels.ndim == 2:
        return ((2 * answers - 1) * sure[:, None]).astype(np.float32)
    return np.stack([(1 - answers) * sure, answers * sure], axis=1).astype(np.float32)


def make(
    project: Project,
    labels: np.ndarray,
    logits: np.ndarray,
    texts: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    **task: Any,
) -> None:
    """Writes what the stages copy, runs them and commits."""
    from stages.shared.task.scorer import score
    from stages.shared.task.task import Task

    raw, predictions = (project.folder / "made" / name for name in ("raw", "predictions"))
    shutil.rmtree(project.folder / "made", ignore_errors=True)
    (raw / "validation").mkdir(parents=True)
    (predictions / "validation").mkdir(parents=True)
    (raw / "task.json").write_text(json.dumps(TASK | task))
    texts = texts or [f"text {row}" for row in range(1, len(labels) + 1)]
    columns = {"text": texts, "text_pair": [f"the pair of {text}" for text in texts]}
    table = pa.table(columns | ({} if groups is None else {"group": groups}))
    with pa.ipc.new_stream(raw / "validation" / "data-00000-of-00001.arrow", table.schema) as stream:
        stream.write_table(table)
    (project.folder / "made" / "model").write_bytes(np.ascontiguousarray(logits).tobytes())
    np.save(predictions / "validation" / "labels.npy", labels)
    np.save(predictions / "validation" / "logits.npy", logits)
    scores = score(Task(**(TASK | task)), logits, labels) | {"examples": len(labels)}
    (project.folder / "made" / "metrics.json").write_text(json.dumps({"validation": scores}))
    repro(project)
    project.commit("made")


def warn(project: Project, split: str, message: str) -> None:
    """Commits a run's one warning."""
    warnings = [{"guard": "a guard", "split": split, "message": message}]
    (project.folder / "metrics" / "warnings.json").write_text(json.dumps({"warnings": warnings}))
    project.commit("a warning")


def repro(project: Project) -> None:
    with pytest.MonkeyPatch.context() as patch, Repo(str(project.folder)) as repo:
        patch.chdir(project.folder)
        repo.reproduce()


def make_project(folder: Path) -> Project:
    """Makes a project with the branch `main`, whose model is wrong in rows 0 to 39 of 200, and nothing else."""
    project = Project(folder)
    folder.mkdir(parents=True)
    (folder / "dvc.yaml").write_text(DAG)
    (folder / "params.yaml").write_text(PARAMS)
    project.start_git()
    Repo.init(str(folder)).close()
    labels = labels_of(200)
    make(project, labels, logits_of(labels, range(40)))
    return project


def branch(project: Project, name: str, labels: np.ndarray, logits: np.ndarray, **more: Any) -> None:
    """Makes another branch and stays on it."""
    project.run("git", "checkout", "--quiet", "-b", name)
    make(project, labels, logits, **more)
