"""Puts the page together from a run and renders it with every text escaped."""

import base64
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq

from stages.report import figures
from stages.report.answers import Answers, confusion
from stages.report.baselines import BaselineRow, baseline_rows, describe_models
from stages.report.figures import Drawing
from stages.report.inputs import RunSummary
from stages.report.methods import describe_methods
from stages.report.probabilities import ProbabilitySection, describe_calibration, describe_probabilities
from stages.report.slices import Slicing, slice_split
from stages.report.suspects import Suspects
from stages.report.texts import Piece, mark_differences, show
from stages.shared.statistics.labels import Ends, LabelScore, with_intervals
from stages.shared.task.kept_columns import ID
from stages.shared.task.metrics import greater_is_better
from stages.shared.task.task import Task

SUSPECTS_SHOWN = 10
MATRIX_CLASSES = 25  # rows and columns of the largest confusion matrix that can be read
SHARED = {  # what download looks for in two splits -> what the page calls it
    "shared": "same example",
    "shared_groups": "same group",
    "shared_sentences": "same text in one of the two columns",
    "near_duplicates": "near-duplicate example",
}


@dataclass(frozen=True)
class Score:
    """One metric of one split, as the headline shows it."""

    name: str
    value: float
    low: float | None
    high: float | None
    baseline: float | None
    digits: int  # behind the point: as many as the examples can tell apart
    scale: tuple[float, float]  # ends of the bar that it is drawn on

    def at(self, value: float | None) -> float | None:
        """Returns where `value` lies on the bar, in per cent of its length; None for no value."""
        return None if value is None else _place(value, self.scale)

    def say(self, value: float) -> str:
        """Formats a value of this metric."""
        return f"{value:.{self.digits}f}"


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix, or the part of it with the most mistakes."""

    names: list[str]
    counts: list[list[int]]
    rates: list[list[float]]  # of the examples of the actual class
    classes: int  # how many there are in all


@dataclass(frozen=True)
class Mistake:
    """One example that the model got wrong."""

    row: int  # in its split, from 1
    texts: list[list[Piece]]
    actual: str
    predicted: str
    score: float
    id: str | None = None  # of download.id_column


@dataclass(frozen=True)
class Doubt:
    """One example whose label the model contradicts."""

    row: int  # in its split, from 1
    texts: list[list[Piece]]
    label: str
    suggested: str
    quality: float
    id: str | None = None  # of download.id_column


@dataclass(frozen=True)
class SuspectSection:
    """What the page says about the suspect labels of a split."""

    suspects: int
    worst: list[Doubt]


@dataclass(frozen=True)
class SplitSection:
    """What the page says about one scored split."""

    name: str
    examples: int
    scores: list[Score]
    baselines: list[BaselineRow]
    drawings: list[Drawing]
    probabilities: ProbabilitySection | None
    matrix: Matrix | None
    classes: list[tuple[LabelScore, Ends]]  # with the intervals of its scores
    slicings: list[Slicing]
    slice_scale: tuple[float, float]
    overall: float  # what the slices are parts of
    wrong: int
    mistakes: list[Mistake]
    suspects: SuspectSection | None  # None of numbers

    def at(self, value: float) -> float:
        """Returns where `value` lies on the slices' bar, in per cent of its length."""
        return _place(value, self.slice_scale)


def _place(value: float, scale: tuple[float, float]) -> float:
    low, high = scale
    return round(100 * min(max((value - low) / (high - low), 0.0), 1.0), 2) if high > low else 0.0


def describe_split(
    run: RunSummary,
    answers: Answers,
    rows: Dataset,
    *,
    errors: int,
    columns: Sequence[str],
    overlap: np.ndarray,
    groups: np.ndarray | None,
    suspects: Suspects | None,
) -> SplitSection:
    """Computes all that the page says about one scored split.

    Args:
        rows: the split in data/raw; its first `len(answers)` rows are those of `answers`.
        errors: mistakes to show.
        columns: kept columns to slice by.
        overlap: uint8[rows], what each has in common with train.
        groups: int64[len(answers)], which of them belong together; None: each is on its own.
        suspects: what confident learning says of the labels; None of numbers.
    """
    task, split = run.task, answers.split
    texts = rows.data.table.slice(0, len(answers))
    overlap = overlap[: len(answers)]
    slicings = slice_split(task, answers, texts, run.confidence, overlap=overlap, groups=groups, columns=columns)
    numbers = task.problem.numeric
    classes = [] if numbers else with_intervals(task, answers.labels, answers.predicted, groups, run.confidence)
    highest = max((part.high for slicing in slicings for part in slicing.slices), default=1.0)
    return SplitSection(
        name=split,
        examples=len(answers),
        scores=scores_of(run, split),
        baselines=baseline_rows(run, split),
        drawings=draw(run, answers, [score for score, _ in classes]),
        probabilities=describe_probabilities(run, split),
        matrix=matrix_of(task, answers) if task.problem.exclusive else None,
        classes=classes,
        slicings=slicings,
        slice_scale=(0.0, highest) if numbers else (0.0, 1.0),
        overall=float(np.mean(answers.certainty if numbers else answers.right, dtype=np.float64)),
        wrong=int((~answers.right).sum()),
        mistakes=mistakes_of(task, answers, rows, errors),
        suspects=None if suspects is None else describe_suspects(task, answers, rows, suspects),
    )


def scores_of(run: RunSummary, split: str) -> list[Score]:
    """Returns all scores of a split with their intervals.

    Metrics of which more is better share one scale, so that their bars can be compared; each other one has its own.
    """
    names = run.scored(split)
    better = [name for name in names if greater_is_better(name)]
    shared = _scale([number for name in better for number in _shown(run, split, name)])
    scores = []
    for name in names:
        value = run.metrics[split][name]
        low, high, baseline = ends = _shown(run, split, name)[1:]
        scale = shared if name in better else _scale([value, *ends])
        scores.append(Score(name, value, low, high, baseline, run.digits(split), scale))
    return scores


def _shown(run: RunSummary, split: str, metric: str) -> list[float | None]:
    """Returns a metric's value, the ends of its interval, and the best constant answer's score."""
    record = run.interval(split, metric) or {}
    return [run.metrics[split][metric], *(record.get(key) for key in ("low", "high", "baseline"))]


def _scale(numbers: Sequence[float | None]) -> tuple[float, float]:
    """Returns the ends of a bar that shows all these numbers, and a tenth more on both sides."""
    known = [number for number in numbers if number is not None]
    low, high = min(known, default=0.0), max(known, default=1.0)
    margin = 0.1 * (high - low) or 0.05
    return low - margin, high + margin


def draw(run: RunSummary, answers: Answers, scores: Sequence[LabelScore]) -> list[Drawing]:
    """Draws the figures that apply to the kind of problem.

    Args:
        scores: of every label; none of numbers.
    """
    task, split = run.task, answers.split
    if task.problem.numeric:
        return [figures.scatter(answers), figures.residuals(answers)]
    if task.binary:
        drawings = [figures.binary_scores(answers, task.label_names)]
    else:
        drawings = [figures.class_scores_strips(answers, scores)]
    frequent = {score.name: score.actual / len(answers) for score in scores}
    for table, figure in (  # a calibration shows its reliability beside that of the model, in a section of its own
        ([] if run.fitted else run.calibration, partial(figures.reliability, interval=run.confidence)),
        (run.precision_recall, partial(figures.precision_recall, prevalence=frequent)),
        (run.roc, partial(figures.roc, prevalence=frequent)),
    ):
        if rows := [row for row in table if row["split"] == split]:
            drawings.append(figure(rows, split))
    return drawings


def matrix_of(task: Task, answers: Answers) -> Matrix:
    """Returns the confusion matrix; of many classes, the ones that take part in the most mistakes."""
    counts = confusion(task, answers)
    wrong = counts - np.diag(np.diag(counts))
    involved = wrong.sum(axis=0) + wrong.sum(axis=1)
    chosen = np.sort(np.argsort(-involved, kind="stable")[:MATRIX_CLASSES])
    rates = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    part = np.ix_(chosen, chosen)
    names = [task.label_names[i] for i in chosen]
    return Matrix(names, counts[part].tolist(), rates[part].round(4).tolist(), len(counts))


def mistakes_of(task: Task, answers: Answers, rows: Dataset, count: int) -> list[Mistake]:
    """Fetches the texts of the most certain mistakes."""
    chosen = answers.mistakes(count).tolist()
    mistakes = []
    for index, (name, texts) in zip(chosen, shown_rows(rows, chosen), strict=True):
        actual, predicted = (task.say(values[index]) for values in (answers.labels, answers.predicted))
        mistakes.append(Mistake(index + 1, texts, actual, predicted, float(answers.certainty[index]), name))
    return mistakes


def describe_suspects(task: Task, answers: Answers, rows: Dataset, suspects: Suspects) -> SuspectSection:
    """Fetches the texts of the most suspect labels."""
    count = int(suspects.suspect.sum())
    chosen = suspects.ranked()[: min(count, SUSPECTS_SHOWN)].tolist()
    worst = []
    for index, (name, texts) in zip(chosen, shown_rows(rows, chosen), strict=True):
        label, suggested = (task.say(values[index]) for values in (answers.labels, suspects.suggested))
        worst.append(Doubt(index + 1, texts, label, suggested, float(suspects.quality[index]), name))
    return SuspectSection(count, worst)


def shown_rows(rows: Dataset, chosen: list[int]) -> list[tuple[str | None, list[list[Piece]]]]:
    """Returns the id of each chosen row, if the data have ids, and its texts, words that differ in a pair marked."""
    found = rows[chosen]  # these rows alone: pyarrow's own `take` would copy every text of the split
    columns = [found[name] for name in ("text", "text_pair") if name in found]
    shown = []
    for name, *texts in zip(found.get(ID, [None] * len(chosen)), *columns, strict=True):
        pair = [show(text) for text in texts]
        pieces = list(mark_differences(*pair)) if len(pair) == 2 else [[(pair[0], False)]]
        shown.append((None if name is None else show(name), pieces))
    return shown


def render_page(run: RunSummary, splits: Sequence[SplitSection], templates: Path) -> str:
    """Renders the template page.html; what it shows of the data is escaped there, in one place."""
    environment = Environment(
        loader=FileSystemLoader(templates),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    style, script = ((templates / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    kept = int(run.selection["epoch"])
    split = str(run.selection["split"])
    ends = {name: run.interval(split, name) for name in [*run.task.metrics, "loss"]}
    learning = figures.learning_curves(run.history, run.task.metrics, kept, split, ends)
    return environment.get_template("page.html").render(
        run=run,
        task=run.task,
        splits=splits,
        learning=learning,
        baseline_models=describe_models(run),
        calibration=describe_calibration(run),
        numbers=run.task.problem.numeric,
        data=data_rows(run),
        label_rows=label_rows(run),
        shared=[(words, pair) for kind, words in SHARED.items() for pair in run.data.get(kind, [])],
        provenance=provenance(run),
        methods=describe_methods(run),
        parameters=parameters(run),
        style=Markup(style),  # ours, not the data's
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def data_rows(run: RunSummary) -> list[dict[str, Any]]:
    """Returns a row a split: what download counted, and what tokenize cut."""
    cut = {facts["split"]: facts for facts in run.truncation}
    return [facts | {"tokenized": cut.get(facts["split"])} for facts in run.data["splits"]]


def label_rows(run: RunSummary) -> list[tuple[str, list[tuple[int, float] | None]]]:
    """Returns a row a label: its count and its share of every split, None where the split is unlabelled."""
    splits = run.data["splits"]
    names = run.task.label_names
    if len(names) > figures.CLASSES_SHOWN:
        train = splits[0].get("labels", {})
        chosen = set(sorted(names, key=lambda name: -train.get(name, 0))[: figures.CLASSES_SHOWN])
        names = [name for name in names if name in chosen]
    return [
        (
            name,
            [
                (facts["labels"].get(name, 0), facts["labels"].get(name, 0) / max(facts["examples"], 1))
                if facts.get("labels")
                else None
                for facts in splits
            ],
        )
        for name in names
    ]


def provenance(run: RunSummary) -> list[tuple[str, str, str]]:
    """Returns what the run was made from: (what, where from, what identifies it)."""
    section = run.params["download"]
    pinned = "commit" if run.task.source != "files" else "SHA-256"
    rows = [("Data", run.dataset, f"{pinned} {run.task.revision}")]
    if section["checkpoint_revision"]:
        rows.append(("Checkpoint", run.checkpoint, f"commit {section['checkpoint_revision']}"))
    rows += [("Checkpoint's weights", name, f"SHA-256 {digest}") for name, digest in run.pretrained.files]
    rows += [("This model's weights", name, f"SHA-256 {digest}") for name, digest in run.finetuned.files]
    return rows


def parameters(run: RunSummary) -> str:
    """Returns the sections of params.yaml that the run was made with, to be copied into another one."""
    yaml, stream = YAML(), io.StringIO()
    yaml.width = 10**6  # no line is broken
    yaml.representer.add_representer(type(None), _represent_null)
    yaml.dump(
        {section: {key: _in_a_line(value) for key, value in run.params[section].items()} for section in run.params},
        stream,
    )
    return stream.getvalue()


def _in_a_line(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    line = CommentedSeq(value)
    line.fa.set_flow_style()
    return line


def _represent_null(representer: Any, _: None) -> Any:
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")
