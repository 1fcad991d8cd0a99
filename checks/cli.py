"""The command line that checks/ and ship/ share: options, printing, and one-line errors."""

import argparse
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo
from ruamel.yaml.error import YAMLError

from stages.shared.runtime.terminal import warn

Form = Callable[[Any], str]  # writes an answer


class Unanswerable(Exception):  # noqa: N818  (it names what happened)
    """The check cannot be made; the message is one line."""


def make_parser(name: str, document: str | None, folder: str = "checks") -> argparse.ArgumentParser:
    """Makes the parser of `python -m <folder>.<name>`, described by the first line of its module's docstring.

    Args:
        document: the docstring; None under `python -OO`, which drops all of them.
    """
    description = (document or "").partition("\n")[0]
    return argparse.ArgumentParser(prog=f"python -m {folder}.{name}", description=description)


def add_forms(parser: argparse.ArgumentParser, text: Form, others: Mapping[str, Form]) -> None:
    """Adds an option for each other form of the answer, of which one may be given; `options.form` writes it."""
    parser.set_defaults(form=text)
    group = parser.add_mutually_exclusive_group()
    for option, form in others.items():
        group.add_argument(option, dest="form", action="store_const", const=form)


def answer(
    name: str, ask: Callable[[Any], int], *errors: type[Exception], unanswered: int = 2, interrupted: str = ""
) -> int:
    """Returns the exit status of `ask`, called with this folder's `Repo`; without an answer, says why in one line.

    Where whoever reads stdout has gone (`| head`), it ends without a word, with the status that SIGPIPE gives.

    Args:
        errors: exceptions that mean that there is no answer, besides those of this module, of DVC and of YAML.
        unanswered: the exit status where there is none.
        interrupted: what Ctrl-C leaves behind.
    """
    logging.getLogger("dvc").setLevel(logging.CRITICAL)  # its warnings are for those who run stages
    try:
        with Repo() as repo:
            status = ask(repo)
            sys.stdout.flush()
            return status
    except KeyboardInterrupt:
        warn(f"{name}: interrupted{interrupted and f'; {interrupted}'}")
        return 128 + signal.SIGINT
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # where Python flushes to at its end
        return 128 + signal.SIGPIPE
    except (Unanswerable, DvcException, YAMLError, *errors) as error:
        causes = f"{error}: {error.__cause__}" if error.__cause__ else str(error)
        warn(f"{name}: {' '.join(causes.split())}")
        return unanswered


def end_on_sigterm() -> None:
    """Has SIGTERM end this program as Ctrl-C does: its runs end with it, and what was begun is removed."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def own_programs_first() -> dict[str, str]:
    """Returns the PATH for a program to start: it finds the `dvc` and `python` of this interpreter's environment."""
    return {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def check_folder(option: str, file: Path | None) -> None:
    """Makes sure that the folder of the file that an option names is there, before anything is computed.

    Raises:
        Unanswerable: it is not.
    """
    if file is not None and not file.parent.is_dir():
        raise Unanswerable(f"{option} {file}: no folder {file.parent}; make it first")


def no_intervals(withheld: Iterable[tuple[str, str | None]]) -> list[str]:
    """Says of what there is no interval, and why; one line a reason.

    Args:
        withheld: what has an interval or none, and the reason why not; None: it has one.
    """
    named: dict[str, list[str]] = {}
    for name, reason in withheld:
        if reason is not None:
            named.setdefault(reason, []).append(name)
    return [f"no interval for {', '.join(names)}: {reason}" for reason, names in named.items()]


def text_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Writes rows for a terminal, their columns aligned."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Writes rows, the header first, as a table of Markdown."""
    return [f"| {' | '.join(row)} |" for row in (rows[0], ["---"] * len(rows[0]), *rows[1:])]


def latex_table(rows: Sequence[Sequence[str]], texts: int = 2) -> list[str]:
    """Writes rows, the header first, as a table of LaTeX's package booktabs; the first `texts` columns hold words."""
    lines = [" & ".join(map(latex, row)) + r" \\" for row in rows]
    columns = "l" * texts + "r" * (len(rows[0]) - texts)
    return [
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        lines[0],
        r"\midrule",
        *lines[1:],
        r"\bottomrule",
        r"\end{tabular}",
    ]


def latex(cell: str) -> str:
    """Writes a cell so that LaTeX shows it; numbers and intervals in its mathematics, where a minus is one."""
    if re.fullmatch(r"[-+]?\d+(\.\d+)?|\[[-+.\d, ]+\]", cell):
        return f"${cell}$"
    special = {sign: f"\\{sign}" for sign in "&%$#_{}"} | {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
    }
    return "".join(special.get(sign, sign) for sign in cell).replace("±", r"$\pm$")
