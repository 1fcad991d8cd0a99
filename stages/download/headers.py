"""Checks config.json and the headers of the safetensors before the checkpoint is loaded.

Only what is certain is refused here: whether each tensor has its place in the model, `train` sees when it loads them.
"""

import importlib.util
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from stages.shared.runtime.errors import BadInput

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
LFS_POINTER = b"version https://git-lfs.github.com/spec/"  # what Git leaves in place of a large file it did not fetch
FLOATS = ("F64", "F32", "F16", "BF16")
# What wraps a model for training or adapts it puts before the name of every tensor.
WRAPPERS = ("module.", "_orig_mod.", "_fsdp_wrapped_module.", "base_model.model.")
ADAPTER = re.compile(r"\.lora_(A|B)\.|\.lora_embedding_(A|B)")
NAMED = 3  # tensors that a message names

# Sizes in config.json that encoders call by the same names: the tensors that have them, in which place of their shape.
SIZES = (
    (re.compile(r"(^|\.)word_embeddings\.weight$"), 0, "vocab_size"),
    (re.compile(r"(^|\.)token_type_embeddings\.weight$"), 0, "type_vocab_size"),
    (re.compile(r"(^|\.)encoder\.layer\.\d+\.intermediate\.dense\.weight$"), 0, "intermediate_size"),
)
# Others have embeddings that are narrower than their layers, or more positions than they say.
PLAIN = ("bert", "camembert", "mpnet", "roberta", "xlm-roberta")
PLAIN_SIZES = (
    (re.compile(r"(^|\.)word_embeddings\.weight$"), 1, "hidden_size"),
    (re.compile(r"(^|\.)position_embeddings\.weight$"), 0, "max_position_embeddings"),
)
LAYER, LAYERS = re.compile(r"(^|\.)encoder\.layer\.(\d+)\."), "num_hidden_layers"
WHOLE_NUMBERS = ("vocab_size", "hidden_size", "intermediate_size", LAYERS)
# What transformers takes apart when it reads a config: the type in JSON, and what a message calls it.
KINDS = {
    "architectures": (list, "a list of names"),
    "id2label": (dict, "an object with a name for each number"),
    "label2id": (dict, "an object with a number for each name"),
    "problem_type": (str, "a text"),
}

# A size that no weights can have is memory that somebody will ask for. A layer has at least one tensor, unless layers
# share theirs; a width is a side of a tensor; positions have a table, or are computed, and cost nothing.
COUNTS, MAX_COUNT = re.compile(r"layer|block|group|expert"), 1000
POSITIONS, MAX_POSITIONS = re.compile(r"position"), 2**24
POSITION_TABLE = re.compile(r"position|wpe|pos_emb")
AXIAL = ("reformer",)  # Its table of positions is two small ones, of rows and of columns.
WIDTHS, MIN_WIDTH = re.compile(r"(^|_)(size|dim|d|n_embd|hidden|width|channels|buckets|embeddings)(_|$)"), 4096
NO_WIDTHS = re.compile(r"chunk|window|cache|image|patch")
LABELS, MAX_LABELS = re.compile(r"num_labels"), 2**20
MAX_NUMBER = 2**31  # of any kind
MAX_JSON_BYTES = 2**25  # of config.json and the index of shards; tokenizer.json is larger, but not read here


class Tensor(NamedTuple):
    """A tensor as its header describes it."""

    dtype: str  # as safetensors calls it
    shape: tuple[int, ...]


def check_checkpoint(folder: Path, place: str) -> None:
    """Makes sure that the files of a checkpoint are whole and of a kind that can be trained, and fit one another.

    Args:
        place: what to call the folder in a message, for it may be a copy.

    Raises:
        BadInput: they are not or do not.
    """
    for file in sorted(folder.iterdir()):
        with file.open("rb") as stream:
            if stream.read(len(LFS_POINTER)) == LFS_POINTER:
                raise BadInput(
                    f"{place}/{file.name}: a pointer of Git LFS, not the file itself; run `git lfs pull` where it "
                    "was cloned, or download it again"
                )
    config = _read_object(folder, "config.json", place)
    _check_config(config, f"{place}/config.json")
    tensors = _read_tensors(folder, place)
    _check_names(tensors, place)
    _check_sizes(tensors, config, place)
    _check_possible(tensors, config, f"{place}/config.json")


def text_classifiers() -> list[str]:
    """Returns the `model_type`s that transformers classifies texts with, as its source has them: no import."""
    package = importlib.util.find_spec("transformers")
    assert package is not None and package.origin is not None
    source = (Path(package.origin).parent / "models" / "auto" / "modeling_auto.py").read_text(encoding="utf-8")
    table = source.partition("\nMODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES = OrderedDict(")[2].partition("\n)")[0]
    return re.findall(r'^ *\("([^"]+)", "[^"]+"\),$', table, re.MULTILINE)


def _check_config(config: Mapping[str, Any], file: str) -> None:
    kind = config.get("model_type")
    if not isinstance(kind, str):
        raise BadInput(f"{file}: no model_type, which says what the model is (bert, roberta, ...); add it")
    if kind not in text_classifiers():
        if config.get("auto_map"):
            raise BadInput(
                f"{file}: model_type {kind!r} needs the code that auto_map names, and downloaded code is never "
                "run; use a checkpoint of a type that transformers includes"
            )
        raise BadInput(
            f"{file}: transformers has no text classifier for model_type {kind!r}; use one of the types in "
            "docs/checkpoints.md"
        )
    for key in WHOLE_NUMBERS:
        value = config.get(key)
        if value is not None and (type(value) is not int or value < 1):
            raise BadInput(f"{file}: {key}: expected a whole number above 0, got {_quoted(value)}")
    for key, (expected, words) in KINDS.items():
        value = config.get(key)
        if value is not None and not isinstance(value, expected):
            raise BadInput(f"{file}: {key}: expected {words}, got {_quoted(value)}")
    if any(key == "quantization_config" and value for key, value in _members(config)):
        raise BadInput(
            f"{file}: quantization_config: quantized weights cannot be trained; use the unquantized checkpoint"
        )


def _check_possible(tensors: Mapping[str, Tensor], config: Mapping[str, Any], file: str) -> None:
    """Refuses sizes that no model with these weights can have, whatever its type calls them."""
    elements = sum(math.prod(tensor.shape) for tensor in tensors.values())
    tables = [max(tensor.shape, default=0) for name, tensor in tensors.items() if POSITION_TABLE.search(name)]
    has_table = tables and config["model_type"] not in AXIAL
    limits = (
        (COUNTS, max(MAX_COUNT, len(tensors))),
        (LABELS, MAX_LABELS),
        (POSITIONS, max(MIN_WIDTH, *tables) if has_table else MAX_POSITIONS),
        (WIDTHS, max(MIN_WIDTH, elements)),
    )
    for key, value in _members(config):
        if type(value) is not int:
            continue
        limit = next((limit for pattern, limit in limits if pattern.search(key)), MAX_NUMBER)
        limit = MAX_NUMBER if NO_WIDTHS.search(key) else limit
        if abs(value) > limit:
            raise BadInput(
                f"{file}: {key} is {_quoted(value)}, more than a model with these weights can have ({limit}); "
                "use the config.json that belongs to the weights"
            )


def _members(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yields the keys and values of an object, and those of what lies in it; what lies in a list has the list's key."""
    rest: list[tuple[str, Any]] = list(config.items())
    while rest:
        key, value = rest.pop()
        yield key, value
        if isinstance(value, dict):
            rest += value.items()
        elif isinstance(value, list):
            rest += ((key, member) for member in value)


def _quoted(value: Any) -> str:
    """Writes the beginning of a value of JSON."""
    try:
        return json.dumps(value)[:40]
    except (ValueError, RecursionError):  # a number of more digits, or lists in more lists, than Python writes
        return f"a {type(value).__name__}"


def _read_object(folder: Path, name: str, place: str) -> dict[str, Any]:
    if (folder / name).stat().st_size > MAX_JSON_BYTES:
        raise BadInput(f"{place}/{name}: more than {MAX_JSON_BYTES // 2**20} MiB; download it again")
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{place}/{name}: not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise BadInput(f"{place}/{name}: expected a JSON object, got {_quoted(content)}")
    return content


def _read_tensors(folder: Path, place: str) -> dict[str, Tensor]:
    """Returns all tensors by name. Of one file and an index, the file counts, as for transformers."""
    if (folder / WEIGHTS).exists():
        tensors = _read_header(folder / WEIGHTS, f"{place}/{WEIGHTS}")
    else:
        tensors = _read_shards(folder, place)
    if not tensors:
        raise BadInput(f"{place}: no tensors in its safetensors; download them again")
    return tensors


def _read_shards(folder: Path, place: str) -> dict[str, Tensor]:
    shard_of = _read_object(folder, INDEX, place).get("weight_map")
    if not isinstance(shard_of, dict) or not all(isinstance(shard, str) for shard in shard_of.values()):
        raise BadInput(f"{place}/{INDEX}: weight_map: expected the name of a file for each tensor")
    tensors: dict[str, Tensor] = {}
    there = {file.name for file in folder.iterdir() if file.is_file()}
    for shard in sorted(set(shard_of.values())):
        if Path(shard).name != shard or shard == "..":
            raise BadInput(
                f"{place}/{INDEX}: {shard[:200]!r} is outside the checkpoint; expected the name of a file in it"
            )
        if shard not in there:
            raise BadInput(
                f"{place}/{INDEX}: names {shard[:200]}, which is not there; download it too "
                "(the files are called model-00001-of-00002.safetensors, and so on)"
            )
        found = _read_header(folder / shard, f"{place}/{shard}")
        lacking = [name for name, file in shard_of.items() if file == shard and name not in found]
        if lacking:
            raise BadInput(
                f"{place}/{shard}: has no {_listed(lacking)}, although {INDEX} says so; download both again, from "
                "one commit"
            )
        tensors |= found
    return tensors


def _read_header(file: Path, called: str) -> dict[str, Tensor]:
    """Reads names, types and shapes; safetensors makes sure that they cover the file from end to end."""
    try:
        with safe_open(file, framework="numpy") as weights:
            slices = {name: weights.get_slice(name) for name in weights.keys()}  # noqa: SIM118
            return {name: Tensor(part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
    except (SafetensorError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise BadInput(f"{called}: cut off, or not a safetensors file ({reason}); download it again") from None


def _check_names(tensors: Mapping[str, Tensor], place: str) -> None:
    adapters = [name for name in tensors if ADAPTER.search(name)]
    if adapters:
        raise BadInput(
            f"{place}: has adapter weights beside those of a model ({_listed(adapters)}); merge them "
            "(`merge_and_unload()` of peft) and save the model again"
        )
    prefix = next((prefix for prefix in WRAPPERS if all(name.startswith(prefix) for name in tensors)), None)
    if prefix:
        raise BadInput(
            f"{place}: the name of every tensor begins with {prefix!r}, because the model was saved inside a "
            "wrapper; save the model itself (`model.module.save_pretrained(...)` or the like)"
        )
    quantized = {name: tensor for name, tensor in tensors.items() if name.endswith(".weight")}
    quantized = {name: tensor for name, tensor in quantized.items() if tensor.dtype not in FLOATS}
    if quantized:
        kinds = ", ".join(sorted({tensor.dtype for tensor in quantized.values()}))
        raise BadInput(
            f"{place}: weights of type {kinds} ({_listed(list(quantized))}) cannot be trained; use the unquantized "
            f"checkpoint, in {', '.join(FLOATS)}"
        )


def _check_sizes(tensors: Mapping[str, Tensor], config: Mapping[str, Any], place: str) -> None:
    sizes = SIZES + (PLAIN_SIZES if config["model_type"] in PLAIN else ())
    for name, tensor in tensors.items():
        for pattern, axis, key in sizes:
            size = config.get(key)
            if type(size) is int and pattern.search(name) and len(tensor.shape) == 2 and tensor.shape[axis] != size:
                raise BadInput(
                    f"{place}/config.json: {key} is {size}, but {name} has the shape {list(tensor.shape)}, which "
                    f"needs {tensor.shape[axis]}; use the config.json that belongs to the weights"
                )
    layers = {int(match[2]) for match in map(LAYER.search, tensors) if match}
    number = config.get(LAYERS)
    if layers and type(number) is int and (len(layers) != number or max(layers) != number - 1):
        raise BadInput(
            f"{place}/config.json: {LAYERS} is {config[LAYERS]}, but the weights have {len(layers)} layers; use "
            "the config.json that belongs to the weights"
        )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
