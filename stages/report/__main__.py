"""report: the metrics, data/raw/, data/predictions/ and both models -> metrics/report.html, metrics/model_card.md."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from stages.report.card import render_card
from stages.report.inputs import Inputs, read_run
from stages.report.outcomes import read_outcome
from stages.report.page import describe_split, render_page
from stages.report.summary import summarize
from stages.shared.params import params_dataclass, read_params
from stages.shared.publish import publish
from stages.shared.splits import load_splits
from stages.shared.stage import stage

RAW = Path("data/raw")
PREDICTIONS = Path("data/predictions")
PRETRAINED = Path("models/pretrained")
FINETUNED = Path("models/finetuned")
METRICS = Path("metrics/metrics.json")
INTERVALS = Path("metrics/intervals.json")
WARNINGS = Path("metrics/warnings.json")
CALIBRATION = Path("metrics/plots/calibration.csv")
PRECISION_RECALL = Path("metrics/plots/precision_recall.csv")
ROC = Path("metrics/plots/roc.csv")
DATA = Path("metrics/data.json")
TRUNCATION = Path("metrics/truncation.json")
SELECTION = Path("metrics/selection.json")
ENVIRONMENT = Path("metrics/environment.json")
HISTORY = Path("metrics/history.csv")
TEMPLATES = Path("stages/report/templates")
PAGE = Path("metrics/report.html")
CARD = Path("metrics/model_card.md")


@params_dataclass
class ReportParams:
    errors: Annotated[int, Field(ge=0)]  # mistakes that the page shows of each split


def report(p: ReportParams, inputs: Inputs, templates_dir: Path, page_file: Path, card_file: Path) -> str:
    """Renders the page and the model card of a finished run.

    Returns:
        A summary for the terminal.
    """
    run = read_run(inputs)
    raw = load_splits(inputs.raw)
    splits = [
        describe_split(run, read_outcome(run.task, inputs.predictions, split), raw[split], p.errors)
        for split in run.metrics
    ]
    pairs = "text_pair" in raw["train"].column_names
    with publish(page_file, card_file) as (page, card):
        page.write_text(render_page(run, splits, templates_dir), encoding="utf-8")
        card.write_text(render_card(run, pairs, templates_dir / "model_card.md"), encoding="utf-8")
    return summarize(run, page_file)


if __name__ == "__main__":
    with stage("report"):
        inputs = Inputs(
            raw=RAW,
            predictions=PREDICTIONS,
            pretrained=PRETRAINED,
            finetuned=FINETUNED,
            metrics=METRICS,
            intervals=INTERVALS,
            warnings=WARNINGS,
            calibration=CALIBRATION,
            precision_recall=PRECISION_RECALL,
            roc=ROC,
            data=DATA,
            truncation=TRUNCATION,
            selection=SELECTION,
            environment=ENVIRONMENT,
            history=HISTORY,
        )
        print(report(read_params("report", ReportParams), inputs, TEMPLATES, PAGE, CARD))
