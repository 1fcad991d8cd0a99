"""The task's metrics, as metrics of the `evaluate` package that need no network and no torch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from datasets import Features, List, Value

from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.imports import without
from stages.shared.task.task import Task

CLASSES = "single_label_classification"
SETS = "multi_label_classification"
NUMBERS = "regression"


class Definition(NamedTuple):
    """A metric: what it is called with, for which problems, and which direction is better."""

    compute: Callable[[np.ndarray, np.ndarray], float]  # (references, predictions) -> value
    problem_types: tuple[str, ...]
    greater_is_better: bool = True


def _of_sklearn(name: str, **options: Any) -> Callable[[np.ndarray, np.ndarray], float]:
    """A function of scikit-learn, which takes half a second to import and is not used where nothing is scored."""

    def compute(references: np.ndarray, predictions: np.ndarray) -> float:
        import sklearn.metrics

        return float(getattr(sklearn.metrics, name)(references, predictions, **options))

    return compute


def _pearson(references: np.ndarray, predictions: np.ndarray) -> float:
    from scipy.stats import pearsonr

    return float(pearsonr(references, predictions).statistic) if _varied(references, predictions) else 0.0


def _spearman(references: np.ndarray, predictions: np.ndarray) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(references, predictions).statistic) if _varied(references, predictions) else 0.0


def _varied(*arrays: np.ndarray) -> bool:
    """A correlation with a constant is undefined; it is scored 0, as no better than chance."""
    return all(np.ptp(array) > 0 for array in arrays)


# Names as the GLUE metric reports them. `f1` is that of the second of two classes.
METRICS = {
    "accuracy": Definition(_of_sklearn("accuracy_score"), (CLASSES, SETS)),
    "f1": Definition(_of_sklearn("f1_score", zero_division=0.0), (CLASSES,)),
    "f1_macro": Definition(_of_sklearn("f1_score", average="macro", zero_division=0.0), (CLASSES, SETS)),
    "f1_micro": Definition(_of_sklearn("f1_score", average="micro", zero_division=0.0), (CLASSES, SETS)),
    "matthews_correlation": Definition(_of_sklearn("matthews_corrcoef"), (CLASSES,)),
    "pearson": Definition(_pearson, (NUMBERS,)),
    "spearmanr": Definition(_spearman, (NUMBERS,)),
    "mean_squared_error": Definition(_of_sklearn("mean_squared_error"), (NUMBERS,), greater_is_better=False),
}


def check_metrics(task: Task) -> None:
    """Makes sure that every metric of the task is defined for its kind of problem.

    Raises:
        BadInput: one is not.
    """
    for name in task.metrics:
        if task.problem_type not in METRICS[name].problem_types:
            fitting = [other for other, metric in METRICS.items() if task.problem_type in metric.problem_types]
            raise BadInput(
                f"params.yaml: download.metrics: {name} is not defined for {task.problem_type}; use {fitting}"
            )
        if name == "f1" and len(task.label_names) != 2:
            raise BadInput(
                f"params.yaml: download.metrics: f1 is that of two classes, not {len(task.label_names)}; "
                "use f1_macro or f1_micro"
            )


def score(task: Task, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Scores one split.

    Args:
        logits: float32[examples, columns].
        labels: int64[examples] (classes), float32[examples] (numbers) or float32[examples, columns] (sets, 0 or 1).

    Returns:
        The task's metrics in their order, then `loss`: the mean cross-entropy, or squared error for a regression.
    """
    metric = _metric(task)
    metric.add_batch(predictions=predict_labels(task, logits), references=np.array(labels))
    return metric.compute() | {"loss": loss(task, logits, labels)}


def predict_labels(task: Task, logits: np.ndarray) -> np.ndarray:
    """Turns logits into predictions of the labels' dtype and shape: argmax, threshold or the number itself."""
    if task.problem_type == CLASSES:
        return logits.argmax(axis=1)
    if task.problem_type == SETS:
        return (logits > 0).astype(np.float32)
    return logits[:, 0]


def loss(task: Task, logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the loss that training minimizes, in float64, averaged over the examples (and columns)."""
    logits = logits.astype(np.float64)
    if task.problem_type == CLASSES:
        return float(np.mean(np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(labels)), labels]))
    if task.problem_type == SETS:
        return float(np.mean(np.logaddexp(0.0, logits) - labels * logits))
    return float(np.mean((logits[:, 0] - labels) ** 2))


def _metric(task: Task) -> Any:
    """Makes one metric of all of the task's: what is added to it is encoded once, example by example."""
    with without("transformers"):  # its evaluators would pull in torch: 4 of 6 seconds, and 290 of 500 MB
        import evaluate

    label = {CLASSES: Value("int64"), SETS: List(Value("float32")), NUMBERS: Value("float32")}[task.problem_type]

    class LocalMetric(evaluate.Metric):
        def _info(self) -> Any:
            return evaluate.MetricInfo(
                description=task.name,
                citation="",
                inputs_description="",
                features=Features({"predictions": label, "references": label}),
            )

        def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
            labels, answers = np.asarray(references), np.asarray(predictions)
            return {name: METRICS[name].compute(labels, answers) for name in task.metrics}

    return LocalMetric(keep_in_memory=True, experiment_id="score")
