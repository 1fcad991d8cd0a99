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
from dvc.stage.cache import _can_hash
from dvc.stage.serialize import to_single_stage_lockfile
from dvc_data.hashfile.build import build
from dvc_data.hashfile.tree import Tree
from ruamel.yaml import YAML

MOST = 5  # files named of a folder; the rest is counted, so that a new data set leaves the other reasons in sight
REVISIONS = 10  # of a dep in Git, searched for the content that dvc.lock records; 0.01 to 0.03 s each


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
    seconds: float | None  # of its last run; None: it left no time


def plan(repo: Any) -> list[Verdict]:
    """Goes through the stages as `dvc repro` does, with the outs that it would have restored by then."""
    status = repo.status()
    graph = get_active_graph(repo.index.graph)
    if not graph:
        raise DvcException("no stages: dvc.yaml is missing or empty")
    verdicts: dict[Any, Verdict] = {}
    restored: list[Any] = []
    for stage in (stage for stage in plan_repro(graph) if stage.cmd):
        earlier = [one for one in graph.successors(stage) if one in verdicts]  # edges lead to what a stage reads from
        unsure = [one for one in earlier if verdicts[one].action in (Action.RUN, Action.WAIT)]
        changes: dict[str, Any] = {}
        for entry in status.get(stage.addressing, []):
            changes |= entry if isinstance(entry, dict) else {entry: {}}
        if "always changed" in changes or any(entry.hash_info for entry in (*stage.deps, *stage.outs)):
            inputs = changed_inputs(stage, changes, [out for one in unsure for out in one.outs], restored)
            what = changes.get("changed outs", {})
            outs = [_state(out, what[str(out)]) for out in stage.outs if str(out) in what]
        else:
            inputs, outs = ["never run"], []
        action = Action.WAIT if unsure else Action.SKIP
        if inputs and unsure:
            action = Action.RUN
        elif inputs or outs:
            found = cached_outs(stage, bool(inputs), restored)
            action = Action.RUN if not found else Action.WAIT if unsure else Action.RESTORE
            restored += found if action is Action.RESTORE else []
        waits_for = sorted(one.addressing for one in unsure) if action is Action.WAIT else []
        verdicts[stage] = Verdict(stage.addressing, action, inputs + outs, waits_for, last_seconds(stage))
    return list(verdicts.values())


def changed_inputs(stage: Any, changes: Mapping[str, Any], pending: list[Any], restored: list[Any]) -> list[str]:
    """Says what is not as dvc.lock records it: command, parameters, deps; but for deps that a stage may yet rewrite."""
    lines = ["runs every time"] if "always changed" in changes else []
    if "changed command" in changes:
        old = stage.dvcfile.lockfile_contents["stages"][stage.name]["cmd"]
        lines.append(f"dvc.yaml: cmd: {json.dumps(old)} -> {json.dumps(stage.cmd)}")
    for dep in (*stage.params, *(dep for dep in stage.deps if dep not in stage.params)):
        if _holder(dep, pending):
            continue
        if _holder(dep, restored):
            lines += [] if _coming(dep, restored) == dep.hash_info else [f"{dep}: as restored, not what it last read"]
        elif what := changes.get("changed deps", {}).get(str(dep)):
            content = changed_params if dep in stage.params else changed_content
            lines += content(dep) or [f"{dep}: changed"] if dep.exists and dep.hash_info else [_state(dep, what)]
    return lines


def changed_params(dep: Any) -> list[str]:
    """Returns lines like `params.yaml:47: train.learning_rate: 0.0001 -> 0.0002`; values as JSON writes them."""
    before, now = dict(_leaves(dep.hash_info.value)), dict(_leaves(dep.read_params()))
    lines = dict(_lines(YAML().load(Path(dep.fs_path))))
    return [
        f"{dep}{f':{lines[key]}' if key in lines else ''}: {key}: {_shown(before, key)} -> {_shown(now, key)}"
        for key in sorted(_differ(before, now), key=lambda key: lines.get(key, 0))
    ]


def changed_content(dep: Any) -> list[str]:
    """Names what changed in a folder or among the packages of a requirements file, where the old content is known."""
    folder = dep.hash_info.isdir and dep.isdir()
    if not dep.is_in_repo or not (folder or Path(dep.fs_path).name.startswith("requirements")):
        return []
    made = dep.get_obj() if folder else None  # DVC's cache has the folders that stages made
    versions = [("", made)] if made else _in_git(dep)
    text, recorded = next((old for old in versions if old[1].hash_info == dep.hash_info), ("", None))
    if recorded is None:
        return []
    if not folder:
        before, now = _pins(text), _pins(Path(dep.fs_path).read_text(encoding="utf-8"))
        changed = _differ(before, now)
        return [f"{dep}: {name} {before.get(name, 'none')} -> {now.get(name, 'none')}" for name in changed]
    before, now = _files(recorded), _files(hashed(dep.fs, dep.fs_path, dep.repo))
    words = {(False, True): "added", (True, True): "changed", (True, False): "removed"}
    lines = [f"{dep}/{name}: {words[name in before, name in now]}" for name in _differ(before, now)]
    return lines if len(lines) <= MOST else [*lines[:MOST], f"{dep}: {len(lines) - MOST} more files"]


def cached_outs(stage: Any, inputs_changed: bool, restored: list[Any]) -> list[Any]:
    """Finds the outs that `dvc repro` would check out instead of running the stage; empty: it would run.

    This is DVC's own `StageCache.restore`, whose dry mode looks for the inputs of the last run, not of the next.
    """
    entry = None
    if not inputs_changed and all(out.hash_info for out in stage.outs):
        entry = to_single_stage_lockfile(stage)
    elif inputs_changed:
        stage.save_deps(allow_missing=True)  # in memory: the key of the run to come
        for dep in stage.deps:
            dep.hash_info = _coming(dep, restored) or dep.hash_info
        with suppress(FileNotFoundError):
            entry = stage.repo.stage_cache._load(stage) if _can_hash(stage) else None
    run = entry and stage.repo.stage_cache._create_stage(entry, wdir=stage.wdir)
    return run.outs if run and run.outs_cached() else []


def last_seconds(stage: Any) -> float | None:
    """Reads how long the stage's last run took, as the stage itself noted."""
    try:
        return float(json.loads(Path(stage.repo.root_dir, ".scratch", f"{stage.name}.seconds.json").read_text()))
    except (OSError, TypeError, ValueError):
        return None


def report(verdicts: list[Verdict]) -> list[str]:
    """Formats the answer; its last line has the total."""
    if all(verdict.action is Action.SKIP for verdict in verdicts):
        return ["Nothing would run: every stage is up to date."]
    lines = []
    for verdict in verdicts:
        waits_for = " or ".join(f"{name}'s" for name in verdict.waits_for)
        condition = f", if {waits_for} outputs change" if waits_for else ""
        time = "not timed yet" if verdict.seconds is None else f"last run: {verdict.seconds:.1f} s"
        lines += [f"{verdict.stage}: {verdict.action}{condition} ({time})", *(f"    {why}" for why in verdict.reasons)]
    return [*lines, f"Would run: {_total(verdicts, Action.RUN)}. May run: {_total(verdicts, Action.WAIT)}."]


def _total(verdicts: list[Verdict], action: Action) -> str:
    chosen = [verdict for verdict in verdicts if verdict.action is action]
    timed = [verdict.seconds for verdict in chosen if verdict.seconds is not None]
    untimed = ", ".join(verdict.stage for verdict in chosen if verdict.seconds is None)
    times = f"{sum(timed):.1f} s{f'; not timed yet: {untimed}' if untimed else ''}" if timed else "not timed yet"
    return f"{', '.join(verdict.stage for verdict in chosen)} ({times})" if chosen else "nothing"


def _state(entry: Any, status: str) -> str:
    if not entry.exists:
        return f"{entry}: not in the workspace{', nor in the cache' if status == 'not in cache' else ''}"
    if not entry.hash_info:
        return f"{entry}: newly listed in dvc.yaml"
    return f"{entry}: {'not as the stage wrote it' if status == 'modified' else status}"


def _holder(dep: Any, outs: list[Any]) -> Any:
    return next((out for out in outs if dep.fs.isin_or_eq(dep.fs_path, out.fs_path)), None)


def _coming(dep: Any, restored: list[Any]) -> Any:
    """Returns the hash that a dep, a restored out or a file in one, will have; None if no restored out holds it."""
    out = _holder(dep, restored)
    found = out and out.get_obj(filter_info=dep.fs_path)
    return found.hash_info if found else None


def _differ(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Returns the keys that only one has, or whose values differ; as DVC sees it, 1 and 1.0 do not."""
    keys = before.keys() | now.keys()
    return sorted(key for key in keys if (key in before, before.get(key)) != (key in now, now.get(key)))


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        yield from _leaves(inner, f"{prefix}{key}.") if isinstance(inner, Mapping) else [(f"{prefix}{key}", inner)]


def _shown(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key], ensure_ascii=False, default=str) if key in values else "not set"


def _lines(value: Any, prefix: str = "") -> Iterator[tuple[str, int]]:
    for key, inner in value.items() if isinstance(value, Mapping) else []:
        yield f"{prefix}{key}", value.lc.key(key)[0] + 1
        yield from _lines(inner, f"{prefix}{key}.")


def _pins(requirements: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", requirements, re.MULTILINE))


def _files(tree: Any) -> dict[str, str]:
    return {"/".join(key): value for key, (_, value) in tree.iteritems()}


def _in_git(dep: Any) -> Iterator[tuple[str, Any]]:
    """Yields a dep's last versions in Git, newest first: its text (of a folder: none), and its hash or listing."""
    root = dep.repo.scm.root_dir
    path = Path(dep.fs_path).relative_to(root).as_posix()
    log = ["git", "log", f"--max-count={REVISIONS}", "--format=%H", "--", path]
    for revision in subprocess.run(log, cwd=root, capture_output=True, text=True).stdout.split():
        fs = GitFileSystem(scm=dep.repo.scm, rev=revision)
        with suppress(FileNotFoundError):  # a revision that deleted it
            yield "" if fs.isdir(path) else fs.open(path, encoding="utf-8").read(), hashed(fs, path, dep.repo)


def hashed(fs: Any, path: str, repo: Any) -> Any:
    """Hashes a file or folder as DVC does, without what .dvcignore names: DVC forgets that in Git's revisions."""
    _, _, made = build(repo.cache.local, path, fs, "md5", ignore=repo.dvcignore, dry_run=True)
    if not isinstance(made, Tree):
        return made
    tree = Tree()
    for key, (meta, value) in made.iteritems():
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
    except DvcException as error:
        causes = f"{error}: {error.__cause__}" if error.__cause__ else str(error)
        print(f"why: {' '.join(causes.split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
