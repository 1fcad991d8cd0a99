"""tokenize: both texts in one call, truncated, unpadded."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import AutoTokenizer

from stages.shared.errors import BadInput
from stages.shared.splits import load_splits, save_splits
from stages.tokenize import TokenizeParams, tokenize

TEXTS = ["a big dog ran home in the rain", "no", "one two three four five six seven eight nine ten"]
PAIRS = ["the dog was running home", "yes it is so", "ten"]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    rows = Dataset.from_dict({"text": TEXTS, "text_pair": PAIRS, "label": [0, 1, 0], "idx": [5, 6, 7]})
    save_splits({"train": rows, "validation": rows.select([2])}, tmp_path / "raw")
    return tmp_path / "raw"


def run(raw: Path, checkpoint: Path, workers: int = 1, **params: Any) -> dict[str, Dataset]:
    p = TokenizeParams(**({"max_length": 32, "max_samples": None} | params))
    tokenize(p, workers, raw, checkpoint, raw.parent / "tokenized", raw.parent / "truncation.json")
    return load_splits(raw.parent / "tokenized")


def test_both_texts_are_encoded_in_one_call_without_padding(raw: Path, tiny_checkpoint: Path) -> None:
    train = run(raw, tiny_checkpoint)["train"]
    assert train.column_names == ["input_ids", "token_type_ids", "label", "idx", "length"]
    tokenizer = AutoTokenizer.from_pretrained(tiny_checkpoint)
    for row, text, pair in zip(train, TEXTS, PAIRS, strict=True):
        expected = tokenizer(text, pair)
        assert row["input_ids"] == expected["input_ids"]
        assert row["token_type_ids"] == expected["token_type_ids"]
        assert row["length"] == len(expected["input_ids"])
    assert (train["label"], train["idx"]) == ([0, 1, 0], [5, 6, 7])


def test_the_longer_text_is_cut_first(raw: Path, tiny_checkpoint: Path) -> None:
    train = run(raw, tiny_checkpoint, max_length=8)["train"]
    expected = AutoTokenizer.from_pretrained(tiny_checkpoint)(TEXTS, PAIRS, truncation="longest_first", max_length=8)
    assert train["input_ids"] == expected["input_ids"]
    facts = json.loads((raw.parent / "truncation.json").read_text())["splits"][0]
    untruncated = AutoTokenizer.from_pretrained(tiny_checkpoint)(TEXTS, PAIRS)["input_ids"]
    assert facts["truncated"] == sum(len(ids) > 8 for ids in untruncated) > 0
    assert facts["tokens"]["longest"] == 8


def test_the_share_that_is_cut_is_kept_and_said(
    raw: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(raw, tiny_checkpoint, max_length=10)
    facts = json.loads((raw.parent / "truncation.json").read_text())["splits"]
    assert [(split["truncated"], split["share"]) for split in facts] == [(2, 0.666667), (1, 1.0)]
    said = [line for line in capsys.readouterr().err.splitlines() if line.endswith("were cut")]
    assert said == [
        "tokenize: 2 of 3 train examples (66.7%) are longer than tokenize.max_length 10 and were cut",
        "tokenize: 1 of 1 validation examples (100.0%) are longer than tokenize.max_length 10 and were cut",
    ]


@pytest.mark.parametrize(("types", "kept"), [(2, True), (1, False), (0, False)])
def test_token_types_are_kept_where_the_model_tells_them_apart(
    types: int, kept: bool, raw: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path / "typed")
    config = json.loads((tmp_path / "typed" / "config.json").read_text())
    (tmp_path / "typed" / "config.json").write_text(json.dumps(config | {"type_vocab_size": types}))
    assert ("token_type_ids" in run(raw, tmp_path / "typed")["train"].column_names) == kept


def test_max_samples_takes_the_first_of_each_split(raw: Path, tiny_checkpoint: Path) -> None:
    splits = run(raw, tiny_checkpoint, max_samples=2)
    assert {name: split["idx"] for name, split in splits.items()} == {"train": [5, 6], "validation": [7]}


def test_single_texts_are_encoded_alone(tmp_path: Path, tiny_checkpoint: Path) -> None:
    save_splits({"train": Dataset.from_dict({"text": TEXTS, "label": [0, 1, 0], "idx": [0, 1, 2]})}, tmp_path / "raw")
    train = run(tmp_path / "raw", tiny_checkpoint)["train"]
    assert train["input_ids"] == AutoTokenizer.from_pretrained(tiny_checkpoint)(TEXTS)["input_ids"]


def test_the_bytes_do_not_depend_on_workers_path_or_time(raw: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    def content() -> dict[str, bytes]:
        folder = tmp_path / "tokenized"
        return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}

    run(raw, tiny_checkpoint, workers=1)
    first = content()
    moved = raw.rename(tmp_path / "elsewhere")
    run(moved, tiny_checkpoint, workers=2)
    assert content() == first
    assert not list(moved.rglob("cache-*"))  # datasets would leave its cache in another stage's folder


def test_more_tokens_than_the_model_takes_are_refused(raw: Path, tiny_checkpoint: Path) -> None:
    with pytest.raises(BadInput, match=r"tokenize.max_length: the checkpoint takes at most 128 tokens, got 129"):
        run(raw, tiny_checkpoint, max_length=129)


def test_a_tokenizer_that_cannot_be_loaded_is_named(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="tokenizer cannot be loaded"):
        run(raw, tmp_path / "empty")


def test_a_tokenizer_that_cannot_pad_is_refused(raw: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path / "padless")
    file = tmp_path / "padless" / "tokenizer_config.json"
    config = json.loads(file.read_text())
    config.pop("pad_token")
    file.write_text(json.dumps(config))
    with pytest.raises(BadInput, match="the tokenizer has no padding token, so no batch can be made; use an encoder"):
        run(raw, tmp_path / "padless")


@pytest.mark.parametrize("kind", ["roberta", "mpnet"])
def test_positions_behind_the_paddings_are_not_offered(
    kind: str, raw: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path / kind)
    config = {"model_type": kind, "max_position_embeddings": 20, "pad_token_id": 1}
    (tmp_path / kind / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match="the checkpoint takes at most 18 tokens, got 19"):
        run(raw, tmp_path / kind, max_length=19)
