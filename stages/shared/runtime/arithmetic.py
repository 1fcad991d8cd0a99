"""Sets the arithmetic of a stage as params.yaml says, before torch is imported."""

from collections.abc import Mapping
from typing import Any, Literal

from stages.shared.runtime.environment import go_native
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.params import read_document

# portable: fp32, the same bits on every x86-64 processor with AVX2; native: fp32, by all that the processor has; bf16:
# torch's autocast, by all that the processor has.
Arithmetic = Literal["portable", "native", "bf16"]


def choose_arithmetic(stage: str) -> None:
    """Lifts what makes torch's kernels portable, if params.yaml asks for another arithmetic in the stage's section.

    A file that is none is for `read_params` to refuse, which comes later.
    """
    try:
        section = read_document().get(stage)
    except BadInput:
        return
    if isinstance(section, Mapping):
        prepare_for(section.get("arithmetic"))


def prepare_for(arithmetic: Any) -> None:
    """Lifts what makes torch's kernels portable, where that is not asked for; it must be called before the import."""
    if arithmetic in ("native", "bf16"):
        go_native()
