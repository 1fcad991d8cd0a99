"""`data/raw/task.json`: all that the later stages know about where the data came from and what is asked of it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from stages.shared.runtime.publish import write_json

ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]


@dataclass(frozen=True)
class Task:
    """One classification or regression problem."""

    name: str  # as in download.dataset
    problem_type: ProblemType
    label_names: list[str]  # in the order of the logits' columns; empty for a regression
    metrics: list[str]  # names of stages.shared.task.scoring; the first one selects the checkpoint
    source: str  # files | glue | hub
    revision: str  # 40-hex commit of a Hub dataset, else sha256 of the files

    @property
    def columns(self) -> int:
        """The number of columns of the logits."""
        return len(self.label_names) or 1


def write_task(file: Path, task: Task) -> None:
    """Writes `task` as JSON."""
    write_json(file, asdict(task))


def read_task(file: Path) -> Task:
    """Reads what `write_task` wrote."""
    return Task(**json.loads(file.read_text(encoding="utf-8")))
