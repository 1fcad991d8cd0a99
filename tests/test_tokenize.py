"""tokenize: both texts in one call, truncated, unpadded."""

import inspect
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value, load_from_disk
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import CONFIG_MAPPING, AutoTokenizer, ByT5Tokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from benchmarks.families import make
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.splits import load_splits, save_splits
from stages.tokenize.checkpoint import BEHIND_PADDING, COUNT_EOS
from stages.tokenize.tokenize import TokenizeFiles, tokenize
from tests.tiny import EXECUTION, tokenize_params

TEXTS = ["a big dog ran home in the rain", "no", "one two three four five six seven eight nine ten"]
PAIRS = ["the dog was running home", "yes it is so", "ten"]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    rows = Dataset.from_dict({"text": TEXTS, "text_pair": PAIRS, "label": [0, 1, 0], "idx": [5, 6, 7]})
    save_splits({"train": rows, "validation": rows.select([2])}, tmp_path / "raw")
    return tmp_path / "raw"


@pytest.fixture
def peak() -> Callable[[], int]:
    """Gives the most memory, in MiB, that this process held at once since this fixture was made."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("Linux says how much memory a process held")
    Path("/proc/self/clear_refs").write_text("5")

    def read() -> int:
        status = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmHWM"))

    return read


def run(raw: Path, checkpoint: Path, workers: int = 1, **params: Any) -> dict[str, Dataset]:
    p = tokenize_params(**({"max_length": 32} | params))
    files = TokenizeFiles(raw, checkpoint, raw.parent / "tokenized", raw.parent / "truncation.json")
    tokenize(p, replace(EXECUTION, workers=workers), files)
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


def test_the_id_of_a_row_goes_along(raw: Path, tiny_checkpoint: Path) -> None:
    rows = load_splits(raw)["train"].add_column("id", ["r1", "r2", "r3"])
    save_splits({"train": rows, "validation": rows.select([2])}, raw.with_name("named"))
    assert run(raw.with_name("named"), tiny_checkpoint)["validation"]["id"] == ["r3"]


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


def words(number: int) -> str:
    return " ".join(f"{chr(ord('a') + place % 26)}" for place in range(number))


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("pairs", [True, False])
def test_texts_of_any_lengths_are_cut_as_a_plain_call_cuts_them(
    pairs: bool, side: str, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    sizes = list(product(range(9), repeat=2))
    columns = {"text": [words(first) for first, _ in sizes]}
    if pairs:
        columns["text_pair"] = [words(second) for _, second in sizes]
    rows = Dataset.from_dict(columns | {"label": [0] * len(sizes), "idx": list(range(len(sizes)))})
    save_splits({"train": rows}, tmp_path / "raw")
    shutil.copytree(tiny_checkpoint, tmp_path / "tiny")
    file = tmp_path / "tiny" / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"truncation_side": side}))
    plain = AutoTokenizer.from_pretrained(tmp_path / "tiny")
    assert plain.truncation_side == side
    for max_length in range(4, 20):
        train = run(tmp_path / "raw", tmp_path / "tiny", max_length=max_length)["train"]
        expected = plain(*columns.values(), truncation="longest_first", max_length=max_length)
        assert train["input_ids"] == expected["input_ids"]
        assert train["token_type_ids"] == expected["token_type_ids"]
        assert train["length"] == list(map(len, expected["input_ids"]))
        facts = json.loads((tmp_path / "truncation.json").read_text())["splits"][0]
        assert facts["truncated"] == sum(bool(encoding.overflowing) for encoding in expected.encodings)
        assert facts["tokens"] == {
            "mean": round(np.mean(train["length"]), 2),
            "median": np.median(train["length"]),
            "longest": max(train["length"]),
        }


def many(rows: int) -> Dataset:
    """Rows of which no two neighbours are alike, more than are read or tokenized at once."""
    texts = [words(1 + row % 7) for row in range(rows)]
    pairs = [words(1 + row % 11) for row in range(rows)]
    return Dataset.from_dict({"text": texts, "text_pair": pairs, "label": [0, 1] * (rows // 2), "idx": range(rows)})


@pytest.mark.parametrize("portion", [2**22, 100])
@pytest.mark.parametrize("max_samples", [None, 1000, 1500])
def test_rows_keep_their_places_however_many_are_tokenized_at_once(
    max_samples: int | None, portion: int, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.tokenize.tokenize.PORTION", portion)
    rows = many(2500)
    save_splits({"train": rows}, tmp_path / "raw")
    train = run(tmp_path / "raw", tiny_checkpoint, max_length=12, max_samples=max_samples)["train"]
    first = rows[: max_samples or 2500]
    expected = AutoTokenizer.from_pretrained(tiny_checkpoint)(
        first["text"], first["text_pair"], truncation="longest_first", max_length=12
    )
    assert train["input_ids"] == expected["input_ids"]
    assert (train["label"], train["idx"]) == (first["label"], first["idx"])
    facts = json.loads((tmp_path / "truncation.json").read_text())["splits"][0]
    assert facts["examples"] == len(train) == (max_samples or 2500)
    assert facts["truncated"] == sum(bool(encoding.overflowing) for encoding in expected.encodings)


LABELS: dict[str, tuple[Any, list[Any]]] = {
    "classes": (ClassLabel(names=["no", "yes"]), [0, 1, 0]),
    "unlabelled": (ClassLabel(names=["no", "yes"]), [-1, -1, -1]),
    "several of three": (List(Value("float32")), [[0.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]),
    "numbers": (Value("float32"), [0.5, -2.0, 3.25]),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_every_kind_arrive_as_they_are(kind: str, tiny_checkpoint: Path, tmp_path: Path) -> None:
    feature, labels = LABELS[kind]
    features = Features({"text": Value("string"), "label": feature, "idx": Value("int32")})
    rows = Dataset.from_dict({"text": TEXTS, "label": labels, "idx": [5, 6, 7]}, features=features)
    save_splits({"train": rows}, tmp_path / "raw")
    run(tmp_path / "raw", tiny_checkpoint, max_samples=2)
    train = load_from_disk(tmp_path / "tokenized")["train"]
    assert train.features == {
        "input_ids": List(Value("int32")),
        "token_type_ids": List(Value("int8")),
        "label": feature,
        "idx": Value("int32"),
        "length": Value("int32"),
    }
    assert (train["label"], train["idx"]) == (labels[:2], [5, 6])
    assert [file.name for file in (tmp_path / "tokenized" / "train").glob("*.arrow")] == ["data-00000-of-00001.arrow"]


def test_a_special_token_in_a_text_is_a_text_where_the_tokenizer_says_so(tiny_checkpoint: Path, tmp_path: Path) -> None:
    save_splits({"train": Dataset.from_dict({"text": ["a [SEP] b"], "label": [0], "idx": [0]})}, tmp_path / "raw")
    plain = run(tmp_path / "raw", tiny_checkpoint)["train"]["input_ids"]
    shutil.copytree(tiny_checkpoint, tmp_path / "split")
    file = tmp_path / "split" / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"split_special_tokens": True}))
    split = run(tmp_path / "raw", tmp_path / "split")["train"]["input_ids"]
    assert split == AutoTokenizer.from_pretrained(tmp_path / "split")(["a [SEP] b"])["input_ids"] != plain


def test_the_padding_and_truncation_that_a_tokenizer_was_saved_with_are_not_used(
    raw: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path / "used")
    tokenizer = Tokenizer.from_file(str(tmp_path / "used" / "tokenizer.json"))
    tokenizer.enable_truncation(6)
    tokenizer.enable_padding(length=100)
    tokenizer.save(str(tmp_path / "used" / "tokenizer.json"))
    expected = run(raw, tiny_checkpoint)["train"].to_dict()
    assert run(raw, tmp_path / "used")["train"].to_dict() == expected


def bare(folder: Path, tiny_checkpoint: Path, vocabulary: dict[str, int]) -> Path:
    """The tiny checkpoint with a tokenizer that adds no token of its own."""
    shutil.copytree(tiny_checkpoint, folder)
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize("portion", [2**22, 1000])
def test_a_row_without_tokens_is_named_wherever_it_is(
    portion: int, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.tokenize.tokenize.PORTION", portion)
    columns = many(2500).to_dict()
    columns["text"][2344] = columns["text_pair"][2344] = ""
    save_splits({"train": Dataset.from_dict(columns)}, tmp_path / "raw")
    checkpoint = bare(tmp_path / "bare", tiny_checkpoint, {"[PAD]": 0, "[UNK]": 1, "a": 2})
    with pytest.raises(
        BadInput, match="row 2345 of the train split has an empty text, and the tokenizer adds no special"
    ):
        run(tmp_path / "raw", checkpoint)
    assert not (tmp_path / "tokenized").exists() and not list(tmp_path.glob(".*.partial"))


def test_a_token_without_an_embedding_is_named_wherever_it_is(tiny_checkpoint: Path, tmp_path: Path) -> None:
    columns = many(2500).to_dict()
    columns["text_pair"][2344] = "strange"
    save_splits({"train": Dataset.from_dict(columns)}, tmp_path / "raw")
    checkpoint = bare(tmp_path / "bare", tiny_checkpoint, {"[PAD]": 0, "[UNK]": 1, "a": 2, "strange": 12345})
    with pytest.raises(BadInput, match=r"token 'strange' of the train split has id 12345, but config.json says vocab_"):
        run(tmp_path / "raw", checkpoint)


def test_a_tokenizer_in_python_is_refused(raw: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path / "slow", ignore=shutil.ignore_patterns("tokenizer*"))
    ByT5Tokenizer().save_pretrained(tmp_path / "slow")
    with pytest.raises(
        BadInput, match="ByT5Tokenizer is a tokenizer in Python, too slow for a corpus; use a checkpoint"
    ):
        run(raw, tmp_path / "slow")


def test_what_is_cut_off_takes_no_memory(tiny_checkpoint: Path, tmp_path: Path, peak: Callable[[], int]) -> None:
    columns = {"text": [words(3000)] * 4, "text_pair": [words(3000)] * 4, "label": [0] * 4, "idx": range(4)}
    save_splits({"train": Dataset.from_dict(columns)}, tmp_path / "raw")
    run(tmp_path / "raw", tiny_checkpoint, max_samples=1)  # what the first run of all needs once
    before = peak()
    run(tmp_path / "raw", tiny_checkpoint)
    assert peak() - before < 100  # MiB; every combination of the pieces that are cut off would be 1500


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


def as_type(folder: Path, checkpoint: Path, model_type: str, **config: Any) -> Path:
    """The checkpoint with the config of another type; tokenize reads no weights."""
    shutil.copytree(checkpoint, folder)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type, **config}))
    return folder


def sources() -> dict[str, str]:
    """Gives the source of the model of each type with which transformers classifies texts."""
    files = {
        name: Path(inspect.getfile(CONFIG_MAPPING[name])) for name in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
    }
    return {
        name: file.with_name(file.name.replace("configuration_", "modeling_")).read_text(encoding="utf-8")
        for name, file in files.items()
    }


def test_the_types_that_number_positions_behind_the_padding_are_those_of_transformers() -> None:
    assert {name for name, source in sources().items() if "create_position_ids_from_input_ids" in source} == set(
        BEHIND_PADDING
    )


def test_the_types_that_count_the_ends_of_a_text_are_those_of_transformers() -> None:
    assert {name for name, source in sources().items() if "same number of <eos> tokens" in source} == set(COUNT_EOS)


@pytest.mark.parametrize("kind", BEHIND_PADDING)
def test_positions_behind_the_paddings_are_not_offered(
    kind: str, raw: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    checkpoint = as_type(tmp_path / kind, tiny_checkpoint, kind, max_position_embeddings=20, pad_token_id=1)
    with pytest.raises(BadInput, match="the checkpoint takes at most 18 tokens, got 19"):
        run(raw, checkpoint, max_length=19)


@pytest.mark.parametrize("model_type", ["dpr", "clip", "whisper", "vit", "encodec"])
def test_a_type_that_classifies_no_texts_is_refused(
    model_type: str, raw: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    checkpoint = as_type(tmp_path / "other", tiny_checkpoint, model_type)
    with pytest.raises(BadInput, match=f"transformers has no text classifier for model_type {model_type} "):
        run(raw, checkpoint)


@pytest.mark.parametrize("config", [{"model_type": "nobodys"}, {"model_type": "bert", "hidden_size": "wide"}, {}])
def test_a_config_that_cannot_be_read_is_refused_in_a_line(
    config: dict[str, Any], raw: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path / "other")
    (tmp_path / "other" / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match="config or tokenizer cannot be loaded: ") as raised:
        run(raw, tmp_path / "other")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("model_type", ["big_bird", "bigbird_pegasus"])
def test_attention_that_changes_with_the_batches_before_is_refused(
    model_type: str, raw: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    ends = AutoTokenizer.from_pretrained(tiny_checkpoint).sep_token_id
    known = {"vocab_size": 2000, "eos_token_id": ends, "pad_token_id": 0}
    checkpoint = as_type(tmp_path / "sparse", tiny_checkpoint, model_type, **known)
    with pytest.raises(BadInput, match=r"with attention_type block_sparse .*; set it to original_full"):
        run(raw, checkpoint)
    run(raw, as_type(tmp_path / "full", tiny_checkpoint, model_type, attention_type="original_full", **known))


@pytest.mark.parametrize("pairs", [True, False])
@pytest.mark.parametrize("model_type", COUNT_EOS)
def test_an_end_of_text_in_a_text_is_refused_by_its_row_where_the_model_counts_them(
    model_type: str, pairs: bool, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    ends = AutoTokenizer.from_pretrained(tiny_checkpoint).sep_token_id
    known = {"vocab_size": 2000, "eos_token_id": ends, "pad_token_id": 0, "attention_type": "original_full"}
    checkpoint = as_type(tmp_path / "ends", tiny_checkpoint, model_type, **known)
    texts = ["a dog", "[MASK] [PAD]", "a [SEP] b"]
    columns = {"text": TEXTS, "text_pair": texts} if pairs else {"text": texts}
    rows = Dataset.from_dict(columns | {"label": [0, 1, 0], "idx": [0, 1, 2]})
    save_splits({"train": rows.select([0, 1]), "validation": rows}, tmp_path / "raw")
    place = "text_pair" if pairs else "text"
    with pytest.raises(
        BadInput, match=rf"row 3 of the validation split has '\[SEP\]' in its {place}; {model_type} needs"
    ):
        run(tmp_path / "raw", checkpoint)
    file = checkpoint / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"split_special_tokens": True}))
    split = run(tmp_path / "raw", checkpoint)["validation"]["input_ids"]
    assert split == AutoTokenizer.from_pretrained(checkpoint)(*columns.values())["input_ids"]
    assert {row.count(ends) for row in split} == {2 if pairs else 1}


def test_a_tokenizer_that_ends_no_text_is_refused_where_the_model_answers_there(
    raw: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    checkpoint = as_type(tmp_path / "ends", tiny_checkpoint, "t5", vocab_size=2000, eos_token_id=77)
    with pytest.raises(BadInput, match=r"t5 classifies at the last token with id 77 .* the tokenizer does not add;"):
        run(raw, checkpoint)


def test_a_tokenizer_that_wants_more_than_a_text_is_refused(raw: Path, tmp_path: Path) -> None:
    for model_type in ("layoutlmv2", "layoutlmv3"):
        with pytest.raises(
            BadInput, match=r"LayoutLMv.Tokenizer does not accept plain text \(Words must .*; use a text-only"
        ):
            run(raw, make(model_type, tmp_path / model_type))


def test_inputs_that_no_text_tells_are_refused(raw: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path / "boxes")
    file = tmp_path / "boxes" / "tokenizer_config.json"
    names = ["input_ids", "attention_mask", "bbox"]
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_input_names": names}))
    with pytest.raises(
        BadInput, match=r"the model needs bbox \(from .*\), which plain text does not have; use a text-only model"
    ):
        run(raw, tmp_path / "boxes")
    with pytest.raises(BadInput, match="the model needs xpath_subs_seq, xpath_tags_seq"):
        run(raw, make("markuplm", tmp_path / "pages"))
