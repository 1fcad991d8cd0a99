"""Which labels of train are likely wrong? Ranks them for annotators, by models that did not see them.

    python -m checks.suspects [--k 5] [-S KEY=VALUE ...] [--out FILE.csv] [--all] [--json]

Each row is judged by the model of the fold that it was held out of. The folds are those of `checks.folds`: they are
trained if they are not there yet. The method is confident learning (stages/report/suspects.py): a label is suspect if
the model is confident of another one. `--out` writes the suspects as a csv, the worst first, and with `--all` every
row, suspects first. Its columns: `idx` (the position in the data of train from 0, or their own column `idx`), `id` (of
download.id_column), the texts, `label`, `suggested_label`, `quality` (of the label: 0 is wrong for sure, 1 is right for
sure), `suspect`, and those of download.keep_columns.
A csv that people open in a spreadsheet: a text that would be a formula there has an apostrophe before it.
Exit status: 0 with an answer; 2 with one line on stderr if there is none; 130 for Ctrl-C.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from checks import cli
from checks.experiments import add_changes, checked, resolve
from checks.out_of_fold import FOLD, OutOfFold, kept_columns, predict_out_of_fold
from stages.report.suspects import Suspects, find_suspects
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.publish import publish
from stages.shared.runtime.terminal import say, visible
from stages.shared.task.cells import csv_line
from stages.shared.task.kept_columns import ID

SHOWN, CHARACTERS = 10, 80  # rows in the terminal, and of their texts
NO_NUMBERS = "a regression has no labels to be suspect: confident learning is for classes"


@dataclass(frozen=True)
class SuspectLabel:
    """One row whose label is in doubt."""

    idx: int  # the position in train from 0, or the data's own column `idx`
    id: str | None  # of download.id_column
    texts: list[str]
    label: str
    suggested_label: str
    quality: float


@dataclass(frozen=True)
class SuspectList:
    """The answer."""

    experiments: list[str]
    rows: int
    suspects: int
    worst: list[SuspectLabel]  # the first few
    notes: list[str]


def row_of(found: OutOfFold, judged: Suspects, place: int) -> SuspectLabel:
    """Returns one row in words."""
    texts = [found.rows[name][place].as_py() for name in ("text", "text_pair") if name in found.rows.column_names]
    label, suggested = (found.task.say(values[place]) for values in (found.labels, judged.suggested))
    own = found.rows[ID][place].as_py() if ID in found.rows.column_names else None
    return SuspectLabel(int(found.idx[place]), own, texts, label, suggested, float(judged.quality[place]))


def csv_rows(found: OutOfFold, judged: Suspects, everything: bool) -> Iterator[list[Any]]:
    """Yields the header and the rows of the csv."""
    texts = [name for name in ("text", "text_pair") if name in found.rows.column_names]
    kept = kept_columns(found.rows)
    ids = [name for name in (ID,) if name in found.rows.column_names]
    header = ["idx", *ids, *texts, "label", "suggested_label", "quality", "suspect"]
    # A kept column of a name that is taken has the name of its key before it, as in data/raw.
    yield [*header, *(name if name not in header else f"kept:{name}" for name in kept)]
    for place in judged.ranked().tolist():
        if everything or judged.suspect[place]:
            one = row_of(found, judged, place)
            answer = [one.label, one.suggested_label, f"{one.quality:.4f}", "yes" if judged.suspect[place] else "no"]
            yield [
                one.idx,
                *([one.id] if ids else []),
                *one.texts,
                *answer,
                *(values[place] for values in kept.values()),
            ]


def refuse_numbers(params: Mapping[str, Any]) -> None:
    """Refuses a regression before anything is trained.

    Raises:
        Unanswerable: it is one.
    """
    section = params["download"]
    dataset, kind = str(section.get("dataset")), section.get("problem_type")
    if dataset == "glue/stsb" or (kind == "regression" and not dataset.startswith("glue/")):
        raise cli.Unanswerable(NO_NUMBERS)


# Printing


def as_text(answer: SuspectList) -> str:
    """Formats the answer for a terminal."""
    share = answer.suspects / answer.rows
    lines = [f"{answer.suspects:,} of {answer.rows:,} labels of train are suspect ({100 * share:.1f} %)"]
    if answer.worst:
        rows = [["idx", "quality", "label", "suggested", "text"]]
        for one in answer.worst:
            words = [visible(text) for text in (one.label, one.suggested_label, " | ".join(one.texts))]
            rows.append([str(one.idx), f"{one.quality:.3f}", *words[:2], words[2][:CHARACTERS]])
        lines += ["", *cli.text_table(rows)]
    return "\n".join([*lines, *answer.notes])


def as_json(answer: SuspectList) -> str:
    """Formats the answer for programs."""
    return json.dumps(asdict(answer), indent=2)


def main(arguments: Sequence[str]) -> int:
    """Answers on stdout and returns the exit status."""
    parser = cli.make_parser("suspects", __doc__)
    parser.add_argument("--k", type=int, default=5, metavar="K", help="how many folds (5)")
    add_changes(parser)
    parser.add_argument("--out", type=Path, metavar="FILE.csv", help="the ranking, for annotators")
    parser.add_argument("--all", action="store_true", help="rank all rows in it, not the suspects alone")
    cli.add_forms(parser, as_text, {"--json": as_json})
    options = parser.parse_args(arguments)
    cli.end_on_sigterm()

    def ask(repo: Any) -> int:
        if options.all and options.out is None:
            raise cli.Unanswerable("--all: takes --out, the file to write all rows to")
        cli.check_folder("--out", options.out)
        changes = checked(options.changes, FOLD, "--k")
        refuse_numbers(resolve(Path(repo.root_dir), changes))
        found = predict_out_of_fold(repo, "suspects", options.k, changes)
        if found.task.problem.numeric:
            raise cli.Unanswerable(NO_NUMBERS)
        judged = find_suspects(found.task, found.labels, found.logits)
        notes = []
        if found.left_out:
            notes.append(f"{found.left_out} rows were not judged, because of tokenize.max_samples")
        if options.out is not None:
            with publish(options.out) as (out,), out.open("w", newline="", encoding="utf-8") as stream:
                stream.writelines(map(csv_line, csv_rows(found, judged, options.all)))
            notes.append(f"{'all rows, ranked' if options.all else 'the suspects'}: {options.out}")
        count = int(judged.suspect.sum())
        worst = [row_of(found, judged, place) for place in judged.ranked()[: min(SHOWN, count)].tolist()]
        say(options.form(SuspectList(found.experiments, len(found.labels), count, worst, notes)))
        return 0

    return cli.answer("suspects", ask, BadInput, interrupted="run the same command to continue")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
