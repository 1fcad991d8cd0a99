"""What is said of a row: the label or the number, how probable it is, and more on request, as columns to write."""

import numpy as np
import pyarrow as pa

from stages.shared.runtime.errors import BadInput
from stages.shared.task.calibration import Calibration, calibrated_logits, decide, label_sets
from stages.shared.task.task import Task


class AnswerColumns:
    """Turns logits into columns."""

    def __init__(
        self, task: Task, calibration: Calibration | None, prefix: str, *, probabilities: bool, logits: bool
    ) -> None:
        """Chooses the columns.

        Args:
            calibration: makes probabilities true, and may decide on labels. None: the model's own are taken.
            prefix: the beginning of their names.
            probabilities: whether each label has a column with its probability.
            logits: whether each label, or the number, has a column with the logit as the model gave it.

        Raises:
            BadInput: probabilities are asked of a regression.
        """
        if probabilities and task.problem.numeric:
            raise BadInput("--probabilities: the model predicts a number, which has none")
        self.task, self.calibration, self.prefix = task, calibration, prefix
        self.probabilities, self.logits = probabilities, logits
        self.schema = self._columns(np.empty((0, task.columns), np.float32)).schema

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

    @property
    def has_sets(self) -> bool:
        """Whether each row gets the set of labels that the right one is in, but for the stated share of rows."""
        return self.calibration is not None and self.calibration.error_rate is not None

    def _columns(self, logits: np.ndarray) -> pa.RecordBatch:
        columns = {"number": pa.array(logits[:, 0])} if self.task.problem.numeric else self._labels(logits)
        if self.logits:
            names = [f"logit_{name}" for name in self.task.label_names] or ["logit"]
            columns |= {name: pa.array(column) for name, column in zip(names, logits.T, strict=True)}
        return pa.record_batch({f"{self.prefix}{name}": column for name, column in columns.items()})

    def _labels(self, logits: np.ndarray) -> dict[str, pa.Array]:
        task, calibration = self.task, self.calibration
        if calibration is None:
            predicted, chances = task.problem.predict(logits), task.classification.probabilities(logits)
        else:
            predicted = decide(task, calibration, calibration.whole, logits)
            chances = task.classification.probabilities(calibrated_logits(calibration.whole, logits))
        if task.problem.exclusive:
            names = pa.array(task.label_names, pa.string())
            columns = {
                "label": names.take(pa.array(predicted, pa.int64())),
                "probability": pa.array(chances[np.arange(len(logits)), predicted]),
            }
        else:
            chosen = predicted > 0.5
            columns = {"labels": self._lists(chosen)}
            columns["probabilities"] = pa.ListArray.from_arrays(columns["labels"].offsets, pa.array(chances[chosen]))
        if calibration is not None and self.has_sets:
            columns["set"] = self._lists(label_sets(calibration.whole, logits))
        if self.probabilities:
            for name, column in zip(task.label_names, chances.T, strict=True):
                columns[f"probability_{name}"] = pa.array(column)
        return columns

    def _lists(self, chosen: np.ndarray) -> pa.ListArray:
        """Returns for each row the names of its chosen labels, bool[rows, columns]."""
        offsets = pa.array(np.concatenate([[0], chosen.sum(axis=1).cumsum()]), pa.int32())
        names = pa.array(self.task.label_names, pa.string()).take(pa.array(np.nonzero(chosen)[1], pa.int64()))
        return pa.ListArray.from_arrays(offsets, names)
