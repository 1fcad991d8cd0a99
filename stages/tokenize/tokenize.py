"""tokenize: data/raw/, models/pretrained/ -> data/tokenized/, metrics/truncation.json."""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
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
from stages.shared.runtime.splits import LIMIT_FILE, WindowLogits, add_split, load_splits, stream_rows
from stages.shared.runtime.terminal import warn
from stages.tokenize.checkpoint import COUNT_EOS, count_ends, load_tokenizer
from stages.tokenize.cuts import Cut, LongTexts, check_stride

RELATIVE_TYPES = ("xlnet",)  # models that tell token types apart without an embedding for them
PORTION = 2**20  # bytes of text that are tokens at the same time, which take about 20 times as much


@params_dataclass
class TokenizeParams:
    max_length: Annotated[int, Field(ge=4)]  # tokens, the special ones included
    long_texts: LongTexts
    stride: Annotated[int, Field(ge=0)]  # tokens that a window shares with the next
    window_logits: WindowLogits  # how those of a text's windows become one
    max_samples: Annotated[int, Field(ge=1)] | None  # first n of each split

    @property
    def cut(self) -> Cut:
        """What becomes of texts longer than `max_length`."""
        return Cut(self.max_length, self.long_texts, self.stride)


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
        BadInput: the model cannot take `max_length` tokens, its tokenizer cannot be loaded, or windows do not move on.
    """
    os.environ["RAYON_NUM_THREADS"] = str(execution.workers)  # their number changes no byte
    tokenizer, config = load_tokenizer(files.pretrained, p.max_length)
    raw = load_splits(files.raw)
    check_stride(p.cut, tokenizer, any("text_pair" in split.column_names for split in raw.values()))
    with publish(files.tokenized, files.truncation) as (tokenized, truncation):
        facts = []
        for name, split in raw.items():
            features = token_features(input_names(tokenizer, config), split.features, windows=p.cut.in_windows)
            examples = min(len(split), p.max_samples or len(split))
            place = Place(str(files.raw), f" of the {name} split", files.pretrained)
            counts = TokenCounts()
            with (
                add_split(tokenized, name, features) as write,
                tqdm(total=examples, desc="tokenize", unit=" examples", disable=None) as progress,
            ):
                texts = portions(stream_rows(files.raw, name), examples)
                for tokens, was_cut in tokenize_rows(tokenizer, config, features, texts, p.cut, place=place):
                    write(pa.Table.from_batches([tokens]))
                    counts.add(tokens, was_cut)
                    progress.update(len(was_cut))
            facts.append({"split": name, **counts.facts()})
            say_what_was_cut(facts[-1], p.max_length)
        write_json(tokenized / LIMIT_FILE, limit(p))
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
    cut: Cut,
    *,
    place: Place,
) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
    """Yields the tokens of each batch of rows, and of which rows some are not among them: bool[rows].

    Args:
        tokenizer: as is `config`, from `load_tokenizer`.

    Raises:
        BadInput: the model cannot answer a row.
    """
    done = 0
    for texts in rows:
        tokens, was_cut = encode(tokenizer, features, texts, cut)
        check_tokens(tokens, texts, tokenizer, config, place=place, before=done)
        yield tokens, was_cut
        done += len(was_cut)


def input_names(tokenizer: Any, config: Any) -> list[str]:
    """Returns the columns that the model is fed: no mask, and no token types where it tells no types apart.

    Tokenizers give token types to models that have no embedding for them (RoBERTa has one type, DistilBERT none).
    """
    unused = {"attention_mask"}
    if getattr(config, "type_vocab_size", 0) < 2 and config.model_type not in RELATIVE_TYPES:
        unused.add("token_type_ids")
    return [name for name in tokenizer.model_input_names if name not in unused]


def token_features(names: list[str], raw: Features, *, windows: bool) -> Features:
    """Returns the columns of the tokenized rows; token types are 0 or 1: a byte each, where the default takes eight.

    Args:
        raw: the columns of the texts, whose `label`, `idx` and `id` are kept where they have them.
        windows: whether a text may have several: their tokens follow one another, and `windows` has their lengths.
    """
    types = {"input_ids": List(Value("int32")), "token_type_ids": List(Value("int8"))}
    kept = {name: raw[name] for name in ("label", "idx", "id") if name in raw}
    lengths = {"windows": List(Value("int32"))} if windows else {}
    return Features({name: types[name] for name in names} | lengths | kept | {"length": Value("int32")})


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


def encode(tokenizer: Any, features: Features, texts: pa.RecordBatch, cut: Cut) -> tuple[pa.RecordBatch, np.ndarray]:
    """Tokenizes rows: what `tokenizer(..., truncation="longest_first")` gives, without its lists of lists.

    Returns:
        The tokenized rows, and of which of them some tokens are left out: bool[rows].
    """
    inputs = texts["text"].to_pylist()
    if "text_pair" in texts.schema.names:
        inputs = list(zip(inputs, texts["text_pair"].to_pylist(), strict=True))
    encodings = tokenizer.backend_tokenizer.encode_batch_fast(inputs)
    uncut = np.fromiter(map(len, encodings), np.int32, len(encodings))
    ends = uncut.cumsum()
    lengths, was_cut = uncut.copy(), np.zeros(len(uncut), dtype=np.bool_)
    taken, done = [], 0  # places among the tokens of all rows one after the other
    windows = {row: [length] for row, length in enumerate(uncut.tolist())} if cut.in_windows else {}
    for row in np.flatnonzero(uncut > cut.max_length).tolist():
        start = ends[row] - uncut[row]
        inputs_of_row = cut.places(encodings[row].sequence_ids, tokenizer.truncation_side)
        taken += [np.arange(done, start), *(start + places for places in inputs_of_row)]
        done, windows[row] = ends[row], [len(places) for places in inputs_of_row]
        lengths[row] = sum(windows[row])
        was_cut[row] = len(np.unique(np.concatenate(inputs_of_row))) < uncut[row]
    take = np.concatenate([*taken, np.arange(done, ends[-1])])
    offsets = offsets_of(lengths)
    attributes = {"input_ids": "ids", "token_type_ids": "type_ids"}
    schema = features.arrow_schema

    def column(name: str) -> pa.Array:
        if name == "length":
            return pa.array(lengths)
        if name == "windows":
            of_rows = [windows[row] for row in range(len(uncut))]
            values = pa.array(np.fromiter(chain.from_iterable(of_rows), np.int32))
            counts = np.fromiter(map(len, of_rows), np.int32, len(of_rows))
            return pa.ListArray.from_arrays(offsets_of(counts), values, type=schema.field(name).type)
        if name not in attributes:
            return texts[name]
        kind = schema.field(name).type
        tokens = chain.from_iterable(getattr(encoding, attributes[name]) for encoding in encodings)
        values = np.fromiter(tokens, kind.value_type.to_pandas_dtype(), ends[-1])
        return pa.ListArray.from_arrays(offsets, values[take], type=kind)

    return pa.RecordBatch.from_arrays([column(name) for name in features], schema=schema), was_cut


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """Returns where lists of such lengths begin and end in their values, one after the other: int32[lists + 1]."""
    return np.concatenate([[0], lengths.cumsum()]).astype(np.int32)


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
        inputs = np.diff(tokens["windows"].offsets.to_numpy()) if "windows" in tokens.schema.names else 1
        others = np.flatnonzero(ends != inputs * count_ends(tokenizer, config, "text_pair" in texts.schema.names))
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


class TokenCounts:
    """Counts the tokens of a split's rows, and what was cut from them."""

    def __init__(self) -> None:
        self.lengths: list[np.ndarray] = []
        self.cut: list[np.ndarray] = []
        self.windows: list[np.ndarray] = []

    def add(self, tokens: pa.RecordBatch, was_cut: np.ndarray) -> None:
        """Counts some rows; `was_cut`, bool[rows], says of which some tokens are left out."""
        self.lengths.append(tokens["length"].to_numpy())
        self.cut.append(was_cut)
        if "windows" in tokens.schema.names:
            self.windows.append(np.diff(tokens["windows"].offsets.to_numpy()))

    def facts(self) -> dict[str, Any]:
        """Returns what metrics/truncation.json says of the split."""
        lengths, truncated = np.concatenate(self.lengths), int(sum(cut.sum() for cut in self.cut))
        facts: dict[str, Any] = {
            "examples": len(lengths),
            "truncated": truncated,
            "share": round(truncated / len(lengths), 6),
            "tokens": {
                "mean": round(float(lengths.mean()), 2),
                "median": float(np.median(lengths)),
                "longest": int(lengths.max()),
            },
        }
        if self.windows:
            windows = np.concatenate(self.windows)
            facts["windows"] = {
                "examples": int((windows > 1).sum()),
                "mean": round(float(windows.mean()), 2),
                "most": int(windows.max()),
            }
        return facts


def say_what_was_cut(facts: Mapping[str, Any], max_length: int) -> None:
    """Warns of a split with examples of which the model does not see all, and tells of those that have windows."""
    examples, split = facts["examples"], facts["split"]
    if facts["truncated"]:
        part = "in part " if "windows" in facts else ""
        warn(
            f"tokenize: {facts['truncated']} of {examples} {split} examples ({facts['share']:.1%}) "
            f"are longer than tokenize.max_length {max_length} and were {part}cut"
        )
    if "windows" in facts and (several := facts["windows"]["examples"]):
        warn(
            f"tokenize: {several} of {examples} {split} examples ({several / examples:.1%}) are longer than "
            f"tokenize.max_length {max_length} and are read in windows, at most {facts['windows']['most']} of them"
        )


def limit(p: TokenizeParams) -> dict[str, Any]:
    """Returns what train and predict are told: where texts were cut, and how the logits of windows become one."""
    windows = {"window_logits": p.window_logits} if p.cut.in_windows else {}
    return {"max_length": p.max_length, **windows}
