"""Texts of the data in csv files: no spreadsheet takes one for a formula, and every one can be read back."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from checks import seeds
from stages.evaluate.plots import plot_rows, write_plot
from stages.report.inputs import _rows
from stages.shared.task.cells import as_cells, csv_line, text_of
from stages.shared.task.task import Task

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "=cmd|' /C calc'!A0", "\uff1d1", "\uff0b1", "-"]
TEXTS = ["yes", "", " =1+1", "1-1", "a=b", "'quoted'", "''", "it's", "x,=1", "a\rb", "a\r\nb", '"=1"', "é", "\ufeff"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_text_that_would_be_a_formula_gets_an_apostrophe(text: str) -> None:
    assert as_cells([text]) == [f"'{text}"]


@pytest.mark.parametrize("text", [*FORMULAS, *TEXTS])
def test_every_text_can_be_read_back(text: str) -> None:
    (row,) = csv.reader(io.StringIO(csv_line([text, "end"]), newline=""))
    assert [text_of(cell) for cell in row] == [text, "end"]


def test_numbers_and_common_names_stand_as_they_are() -> None:
    row = ["validation", "not_equivalent", -0.5, -3, 0.0, 7]
    assert as_cells(row) == row


def test_no_plot_has_a_cell_that_is_a_formula_and_its_readers_see_the_labels(tmp_path: Path) -> None:
    names = ["=1+1", "+b", "-c", "@d"]
    labels = np.arange(40) % 4
    logits = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    task = Task("files", "single_label_classification", names, ["accuracy"], "files", "0")
    rows = plot_rows(task, "validation", logits, labels, [])
    for name, expected in rows.items():
        write_plot(tmp_path / f"{name}.csv", name, expected)
        with (tmp_path / f"{name}.csv").open(newline="", encoding="utf-8") as stream:
            cells = [cell for row in csv.reader(stream) for cell in row]
        texts = [cell for cell in cells if not cell.replace(".", "", 1).isdigit()]
        assert not [cell for cell in texts if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
        assert [list(row.values()) for row in _rows(tmp_path / f"{name}.csv")] == [
            [str(value) for value in row] for row in expected
        ]
    labels_read = {row["label"] for row in _rows(tmp_path / "roc.csv")}
    assert labels_read == set(names)


def test_a_collapsed_seed_is_named_by_its_label(tmp_path: Path) -> None:
    class Stored(seeds.Revision):
        def text(self, path: str) -> str:
            write_plot(tmp_path / "confusion.csv", "confusion", [("=s", "=1+1", "=1+1", 3), ("=s", "=1+1", "no", 0)])
            return (tmp_path / "confusion.csv").read_text(encoding="utf-8")

        def json(self, path: str) -> dict[str, list[object]]:
            return {"intervals": []}

    assert seeds._only_answer(Stored("seed-1", "0", None), "=s") == "=1+1"
