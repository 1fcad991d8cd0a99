"""Linear layers for prediction in bf16 on processors: weights are converted and laid out for the processor once."""

import torch
from torch import nn


def supported() -> bool:
    """Says whether torch and this processor can do it."""
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class PackedLinear(nn.Linear):
    """Computes sooner what a linear layer computes under autocast to bf16; no gradient passes.

    Otherwise each batch converts the weights anew, and writes the bias into the output before adding the product to it.
    torch keeps this for its compiler, without a public name.
    """

    def __init__(self, layer: nn.Linear, tokens: int) -> None:
        """Packs the weights of `layer` for batches of about as many tokens."""
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias
        with torch.no_grad():
            self.packed_weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.to(torch.bfloat16), tokens)
            self.bfloat16_bias = None if layer.bias is None else layer.bias.to(torch.bfloat16)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the product, in bf16 under autocast, else in the precision of the layer itself."""
        if not torch.is_autocast_enabled("cpu"):  # where a model asks for all digits
            return super().forward(inputs)
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            inputs.to(torch.bfloat16), self.packed_weight, self.bfloat16_bias, "none", [], ""
        )
        return product
