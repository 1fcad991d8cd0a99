"""What the page and the terminal say about simple models: does fine-tuning pay?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stages.report.inputs import RunSummary

NAMES = {"tfidf": "TF-IDF", "frozen_encoder": "frozen encoder"}


@dataclass(frozen=True)
class BaselineRow:
    """One metric of a simple model, and the fine-tuned one against it."""

    baseline: str  # as the page calls it
    record: dict[str, Any]  # of metrics/baselines.json
    digits: int

    def say(self, key: str, sign: str = "") -> str:
        """Formats a value of the record; empty where it is unknown."""
        value = self.record[key]
        return "" if value is None else f"{value:{sign}.{self.digits}f}"

    def interval(self, ends: Sequence[str], sign: str = "") -> str:
        """Formats an interval, or says that it is unknown."""
        low, high = (self.say(end, sign) for end in ends)
        return f"{low} to {high}" if low and high else "unknown"


def baseline_rows(run: RunSummary, split: str) -> list[BaselineRow]:
    """Returns a row for each simple model and metric of a split, in the order of the file."""
    return [
        BaselineRow(NAMES[one["baseline"]], one, run.digits(split))
        for one in run.baselines["baselines"]
        if one["split"] == split
    ]


def baseline_lines(run: RunSummary, split: str) -> list[str]:
    """Says in a line for each simple model what it scores by the task's first metric, and what fine-tuning brings."""
    metric = run.task.metrics[0]
    return [
        f"  {row.baseline}: {metric} {row.say('value')}; fine-tuning {row.say('difference', '+')} "
        f"({row.interval(('difference_low', 'difference_high'), '+')}), {row.record['fine_tuned_is']}"
        for row in baseline_rows(run, split)
        if row.record["metric"] == metric
    ]


def describe_models(run: RunSummary) -> list[str]:
    """Says in a sentence what each simple model is made of."""
    sentences = []
    for one in run.baselines["models"]:
        features = {
            "tfidf": f"{one['features']:,} features: words and pairs of neighbouring words, weighted by TF-IDF",
            "frozen_encoder": f"the {one['features']:,} means of the last layer of the checkpoint, not fine-tuned",
        }[one["baseline"]]
        sentence = (
            f"{NAMES[one['baseline']]}: {one['model']} on {features}; it learned from {one['examples']:,} examples"
        )
        sentences.append(sentence + ("." if one["converged"] else ", and its solver did not come to its end."))
    return sentences
