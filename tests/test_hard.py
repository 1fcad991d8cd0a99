"""The hard pairs: disjoint splits, no repetition, as hard as its README says."""

import re
from collections import Counter
from collections.abc import Callable
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from benchmarks import scale
from benchmarks.hard_pairs import PAIRS
from benchmarks.sample import CORPORA, baselines, overlap, table, words

ROOT = Path(__file__).parents[1]
HARD = CORPORA["hard"]
SIZES = {"train": 600, "validation": 200, "test": 200}
KINDS = {"roles_swapped", "number_changed", "negated", "cause_reversed", "fact_dropped", "fact_added"}


ROWS = {split: HARD.read(split) for split in SIZES}


def sentences(split: str) -> set[str]:
    return set(chain.from_iterable((row["sentence1"], row["sentence2"]) for row in ROWS[split]))


def test_the_splits_have_their_sizes_and_columns() -> None:
    assert {split: len(rows) for split, rows in ROWS.items()} == SIZES
    for rows in ROWS.values():
        assert list(rows[0])[:7] == ["idx", "sentence1", "sentence2", "label", "kind", "genre", "fact"]
        assert [int(row["idx"]) for row in rows] == list(range(len(rows)))


def test_no_sentence_and_no_fact_stands_in_two_splits() -> None:
    for one, two in combinations(SIZES, 2):
        assert not sentences(one) & sentences(two)
        assert not {row["fact"] for row in ROWS[one]} & {row["fact"] for row in ROWS[two]}


def test_no_pair_stands_twice() -> None:
    pairs = Counter(frozenset((row["sentence1"], row["sentence2"])) for rows in ROWS.values() for row in rows)
    assert max(pairs.values()) == 1 and min(map(len, pairs)) == 2


def test_every_fact_has_one_equivalent_pair_and_one_hard_negative() -> None:
    for rows in ROWS.values():
        facts: dict[str, list[tuple[str, bool]]] = {}
        for row in rows:
            facts.setdefault(row["fact"], []).append((row["label"], row["kind"] == "equivalent"))
        assert all(sorted(found) == [("0", False), ("1", True)] for found in facts.values())


def test_every_kind_of_negative_is_as_frequent_as_the_others_in_every_split() -> None:
    for rows in ROWS.values():
        counts = Counter(row["kind"] for row in rows if row["kind"] != "equivalent")
        assert set(counts) == KINDS
        assert max(counts.values()) - min(counts.values()) <= 3


def test_sentences_have_8_to_45_words_and_no_stray_white_space() -> None:
    for split in SIZES:
        for sentence in sentences(split):
            assert 8 <= len(sentence.split()) <= 45, sentence
            assert re.fullmatch(r"\S+( \S+)*", sentence), sentence


def test_no_two_facts_are_told_in_the_same_words() -> None:
    told = [words(row["sentence1"]) for rows in ROWS.values() for row in rows if row["label"] == "1"]
    assert max(len(one & two) / len(one | two) for one, two in combinations(told, 2)) < 0.5


@pytest.mark.parametrize("split", SIZES)
def test_negatives_overlap_in_words_as_much_as_equivalents(split: str) -> None:
    found = overlap(ROWS[split])
    equal = [share for share, row in zip(found, ROWS[split], strict=True) if row["label"] == "1"]
    other = [share for share, row in zip(found, ROWS[split], strict=True) if row["label"] == "0"]
    assert abs(sum(equal) / len(equal) - sum(other) / len(other)) < 0.04


def test_the_baselines_are_as_stated() -> None:
    stated = HARD.result()["baselines"]
    measured = baselines(HARD)
    assert {name: list(column) for name, column in stated.items()} == {n: list(c) for n, c in measured.items()}
    for name, column in stated.items():
        assert measured[name] == pytest.approx(column, abs=0.011), name  # two test pairs of 200, for another BLAS


def test_word_overlap_and_bag_of_words_fail() -> None:
    """200 pairs, fair coin: 95 % of all scores lie within 0.43 and 0.57."""
    assert all(column["overall"] <= 0.57 for column in baselines(HARD).values())


def test_a_corpus_in_glues_columns_is_read_as_the_benchmarks_say(
    run_download: Callable[..., Any], tmp_path: Path
) -> None:
    """The committed params.yaml is of the bundled sample, whose columns are others."""
    table = pa.table({"sentence1": ["a", "b"], "sentence2": ["c", "d"], "label": [0, 1], "idx": [7, 9]})
    for split in ("train", "validation"):
        pyarrow.parquet.write_table(table, tmp_path / "data" / f"{split}.parquet")
    train = run_download(**PAIRS)["train"]
    assert train.to_dict() == {"text": ["a", "b"], "text_pair": ["c", "d"], "label": [0, 1], "idx": [7, 9]}


@pytest.mark.exhaustive
def test_the_benchmark_of_scale_runs_every_stage(tmp_path: Path) -> None:
    runs = scale.measure(tmp_path, 50)
    assert [run["stage"] for run in runs] == list(scale.MEASURED)


def test_the_readme_shows_the_measured_table() -> None:
    assert table(HARD.result()) in (ROOT / "data" / "hard" / "README.md").read_text(encoding="utf-8")
