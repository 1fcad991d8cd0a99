"""`data/raw/task.json`: everything that later stages know about the source of the data and the task."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from stages.shared.runtime.publish import write_json
from stages.shared.task.problem_types import PROBLEMS, Classification, Problem

ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]


@dataclass(frozen=True)
class Task:
    """One classification or regression problem."""

    name: str  # as in download.dataset
    problem_type: ProblemType
    label_names: list[str]  # in the order of the logits' columns; empty for a regression
    metrics: list[str]  # names of stages.shared.task.metrics; the first one selects the checkpoint
    source: str  # files | glue | hub
    revision: str  # 40-hex commit of a Hub dataset, else sha256 of the files

    @property
    def columns(self) -> int:
        """The number of columns of the logits."""
        return len(self.label_names) or 1

    @property
    def problem(self) -> Problem:
        """What a problem of this type does its own way."""
        return PROBLEMS[self.problem_type]

    @property
    def classification(self) -> Classification:
        """The same, where the labels have names."""
        assert isinstance(self.problem, Classification), self.problem_type
        return self.problem

    @property
    def binary(self) -> bool:
        """Whether an example has one of two labels, so that one curve and one score say all."""
        return self.problem.exclusive and self.columns == 2

    def say(self, label: Any) -> str:
        """Says one example's label or prediction in words."""
        return self.problem.say(label, self.label_names)


def write_task(file: Path, task: Task) -> None:
    """Writes `task` as JSON."""
    write_json(file, asdict(task))


def read_task(file: Path) -> Task:
    """Reads what `write_task` wrote."""
    return Task(**json.loads(file.read_text(encoding="utf-8")))
