"""Records what a stage read and wrote, in the form of dvc.lock: metrics/made_from/<stage>.json.

To Git dvc.lock is a text. A merge can put the hashes of one branch's code beside those of the other's outputs, and to
DVC such a stage is up to date. The stage itself hashes its inputs when it begins and its outputs when it has ended, so
its record says what belongs together. No stage reads it. `checks.verify --quick` and `checks.why` hold dvc.lock to it.
"""

import json
import os
from pathlib import Path
from typing import Any

from stages.shared.runtime.dvc_hash import dvc_hash
from stages.shared.runtime.publish import publish, write_records
from stages.shared.runtime.snapshot import Declaration, declaration

FOLDER = Path("metrics/made_from")


def record_path(stage: str) -> Path:
    """Returns where a stage says what it was made from."""
    return FOLDER / f"{stage}.json"


def describe_inputs(stage: str) -> dict[str, Any] | None:
    """Hashes the deps of a stage, and reads its parameters; None where dvc.yaml does not list the stage's record."""
    declared = _recorded(stage)
    if declared is None:
        return None
    return {"deps": _hashes(declared.deps), "params": {"params.yaml": plain_values(declared.params)}}


def publish_record(stage: str, inputs: dict[str, Any] | None) -> None:
    """Writes the record of a stage that has just published its outputs.

    Args:
        inputs: what `describe_inputs` said when the stage began.
    """
    declared, target = _recorded(stage), record_path(stage)
    if inputs is None or declared is None:
        return
    outs = _hashes([out for out in declared.outs if Path(out) != target])
    with publish(target) as (partial,):
        write_records(partial, "made_from", [inputs | {"outs": outs}])


def plain_values(params: Any) -> Any:
    """Returns parameters as they come back from JSON: what JSON does not know, such as a date or .inf, is its text."""
    return json.loads(json.dumps(params, default=str), parse_constant=str)


def _recorded(stage: str) -> Declaration | None:
    declared = declaration(stage)
    return declared if declared is not None and record_path(stage).as_posix() in declared.outs else None


def _hashes(paths: list[str]) -> list[dict[str, str]]:
    # DVC refuses what is not there; a stage that is run by hand may do without.
    there = {_as_dvc_writes(path): dvc_hash(Path(path)) for path in paths if Path(path).exists()}
    return [{"path": path, "md5": md5} for path, md5 in sorted(there.items())]


def _as_dvc_writes(path: str) -> str:
    """Returns the path as dvc.lock has it: in the project, relative to it."""
    whole = Path(os.path.abspath(path))  # noqa: PTH100  (resolve() would follow links)
    return whole.relative_to(Path.cwd()).as_posix() if whole.is_relative_to(Path.cwd()) else os.path.normpath(path)
