"""Makes a tiny checkpoint of real classes, in a second and without a download."""

import csv
import re
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

SAMPLE = Path(__file__).parents[1] / "data" / "sample" / "train.csv"


def make_checkpoint(folder: Path, **config: object) -> Path:
    """Writes config, tokenizer and safetensors of a random BERT; the same bytes each time."""
    with SAMPLE.open(encoding="utf-8", newline="") as stream:
        words = {word for row in csv.DictReader(stream) for word in re.findall(r"\w", row["sentence1"].lower())}
        stream.seek(0)
        rows = list(csv.DictReader(stream))
    words |= {word for row in rows[:100] for word in re.findall(r"\w+", row["sentence1"].lower())}
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(words)]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # type: ignore[call-arg]
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(folder)
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(tokens), max_position_embeddings=128, **(size | config))).save_pretrained(
        folder
    )
    return folder
