"""Do two revisions' models differ by more than chance? Answers from the logits in DVC's cache; nothing is run.

    python -m checks.compare [OLD [NEW]] [--margin M] [--flips N] [--json | --markdown]

OLD is main by default, or HEAD where the working tree has changes; NEW is the workspace. Scored are the splits of
params.yaml's `evaluate`, with its confidence, resamples and seed. The interval is the paired bootstrap's: both models
on the same resampled examples. "equivalent" means that the whole interval lies within the margin, in the metric's own
unit; it is said before "better" or "worse", which then are too small to matter. Where few predictions flip, the
interval alone is not enough for a word (`verdict` in checks/paired.py says why, and what is).
Exit status: 0 with an answer, whatever it is; 2 when there is none.
"""

import json
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from checks import cli
from checks.lock import find_mismatches
from checks.paired import MARGIN, SplitComparison, compare_split, list_flips, unseen_flips
from checks.predictions import predicted_splits, read_pair, read_texts, same_task
from checks.revisions import WORKSPACE, Revision, find_revision, git
from stages.evaluate.params import EvaluateParams, chosen_splits
from stages.report.markdown import plain
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.params import read_params


@dataclass(frozen=True)
class RevisionComparison:
    """The answer."""

    old: str
    new: str
    confidence: float
    margin: float
    splits: list[SplitComparison]


def compare(old: Revision, new: Revision, p: EvaluateParams, margin: float, flips: int) -> RevisionComparison:
    """Compares the predictions of two revisions on the same examples, and lists so many of their flips.

    Raises:
        Unanswerable: a revision has no predictions, or they are for other examples, too few or all of one label.
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
    splits = []
    for split in chosen_splits(p.splits, both):
        pair = read_pair(old, new, split)
        splits.append(compare_split(split, pair, p, margin))
        if flips and not task.problem.numeric:
            splits[-1] = replace(splits[-1], flipped=list_flips(pair, read_texts(new, split), flips))
    return RevisionComparison(described(old), described(new), p.confidence, margin, splits)


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
        raise cli.Unanswerable(f"{one.name} and {two.name} are the same commit; name another one")
    return one, two


def warn_of_stale(new: Revision) -> None:
    """Says on stderr if the workspace's predictions are not those of its parameters and code."""
    if new.commit is None and (reasons := find_mismatches(new.repo, new.lock).reasons):
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        print(f"compare: warning: {reasons[0]}{more}: run `dvc repro` first", file=sys.stderr)


# Printing


def as_text(comparison: RevisionComparison) -> str:
    """Formats the answer for a terminal."""
    lines = [f"{comparison.old} -> {comparison.new}"]
    for split in comparison.splits:
        lines += ["", f"{split.split}, {split.examples} examples"]
        lines += [*cli.text_table(_rows(split, comparison.confidence)), *_flip_lines(split, comparison.confidence)]
        for flip in split.flipped:
            lines += [
                "",
                f"row {flip.row}: {flip.kind}, label {visible(flip.label)}: "
                f"{visible(flip.old)} -> {visible(flip.new)} ({flip.confidence:.3f})",
            ]
            lines += [f"    {visible(text)}" for text in (flip.text, flip.text_pair) if text is not None]
    return "\n".join(lines)


def as_markdown(comparison: RevisionComparison) -> str:
    """Formats the answer for a pull request or a job summary."""
    lines = [f"**compare {plain(comparison.old)} -> {plain(comparison.new)}**"]
    for split in comparison.splits:
        lines += ["", f"{plain(split.split)}, {split.examples} examples", ""]
        lines += cli.markdown_table(_rows(split, comparison.confidence))
        lines += ["", *_flip_lines(split, comparison.confidence)]
        rows = [["row", "flip", "label", "old", "new", "confidence", "text"]]
        for flip in split.flipped:
            text = "<br>".join(plain(part) for part in (flip.text, flip.text_pair) if part is not None)
            words = map(plain, (flip.label, flip.old, flip.new))
            rows.append([str(flip.row), flip.kind, *words, f"{flip.confidence:.3f}", text])
        lines += ["", *cli.markdown_table(rows)] if split.flipped else []
    return "\n".join(lines)


def as_json(comparison: RevisionComparison) -> str:
    """Formats the answer for programs."""
    return json.dumps(asdict(comparison), indent=2, ensure_ascii=False)


def _rows(split: SplitComparison, confidence: float) -> list[list[str]]:
    header = ["metric", "old", "new", "difference", f"{100 * confidence:g} % interval", "verdict"]
    return [header] + [
        [d.metric, f"{d.old:.4f}", f"{d.new:.4f}", f"{d.difference:+.4f}", f"[{d.low:+.4f}, {d.high:+.4f}]", d.verdict]
        for d in split.differences
    ]


def _flip_lines(split: SplitComparison, confidence: float) -> list[str]:
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
    parser = cli.make_parser("compare", __doc__)
    parser.add_argument("old", nargs="?", help="default: main, or HEAD where the working tree has changes")
    parser.add_argument("new", nargs="?", help="default: the workspace")
    parser.add_argument("--margin", type=float, default=MARGIN, help="differences up to it do not matter (0.005)")
    parser.add_argument("--flips", type=int, default=0, metavar="N", help="list N examples whose prediction changed")
    cli.add_forms(parser, as_text, {"--json": as_json, "--markdown": as_markdown})
    options = parser.parse_args(arguments)

    def ask(repo: Any) -> int:
        old, new = choose_revisions(repo, options.old, options.new)
        warn_of_stale(new)
        p = read_params("evaluate", EvaluateParams, new.root / "params.yaml")
        print(options.form(compare(old, new, p, options.margin, options.flips)))
        return 0

    return cli.answer("compare", ask, BadInput)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
