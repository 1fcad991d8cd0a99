"""Reads everything that the report shows from the files that dvc.yaml names."""

import csv
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from stages.shared.runtime.params import PARAMS_FILE, read_document
from stages.shared.task.calibration import Calibration, read_calibration
from stages.shared.task.cells import text_of
from stages.shared.task.intervals import interval_of
from stages.shared.task.task import Task, read_task

# The sections that dvc.yaml lists for the stage: no other may be read.
SECTIONS = ("download", "tokenize", "train", "predict", "calibrate", "evaluate", "baselines", "report")


@dataclass(frozen=True)
class ReportFiles:
    """What the stage reads, then what it writes."""

    raw: Path = Path("data/raw")
    overlap: Path = Path("data/overlap")
    predictions: Path = Path("data/predictions")
    pretrained: Path = Path("models/pretrained")
    finetuned: Path = Path("models/finetuned")
    metrics: Path = Path("metrics/metrics.json")
    intervals: Path = Path("metrics/intervals.json")
    warnings: Path = Path("metrics/warnings.json")
    baselines: Path = Path("metrics/baselines.json")
    fitted: Path = Path("metrics/calibration.json")
    calibrated_scores: Path = Path("metrics/calibrated.json")
    calibrated: Path = Path("metrics/plots/calibrated.csv")
    calibration: Path = Path("metrics/plots/calibration.csv")
    precision_recall: Path = Path("metrics/plots/precision_recall.csv")
    roc: Path = Path("metrics/plots/roc.csv")
    data: Path = Path("metrics/data.json")
    truncation: Path = Path("metrics/truncation.json")
    selection: Path = Path("metrics/selection.json")
    environment: Path = Path("metrics/environment.json")
    history: Path = Path("metrics/history.csv")
    requirements: Path = Path("requirements.txt")
    hashed_requirements: Path = Path("hashes/requirements.txt")
    page: Path = Path("metrics/report.html")
    card: Path = Path("metrics/model_card.md")
    materials: Path = Path("metrics/model.cdx.json")
    params: Path = PARAMS_FILE


@dataclass(frozen=True)
class Model:
    """A folder of weights, as it can be checked against another copy."""

    architecture: str
    parameters: int
    files: list[tuple[str, str]]  # name and SHA-256 of each file of weights


@dataclass(frozen=True)
class RunSummary:
    """One finished run."""

    task: Task
    params: Mapping[str, Mapping[str, Any]]  # section -> key -> value
    metrics: Mapping[str, Mapping[str, float]]  # split -> metric -> value
    intervals: list[dict[str, Any]]
    warnings: list[dict[str, Any]]
    data: Mapping[str, list[dict[str, Any]]]
    truncation: list[dict[str, Any]]
    selection: Mapping[str, Any]
    origin: Mapping[str, Any]  # what of the model was new, and not the checkpoint's
    environment: Mapping[str, Any]
    history: list[dict[str, float]]  # a row an epoch
    baselines: Mapping[str, list[dict[str, Any]]]  # simple models, and the fine-tuned one against them
    fitted: Calibration | None  # what calibrate fitted
    calibrated_scores: Mapping[str, list[dict[str, Any]]]  # what it brings: metrics/calibrated.json
    calibrated: list[dict[str, str]]  # rows of metrics/plots/calibrated.csv, and so on
    calibration: list[dict[str, str]]
    precision_recall: list[dict[str, str]]
    roc: list[dict[str, str]]
    pretrained: Model
    finetuned: Model

    @property
    def dataset(self) -> str:
        """What people call the data: the folder or file of local ones, or the name on the Hub."""
        return _name(self.params["download"]["dataset_files"]) if self.task.source == "files" else self.task.name

    @property
    def checkpoint(self) -> str:
        """What people call the weights that the training started from."""
        section = self.params["download"]
        return _name(section["checkpoint_files"]) if section["checkpoint"] == "files" else str(section["checkpoint"])

    @property
    def confidence(self) -> float:
        """The confidence of every interval on the page: that of `evaluate`."""
        return float(self.params["evaluate"]["confidence"])

    def scored(self, split: str) -> list[str]:
        """The names of all that a split was scored by: the task's metrics, the loss, and what else was asked for."""
        return [name for name in self.metrics[split] if name != "examples"]

    def digits(self, split: str) -> int:
        """How many digits behind the point the scores of a split deserve: down to a tenth of their uncertainty."""
        return 3 if self.metrics[split]["examples"] < 2500 else 4

    def interval(self, split: str, metric: str) -> Mapping[str, Any] | None:
        """Returns the record of a metric's interval; None for a figure that has none."""
        return interval_of(self.intervals, split, metric)


def read_run(files: ReportFiles) -> RunSummary:
    """Reads everything but the texts and the logits."""
    params = read_document(files.params)
    selection = _json(files.selection)
    return RunSummary(
        task=read_task(files.raw / "task.json"),
        params={section: dict(params[section]) for section in SECTIONS},
        metrics=_json(files.metrics),
        intervals=_json(files.intervals)["intervals"],
        warnings=_json(files.warnings)["warnings"],
        data=_json(files.data),
        truncation=_json(files.truncation)["splits"],
        selection=selection["selection"][0],
        origin=selection["origin"][0],
        environment=_json(files.environment)["environment"][0],
        history=[{name: float(value) for name, value in row.items()} for row in _rows(files.history)],
        baselines=_json(files.baselines),
        fitted=read_calibration(files.fitted),
        calibrated_scores=_json(files.calibrated_scores),
        calibrated=_rows(files.calibrated),
        calibration=_rows(files.calibration),
        precision_recall=_rows(files.precision_recall),
        roc=_rows(files.roc),
        pretrained=describe_model(files.pretrained),
        finetuned=describe_model(files.finetuned),
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


def _name(path: str) -> str:
    """Returns a path inside the project as it is, and of another one its end: a reader has no use for more."""
    return Path(path).name if Path(path).is_absolute() or ".." in Path(path).parts else path


def _json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return [{name: text_of(cell) for name, cell in row.items()} for row in csv.DictReader(stream)]
