"""The bundled sample: words and definitions that no baseline can match, in disjoint splits, as its README says."""

import re
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from benchmarks import make_sample
from benchmarks.sample import CORPORA, Rows, baselines, table

pytestmark = pytest.mark.release  # who has data of their own needs no sample

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "data" / "sample"
SAMPLE = CORPORA["sample"]
ROWS = {split: SAMPLE.read(split) for split in make_sample.GROUPS if FOLDER.exists()}
WORDNET = Path("/usr/share/wordnet")  # where Debian's package wordnet-base puts it


def groups(rows: Rows) -> list[Rows]:
    numbers = dict.fromkeys(row["group"] for row in rows)
    return [[row for row in rows if row["group"] == number] for number in numbers]


def test_the_splits_have_their_sizes_and_columns() -> None:
    assert {split: len(rows) for split, rows in ROWS.items()} == {"train": 2000, "validation": 400, "test": 400}
    for rows in ROWS.values():
        assert tuple(rows[0])[:6] == make_sample.COLUMNS
        assert [int(row["idx"]) for row in rows] == list(range(len(rows)))
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 400_000


@pytest.mark.parametrize("column", ["word", "definition", "group"])
def test_no_word_definition_or_group_stands_in_two_splits(column: str) -> None:
    found = [{row[column].lower() for row in rows} for rows in ROWS.values()]
    assert not any(one & other for one, other in combinations(found, 2))


@pytest.mark.parametrize("column", ["word", "definition"])
def test_every_word_and_every_definition_stands_once_with_each_label(column: str) -> None:
    for rows in ROWS.values():
        counts = Counter((row[column], row["label"]) for row in rows)
        assert set(counts.values()) == {1} and len(counts) == len(rows)


def test_a_group_is_two_words_that_exchange_their_definitions() -> None:
    for rows in ROWS.values():
        for group in groups(rows):
            fitting = {row["word"]: row["definition"] for row in group if row["label"] == "1"}
            (one, its), (other, the_others) = fitting.items()
            wrong = {(row["word"], row["definition"]) for row in group if row["label"] == "0"}
            assert wrong == {(one, the_others), (other, its)}
            assert len({row["kind"] for row in group}) == 1


def test_half_of_the_groups_are_of_each_kind() -> None:
    for rows in ROWS.values():
        assert Counter(row["kind"] for row in rows) == {kind: len(rows) // 2 for kind in ("same_kind", "other_kind")}


def test_definitions_have_5_to_30_words_and_do_not_name_the_word() -> None:
    for rows in ROWS.values():
        for row in rows:
            assert 5 <= len(row["definition"].split()) <= 30, row
            assert not make_sample.names(row["word"], row["definition"]), row
            assert re.fullmatch(r"\S+( \S+)*", row["definition"]) and not re.search(r"[()\";]", row["definition"]), row


@pytest.mark.parametrize(
    ("gloss", "definition"),
    [
        ('(physics) the rate of change; one over time; "it fell"', "the rate of change"),
        ('a sweet (especially one of sugar) to eat; "a bag of sweets"; "she likes it"', "a sweet to eat"),
        ("a bird (of the Old World), with a crest", "a bird, with a crest"),
    ],
)
def test_a_definition_is_taken_out_of_a_gloss(gloss: str, definition: str) -> None:
    assert make_sample.definition_of(gloss) == definition


@pytest.mark.parametrize(
    ("word", "definition", "named"),
    [
        ("running board", "a step on which to board a carriage", True),
        ("motherhood", "the state of being a mother", True),
        ("subsection", "a section of a section", True),
        ("owl", "a bird of the night", False),
        ("kennel", "a house for a dog", False),
    ],
)
def test_a_definition_that_names_its_word_is_found(word: str, definition: str, named: bool) -> None:
    assert make_sample.names(word, definition) == named


def test_the_notice_of_wordnet_is_there() -> None:
    notice = (FOLDER / "LICENSE").read_text(encoding="ascii")
    assert "WordNet 3.0 Copyright 2006 by Princeton University.  All rights reserved." in notice
    assert 'THIS SOFTWARE AND DATABASE IS PROVIDED "AS IS"' in notice


def test_the_baselines_are_as_stated_and_no_better_than_a_coin() -> None:
    stated, measured = SAMPLE.result()["baselines"], baselines(SAMPLE)
    for name, column in stated.items():
        assert measured[name] == pytest.approx(column, abs=0.011), name  # of another BLAS
        assert column["overall"] <= 0.57, name


def test_the_default_model_is_good_and_far_above_every_baseline() -> None:
    result = SAMPLE.result()
    mean = float(np.mean([run["overall"] for run in result["model"]]))
    assert len(result["model"]) >= 3 and mean > 0.85
    assert all(mean - column["overall"] > 0.2 for column in result["baselines"].values())


def test_the_readme_shows_the_measured_table() -> None:
    assert table(SAMPLE.result()) in (FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.mark.exhaustive
def test_the_script_rebuilds_the_sample_byte_for_byte(tmp_path: Path) -> None:
    assert WORDNET.is_dir(), "install WordNet 3.0 first: apt-get install wordnet-base"
    make_sample.main(WORDNET, tmp_path)
    for file in sorted(tmp_path.iterdir()):
        assert file.read_bytes() == (FOLDER / file.name).read_bytes(), file.name
    assert len(list(tmp_path.iterdir())) == 4
