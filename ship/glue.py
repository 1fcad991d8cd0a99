"""Writes the zip that the GLUE server takes, from predictions that are in DVC's cache.

    python -m ship.glue exp-cola exp-mrpc exp-stsb --out submission.zip

Each argument is a revision (a branch, tag, commit or experiment) whose `download.dataset` is one of `glue/<task>`; none
means the workspace. The server wants all eleven files in a zip, so what no revision predicted is filled with one answer
for every row, and named: its score on the server means nothing. Predictions are the model's own, in the rows' order;
those of STS-B are clipped to 0 to 5. A file has exactly the rows that GLUE has, or nothing is written.
Exit status: 0; 1 with one line on stderr when there is no such zip to write.
"""

import argparse
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from checks import cli
from checks.predictions import PREDICTIONS, read_rows, task_of
from checks.revisions import WORKSPACE, Revision, find_revision
from ship.archive import entry
from stages.download.glue import GLUE
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.publish import publish
from stages.shared.runtime.terminal import say
from stages.shared.task.predictions import open_predictions

PREFIX = "glue/"


@dataclass(frozen=True)
class SubmissionFile:
    """One file of a submission."""

    task: str  # as in download.dataset, without `glue/`
    split: str
    rows: int  # of GLUE's test set
    in_words: bool = False  # labels by name; else by their number, or the number that was predicted

    def answer(self, prediction: Any) -> str:
        """Writes a prediction as the server reads it."""
        names = GLUE[self.task].label_names
        if not names:
            return f"{float(np.clip(prediction, 0, 5)):.3f}"
        return names[int(prediction)] if self.in_words else str(int(prediction))


# Names, words and numbers of rows: those of GLUE's sample submission (Wang et al., 2019; gluebenchmark.com/faq).
TABLES = {
    "CoLA.tsv": SubmissionFile("cola", "test", 1063),
    "SST-2.tsv": SubmissionFile("sst2", "test", 1821),
    "MRPC.tsv": SubmissionFile("mrpc", "test", 1725),
    "STS-B.tsv": SubmissionFile("stsb", "test", 1379),
    "MNLI-m.tsv": SubmissionFile("mnli", "test_matched", 9796, in_words=True),
    "MNLI-mm.tsv": SubmissionFile("mnli", "test_mismatched", 9847, in_words=True),
    "QNLI.tsv": SubmissionFile("qnli", "test", 5463, in_words=True),
    "QQP.tsv": SubmissionFile("qqp", "test", 390965),
    "RTE.tsv": SubmissionFile("rte", "test", 3000, in_words=True),
    "WNLI.tsv": SubmissionFile("wnli", "test", 146),
    "AX.tsv": SubmissionFile("ax", "test", 1104, in_words=True),
}


def run(repo: Any, revisions: Sequence[str], out: Path) -> int:
    """Writes the zip and returns the exit status.

    Raises:
        BadInput: a revision is of no task of GLUE, two are of one task, or rows are missing.
        Unanswerable: a revision, its predictions or its data are nowhere.
    """
    found = [find_revision(repo, name) for name in revisions] or [Revision(WORKSPACE, None, repo)]
    by_task: dict[str, Revision] = {}
    for revision in found:
        name = task_of(revision).name
        if not name.startswith(PREFIX):
            raise BadInput(f"{revision.name}: its data are {name}, which is no task of GLUE")
        other = by_task.setdefault(name.removeprefix(PREFIX), revision)
        if other is not revision:
            raise BadInput(f"{other.name} and {revision.name}: both are {name}; name one of them")
    if out.is_dir():
        raise BadInput(f"--out {out}: is a folder; name a file")
    with publish(out) as (partial,), zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, table in TABLES.items():
            of = by_task.get(table.task)
            answers = predicted(of, table) if of else [table.answer(0)] * table.rows
            lines = "".join(f"{index}\t{answer}\n" for index, answer in enumerate(answers))
            info = entry(file)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, f"index\tprediction\n{lines}")
            source = of.name if of else f"filled with {answers[0]}, since no revision predicted it"
            say(f"{file:<12}{table.rows:>7} rows  {source}")
    say(f"glue: {out} is ready for gluebenchmark.com/submit")
    return 0


def predicted(revision: Revision, table: SubmissionFile) -> list[str]:
    """Returns a revision's answers to the test set of a task, in GLUE's order.

    Raises:
        BadInput: it predicted other rows than GLUE has.
    """
    files = revision.files(PREDICTIONS)
    what = f"{revision.name}: {table.task}: {table.split}"
    if f"{table.split}/logits.npy" not in files:
        raise BadInput(f"{what}: was not predicted")
    _, logits = open_predictions(files[f"{table.split}/labels.npy"], files[f"{table.split}/logits.npy"], what)
    if len(logits) != table.rows:
        raise BadInput(f"{what}: {len(logits)} rows, where GLUE has {table.rows}; set tokenize.max_samples: null")
    places = read_rows(revision, table.split)["idx"].to_numpy()
    if not np.array_equal(np.sort(places), np.arange(table.rows)):
        raise BadInput(
            f"{what}: column idx does not number the rows from 0 to {table.rows - 1}, as GLUE's test sets do"
        )
    predictions = task_of(revision).problem.predict(logits)
    return [table.answer(one) for one in predictions[np.argsort(places)]]


def parser() -> argparse.ArgumentParser:
    """Makes the parser of the command line."""
    made = cli.make_parser("glue", __doc__, "ship")
    made.add_argument("revisions", nargs="*", metavar="REV", help="a branch, tag, commit or experiment for each task")
    made.add_argument("--out", default="submission.zip", metavar="FILE", type=Path, help="default: submission.zip")
    return made


def main(arguments: Sequence[str]) -> int:
    """Writes the zip and returns the exit status."""
    options = parser().parse_args(arguments)
    return cli.answer("glue", lambda repo: run(repo, options.revisions, options.out), BadInput, OSError, unanswered=1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
