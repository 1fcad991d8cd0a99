"""Communication between the processes of a stage."""

from datetime import timedelta
from typing import Any, TypeVar

from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.rank import world_size

Value = TypeVar("Value")

# A process waits this long for the others: rank 0 alone hashes the inputs and publishes the outputs.
PATIENCE = timedelta(hours=2)


def connect(processes: int, section: str) -> None:
    """Joins the other processes of the stage; does nothing for a single one.

    Raises:
        BadInput: `torchrun` started another number of processes than the recipe says.
    """
    if world_size() != processes:
        raise BadInput(
            f"params.yaml: {section}.processes: the recipe has {processes} processes, but torchrun started "
            f"{world_size()}"
        )
    if processes > 1:
        import torch.distributed as dist

        if not dist.is_initialized():
            dist.init_process_group("cpu:gloo,cuda:nccl" if dist.is_nccl_available() else "gloo", timeout=PATIENCE)


def barrier() -> None:
    """Waits until every process is here."""
    broadcast(None)


def broadcast(value: Value) -> Value:
    """Returns rank 0's value in every process."""
    return gather(value)[0]


def gather(value: Value) -> list[Value]:
    """Returns the values of all processes, in the order of their ranks."""
    import torch.distributed as dist

    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values
