"""What would `dvc repro` run, and why? Says so before anything runs.

    python -m checks.why

A line for each stage in the order in which `dvc repro` comes by, with the time of its last run; below it, what changed.
Exit status: 0 when it can answer; 1 with one line on stderr when it cannot.
"""

import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.fs import GitFileSystem
from dvc.repo import Repo
from dvc.repo.reproduce import get_active_graph, plan_repro
from dvc.scm import SCMError
from dvc.stage.cache import _can_hash
from dvc.stage.serialize import to_single_stage_lockfile
from dvc_data.hashfile.build import build
from dvc_data.hashfile.tree import Tree
from ruamel.yaml import YAML

MOST = 5  # files named of a folder; the rest is counted, so that a new data set leaves the other reasons in sight
REVISIONS = 10  # of a dep in Git, searched for the content that dvc.lock records; 0.01 s each


class Action(StrEnum):
    """What `dvc repro` would do about a stage."""

    RUN = "would run"
    RESTORE = "would be restored from the run cache"
    WAIT = "may run"
    SKIP = "up to date"


@dataclass(frozen=True)
class Verdict:
    """What would happen to one stage."""

    stage: str
    action: Action
    reasons: list[str]  # what changed, a line each
    waits_for: list[str]  # the stages before it that run, or may run, and so may change its deps
    seconds: float | None  # of its last run; None: no time was left


def plan(repo: Any) -> list[Verdict]:
    """Goes through the stages as `dvc repro` does, with the outs that it would have restored by then."""
    status = repo.status()
    graph = get_active_graph(repo.index.graph)
    verdicts: dict[Any, Verdict] = {}
    restored: list[Any] = []
    for stage in (stage for stage in plan_repro(graph) if stage.cmd):
        unsure = [
            earlier
            for earlier in graph.successors(stage)  # its edges lead from a stage to those that it reads from
            if earlier in verdicts and verdicts[earlier].action in (Action.RUN, Action.WAIT)
        ]
        changes: dict[str, Any] = {}
        for entry in status.get(stage.addressing, []):
            changes |= entry if isinstance(entry, dict) else {entry: True}
        inputs = changed_inputs(stage, changes, [out for earlier in unsure for out in earlier.outs], restored)
        outs = [] if never_ran(stage) else changed_outs(stage, changes.get("changed outs", {}))
        action = Action.WAIT if unsure else Action.SKIP
        if inputs and unsure:
            action = Action.RUN
        elif inputs or outs:
            found = cached_outs(stage, bool(inputs), restored)
            action = Action.RUN if not found else Action.WAIT if unsure else Action.RESTORE
            restored += found if action is Action.RESTORE else []
        waits_for = sorted(earlier.addressing for earlier in unsure) if action is Action.WAIT else []
        verdicts[stage] = Verdict(stage.addressing, action, inputs + outs, waits_for, last_seconds(repo, stage.name))
    return list(verdicts.values())


def never_ran(stage: Any) -> bool:
    """True if dvc.lock knows nothing of the stage."""
    return not any(entry.hash_info for entry in (*stage.deps, *stage.outs))


def changed_inputs(stage: Any, changes: Mapping[str, Any], pending: list[Any], restored: list[Any]) -> list[str]:
    """Says what is not as dvc.lock records it: command, parameters, deps; but for deps that a stage may yet rewrite."""
    if never_ran(stage):
        return ["never run"]
    lines = ["runs every time"] if "always changed" in changes else []
    if "changed command" in changes:
        old = stage.dvcfile.lockfile_contents["stages"][stage.name]["cmd"]
        lines.append(f"dvc.yaml: cmd: {json.dumps(old)} -> {json.dumps(stage.cmd)}")
    for dep in stage.deps:
        what = changes.get("changed deps", {}).get(str(dep))
        if dep in stage.params:
            lines += changed_params(dep) if what else []
        elif _producer(dep, pending):
            continue
        elif _producer(dep, restored):
            lines += [] if _coming(dep, restored) == dep.hash_info else [f"{dep}: as restored, not what it last read"]
        elif what == "modified":
            lines += changed_content(dep, stage.repo)
        elif what:
            lines.append(f"{dep}: {'not in the workspace' if what == 'deleted' else 'newly listed as a dep'}")
    return lines


def changed_params(dep: Any) -> list[str]:
    """Returns lines like `params.yaml:47: train.learning_rate: 0.0001 -> 0.0002`; values as JSON writes them."""
    if not dep.exists:
        return [f"{dep}: not in the workspace"]
    before, now = dict(_leaves(dep.hash_info.value or {})), dict(_leaves(dep.read_params()))
    numbers = dict(_line_numbers(YAML().load(Path(dep.fs_path))))
    return [
        f"{dep}{f':{numbers[key]}' if key in numbers else ''}: {key}: {_shown(before, key)} -> {_shown(now, key)}"
        for key in sorted(before.keys() | now.keys(), key=lambda key: numbers.get(key, 0))
        if _shown(before, key) != _shown(now, key)
    ]


def changed_content(dep: Any, repo: Any) -> list[str]:
    """Says what changed in a dep: the files in a folder, the packages in requirements.txt, where the old are known."""
    if Path(dep.fs_path).is_dir():
        tree = dep.get_obj() or next((old for _, old in _in_git(dep, repo) if old.hash_info == dep.hash_info), None)
        if tree is None:
            return [f"{dep}: changed"]
        before = {"/".join(key): value for key, (_, value) in tree.iteritems()}
        now = {"/".join(key): value for key, (_, value) in _built(dep.fs, dep.fs_path, repo).iteritems()}
        lines = [
            f"{dep}/{name}: {'added' if name not in before else 'changed' if name in now else 'removed'}"
            for name in sorted(before.keys() | now.keys())
            if before.get(name) != now.get(name)
        ]
        return lines[:MOST] + ([f"{dep}: {len(lines) - MOST} more files"] if len(lines) > MOST else [])
    if Path(dep.fs_path).name == "requirements.txt":
        for text, old in _in_git(dep, repo):
            if old.hash_info == dep.hash_info:
                pins = [_pins(text), _pins(Path(dep.fs_path).read_text(encoding="utf-8"))]
                names = [
                    name for name in sorted(pins[0].keys() | pins[1].keys()) if len({p.get(name) for p in pins}) > 1
                ]
                changes = [f"{name} {' -> '.join(p.get(name, 'none') for p in pins)}" for name in names]
                return [f"{dep}: {change}" for change in changes] or [f"{dep}: changed, but no package"]
    return [f"{dep}: changed"]


def changed_outs(stage: Any, changes: Mapping[str, str]) -> list[str]:
    """Says of each out that is not as the stage left it whether it is gone or another."""
    lines = []
    for out in stage.outs:
        match changes.get(str(out)):
            case "deleted":
                lines.append(f"{out}: not in the workspace")
            case "not in cache":
                lines.append(
                    f"{out}: {'not in the cache' if out.exists else 'neither in the workspace nor in the cache'}"
                )
            case "modified":
                lines.append(f"{out}: not as the stage left it")
            case "new":
                lines.append(f"{out}: newly listed as an out")
    return lines


def cached_outs(stage: Any, inputs_changed: bool, restored: list[Any]) -> list[Any] | None:
    """Finds the outs that `dvc repro` would check out instead of running the stage.

    It is DVC's own `StageCache.restore`, which has a dry mode, but looks there for the inputs of the last run.
    """
    if inputs_changed:
        stage.save_deps(allow_missing=True)  # in memory: this is the key of the run to come
        for dep in stage.deps:
            dep.hash_info = _coming(dep, restored) or dep.hash_info
        entry = None
        with suppress(FileNotFoundError):
            entry = stage.repo.stage_cache._load(stage) if _can_hash(stage) else None
    else:
        entry = to_single_stage_lockfile(stage) if all(out.hash_info for out in stage.outs) else None
    if entry is None:
        return None
    run = stage.repo.stage_cache._create_stage(entry, wdir=stage.wdir)
    return list(run.outs) if run.outs_cached() else None


def last_seconds(repo: Any, stage: str) -> float | None:
    """Reads how long the stage's last run took, as the stage itself noted."""
    try:
        return float(json.loads(Path(repo.root_dir, ".scratch", f"{stage}.seconds.json").read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError):
        return None


def report(verdicts: list[Verdict]) -> list[str]:
    """Formats the answer; its last line has the total."""
    if all(verdict.action is Action.SKIP for verdict in verdicts):
        return ["Nothing would run: every stage is up to date."]
    lines = []
    for verdict in verdicts:
        condition = f", if {' or '.join(f"{name}'s" for name in verdict.waits_for)} outputs change"
        time = "not timed yet" if verdict.seconds is None else f"last run: {verdict.seconds:.1f} s"
        lines.append(f"{verdict.stage}: {verdict.action}{condition if verdict.waits_for else ''} ({time})")
        lines += [f"    {reason}" for reason in verdict.reasons]
    return [*lines, f"Would run: {_total(verdicts, Action.RUN)}. May run: {_total(verdicts, Action.WAIT)}."]


def _total(verdicts: list[Verdict], action: Action) -> str:
    chosen = [verdict for verdict in verdicts if verdict.action is action]
    timed = [verdict.seconds for verdict in chosen if verdict.seconds is not None]
    untimed = [verdict.stage for verdict in chosen if verdict.seconds is None]
    times = ([f"{sum(timed):.1f} s"] if timed else []) + ([f"{', '.join(untimed)} not timed yet"] if untimed else [])
    return f"{', '.join(verdict.stage for verdict in chosen)} ({'; '.join(times)})" if chosen else "nothing"


def _producer(dep: Any, outs: list[Any]) -> Any:
    return next((out for out in outs if dep.fs.isin_or_eq(dep.fs_path, out.fs_path)), None)


def _coming(dep: Any, restored: list[Any]) -> Any:
    """Returns the hash that a dep, a restored out or a file in one, will have; None if no restored out holds it."""
    out = _producer(dep, restored)
    found = out and out.get_obj(filter_info=dep.fs_path)
    return found.hash_info if found else None


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _leaves(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", inner


def _line_numbers(value: Any, prefix: str = "") -> Iterator[tuple[str, int]]:
    for key, inner in value.items() if isinstance(value, Mapping) else ():
        yield f"{prefix}{key}", value.lc.key(key)[0] + 1  # type: ignore[attr-defined]
        yield from _line_numbers(inner, f"{prefix}{key}.")


def _shown(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key], ensure_ascii=False, default=str) if key in values else "not set"


def _pins(requirements: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", requirements, re.MULTILINE))


def _in_git(dep: Any, repo: Any) -> Iterator[tuple[str, Any]]:
    """Yields a dep's last versions in Git, newest first: its text (of a folder: empty), and its hash or listing."""
    path = Path(dep.fs_path).relative_to(repo.scm.root_dir).as_posix()
    log = ["git", "log", f"--max-count={REVISIONS}", "--format=%H", "--", path]
    for revision in subprocess.run(log, cwd=repo.scm.root_dir, capture_output=True, text=True).stdout.split():
        fs = GitFileSystem(scm=repo.scm, rev=revision)
        with suppress(FileNotFoundError):  # a revision that deleted it
            yield "" if fs.isdir(path) else fs.open(path, encoding="utf-8").read(), _built(fs, path, repo)


def _built(fs: Any, path: str, repo: Any) -> Any:
    """Hashes a file or folder as DVC does, without what .dvcignore names: DVC itself forgets that in Git's revisions."""
    _, _, built = build(repo.cache.local, path, fs, "md5", ignore=repo.dvcignore, dry_run=True)
    if not isinstance(built, Tree):
        return built
    tree = Tree()
    for key, (meta, value) in built.iteritems():
        if not repo.dvcignore.is_ignored_file(str(Path(repo.scm.root_dir, path, *key))):
            tree.add(key, meta, value)
    tree.digest()
    return tree


def main() -> int:
    """Answers on stdout and returns the exit status."""
    logging.getLogger("dvc").setLevel(logging.CRITICAL)  # its warnings are for those who run stages
    try:
        with Repo() as repo:
            print("\n".join(report(plan(repo))))
    except (DvcException, SCMError) as error:
        print(f"why: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
