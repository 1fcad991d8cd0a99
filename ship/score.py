"""Scores new texts with the finished model: the label, how probable it is, and all that stood beside the texts.

    python -m ship.score tickets.csv --out scored.csv
    python -m ship.score --from jsonl - < tickets.jsonl | head

Texts are tokenized, cut, put into batches and computed as in `tokenize` and `predict`, by the same code: the texts of a
split get the logits of data/predictions. The model is that of dvc.lock, or of another commit's (`--revision`).
It is a command and no stage. A stage reads what dvc.yaml names and is run again whenever that changes; new texts come
every day, from anywhere, and must neither rerun a stage nor leave a mark in dvc.lock.
Exit status: 0; 1 with one line on stderr when rows cannot be scored, and nothing is left in the place of --out then;
130 after Ctrl-C; 141 when whoever reads stdout has gone.
"""

import argparse
import gzip
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from tqdm import tqdm

from checks import cli
from ship.answers import AnswerColumns
from ship.input_rows import InputFiles, RowStream
from ship.model import FINETUNED, FinishedModel, calibration_of, open_model, stale
from ship.output_rows import FORMATS, Write, open_output
from stages.download.readers import file_format
from stages.shared.runtime.arithmetic import prepare_for
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.execution import Execution
from stages.shared.runtime.params import read_params
from stages.shared.runtime.publish import publish
from stages.shared.runtime.terminal import warn

if TYPE_CHECKING:
    from ship.scoring import Scorer, ScoringCounts

STDIN = "-"
ZIPPED = tuple(f"{name}.gz" for name in ("csv", "tsv", "jsonl"))
SPOOLED = "standard input"


def run(repo: Any, options: argparse.Namespace) -> int:
    """Scores what was asked for and returns the exit status.

    Raises:
        BadInput: a row cannot be scored, or what is asked for does not go together.
    """
    root = Path(repo.root_dir)
    (root / ".scratch").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="score-", dir=root / ".scratch") as scratch:
        folder = Path(scratch)
        try:
            prepare(repo, options, folder)
        except BadInput as error:  # which may name what is in a folder that nobody knows
            told = str(error).replace(f"{folder}/stdin/", "").replace(f"{folder}/model", FINETUNED)
            raise BadInput(told) from None
    return 0


def prepare(repo: Any, options: argparse.Namespace, folder: Path) -> None:
    """Looks at all that was asked for and at every row, then scores; `folder` is for what is needed meanwhile."""
    files = given_files(options, folder)
    out = check_output(options, files)
    model = open_model(repo, options.revision, make(folder / "model"))
    calibration = None if options.uncalibrated else calibration_of(model.revision, folder)
    if line := stale(model, calibration is not None):
        warn(f"score: {line}")
    columns, asked_by = asked_columns(options, model)
    answers = AnswerColumns(
        model.task, calibration, options.prefix, probabilities=options.probabilities, logits=options.logits
    )
    if out in ("csv", "tsv") and (answers.has_sets or not (model.task.problem.exclusive or model.task.problem.numeric)):
        check_delimiter(model, out)
    source = InputFiles(files, columns, asked_by)
    survey = source.survey(options.on_empty, answers.schema.names)
    execution = read_params("execution", Execution, Path(repo.root_dir) / "params.yaml")
    prepare_for(model.params["predict"].get("arithmetic"))
    from ship.scoring import Scorer  # here, for it imports torch

    start = time.monotonic()
    scorer = Scorer(model, execution, folder)
    with (
        opened(options.out, out) as sink,
        open_output(sink, out, source.format, survey.own, answers.schema, delimiter=model.label_delimiter) as write,
    ):
        score(scorer, source, survey.rows, options.on_empty, answers, write=write)
        source.check_unchanged(survey)
    warn(summary(model, scorer.counts, time.monotonic() - start, calibration is not None))


def score(
    scorer: "Scorer", source: InputFiles, rows: int, on_empty: str, answers: AnswerColumns, *, write: Write
) -> None:
    """Writes every row with its answer, window by window: a window's tokens are on disk, its rows are read again."""
    texts, own = RowStream(source.portions()), RowStream(source.portions())
    with tqdm(total=rows, desc="score", unit=" rows", disable=None) as progress:
        for size in scorer.windows(rows):
            logits, answered = scorer.window(texts.take(size), source.place, on_empty)
            found, done = answers(logits, answered), 0
            for portion in own.take(size):
                write(portion, found.slice(done, portion.own.num_rows))
                done += portion.own.num_rows
            progress.update(size)


def summary(model: FinishedModel, counts: "ScoringCounts", seconds: float, calibrated: bool) -> str:
    """Says in a line what was done."""
    parts = [f"score: {counts.rows} rows in {seconds:.1f} s ({counts.rows / max(seconds, 1e-9):.0f} rows/s)"]
    if counts.skipped:
        parts.append(f"{counts.skipped} without text have no prediction")
    if counts.cut:
        parts.append(f"{counts.cut} were longer than {model.max_length} tokens and were cut")
    commit = model.revision.commit
    parts.append(f"by the model of {f'{model.revision.name} ({commit[:12]})' if commit else 'the dvc.lock here'}")
    parts += ["calibrated"] if calibrated else []
    return ", ".join(parts)


def given_files(options: argparse.Namespace, folder: Path) -> list[Path]:
    """Returns the files to read; what comes on standard input is first written to one.

    Raises:
        BadInput: standard input has no format, or is one of several files.
    """
    if STDIN not in options.files:
        if options.source is not None:
            raise BadInput("--from: is for standard input (-); of a file the name says the format")
        return [Path(file) for file in options.files]
    if len(options.files) > 1:
        raise BadInput("-: standard input is scored alone; name files, or pipe all of them in")
    if options.source is None:
        raise BadInput(f"-: standard input has no name that says its format; give --from {'|'.join(FORMATS)}")
    spooled = make(folder / "stdin") / f"{SPOOLED}.{options.source}"
    with spooled.open("wb") as stream:
        shutil.copyfileobj(sys.stdin.buffer, stream)
    return [spooled]


def check_output(options: argparse.Namespace, files: Sequence[Path]) -> str:
    """Returns the format to write.

    Raises:
        BadInput: two are asked for, or --out is a folder or one of the files to read.
    """
    named = ""
    if options.out is not None:
        out = Path(options.out)
        if out.is_dir():
            raise BadInput(f"--out {out}: is a folder; name a file")
        if out.exists() and any(file.exists() and out.samefile(file) for file in files):
            raise BadInput(f"--out {out}: is the file that is scored; name another")
        named = file_format(out)
        if options.to and named and named != options.to:
            raise BadInput(f"--out {out}: the name says {named}, but --to {options.to}; give one of the two")
    return options.to or named or file_format(files[0])


def asked_columns(options: argparse.Namespace, model: FinishedModel) -> tuple[list[list[str]], str]:
    """Returns for each text the names of its columns, several of which are joined, and who named them.

    Raises:
        BadInput: a second text is asked for, and the model knows but one.
    """
    columns = model.texts
    if options.pair is not None and len(columns) == 1:
        raise BadInput("--pair: the model was trained on single texts; leave it out")
    asked = [options.text, options.pair][: len(columns)]
    named = [one or other for one, other in zip(asked, columns, strict=True)]
    if len(named) == 2 and named[0] == named[1]:
        raise BadInput(f"--text and --pair: both are {' and '.join(map(repr, named[0]))}; name two columns")
    return named, "--text, --pair" if any(asked) else "as in the data that the model was trained on"


def check_delimiter(model: FinishedModel, out: str) -> None:
    """Makes sure that sets of labels can be told apart where they are one text.

    Raises:
        BadInput: a label holds what stands between labels.
    """
    for name in model.task.label_names:
        if model.label_delimiter in name:
            raise BadInput(
                f"label {name!r} holds {model.label_delimiter!r}, which stands between the labels of a row in a {out}; "
                "choose --to jsonl"
            )


@contextmanager
def opened(out: str | None, written: str) -> Iterator[BinaryIO]:
    """Yields what to write to: a file that appears at `out` when all is written, or standard output.

    Raises:
        BadInput: what was begun on standard output cannot go on; what is there is not whole, and cannot be marked so.
    """
    if out is not None:
        with publish(Path(out)) as (partial,), partial.open("wb") as stream:
            if out.endswith(".gz"):
                with gzip.GzipFile("", "wb", 6, stream, mtime=0) as zipped:
                    yield zipped  # type: ignore[misc]
            else:
                yield stream
        return
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as stream:
        if written in ("parquet", "arrow") and stream.isatty():
            raise BadInput(f"{written} is no text for a terminal; give --out FILE, or --to csv")
        try:
            yield stream
            stream.flush()
        except BadInput as error:
            raise BadInput(f"{error} (what stands on standard output is not whole)") from None


def make(folder: Path) -> Path:
    """Makes a folder and returns it."""
    folder.mkdir(parents=True)
    return folder


def parser() -> argparse.ArgumentParser:
    """Makes the parser of the command line."""
    made = cli.make_parser("score", __doc__, "ship")
    made.add_argument(
        "files", nargs="+", metavar="FILE", help=".csv .tsv .jsonl (also .gz) .parquet .arrow; - for stdin"
    )
    made.add_argument("--from", dest="source", choices=[*FORMATS, *ZIPPED], help="the format of standard input")
    made.add_argument("--out", help="the file to write; default: standard output")
    made.add_argument("--to", choices=FORMATS, help="the format to write; default: as --out is named, else as FILE is")
    made.add_argument(
        "--text",
        action="append",
        help="the column with the text; default: as in the data of the model; several are joined",
    )
    made.add_argument("--pair", action="append", help="the column with the second text, of a model of pairs")
    made.add_argument("--prefix", default="predicted_", help="how the new columns begin; default: predicted_")
    made.add_argument("--probabilities", action="store_true", help="also a column with the probability of each label")
    made.add_argument("--logits", action="store_true", help="also a column with the logit of each label")
    made.add_argument(
        "--on-empty",
        choices=["error", "skip", "score"],
        default="error",
        help="rows without text: an error; kept without a prediction; or, if it is only blank, scored as predict does",
    )
    made.add_argument("--uncalibrated", action="store_true", help="labels and probabilities of the model alone")
    made.add_argument("--revision", metavar="REV", help="the model of a branch, tag, commit or experiment")
    return made


def main(arguments: Sequence[str]) -> int:
    """Scores and returns the exit status."""
    options = parser().parse_args(arguments)
    kept = "nothing was left in the place of --out"
    return cli.answer("score", lambda repo: run(repo, options), BadInput, OSError, unanswered=1, interrupted=kept)


if __name__ == "__main__":
    cli.end_on_sigterm()
    sys.exit(main(sys.argv[1:]))
