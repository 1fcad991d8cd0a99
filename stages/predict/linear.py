"""Linear layers for prediction on CPUs, with weights that are packed once, and converted first if in bf16."""

import torch
from torch import nn

from stages.shared.model.linear import has_one_dnn, product


def supported(dtype: torch.dtype) -> bool:
    """Says whether torch and this processor can do it."""
    return has_one_dnn() and (dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()))


class PackedLinear(nn.Linear):
    """Computes sooner what a linear layer computes in float32, or under autocast to bf16; no gradient passes.

    Otherwise each batch lays out the weights anew, under autocast it converts them too, and writes the bias into the
    output before adding the product to it.
    """

    def __init__(self, layer: nn.Linear, tokens: int, dtype: torch.dtype) -> None:
        """Packs the weights of `layer` for batches of about as many tokens."""
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias, self.dtype = layer.weight, layer.bias, dtype
        with torch.no_grad():
            self.packed_weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.to(dtype), tokens)
            self.packed_bias = None if layer.bias is None else layer.bias.detach().to(dtype)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the product in the type of the packed weights, or, where a model asks for another, in the layer's."""
        asked = torch.bfloat16 if torch.is_autocast_enabled("cpu") else torch.float32
        if asked != self.dtype or inputs.numel() == 0:
            return super().forward(inputs)
        return product(inputs.to(self.dtype), self.packed_weight, self.packed_bias)
