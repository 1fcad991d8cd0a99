"""All that the report is made of, read from the files that dvc.yaml names."""

import csv
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from safetensors import safe_open

from stages.shared.intervals import interval_of
from stages.shared.params import PARAMS_FILE
from stages.shared.task import Task, read_task

# The sections that dvc.yaml lists for the stage: no other may be read.
SECTIONS = ("download", "tokenize", "train", "predict", "evaluate", "report")


@dataclass(frozen=True)
class Inputs:
    """Where the stage finds what it reads."""

    raw: Path
    predictions: Path
    pretrained: Path
    finetuned: Path
    metrics: Path
    intervals: Path
    warnings: Path
    calibration: Path
    precision_recall: Path
    roc: Path
    data: Path
    truncation: Path
    selection: Path
    environment: Path
    history: Path
    params: Path = PARAMS_FILE


@dataclass(frozen=True)
class Model:
    """A folder of weights, as it can be checked against another copy."""

    architecture: str
    parameters: int
    files: list[tuple[str, str]]  # name and SHA-256 of each file of weights


@dataclass(frozen=True)
class Run:
    """One finished run."""

    task: Task
    params: Mapping[str, Mapping[str, Any]]  # section -> key -> value
    metrics: Mapping[str, Mapping[str, float]]  # split -> metric -> value
    intervals: list[dict[str, Any]]
    warnings: list[dict[str, str]]
    data: Mapping[str, list[dict[str, Any]]]
    truncation: list[dict[str, Any]]
    selection: Mapping[str, Any]
    environment: Mapping[str, Any]
    history: list[dict[str, float]]  # a row an epoch
    calibration: list[dict[str, str]]  # rows of metrics/plots/calibration.csv, and so on
    precision_recall: list[dict[str, str]]
    roc: list[dict[str, str]]
    pretrained: Model
    finetuned: Model

    @property
    def dataset(self) -> str:
        """What people call the data: the folder of local files, or the name on the Hub."""
        return str(self.params["download"]["dataset_files"]) if self.task.source == "files" else self.task.name

    @property
    def checkpoint(self) -> str:
        """What people call the weights that the training started from."""
        section = self.params["download"]
        return str(section["checkpoint_files"] if section["checkpoint"] == "files" else section["checkpoint"])

    @property
    def confidence(self) -> float:
        """The confidence of every interval on the page: that of `evaluate`."""
        return float(self.params["evaluate"]["confidence"])

    def interval(self, split: str, metric: str) -> Mapping[str, Any] | None:
        """Returns the record of a metric's interval; None for a figure that has none."""
        return interval_of(self.intervals, split, metric)


def read_run(inputs: Inputs) -> Run:
    """Reads everything but the texts and the logits."""
    params = YAML(typ="safe", pure=True).load(inputs.params)
    return Run(
        task=read_task(inputs.raw / "task.json"),
        params={section: dict(params[section]) for section in SECTIONS},
        metrics=_json(inputs.metrics),
        intervals=_json(inputs.intervals)["intervals"],
        warnings=_json(inputs.warnings)["warnings"],
        data=_json(inputs.data),
        truncation=_json(inputs.truncation)["splits"],
        selection=_json(inputs.selection)["selection"][0],
        environment=_json(inputs.environment)["environment"][0],
        history=[{name: float(value) for name, value in row.items()} for row in _rows(inputs.history)],
        calibration=_rows(inputs.calibration),
        precision_recall=_rows(inputs.precision_recall),
        roc=_rows(inputs.roc),
        pretrained=describe_model(inputs.pretrained),
        finetuned=describe_model(inputs.finetuned),
    )


def describe_model(folder: Path) -> Model:
    """Counts a checkpoint's parameters, without reading them, and hashes its files of weights."""
    config = _json(folder / "config.json")
    parameters, files = 0, []
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="numpy") as weights:
            parameters += sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
        with file.open("rb") as stream:
            files.append((file.name, hashlib.file_digest(stream, "sha256").hexdigest()))
    return Model((config.get("architectures") or [config.get("model_type", "unknown")])[0], parameters, files)


def _json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
