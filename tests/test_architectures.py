"""Models of the families used most, each with a tokenizer of its own kind, go from texts to one ready for use."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import torch
import transformers as hf
from datasets import Dataset
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from benchmarks.checkpoints import survey
from benchmarks.families import byte_pairs, make
from stages.predict.predict import PredictFiles, PredictParams, predict
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.splits import load_splits, save_splits
from stages.tokenize.tokenize import TokenizeFiles, tokenize
from tests.test_train import Run
from tests.tiny import EXECUTION, make_checkpoint, sample_texts, tokenize_params, wordpieces

SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
WIDTH = 48  # positions; the texts of the sample are cut to it


def save(folder: Path, tokenizer: Any, config: Any) -> Path:
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    hf.AutoModel.from_config(config).save_pretrained(folder)
    return folder


def bert(folder: Path) -> Path:
    tokenizer = hf.BertTokenizer(vocab=wordpieces())
    return save(folder, tokenizer, hf.BertConfig(vocab_size=len(tokenizer), max_position_embeddings=WIDTH, **SIZE))


def old_bert(folder: Path) -> Path:
    """As bert-base-uncased and most of its age name the tensors of their layer norms."""
    file = bert(folder) / "model.safetensors"
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    weights = load_file(file)
    for new, name in old.items():
        weights = {key.replace(new, name): value for key, value in weights.items()}
    save_file(weights, file, metadata={"format": "pt"})
    return folder


def distilbert(folder: Path) -> Path:
    tokenizer = hf.DistilBertTokenizer(vocab=wordpieces())
    size = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
    config = hf.DistilBertConfig(vocab_size=len(tokenizer), max_position_embeddings=WIDTH, **size)
    return save(folder, tokenizer, config)


def electra(folder: Path) -> Path:
    tokenizer = hf.ElectraTokenizer(vocab=wordpieces())
    config = hf.ElectraConfig(
        vocab_size=len(tokenizer), embedding_size=16, max_position_embeddings=WIDTH, type_vocab_size=2, **SIZE
    )
    return save(folder, tokenizer, config)


def roberta(folder: Path) -> Path:
    tokenizer = hf.RobertaTokenizer(**byte_pairs("<s>", "<pad>", "</s>", "<unk>", "<mask>"))
    config = hf.RobertaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=WIDTH + 2, type_vocab_size=1, pad_token_id=1, **SIZE
    )
    return save(folder, tokenizer, config)


def modernbert(folder: Path) -> Path:
    tokenizer = Tokenizer(models.BPE(**byte_pairs("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    wrapped = hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "attention_mask"],
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
    ids = {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
    config = hf.ModernBertConfig(vocab_size=len(wrapped), max_position_embeddings=WIDTH, **ids, **SIZE)
    return save(folder, wrapped, config)


def pieces(folder: Path, name: str, **special: str) -> Path:
    """Learns a SentencePiece model from the sample and leaves `<name>.model`, as the repositories have it."""
    folder.mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sample_texts()),
        model_prefix=str(folder / name),
        vocab_size=300,
        user_defined_symbols=["[MASK]"],
        minloglevel=2,
        **special,
    )
    (folder / f"{name}.vocab").unlink()
    return folder / f"{name}.model"


def deberta_v3(folder: Path) -> Path:
    """As on the Hub: spm.model and no tokenizer.json."""
    ids = {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3}
    named = {"pad_piece": "[PAD]", "bos_piece": "[CLS]", "eos_piece": "[SEP]", "unk_piece": "[UNK]"}
    pieces(folder, "spm", **ids, **named)
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false, "vocab_type": "spm"}')
    config = hf.DebertaV2Config(
        vocab_size=320,  # more than the tokenizer has, as in the published ones
        max_position_embeddings=WIDTH,
        type_vocab_size=0,
        relative_attention=True,
        position_buckets=8,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pooler_hidden_size=32,
        **SIZE,
    )
    torch.manual_seed(0)
    hf.AutoModel.from_config(config).save_pretrained(folder)
    return folder


def albert(folder: Path) -> Path:
    """As on the Hub: spiece.model, and tokenizer.json beside it."""
    ids = {"pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1, "control_symbols": "[CLS],[SEP]"}
    model = pieces(folder / "learned", "spiece", **ids)
    config = hf.AlbertConfig(
        vocab_size=300, embedding_size=16, max_position_embeddings=WIDTH, pad_token_id=0, bos_token_id=2, **SIZE
    )
    shutil.copy(model, folder / "spiece.model")
    shutil.rmtree(folder / "learned")
    torch.manual_seed(0)
    hf.AutoModel.from_config(config).save_pretrained(folder)
    hf.AlbertTokenizer.from_pretrained(folder).save_pretrained(folder)
    return folder


FAMILIES: dict[str, tuple[Callable[[Path], Path], bool]] = {  # maker, and whether it tells token types apart
    "albert": (albert, False),  # its tokenizer gives none, though the model has two
    "bert": (bert, True),
    "old_bert": (old_bert, True),
    "deberta_v3": (deberta_v3, False),
    "distilbert": (distilbert, False),
    "electra": (electra, True),
    "modernbert": (modernbert, False),
    "roberta": (roberta, False),
}


def files_of(folder: Path, checkpoint: Path) -> TokenizeFiles:
    return TokenizeFiles(folder / "raw", checkpoint, folder / "tokenized", folder / "truncation.json")


def logits_of(run: Run, out: Path) -> np.ndarray:
    p = PredictParams(arithmetic="portable", token_budget=512, threads=1)
    files = PredictFiles(
        tokenized=run.folder / "tokenized",
        task=run.folder / "task.json",
        finetuned=out / "finetuned",
        predictions=run.folder / "predictions",
        scratch=run.folder / "parts",
    )
    predict(p, EXECUTION, files)
    return np.asarray(np.load(run.folder / "predictions" / "validation" / "logits.npy"))


OTHERS = ("bart", "gpt2", "mpnet", "xlm-roberta")  # as benchmarks.families makes them


@pytest.mark.slow
@pytest.mark.parametrize("family", [*FAMILIES, *OTHERS])
def test_a_model_trains_goes_on_predicts_and_is_ready_for_use(family: str, tmp_path: Path) -> None:
    maker, types = FAMILIES.get(family, (partial(make, family), False))
    maker(tmp_path / "checkpoint")
    before = {path.name for path in (tmp_path / "checkpoint").iterdir()}
    facts = survey(tmp_path)
    assert facts["verdict"] == "works", facts
    assert ("token_type_ids" in load_splits(tmp_path / "tokenized")["train"].column_names) == types
    logits = np.load(tmp_path / "predictions" / "validation" / "logits.npy")
    assert np.isfinite(logits).all() and len(np.unique(logits[:, 0])) > 1
    assert {path.name for path in (tmp_path / "checkpoint").iterdir()} == before  # it is another stage's out


@pytest.mark.parametrize("family", ["convbert", "fnet"])
def test_a_model_that_sees_the_padding_is_refused_before_it_is_trained(family: str, tmp_path: Path) -> None:
    make(family, tmp_path / "checkpoint")
    facts = survey(tmp_path)
    assert facts["stage"] == "train" and "gives other logits if a text is padded (by " in facts["line"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_positions_of_a_model_are_all_that_it_is_given(
    family: str, tmp_path: Path, sample_rows: list[dict[str, str]]
) -> None:
    run = Run(tmp_path, FAMILIES[family][0](tmp_path / "checkpoint"), sample_rows)
    assert max(load_splits(tmp_path / "tokenized")["train"]["length"]) == WIDTH
    with pytest.raises(BadInput, match=f"tokenize.max_length: the checkpoint takes at most {WIDTH} tokens, got 49"):
        tokenize(tokenize_params(WIDTH + 1), EXECUTION, files_of(tmp_path, run.checkpoint))


@pytest.mark.parametrize("pairs", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_are_those_of_a_plain_call(family: str, pairs: bool, tmp_path: Path) -> None:
    checkpoint = FAMILIES[family][0](tmp_path / "checkpoint")
    texts = [*sample_texts()[:40], "", "\u00fcber 北京 \U0001f600", "a [SEP] b </s> <s> [MASK]"]
    columns = {"text": texts} | ({"text_pair": texts[::-1]} if pairs else {})
    rows = Dataset.from_dict(columns | {"label": [0] * len(texts), "idx": range(len(texts))})
    save_splits({"train": rows}, tmp_path / "raw")
    plain = hf.AutoTokenizer.from_pretrained(checkpoint)
    for max_length in (4, 9, 24, WIDTH):
        p = tokenize_params(max_length)
        tokenize(p, EXECUTION, files_of(tmp_path, checkpoint))
        train = load_splits(tmp_path / "tokenized")["train"]
        expected = plain(*columns.values(), truncation="longest_first", max_length=max_length)
        assert train["input_ids"] == expected["input_ids"]
        if "token_type_ids" in train.column_names:
            assert train["token_type_ids"] == expected["token_type_ids"]
        facts = json.loads((tmp_path / "truncation.json").read_text())["splits"][0]
        assert facts["truncated"] == sum(bool(encoding.overflowing) for encoding in expected.encodings)


def test_a_sentencepiece_model_alone_cuts_as_sentencepiece_does(tmp_path: Path) -> None:
    folder = deberta_v3(tmp_path)
    reference = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spm.model"))
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    for text in sample_texts()[:50]:
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == reference.encode(text)


def gpt2(folder: Path, pad: str | None, pad_id: int | None) -> Path:
    tokenizer = hf.GPT2Tokenizer(**byte_pairs("<|endoftext|>", "<pad>"), pad_token=pad)
    size = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": WIDTH}
    config = hf.GPT2Config(vocab_size=len(tokenizer), pad_token_id=pad_id, bos_token_id=0, eos_token_id=0, **size)
    return save(folder, tokenizer, config)


@pytest.mark.parametrize(
    ("pad", "pad_id", "message"),
    [
        (None, None, "the tokenizer has no padding token, so no batch can be made; use an encoder"),
        ("<pad>", None, "config.json has no pad_token_id, .*; use an encoder, or set it to 1, the tokenizer's '<pad>'"),
    ],
)
def test_a_decoder_that_cannot_tell_padding_from_text_is_refused(
    pad: str | None, pad_id: int | None, message: str, tmp_path: Path, sample_rows: list[dict[str, str]]
) -> None:
    with pytest.raises(BadInput, match=message) as raised:
        Run(tmp_path, gpt2(tmp_path / "checkpoint", pad, pad_id), sample_rows)
    assert "\n" not in str(raised.value)


def test_a_row_without_any_token_is_refused(tmp_path: Path, sample_rows: list[dict[str, str]]) -> None:
    sample_rows[3] |= {"sentence1": "", "sentence2": ""}  # GPT-2 puts nothing around a text
    with pytest.raises(BadInput, match="row 4 of the train split has an empty text, and the tokenizer adds no special"):
        Run(tmp_path, gpt2(tmp_path / "checkpoint", "<pad>", 1), sample_rows)


def test_a_token_without_an_embedding_is_refused_before_the_training(
    tmp_path: Path, sample_rows: list[dict[str, str]]
) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint")
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"vocab_size": 30}))
    with pytest.raises(
        BadInput, match=r"token '\w+' of the train split has id \d+, but config.json says vocab_size 30;"
    ):
        Run(tmp_path, checkpoint, sample_rows)


def test_half_precision_weights_are_trained_in_single(tmp_path: Path, sample_rows: list[dict[str, str]]) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint")
    hf.AutoModel.from_pretrained(checkpoint, dtype=torch.float32).half().save_pretrained(checkpoint)
    assert json.loads((checkpoint / "config.json").read_text())["dtype"] == "float16"
    out = Run(tmp_path, checkpoint, sample_rows)(epochs=1)
    assert {weight.dtype for weight in load_file(out / "finetuned" / "model.safetensors").values()} == {torch.float32}
    assert json.loads((out / "finetuned" / "config.json").read_text())["dtype"] == "float32"


def test_a_checkpoint_with_a_head_for_other_labels_gets_a_new_one(
    tmp_path: Path, sample_rows: list[dict[str, str]]
) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint")
    other = hf.AutoModelForSequenceClassification.from_pretrained(
        checkpoint, num_labels=3, id2label={0: "x", 1: "y", 2: "z"}, label2id={"x": 0, "y": 1, "z": 2}
    )
    other.save_pretrained(checkpoint)
    run = Run(tmp_path, checkpoint, sample_rows)
    out = run(epochs=1)
    assert load_file(out / "finetuned" / "model.safetensors")["classifier.weight"].shape == (2, 32)
    config = json.loads((out / "finetuned" / "config.json").read_text())
    assert config["id2label"] == {"0": "not_equivalent", "1": "equivalent"}
    assert logits_of(run, out).shape == (12, 2)
