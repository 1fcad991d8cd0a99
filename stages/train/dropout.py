"""Dropout for processors: torch draws each number of its masks alone, one after the other, on one core."""

from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

ATTENTION = "sdpa_with_step_dropout"  # the name under which transformers finds `StepDropout.attention`
GRAIN = 2**16  # a mask's numbers have 16 bits: p is kept to the nearest 65536th


class StepDropout:
    """Draws the dropout masks of a step from (seed, step, turn, rank) alone.

    Four numbers come out of one draw of NumPy's SFC64, 15 times as fast as torch's Bernoulli numbers; and what a step
    drops does not depend on what was drawn before it, so a resumed training needs no state of it.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def start(self, step: int, turn: int, rank: int) -> None:
        """Begins the masks of one forward pass: the `turn`-th of the optimizer's step, in one of the processes."""
        self.generator = np.random.Generator(np.random.SFC64([self.seed, step, turn, rank]))

    def mask(self, like: torch.Tensor, p: float) -> torch.Tensor:
        """Returns 0 with probability `p`, else 1 / (1 - p), in the shape and dtype of `like`."""
        dropped = round(p * GRAIN)
        if dropped == GRAIN:
            return torch.zeros_like(like)
        draws = self.generator.integers(-(2**63), 2**63, size=-(-like.numel() // 4), dtype=np.int64)
        numbers = torch.from_numpy(draws).view(torch.int16)[: like.numel()].view(like.shape)
        mask = torch.empty_like(like, memory_format=torch.contiguous_format)
        torch.ge(numbers, dropped - GRAIN // 2, out=mask)
        return mask.mul_(GRAIN / (GRAIN - dropped))

    def attention(
        self,
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        dropout: float = 0.0,
        scaling: float | None = None,
        **options: Any,
    ) -> tuple[torch.Tensor, None]:
        """Computes what transformers' `sdpa` does, in the one case where torch has no fast kernel: with dropout.

        Args:
            query, key, value: [batch, heads, tokens, width].
            attention_mask: bool[batch, 1, tokens, tokens], true where a token may look; None: everywhere.

        Returns:
            [batch, tokens, heads, width], and no attention weights.
        """
        causal = options.get("is_causal")
        causal = getattr(module, "is_causal", True) if causal is None else causal
        special = any(options.get(name) is not None for name in ("cache", "position_bias", "softcap"))
        if dropout == 0.0 or special or query.shape != key.shape or (causal and attention_mask is None):
            return sdpa_attention_forward(
                module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
            )
        scores = torch.matmul(query * (query.shape[-1] ** -0.5 if scaling is None else scaling), key.transpose(2, 3))
        if attention_mask is not None:
            hidden = torch.finfo(scores.dtype).min
            scores = scores + torch.zeros_like(attention_mask, dtype=scores.dtype).masked_fill_(~attention_mask, hidden)
        weights = torch.softmax(scores, dim=-1, dtype=scores.dtype)
        weights = weights * self.mask(weights, dropout)
        return torch.matmul(weights, value).transpose(1, 2).contiguous(), None


class _Dropout(nn.Module):
    """`nn.Dropout` with the masks of a `StepDropout`."""

    def __init__(self, p: float, masks: StepDropout) -> None:
        super().__init__()
        self.p, self.masks = p, masks

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs * self.masks.mask(inputs, self.p) if self.training and self.p > 0.0 else inputs


def draw_by_step(model: PreTrainedModel, seed: int) -> StepDropout:
    """Lets the model's dropout modules, and its attention where it is `sdpa`, take their masks from a `StepDropout`.

    What a model drops otherwise is drawn by torch, as before.
    """
    masks = StepDropout(seed)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Dropout:
                setattr(parent, name, _Dropout(child.p, masks))
    if model.config._attn_implementation == "sdpa":
        AttentionInterface.register(ATTENTION, masks.attention)
        AttentionMaskInterface.register(ATTENTION, sdpa_mask)
        model.set_attn_implementation(ATTENTION)
    return masks
