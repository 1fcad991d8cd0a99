"""docs/checkpoints.md lists every type with which transformers classifies texts, and what becomes of it here."""

import json
import re
import subprocess
import sys
from typing import Any

import pytest
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from benchmarks.checkpoints import PAGE, RESULT, TOLERANCE, filled
from benchmarks.clone import ROOT

RECORDED = json.loads(RESULT.read_text(encoding="utf-8"))
ROWS: dict[str, dict[str, Any]] = {row["type"]: row for row in RECORDED["types"]}
# Initials of the types that are surveyed together, in a few minutes.
PIECES = ("abcd", "efg", "hijkl", "m", "nopq", "rstuvwxyz")


def test_the_page_is_what_was_found() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert filled(page, RECORDED) == page
    assert f"to {TOLERANCE:.0e}".replace("e-0", "e-") in page


def test_an_edited_verdict_is_noticed() -> None:
    page = PAGE.read_text(encoding="utf-8")
    edited = page.replace("| works |", "| refused |", 1)
    assert edited != page and filled(edited, RECORDED) == page


def test_every_type_of_the_installed_transformers_is_listed() -> None:
    assert RECORDED["versions"]["transformers"] == transformers.__version__
    assert list(ROWS) == sorted(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES)


def test_every_type_works_or_is_refused_in_a_line_before_it_is_trained() -> None:
    for row in ROWS.values():
        if row["verdict"] == "works":
            assert row["difference"] <= RECORDED["tolerance"]
        else:
            assert row["verdict"] == "refused" and row["stage"] in ("tokenize", "train")
            assert row["line"] and "\n" not in row["line"]


def test_every_type_is_in_one_piece() -> None:
    assert all(sum(name[0] in piece for piece in PIECES) == 1 for name in ROWS)


def verdict(row: dict[str, Any]) -> tuple[str, str | None, str]:
    """What must be the same on another machine: all but the size of differences."""
    return row["verdict"], row.get("stage"), re.sub(r"\d\.\de[-+]\d+", "n", row.get("line", ""))


@pytest.mark.exhaustive
@pytest.mark.parametrize("initials", PIECES)
def test_the_types_do_what_the_page_says(initials: str) -> None:
    names = [name for name in ROWS if name[0] in initials]
    # not in this process: what was computed here before has started threads, and a fork of them hangs
    command = [sys.executable, "-m", "benchmarks.checkpoints", *names]
    ran = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    rows = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [row["type"] for row in rows] == names
    assert {row["type"]: verdict(row) for row in rows} == {name: verdict(ROWS[name]) for name in names}
