"""Linear layers for prediction in bf16 on processors: weights are converted and laid out for the processor once."""

from functools import partial

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel


def supported() -> bool:
    """Says whether torch and this processor can do it."""
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def pack_linear_layers(model: PreTrainedModel, tokens: int) -> None:
    """Makes the model's linear layers compute sooner what they compute anyway under autocast to bf16.

    Otherwise each batch converts the weights anew, and writes the bias into the output before adding the product to it.
    torch keeps this for its compiler, without a public name. No gradient passes. `tokens` is a batch's usual size.
    """
    if not supported():
        return
    with torch.no_grad():
        for layer in model.modules():
            if type(layer) is nn.Linear:
                weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.to(torch.bfloat16), tokens)
                bias = None if layer.bias is None else layer.bias.to(torch.bfloat16)
                layer.forward = partial(_linear, layer, weight, bias)  # type: ignore[method-assign]


def _linear(layer: nn.Linear, weight: torch.Tensor, bias: torch.Tensor | None, inputs: torch.Tensor) -> torch.Tensor:
    if not torch.is_autocast_enabled("cpu"):  # where a model asks for all digits
        return functional.linear(inputs, layer.weight, layer.bias)
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(inputs.to(torch.bfloat16), weight, bias, "none", [], "")
    return product
