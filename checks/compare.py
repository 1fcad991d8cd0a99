"""Do two revisions' models differ by more than chance? Answers from the logits in DVC's cache; nothing is run.

    python -m checks.compare [OLD [NEW]] [--margin M] [--flips N] [--json | --markdown]

OLD is main by default, or HEAD where the working tree has changes; NEW is the workspace. Scored are the splits of
params.yaml's `evaluate`, with its confidence, resamples and seed. The interval is the paired bootstrap's: both models
on the same resampled examples. "equivalent" means that the whole interval lies within the margin, in the metric's own
unit; it is said before "better" or "worse", which then are too small to matter. Where few predictions flip, the
interval alone is not enough for a word (`verdict` says why, and what is).
Exit status: 0 with an answer, whatever it is; 2 when there is none.
"""

import argparse
import json
import logging
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from dvc.exceptions import DvcException
from dvc.repo import Repo
from ruamel.yaml.error import YAMLError
from scipy.stats import binomtest

from checks.revisions import WORKSPACE, Revision, Unanswerable, find_revision, git, stale
from checks.verify import belonging
from stages.evaluate.bootstrap import FEWEST, bootstrap_intervals, plain_scores, swap_p_values
from stages.evaluate.evaluate import EvaluateParams, chosen_splits
from stages.report.markdown import plain
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.params import read_params
from stages.shared.task.scoring import CLASSES, METRICS, NUMBERS, predict_labels
from stages.shared.task.task import Task

RAW, PREDICTIONS = "data/raw", "data/predictions"
MARGIN = 0.005


@dataclass(frozen=True)
class Difference:
    """One metric of one split in two revisions."""

    metric: str
    old: float
    new: float
    difference: float  # new minus old
    low: float
    high: float
    p_value: float | None  # could chance alone make so much of the flips? None: flips do not make the metric
    verdict: str


@dataclass(frozen=True)
class Flip:
    """An example whose prediction changed."""

    row: int  # in the split, from 1
    text: str
    text_pair: str | None
    label: str
    old: str
    new: str
    kind: str  # right -> wrong, ...
    confidence: float  # the new model's, in its prediction


@dataclass(frozen=True)
class SplitReport:
    """What changed on one split."""

    split: str
    examples: int
    differences: list[Difference]
    flips: dict[str, int] | None  # by kind; None for a regression
    p_value: float | None  # McNemar's exact test: could as many flips one way and the other be a coin's?
    flipped: list[Flip]  # most confident first; only as many as were asked for


@dataclass(frozen=True)
class Report:
    """The answer."""

    old: str
    new: str
    confidence: float
    margin: float
    splits: list[SplitReport]


def compare(old: Revision, new: Revision, p: EvaluateParams, margin: float = MARGIN, flips: int = 0) -> Report:
    """Compares the predictions of two revisions on the same examples.

    Raises:
        Unanswerable: a revision has no predictions, or they are for other examples, too few or all of one label.
    """
    task, olds = same_task(old, new), old.files(PREDICTIONS)
    news = new.files(PREDICTIONS)
    predicted = [sorted({Path(name).parts[0] for name in files}) for files in (olds, news)]
    both = [split for split in predicted[0] if split in predicted[1]]
    if not both:
        had = " and ".join(
            f"{one.name} predicted {', '.join(splits) or 'none'}"
            for one, splits in zip((old, new), predicted, strict=True)
        )
        raise Unanswerable(f"no split in common: {had}")
    reports = []
    for split in chosen_splits(p.splits, both):
        labels, (before, after) = same_examples(old, new, split)
        reports.append(compare_split(task, split, labels, before, after, p, margin))
        if flips and task.problem_type != NUMBERS:
            listed = list_flips(task, labels, before, after, texts(new, split), flips)
            reports[-1] = replace(reports[-1], flipped=listed)
    return Report(described(old), described(new), p.confidence, margin, reports)


def same_task(old: Revision, new: Revision) -> Task:
    """Returns the new revision's task.

    Raises:
        Unanswerable: the old one's labels are others.
    """
    tasks = [
        Task(**json.loads(one.files(RAW)["task.json"].read_text(encoding="utf-8")))
        for one in ((new,) if old.hash(RAW) == new.hash(RAW) else (new, old))
    ]
    if any((one.problem_type, one.label_names) != (tasks[0].problem_type, tasks[0].label_names) for one in tasks):
        kinds = " against ".join(f"{one.problem_type} of {one.label_names}" for one in reversed(tasks))
        raise Unanswerable(f"{old.name} and {new.name} have other tasks: {kinds}")
    return tasks[0]


def same_examples(old: Revision, new: Revision, split: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """Returns a split's labels, and the logits of both revisions for it.

    Raises:
        Unanswerable: texts or labels are not the same, there are too few, or all have one label.
    """
    (labels, before), (others, after) = (_predictions(one, split) for one in (old, new))
    if len(labels) != len(others):
        raise Unanswerable(
            f"{split}: {len(labels)} examples in {old.name} and {len(others)} in {new.name}: "
            "scores on other examples do not compare"
        )
    if not np.array_equal(labels, others):
        row = int(np.flatnonzero((labels != others).reshape(len(labels), -1).any(axis=1))[0]) + 1
        raise Unanswerable(f"{split}: {old.name} and {new.name} have other labels, first in row {row}")
    if old.hash(RAW) != new.hash(RAW):
        rows = [texts(one, split)[: len(labels)] for one in (old, new)]
        changed = [row for row, (one, other) in enumerate(zip(*rows, strict=True), 1) if one != other]
        if changed:
            raise Unanswerable(f"{split}: {old.name} and {new.name} have other texts, first in row {changed[0]}")
    if len(labels) < FEWEST:
        raise Unanswerable(f"{split}: {len(labels)} examples are too few to compare by; {FEWEST} are the least")
    if np.all(labels == -1):
        raise Unanswerable(f"{split}: no labels to score against")
    if (labels == labels[0]).all():
        raise Unanswerable(f"{split}: all examples have the same label: no score shows which model tells labels apart")
    return labels, [before, after]


def compare_split(
    task: Task, split: str, labels: np.ndarray, before: np.ndarray, after: np.ndarray, p: EvaluateParams, margin: float
) -> SplitReport:
    """Compares two models' logits, float32[examples, columns], for the same examples."""
    olds, news = (plain_scores(task, labels, logits) for logits in (before, after))
    intervals = bootstrap_intervals(task, labels, [before, after], p.confidence, p.resamples, p.seed)
    counts: dict[str, int] | None = None
    p_values: dict[str, float] = {}
    if task.problem_type != NUMBERS:
        kinds = flip_kinds(labels, predict_labels(task, before), predict_labels(task, after))
        counts = {kind: int(np.sum(kinds == kind)) for kind in ("wrong -> right", "right -> wrong", "wrong -> wrong")}
        p_values = swap_p_values(task, labels, before, after, p.resamples, p.seed)
        p_values["accuracy"] = mcnemar(counts["wrong -> right"], counts["right -> wrong"])
    differences = [
        Difference(
            name,
            olds[name],
            news[name],
            news[name] - olds[name],
            low,
            high,
            p_values.get(name),
            verdict(name, low, high, margin, p.confidence, len(labels), p_values.get(name)),
        )
        for name, (_, low, high) in intervals.items()
    ]
    return SplitReport(split, len(labels), differences, counts, p_values.get("accuracy"), [])


def verdict(
    metric: str, low: float, high: float, margin: float, confidence: float, examples: int, p_value: float | None
) -> str:
    """Says in words what the interval of new minus old means; checks.gate goes by the same words.

    A metric of predictions knows the two models by their flips alone, and of few flips the bootstrap makes too much:
    three that all go one way leave no resample on the other side, and the interval excludes 0, though a coin throws
    three alike in a quarter of all cases. Of two equal models and 408 examples of which 5 flip, it "tells apart" one
    pair in ten. So such a metric is "better" or "worse" only where a test that needs no large sample says so too: the
    accuracy by McNemar's, any other by `swap_p_values`. Likewise no flip makes an interval of no width: "equivalent"
    takes so many examples that the flips which may be missed by chance lie within the margin.

    Args:
        p_value: of that test; None for the loss and for regressions, which every example moves.
    """
    seen = p_value is None or unseen_flips(examples, confidence) <= margin
    if -margin <= low and high <= margin and seen:
        return f"equivalent within {margin:g}"
    if low <= 0 <= high or (p_value is not None and p_value >= 1 - confidence):
        return "cannot be told apart"
    return "better" if (low > 0) == greater_is_better(metric) else "worse"


def unseen_flips(examples: int, confidence: float) -> float:
    """Returns the largest share of flips that may well show none in a sample: 3 / examples for 95 %.

    The "rule of three" (Hanley & Lippman-Hand 1983), not rounded.
    """
    return float(1 - (1 - confidence) ** (1 / examples))


def greater_is_better(metric: str) -> bool:
    """Says which direction of a metric, or of the loss, is the good one."""
    return metric != "loss" and METRICS[metric].greater_is_better


def mcnemar(gained: int, lost: int) -> float:
    """Returns the two-sided p-value of McNemar's test (1947), exact: with binomial instead of chi-squared odds.

    Of the tests for two trained models on one test set it is the one with an acceptable rate of false alarms that
    needs no further training (Dietterich 1998).
    """
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def flip_kinds(labels: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Returns str[examples]: how each example's prediction changed; empty where it did not."""
    columns = [array.reshape(len(labels), -1) for array in (labels, before, after)]
    was, became = ((columns[0] == column).all(axis=1) for column in columns[1:])
    changed = (columns[1] != columns[2]).any(axis=1)
    kinds = np.where(was, "right -> wrong", np.where(became, "wrong -> right", "wrong -> wrong"))
    return np.where(changed, kinds, "")


def list_flips(
    task: Task, labels: np.ndarray, before: np.ndarray, after: np.ndarray, rows: list[tuple[str, str | None]], most: int
) -> list[Flip]:
    """Returns the flips of which the new model is surest."""
    olds, news = predict_labels(task, before), predict_labels(task, after)
    kinds = flip_kinds(labels, olds, news)
    wide = after.astype(np.float64)
    if task.problem_type == CLASSES:
        confidence = np.exp(wide.max(axis=1) - np.logaddexp.reduce(wide, axis=1))
    else:  # that all of its labels are right, if they do not depend on each other
        confidence = np.prod(1 / (1 + np.exp(-np.abs(wide))), axis=1)
    order = np.lexsort((np.arange(len(labels)), -confidence))
    chosen = [int(i) for i in order if kinds[i]][:most]
    return [
        Flip(
            row=i + 1,
            text=rows[i][0],
            text_pair=rows[i][1],
            label=_label(task, labels[i]),
            old=_label(task, olds[i]),
            new=_label(task, news[i]),
            kind=str(kinds[i]),
            confidence=float(confidence[i]),
        )
        for i in chosen
    ]


def texts(revision: Revision, split: str) -> list[tuple[str, str | None]]:
    """Returns the text, or the two, of each example of a split."""
    files = revision.files(RAW)
    names = sorted(name for name in files if name.startswith(f"{split}/") and name.endswith(".arrow"))
    rows: list[tuple[str, str | None]] = []
    for name in names:
        table = pa.ipc.open_stream(pa.memory_map(str(files[name]))).read_all()
        first = table.column("text").to_pylist()
        second = table.column("text_pair").to_pylist() if "text_pair" in table.column_names else [None] * len(first)
        rows += zip(first, second, strict=True)
    return rows


def _predictions(revision: Revision, split: str) -> tuple[np.ndarray, np.ndarray]:
    files = revision.files(PREDICTIONS)
    if f"{split}/logits.npy" not in files:
        raise Unanswerable(f"{revision.name}: the {split} split was not predicted")
    labels, logits = (np.load(files[f"{split}/{name}.npy"], mmap_mode="r") for name in ("labels", "logits"))
    return labels, logits


def _label(task: Task, value: Any) -> str:
    if task.problem_type == CLASSES:
        return task.label_names[int(value)]
    return ", ".join(name for name, one in zip(task.label_names, value, strict=True) if one) or "none"


def described(revision: Revision) -> str:
    """Names a revision with its commit."""
    return revision.name if revision.commit is None else f"{revision.name} ({revision.commit[:7]})"


def choose_revisions(repo: Any, old: str | None, new: str | None) -> tuple[Revision, Revision]:
    """Finds the two revisions; without names, the workspace is compared with HEAD if it has changes, else with main.

    Raises:
        Unanswerable: there is no such revision, or both are the same commit.
    """
    root = Path(repo.root_dir)
    changed = bool(git(root, "status", "--porcelain", "--untracked-files=no"))
    one = find_revision(repo, old or ("HEAD" if changed else "main"))
    two = find_revision(repo, new) if new else Revision(WORKSPACE, None, repo)
    if (two.commit or (None if changed else git(root, "rev-parse", "HEAD"))) == one.commit:
        raise Unanswerable(f"{one.name} and {two.name} are the same commit; name another one")
    return one, two


def warn_of_stale(new: Revision) -> None:
    """Says on stderr if the workspace's predictions are not those of its parameters and code."""
    if new.commit is None:
        reasons = belonging(new.root, new.lock) or stale(new.repo)
        if reasons:
            more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
            print(f"compare: warning: {reasons[0]}{more}: run `dvc repro` first", file=sys.stderr)


# Printing


def as_text(report: Report) -> str:
    """Formats the answer for a terminal."""
    lines = [f"{report.old} -> {report.new}"]
    for split in report.splits:
        rows = [_header(report), *_rows(split)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines += ["", f"{split.split}, {split.examples} examples"]
        lines += [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        lines += _flip_lines(split, report.confidence)
        for flip in split.flipped:
            lines += [
                "",
                f"row {flip.row}: {flip.kind}, label {visible(flip.label)}: "
                f"{visible(flip.old)} -> {visible(flip.new)} ({flip.confidence:.3f})",
            ]
            lines += [f"    {visible(text)}" for text in (flip.text, flip.text_pair) if text is not None]
    return "\n".join(lines)


def as_markdown(report: Report) -> str:
    """Formats the answer for a pull request or a job summary."""
    lines = [f"**compare {plain(report.old)} -> {plain(report.new)}**"]
    for split in report.splits:
        header, *rows = [_header(report), *_rows(split)]
        lines += ["", f"{plain(split.split)}, {split.examples} examples", ""]
        lines += [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]
        lines += ["", *_flip_lines(split, report.confidence)]
        if split.flipped:
            names = ("row", "flip", "label", "old", "new", "confidence", "text")
            lines += ["", f"| {' | '.join(names)} |", f"|{' --- |' * len(names)}"]
        for flip in split.flipped:
            text = "<br>".join(plain(part) for part in (flip.text, flip.text_pair) if part is not None)
            cells = [
                str(flip.row),
                flip.kind,
                *map(plain, (flip.label, flip.old, flip.new)),
                f"{flip.confidence:.3f}",
                text,
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def as_json(report: Report) -> str:
    """Formats the answer for programs."""
    return json.dumps(asdict(report), indent=2, ensure_ascii=False)


def _header(report: Report) -> list[str]:
    return ["metric", "old", "new", "difference", f"{100 * report.confidence:g} % interval", "verdict"]


def _rows(split: SplitReport) -> list[list[str]]:
    return [
        [d.metric, f"{d.old:.4f}", f"{d.new:.4f}", f"{d.difference:+.4f}", f"[{d.low:+.4f}, {d.high:+.4f}]", d.verdict]
        for d in split.differences
    ]


def _flip_lines(split: SplitReport, confidence: float) -> list[str]:
    if split.flips is None:
        return []
    flips = ", ".join(f"{count} {kind}" for kind, count in split.flips.items())
    lines = [f"flips: {flips}; McNemar's exact test: p = {split.p_value:.3g}"]
    if not sum(split.flips.values()):
        unseen = 100 * unseen_flips(split.examples, confidence)
        lines += [f"no flip here; of new examples up to {unseen:.1f} % may flip (at {100 * confidence:g} % confidence)"]
    return lines


def visible(text: str) -> str:
    """Writes control characters out, so that no text of the data moves a terminal's cursor or ends its line."""
    return "".join(
        sign.encode("unicode_escape").decode() if unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") else sign
        for sign in text
    )


def main(arguments: Sequence[str]) -> int:
    """Answers on stdout and returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m checks.compare", description=__doc__.partition("\n")[0])
    parser.add_argument("old", nargs="?", help="default: main, or HEAD where the working tree has changes")
    parser.add_argument("new", nargs="?", help="default: the workspace")
    parser.add_argument("--margin", type=float, default=MARGIN, help="differences up to it do not matter (0.005)")
    parser.add_argument("--flips", type=int, default=0, metavar="N", help="list N examples whose prediction changed")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true")
    form.add_argument("--markdown", action="store_true")
    options = parser.parse_args(arguments)
    logging.getLogger("dvc").setLevel(logging.CRITICAL)  # what a failing fetch says is said here, in one line
    try:
        with Repo() as repo:
            old, new = choose_revisions(repo, options.old, options.new)
            warn_of_stale(new)
            p = read_params("evaluate", EvaluateParams, Path(repo.root_dir) / "params.yaml")
            report = compare(old, new, p, options.margin, options.flips)
    except (Unanswerable, BadInput, DvcException, YAMLError) as error:
        print(f"compare: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print((as_json if options.json else as_markdown if options.markdown else as_text)(report))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
