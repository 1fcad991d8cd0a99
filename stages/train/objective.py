"""The loss that a training minimizes, by class weights and with label smoothing where they are asked for."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from stages.shared.task.problem_types import Problem
from stages.shared.task.task import Task


@dataclass(frozen=True)
class Objective:
    """What a training minimizes; by default the loss that scores are of."""

    problem: Problem
    weights: np.ndarray | None = None  # from `label_weights`
    label_smoothing: float = 0.0

    def losses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Returns the loss of each example with its gradient: float32[examples].

        The loss of an example depends on nothing but the example, so a step's mean is the same, however its examples
        are cut into batches. Torch's own weighted mean is divided by the sum of the weights in a batch, and is not.

        Args:
            logits: float32[examples, columns].
            labels: int64[examples], float32[examples, columns] of 0 and 1, or float32[examples].
        """
        losses = _losses(self.problem, logits, labels, self.label_smoothing).reshape(len(labels), -1)
        if self.weights is not None:
            weights = torch.from_numpy(self.weights).to(logits)
            if self.problem.exclusive:
                losses = losses * weights[labels][:, None]
            else:
                losses = losses * torch.where(labels > 0.5, weights[1], weights[0])
        return losses.mean(dim=1)


def _losses(problem: Problem, logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float) -> torch.Tensor:
    """Returns float32[examples], for sets float32[examples, columns].

    By torch's own functions: the formula of `losses` has other bits here, and a gradient of other bits.
    """
    options = {"label_smoothing": label_smoothing} if problem.exclusive else {}
    if label_smoothing and not problem.exclusive:
        labels = labels * (1.0 - label_smoothing) + 0.5 * label_smoothing
    loss: torch.Tensor = getattr(functional, problem.torch_loss)(
        problem.squeeze(logits), labels, reduction="none", **options
    )
    return loss


def label_weights(asked: str | Mapping[str, float] | None, task: Task, labels: np.ndarray) -> np.ndarray | None:
    """Returns how much the loss of each label counts, on average 1 over the examples; None where none are asked for.

    Only ratios are asked for, since a common factor would change what the learning rate and the limit of the gradients'
    norm mean. `balanced` has each class weigh as much as any other in sum (and of each label yes as much as no).

    Args:
        asked: `train.class_weights`; a name that it leaves out weighs 1.
        labels: of the train split, int64[examples] or float32[examples, columns] of 0 and 1.

    Returns:
        float32[columns], or float32[2, columns] for no and for yes, where an example can have several labels.
    """
    if asked is None:
        return None
    examples, counts = len(labels), task.classification.tally(labels, task.columns).astype(np.float64)
    if isinstance(asked, str):
        others = 1.0 if task.problem.exclusive else examples - counts
        both = (counts > 0) & (others > 0)
        ratios = np.divide(others, counts, out=np.ones(task.columns), where=both)
    else:
        ratios = np.array([asked.get(name, 1.0) for name in task.label_names])
    if task.problem.exclusive:
        return (ratios * examples / (ratios * counts).sum()).astype(np.float32)
    no = examples / (ratios * counts + examples - counts)
    return np.stack([no, no * ratios]).astype(np.float32)


def strata(task: Task, labels: np.ndarray) -> np.ndarray:
    """Says which class of train each example is drawn for, int64[examples].

    An example with several labels is drawn for the rarest of them, and those without any are a class of their own.
    """
    if task.problem.exclusive:
        return labels
    frequency = np.where(labels > 0.5, labels.sum(axis=0), np.inf)
    return np.where((labels > 0.5).any(axis=1), frequency.argmin(axis=1), task.columns)
