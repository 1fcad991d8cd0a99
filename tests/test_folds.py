"""download.fold and download.train_fraction: equal parts and nested shares of train, stratified, with whole groups."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.download.download import DownloadFiles, DownloadParams, download
from stages.download.folds import deal_to_folds, keep_share
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.params import fill_section
from tests.tables import MULTI, PAIRS, params, write_csv, write_jsonl
from tests.tiny import EXECUTION

GROUPED = ("a", "b", "y", "author")


def generator() -> np.random.Generator:
    return np.random.default_rng(3)


@pytest.mark.parametrize("seed", range(20))
def test_folds_of_single_rows_differ_by_one_row_in_every_stratum_and_in_all(seed: int) -> None:
    draws = np.random.default_rng(seed)
    strata = draws.integers(0, draws.integers(1, 12), draws.integers(12, 300))
    folds = int(draws.integers(2, 11))
    of = deal_to_folds(draws.permutation(len(strata)), strata, folds, draws)
    assert np.ptp(np.bincount(of, minlength=folds)) <= 1
    # the units were numbered by chance, so the fold of a row is that of its number
    rows = deal_to_folds(np.arange(len(strata)), strata, folds, generator())
    for stratum in np.unique(strata):
        assert np.ptp(np.bincount(rows[strata == stratum], minlength=folds)) <= 1


def test_what_belongs_together_is_in_one_fold_and_the_folds_are_about_equal() -> None:
    draws = np.random.default_rng(0)
    sizes = draws.integers(1, 9, 200)
    units = np.repeat(np.arange(200), sizes)
    strata = (draws.random(len(units)) < np.repeat(draws.random(200), sizes)).astype(int)
    of = deal_to_folds(units, strata, 5, generator())[units]
    counts = np.array([[np.sum((of == fold) & (strata == one)) for one in (0, 1)] for fold in range(5)])
    assert np.ptp(counts.sum(axis=1)) <= 8 and np.ptp(counts, axis=0).max() <= 8
    assert (counts > 0).all()


def test_too_few_rows_or_groups_for_so_many_folds_are_refused() -> None:
    with pytest.raises(BadInput, match=r"download.fold.of: 4 folds of 3 rows; use fewer folds"):
        deal_to_folds(np.arange(3), np.zeros(3, dtype=int), 4, generator())
    kept = r"3 folds of 5 rows, of which those of one text or group stay together: 2 sets; use fewer folds"
    with pytest.raises(BadInput, match=kept):
        deal_to_folds(np.array([0, 0, 0, 1, 1]), np.zeros(5, dtype=int), 3, generator())


@pytest.mark.parametrize("seed", range(10))
def test_shares_of_train_are_nested_stratified_and_exact(seed: int) -> None:
    draws = np.random.default_rng(seed)
    strata = draws.integers(0, 5, 400)
    before = np.zeros(400, dtype=bool)
    for share in (0.05, 0.1, 0.3, 0.77, 1.0):
        kept = keep_share(np.arange(400), strata, share, np.random.default_rng(seed))
        assert kept.sum() == round(share * 400) and not (before & ~kept).any()
        for stratum in range(5):
            size = np.sum(strata == stratum)
            assert abs(np.sum(kept & (strata == stratum)) - share * size) <= 1.5
        before = kept
    assert before.all()


def test_a_share_keeps_whole_groups_and_a_row_of_every_class() -> None:
    units = np.repeat(np.arange(50), 4)
    strata = np.zeros(200, dtype=int)
    strata[-4:] = 1  # one group is all of a rare class
    for share in (0.01, 0.1, 0.5):
        kept = keep_share(units, strata, share, generator())
        assert set(np.bincount(units, weights=kept)) <= {0.0, 4.0}
        assert kept[-4:].all() and kept[:-4].any()
        assert abs(kept.sum() - share * 200) <= 8


def write_train(folder: Path, rows: int = 40) -> None:
    write_csv(folder / "train.csv", [(f"text {n}", f"pair {n}", int(n % 4 == 0)) for n in range(rows)])


def test_each_row_of_train_is_held_out_once_and_the_test_split_stays(
    run_download: Callable[..., Any], tmp_path: Path
) -> None:
    write_train(tmp_path / "data")
    carving = {"validation_fraction": 0.2, "test_fraction": 0.2, "split_seed": 1}
    whole = run_download(**carving)
    held_out: list[int] = []
    for number in range(1, 5):
        splits = run_download(**carving, fold={"of": 4, "hold_out": number})
        assert list(splits) == ["train", "validation", "test"]
        assert splits["test"]["idx"] == whole["test"]["idx"]
        assert (len(splits["train"]), len(splits["validation"])) == (24, 8)
        assert sum(splits["validation"]["label"]) == 2
        assert splits["validation"]["idx"] == sorted(splits["validation"]["idx"])
        assert not set(splits["train"]["idx"]) & set(splits["validation"]["idx"])
        held_out += list(splits["validation"]["idx"])
    # what validation_fraction would carve off is folded too
    assert sorted(held_out) == sorted([*whole["train"]["idx"], *whole["validation"]["idx"]])


def test_a_fold_takes_the_place_of_the_datas_own_validation(run_download: Callable[..., Any], tmp_path: Path) -> None:
    write_train(tmp_path / "data")
    for split in ("validation_matched", "validation_mismatched", "test"):
        write_csv(tmp_path / "data" / f"{split}.csv", PAIRS)
    splits = run_download(fold={"of": 2, "hold_out": 2})
    assert {name: len(split) for name, split in splits.items()} == {"train": 20, "validation": 20, "test": 4}
    assert {name for name in splits["validation"]["text"] if not name.startswith("text ")} == set()


def test_folds_keep_groups_whole_and_rare_labels_spread(run_download: Callable[..., Any], tmp_path: Path) -> None:
    rows = [(f"text {n}", "pair", n % 2, f"author {n // 4}") for n in range(60)]
    write_csv(tmp_path / "data" / "train.csv", rows, GROUPED)
    groups = [
        set(run_download(group_column="author", fold={"of": 3, "hold_out": n})["validation"]["group"])
        for n in (1, 2, 3)
    ]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 15
    (tmp_path / "data" / "train.csv").unlink()
    sets = [("rare", f"r{n}") for n in range(6)] + [("common", f"c{n}") for n in range(60)]
    write_jsonl(tmp_path / "data" / "train.jsonl", [(text, "", [name]) for name, text in sets])
    for number in (1, 2, 3):
        splits = run_download(**MULTI, fold={"of": 3, "hold_out": number})
        assert np.sum(splits["validation"]["label"], axis=0).tolist() == [20.0, 2.0]


def test_a_share_of_train_leaves_validation_as_it_is(run_download: Callable[..., Any], tmp_path: Path) -> None:
    write_train(tmp_path / "data")
    whole = run_download(validation_fraction=0.25)
    before: set[int] = set()
    for share in (0.1, 0.5, 1.0):
        splits = run_download(validation_fraction=0.25, train_fraction=share)
        assert splits["validation"]["idx"] == whole["validation"]["idx"]
        assert len(splits["train"]) == round(share * 30)
        assert before <= set(splits["train"]["idx"]) <= set(whole["train"]["idx"])
        assert len(set(splits["train"]["label"])) == 2
        before = set(splits["train"]["idx"])
    assert splits["train"]["idx"] == whole["train"]["idx"]


@pytest.mark.parametrize(
    ("fold", "line"),
    [
        ({"of": 5, "hold_out": 6}, "download.fold.hold_out: must be at most download.fold.of (5), got 6"),
        ({"of": 1, "hold_out": 1}, "download.fold.of: must be at least 2, got 1"),
        ({"of": 5, "hold_out": 0}, "download.fold.hold_out: must be at least 1, got 0"),
        ({"of": 5}, "download.fold.hold_out: missing; add it"),
        ({"of": 5, "hold_out": 1, "seed": 3}, "download.fold.seed: unknown key; remove it"),
        ({"of": "5", "hold_out": 1}, "download.fold.of: must be a whole number, got '5'"),
        (5, "download.fold: must be a mapping, got 5"),
    ],
)
def test_a_fold_that_is_none_is_refused_in_a_line(tmp_path: Path, tiny_checkpoint: Path, fold: Any, line: str) -> None:
    values = asdict(params(tiny_checkpoint, tmp_path / "data")) | {"fold": fold}
    with pytest.raises(BadInput) as refused:
        files = DownloadFiles(
            *(tmp_path / name for name in ("raw", "pretrained", "overlap", "data.json", "params.yaml"))
        )
        download(fill_section(DownloadParams, values, "params.yaml: download"), EXECUTION, files)
    assert str(refused.value) == f"params.yaml: {line}"


@pytest.mark.parametrize("share", [0, -0.5, 1.5])
def test_a_share_that_is_none_is_refused(tmp_path: Path, tiny_checkpoint: Path, share: float) -> None:
    values = asdict(params(tiny_checkpoint, tmp_path)) | {"train_fraction": float(share)}
    with pytest.raises(BadInput, match=r"params.yaml: download.train_fraction: must be"):
        fill_section(DownloadParams, values, "params.yaml: download")
