"""Runs the pipeline with changed parameters, each time as a DVC experiment that goes on after an interruption.

Each run is an experiment of the workspace as it is. It runs in a folder of its own (`dvc exp run --temp`), which has
the files that Git tracks and the user's folders of data and checkpoints. (DVC's `--queue` would leave a daemon behind
that keeps training when this program is stopped.) No experiment is ever removed or overwritten, and a finished one is
not run again while it is what would come out. The checkpoints of a training that was cut short lie in the project's own
.scratch/, so that the next run of the same experiment goes on from them.
"""

import argparse
import ctypes
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from checks import cli
from checks.dvc_internals import experiment_ref
from checks.lock import find_mismatches, outs_of, read_sections, read_stages
from checks.revisions import Revision, git
from stages.shared.runtime.publish import remove
from stages.shared.runtime.run_stage import SCRATCH, SCRATCH_VARIABLE
from stages.shared.runtime.terminal import warn

LAST_STAGE = "evaluate"  # of runs that are to be compared, so that `dvc exp show` has the scores of each


@dataclass(frozen=True)
class Experiment:
    """A run of the pipeline with changed parameters."""

    title: str  # how its name begins
    changes: list[str]  # KEY=VALUE, as of `dvc exp run --set-param`
    own: tuple[str, ...]  # the parameters that the title stands for; the name goes on with a hash of all others
    target: str | None = None  # the last stage to run; None: all of them


def check_experiments(repo: Any, experiments: Sequence[Experiment]) -> None:
    """Makes sure that these can be run, before the first one trains.

    Raises:
        Unanswerable: the clone is shallow, or the parameters name no inputs that can be brought along.
    """
    root = Path(repo.root_dir)
    if git(root, "rev-parse", "--is-shallow-repository") == "true":
        raise cli.Unanswerable(
            "this clone is shallow, and DVC needs its history for experiments; `git fetch --unshallow` fetches "
            "its history"
        )
    for one in experiments:
        untracked_inputs(root, resolve(root, one.changes))


def finished(repo: Any, program: str, experiment: Experiment) -> Revision:
    """Returns a finished run: the experiment's if it is there and still what would come out, else a new one.

    Args:
        program: whose lines on stderr say what happens.

    Raises:
        Unanswerable: the run failed; its own message stands above.
    """
    root = Path(repo.root_dir)
    params = resolve(root, experiment.changes)
    needed = stages_until(root, params, experiment.target)
    for name in names_of(experiment, params, sections_of(root, params, needed)):
        commit = _commit_of(root, name)
        if commit is None:
            break
        found = Revision(name, commit, repo)
        if is_current(found, params, needed):
            warn(f"{program}: {name}: found")
            return found
    warn(f"{program}: {name}: running")
    run_experiment(root, name, experiment, untracked_inputs(root, params))
    commit = _commit_of(root, name)
    if commit is None:
        raise cli.Unanswerable(f"{name}: `dvc exp run` made no experiment; see its message above")
    return Revision(name, commit, repo)


def _commit_of(root: Path, name: str) -> str | None:
    head = str(git(root, "rev-parse", "HEAD"))
    return git(root, "rev-parse", "--verify", "--quiet", experiment_ref(head, name))


def names_of(experiment: Experiment, params: Mapping[str, Any], sections: Collection[str]) -> Iterator[str]:
    """Names a run by its title, and by a hash of all other parameters in `sections`; the next ones add a number.

    An experiment of that name may be of other data or code: it stays, and the new one takes the next name.
    """
    others = {name: params[name] for name in sections if name in params}
    for key in experiment.own:
        section, _, rest = key.partition(".")
        others[section] = {name: value for name, value in others[section].items() if name != rest}
    digest = hashlib.sha256(json.dumps(others, sort_keys=True, default=str).encode()).hexdigest()[:8]
    yield f"{experiment.title}-{digest}"
    yield from (f"{experiment.title}-{digest}-{number}" for number in count(2))


def resolve(root: Path, changes: Sequence[str]) -> dict[str, Any]:
    """Returns params.yaml with parameters changed as `dvc exp run --set-param` changes them.

    Raises:
        Unanswerable: the file cannot be read, or has no such section.
    """
    params = read_sections(root, "download", "train")
    for change in changes:
        key, _, value = change.partition("=")
        *sections, last = key.split(".")
        inner: Any = params
        for section in sections:
            inner = inner.get(section) if isinstance(inner, dict) else None
        if not isinstance(inner, dict):
            raise cli.Unanswerable(f"{change!r}: params.yaml has no section {'.'.join(sections)}")
        new, old = YAML(typ="safe", pure=True).load(value), inner.get(last)
        inner[last] = old | new if isinstance(new, dict) and isinstance(old, dict) else new  # as DVC merges mappings
    return params


def stages_until(root: Path, params: Mapping[str, Any], target: str | None) -> set[str]:
    """Returns the stages that a target is made by, itself included; None: all stages."""
    stages = read_stages(root, params)
    if target is None:
        return set(stages)
    made_by = {out: name for name, stage in stages.items() for out, _ in outs_of(stage)}
    needed: set[str] = set()
    waiting = {target}
    while waiting:
        needed.add(name := waiting.pop())
        deps = stages[name].get("deps", [])
        makers = {made_by[out] for out in made_by if any(dep == out or dep.startswith(f"{out}/") for dep in deps)}
        waiting |= makers - needed
    return needed


def sections_of(root: Path, params: Mapping[str, Any], stages: Collection[str]) -> list[str]:
    """Returns the sections of params.yaml that some stages read, sorted."""
    read = read_stages(root, params)
    listed = (section for name in stages for section in read[name].get("params", []))
    return sorted({section for section in listed if isinstance(section, str)})  # else keys of another file


def is_current(found: Revision, params: Mapping[str, Any], stages: Collection[str]) -> bool:
    """Says whether the working tree, with these parameters, would give what these stages gave in an experiment."""
    return not find_mismatches(found.repo, found.lock, params).stages.keys() & set(stages)


def run_experiment(root: Path, name: str, experiment: Experiment, untracked: Sequence[str]) -> None:
    """Runs `dvc exp run --temp`; it and its stages end with this program, however that ends.

    Raises:
        Unanswerable: it failed.
    """
    command = [sys.executable, "-m", "dvc", "exp", "run", "--temp", "--name", name]
    for change in experiment.changes:
        command += ["--set-param", change]
    for path in untracked:
        command += ["--copy-paths", path]
    command += [] if experiment.target is None else [experiment.target]
    # The folder that DVC makes for the run goes when it is interrupted; what the run can go on from is kept here.
    scratch = root / SCRATCH / "experiments" / name
    scratch.mkdir(parents=True, exist_ok=True)
    environment = os.environ | cli.own_programs_first() | {SCRATCH_VARIABLE: str(scratch)}
    # A group of its own: Ctrl-C reaches this program alone, which then ends the whole group.
    own_group: dict[str, Any] = {"start_new_session": True, "preexec_fn": _die_with_parent}
    child = subprocess.Popen(command, cwd=root, env=environment, stdout=sys.stderr, **own_group)
    try:
        status = child.wait()
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGINT)  # DVC ends its stage, and removes the folder
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout=20)
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        raise
    if status:
        raise cli.Unanswerable(f"{name}: `dvc exp run` failed; see its message above")
    remove(scratch)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def untracked_inputs(root: Path, params: Mapping[str, Any]) -> list[str]:
    """Returns what Git does not know of the user's data and checkpoint folders in the project; whole folders as one.

    Raises:
        Unanswerable: one is no path, or a relative one that leads out of the project, and so elsewhere from the folder
            that an experiment runs in.
    """
    names = []
    for key in ("dataset_files", "checkpoint_files"):
        name = params["download"].get(key)
        if not isinstance(name, str):
            raise cli.Unanswerable(f"download.{key}: expected a path, got {name!r}")
        if Path(os.path.normpath(name)).parts[:1] == ("..",):
            raise cli.Unanswerable(
                f"download.{key}: {name!r} is outside the project, and each run is in another folder; give the "
                "absolute path"
            )
        if not Path(name).is_absolute():
            names.append(name)
    untracked = ("-c", "core.quotePath=false", "ls-files", "--others", "--directory", "--")
    listed = git(root, *untracked, *names) if names else ""
    return [path.rstrip("/") for path in (listed or "").splitlines()]


# The command line


def add_changes(parser: argparse.ArgumentParser) -> None:
    """Adds the option that changes parameters, as `options.changes`."""
    parser.add_argument("-S", "--set-param", action="append", default=[], metavar="KEY=VALUE", dest="changes")


def checked(changes: Sequence[str], own: str, option: str) -> list[str]:
    """Returns changes of parameters as they are.

    Args:
        own: the parameter that the program sets itself, by its option.

    Raises:
        Unanswerable: one is no change, or one of that parameter.
    """
    for change in changes:
        key, equals, _ = change.partition("=")
        if not equals or "." not in key or f"{key}.".startswith(f"{own}."):
            raise cli.Unanswerable(f"{change!r}: expected section.key=value, and {own} comes from {option}")
    return list(changes)
