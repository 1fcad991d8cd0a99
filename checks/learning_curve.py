"""Is more data worth labelling? Trains on shares of train, and compares their scores on the same examples.

    python -m checks.learning_curve [--shares 0.1,0.3,1] [-S KEY=VALUE ...] [--split validation] [--metric M]
                                   [--svg FILE] [--json | --markdown]

Each share is a DVC experiment with download.train_fraction, in a folder of its own (checks/experiments.py). The shares
are stratified, keep groups whole and lie in one another; validation and test stay the same. A finished share is not
trained again, and one that was cut short goes on from its last checkpoint. `-S` changes parameters, as in
`dvc exp run`. Each share is compared with the next larger one by the tests of `checks.compare`; docs/few_rows.md says
how to read it.
Exit status: 0 with an answer; 2 with one line on stderr if there is none; 130 for Ctrl-C.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from checks import cli
from checks.curve import CurvePoint, draw_curve
from checks.experiments import (
    LAST_STAGE,
    Experiment,
    add_changes,
    check_experiments,
    checked,
    finished,
    resolve,
)
from checks.predictions import predicted_splits, read_pair, task_of
from checks.revisions import Revision
from stages.report.markdown import plain
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.params import fill_section
from stages.shared.runtime.publish import publish
from stages.shared.runtime.terminal import say, visible
from stages.shared.statistics.confidence import metric_intervals
from stages.shared.statistics.paired import APART, Difference, compare_split, judged, plain_scores
from stages.shared.statistics.params import EvaluateParams
from stages.shared.task.metrics import greater_is_better

FRACTION = "download.train_fraction"


@dataclass(frozen=True)
class Step:
    """What the rows between one share and the next larger one bring."""

    share: float
    larger: float
    differences: list[Difference]  # the larger share's score minus the smaller one's


@dataclass(frozen=True)
class LearningCurve:
    """The answer."""

    split: str
    examples: int
    confidence: float
    metric: str
    points: list[CurvePoint]  # by metric, in each by share
    steps: list[Step]
    sentence: str  # is more data worth labelling?

    def of(self, metric: str) -> list[CurvePoint]:
        """Returns the points of one metric, by share."""
        return [point for point in self.points if point.metric == metric]


def share_experiments(shares: Sequence[float], changes: Sequence[str]) -> list[Experiment]:
    """Returns the run of each share; all of train is the run without a share."""
    return [
        Experiment(
            f"share-{share:g}", [*changes, f"{FRACTION}={'null' if share == 1 else share}"], (FRACTION,), LAST_STAGE
        )
        for share in shares
    ]


def asked_metric(found: Revision, split: str, metric: str | None) -> str:
    """Returns the metric that the sentence is about: the first of the task if none is asked for.

    Raises:
        Unanswerable: the split was not predicted, or there is no such metric.
    """
    predicted, names = predicted_splits(found), [*task_of(found).metrics, "loss"]
    if split not in predicted:
        raise cli.Unanswerable(f"--split {split}: not predicted, only {', '.join(predicted)}")
    if metric is not None and metric not in names:
        raise cli.Unanswerable(f"--metric {metric}: must be one of {', '.join(names)}")
    return metric or names[0]


def learning_curve(
    found: Sequence[Revision], shares: Sequence[float], split: str, metric: str | None, p: EvaluateParams
) -> LearningCurve:
    """Compares finished runs on one split.

    Args:
        metric: the one that the sentence is about; None: the first of the task.

    Raises:
        Unanswerable: the split was not predicted or has no labels, or there is no such metric.
        BadInput: a logit is not finite.
    """
    metric = asked_metric(found[0], split, metric)
    pairs = [read_pair(one, other, split) for one, other in pairwise(found)]
    task, labels, groups = pairs[0].task, pairs[0].labels, pairs[0].groups
    names = [*task.metrics, "loss"]
    points, sizes = [], [rows_trained_on(one) for one in found]
    for (smaller, larger), (fewer, more) in zip(pairwise(shares), pairwise(sizes), strict=True):
        if fewer >= more:
            raise cli.Unanswerable(
                f"--shares: {smaller:g} and {larger:g} of train are both {more} rows; take shares that lie further "
                "apart, and set tokenize.max_samples to null"
            )
    for share, rows, one, logits in zip(
        shares, sizes, found, [pairs[0].before, *(pair.after for pair in pairs)], strict=True
    ):
        values = plain_scores(task, labels, logits)
        intervals = metric_intervals(
            task, labels, [logits], confidence=p.confidence, resamples=p.resamples, seed=p.seed, groups=groups
        )
        points += [
            CurvePoint(share, rows, one.name, name, values[name], intervals[name].low, intervals[name].high)
            for name in names
        ]
    alpha = 1 - p.confidence
    compared = judged([compare_split(split, pair, p, alpha, {}) for pair in pairs], alpha)
    steps = [Step(*ends, one.differences) for ends, one in zip(pairwise(shares), compared, strict=True)]
    points.sort(key=lambda point: names.index(point.metric))  # a stable sort: the shares keep their order
    curve = LearningCurve(split, len(labels), p.confidence, metric, points, steps, "")
    return replace(curve, sentence=verdict_on(curve, steps[-1].differences))


def rows_trained_on(found: Revision) -> int:
    """Returns how many rows a run was trained on.

    Raises:
        Unanswerable: it has no metrics/truncation.json.
    """
    splits = {one["split"]: int(one["examples"]) for one in found.json("metrics/truncation.json")["splits"]}
    return splits["train"]


def verdict_on(curve: LearningCurve, last: Sequence[Difference]) -> str:
    """Says whether more data are worth labelling, by what the last step brought."""
    *_, before, after = curve.of(curve.metric)
    difference = next(one for one in last if one.metric == curve.metric)
    better = difference.difference if greater_is_better(curve.metric) else -difference.difference
    doublings = math.log2(after.rows / before.rows)
    change = f"from {before.rows:,} to {after.rows:,} rows, {curve.metric} went {difference.difference:+.4f}"
    ends = ""
    if difference.low is not None and difference.high is not None:
        ends = f" ({100 * curve.confidence:g} % interval {difference.low:+.4f} to {difference.high:+.4f})"
    if difference.verdict in APART and better > 0:
        each = difference.difference / doublings
        return (
            f"More data are worth labelling: {change}{ends}. If the curve goes on like this, twice the rows bring "
            f"about {each:+.4f}."
        )
    if difference.verdict in APART:
        return f"More data of this kind did not help: {change}{ends}. Look at the rows, and at the recipe, first."
    if difference.verdict.startswith("equivalent"):
        return f"More data of this kind are hardly worth labelling: {change}{ends}, which is {difference.verdict}."
    return (
        f"It cannot be told whether more data are worth labelling: {change}{ends}. More validation examples, or shares "
        "that lie further apart, would tell more."
    )


# Printing


def as_text(curve: LearningCurve) -> str:
    """Formats the answer for a terminal."""
    tables = [[[visible(cell) for cell in row] for row in rows] for rows in (point_rows(curve), step_rows(curve))]
    lines = [title(curve), *cli.text_table(tables[0]), "", *cli.text_table(tables[1]), "", visible(curve.sentence)]
    return "\n".join(lines)


def as_markdown(curve: LearningCurve) -> str:
    """Formats the answer for a pull request or a page."""
    lines = [f"**{plain(title(curve))}**"]
    for rows in (point_rows(curve), step_rows(curve)):
        lines += ["", *cli.markdown_table([[plain(cell) for cell in row] for row in rows])]
    return "\n".join([*lines, "", plain(curve.sentence)])


def as_json(curve: LearningCurve) -> str:
    """Formats the answer for programs."""
    return json.dumps(asdict(curve), indent=2)


def title(curve: LearningCurve) -> str:
    return f"{curve.split}, {curve.examples:,} examples"


def point_rows(curve: LearningCurve) -> list[list[str]]:
    rows = [["share", "rows of train", "metric", "score", f"{100 * curve.confidence:g} % interval"]]
    for one in curve.points:
        ends = "withheld" if one.low is None else f"[{one.low:.4f}, {one.high:.4f}]"
        rows.append([f"{one.share:g}", f"{one.rows:,}", one.metric, f"{one.value:.4f}", ends])
    return rows


def step_rows(curve: LearningCurve) -> list[list[str]]:
    rows = [["step", "metric", "difference", f"{100 * curve.confidence:g} % interval", "p (Holm)", "verdict"]]
    for step in curve.steps:
        for one in step.differences:
            ends = "withheld" if one.low is None else f"[{one.low:+.4f}, {one.high:+.4f}]"
            name = f"{step.share:g} to {step.larger:g}"
            rows.append([name, one.metric, f"{one.difference:+.4f}", ends, f"{one.p_holm:.2g}", one.verdict])
    return rows


def read_shares(text: str) -> list[float]:
    """Reads `0.1,0.3,1`, in any order.

    Raises:
        Unanswerable: these are no shares, or fewer than two different ones.
    """
    try:
        shares = sorted(map(float, text.split(",")))
    except ValueError:
        raise cli.Unanswerable(f"--shares: expected numbers like 0.1,0.3,1, got {text!r}") from None
    if not all(0 < share <= 1 for share in shares):
        raise cli.Unanswerable(f"--shares: each must be above 0 and at most 1, got {text!r}")
    if len(shares) < 2 or len(set(shares)) < len(shares):
        raise cli.Unanswerable(f"--shares: give at least two different shares, got {text!r}")
    return shares


def main(arguments: Sequence[str]) -> int:
    """Answers on stdout and returns the exit status."""
    parser = cli.make_parser("learning_curve", __doc__)
    parser.add_argument("--shares", default="0.1,0.3,1", metavar="A,B,C", help="of train (0.1,0.3,1)")
    add_changes(parser)
    parser.add_argument("--split", default="validation", help="to score (validation)")
    parser.add_argument("--metric", metavar="M", help="for the answer; default: the first of download.metrics")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw it, too")
    cli.add_forms(parser, as_text, {"--json": as_json, "--markdown": as_markdown})
    options = parser.parse_args(arguments)
    cli.end_on_sigterm()
    return cli.answer(
        "learning_curve",
        lambda repo: _ask(repo, options),
        BadInput,
        interrupted="run the same command to continue",
    )


def _ask(repo: Any, options: argparse.Namespace) -> int:
    shares = read_shares(options.shares)
    cli.check_folder("--svg", options.svg)
    changes = checked(options.changes, FRACTION, "--shares")
    params = resolve(Path(repo.root_dir), changes)
    p = fill_section(EvaluateParams, params.get("evaluate"), "params.yaml: evaluate")
    experiments = share_experiments(shares, changes)
    check_experiments(repo, experiments)
    found = []
    for one in experiments:
        found.append(finished(repo, "learning_curve", one))
        asked_metric(found[0], options.split, options.metric)  # what cannot be answered costs one training, not all
    curve = learning_curve(found, shares, options.split, options.metric, p)
    if options.svg is not None:
        with publish(options.svg) as (out,):
            out.write_text(draw_curve(curve.of(curve.metric), curve.split, curve.confidence), encoding="utf-8")
    say(options.form(curve))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
