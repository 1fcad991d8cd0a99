"""The layers whose products oneDNN computes give what torch's own give, forth and back."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from stages.shared.model.linear import OneDnnLinear, has_one_dnn

pytestmark = pytest.mark.skipif(not has_one_dnn(), reason="this build of torch has no oneDNN")


def twins(bias: bool = True) -> tuple[nn.Linear, OneDnnLinear]:
    torch.manual_seed(0)
    layer = nn.Linear(24, 10, bias=bias)
    other = nn.Linear(24, 10, bias=bias)
    other.load_state_dict(layer.state_dict())
    return layer, OneDnnLinear(other)


SHAPES: dict[str, Callable[[], torch.Tensor]] = {
    "rows": lambda: torch.randn(7, 24),
    "one row": lambda: torch.randn(1, 24),
    "a vector": lambda: torch.randn(24),
    "a batch of texts": lambda: torch.randn(3, 5, 24),
    "heads": lambda: torch.randn(2, 3, 5, 24),
    "turned about": lambda: torch.randn(24, 7).t(),
    "every other row": lambda: torch.randn(14, 24)[::2],
    "no rows": lambda: torch.randn(0, 24),
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients_are_those_of_the_layer(shape: str, bias: bool) -> None:
    inputs = SHAPES[shape]().requires_grad_()
    results = []
    for layer in twins(bias):
        torch.manual_seed(1)
        outputs = layer(inputs)
        gradients = torch.autograd.grad((outputs * torch.randn_like(outputs)).sum(), [inputs, *layer.parameters()])
        results.append([outputs, *gradients])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(other, one)


@pytest.mark.parametrize("shape", ["rows", "a vector", "a batch of texts"])
def test_its_output_may_be_changed_in_place(shape: str) -> None:
    """As Longformer does with its queries."""
    _, layer = twins()
    outputs = layer(SHAPES[shape]())
    outputs /= 2
    outputs.sum().backward()
    assert layer.weight.grad is not None


def test_what_needs_no_gradient_gets_none() -> None:
    _, layer = twins()
    layer.bias.requires_grad_(False)
    layer(torch.randn(3, 24)).sum().backward()
    assert layer.weight.grad is not None and layer.bias.grad is None


def test_in_another_type_it_is_the_layer_itself() -> None:
    one, other = (layer.double() for layer in twins())
    inputs = torch.randn(3, 24, dtype=torch.float64)
    assert torch.equal(one(inputs), other(inputs))


def test_it_keeps_the_layers_parameters_and_their_names() -> None:
    layer = nn.Linear(24, 10)
    replacement = OneDnnLinear(layer)
    assert replacement.weight is layer.weight and list(replacement.state_dict()) == list(layer.state_dict())
