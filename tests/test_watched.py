"""What download reads, DVC hashes: links to files are followed by both, and what DVC does not see is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.download.checkpoint import fetch_checkpoint
from stages.shared.runtime.dvc_hash import dvc_hash
from stages.shared.runtime.errors import BadInput
from tests.tables import ROWS, write_csv

Run = Callable[..., Any]


def test_links_to_files_and_to_the_whole_folder_are_read_and_hashed(run_download: Run, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    for split in ("train", "validation"):
        write_csv(elsewhere / f"{split}.csv", ROWS)
        (tmp_path / "data" / f"{split}.csv").symlink_to(elsewhere / f"{split}.csv")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    before = dvc_hash(tmp_path / "link")
    assert run_download(dataset_files=str(tmp_path / "link"))["train"].num_rows == len(ROWS)
    write_csv(elsewhere / "train.csv", ROWS[1:])
    assert dvc_hash(tmp_path / "link") != before


def test_files_behind_a_link_are_refused_where_a_pattern_finds_them(run_download: Run, tmp_path: Path) -> None:
    write_csv(tmp_path / "data" / "validation.csv", ROWS)
    (tmp_path / "elsewhere").mkdir()
    write_csv(tmp_path / "elsewhere" / "part.csv", ROWS)
    (tmp_path / "data" / "more").symlink_to(tmp_path / "elsewhere")
    patterns = {"train": "more/*.csv", "validation": "validation.csv"}
    with pytest.raises(BadInput, match=r"more/part.csv: DVC does not look behind .*more, a link to a folder"):
        run_download(split_files=patterns)


def test_one_file_is_hashed_whatever_dvcignore_says(
    run_download: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvcignore").write_text("*.csv\n")
    write_csv(tmp_path / "data" / "mine.csv", ROWS)
    one = {"dataset_files": str(tmp_path / "data" / "mine.csv"), "validation_fraction": 0.25}
    before = dvc_hash(Path(one["dataset_files"]))
    assert run_download(**one)["train"].num_rows == 9
    write_csv(tmp_path / "data" / "mine.csv", ROWS[1:])
    assert dvc_hash(Path(one["dataset_files"])) != before


@pytest.mark.parametrize("pattern", ["*.safetensors", "checkpoint/", "tokenizer*"])
def test_a_checkpoint_that_dvcignore_matches_is_refused(
    pattern: str, tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")
    (tmp_path / ".dvcignore").write_text(f"{pattern}\n")
    with pytest.raises(BadInput, match=r"DVC does not look at it, because a line of .dvcignore matches it, so an edit"):
        fetch_checkpoint("files", Path("checkpoint"), None, tmp_path / "fetched", 1.0)


def test_a_checkpoint_of_links_to_files_is_taken(tmp_path: Path, tiny_checkpoint: Path) -> None:
    """As the Hub's own cache keeps them."""
    (tmp_path / "checkpoint").mkdir()
    for file in tiny_checkpoint.iterdir():
        (tmp_path / "checkpoint" / file.name).symlink_to(file)
    fetch_checkpoint("files", tmp_path / "checkpoint", None, tmp_path / "fetched", 1.0)
    assert (tmp_path / "fetched" / "model.safetensors").read_bytes() == (
        tiny_checkpoint / "model.safetensors"
    ).read_bytes()
