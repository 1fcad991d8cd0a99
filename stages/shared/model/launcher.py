"""Runs a stage in several processes, started by PyTorch's elastic launcher or already by `torchrun`."""

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.shared.model.collectives import barrier
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.execution import Execution
from stages.shared.runtime.rank import is_worker

LOOPBACK = "lo"
LOGS = Path(".scratch")


@dataclass(frozen=True)
class ElasticLauncher:
    """Starts as many processes of a stage as its parameters ask for."""

    processes: Callable[[Any, Execution], int]
    over_nodes: bool = False  # whether several machines may share them

    def start(self, stage: str, p: Any, execution: Execution) -> bool:
        """Says whether others have done the stage's work; False: this process is to do it, or its part of it."""
        if self.over_nodes:
            return launch(stage, self.processes(p, execution), execution.nodes, execution.rendezvous)
        return launch(stage, self.processes(p, execution))

    def meet(self) -> None:
        """Waits until every process is here."""
        barrier()


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


def _first(failures: dict[int, Any]) -> Exception:
    """Picks the failure that made the others fail: a killed process, then one that knows why, then a bug.

    Where one process dies the others lose their connection to it and fail too, or the launcher ends them (SIGTERM).
    """
    own = {at: failure for at, failure in failures.items() if failure.exitcode != -signal.SIGTERM} or failures
    for at, failure in own.items():
        if failure.exitcode < 0:
            return BadInput(
                f"process {at} was killed ({failure.signal_name()}), so the others ended too; run `dvc repro` again"
            )
    messages = {at: failure.message for at, failure in own.items() if isinstance(failure.message, dict)}
    for message in messages.values():
        if message["message"]:
            return BadInput(message["message"])
    stacks = [f"process {at}:\n{message['extraInfo']['py_callstack']}" for at, message in messages.items()]
    return RuntimeError("\n".join(stacks) or f"processes {sorted(failures)} failed")
