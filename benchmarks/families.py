"""Tiny models of every type with which transformers classifies texts, each with a fast tokenizer."""

import inspect
import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

from tests.tiny import sample_texts, wordpieces

TYPES = sorted(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES)
WIDTH = 48  # positions; the texts of the sample are cut to it

# What a config may say of its model's size. A nested config is made of the same.
SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "emb_dim", "d_latents"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_layers", "num_decoder_layers", "num_self_attends_per_block"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("num_self_attention_heads", "num_cross_attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "num_query_groups"), 2),
    **dict.fromkeys(("head_dim", "d_head", "d_kv", "kv_channels", "attention_head_size"), 8),
    **dict.fromkeys(("intermediate_size", "hidden_dim", "dff", "d_ff", "d_inner", "ffn_dim", "ffn_hidden_size"), 64),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim", "feed_forward_size"), 64),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 16),
    **dict.fromkeys(("embedding_size", "input_embedding_size", "output_embedding_size", "pooler_hidden_size"), 32),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len"), WIDTH),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk"), 2),
    **dict.fromkeys(("n_group", "topk_group", "first_k_dense_replace"), 1),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "v_head_dim", "qk_nope_head_dim", "index_head_dim"), 8),
    **dict.fromkeys(("qk_rope_head_dim", "query_pre_attn_scalar"), 8),
    "qk_head_dim": 16,
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 8),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), 2),
    **dict.fromkeys(("sliding_window", "local_attention", "window_size", "attention_window"), 16),
    **dict.fromkeys(("initializer_range", "init_std"), 0.1),  # about what 0.02 is for a width of 768
    **dict.fromkeys(("mamba_d_state", "mamba_d_conv", "mamba_dt_rank"), 4),
}

FULL = {"rope_theta": 10000.0, "rope_type": "default"}
# What the sizes above do not say, or say wrongly, for one type.
OVERRIDES: dict[str, dict[str, Any]] = {
    **{
        name: {"num_key_value_heads": 4}
        for name in ("axk1", "axk2", "deepseek_v2", "deepseek_v3", "minicpm3", "mistral4")
    },
    "cohere_compass_text": {"rope_parameters": {"full_attention": FULL | {"mrope_section": [2, 1, 1]}}},
    "esmc": {"num_key_value_heads": 4},
    "falcon": {"head_dim": None},
    "funnel": {"block_sizes": [1, 1], "num_hidden_layers": None},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "gptj": {"rotary_dim": 4},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "layoutlmv3": {"coordinate_size": 6, "shape_size": 4, "input_size": 32},
    "mistral4": {"num_key_value_heads": 4, "head_dim": None},
    "lilt": {"hidden_size": 48},
    "luke": {"entity_vocab_size": 10, "entity_emb_size": 8},
    **{
        name: {"layer_types": ["linear_attention", "full_attention"]}
        for name in ("qwen3_5", "qwen3_5_text", "qwen3_next")
    },
    "reformer": {
        "axial_pos_shape": [6, 8],
        "axial_pos_embds_dim": [16, 16],
        "attn_layers": ["local", "lsh"],
        "num_hidden_layers": None,
        "local_attn_chunk_length": 8,
        "lsh_attn_chunk_length": 8,
    },
    "roc_bert": dict.fromkeys(("pronunciation_vocab_size", "shape_vocab_size"), 10)
    | dict.fromkeys(("pronunciation_embed_dim", "shape_embed_dim"), 8),
    "xlnet": {"max_position_embeddings": None},
    "zamba": {"layers_block_type": ["linear_attention", "hybrid", "hybrid"], "num_hidden_layers": 3},
    "zamba2": {"layers_block_type": ["linear_attention", "hybrid"], "head_dim": None, "num_query_groups": None},
}


def make(model_type: str, folder: Path) -> Path:
    """Leaves config, tokenizer and safetensors of a random model, the same bytes each time."""
    tokenizer = own_tokenizer(model_type) or generic_tokenizer()
    tokenizer.save_pretrained(folder)
    config = shrunk(hf.CONFIG_MAPPING[model_type], token_ids(tokenizer) | OVERRIDES.get(model_type, {}))
    torch.manual_seed(0)
    try:
        model(config).save_pretrained(folder)
    except ImportError:  # a package for images; tokenize needs no weights to refuse it
        config.save_pretrained(folder)
        save_file({}, folder / "model.safetensors")
    return folder


def model(config: Any) -> Any:
    """Returns a random model without a head, where the type has one."""
    try:
        return hf.AutoModel.from_config(config)
    except (TypeError, ValueError):
        return hf.AutoModelForSequenceClassification.from_config(config)


def shrunk(kind: Any, values: dict[str, Any]) -> Any:
    """Returns a config of class `kind` with `SIZES` and `values`, as far as it knows them; None leaves its own."""
    full = kind()
    given = {name: value for name, value in (SIZES | values).items() if value is not None and hasattr(full, name)}
    if full.is_encoder_decoder:  # T5's class knows it from the files alone
        given["decoder_start_token_id"] = values["decoder_start_token_id"]
    for name in kind.sub_configs:
        if getattr(full, name, None) is not None:
            given[name] = shrunk(type(getattr(full, name)), values)
    return kind(**given)


def token_ids(tokenizer: Any) -> dict[str, Any]:
    """Returns what a config says of its tokenizer."""
    names = ("pad", "bos", "eos", "cls", "sep")
    ids = {name: getattr(tokenizer, f"{name}_token_id") for name in names}
    return {
        "vocab_size": len(tokenizer),
        **{f"{name}_token_id": ids[name] for name in names},
        **{f"{name}_index": ids[name] for name in ("pad", "bos", "eos")},  # XLM's names
        "decoder_start_token_id": ids["eos"],
    }


def tokenizer_class(model_type: str) -> str:
    """Says of which class the tokenizers of this type's published checkpoints are, and where it is not a fast one."""
    name = TOKENIZER_MAPPING_NAMES.get(model_type)
    kind = getattr(hf, name or "", hf.PreTrainedTokenizerFast)
    if kind is hf.PreTrainedTokenizerFast:
        return "tokenizer.json"
    if not issubclass(kind, hf.PreTrainedTokenizerFast):
        return f"{name}, in Python: needs a tokenizer.json instead"
    if own_tokenizer(model_type) is None:
        return f"{name}, of a package that is not installed: needs a tokenizer.json instead"
    return f"{name}"


def own_tokenizer(model_type: str) -> Any:
    """Returns a fast tokenizer of the class that transformers has for this type, or None."""
    kind = getattr(hf, TOKENIZER_MAPPING_NAMES.get(model_type) or "", None)
    if kind is None or not issubclass(kind, hf.PreTrainedTokenizerFast) or kind is hf.PreTrainedTokenizerFast:
        return None
    parameters = inspect.signature(kind.__init__).parameters
    default = {name: parameter.default for name, parameter in parameters.items() if name.endswith("_token")}
    names = [f"{name}_token" for name in ("pad", "unk", "bos", "cls", "eos", "sep", "mask")]
    special = list(dict.fromkeys(default[name] for name in names if default.get(name)))
    added: dict[str, Any] = {}
    if not default.get("pad_token"):  # most decoders have none, and are refused without
        added, special = {"pad_token": "<pad>"}, ["<pad>", *special]
    algorithm = getattr(kind, "model", models.Unigram)
    if algorithm is models.WordPiece:
        added["vocab"] = {token: index for index, token in enumerate([*special, *wordpieces()])}
    elif algorithm is models.BPE:
        added |= byte_pairs(*special)
    else:
        added["vocab"] = [*((token, 0.0) for token in special), *unigrams()]
    if "tags_dict" in parameters:
        added["tags_dict"] = {"p": 0}
    try:
        return kind(**added)
    except (ImportError, TypeError):  # needs a package of its own, or cannot say how it cuts
        return None


@cache
def byte_pairs(*special: str) -> dict[str, Any]:
    """Learns a byte-level BPE from the sample."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sample_texts(), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return {"vocab": model["vocab"], "merges": [tuple(merge) for merge in model["merges"]]}


@cache
def unigrams() -> list[tuple[str, float]]:
    """Learns pieces and their log probabilities from the sample."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(sample_texts(), trainers.UnigramTrainer(vocab_size=300, show_progress=False))
    return [tuple(piece) for piece in json.loads(tokenizer.to_str())["model"]["vocab"]]


def generic_tokenizer() -> Any:
    """Returns a byte-level BPE of no class of its own, with `<s>` before a text and `</s>` behind it."""
    learned = byte_pairs("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    tokenizer = Tokenizer(models.BPE(learned["vocab"], learned["merges"]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    named = {"bos": "<s>", "eos": "</s>", "cls": "<s>", "sep": "</s>", "unk": "<unk>", "pad": "<pad>", "mask": "<mask>"}
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "attention_mask"],
        **{f"{name}_token": token for name, token in named.items()},
    )
