"""The parameters of `evaluate`: what is scored and how sure it is to be, which baselines and the checks follow."""

from typing import Annotated

from pydantic import Field

from stages.shared.runtime.params import params_dataclass
from stages.shared.task.metrics import METRICS, PROBABILITY_METRICS, name_type

MetricName = Annotated[str, *name_type(METRICS, PROBABILITY_METRICS)]


@params_dataclass
class EvaluateParams:
    splits: Annotated[list[str], Field(min_length=1)]  # `validation` also means validation_matched and its like
    metrics: list[MetricName]  # besides download.metrics
    confidence: Annotated[float, Field(gt=0, lt=1)]  # of the intervals
    resamples: Annotated[int, Field(ge=100)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    per_class: bool | list[str]  # whose precision, recall and F1 `dvc metrics diff` and checks.compare show
