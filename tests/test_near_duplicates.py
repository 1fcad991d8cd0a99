"""Sentences and near-duplicates that other splits share with train are found, counted and named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset

from benchmarks import near_duplicates as benchmark
from stages.download import near_duplicates as module
from stages.download.near_duplicates import near_duplicates, runs_of_words, similarity, sketch
from stages.shared.task.overlap import read_overlap
from tests.tables import read_facts, write_csv

LONG = "the old mill by the river was sold to a group of twelve farmers who want to grind their own grain again"
OTHER = "nobody in the village had believed that the council would ever agree to open the bridge to heavy lorries"


def texts(*rows: str) -> Dataset:
    return Dataset.from_dict({"text": list(rows)})


def found(train: Dataset, other: Dataset) -> list[int]:
    """Returns for each row of `other` the row of train that it nearly repeats."""
    return near_duplicates(train, other, (sketch(train), sketch(other)), np.zeros(len(other), bool)).tolist()


def written_out(one: str, other: str) -> float:
    """The same similarity by sets of Python."""
    sets = []
    for text in (one, other):
        words = text.lower().split()
        sets.append({tuple(words[i : i + 5]) for i in range(max(1, len(words) - 4))})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_one_word_changed_is_a_near_duplicate_and_another_text_is_none() -> None:
    changed = LONG.replace("twelve", "eleven")
    train = texts("something else", LONG, OTHER)
    assert found(train, texts(changed, "no text like it is in there", "")) == [1, -1, -1]


def test_case_and_punctuation_do_not_count() -> None:
    train = texts(LONG)
    other = texts(
        "The old mill, by the river, was SOLD to a group of twelve farmers; who want to grind their own grain again!"
    )
    assert found(train, other) == [0]


def test_the_similarity_is_that_of_the_sets_written_out() -> None:
    generator = np.random.default_rng(0)
    words = LONG.split()
    rows = []
    for _ in range(60):
        kept = [word for word in words if generator.random() > 0.1]
        rows.append(" ".join(kept * int(generator.integers(1, 3))))
    one, other = texts(*rows[:30]), texts(*rows[30:])
    shares = similarity(one, np.arange(30), other, np.arange(30))
    assert shares.tolist() == pytest.approx([written_out(a, b) for a, b in zip(rows[:30], rows[30:], strict=True)])


def test_pairs_of_any_similarity_are_found_as_often_as_promised() -> None:
    """1 - (1 - s ** 3) ** 21, by pairs whose similarity is known."""
    generator = np.random.default_rng(0)

    def pair(shared: int, own: int) -> tuple[str, str]:
        names = [str(number) for number in generator.integers(0, 10**9, shared + 2 * own)]
        both = " ".join(names[:shared])
        return f"{both} {' '.join(names[shared : shared + own])}", f"{both} {' '.join(names[shared + own :])}"

    made = [pair(40, own) for own in (5, 12, 17) for _ in range(150)]
    one, other = texts(*(a for a, _ in made)), texts(*(b for _, b in made))
    similar = similarity(one, np.arange(450), other, np.arange(450))
    equal = (sketch(one).bands == sketch(other).bands).any(axis=1)
    for part in range(3):
        rows = slice(150 * part, 150 * part + 150)
        share = float(similar[rows].mean())
        assert equal[rows].mean() == pytest.approx(1 - (1 - share**3) ** 21, abs=0.06)


def test_writing_without_spaces_is_compared_by_its_signs() -> None:
    train = texts("北京的天气今天很好我们去公园散步吧")
    other = texts("北京的天气今天很好我们去公园散步了", "上海的火车明天早上六点出发请准时到达")
    assert found(train, other) == [0, -1]


def test_a_text_without_words_is_like_no_other() -> None:
    hashed, counts, sentences = runs_of_words(pa.array(["", "!?", "one", "one two three four five six", "(ONE)"]))
    assert counts.tolist() == [0, 0, 1, 2, 1] and len(hashed) == 4
    assert sentences[:2].tolist() == [0, 0] and sentences[2] == sentences[4] != sentences[3]
    train = texts("", "...")
    assert found(train, texts("", "?")) == [-1, -1]


def test_texts_with_a_frame_in_common_do_not_make_it_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row is compared with MOST_CANDIDATES rows of a band, however many are like it there."""
    frame = "dear customer thank you for your order number {} which we have sent to you"
    train, other = (texts(*(frame.format(n) for n in range(start, start + 400))) for start in (0, 400))
    compared = []
    inner = module.similarity
    monkeypatch.setattr(module, "similarity", lambda a, r, b, s: compared.append(len(r)) or inner(a, r, b, s))
    monkeypatch.setattr(module, "SIMILAR", 2.0)  # none is ever similar enough
    found(train, other)
    assert 400 < sum(compared) <= 400 * module.BANDS * module.MOST_CANDIDATES and len(compared) <= 2 * module.BANDS


@pytest.mark.exhaustive
@pytest.mark.parametrize(("case", "least", "most"), [(0, 0, 0), (1, 28, 30), (2, 5, 30)])
def test_what_the_benchmark_measures_is_there_to_be_found(tmp_path: Path, case: int, least: int, most: int) -> None:
    run = benchmark.measure(tmp_path, benchmark.CASES[case], 300)
    assert least <= run["near_duplicates"] <= most and run["peak_mib"] > 0


def test_what_is_shared_with_train_is_counted_named_and_written_down(
    run_download: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = [(LONG, "a", 1), (OTHER, "b", 0), ("short", "c", 1)]
    validation = [
        ("nothing", "like it", 0),
        ("  The OLD mill" + LONG[12:], "something else", 1),
        ("b", "and what else there may be", 0),
        (OTHER.replace("heavy", "light"), "unseen", 0),
        ("C", "short", 1),
    ]
    write_csv(tmp_path / "data" / "train.csv", train)
    write_csv(tmp_path / "data" / "validation.csv", validation)
    run_download()
    facts = read_facts(tmp_path)
    assert facts["shared"] == [{"splits": ["train", "validation"], "examples": 1, "rows": [[3, 5]]}]
    assert facts["shared_sentences"] == [
        {"splits": ["train", "validation"], "examples": 3, "rows": [[1, 2], [2, 3], [3, 5]]}
    ]
    assert facts["near_duplicates"] == [{"splits": ["train", "validation"], "examples": 2, "rows": [[1, 2], [2, 4]]}]
    assert read_overlap(tmp_path / "overlap", "validation").tolist() == [0, 6, 2, 4, 3]
    warned = capsys.readouterr().err
    assert "3 of 5 validation examples share one of their two texts with train (validation row 2 = train" in warned
    assert "2 of 5 validation examples are near-duplicates of examples in train" in warned
    assert (
        "1 of 5 validation examples are also in train (validation row 5 = train row 3); they can change the accuracy "
        "by at most 0.2000" in warned
    )


def test_single_texts_have_no_sentences_of_their_own(run_download: Callable[..., Any], tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", [(LONG, "", 0), (OTHER, "", 1)])
    run_download(text_pair_column=None)
    facts = read_facts(tmp_path)
    assert facts["shared_sentences"] == facts["near_duplicates"] == []
    assert read_overlap(tmp_path / "overlap", "validation").tolist() == [1, 1]


def test_only_what_stands_in_train_as_it_is_can_be_refused(run_download: Callable[..., Any], tmp_path: Path) -> None:
    write_csv(tmp_path / "data" / "train.csv", [(LONG, "a", 1), (OTHER, "b", 0)])
    write_csv(tmp_path / "data" / "validation.csv", [(LONG, "other", 1), (OTHER[:-1] + "Z", "unseen", 0)])
    run_download(on_leakage="error")
