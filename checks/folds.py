"""How good is the recipe, by all of train? Cross-validates: each row is predicted by a model that did not see it.

    python -m checks.folds [--k 5] [-S KEY=VALUE ...] [--out FILE] [--json | --markdown | --latex]

Train is cut into k folds (download.fold: stratified, whole groups, seeded by download.split_seed). Each fold is a DVC
experiment that trains on the others and predicts this one, in a folder of its own (checks/experiments.py). A finished
fold is not trained again, and one that was cut short goes on from its last checkpoint. `-S` changes parameters, as in
`dvc exp run`. The predictions of all folds are written to FILE (.scratch/folds/<name>.npz): `idx`, the position of each
row in train from 0, `fold`, `labels` and `logits`.
The first interval is about these k models on new examples. The second one is about the recipe: it covers other rows to
train on, too. docs/few_rows.md has the methods.
Exit status: 0 with an answer; 2 with one line on stderr if there is none; 130 for Ctrl-C.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t

from checks import cli
from checks.experiments import add_changes, checked, resolve
from checks.out_of_fold import FOLD, OutOfFold, predict_out_of_fold
from checks.spread import score_range
from stages.report.markdown import plain
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.params import fill_section
from stages.shared.runtime.publish import publish
from stages.shared.runtime.run_stage import SCRATCH
from stages.shared.runtime.terminal import say, visible
from stages.shared.statistics.confidence import metric_intervals
from stages.shared.statistics.paired import plain_scores
from stages.shared.statistics.params import EvaluateParams
from stages.shared.task.groups import GROUP

FEWEST_FOLDS = 3  # of two, the spread has one degree of freedom: such an interval spans almost everything


@dataclass(frozen=True)
class FoldScore:
    """One metric over all folds."""

    metric: str
    value: float  # of all rows at once
    low: float | None  # interval of these models' score on new examples; None: withheld
    high: float | None
    withheld: str | None  # why
    of_folds: list[float]
    mean: float  # of the folds
    deviation: float
    recipe_low: float | None  # interval of the mean that covers other rows to train on; None: too few folds
    recipe_high: float | None


@dataclass(frozen=True)
class CrossValidation:
    """The answer."""

    experiments: list[str]
    rows: int
    groups: int | None
    sizes: list[int]  # of the folds
    confidence: float
    scores: list[FoldScore]
    notes: list[str]
    file: str  # where the predictions are


def cross_validate(found: OutOfFold, p: EvaluateParams) -> tuple[list[FoldScore], list[str]]:
    """Scores what the folds predicted, and says what is to be known about the figures."""
    task, folds = found.task, range(found.folds)
    where = [found.fold == fold for fold in folds]
    whole = plain_scores(task, found.labels, found.logits)
    parts = [plain_scores(task, found.labels[rows], found.logits[rows]) for rows in where]
    intervals = metric_intervals(
        task,
        found.labels,
        [found.logits],
        confidence=p.confidence,
        resamples=p.resamples,
        seed=p.seed,
        groups=found.groups,
    )
    scores = []
    for metric, interval in intervals.items():
        values = np.array([part[metric] for part in parts])
        ends = corrected_interval(values, metric, p.confidence) if found.folds >= FEWEST_FOLDS else (None, None)
        scores.append(
            FoldScore(
                metric,
                whole[metric],
                interval.low,
                interval.high,
                interval.withheld,
                values.tolist(),
                float(values.mean()),
                float(values.std(ddof=1)),
                *ends,
            )
        )
    notes = []
    if found.left_out:
        notes.append(f"{found.left_out} rows were not predicted, because of tokenize.max_samples")
    if not task.problem.numeric:
        members = task.classification.members(found.labels, task.columns)
        alone = [
            name for name, rows in zip(task.label_names, members.T, strict=True) if len(set(found.fold[rows])) == 1
        ]
        if alone:
            names = ", ".join(map(repr, alone[:5])) + (", ..." if len(alone) > 5 else "")
            notes.append(f"all rows of {names} are in one fold, whose model never saw that label")
    return scores, notes


def corrected_interval(values: np.ndarray, metric: str, confidence: float) -> tuple[float, float]:
    """Returns the corrected interval of Nadeau and Bengio (2003) of the mean of float64[folds].

    The trainings share rows, so the scores of the folds vary less than those of trainings on rows of their own: their
    variance counts 1 / k + 1 / (k - 1) times, and not 1 / k times. It ends where the metric's range does.
    """
    folds = len(values)
    error = float(values.std(ddof=1)) * (1 / folds + 1 / (folds - 1)) ** 0.5
    reach = float(t.ppf((1 + confidence) / 2, folds - 1)) * error
    lowest, highest = score_range(metric)
    return max(float(values.mean()) - reach, lowest), min(float(values.mean()) + reach, highest)


def write_predictions(file: Path, found: OutOfFold) -> None:
    """Writes what the folds predicted; the same predictions give the same bytes."""
    arrays: dict[str, np.ndarray] = {name: getattr(found, name) for name in ("idx", "fold", "labels", "logits")}
    with publish(file) as (out,), out.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def default_file(root: Path, found: OutOfFold) -> Path:
    """Returns where the predictions go if nobody says: by the name of the first fold's experiment."""
    name = found.experiments[0].replace("fold-1-of", "folds-of", 1)
    return root / SCRATCH / "folds" / f"{name}.npz"


# Printing


def as_text(answer: CrossValidation) -> str:
    """Formats the answer for a terminal."""
    tables = [[[visible(cell) for cell in row] for row in rows] for rows in (summary_rows(answer), fold_rows(answer))]
    lines = [title(answer), *cli.text_table(tables[0]), "", *cli.text_table(tables[1]), *map(visible, notes_of(answer))]
    return "\n".join(lines)


def as_markdown(answer: CrossValidation) -> str:
    """Formats the answer for a pull request or a page."""
    tables = (summary_rows(answer), fold_rows(answer))
    lines = [f"**{plain(title(answer))}**"]
    for rows in tables:
        lines += ["", *cli.markdown_table([[plain(cell) for cell in row] for row in rows])]
    return "\n".join([*lines, "", *(f"- {plain(note)}" for note in notes_of(answer))])


def as_latex(answer: CrossValidation) -> str:
    """Formats the answer for a paper: tables of the package booktabs, what else is to be said as comments."""
    tables = [*cli.latex_table(summary_rows(answer), texts=1), "", *cli.latex_table(fold_rows(answer), texts=1)]
    notes = [f"% {visible(note)}" for note in notes_of(answer)]
    return "\n".join(["% \\usepackage{booktabs}", f"% {visible(title(answer))}", *tables, *notes])


def as_json(answer: CrossValidation) -> str:
    """Formats the answer for programs."""
    return json.dumps(asdict(answer), indent=2)


def title(answer: CrossValidation) -> str:
    groups = "" if answer.groups is None else f" in {answer.groups:,} groups"
    return f"{answer.rows:,} rows of train{groups}, in {len(answer.experiments)} folds"


def summary_rows(answer: CrossValidation) -> list[list[str]]:
    level = f"{100 * answer.confidence:g} %"
    rows = [["metric", "all rows", f"{level}, these models", "mean of folds", "deviation", f"{level}, the recipe"]]
    for one in answer.scores:
        own, recipe = (_ends(one.low, one.high), _ends(one.recipe_low, one.recipe_high))
        rows.append([one.metric, f"{one.value:.4f}", own, f"{one.mean:.4f}", f"{one.deviation:.4f}", recipe])
    return rows


def fold_rows(answer: CrossValidation) -> list[list[str]]:
    names = [f"fold {number}" for number in range(1, len(answer.sizes) + 1)]
    rows = [["", *names], ["rows", *map(str, answer.sizes)]]
    return rows + [[one.metric, *(f"{value:.4f}" for value in one.of_folds)] for one in answer.scores]


def notes_of(answer: CrossValidation) -> list[str]:
    notes = cli.no_intervals((one.metric, one.withheld) for one in answer.scores)
    if (folds := len(answer.experiments)) < FEWEST_FOLDS:
        notes.append(f"{folds} folds are too few for an interval of the recipe; the minimum is {FEWEST_FOLDS}")
    return [*notes, *answer.notes, f"the predictions of all folds: {answer.file}"]


def _ends(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"[{low:.4f}, {high:.4f}]"


def main(arguments: Sequence[str]) -> int:
    """Answers on stdout and returns the exit status."""
    parser = cli.make_parser("folds", __doc__)
    parser.add_argument("--k", type=int, default=5, metavar="K", help="how many folds (5)")
    add_changes(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="for the predictions; default: in .scratch/folds")
    cli.add_forms(parser, as_text, {"--json": as_json, "--markdown": as_markdown, "--latex": as_latex})
    options = parser.parse_args(arguments)
    cli.end_on_sigterm()

    def ask(repo: Any) -> int:
        root = Path(repo.root_dir)
        cli.check_folder("--out", options.out)
        changes = checked(options.changes, FOLD, "--k")
        p = fill_section(EvaluateParams, resolve(root, changes).get("evaluate"), "params.yaml: evaluate")
        found = predict_out_of_fold(repo, "folds", options.k, changes, ["idx", GROUP])
        file = options.out or default_file(root, found)
        write_predictions(file, found)
        scores, notes = cross_validate(found, p)
        shown = file.relative_to(root) if options.out is None else file
        groups = None if found.groups is None else int(found.groups.max()) + 1
        sizes = np.bincount(found.fold).tolist()
        say(
            options.form(
                CrossValidation(
                    found.experiments, len(found.labels), groups, sizes, p.confidence, scores, notes, str(shown)
                )
            )
        )
        return 0

    return cli.answer("folds", ask, BadInput, interrupted="run the same command to continue")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
