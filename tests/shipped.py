"""A project whose model was never trained: what the commands of ship/ use, made in seconds."""

import json
import shutil
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from dvc.repo import Repo
from ruamel.yaml import YAML
from transformers import AutoTokenizer

from stages.predict.predict import PredictFiles, PredictParams, predict
from stages.shared.runtime.splits import save_splits
from stages.shared.task.calibration import Calibration, Fit, write_calibration
from stages.shared.task.task import Task, write_task
from stages.tokenize.tokenize import TokenizeFiles, tokenize
from stages.train.model import load_pretrained
from stages.train.train import copy_tokenizer
from tests.project import PARAMS, Project
from tests.tiny import EXECUTION, sample_pairs, tokenize_params

MAX_LENGTH, TOKEN_BUDGET = 100, 512
DAG = """\
stages:
  download:
    cmd: mkdir -p data; rm -rf data/raw; cp -r raw data/raw
    deps: [raw]
    params: [download]
    outs: [data/raw]
  tokenize: {cmd: "true", params: [tokenize]}
  train:
    cmd: mkdir -p models; rm -rf models/finetuned; cp -r made models/finetuned
    deps: [made]
    outs: [models/finetuned]
  predict:
    cmd: rm -rf data/predictions; mkdir -p data; cp -r models/finetuned data/predictions
    deps: [models/finetuned]
    params: [predict]
    outs: [data/predictions]
  calibrate:
    cmd: mkdir -p metrics; cp calibration.json metrics/calibration.json
    deps: [calibration.json, data/predictions]
    metrics:
      - metrics/calibration.json: {cache: false}
  report:
    cmd: mkdir -p metrics; cp card.md metrics/model_card.md
    deps: [card.md]
    outs: [metrics/model_card.md]
"""
LABELS = {
    "single_label_classification": ["no", "=yes"],
    "multi_label_classification": ["billing", "login", "über"],
    "regression": [],
}


@dataclass(frozen=True)
class Shipped:
    """A project with a finished model, and rows to score."""

    project: Project
    task: Task
    columns: list[str]  # of the texts
    rows: list[dict[str, Any]]
    logits: np.ndarray  # what `tokenize` and `predict` make of the texts, float32[rows, columns]

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self.project.folder


def make_shipped(
    folder: Path, checkpoint: Path, problem_type: Any, pairs: bool, examples: int = 60, **cut: Any
) -> Shipped:
    """Makes and commits it, with `examples` rows of id, texts and another column; `cut` is for section tokenize."""
    task = Task("files", problem_type, LABELS[problem_type], ["accuracy"], "files", "0")
    columns = ["first", "second"] if pairs else ["first"]
    folder.mkdir(parents=True)
    project = Project(folder)
    save_model(folder / "made", checkpoint, task, seed=1, pairs=pairs)
    params = deepcopy(PARAMS)
    params["download"] |= {
        "dataset": "files",
        "problem_type": problem_type,
        "text_column": "first",
        "text_pair_column": "second" if pairs else None,
        "label_names": task.label_names or None,
    }
    params["tokenize"] |= {"max_length": MAX_LENGTH, **cut}
    params["predict"] |= {"token_budget": TOKEN_BUDGET}
    YAML().dump(params, folder / "params.yaml")
    (folder / "dvc.yaml").write_text(DAG)
    (folder / ".gitignore").write_text("/models\n/data\n/metrics/model_card.md\n/.scratch\n/.dvc/cache\n/.dvc/tmp\n")
    (folder / "raw").mkdir()
    (folder / "raw" / "train.arrow").write_bytes(b"the data")
    (folder / "card.md").write_text("---\npipeline_tag: text-classification\n---\n\n# The card\n")
    write_calibration(folder / "calibration.json", None, "off")
    project.start_git()
    Repo.init(str(folder)).close()
    reproduce(project)
    rows = [
        {
            "id": f"{number:03}",
            "first": row["sentence1"],
            "second": row["sentence2"],
            "note": f'-{number}, "\nx',
        }
        for number, row in enumerate(sample_pairs()[:examples])
    ]
    rows[3]["first"] = f"{rows[3]['first']} " * 9  # longer than the model reads
    return Shipped(project, task, columns, rows, predicted(folder, task, columns, rows, **cut))


def calibration(whole: Fit, **others: Any) -> Calibration:
    """What `calibrate` would have fitted, where nothing else is said."""
    nothing = {"metric": None, "costs": None, "error_rate": None}
    return Calibration(["validation"], 60, 60, whole=whole, folds=[], notes=[], **(nothing | others))


def reproduce(project: Project) -> None:
    """Brings the model to where it belongs and commits its lock."""
    with pytest.MonkeyPatch.context() as patch, Repo(str(project.folder)) as repo:
        patch.chdir(project.folder)
        repo.reproduce()
    project.commit("a model")


def save_model(folder: Path, checkpoint: Path, task: Task, seed: int, pairs: bool = True) -> None:
    """Writes what `train` leaves in models/finetuned, with a classification head as drawn."""
    shutil.rmtree(folder, ignore_errors=True)
    model, _ = load_pretrained(checkpoint, task, seed)
    with torch.no_grad():
        model.classifier.weight.mul_(500)  # so that it does not answer the same to all
        texts = [[row[name] for row in sample_pairs()[:60]] for name in ("sentence1", "sentence2")[: 1 + pairs]]
        cut = {"truncation": True, "max_length": MAX_LENGTH, "padding": True}
        inputs = AutoTokenizer.from_pretrained(checkpoint)(*texts, **cut, return_tensors="pt")
        model.classifier.bias -= model.eval()(**inputs).logits.median(dim=0).values
    model.save_pretrained(folder)
    copy_tokenizer(checkpoint, folder, MAX_LENGTH)
    assert json.loads((folder / "config.json").read_text())["problem_type"] == task.problem_type


def predicted(folder: Path, task: Task, columns: list[str], rows: list[dict[str, Any]], **cut: Any) -> np.ndarray:
    """Has the two stages predict the rows, in a folder of their own beside the project."""
    work = folder.parent / f"{folder.name}-stages"
    raw = {name: [row[column] for row in rows] for name, column in zip(("text", "text_pair"), columns, strict=False)}
    label: list[Any] = [[0.0] * len(task.label_names)] if task.problem_type.startswith("multi") else [-1]
    table = raw | {"label": label * len(rows), "idx": list(range(len(rows)))}
    save_splits({"validation": Dataset.from_dict(table)}, work / "raw")
    write_task(work / "raw" / "task.json", task)
    finetuned = folder / "models" / "finetuned"
    tokenize(
        tokenize_params(MAX_LENGTH, **cut),
        EXECUTION,
        TokenizeFiles(work / "raw", finetuned, work / "tokenized", work / "truncation.json"),
    )
    p = PredictParams(**(PARAMS["predict"] | {"token_budget": TOKEN_BUDGET}))
    task_file, predictions = work / "raw" / "task.json", work / "predictions"
    predict(p, EXECUTION, PredictFiles(work / "tokenized", task_file, finetuned, predictions, work / "scratch"))
    return np.load(predictions / "validation" / "logits.npy")
