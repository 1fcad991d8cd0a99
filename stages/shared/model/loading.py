"""Loads a text classifier and accounts for every tensor: transformers would draw missing ones and drop the rest."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.logging import disable_progress_bar

from stages.shared.runtime.errors import BadInput

NAMED = 3  # tensors that a message names


class Accounts(NamedTuple):
    """The tensors of the files that are not the model's, and those of the model that are not the files'."""

    missing: set[str]  # drawn at random
    mismatched: dict[str, tuple[list[int], list[int]]]  # drawn at random: the shape in the files, and in the model
    unexpected: set[str]  # left out


def load_classifier(folder: Path, **changes: Any) -> tuple[PreTrainedModel, Accounts]:
    """Loads the weights in fp32, and names of old kinds (gamma, beta) under those of today.

    How attention and experts are computed is ours to choose: a name for it in config.json, which may be that of a
    program on the Hub, is not heard.

    Args:
        changes: to config.json.

    Raises:
        BadInput: no model can be made of the files.
    """
    disable_progress_bar()  # that for loading the weights
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, dtype=torch.float32, **changes)
        config._attn_implementation = config._experts_implementation = None  # None: the best that torch has
        model, info = AutoModelForSequenceClassification.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # whether one may be of another shape, the caller decides
            output_loading_info=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except MemoryError:
        raise
    except Exception as error:  # of any kind: config.json may say anything
        raise BadInput(f"{folder}: cannot be loaded as a model: {_in_a_line(error)}") from None
    if info["error_msgs"]:
        raise BadInput(f"{folder}: the weights cannot be loaded: {' '.join(info['error_msgs'])[:300]}")
    mismatched = {name: (list(stored), list(wanted)) for name, stored, wanted in info["mismatched_keys"]}
    return model, Accounts(set(info["missing_keys"]), mismatched, set(info["unexpected_keys"]))


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Loads the tokenizer.

    Raises:
        BadInput: none can be made of the files.
    """
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # of any kind: that of tokenizers has no name
        raise BadInput(f"{folder}: cannot be loaded as a tokenizer: {_in_a_line(error)}") from None


def discrepancies(accounts: Accounts) -> list[str]:
    """Says in words what does not match, a few tensors named of each kind; an empty list where all does."""
    words = []
    if accounts.missing:
        words.append(f"{counted(len(accounts.missing))} missing ({listed(accounts.missing)})")
    if accounts.mismatched:
        shapes = {
            f"{name}: {stored} in the file, {wanted} by config.json"
            for name, (stored, wanted) in accounts.mismatched.items()
        }
        words.append(f"{counted(len(shapes))} of another shape ({listed(shapes)})")
    if accounts.unexpected:
        words.append(
            f"{counted(len(accounts.unexpected))} that the model has no place for ({listed(accounts.unexpected)})"
        )
    return words


def listed(names: set[str]) -> str:
    """Names the first few."""
    return ", ".join(sorted(names)[:NAMED]) + (", ..." if len(names) > NAMED else "")


def counted(tensors: int) -> str:
    """Says how many they are."""
    return f"{tensors} tensor{'s' if tensors != 1 else ''}"


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
