"""What is said of a row: the label or the number, how probable it is, and more on request, as columns to write."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from stages.shared.runtime.errors import BadInput
from stages.shared.task.problem_types import Classification, Problem


class AnswerColumns:
    """Turns logits into columns."""

    def __init__(
        self, problem: Problem, label_names: Sequence[str], prefix: str, *, probabilities: bool, logits: bool
    ) -> None:
        """Chooses the columns.

        Args:
            prefix: the beginning of their names.
            probabilities: whether each label has a column with its probability.
            logits: whether each label, or the number, has a column with the logit as the model gave it.

        Raises:
            BadInput: probabilities are asked of a regression.
        """
        if probabilities and not isinstance(problem, Classification):
            raise BadInput("--probabilities: the model predicts a number, which has none")
        self.problem, self.label_names, self.prefix = problem, list(label_names), prefix
        self.probabilities, self.logits = probabilities, logits
        self.schema = self._columns(np.empty((0, len(label_names) or 1), np.float32)).schema

    def __call__(self, logits: np.ndarray, answered: np.ndarray) -> pa.RecordBatch:
        """Returns the columns for some rows.

        Args:
            logits: float32[answered rows, columns].
            answered: bool[rows]; the others get nulls.
        """
        found = self._columns(logits)
        if answered.all():
            return found
        places = np.where(answered, np.cumsum(answered) - 1, -1)
        return found.take(pa.array(places, mask=~answered))

    def _columns(self, logits: np.ndarray) -> pa.RecordBatch:
        problem = self.problem
        columns: dict[str, pa.Array] = {}
        if isinstance(problem, Classification):
            chances = problem.probabilities(logits)
            predicted = problem.predict(logits)
            if problem.exclusive:
                names = pa.array(self.label_names, pa.string())
                columns["label"] = names.take(pa.array(predicted, pa.int64()))
                columns["probability"] = pa.array(chances[np.arange(len(logits)), predicted])
            else:
                chosen = predicted > 0.5
                offsets = pa.array(np.concatenate([[0], chosen.sum(axis=1).cumsum()]), pa.int32())
                which = pa.array(np.nonzero(chosen)[1], pa.int64())
                names = pa.array(self.label_names, pa.string()).take(which)
                columns["labels"] = pa.ListArray.from_arrays(offsets, names)
                columns["probabilities"] = pa.ListArray.from_arrays(offsets, pa.array(chances[chosen]))
            if self.probabilities:
                for name, column in zip(self.label_names, chances.T, strict=True):
                    columns[f"probability_{name}"] = pa.array(column)
        else:
            columns["number"] = pa.array(problem.predict(logits))
        if self.logits:
            for name, column in zip([f"_{label}" for label in self.label_names] or [""], logits.T, strict=True):
                columns[f"logit{name}"] = pa.array(column)
        return pa.record_batch({f"{self.prefix}{name}": column for name, column in columns.items()})
