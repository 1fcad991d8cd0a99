"""Faster dropout on CPUs: torch draws the numbers of a mask one after the other, on one core."""

from functools import partial

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from stages.shared.model.speed_up import speed_up

GRAIN = 2**16  # a mask's numbers have 16 bits: p is kept to the nearest 65536th


class StepDropout:
    """Draws the dropout masks of a step from (seed, step, turn, rank) alone.

    Four numbers come out of one draw of NumPy's SFC64, ten times as fast as torch's Bernoulli numbers; and what a step
    drops does not depend on what was drawn before it, so a resumed training needs no state of it.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def start(self, step: int, turn: int, rank: int) -> None:
        """Begins the masks of one forward pass: the `turn`-th of the optimizer's step, in one of the processes."""
        self.place = [self.seed, step, turn, rank]
        self.generator = np.random.Generator(np.random.SFC64(self.place))

    def start_part(self, number: int) -> None:
        """Begins the masks of one of the parts that a forward pass is computed in, or, in the backward pass, again."""
        self.generator = np.random.Generator(np.random.SFC64([*self.place, number]))

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

    def drop(self, inputs: torch.Tensor, p: float) -> torch.Tensor:
        """Drops each of `inputs` with probability `p`, and scales the others up."""
        return inputs * self.mask(inputs, p)


class MaskedDropout(nn.Module):
    """`nn.Dropout` with the masks of a `StepDropout`."""

    def __init__(self, dropout: nn.Dropout, masks: StepDropout) -> None:
        super().__init__()
        self.p, self.masks = dropout.p, masks

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.masks.drop(inputs, self.p) if self.training and self.p > 0.0 else inputs


def draw_by_step(model: PreTrainedModel, seed: int) -> StepDropout:
    """Lets the model's dropout modules, and its attention where it is computed step by step, draw from a `StepDropout`.

    What a model drops otherwise is drawn by torch, as before.
    """
    masks = StepDropout(seed)
    speed_up(model, {nn.Dropout: partial(MaskedDropout, masks=masks)}, masks.drop)
    return masks
