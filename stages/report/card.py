"""The model card for the Hugging Face Hub."""

from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, StrictUndefined

from stages.report.inputs import RunSummary
from stages.report.markdown import plain
from stages.report.methods import describe_long_texts
from stages.shared.task.metrics import METRICS

# Weights that are known by their bytes, wherever they came from.
KNOWN_WEIGHTS = {
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db": "sentence-transformers/all-MiniLM-L6-v2",
}
GLUE_REPOSITORY = "nyu-mll/glue"


def render_card(run: RunSummary, pairs: bool, template: Path) -> str:
    """Renders the card; licence and language stand in it only where they are known, which they are not by themselves.

    Args:
        pairs: whether an example is a pair of texts.

    Every value is checked by huggingface_hub's own classes, which need no network for that.
    """
    repository, config = hub_dataset(run)
    name = f"{run.checkpoint.rpartition('/')[2] or run.checkpoint}-{run.dataset.rpartition('/')[2]}"
    data = ModelCardData(
        base_model=base_model(run),
        datasets=[repository] if repository else None,
        eval_results=[
            EvalResult(
                task_type="text-classification",
                task_name="Text Classification",
                dataset_type=repository or "files",
                dataset_name=run.dataset,
                dataset_config=config or None,
                dataset_split=split,
                dataset_revision=run.task.revision if repository else None,
                metric_type=METRICS[metric].hub_id,
                metric_name=METRICS[metric].title,
                metric_args=METRICS[metric].hub_arguments,
                metric_value=round(scores[metric], 6),
            )
            for split, scores in run.metrics.items()
            for metric in run.task.metrics
        ],
        library_name="transformers",
        metrics=list(dict.fromkeys(METRICS[metric].hub_id for metric in run.task.metrics)),
        model_name=name,
        pipeline_tag="text-classification",
    )
    # Not ModelCard.from_template: it leaves the lines of Jinja's blocks empty, which cuts a Markdown table in two.
    environment = Environment(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    content = environment.from_string(template.read_text(encoding="utf-8")).render(
        card_data=data.to_yaml(),
        run=run,
        name=name,
        pairs=pairs,
        numbers=run.task.problem.numeric,
        rows=metric_rows(run),
        plain=plain,
        long_texts=describe_long_texts(run.params["tokenize"]),
    )
    return str(ModelCard(content)).rstrip() + "\n"


def hub_dataset(run: RunSummary) -> tuple[str, str]:
    """Returns the dataset's repository and configuration on the Hub; empty where it is not from there."""
    if run.task.source == "glue":
        return GLUE_REPOSITORY, run.task.name.removeprefix("glue/")
    if run.task.source == "hub":
        repository, _, config = run.task.name.removeprefix("hub:").partition(":")
        return repository, config
    return "", ""


def base_model(run: RunSummary) -> str | None:
    """Returns the checkpoint's name on the Hub, where it has one: by its source or by its bytes."""
    kind, _, name = run.checkpoint.partition(":")
    if kind == "hub":
        return name
    return next((KNOWN_WEIGHTS[digest] for _, digest in run.pretrained.files if digest in KNOWN_WEIGHTS), None)


def metric_rows(run: RunSummary) -> list[dict[str, Any]]:
    """Returns a row for every metric of every split, with its interval and the best constant answer's score."""
    unknown = dict.fromkeys(("low", "high", "baseline"))
    return [
        {
            **unknown,
            **(run.interval(split, metric) or {}),
            "name": METRICS[metric].title,
            "split": split,
            "digits": run.digits(split),
            "value": scores[metric],
        }
        for split, scores in run.metrics.items()
        for metric in run.task.metrics
    ]
