"""What stages and checks print: nothing of the data moves the cursor, turns a line or passes for another one."""

import ast
import csv
from pathlib import Path
from typing import Any

import pytest

from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.terminal import say, visible, warn
from tests.tables import MULTI

ROOT = Path(__file__).parents[1]
EVIL = {
    "an escape": ("\x1b[2J", "\\x1b[2J"),
    "a line feed": ("a\nb", "a\\nb"),
    "a return": ("a\rb", "a\\rb"),
    "a bell of eight bits": ("\x9b31m", "\\x9b31m"),
    "a turned line": ("\u202eabc\u202c", "\\u202eabc\\u202c"),
    "an isolated part": ("\u2066abc\u2069", "\\u2066abc\\u2069"),
    "a mark of a direction": ("\u200f\u061c", "\\u200f\\u061c"),
    "a line of Unicode": ("a\u2028b\u2029c", "a\\u2028b\\u2029c"),
    "half a character": ("\ud800", "\\ud800"),
    "no byte order": ("\ufeffa", "\\ufeffa"),
    "a tag": ("\U000e0041", "\\U000e0041"),
    "plain": ("Größe, 北京, 🙂, א, क्‍ष", "Größe, 北京, 🙂, א, क्‍ष"),
}


@pytest.mark.parametrize("name", EVIL)
def test_what_a_terminal_would_obey_is_written_out(name: str, capsys: Any) -> None:
    text, shown = EVIL[name]
    assert visible(text) == shown
    warn(text)
    assert capsys.readouterr().err == f"{shown}\n"


def test_the_lines_of_an_answer_stay_lines(capsys: Any) -> None:
    say("one\ntwo\x1b")
    assert capsys.readouterr().out == "one\ntwo\\x1b\n"


@pytest.mark.parametrize("folder", ["stages", "checks"])
def test_nothing_prints_but_by_these_functions(folder: str) -> None:
    printing = {
        str(file.relative_to(ROOT))
        for file in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Name) and node.id == "print")
        or (isinstance(node, ast.Attribute) and node.attr == "write" and "std" in ast.unparse(node.value))
    }
    assert printing == ({"stages/shared/runtime/terminal.py"} if folder == "stages" else set())


def table(file: Path, rows: list[tuple[str, ...]], header: tuple[str, ...] = ("a", "b", "y")) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])


def test_names_of_labels_are_visible_in_the_table_of_download(tmp_path: Path, run_download: Any, capsys: Any) -> None:
    names = ["\x1b[31mred\u202e", "two\nlines"]
    rows = [(f"text {row}", f"pair {row}", names[row % 2]) for row in range(8)]
    for split in ("train", "validation"):
        table(tmp_path / "data" / f"{split}.csv", [(f"{split} {a}", b, y) for a, b, y in rows])
    run_download(label_names=None)
    out = capsys.readouterr().out
    assert "\\x1b[31mred\\u202e 4, two\\nlines 4" in out and len(out.splitlines()) == 3
    assert "\x1b" not in out and "\u202e" not in out


@pytest.mark.parametrize("problem", [{}, MULTI], ids=["one label", "many labels"])
def test_a_refusal_names_columns_and_rows_visibly(problem: dict[str, Any], tmp_path: Path, run_download: Any) -> None:
    table(tmp_path / "data" / "train.csv", [("x", "y", "z")], header=("\x1b[2J", "b\u202e", "c\nd"))
    with pytest.raises(BadInput) as raised:
        run_download(**problem)
    assert visible(str(raised.value)).isprintable()
