"""report: the metrics, data/raw/, data/predictions/ and both models -> the page, the card and the list of materials."""

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from stages.report.answers import read_answers
from stages.report.card import render_card
from stages.report.inputs import ReportFiles, read_run
from stages.report.materials import render_materials
from stages.report.page import describe_split, render_page
from stages.report.summary import summarize
from stages.report.suspects import find_suspects
from stages.report.texts import without_controls
from stages.shared.runtime.execution import Execution
from stages.shared.runtime.params import params_dataclass
from stages.shared.runtime.publish import publish
from stages.shared.runtime.splits import load_splits
from stages.shared.runtime.terminal import say
from stages.shared.task.asked import columns_to_slice
from stages.shared.task.groups import row_groups
from stages.shared.task.kept_columns import kept
from stages.shared.task.overlap import read_overlap

TEMPLATES = Path(__file__).with_name("templates")


@params_dataclass
class ReportParams:
    errors: Annotated[int, Field(ge=0)]  # mistakes that the page shows of each split
    slice_columns: list[str] | None  # of download.keep_columns; None: all of them


def report(p: ReportParams, execution: Execution, files: ReportFiles) -> None:
    """Renders the page, the model card and the list of materials of a finished run, and prints a summary."""
    run = read_run(files)
    raw = load_splits(files.raw)
    wanted = columns_to_slice(p.slice_columns, run.params["download"]["keep_columns"])
    splits = []
    for split in run.metrics:
        answers = read_answers(run.task, files.predictions, split)
        overlap, groups = read_overlap(files.overlap, split), row_groups(files.raw / split, len(answers))
        columns = [name for name in wanted if kept(name) in raw[split].column_names]  # glue/* keeps none
        suspects = None
        if not run.task.problem.numeric:
            logits = np.load(files.predictions / split / "logits.npy", mmap_mode="r")
            suspects = find_suspects(run.task, answers.labels, logits)
        section = describe_split(
            run,
            answers,
            raw[split],
            errors=p.errors,
            columns=columns,
            overlap=overlap,
            groups=groups,
            suspects=suspects,
        )
        splits.append(section)
    pairs = "text_pair" in raw["train"].column_names
    texts = (file.read_text(encoding="utf-8") for file in (files.requirements, files.hashed_requirements))
    with publish(files.page, files.card, files.materials) as (page, card, materials):
        page.write_text(without_controls(render_page(run, splits, TEMPLATES)), encoding="utf-8")
        card.write_text(without_controls(render_card(run, pairs, TEMPLATES / "model_card.md")), encoding="utf-8")
        materials.write_text(render_materials(run, *texts), encoding="utf-8")
    say(summarize(run, files.page))
