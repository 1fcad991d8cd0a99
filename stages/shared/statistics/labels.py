"""The scores of each label: precision, recall and F1 with their intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stages.shared.task.groups import effective_examples, wilson_ends
from stages.shared.task.task import Task

METRICS_OF_A_LABEL = ("precision", "recall", "f1")
Ends = dict[str, tuple[float, float] | None]  # of each of these metrics; None: no example says anything of it


@dataclass(frozen=True)
class LabelScore:
    """How well one label is found."""

    name: str
    actual: int  # examples that carry it
    predicted: int  # examples that were given it
    found: int  # both

    @property
    def precision(self) -> float:
        return self.found / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        return self.found / self.actual if self.actual else 0.0

    @property
    def f1(self) -> float:
        total = self.actual + self.predicted
        return 2 * self.found / total if total else 0.0

    def intervals(
        self, confidence: float, worth: Mapping[str, float] | None = None
    ) -> dict[str, tuple[float, float] | None]:
        """Returns Wilson's intervals of precision, recall and F1; None of no example.

        F1 rises with the share j of examples found among those that carry the label or were given it: it is
        2 j / (1 + j), and so are the ends of its interval.

        Args:
            worth: of each, as how many examples that were drawn alone one of its examples counts, where they come in
                groups. None: each was drawn alone.
        """
        worth = worth or dict.fromkeys(METRICS_OF_A_LABEL, 1.0)
        either = self.actual + self.predicted - self.found
        ends = {
            name: wilson_ends(self.found / count, count * worth[name], confidence) if count else None
            for name, count in (("precision", self.predicted), ("recall", self.actual), ("f1", either))
        }
        if ends["f1"] is not None:
            low, high = ends["f1"]
            ends["f1"] = (2 * low / (1 + low), 2 * high / (1 + high))
        return ends


def label_scores(task: Task, labels: np.ndarray, predicted: np.ndarray) -> list[LabelScore]:
    """Counts for every label, in the order of the logits.

    Args:
        labels, predicted: as in `problem_types.Problem`.
    """
    labels, tally = np.asarray(labels), task.classification.tally
    counts = [tally(labels, task.columns), tally(predicted, task.columns)]
    counts.append(tally(labels, task.columns, labels == predicted))
    return [LabelScore(name, int(a), int(p), int(f)) for name, a, p, f in zip(task.label_names, *counts, strict=True)]


def with_intervals(
    task: Task, labels: np.ndarray, predicted: np.ndarray, groups: np.ndarray | None, confidence: float
) -> list[tuple[LabelScore, Ends]]:
    """Pairs every label's scores with their intervals; examples of one group count as what they say together.

    Args:
        groups: int64[examples] from 0; None: each example is on its own.
    """
    scores = label_scores(task, labels, predicted)
    if groups is None:
        return [(score, score.intervals(confidence)) for score in scores]
    worths = [_worth(task, labels, predicted, groups, confidence, column) for column in range(task.columns)]
    return [(score, score.intervals(confidence, worth)) for score, worth in zip(scores, worths, strict=True)]


def _worth(
    task: Task, labels: np.ndarray, predicted: np.ndarray, groups: np.ndarray, confidence: float, column: int
) -> dict[str, float]:
    """Returns for one label what `LabelScore.intervals` takes, where examples come in groups."""
    actual, given = (task.classification.carries(one, column) for one in (labels, predicted))
    parts = {"precision": given, "recall": actual, "f1": actual | given}
    return {
        name: effective_examples((actual & given)[part], groups[part], confidence) / part.sum()
        for name, part in parts.items()
        if part.any()
    }


def chosen_labels(task: Task, wanted: bool | Sequence[str]) -> list[int]:
    """Returns the columns of the labels that `evaluate.per_class` names; true: of all."""
    if isinstance(wanted, bool):
        return list(range(len(task.label_names))) if wanted else []
    return [task.label_names.index(name) for name in dict.fromkeys(wanted)]
