"""Do the models of two revisions differ by more than chance? Answers from the logits in DVC's cache; nothing runs.

    python -m checks.compare [OLD [NEW]] [--alpha A] [--margin [METRIC=]M ...] [--flips N] [--json | --markdown]

OLD is main by default, or HEAD if the working tree has changes. NEW is the workspace. The splits, resamples and seed
are those of `evaluate` in params.yaml. A difference is "better" or "worse" only if a randomization test says so after
Holm's correction over everything printed: for equal models, the probability of any such word is at most alpha (0.05).
The interval is at level 1 - alpha. "equivalent" means that the whole interval lies within the margin, in the unit of
the metric. It takes precedence over "better" and "worse", which are then too small to matter. The first metric of
download.metrics on the first split is primary, and the others are secondary. With evaluate.per_class, precision, recall
and F1 of labels are compared too. "detectable" is the smallest true
difference that 80 of 100 samples of this size would have shown. docs/statistics.md describes the methods.
Exit status: 0 with an answer, whatever it is; 2 if there is none.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from checks import cli
from checks.ledger import count_looks
from checks.lock import find_mismatches
from checks.made_from import find_foreign
from checks.predictions import predicted_splits, read_ids, read_pair, read_texts, read_warnings, same_task
from checks.revisions import WORKSPACE, Revision, find_revision, git
from stages.report.markdown import plain
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.params import read_params
from stages.shared.runtime.terminal import say, visible, warn
from stages.shared.statistics.labels import METRICS_OF_A_LABEL, chosen_labels
from stages.shared.statistics.paired import (
    ALPHA,
    APART,
    MARGIN,
    Difference,
    Flip,
    SplitComparison,
    checked_margin,
    compare_labels,
    compare_split,
    judged,
    list_flips,
    unseen_flips,
)
from stages.shared.statistics.params import EvaluateParams
from stages.shared.task.asked import check_per_class, chosen_splits
from stages.shared.task.metrics import METRICS


@dataclass(frozen=True)
class RevisionComparison:
    """The answer."""

    old: str
    new: str
    alpha: float
    splits: list[SplitComparison]
    warnings: list[str]  # what the two say against their own scores
    looks: dict[str, int]  # how many models each split was scored for


@dataclass(frozen=True)
class Asked:
    """How to compare."""

    alpha: float  # the level of the tests
    margins: dict[str, float]  # by metric; under "" for all others
    flips: int  # to list


def compare(old: Revision, new: Revision, p: EvaluateParams, asked: Asked) -> RevisionComparison:
    """Compares the predictions of two revisions on the same examples.

    Raises:
        Unanswerable: a revision has no predictions, or they are for other examples, too few or all of one label; or a
            margin is for no metric of the data.
        BadInput: a logit is not finite.
    """
    task = same_task(old, new)
    predicted = [predicted_splits(one) for one in (old, new)]
    both = [split for split in predicted[0] if split in predicted[1]]
    if not both:
        had = " and ".join(
            f"{one.name} predicted {', '.join(splits) or 'none'}"
            for one, splits in zip((old, new), predicted, strict=True)
        )
        raise cli.Unanswerable(f"no split in common: {had}")
    check_per_class(p.per_class, task)
    columns = chosen_labels(task, p.per_class)
    names = [*task.metrics, "loss", *(METRICS_OF_A_LABEL if columns else ())]
    for name in asked.margins.keys() - {"", *names}:
        raise cli.Unanswerable(f"--margin {name}: must be for one of {', '.join(names)}")
    margins = {name: asked.margins.get(name, asked.margins.get("", MARGIN)) for name in names}
    splits = []
    for split in chosen_splits(p.splits, both):
        pair = read_pair(old, new, split)
        compared = compare_split(split, pair, p, asked.alpha, margins)
        of_labels = compare_labels(pair, columns, p, asked.alpha, margins)
        splits.append(replace(compared, differences=[*compared.differences, *of_labels]))
        if asked.flips and not task.problem.numeric:
            flips = list_flips(pair, read_texts(new, split), asked.flips, read_ids(new, split))
            splits[-1] = replace(splits[-1], flipped=flips)
    warnings = [line for one in (old, new) for line in read_warnings(one, [split.split for split in splits])]
    looks = count_looks(new, [split.split for split in splits])
    return RevisionComparison(described(old), described(new), asked.alpha, judged(splits, asked.alpha), warnings, looks)


def described(revision: Revision) -> str:
    """Names a revision with its commit."""
    return revision.name if revision.commit is None else f"{revision.name} ({revision.commit[:7]})"


def choose_revisions(repo: Any, old: str | None, new: str | None) -> tuple[Revision, Revision]:
    """Finds the two revisions; without names, the workspace is compared with HEAD if it has changes, else with main.

    Raises:
        Unanswerable: there is no such revision, or both are the same commit.
    """
    root = Path(repo.root_dir)
    changed = bool(git(root, "status", "--porcelain", "--untracked-files=no", "--", "."))
    one = find_revision(repo, old or ("HEAD" if changed else "main"))
    two = find_revision(repo, new) if new else Revision(WORKSPACE, None, repo)
    if (two.commit or (None if changed else git(root, "rev-parse", "HEAD"))) == one.commit:
        raise cli.Unanswerable(f"{one.name} and {two.name} are the same commit; name another one")
    return one, two


def warn_of_stale(new: Revision) -> None:
    """Says on stderr if the workspace's predictions are not those of its parameters and code."""
    if new.commit is None and (reasons := (mismatches := find_mismatches(new.repo, new.lock)).reasons):
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        remedy = "" if mismatches.foreign else ": run `dvc repro` first"
        warn(f"compare: warning: {reasons[0]}{more}{remedy}")


def warn_of_foreign(revision: Revision) -> None:
    """Says on stderr if a commit's predictions were not made from what its dvc.lock says, as after some merges."""
    if revision.commit is not None:
        for line in find_foreign(revision.lock, revision.text):
            warn(f"compare: warning: {revision.name}: {line}")


# Printing


def as_text(comparison: RevisionComparison) -> str:
    """Formats the answer for a terminal."""
    lines = [f"{comparison.old} -> {comparison.new}"]
    for split in comparison.splits:
        lines += ["", f"{split.split}, {split.examples} examples"]
        lines += [*cli.text_table(_rows(split, comparison.alpha)), *_notes(split, comparison.alpha)]
        lines += looked_at(comparison, split.split)
        for flip in split.flipped:
            lines += [
                "",
                f"{visible(row_of(flip))}: {flip.kind}, label {visible(flip.label)}: "
                f"{visible(flip.old)} -> {visible(flip.new)} ({flip.confidence:.3f})",
            ]
            lines += [f"    {visible(text)}" for text in (flip.text, flip.text_pair) if text is not None]
    return "\n".join(
        [*lines, *([""] if comparison.warnings else []), *(f"warning: {one}" for one in comparison.warnings)]
    )


def as_markdown(comparison: RevisionComparison) -> str:
    """Formats the answer for a pull request or a job summary."""
    lines = [f"**compare {plain(comparison.old)} -> {plain(comparison.new)}**"]
    for split in comparison.splits:
        lines += ["", f"{plain(split.split)}, {split.examples} examples", ""]
        lines += cli.markdown_table(_rows(split, comparison.alpha, plain))
        notes = [*_notes(split, comparison.alpha), *looked_at(comparison, split.split)]
        lines += ["", *(f"- {plain(note)}" for note in notes)]
        rows = [["row", "flip", "label", "old", "new", "confidence", "text"]]
        for flip in split.flipped:
            text = "<br>".join(plain(part) for part in (flip.text, flip.text_pair) if part is not None)
            words = map(plain, (flip.label, flip.old, flip.new))
            rows.append([plain(row_of(flip).removeprefix("row ")), flip.kind, *words, f"{flip.confidence:.3f}", text])
        lines += ["", *cli.markdown_table(rows)] if split.flipped else []
    lines += ["", *(f"- warning: {plain(one)}" for one in comparison.warnings)] if comparison.warnings else []
    return "\n".join(lines)


def as_json(comparison: RevisionComparison) -> str:
    """Formats the answer for programs."""
    return json.dumps(asdict(comparison), indent=2)


def row_of(flip: Flip) -> str:
    """Names the row of a flip, by its id too where rows have one."""
    return f"row {flip.row}" if flip.id is None else f"row {flip.row} (id {flip.id})"


def _rows(split: SplitComparison, alpha: float, say: Callable[[str], str] = visible) -> list[list[str]]:
    interval = f"{100 * (1 - alpha):g} % interval"
    rows = [["metric", "", "old", "new", "difference", interval, "p", "p (Holm)", "detectable", "verdict"]]
    for one in split.differences:
        rank = "primary" if one.primary else "secondary"
        ends = "withheld" if one.low is None else f"[{one.low:+.4f}, {one.high:+.4f}]"
        least = "" if one.detectable is None else f"{one.detectable:.4f}"
        numbers = [f"{one.old:.4f}", f"{one.new:.4f}", f"{one.difference:+.4f}", ends]
        rows.append([named(one, say), rank, *numbers, f"{one.p_value:.2g}", f"{one.p_holm:.2g}", least, one.verdict])
    return rows


def named(difference: Difference, say: Callable[[str], str] = visible) -> str:
    """Names a metric, with the label whose it is, as `say` makes its name safe."""
    return difference.metric if difference.label is None else f"{difference.metric} of {say(difference.label)}"


def _notes(split: SplitComparison, alpha: float) -> list[str]:
    """Says what stands behind the table: the flips, intervals that are withheld, and words that seem to disagree."""
    lines = []
    if split.groups is not None:
        lines.append(f"the examples come in {split.groups} groups, which are resampled and swapped as a whole")
    if split.flips is not None:
        flips = ", ".join(f"{count} {kind}" for kind, count in split.flips.items())
        exact = "" if split.p_value is None else f"; McNemar's exact test: p = {split.p_value:.3g}"
        lines.append(f"flips: {flips}{exact}")
        if not sum(split.flips.values()):
            unseen = 100 * unseen_flips(split.groups or split.examples, 1 - alpha)
            new = "examples" if split.groups is None else "groups"
            lines.append(
                f"no prediction flipped; on new {new}, up to {unseen:.1f} % may flip (at {100 * (1 - alpha):g} % "
                "confidence)"
            )
    lines += cli.no_intervals((named(one), one.withheld) for one in split.differences)
    apart = {one.metric: one.verdict in APART for one in split.differences if one.label is None}
    if split.loss_from_flips is not None and apart["loss"] != apart[split.differences[0].metric]:
        flipped = sum((split.flips or {}).values())
        lines.append(
            f"the verdicts on {split.differences[0].metric} and loss differ: {100 * split.loss_from_flips:.0f} % "
            f"of the change in loss comes from the {flipped} examples that flipped, and the other metrics depend "
            "only on these"
        )
    return lines


def looked_at(comparison: RevisionComparison, split: str) -> list[str]:
    """Says how many models the split was scored for: who picks the best of them picks chance too."""
    looks = comparison.looks[split]
    return (
        [f"{split} has been used to score {looks} model{'s'[: looks != 1]} (in Git and DVC's experiments)"]
        if looks
        else []
    )


def read_margins(texts: Sequence[str]) -> dict[str, float]:
    """Reads `--margin 0.01`, for all metrics (under ""), and `--margin f1=0.01`.

    Raises:
        Unanswerable: one is no number that can be a margin.
    """
    margins = {}
    for text in texts:
        name, equals, number = text.rpartition("=")
        if equals and name != "loss" and name not in METRICS:
            raise cli.Unanswerable(f"--margin {text}: no metric {name!r}; known are {', '.join([*METRICS, 'loss'])}")
        try:
            margins[name] = checked_margin(name, float(number))
        except ValueError as error:
            raise cli.Unanswerable(f"--margin {text}: {error}") from None
    return margins


def main(arguments: Sequence[str]) -> int:
    """Answers on stdout and returns the exit status."""
    parser = cli.make_parser("compare", __doc__)
    parser.add_argument("old", nargs="?", help="default: main, or HEAD if the working tree has changes")
    parser.add_argument("new", nargs="?", help="default: the workspace")
    parser.add_argument("--alpha", type=float, default=ALPHA, help=f"accepted rate of false differences ({ALPHA})")
    parser.add_argument(
        "--margin",
        action="append",
        default=[],
        metavar="[METRIC=]M",
        help=f"largest difference that does not matter ({MARGIN}); can be given per metric",
    )
    parser.add_argument("--flips", type=int, default=0, metavar="N", help="list N examples whose prediction changed")
    cli.add_forms(parser, as_text, {"--json": as_json, "--markdown": as_markdown})
    options = parser.parse_args(arguments)

    def ask(repo: Any) -> int:
        if not 0 < options.alpha < 0.5:
            raise cli.Unanswerable(f"--alpha {options.alpha:g}: must be above 0 and below 0.5")
        if options.flips < 0:
            raise cli.Unanswerable(f"--flips {options.flips}: must be at least 0")
        asked = Asked(options.alpha, read_margins(options.margin), options.flips)
        old, new = choose_revisions(repo, options.old, options.new)
        warn_of_stale(new)
        for revision in (old, new):
            warn_of_foreign(revision)
        p = read_params("evaluate", EvaluateParams, new.root / "params.yaml")
        say(options.form(compare(old, new, p, asked)))
        return 0

    return cli.answer("compare", ask, BadInput)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
