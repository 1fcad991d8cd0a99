"""download.group_column: what belongs together is named, stays on one side, and is counted where it does not."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stages.download.strata import draw, shares
from stages.shared.runtime.errors import BadInput
from stages.shared.task.groups import row_groups
from tests.repositories import PINNED_DATASET, Config, Downloader, dataset, hub_of
from tests.tables import read_facts, write_csv

HEADER = ("a", "b", "y", "author")
ROWS = [(f"text {n}", f"pair {n}", n % 2, f"author {n // 4}") for n in range(80)]


def write_both(folder: Path, train: list[Any], validation: list[Any] | None = None) -> None:
    write_csv(folder / "train.csv", train, HEADER)
    write_csv(folder / "validation.csv", validation or [("x", "y", 0, "nobody"), ("z", "y", 1, "no one")], HEADER)


def write_other(file: Path, values: list[Any]) -> None:
    """Writes rows whose groups are these, as jsonl or parquet."""
    rows = [{"a": f"text {n}", "b": "pair", "y": n % 2, "author": value} for n, value in enumerate(values)]
    if file.suffix == ".jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return
    pa.parquet.write_table(pa.Table.from_pylist(rows), file)


def test_the_group_of_each_row_is_kept_and_numbered(run_download: Callable[..., Any], tmp_path: Path) -> None:
    write_both(tmp_path / "data", ROWS)
    splits = run_download(group_column="author")
    assert splits["train"]["group"][:5] == ["author 0"] * 4 + ["author 1"]
    codes = row_groups(tmp_path / "raw" / "train", 6)
    assert codes is not None and codes.tolist() == [0, 0, 0, 0, 1, 1]
    assert [counts["groups"] for counts in read_facts(tmp_path)["splits"]] == [20, 2]


def test_without_a_group_column_nothing_is_kept(run_download: Callable[..., Any], tmp_path: Path) -> None:
    write_both(tmp_path / "data", ROWS)
    assert run_download()["train"].column_names == ["text", "text_pair", "label", "idx"]
    assert row_groups(tmp_path / "raw" / "train", 6) is None
    facts = read_facts(tmp_path)
    assert "shared_groups" not in facts and "groups" not in facts["splits"][0]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([7, 8, 7, 8], ["7", "8", "7", "8"]),
        (["7", " b ", "7", "b"], ["7", "b", "7", "b"]),
        ([7.0, 8.0, 7.0, 9.0], ["7", "8", "7", "9"]),
        (["Ö", "北京", "Ö", "x"], ["Ö", "北京", "Ö", "x"]),
    ],
)
def test_a_group_is_called_the_same_in_every_format(
    run_download: Callable[..., Any], tmp_path: Path, values: list[Any], names: list[str], suffix: str
) -> None:
    write_other(tmp_path / "data" / f"train{suffix}", values)
    write_csv(tmp_path / "data" / "validation.csv", [("x", "y", 0, 7), ("z", "y", 1, "b")], HEADER)
    splits = run_download(group_column="author")
    assert (splits["train"]["group"], splits["validation"]["group"]) == (names, ["7", "b"])


def test_in_jsonl_a_number_and_its_digits_are_one_group(run_download: Callable[..., Any], tmp_path: Path) -> None:
    write_other(tmp_path / "data" / "train.jsonl", [7, "7", "b", 8])
    write_other(tmp_path / "data" / "validation.jsonl", ["b", 8])
    assert run_download(group_column="author")["train"]["group"] == ["7", "7", "b", "8"]


def test_a_text_may_be_the_group(run_download: Callable[..., Any], tmp_path: Path) -> None:
    """Answers to one question are alike."""
    rows = [(f"question {n // 4}", f"answer {n}", n % 2, "x") for n in range(40)]
    write_csv(tmp_path / "data" / "train.csv", rows, HEADER)
    splits = run_download(group_column="a", validation_fraction=0.2)
    assert not set(splits["train"]["text"]) & set(splits["validation"]["text"])
    assert len(splits["validation"]) == 8


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["x", None, "y"], r"train.jsonl: row 2: no group in column 'author'"),
        (["x", "y", "  "], r"train.jsonl: row 3: no group in column 'author'"),
        ([None, None, None], r"train.jsonl: rows 1, 2 and 3: no group in column 'author'"),
        ([True, False, True], r"expected texts or whole numbers, found bool"),
        ([0.5, 1.0, 2.0], r"expected texts or whole numbers, found double"),
        ([["x"], ["y"], ["z"]], r"expected texts or whole numbers, found list"),
        (["x", 0.5, "y"], r"train.jsonl: row 2: column 'author': 0.5 beside \"x\": values of several kinds"),
        ([1e300, 1.0, 2.0], r"numbers beyond 64 bits"),
    ],
)
def test_what_is_no_group_is_refused(
    run_download: Callable[..., Any], tmp_path: Path, values: list[Any], message: str
) -> None:
    write_other(tmp_path / "data" / "train.jsonl", values)
    write_other(tmp_path / "data" / "validation.jsonl", ["x", "y"])
    with pytest.raises(BadInput, match=message):
        run_download(group_column="author")


@pytest.mark.parametrize(
    ("rows", "column", "message"),
    [
        (ROWS, "writer", r"train.csv: no column 'writer' \(download.group_column\), only a, b, y, author"),
        (ROWS, "y", r"download.group_column: 'y' is download.label_column"),
        ([(a, b, y, "nobody") for a, b, y, _ in ROWS], "author", r"all rows are in one group, 'nobody' in column"),
        ([(a, b, y, "") for a, b, y, _ in ROWS], "author", r"train.csv: rows 1, 2, .* no group in column 'author'"),
    ],
)
def test_a_column_that_makes_no_groups_is_refused(
    run_download: Callable[..., Any], tmp_path: Path, rows: list[Any], column: str, message: str
) -> None:
    write_both(tmp_path / "data", rows, [("x", "y", 0, "nobody"), ("z", "y", 1, "nobody")])
    with pytest.raises(BadInput, match=message):
        run_download(group_column=column)


def test_every_split_must_have_the_column(run_download: Callable[..., Any], tmp_path: Path) -> None:
    write_both(tmp_path / "data", ROWS)
    write_csv(tmp_path / "data" / "test.csv", [("t", "u", 1)])
    with pytest.raises(BadInput, match=r"test.csv: no column 'author' \(download.group_column\)"):
        run_download(group_column="author")


def test_a_hub_dataset_may_have_groups_and_glue_brings_none(download: Downloader) -> None:
    rows = {split: [(f"{split} {n}", f"pair {n}", n % 2) for n in range(4)] for split in ("train", "validation")}
    with hub_of(dataset(default=Config(rows))) as hub:
        done = download(hub, **PINNED_DATASET, group_column="sentence2")
        assert done.returncode == 0, done.stderr
        codes = row_groups(download.folder / "data" / "raw" / "train", 4)
        assert codes is not None and codes.tolist() == [0, 1, 2, 3]
        assert "4 of 4 validation examples are in 4 groups that are also in train" in done.stderr
        done = download(hub, dataset="glue/mrpc", group_column="sentence2")
    assert done.returncode == 0, done.stderr
    assert row_groups(download.folder / "data" / "raw" / "train", 4) is None


def test_groups_that_stand_in_two_splits_are_counted_and_can_be_refused(
    run_download: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_both(tmp_path / "data", ROWS, [("x", "y", 0, "author 3"), ("z", "y", 1, "new"), ("v", "y", 1, "author 3")])
    run_download(group_column="author")
    assert read_facts(tmp_path)["shared_groups"] == [
        {"splits": ["train", "validation"], "examples": 2, "rows": [[13, 1], [13, 3]], "groups": 1}
    ]
    assert (
        "warning: 2 of 3 validation examples are in 1 groups that are also in train (validation row 1 = train row 13, "
        "validation row 3 = train row 13); they can change the accuracy by at most 0.6667"
    ) in capsys.readouterr().err
    with pytest.raises(BadInput, match=r"are in 1 groups that are also in train; remove them"):
        run_download(group_column="author", on_leakage="error")


# Carving


def test_carving_keeps_groups_whole_and_shares_close(run_download: Callable[..., Any], tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    sizes = generator.integers(1, 9, 200)
    leaning = generator.random(200)
    rows = [
        (f"t {group} {n}", "p", int(generator.random() < leaning[group]), f"g{group}")
        for group, size in enumerate(sizes)
        for n in range(size)
    ]
    write_csv(tmp_path / "data" / "train.csv", rows, HEADER)
    ones = sum(y for *_, y, _ in rows)
    for seed in range(3):
        changes = {"validation_fraction": 0.2, "test_fraction": 0.1, "split_seed": seed, "on_leakage": "error"}
        splits = run_download(group_column="author", **changes)
        for split, share in (("validation", 0.2), ("test", 0.1)):
            assert len(splits[split]) == pytest.approx(share * len(rows), abs=8)
            assert sum(splits[split]["label"]) == pytest.approx(share * ones, abs=4)
        assert read_facts(tmp_path)["shared_groups"] == []


def test_the_same_text_in_two_groups_ties_both(run_download: Callable[..., Any], tmp_path: Path) -> None:
    rows = [("one text" if n % 8 == 3 else a, "b", y, f"author {n // 8}") for n, (a, _, y, _) in enumerate(ROWS)]
    write_csv(tmp_path / "data" / "train.csv", rows, HEADER)
    with pytest.raises(BadInput, match=r"of 80 rows, of which up to 80 stay together, leaves a split empty"):
        run_download(group_column="author", validation_fraction=0.3)


def test_groups_that_are_too_large_are_named(run_download: Callable[..., Any], tmp_path: Path) -> None:
    rows = [(a, b, y, f"half {n % 2}") for n, (a, b, y, _) in enumerate(ROWS)]
    write_csv(tmp_path / "data" / "train.csv", rows, HEADER)
    message = r"validation_fraction 0.1 of 80 rows, of which up to 40 stay together, leaves a split empty"
    with pytest.raises(BadInput, match=message):
        run_download(group_column="author", validation_fraction=0.1)


def test_small_classes_share_what_is_carved(run_download: Callable[..., Any], tmp_path: Path) -> None:
    """500 classes of 4 rows: a tenth of each is 0.4 rows, and a tenth of all is 200."""
    rows = [(f"text {n}", "pair", f"class {n % 500}") for n in range(2000)]
    write_csv(tmp_path / "data" / "train.csv", rows)
    splits = run_download(label_names=None, validation_fraction=0.1, test_fraction=0.05)
    assert {name: len(split) for name, split in splits.items()} == {"train": 1700, "validation": 200, "test": 100}
    for split in ("validation", "test"):
        assert len(set(splits[split]["label"])) == len(splits[split])
    assert len(set(splits["train"]["label"])) == 500
    again = run_download(label_names=None, validation_fraction=0.1, test_fraction=0.05)
    assert again["validation"]["idx"] == splits["validation"]["idx"]


@pytest.mark.parametrize("seed", range(20))
def test_every_stratum_gets_its_share_to_a_row(seed: int) -> None:
    generator = np.random.default_rng(seed)
    sizes = generator.integers(1, 40, generator.integers(1, 30))
    fractions = [0.3, 0.15][: 1 + seed % 2]
    found = shares(sizes, fractions, generator)
    for share, fraction in zip(found, fractions, strict=True):
        assert (share <= np.ceil(fraction * sizes - 1e-9)).all()
        assert share.sum() <= round(fraction * sizes.sum())
    assert (found.sum(axis=0) < sizes).all()
    roomy = (sizes > 8).all()
    if roomy:
        assert all(share.sum() == round(f * sizes.sum()) for share, f in zip(found, fractions, strict=True))
        assert (np.abs(found - np.outer(fractions, sizes)) < 1).all()


@pytest.mark.parametrize("seed", range(10))
def test_what_is_drawn_by_single_rows_is_what_was_wanted(seed: int) -> None:
    generator = np.random.default_rng(seed)
    groups = generator.integers(0, 7, 300)
    parts = draw(np.arange(300), groups, [0.2, 0.1], np.random.default_rng(seed))
    wanted = shares(np.bincount(groups), [0.2, 0.1], np.random.default_rng(seed))
    assert [np.bincount(groups[parts == part], minlength=7).tolist() for part in (1, 2)] == wanted.tolist()
    assert math.isclose(wanted[0].sum(), 60)
