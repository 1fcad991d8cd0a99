"""A methods paragraph with the run's own numbers, for a paper."""

from collections.abc import Mapping
from typing import Any

from stages.report.inputs import RunSummary


def describe_methods(run: RunSummary) -> str:
    """Returns the paragraph: what was trained on what and how, what came out, and what the intervals do not hold."""
    examples = {record["split"]: record["examples"] for record in run.data["splits"]}
    settings = ", ".join(
        f"{name.replace('_', ' ')} {'none' if value is None else value}" for name, value in run.params["train"].items()
    )
    kept = run.selection
    chosen = (
        f"The weights of the last of {kept['epochs_trained']} epochs were kept."
        if kept["keep"] == "last"
        else f"Of {kept['epochs_trained']} epochs, the weights of epoch {kept['epoch']} were kept: it had the best "
        f"{plain_name(kept['metric'])} on {kept['split']}."
    )
    millions = run.finetuned.parameters / 1e6
    versions = ", ".join(f"{name} {version}" for name, version in run.environment["packages"].items())
    return " ".join(
        [
            f"We fine-tuned {run.checkpoint} ({run.finetuned.architecture}, {millions:.1f} million parameters) on "
            f"{examples.get('train', 0):,} training examples of {run.dataset} with AdamW ({settings}).",
            describe_long_texts(run.params["tokenize"]),
            chosen,
            *(describe_scores(run, split) for split in run.metrics),
            "The intervals reflect the sampling of examples. They hold for this trained model and not for other seeds.",
            f"Python {run.environment['python']}, {versions}; {run.environment['device']}, "
            f"{run.environment['threads']} threads.",
        ]
    )


def describe_long_texts(p: Mapping[str, Any]) -> str:
    """Returns the sentence about inputs that were longer than the model reads; `p` is the section `tokenize`."""
    length = p["max_length"]
    match p["long_texts"]:
        case "head_tail":
            return (
                f"Of inputs longer than {length} tokens, the first quarter and the last three quarters of what fits "
                "were kept."
            )
        case "windows":
            whole = {"mean": "their mean", "max": "the greatest of each label"}[p["window_logits"]]
            return (
                f"Inputs longer than {length} tokens were read in windows of {length} tokens that share {p['stride']} "
                f"with the next, and the logits of an input are {whole} over its windows."
            )
    return f"Inputs were truncated to {length} tokens."


def describe_scores(run: RunSummary, split: str) -> str:
    """Returns the sentence about a split's scores."""
    digits, parts = run.digits(split), []
    for name in run.scored(split):
        part, record = f"{plain_name(name)} {run.metrics[split][name]:.{digits}f}", run.interval(split, name)
        beside = []
        if record and record["low"] is not None:
            low, high = (f"{record[end]:.{digits}f}" for end in ("low", "high"))
            beside.append(f"{100 * record['confidence']:g} % interval {low} to {high}")
        if record and record["baseline"] is not None:
            beside.append(f"best constant answer {record['baseline']:.{digits}f}")
        parts.append(f"{part} ({'; '.join(beside)})" if beside else part)
    return f"On the {run.metrics[split]['examples']:,} examples of {split}: {', '.join(parts)}."


def plain_name(metric: str) -> str:
    """Returns a metric's name as prose has it."""
    return metric.replace("_", " ")
