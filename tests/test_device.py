"""On a GPU, torch refuses what it computes in no fixed order; the stages say so in a line."""

from collections.abc import Iterator

import pytest
import torch

from stages.shared.model.device import explain_nondeterminism
from stages.shared.runtime.errors import BadInput


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def in_no_fixed_order() -> None:
    """A computation that torch refuses on processors, too, if it is to be deterministic."""
    torch.zeros(3).put_(torch.tensor([0, 0]), torch.ones(2))


@pytest.mark.usefixtures("deterministic")
def test_what_a_gpu_computes_in_no_fixed_order_is_refused_in_a_line() -> None:
    with (
        pytest.raises(BadInput, match=r"^\S+.* is not deterministic on a GPU, and this model needs it; set exe"),
        explain_nondeterminism(),
    ):
        in_no_fixed_order()


@pytest.mark.usefixtures("deterministic")
def test_any_other_error_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match="shapes"), explain_nondeterminism():
        torch.zeros(2, 3) @ torch.zeros(2, 3)
