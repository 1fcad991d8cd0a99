"""tokenize: data/raw/, models/pretrained/ -> data/tokenized/, metrics/truncation.json."""

import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from datasets import Features, List, Value
from pydantic import Field
from tqdm import tqdm

from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.execution import Execution
from stages.shared.runtime.params import params_dataclass
from stages.shared.runtime.publish import publish, write_json, write_records
from stages.shared.runtime.splits import LIMIT_FILE, add_split, load_splits, stream_rows
from stages.shared.runtime.terminal import warn
from stages.tokenize.checkpoint import COUNT_EOS, count_ends, load_tokenizer

RELATIVE_TYPES = ("xlnet",)  # models that tell token types apart without an embedding for them
PORTION = 2**20  # bytes of text that are tokens at the same time, which take about 20 times as much


@params_dataclass
class TokenizeParams:
    max_length: Annotated[int, Field(ge=4)]  # tokens, the special ones included
    max_samples: Annotated[int, Field(ge=1)] | None  # first n of each split


@dataclass(frozen=True)
class TokenizeFiles:
    """What the stage reads, then what it writes."""

    raw: Path = Path("data/raw")
    pretrained: Path = Path("models/pretrained")
    tokenized: Path = Path("data/tokenized")
    truncation: Path = Path("metrics/truncation.json")


def tokenize(p: TokenizeParams, execution: Execution, files: TokenizeFiles) -> None:
    """Turns the texts of every split into `input_ids`; no padding and no mask, the collator makes both.

    Raises:
        BadInput: the model cannot take `max_length` tokens, or its tokenizer cannot be loaded.
    """
    os.environ["RAYON_NUM_THREADS"] = str(execution.workers)  # their number changes no byte
    tokenizer, config = load_tokenizer(files.pretrained, p.max_length)
    with publish(files.tokenized, files.truncation) as (tokenized, truncation):
        facts = []
        for name, split in load_splits(files.raw).items():
            features = token_features(input_names(tokenizer, config), split.features)
            examples = min(len(split), p.max_samples or len(split))
            place = Place(str(files.raw), f" of the {name} split", files.pretrained)
            lengths = []
            with (
                add_split(tokenized, name, features) as write,
                tqdm(total=examples, desc="tokenize", unit=" examples", disable=None) as progress,
            ):
                texts = portions(stream_rows(files.raw, name), examples)
                for tokens, uncut in tokenize_rows(tokenizer, config, features, texts, p.max_length, place=place):
                    write(pa.Table.from_batches([tokens]))
                    lengths.append(uncut)
                    progress.update(len(uncut))
            facts.append({"split": name, **count(np.concatenate(lengths), p.max_length)})
            if facts[-1]["truncated"]:
                warn(
                    f"tokenize: {facts[-1]['truncated']} of {examples} {name} examples ({facts[-1]['share']:.1%}) "
                    f"are longer than tokenize.max_length {p.max_length} and were cut"
                )
        write_json(tokenized / LIMIT_FILE, {"max_length": p.max_length})
        write_records(truncation, "splits", facts)


@dataclass(frozen=True)
class Place:
    """Where texts are and what reads them, for messages."""

    file: str
    split: str  # such as " of the train split", or nothing
    model: Path
    row: Callable[[int], int] = lambda place: place + 1  # the number of the row that comes at a place, from 0


def tokenize_rows(
    tokenizer: Any,
    config: Any,
    features: Features,
    rows: Iterable[pa.RecordBatch],
    max_length: int,
    *,
    place: Place,
) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
    """Yields the tokens of each batch of rows, with `encode`'s number of those before it was cut.

    Args:
        tokenizer: as is `config`, from `load_tokenizer`.

    Raises:
        BadInput: the model cannot answer a row.
    """
    done = 0
    for texts in rows:
        tokens, uncut = encode(tokenizer, features, texts, max_length)
        check_tokens(tokens, texts, tokenizer, config, place=place, before=done)
        yield tokens, uncut
        done += len(uncut)


def input_names(tokenizer: Any, config: Any) -> list[str]:
    """Returns the columns that the model is fed: no mask, and no token types where it tells no types apart.

    Tokenizers give token types to models that have no embedding for them (RoBERTa has one type, DistilBERT none).
    """
    unused = {"attention_mask"}
    if getattr(config, "type_vocab_size", 0) < 2 and config.model_type not in RELATIVE_TYPES:
        unused.add("token_type_ids")
    return [name for name in tokenizer.model_input_names if name not in unused]


def token_features(names: list[str], raw: Features) -> Features:
    """Returns the columns of the tokenized rows; token types are 0 or 1: a byte each, where the default takes eight.

    Args:
        raw: the columns of the texts, whose `label`, `idx` and `id` are kept where they have them.
    """
    types = {"input_ids": List(Value("int32")), "token_type_ids": List(Value("int8"))}
    kept = {name: raw[name] for name in ("label", "idx", "id") if name in raw}
    return Features({name: types[name] for name in names} | kept | {"length": Value("int32")})


def portions(batches: Iterable[pa.RecordBatch], examples: int) -> Iterator[pa.RecordBatch]:
    """Yields the first `examples` rows; batches of long texts in pieces of about `PORTION` bytes."""
    for batch in batches:
        rows = batch.slice(0, examples)
        size = max(1, rows.num_rows // math.ceil(rows.nbytes / PORTION))
        for start in range(0, rows.num_rows, size):
            yield rows.slice(start, size)
        examples -= rows.num_rows
        if examples == 0:
            return


def encode(
    tokenizer: Any, features: Features, texts: pa.RecordBatch, max_length: int
) -> tuple[pa.RecordBatch, np.ndarray]:
    """Tokenizes rows: what `tokenizer(..., truncation="longest_first")` gives, without its lists of lists.

    Returns:
        The tokenized rows, and how many tokens each had before it was cut: int32[rows].
    """
    inputs = texts["text"].to_pylist()
    if "text_pair" in texts.schema.names:
        inputs = list(zip(inputs, texts["text_pair"].to_pylist(), strict=True))
    encodings = tokenizer.backend_tokenizer.encode_batch_fast(inputs)
    uncut = np.fromiter(map(len, encodings), np.int32, len(encodings))
    ends = uncut.cumsum()
    mask = np.ones(ends[-1], dtype=bool)  # bool[tokens], those of all rows one after the other
    for row in np.flatnonzero(uncut > max_length):
        mask[ends[row] - uncut[row] : ends[row]] = kept(
            encodings[row].sequence_ids, max_length, tokenizer.truncation_side
        )
    lengths = np.minimum(uncut, max_length)
    offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int32)
    attributes = {"input_ids": "ids", "token_type_ids": "type_ids"}
    schema = features.arrow_schema

    def column(name: str) -> pa.Array:
        if name == "length":
            return pa.array(lengths)
        if name not in attributes:
            return texts[name]
        kind = schema.field(name).type
        tokens = chain.from_iterable(getattr(encoding, attributes[name]) for encoding in encodings)
        values = np.fromiter(tokens, kind.value_type.to_pandas_dtype(), ends[-1])
        return pa.ListArray.from_arrays(offsets, values[mask], type=kind)

    return pa.RecordBatch.from_arrays([column(name) for name in features], schema=schema), uncut


def kept(sequences: list[int | None], max_length: int, side: str) -> np.ndarray:
    """Says which tokens of a row stay where the longer text is cut first, and both equally once they are equally long.

    The tokenizer's own truncation chooses the same, but hands back every combination of the pieces that it cuts off two
    texts: 120 MiB for one pair of 3,000 tokens each.

    Args:
        sequences: for each token, the number of its text, None for those that the tokenizer adds.
        side: right or left, the end of a text that is cut off.

    Returns:
        bool[tokens], `max_length` of them True.
    """
    sequence = np.array(sequences, dtype=np.float32)
    mask = np.isnan(sequence)
    room = max_length - mask.sum()
    first, second = np.flatnonzero(sequence == 0), np.flatnonzero(sequence == 1)
    # The shorter text is whole or has half the room, the other one what is left.
    size = min(len(first), room // 2) if len(first) <= len(second) else room - min(len(second), room // 2)
    for places, number in ((first, size), (second, room - size)):
        mask[places[:number] if side == "right" else places[len(places) - number :]] = True
    return mask


def check_tokens(
    tokens: pa.RecordBatch, texts: pa.RecordBatch, tokenizer: Any, config: Any, *, place: Place, before: int
) -> None:
    """Makes sure that the model can answer every row; torch would stumble hours later.

    Args:
        tokens: what was made of `texts`.
        before: the number of rows there before these.

    Raises:
        BadInput: a row is empty, an id is beyond the model's vocabulary, or a text holds the token that ends a text,
            where the model counts it.
    """
    lengths = tokens["length"].to_numpy()
    if not lengths.all():
        row = place.row(before + int(lengths.argmin()))

        raise BadInput(
            f"{place.file}: row {row}{place.split} has an empty text, and the tokenizer adds no special tokens; "
            "remove it, or use an encoder"
        )
    ids = tokens["input_ids"].values.to_numpy()
    vocabulary = getattr(config.get_text_config(), "vocab_size", None)  # None: CANINE hashes its characters
    if vocabulary is not None and (largest := int(ids.max())) >= vocabulary:
        token = tokenizer.convert_ids_to_tokens(largest)
        raise BadInput(
            f"{place.model}: token {token!r}{place.split} has id {largest}, but config.json says vocab_size "
            f"{vocabulary}; use the tokenizer that belongs to the weights"
        )
    if config.model_type in COUNT_EOS:
        ends = np.add.reduceat(ids == config.eos_token_id, tokens["input_ids"].offsets.to_numpy()[:-1], dtype=np.int32)
        others = np.flatnonzero(ends != count_ends(tokenizer, config, "text_pair" in texts.schema.names))
        if len(others):
            row, end = int(others[0]), tokenizer.convert_ids_to_tokens(config.eos_token_id)
            columns = [name for name in ("text", "text_pair") if name in texts.schema.names]
            places = [name for name in columns if end in texts[name][row].as_py()]
            raise BadInput(
                f"{place.file}: row {place.row(before + row)}{place.split} has {end!r} in its "
                f"{' and its '.join(places)}; {config.model_type} needs equally many {end!r} in every row, so "
                "remove it from the text, or set split_special_tokens to true in the checkpoint's "
                "tokenizer_config.json"
            )


def count(uncut: np.ndarray, max_length: int) -> dict[str, Any]:
    """Counts what truncation cut from rows of so many tokens, int32[rows], and the tokens that are left."""
    lengths = np.minimum(uncut, max_length)
    truncated = int((uncut > max_length).sum())
    return {
        "examples": len(uncut),
        "truncated": truncated,
        "share": round(truncated / len(uncut), 6),
        "tokens": {
            "mean": round(float(lengths.mean()), 2),
            "median": float(np.median(lengths)),
            "longest": int(lengths.max()),
        },
    }
