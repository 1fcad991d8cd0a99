"""Linear layers with oneDNN's matrix products: at least as fast as MKL's, with the same bits on every processor."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional


def has_one_dnn() -> bool:
    """Says whether this build of torch has oneDNN's products."""
    return torch.backends.mkldnn.is_available()


def product(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Returns inputs x weight^T + bias, float32[..., rows]; no gradient passes.

    torch keeps this for its compiler, without a public name. Its own products of float32 go to MKL, which has no
    kernels for AVX-512 on AMD's processors, and half its speed in the mode that gives the same bits everywhere.

    Args:
        inputs: float32[..., columns].
        weight: float32[rows, columns].
        bias: float32[rows].
    """
    result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")
    return result


class _Product(torch.autograd.Function):
    """The product of a matrix's rows with its gradients, which are products too."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(rows, weight)
        return product(rows, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        for_rows, for_weight, for_bias = ctx.needs_input_grad
        return (
            product(gradient, weight.t(), None) if for_rows else None,
            product(gradient.t(), rows.t(), None) if for_weight else None,
            gradient.sum(0) if for_bias else None,
        )


class OneDnnLinear(nn.Linear):
    """A linear layer in float32 on a processor; in any other type, and of nothing, it computes as `nn.Linear` does."""

    def __init__(self, layer: nn.Linear) -> None:
        """Takes over the parameters of `layer`."""
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns float32[..., out_features]."""
        if inputs.dtype != torch.float32 or inputs.numel() == 0:
            return functional.linear(inputs, self.weight, self.bias)
        # Shaped out here: what an own function returns as a view must not be changed in place, and some models do that.
        rows: torch.Tensor = _Product.apply(inputs.reshape(-1, self.in_features), self.weight, self.bias)
        return rows.view(*inputs.shape[:-1], self.out_features)
