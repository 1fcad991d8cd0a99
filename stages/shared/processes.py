"""Several processes for one stage: started by PyTorch's elastic launcher, or joined where `torchrun` started them."""

import json
import logging
import os
import signal
import sys
import tempfile
import time
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from stages.shared.errors import BadInput

Value = TypeVar("Value")

# A process waits this long for the others: rank 0 alone hashes the inputs and publishes the outputs.
PATIENCE = timedelta(hours=2)
LOOPBACK = "lo"
LOGS = Path(".scratch")


def rank() -> int:
    """The number of this process among those of the stage, from 0; rank 0 alone writes and speaks."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """The number of this process among those on this machine: the GPU it takes."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def world_size() -> int:
    """The number of the stage's processes; 1 where nobody launched several."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_worker() -> bool:
    """Says whether an elastic launcher, the stage's own or `torchrun`, started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def launch(stage: str, processes: int, nodes: int = 1, rendezvous: str | None = None) -> bool:
    """Runs `python -m stages.<stage>` in several processes and waits for them; a worker, or a single process, goes on.

    Args:
        processes: those of all nodes together.
        nodes: machines that meet; each starts its share of the processes.
        rendezvous: `host:port` of one of them, where they meet; None on a single machine.

    Returns:
        True if the work has been done by others, False if this process is to do it (its part of it).

    Raises:
        BadInput: a process failed; the message is the first one's own, where it had one.
        KeyboardInterrupt: a signal ended the launcher, and with it the workers.
    """
    if is_worker() or processes == nodes == 1:
        return False
    if processes % nodes:
        raise BadInput(f"params.yaml: execution.nodes: must divide the {processes} processes of {stage}, got {nodes}")
    if nodes > 1 and rendezvous is None:
        raise BadInput("params.yaml: execution.rendezvous: several nodes need a host:port to meet at, got null")
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.disable(logging.CRITICAL)  # the launcher's own report is a page; ours is a line
    os.environ["TORCH_CPP_LOG_LEVEL"] = "ERROR"  # DDP advises against what keeps a resumed training exact
    if nodes == 1 and sys.platform == "linux":
        os.environ["GLOO_SOCKET_IFNAME"] = LOOPBACK  # else gloo looks up the host's name, which may lead nowhere
    LOGS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=LOGS, prefix="launcher-") as logs:
        config = LaunchConfig(
            min_nodes=nodes,
            max_nodes=nodes,
            nproc_per_node=processes // nodes,
            run_id=f"tunelock-{stage}",
            rdzv_backend="c10d",
            rdzv_endpoint=rendezvous or "127.0.0.1:0",
            local_addr=None if rendezvous else "127.0.0.1",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=logs),
        )
        try:
            elastic_launch(config, sys.executable)("-m", f"stages.{stage}")
        except ChildFailedError as error:
            raise _first(error.failures) from None
        except SignalException:
            raise KeyboardInterrupt from None
    return True


def connect(processes: int, section: str) -> None:
    """Joins the other processes of the stage; does nothing for a single one.

    Raises:
        BadInput: `torchrun` started another number of processes than the recipe says.
    """
    if world_size() != processes:
        raise BadInput(
            f"params.yaml: {section}.processes: the recipe has {processes}, torchrun started {world_size()} in all"
        )
    if processes > 1:
        import torch.distributed as dist

        if not dist.is_initialized():
            dist.init_process_group("cpu:gloo,cuda:nccl" if dist.is_nccl_available() else "gloo", timeout=PATIENCE)


def barrier() -> None:
    """Waits until every process is here."""
    share(None)


def share(value: Value) -> Value:
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


def record(line: str) -> None:
    """Leaves the line, and the traceback that belongs to it, for the launcher to say."""
    if file := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        extra = {"py_callstack": traceback.format_exc(), "timestamp": str(int(time.time()))}
        content = {"message": {"message": line, "extraInfo": extra}}
        Path(file).write_text(json.dumps(content), encoding="utf-8")


def _first(failures: dict[int, Any]) -> Exception:
    """Picks the failure that made the others fail: a killed process, then one that knows why, then a bug.

    Where one process dies the others lose their connection to it and fail too, or the launcher ends them (SIGTERM).
    """
    own = {at: failure for at, failure in failures.items() if failure.exitcode != -signal.SIGTERM} or failures
    for at, failure in own.items():
        if failure.exitcode < 0:
            return BadInput(
                f"process {at} was killed ({failure.signal_name()}), the others ended with it; run `dvc repro` again"
            )
    messages = {at: failure.message for at, failure in own.items() if isinstance(failure.message, dict)}
    for message in messages.values():
        if message["message"]:
            return BadInput(message["message"])
    stacks = [f"process {at}:\n{message['extraInfo']['py_callstack']}" for at, message in messages.items()]
    return RuntimeError("\n".join(stacks) or f"processes {sorted(failures)} failed")
