"""Attention step by step, where torch's own kernels are slow on CPUs: bf16, and dropout in any precision."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAME = "sdpa_step_by_step"  # under which transformers finds it
LARGEST = 2**26  # scores at once, where nothing is dropped; more are for torch, which never holds them all

Drop = Callable[[torch.Tensor, float], torch.Tensor]


def attend_step_by_step(model: PreTrainedModel, drop: Drop) -> None:
    """Gives the model this attention in place of `sdpa`; `drop` applies dropout to the attention's weights."""
    if model.config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, attention(drop))
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)


def attention(drop: Drop) -> Callable[..., tuple[torch.Tensor, None]]:
    """Returns what stands in for transformers' `sdpa`, and leaves to it what it does well or is special.

    In bf16 the scores are rounded to bf16, which torch's own kernels avoid.
    """

    def attend(
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        dropout: float = 0.0,
        scaling: float | None = None,
        **options: Any,
    ) -> tuple[torch.Tensor, None]:
        """Computes one layer's attention.

        Args:
            query, key, value: [batch, heads, tokens, width].
            attention_mask: bool[batch, 1, tokens, tokens], true where a token may look; None: everywhere.

        Returns:
            [batch, tokens, heads, width], and no attention weights.
        """
        causal = options.get("is_causal")
        causal = getattr(module, "is_causal", True) if causal is None else causal
        special = any(options.get(name) is not None for name in ("cache", "position_bias", "softcap"))
        special = special or (attention_mask is not None and attention_mask.dtype != torch.bool)
        long = query.requires_grad or query[..., 0].numel() * key.shape[2] > LARGEST  # gradients keep all layers'
        fast = dropout == 0.0 and (query.dtype != torch.bfloat16 or long)
        if fast or special or query.shape != key.shape or (causal and attention_mask is None):
            return sdpa_attention_forward(
                module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
            )
        scores = torch.matmul(query * (query.shape[-1] ** -0.5 if scaling is None else scaling), key.transpose(2, 3))
        if attention_mask is not None:
            hidden = torch.finfo(scores.dtype).min
            scores = scores + torch.zeros_like(attention_mask, dtype=scores.dtype).masked_fill_(~attention_mask, hidden)
        # in fp32: torch's softmax of bf16 takes twice as long as both conversions and this
        weights = torch.softmax(scores.float(), dim=-1).to(scores.dtype)
        if dropout > 0.0:
            weights = drop(weights, dropout)
        return torch.matmul(weights, value).transpose(1, 2).contiguous(), None

    return attend
