"""Which models are best, and which of them cannot be told apart? Ranks branches, experiments and seeds; nothing is run.

    python -m checks.leaderboard [REV ...] [--metric M] [--alpha A] [--svg FILE] [--json | --markdown | --latex]

Without REV: every local branch and every DVC experiment that predicted the same examples; what is left out is listed.
Each is ranked by the first of download.metrics, or by M, on each split of params.yaml's `evaluate`. It is held to the
best by the tests of `checks.compare`: "worse" is said only where a randomization test says so after Holm's correction,
and the interval of the difference excludes 0. As nobody knew before which one would be best, the correction counts all
pairs of models, not those with the best alone: of equal models any is called worse in at most alpha (0.05) of all
samples. The intervals are at 1 - alpha, and not corrected. docs/statistics.md has the methods.
Exit status: 0 with an answer; 2 with one line on stderr when there is none.
"""

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from checks import cli
from checks.board import BEST, TIED, WORSE, Board, Entry, draw_boards
from checks.dvc_internals import experiment_name
from checks.predictions import predicted_splits, read_pair, task_of
from checks.revisions import WORKSPACE, Revision, find_revision, git
from stages.report.markdown import plain
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.params import read_params
from stages.shared.runtime.publish import publish
from stages.shared.runtime.terminal import say, visible
from stages.shared.statistics.confidence import metric_intervals
from stages.shared.statistics.paired import ALPHA, holm, paired_intervals, plain_scores
from stages.shared.statistics.params import EvaluateParams
from stages.shared.statistics.swaps import PairedPredictions, swap_p_values
from stages.shared.task.asked import chosen_splits
from stages.shared.task.metrics import greater_is_better


@dataclass(frozen=True)
class Leaderboard:
    """The answer."""

    alpha: float
    boards: list[Board]
    left_out: list[str]  # a line each


def rank_models(
    revisions: Sequence[Revision], p: EvaluateParams, metric: str | None, alpha: float, left_out: Sequence[str] = ()
) -> Leaderboard:
    """Ranks models that predicted the same examples.

    Raises:
        Unanswerable: there are fewer than two, they have no split in common, they predicted other examples, or the
            metric is not one of the task.
        BadInput: a logit is not finite.
    """
    if len(revisions) < 2:
        said = f" ({'; '.join(left_out)})" if left_out else ""
        raise cli.Unanswerable(f"{len(revisions) or 'no'} model to rank, and it takes two{said}")
    task = task_of(revisions[0])
    names = [*task.metrics, "loss"]
    metric = metric or names[0]
    if metric not in names:
        raise cli.Unanswerable(f"--metric {metric}: must be one of {', '.join(names)}")
    predicted = [predicted_splits(one) for one in revisions]
    common = [split for split in predicted[0] if all(split in splits for splits in predicted)]
    if not common:
        raise cli.Unanswerable("the models have no predicted split in common")
    splits = chosen_splits(p.splits, common)
    tests = len(splits) * len(revisions) * (len(revisions) - 1) // 2
    # The least p-value that so many draws can give must still be significant once it is corrected.
    p = replace(p, resamples=max(p.resamples, math.ceil(2 * tests / alpha)))
    changes = differing_parameters(revisions)
    boards = [rank_split(split, revisions, changes, p, metric, alpha=alpha) for split in splits]
    return Leaderboard(alpha, corrected(boards, tests, alpha), list(left_out))


def rank_split(
    split: str,
    revisions: Sequence[Revision],
    changes: Sequence[str],
    p: EvaluateParams,
    metric: str,
    *,
    alpha: float,
) -> Board:
    """Scores each model on one split and compares it with the best; `corrected` has the verdicts."""
    pairs = [read_pair(revisions[0], one, split) for one in revisions]
    task = replace(pairs[0].task, metrics=[] if metric == "loss" else [metric])
    labels, groups = pairs[0].labels, pairs[0].groups
    scores = [plain_scores(task, labels, pair.after)[metric] for pair in pairs]
    sign = 1 if greater_is_better(metric) else -1
    order = sorted(range(len(scores)), key=lambda i: -sign * scores[i])  # of equal ones the first that was named
    entries = []
    for i in order:
        own = metric_intervals(
            task,
            labels,
            [pairs[i].after],
            confidence=1 - alpha,
            resamples=p.resamples,
            seed=p.seed,
            groups=groups,
            names=[metric],
        )[metric]
        entry = Entry(revisions[i].name, changes[i], scores[i], own.low, own.high, 0.0, None, None, None, None, BEST)
        if i != order[0]:
            pair = PairedPredictions(task, labels, pairs[order[0]].after, pairs[i].after, groups)
            interval = paired_intervals(pair, p, alpha, [metric])[metric]
            entry = replace(
                entry,
                difference=scores[i] - scores[order[0]],
                difference_low=interval.low,
                difference_high=interval.high,
                p_value=swap_p_values(pair, p.resamples, p.seed, [metric])[metric],
            )
        entries.append(entry)
    drawn = None if groups is None else int(groups.max()) + 1
    return Board(split, len(labels), drawn, metric, entries)


def corrected(boards: Sequence[Board], tests: int, alpha: float) -> list[Board]:
    """Corrects the p-values for the number of tests that could have been made, and says words.

    The tests that were not made count as if their p-values were 1, which makes the correction larger, never smaller.
    """
    known = [one.p_value for board in boards for one in board.entries if one.p_value is not None]
    found = iter(holm([*known, *[1.0] * (tests - len(known))]))
    return [replace(board, entries=[_judged(one, found, alpha) for one in board.entries]) for board in boards]


def _judged(one: Entry, found: Iterator[float], alpha: float) -> Entry:
    if one.p_value is None:
        return one
    p_holm = next(found)
    low, high = one.difference_low, one.difference_high
    holds_zero = low is not None and high is not None and low <= 0 <= high
    return replace(one, p_holm=p_holm, verdict=TIED if holds_zero or p_holm >= alpha else WORSE)


def differing_parameters(revisions: Sequence[Revision]) -> list[str]:
    """Returns for each model the parameters that not all of them share, as `train.seed=1`."""
    read = [_parameters(one) for one in revisions]
    names = list(dict.fromkeys(name for one in read for name in one))
    differing = [name for name in names if len({one.get(name) for one in read}) > 1]
    return [", ".join(f"{name}={one[name]}" for name in differing if name in one) for one in read]


def _parameters(revision: Revision) -> dict[str, str]:
    """Reads those of the stages in dvc.lock: with these, and not those of params.yaml, the model was made."""
    found = {}
    for entry in revision.lock.values():
        for section, values in entry.get("params", {}).get("params.yaml", {}).items():
            for key, value in values.items() if isinstance(values, Mapping) else [("", values)]:
                found[f"{section}.{key}".rstrip(".")] = json.dumps(value, ensure_ascii=False)
    return found


def find_model(repo: Any, name: str) -> Revision:
    """Finds a branch, tag, commit or experiment by its name; `workspace` is what lies in the folder.

    Raises:
        Unanswerable: there is none.
    """
    return Revision(WORKSPACE, None, repo) if name == WORKSPACE else find_revision(repo, name)


def all_models(repo: Any, p: EvaluateParams) -> tuple[list[Revision], list[str]]:
    """Returns every branch and experiment of the repository that predicted what the first of them did.

    Of those with the same commit one is taken, by all of their names. The branch that is checked out comes first.

    Returns:
        them, and a line for each one that is left out.
    """
    root = Path(repo.root_dir)
    listed = git(root, "for-each-ref", "--format=%(objectname) %(HEAD) %(refname)", "refs/heads", "refs/exps") or ""
    names: dict[str, list[str]] = {}
    rows = [(line[:40], line[41] == "*", line[43:]) for line in listed.splitlines()]
    for commit, _, ref in sorted(rows, key=lambda row: not row[1]):
        name = ref.removeprefix("refs/heads/") if ref.startswith("refs/heads/") else experiment_name(ref)
        if name is not None:
            names.setdefault(commit, []).append(name)
    found: list[Revision] = []
    left_out = []
    for commit, called in names.items():
        one = Revision(", ".join(called), commit, repo)
        try:
            for split in chosen_splits(p.splits, predicted_splits(one)):
                read_pair(found[0] if found else one, one, split)
        except (cli.Unanswerable, BadInput) as error:
            left_out.append(str(error) if str(error).startswith(one.name) else f"{one.name}: {error}")
        else:
            found.append(one)
    return found, left_out


# Printing


def as_text(answer: Leaderboard) -> str:
    """Formats the answer for a terminal."""
    lines: list[str] = []
    for board in answer.boards:
        rows = [[visible(cell) for cell in row] for row in _rows(board, answer.alpha)]
        lines += ["", _title(board), *cli.text_table(rows), *_notes(board)]
    lines += ["", *(f"left out: {visible(one)}" for one in answer.left_out)] if answer.left_out else []
    return "\n".join(lines[1:])


def as_markdown(answer: Leaderboard) -> str:
    """Formats the answer for a page or a pull request."""
    lines: list[str] = []
    for board in answer.boards:
        rows = [[plain(cell) for cell in row] for row in _rows(board, answer.alpha)]
        lines += ["", f"**{plain(_title(board))}**", "", *cli.markdown_table(rows), ""]
        lines += [f"- {plain(note)}" for note in _notes(board)]
    return "\n".join([*lines[1:], *(f"- left out: {plain(one)}" for one in answer.left_out)])


def as_latex(answer: Leaderboard) -> str:
    """Formats the answer for a paper: a table of the package booktabs a split, what else is to be said as comments."""
    lines = ["% \\usepackage{booktabs}"]
    for board in answer.boards:
        lines += [f"% {visible(_title(board))}", *cli.latex_table(_rows(board, answer.alpha), texts=3)]
        lines += [f"% {visible(note)}" for note in _notes(board)]
    return "\n".join([*lines, *(f"% left out: {visible(one)}" for one in answer.left_out)])


def as_json(answer: Leaderboard) -> str:
    """Formats the answer for programs."""
    return json.dumps(asdict(answer), indent=2)


def _title(board: Board) -> str:
    groups = "" if board.groups is None else f" in {board.groups:,} groups"
    return f"{board.split}, {board.examples:,} examples{groups}, by {board.metric}"


def _rows(board: Board, alpha: float) -> list[list[str]]:
    interval = f"{100 * (1 - alpha):g} % interval"
    rows = [["", "model", "parameters", board.metric, interval, "from the best", interval, "p (Holm)", "verdict"]]
    for number, one in enumerate(board.entries, 1):
        row = [str(number), one.revision, one.changes, f"{one.score:.4f}", _ends(one.low, one.high, "")]
        if one.p_holm is None:
            row += ["", "", ""]
        else:
            row += [f"{one.difference:+.4f}", _ends(one.difference_low, one.difference_high, "+"), f"{one.p_holm:.2g}"]
        rows.append([*row, one.verdict])
    return rows


def _ends(low: float | None, high: float | None, sign: str) -> str:
    return "withheld" if low is None or high is None else f"[{low:{sign}.4f}, {high:{sign}.4f}]"


def _notes(board: Board) -> list[str]:
    """Says how many are as good as the best, and what the best's score does not mean."""
    tied = sum(one.verdict == TIED for one in board.entries)
    models = len(board.entries)
    lines = [f"{tied} of the other {models - 1} cannot be told apart from the best"]
    if models > 2:
        lines.append(
            f"the best of {models} owes some of its score to chance: a split that chose nothing says what it is worth"
        )
    return lines


def main(arguments: Sequence[str]) -> int:
    """Answers on stdout and returns the exit status."""
    parser = cli.make_parser("leaderboard", __doc__)
    parser.add_argument("revisions", nargs="*", metavar="REV", help="default: all branches and experiments")
    parser.add_argument("--metric", metavar="M", help="to rank by; default: the first of download.metrics")
    parser.add_argument(
        "--alpha", type=float, default=ALPHA, help=f"how often equal models may be told apart ({ALPHA})"
    )
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw it, too")
    cli.add_forms(parser, as_text, {"--json": as_json, "--markdown": as_markdown, "--latex": as_latex})
    options = parser.parse_args(arguments)

    def ask(repo: Any) -> int:
        if not 0 < options.alpha < 0.5:
            raise cli.Unanswerable(f"--alpha {options.alpha:g}: must be above 0 and below 0.5")
        cli.check_folder("--svg", options.svg)
        p = read_params("evaluate", EvaluateParams, Path(repo.root_dir) / "params.yaml")
        if options.revisions:
            names = dict.fromkeys(options.revisions)
            models = [find_model(repo, one) for one in names]
            left_out: list[str] = []
        else:
            models, left_out = all_models(repo, p)
        found = rank_models(models, p, options.metric, options.alpha, left_out)
        if options.svg is not None:
            with publish(options.svg) as (out,):
                out.write_text(draw_boards(found.boards, found.alpha), encoding="utf-8")
        say(options.form(found))
        return 0

    return cli.answer("leaderboard", ask, BadInput)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
