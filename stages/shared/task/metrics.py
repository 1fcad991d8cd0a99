"""The metrics, one entry each: how to score and resample it, its names, and the problems it applies to.

The names are those of the GLUE metric. What an entry needs is imported when it is called: the table itself is read by
stages that score nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticKnownError

from stages.shared.runtime.errors import BadInput
from stages.shared.task.problem_types import CLASSES, NUMBERS, SETS
from stages.shared.task.task import Task

SAME = 1e-12  # two values of a metric that are closer than this are equal

Score = Callable[[np.ndarray, np.ndarray], float]  # (labels, predictions) -> value


class Counts(NamedTuple):
    """How often each label occurs in each of many resamples: float64[draws, labels], or float64[draws]."""

    both: np.ndarray  # [draws, labels]: the example carries the label, and the prediction too
    predicted: np.ndarray  # [draws, labels]
    right: np.ndarray  # [draws]: the whole prediction is right
    actual: np.ndarray  # [draws, labels]
    examples: np.ndarray  # [draws]
    exclusive: bool  # each example has one label


@dataclass(frozen=True)
class OverCounts:
    """The metric is a function of counts."""

    formula: Callable[[Counts], np.ndarray]  # -> float64[draws]


@dataclass(frozen=True)
class OverMeans:
    """The metric is a function of means over the examples."""

    columns: Callable[[np.ndarray, np.ndarray], list[np.ndarray]]  # (labels, predictions) -> float64[examples] each
    formula: Callable[..., np.ndarray]  # the mean of each column, float64[draws] -> float64[draws]


@dataclass(frozen=True)
class OverRanks:
    """The metric is the correlation of the numbers' ranks, which each resample ranks anew."""


@dataclass(frozen=True)
class Metric:
    """All that there is to know about one metric."""

    title: str  # on the model card
    hub_id: str  # the Hub's name of it
    problem_types: tuple[str, ...]  # for which it is defined
    score: Score
    resampled: OverCounts | OverMeans | OverRanks  # the same value, for many resamples at once
    greater_is_better: bool = True
    range: tuple[float, float] = (0.0, 1.0)  # least and greatest value
    hub_arguments: dict[str, str] | None = None  # what makes the Hub's metric this one
    for_more_labels: tuple[str, ...] = ()  # what to use instead where a metric of two labels has more of them


def _of_sklearn(name: str, **options: Any) -> Score:
    def score(labels: np.ndarray, predictions: np.ndarray) -> float:
        import sklearn.metrics

        return float(getattr(sklearn.metrics, name)(labels, predictions, **options))

    return score


def _of_scipy(name: str) -> Score:
    """A correlation. That with a constant is undefined; it is scored 0, as no better than chance."""

    def score(labels: np.ndarray, predictions: np.ndarray) -> float:
        import scipy.stats

        varied = np.ptp(labels) > 0 and np.ptp(predictions) > 0
        return float(getattr(scipy.stats, name)(labels, predictions).statistic) if varied else 0.0

    return score


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Divides; 0 where there is nothing to divide by, as the metrics define it."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _f1(c: Counts) -> np.ndarray:
    """Returns each label's: float64[draws, labels]."""
    return _ratio(2 * c.both, c.predicted + c.actual)


def _f1_macro(c: Counts) -> np.ndarray:
    """As in scikit-learn, a class that occurs nowhere does not count; one of several labels at once does."""
    counted = (c.predicted + c.actual > 0).sum(axis=1) if c.exclusive else c.actual.shape[1]
    return _f1(c).sum(axis=1) / counted


def _f1_micro(c: Counts) -> np.ndarray:
    return _ratio(2 * c.both.sum(axis=1), (c.predicted + c.actual).sum(axis=1))


def _balanced_accuracy(c: Counts) -> np.ndarray:
    """The mean recall of the classes that occur."""
    return _ratio(c.both, c.actual).sum(axis=1) / (c.actual > 0).sum(axis=1)


def _matthews(c: Counts) -> np.ndarray:
    """The correlation of two sets of classes (Gorodkin 2004), Matthews' where there are two of them."""
    covariance = c.right * c.examples - (c.predicted * c.actual).sum(axis=1)
    variances = [c.examples**2 - (counts**2).sum(axis=1) for counts in (c.predicted, c.actual)]
    return _ratio(covariance, np.sqrt(variances[0] * variances[1]))


def _squared_errors(labels: np.ndarray, predictions: np.ndarray) -> list[np.ndarray]:
    return [(predictions.astype(np.float64) - labels) ** 2]


def _moments(labels: np.ndarray, predictions: np.ndarray) -> list[np.ndarray]:
    y, p = _standardized(labels), _standardized(predictions)
    return [y, y * y, p, p * p, p * y]


def _standardized(values: np.ndarray) -> np.ndarray:
    """Brings numbers to mean 0 and spread 1 in float64, so that their squares keep their digits; a constant to 0."""
    values = values.astype(np.float64)
    spread = values.std() if np.ptp(values) > 0 else np.inf
    return (values - values.mean()) / spread


def _pearson(y: np.ndarray, yy: np.ndarray, p: np.ndarray, pp: np.ndarray, py: np.ndarray) -> np.ndarray:
    return correlation(py - p * y, pp - p**2, yy - y**2)


def correlation(covariance: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Divides a covariance by the roots of both variances; 0 where one of these is none."""
    varied = (one > SAME) & (other > SAME)
    spreads = np.sqrt(np.where(varied, one * other, 1.0))
    return np.where(varied, np.clip(covariance / spreads, -1.0, 1.0), 0.0)


METRICS = {
    "accuracy": Metric(
        title="Accuracy",
        hub_id="accuracy",
        problem_types=(CLASSES, SETS),
        score=_of_sklearn("accuracy_score"),
        resampled=OverCounts(lambda c: c.right / c.examples),
    ),
    "f1": Metric(  # that of the second of two classes
        title="F1",
        hub_id="f1",
        problem_types=(CLASSES,),
        score=_of_sklearn("f1_score", zero_division=0.0),
        resampled=OverCounts(lambda c: _f1(c)[:, 1]),
        for_more_labels=("f1_macro", "f1_micro"),
    ),
    "f1_macro": Metric(
        title="F1, macro average",
        hub_id="f1",
        hub_arguments={"average": "macro"},
        problem_types=(CLASSES, SETS),
        score=_of_sklearn("f1_score", average="macro", zero_division=0.0),
        resampled=OverCounts(_f1_macro),
    ),
    "f1_micro": Metric(
        title="F1, micro average",
        hub_id="f1",
        hub_arguments={"average": "micro"},
        problem_types=(CLASSES, SETS),
        score=_of_sklearn("f1_score", average="micro", zero_division=0.0),
        resampled=OverCounts(_f1_micro),
    ),
    "precision": Metric(  # that of the second of two classes, as is the recall
        title="Precision",
        hub_id="precision",
        problem_types=(CLASSES,),
        score=_of_sklearn("precision_score", zero_division=0.0),
        resampled=OverCounts(lambda c: _ratio(c.both, c.predicted)[:, 1]),
        for_more_labels=("f1_macro", "balanced_accuracy"),
    ),
    "recall": Metric(
        title="Recall",
        hub_id="recall",
        problem_types=(CLASSES,),
        score=_of_sklearn("recall_score", zero_division=0.0),
        resampled=OverCounts(lambda c: _ratio(c.both, c.actual)[:, 1]),
        for_more_labels=("balanced_accuracy",),
    ),
    "balanced_accuracy": Metric(
        title="Balanced accuracy",
        hub_id="balanced_accuracy",
        problem_types=(CLASSES,),
        score=_of_sklearn("balanced_accuracy_score"),
        resampled=OverCounts(_balanced_accuracy),
    ),
    "recall_macro": Metric(  # of several labels at once, what the balanced accuracy is of classes
        title="Recall, macro average",
        hub_id="recall",
        hub_arguments={"average": "macro"},
        problem_types=(SETS,),
        score=_of_sklearn("recall_score", average="macro", zero_division=0.0),
        resampled=OverCounts(lambda c: _ratio(c.both, c.actual).mean(axis=1)),
    ),
    "matthews_correlation": Metric(
        title="Matthews correlation",
        hub_id="matthews_correlation",
        problem_types=(CLASSES,),
        score=_of_sklearn("matthews_corrcoef"),
        resampled=OverCounts(_matthews),
        range=(-1.0, 1.0),
    ),
    "pearson": Metric(
        title="Pearson correlation",
        hub_id="pearsonr",
        problem_types=(NUMBERS,),
        score=_of_scipy("pearsonr"),
        resampled=OverMeans(_moments, _pearson),
        range=(-1.0, 1.0),
    ),
    "spearmanr": Metric(
        title="Spearman correlation",
        hub_id="spearmanr",
        problem_types=(NUMBERS,),
        score=_of_scipy("spearmanr"),
        resampled=OverRanks(),
        range=(-1.0, 1.0),
    ),
    "mean_squared_error": Metric(
        title="Mean squared error",
        hub_id="mse",
        problem_types=(NUMBERS,),
        score=_of_sklearn("mean_squared_error"),
        resampled=OverMeans(_squared_errors, lambda error: error),
        greater_is_better=False,
        range=(0.0, float("inf")),
    ),
}


class ProbabilityMetric(NamedTuple):
    """What is said of a metric of the probabilities behind the predictions; how it is computed is evaluate's."""

    title: str
    greater_is_better: bool


# `evaluate.metrics` may ask for them; none selects an epoch. Of two classes they are those of the second one, else the
# mean over the labels, each against the others.
PROBABILITY_METRICS = {
    "roc_auc": ProbabilityMetric("Area under the ROC curve", greater_is_better=True),
    "average_precision": ProbabilityMetric("Average precision", greater_is_better=True),
    "brier_score": ProbabilityMetric("Brier score", greater_is_better=False),
}


def greater_is_better(name: str) -> bool:
    """Says which way a metric is better; the loss is one, too."""
    return name != "loss" and (METRICS | PROBABILITY_METRICS)[name].greater_is_better


def name_type(*tables: Mapping[str, Any]) -> tuple[BeforeValidator, WithJsonSchema]:
    """Makes the annotations of a parameter that is a name in some tables; a `Literal` would repeat them."""

    def known(name: Any) -> Any:
        names = [entry for table in tables for entry in table]
        if name not in names:
            *others, last = map(repr, names)
            raise PydanticKnownError("literal_error", {"expected": f"{', '.join(others)} or {last}"})
        return name

    return BeforeValidator(known), WithJsonSchema({"enum": [name for table in tables for name in table]})


MetricName = Annotated[str, *name_type(METRICS)]


def check_metrics(task: Task, key: str = "download.metrics") -> None:
    """Makes sure that every metric of the task is defined for its kind of problem.

    Args:
        key: the parameter to name in a message.

    Raises:
        BadInput: one is not.
    """
    for name in task.metrics:
        metric = METRICS[name]
        if task.problem_type not in metric.problem_types:
            fitting = [other for other, metric in METRICS.items() if task.problem_type in metric.problem_types]
            raise BadInput(f"params.yaml: {key}: {name} is not defined for {task.problem_type}; use {fitting}")
        if metric.for_more_labels and len(task.label_names) != 2:
            raise BadInput(
                f"params.yaml: {key}: {name} is for two classes, not {len(task.label_names)}; use "
                f"{' or '.join(metric.for_more_labels)}"
            )
