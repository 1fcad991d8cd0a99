"""`params.yaml: execution`: how to run. No stage depends on it, so changing it reruns nothing."""

from typing import Annotated, Literal

from pydantic import Field

from stages.shared.runtime.params import params_dataclass


@params_dataclass
class Execution:
    device: Literal["auto", "cpu", "cuda"]  # auto: a GPU if there is one
    checkpoint_minutes: Annotated[float, Field(gt=0)]  # between two checkpoints of a training
    workers: Annotated[int, Field(ge=1)]  # threads of the tokenizer
    network_timeout_seconds: Annotated[float, Field(gt=0)]  # that a request of download may bring next to nothing
    predict_processes: Annotated[int, Field(ge=1)]  # on this machine
    nodes: Annotated[int, Field(ge=1)]  # machines that train together
    rendezvous: str | None  # host:port of one of them
