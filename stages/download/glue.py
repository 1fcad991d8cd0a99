"""The tasks of GLUE, which bring their own columns, label names and metrics."""

from dataclasses import dataclass, replace

from stages.download.hub import read_hub, read_tables
from stages.download.source import Labelling, Source, split_kind
from stages.shared.runtime.errors import BadInput
from stages.shared.task.task import ProblemType

REPOSITORY = "nyu-mll/glue"
REVISION = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"


@dataclass(frozen=True)
class GlueTask:
    """One row of the GLUE table: what the Hub's columns mean and the official metrics."""

    columns: tuple[str, str | None]  # of the text, and of the second text
    label_names: list[str]  # in the Hub's order; empty: a regression
    metrics: list[str]

    @property
    def problem_type(self) -> ProblemType:
        return "single_label_classification" if self.label_names else "regression"


PAIR, NLI = ("sentence1", "sentence2"), ("premise", "hypothesis")
ENTAILMENT = ["entailment", "neutral", "contradiction"]
# Metrics: the GLUE paper (Wang et al., 2019), table 1; for the diagnostic set, section 4.
GLUE = {
    "cola": GlueTask(("sentence", None), ["unacceptable", "acceptable"], ["matthews_correlation"]),
    "sst2": GlueTask(("sentence", None), ["negative", "positive"], ["accuracy"]),
    "mrpc": GlueTask(PAIR, ["not_equivalent", "equivalent"], ["accuracy", "f1"]),
    "qqp": GlueTask(("question1", "question2"), ["not_duplicate", "duplicate"], ["accuracy", "f1"]),
    "stsb": GlueTask(PAIR, [], ["pearson", "spearmanr"]),
    "mnli": GlueTask(NLI, ENTAILMENT, ["accuracy"]),
    "qnli": GlueTask(("question", "sentence"), ["entailment", "not_entailment"], ["accuracy"]),
    "rte": GlueTask(PAIR, ["entailment", "not_entailment"], ["accuracy"]),
    "wnli": GlueTask(PAIR, ["not_entailment", "entailment"], ["accuracy"]),
    "ax": GlueTask(NLI, ENTAILMENT, ["matthews_correlation"]),
}


def read_glue(name: str, time_limit: float) -> Source:
    """Reads a GLUE task at the commit fixed above.

    `ax` is a test split only: its models are trained, and chosen, on MNLI.

    Args:
        time_limit: seconds that a request may bring next to nothing before it is given up.

    Raises:
        BadInput: there is no such task, the Hub cannot be reached, or a file is damaged.
    """
    if name not in GLUE:
        raise BadInput(f"params.yaml: download.dataset: unknown GLUE task {name!r}; known: {', '.join(GLUE)}")
    task = GLUE[name]
    labelling = Labelling(task.problem_type, *task.columns, label_column="label", label_names=task.label_names or None)
    trained_on = "mnli" if name == "ax" else name
    source = read_hub(f"{REPOSITORY}:{trained_on}", REVISION, None, labelling, time_limit)
    if name == "ax":
        kept = {split: table for split, table in source.tables.items() if split_kind(split) != "test"}
        repository = f"{REPOSITORY}:ax"
        diagnostic, _, _ = read_tables(repository, REVISION, labelling, time_limit)
        places = {**source.places, **dict.fromkeys(diagnostic, repository)}
        source = replace(source, tables=kept | diagnostic, places=places)
    return replace(source, kind="glue", metrics=task.metrics)
