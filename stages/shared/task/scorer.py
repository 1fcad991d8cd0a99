"""The task's metrics as a metric of the `evaluate` package; the only module that imports it.

The package imports transformers, and so torch, where they are installed: 4 of 6 seconds, and 290 of 500 MB. A program
that needs neither hides transformers while it imports this.
"""

from typing import Any

import evaluate
import numpy as np
from datasets import Features, List, Value

from stages.shared.task.metrics import METRICS
from stages.shared.task.task import Task


def score(task: Task, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Scores one split.

    Args:
        logits: float32[examples, columns].
        labels: as in `problem_types.Problem`.

    Returns:
        The task's metrics in their order, then `loss`: the mean cross-entropy, or squared error for a regression.
    """
    label = Value(task.problem.label_dtype)
    feature = List(label) if labels.ndim == 2 else label

    class TaskMetric(evaluate.Metric):
        """One metric of all of the task's: what is added to it is encoded once, example by example."""

        def _info(self) -> Any:
            features = Features({"predictions": feature, "references": feature})
            return evaluate.MetricInfo(description=task.name, citation="", inputs_description="", features=features)

        def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
            labels, answers = np.asarray(references), np.asarray(predictions)
            return {name: METRICS[name].score(labels, answers) for name in task.metrics}

    metric = TaskMetric(keep_in_memory=True, experiment_id="score")
    metric.add_batch(predictions=task.problem.predict(logits), references=np.array(labels))
    return metric.compute() | {"loss": task.problem.loss(logits, labels)}
