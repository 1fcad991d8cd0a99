"""Replaces modules of a model that torch computes slowly on CPUs."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from stages.shared.model.attention import Drop, attend_step_by_step

Replacements = Mapping[type[nn.Module], Callable[[Any], nn.Module]]  # class of modules -> what makes one's replacement


def speed_up(model: PreTrainedModel, replacements: Replacements, drop: Drop = functional.dropout) -> None:
    """Replaces modules of a model, and its attention where that is torch's `sdpa`.

    Args:
        drop: applies dropout to the attention's weights.
    """
    replace_modules(model, replacements)
    attend_step_by_step(model, drop)


def replace_modules(model: nn.Module, replacements: Replacements) -> None:
    """Replaces modules below `model` by their class; a subclass stays, for it may compute something else."""
    made: dict[nn.Module, nn.Module] = {}  # a module that stands in two places is one module afterwards, too
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) in replacements:
                if child not in made:
                    made[child] = replacements[type(child)](child)
                setattr(parent, name, made[child])
