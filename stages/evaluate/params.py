"""What `evaluate` is asked: the checks ask it too, but without the seconds that its scorer takes to import."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from pydantic import Field

from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.params import params_dataclass
from stages.shared.task.metrics import METRICS, PROBABILITY_METRICS, check_metrics, name_type
from stages.shared.task.task import Task

MetricName = Annotated[str, name_type(METRICS, PROBABILITY_METRICS)]


@params_dataclass
class EvaluateParams:
    splits: Annotated[list[str], Field(min_length=1)]  # `validation` also means validation_matched and its like
    metrics: list[MetricName]  # besides download.metrics
    confidence: Annotated[float, Field(gt=0, lt=1)]  # of the intervals
    resamples: Annotated[int, Field(ge=100)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]


def extra_metrics(wanted: Sequence[str], task: Task) -> list[str]:
    """Returns the metrics of `evaluate.metrics` that the task does not have already.

    Raises:
        BadInput: one is not defined for its kind of problem.
    """
    extra = [name for name in dict.fromkeys(wanted) if name not in task.metrics]
    check_metrics(replace(task, metrics=[name for name in extra if name in METRICS]), "evaluate.metrics")
    for name in extra:
        if name in PROBABILITY_METRICS and task.problem.numeric:
            raise BadInput(f"params.yaml: evaluate.metrics: {name} is not defined for {task.problem_type}; remove it")
    return extra


def chosen_splits(wanted: Sequence[str], predicted: Sequence[str]) -> list[str]:
    """Resolves `evaluate.splits`; `validation` stands for validation_matched and its like too."""
    chosen: list[str] = []
    for name in wanted:
        found = [split for split in predicted if split == name or split.startswith(f"{name}_")]
        if not found:
            raise BadInput(
                f"params.yaml: evaluate.splits: no predictions for {name!r}, only for {', '.join(predicted)}"
            )
        chosen += [split for split in found if split not in chosen]
    return chosen
