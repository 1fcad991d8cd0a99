"""Makes a tiny checkpoint of real classes, in a second and without a download."""

import csv
import re
from pathlib import Path
from typing import Any

from stages.shared.runtime.execution import Execution
from stages.tokenize.tokenize import TokenizeParams

# auto: where there is a GPU, the tests train and predict on it
EXECUTION = Execution("auto", 60.0, 1, 60.0, 1, 1, None)
HARD_PAIRS = Path(__file__).parents[1] / "data" / "hard" / "train.csv"


def sample_pairs() -> list[dict[str, str]]:
    """Returns the training pairs of data/hard, as csv rows."""
    with HARD_PAIRS.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def sample_texts() -> list[str]:
    """Returns both texts of these pairs."""
    return [row[name] for row in sample_pairs() for name in ("sentence1", "sentence2")]


def wordpieces() -> dict[str, int]:
    """Returns a WordPiece vocabulary: the special tokens, all letters of these pairs, the words of the first."""
    firsts = sample_texts()[::2]
    words = {word for text in firsts for word in re.findall(r"\w", text.lower())}
    words |= {word for text in firsts[:100] for word in re.findall(r"\w+", text.lower())}
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(words)]
    return {token: index for index, token in enumerate(tokens)}


def make_checkpoint(folder: Path, **config: object) -> Path:
    """Writes config, tokenizer and safetensors of a random BERT; the same bytes each time."""
    import torch  # seconds, which who only wants EXECUTION need not wait
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    vocabulary = wordpieces()
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
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
    BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=128, **(size | config))).save_pretrained(
        folder
    )
    return folder


def tokenize_params(max_length: int, **changes: Any) -> TokenizeParams:
    """Parameters that cut long texts, where nothing else is said."""
    usual = {"max_samples": None, "long_texts": "truncate", "stride": 4, "window_logits": "mean"}
    return TokenizeParams(**(usual | {"max_length": max_length} | changes))
