"""Loads the tokenizer and config of a checkpoint, and refuses those that do not work."""

from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from stages.shared.runtime.errors import BadInput

# Models that number their positions from behind the padding's, and so take that many tokens fewer.
BEHIND_PADDING = (
    *("camembert", "data2vec-text", "esm", "ibert", "layoutlmv3", "lilt", "longformer", "luke", "markuplm", "mpnet"),
    *("roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"),
)
# Encoder-decoders that answer at the text's last <eos>, and want as many of them in each row of a batch.
COUNT_EOS = ("bart", "bigbird_pegasus", "mbart", "mt5", "mvp", "plbart", "t5", "umt5")
INPUTS = ("input_ids", "token_type_ids", "attention_mask")  # what can be made of a text alone


def load_tokenizer(pretrained_dir: Path, max_length: int) -> tuple[Any, Any]:
    """Loads the checkpoint's fast tokenizer and config, and makes sure that the model takes batches of `max_length`."""
    try:
        config = AutoConfig.from_pretrained(pretrained_dir, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(pretrained_dir, trust_remote_code=False)
    except Exception as error:  # whatever its files hold, and packages that it needs
        said = " ".join(str(error).split())[:200]
        raise BadInput(f"{pretrained_dir}: config or tokenizer cannot be loaded: {said}") from error
    check_model(pretrained_dir, config)
    if not tokenizer.is_fast:
        raise BadInput(
            f"{pretrained_dir}: {type(tokenizer).__name__} is a tokenizer in Python, too slow for a corpus; use a "
            "checkpoint with a tokenizer.json, or with files from which transformers makes one"
        )
    check_inputs(pretrained_dir, tokenizer)
    if tokenizer.pad_token is None:
        raise BadInput(f"{pretrained_dir}: the tokenizer has no padding token, so no batch can be made; use an encoder")
    if padding_of(config) is None:  # a decoder would look for its last token in vain
        raise BadInput(
            f"{pretrained_dir}: config.json has no pad_token_id, so padding cannot be told from text; use an encoder, "
            f"or set it to {tokenizer.pad_token_id}, the tokenizer's {tokenizer.pad_token!r}"
        )
    if config.model_type in COUNT_EOS and not count_ends(tokenizer, config, pairs=False):
        raise BadInput(
            f"{pretrained_dir}: {config.model_type} classifies at the last token with id {config.eos_token_id} "
            "(eos_token_id in config.json), which the tokenizer does not add; use the tokenizer that belongs to "
            "the weights"
        )
    if 0 < positions(config) < max_length:
        raise BadInput(
            f"params.yaml: tokenize.max_length: the checkpoint takes at most {positions(config)} tokens, "
            f"got {max_length}"
        )
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()  # see `Cut.places`
    return tokenizer, config


def check_model(pretrained_dir: Path, config: Any) -> None:
    """Makes sure that transformers has a model of this type that classifies texts, and the same one for all batches.

    Raises:
        BadInput: it has none, or one that computes otherwise after a short batch than before.
    """
    if config.model_type not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        raise BadInput(
            f"{pretrained_dir}: transformers has no text classifier for model_type {config.model_type} "
            "(config.json); use one of the types in docs/checkpoints.md"
        )
    if getattr(config, "attention_type", None) == "block_sparse":
        raise BadInput(
            f"{pretrained_dir}: with attention_type block_sparse (config.json), the model changes its attention "
            "for good at the first short batch, so its answers depend on the order of the texts; set it to "
            "original_full"
        )


def check_inputs(pretrained_dir: Path, tokenizer: Any) -> None:
    """Makes sure that a text is all that the tokenizer wants, and the tokenizer's inputs all that the model is fed.

    Raises:
        BadInput: it wants words with their places on a page, say, or hands out inputs that no text tells.
    """
    kind = type(tokenizer).__name__
    try:
        called = tokenizer("a", "b")  # as `pipeline` calls it
    except (TypeError, ValueError, AttributeError, AssertionError) as error:
        said = " ".join(str(error).split())[:120]
        raise BadInput(f"{pretrained_dir}: {kind} does not accept plain text ({said}); use a text-only model") from None
    if called["input_ids"] != tokenizer.backend_tokenizer.encode("a", "b").ids:
        raise BadInput(
            f"{pretrained_dir}: {kind} tokenizes texts differently from its tokenizer.json; use another model"
        )
    others = sorted({*called, *tokenizer.model_input_names} - set(INPUTS))
    if others:
        raise BadInput(
            f"{pretrained_dir}: the model needs {', '.join(others)} (from {kind}), which plain text does not have; "
            "use a text-only model"
        )


def count_ends(tokenizer: Any, config: Any, pairs: bool) -> int:
    """Returns how many <eos> the tokenizer puts into a row."""
    ids = tokenizer.backend_tokenizer.encode("a", "a" if pairs else None).ids
    return int(ids.count(config.eos_token_id))


def padding_of(config: Any) -> int | None:
    """Returns the token id that the model takes for padding."""
    own = getattr(config, "pad_token_id", None)
    return getattr(config.get_text_config(), "pad_token_id", None) if own is None else own


def positions(config: Any) -> int:
    """Returns how many tokens the model takes at most, 0 where config.json tells no limit."""
    text = config.get_text_config()
    limit = getattr(text, "max_position_embeddings", None) or getattr(text, "max_seq_len", None) or 0
    if config.model_type in BEHIND_PADDING:
        limit -= (padding_of(config) or 0) + 1
    return max(limit, 0)  # XLNet's -1 is no limit
