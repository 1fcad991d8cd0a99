"""tokenize: data/raw/, models/pretrained/ -> data/tokenized/, metrics/truncation.json."""

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset, Features, List, Value
from pydantic import Field

from stages.shared.errors import BadInput
from stages.shared.execution import read_execution
from stages.shared.imports import without
from stages.shared.params import params_dataclass, read_params
from stages.shared.publish import publish, write_records
from stages.shared.splits import load_splits, save_splits
from stages.shared.stage import stage

with without("torch"):  # 1.8 of 3.6 seconds, for a stage that computes no tensor
    from transformers import AutoConfig, AutoTokenizer

RAW = Path("data/raw")
PRETRAINED = Path("models/pretrained")
TOKENIZED = Path("data/tokenized")
TRUNCATION = Path("metrics/truncation.json")

# Models that number their positions from behind the padding's, and so take that many tokens fewer.
BEHIND_PADDING = ("camembert", "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl")
RELATIVE_TYPES = ("xlnet",)  # models that tell token types apart without an embedding for them


@params_dataclass
class TokenizeParams:
    max_length: Annotated[int, Field(ge=4)]  # tokens, the special ones included
    max_samples: Annotated[int, Field(ge=1)] | None  # first n of each split


def tokenize(
    p: TokenizeParams, workers: int, raw_dir: Path, pretrained_dir: Path, tokenized_dir: Path, truncation_file: Path
) -> None:
    """Turns the texts of every split into `input_ids`; no padding and no mask, the collator makes both.

    Args:
        workers: threads of the tokenizer; their number changes no byte.

    Raises:
        BadInput: the model cannot take `max_length` tokens, or its tokenizer cannot be loaded.
    """
    os.environ["RAYON_NUM_THREADS"] = str(workers)
    tokenizer, config = load_tokenizer(pretrained_dir, p.max_length)
    with publish(tokenized_dir, truncation_file) as (tokenized, truncation):
        cache = tokenized / "cache"
        cache.mkdir(parents=True)
        splits, facts = {}, []
        for name, split in load_splits(raw_dir).items():
            rows = split.select(range(min(len(split), p.max_samples or len(split))))
            splits[name], counts = encode(
                tokenizer, input_names(tokenizer, config), rows, p.max_length, cache / f"{name}.arrow"
            )
            check_tokens(splits[name], name, tokenizer, config)
            facts.append({"split": name, **counts})
            if counts["truncated"]:
                print(
                    f"tokenize: {counts['truncated']} of {counts['examples']} {name} examples "
                    f"({counts['share']:.1%}) are longer than tokenize.max_length {p.max_length} and were cut",
                    file=sys.stderr,
                )
        save_splits(splits, tokenized)
        shutil.rmtree(cache)
        write_records(truncation, "splits", facts)


def load_tokenizer(pretrained_dir: Path, max_length: int) -> tuple[Any, Any]:
    """Loads the checkpoint's fast tokenizer and config, and makes sure that the model takes batches of `max_length`."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(pretrained_dir)
        config = AutoConfig.from_pretrained(pretrained_dir)
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"{pretrained_dir}: tokenizer cannot be loaded: {' '.join(str(error).split())[:200]}") from None
    if tokenizer.pad_token is None:
        raise BadInput(f"{pretrained_dir}: the tokenizer has no padding token, so no batch can be made; use an encoder")
    if getattr(config, "pad_token_id", None) is None:  # a decoder would look for its last token in vain
        raise BadInput(
            f"{pretrained_dir}: config.json has no pad_token_id, so padding cannot be told from text; use an encoder, "
            f"or set it to {tokenizer.pad_token_id}, the tokenizer's {tokenizer.pad_token!r}"
        )
    positions = getattr(config, "max_position_embeddings", None) or 0
    if config.model_type in BEHIND_PADDING:
        positions -= config.pad_token_id + 1
    if 0 < positions < max_length:
        raise BadInput(
            f"params.yaml: tokenize.max_length: the checkpoint takes at most {positions} tokens, got {max_length}"
        )
    return tokenizer, config


def input_names(tokenizer: Any, config: Any) -> list[str]:
    """Returns the columns that the model is fed: no mask, and no token types where it tells no types apart.

    Tokenizers give token types to models that have no embedding for them (RoBERTa has one type, DistilBERT none).
    """
    unused = {"attention_mask"}
    if getattr(config, "type_vocab_size", 0) < 2 and config.model_type not in RELATIVE_TYPES:
        unused.add("token_type_ids")
    return [name for name in tokenizer.model_input_names if name not in unused]


def encode(
    tokenizer: Any, names: list[str], rows: Dataset, max_length: int, cache_file: Path
) -> tuple[Dataset, dict[str, Any]]:
    """Tokenizes one split into the columns `names`, streaming through `cache_file`, and counts what truncation cut.

    Returns:
        The tokenized rows, and `{"examples", "truncated", "share", "tokens": {"mean", "median", "longest"}}`.
    """
    pairs = "text_pair" in rows.column_names
    truncated = 0

    def tokenize_batch(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        nonlocal truncated
        encoded = tokenizer(
            batch["text"],
            batch["text_pair"] if pairs else None,
            truncation="longest_first",
            max_length=max_length,
            return_attention_mask=False,
        )
        truncated += sum(bool(encoding.overflowing) for encoding in encoded.encodings)
        return {name: encoded[name] for name in names} | {"length": list(map(len, encoded["input_ids"]))}

    # token_type_ids are 0 or 1: a byte each, where the default of datasets takes eight
    types = {"input_ids": List(Value("int32")), "token_type_ids": List(Value("int8"))}
    features = Features(
        {name: types[name] for name in names}
        | {"label": rows.features["label"], "idx": rows.features["idx"], "length": Value("int32")}
    )
    tokenized = rows.map(
        tokenize_batch,
        batched=True,
        remove_columns=[name for name in rows.column_names if name.startswith("text")],
        features=features,
        cache_file_name=str(cache_file),
        new_fingerprint="0",  # the default hashes the function: slow, and of no use without a cache
        desc="tokenize",
    ).select_columns(list(features))
    lengths = tokenized.with_format("numpy")["length"][:]
    return tokenized, {
        "examples": len(tokenized),
        "truncated": truncated,
        "share": round(truncated / len(tokenized), 6),
        "tokens": {
            "mean": round(float(np.mean(lengths)), 2),
            "median": float(np.median(lengths)),
            "longest": int(np.max(lengths)),
        },
    }


def check_tokens(tokenized: Dataset, split: str, tokenizer: Any, config: Any) -> None:
    """Makes sure that every row has tokens and every token an embedding; torch would stumble hours later.

    Raises:
        BadInput: a row is empty, or an id is beyond the model's vocabulary.
    """
    table = tokenized.data.table
    if (row := pc.index(table["length"], 0).as_py()) >= 0:
        raise BadInput(
            f"{RAW}: row {row + 1} of the {split} split has an empty text, and the tokenizer adds no token of its own; "
            "remove it, or use an encoder"
        )
    largest = max(pc.max(pc.list_flatten(chunk)).as_py() for chunk in table["input_ids"].chunks)
    if largest >= config.vocab_size:
        raise BadInput(
            f"{PRETRAINED}: token {tokenizer.convert_ids_to_tokens(largest)!r} of the {split} split has id {largest}, "
            f"but config.json says vocab_size {config.vocab_size}; use the tokenizer that belongs to the weights"
        )


if __name__ == "__main__":
    with stage("tokenize"):
        tokenize(
            read_params("tokenize", TokenizeParams), read_execution().workers, RAW, PRETRAINED, TOKENIZED, TRUNCATION
        )
