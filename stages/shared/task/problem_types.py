"""The differences between the kinds of problem: labels, predictions, loss, and the words for a label.

Every stage but tokenize reads this: SciPy is imported where it is needed, and torch nowhere.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Final

import numpy as np

CLASSES: Final = "single_label_classification"
SETS = "multi_label_classification"
NUMBERS = "regression"


class Problem(ABC):
    """One kind of problem.

    Logits are float[examples, columns]. Labels, and predictions like them, are int64[examples] where an example has one
    label, float32[examples, columns] of 0 and 1 where it has several, and float32[examples] where it has a number.
    """

    name: ClassVar[str]  # as transformers calls it
    label_dtype: ClassVar[str]  # of labels and predictions
    torch_loss: ClassVar[str]  # what computes `losses` in torch.nn.functional, which brings a gradient
    exclusive: ClassVar[bool] = False  # an example has exactly one of several labels
    numeric: ClassVar[bool] = False  # a prediction is nearer or farther, where others are right or wrong

    @abstractmethod
    def predict(self, logits: np.ndarray) -> np.ndarray:
        """Turns logits into predictions."""

    @abstractmethod
    def losses(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Returns the loss that training minimizes, float64[examples], or float64[examples, columns] for sets."""

    @abstractmethod
    def say(self, label: Any, names: Sequence[str]) -> str:
        """Says one example's label or prediction in words."""

    def squeeze(self, logits: Any) -> Any:
        """Drops the axis of the columns from an array or tensor of logits where there is but one number a label."""
        return logits

    def loss(self, logits: np.ndarray, labels: np.ndarray) -> float:
        """Returns the mean of `losses`."""
        return float(np.mean(self.losses(logits, labels)))

    def right(self, predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Says which predictions are right, of a set all of it: bool[examples]."""
        return (predictions == labels).reshape(len(labels), -1).all(axis=1)


class Classification(Problem):
    """A problem whose labels have names."""

    @abstractmethod
    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Returns the probability of each label, float64[examples, columns]."""

    @abstractmethod
    def log_odds(self, logits: np.ndarray, column: int) -> np.ndarray:
        """Returns float64[examples]: by how much the label of a column is likelier than not."""

    @abstractmethod
    def carries(self, labels: np.ndarray, column: int) -> np.ndarray:
        """Says which examples carry the label of a column: bool[examples]."""

    @abstractmethod
    def tally(self, labels: np.ndarray, columns: int, where: np.ndarray | None = None) -> np.ndarray:
        """Counts each label, int64[columns], in all entries or where `where`, bool of the labels' shape, is true."""

    def confidence(self, logits: np.ndarray) -> np.ndarray:
        """Returns the probability of each prediction, in the shape of the losses: a loss is minus its logarithm."""
        return np.exp(-self.losses(logits, self.predict(logits)))

    def members(self, labels: np.ndarray, columns: int) -> np.ndarray:
        """Says which labels each example carries: bool[examples, columns]."""
        return np.stack([self.carries(labels, column) for column in range(columns)], axis=1)


class SingleLabel(Classification):
    """Each example has one of the labels."""

    name = CLASSES
    label_dtype = "int64"
    torch_loss = "cross_entropy"
    exclusive = True

    def predict(self, logits: np.ndarray) -> np.ndarray:
        return logits.argmax(axis=1)

    def losses(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The cross-entropy."""
        logits = logits.astype(np.float64)
        return np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(labels)), labels]

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        from scipy.special import softmax

        return softmax(logits.astype(np.float64), axis=1)

    def log_odds(self, logits: np.ndarray, column: int) -> np.ndarray:
        others = np.delete(logits, column, axis=1).astype(np.float64)
        return logits[:, column].astype(np.float64) - np.logaddexp.reduce(others, axis=1)

    def carries(self, labels: np.ndarray, column: int) -> np.ndarray:
        return labels == column

    def tally(self, labels: np.ndarray, columns: int, where: np.ndarray | None = None) -> np.ndarray:
        return np.bincount(labels if where is None else labels[where], minlength=columns)

    def say(self, label: Any, names: Sequence[str]) -> str:
        return names[int(label)]


class MultiLabel(Classification):
    """Each example has any number of the labels: every one is a yes or a no of its own."""

    name = SETS
    label_dtype = "float32"
    torch_loss = "binary_cross_entropy_with_logits"

    def predict(self, logits: np.ndarray) -> np.ndarray:
        return (logits > 0).astype(np.float32)

    def losses(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The binary cross-entropy of each label."""
        logits = logits.astype(np.float64)
        return np.logaddexp(0.0, logits) - labels * logits

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        from scipy.special import expit

        return expit(logits.astype(np.float64))

    def log_odds(self, logits: np.ndarray, column: int) -> np.ndarray:
        return logits[:, column].astype(np.float64)

    def carries(self, labels: np.ndarray, column: int) -> np.ndarray:
        return labels[:, column] > 0.5

    def tally(self, labels: np.ndarray, columns: int, where: np.ndarray | None = None) -> np.ndarray:
        return (labels if where is None else labels * where).sum(axis=0, dtype=np.int64)

    def say(self, label: Any, names: Sequence[str]) -> str:
        return ", ".join(name for name, is_set in zip(names, label, strict=True) if is_set > 0.5) or "none"


class Regression(Problem):
    """Each example has a number."""

    name = NUMBERS
    label_dtype = "float32"
    torch_loss = "mse_loss"
    numeric = True

    def squeeze(self, logits: Any) -> Any:
        return logits[:, 0]

    def predict(self, logits: np.ndarray) -> np.ndarray:
        return logits[:, 0]

    def losses(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The squared error."""
        return (logits[:, 0].astype(np.float64) - labels) ** 2

    def say(self, label: Any, names: Sequence[str]) -> str:
        return f"{float(label):.3f}"


PROBLEMS: dict[str, Problem] = {problem.name: problem for problem in (SingleLabel(), MultiLabel(), Regression())}
