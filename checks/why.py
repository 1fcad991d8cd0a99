"""What would `dvc repro` run, and why? Answers before anything runs.

    python -m checks.why

It prints one line per stage, in the order of `dvc repro`, with the time of the last run, and below it what changed.
Then it prints one line for each stage whose outputs were made from other inputs than dvc.lock says, as after some
merges. DVC takes such a stage to be up to date.
Exit status: 0 with an answer; 1 with one line on stderr if there is none.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from ruamel.yaml import YAML

from checks import cli
from checks.dvc_internals import cached_outs, check_listings, coming_hash, holder, locked_command, stages_in_order
from checks.lock import command_change, leaves, named, read_sections
from checks.made_from import find_foreign
from checks.revisions import LOCK_FILE, WORKSPACE, Revision, find_in_git, folder_changes, git
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.sections import check_sections
from stages.shared.runtime.snapshot import refuse_made
from stages.shared.runtime.terminal import say, visible


class Action(StrEnum):
    """What `dvc repro` would do about a stage."""

    RUN = "would run"
    RESTORE = "would be restored from the run cache"
    WAIT = "may run"
    SKIP = "up to date"


@dataclass(frozen=True)
class StagePlan:
    """What would happen to one stage."""

    stage: str
    action: Action
    reasons: list[str]  # what changed, a line each
    waits_for: list[str]  # the stages before it that run, or may run, and so may change its deps
    seconds: float | None  # of its last run; None: it left no time


def plan(repo: Any) -> list[StagePlan]:
    """Goes through the stages as `dvc repro` does, with the outs that it would have restored by then."""
    stages = stages_in_order(repo)
    if not stages:
        raise DvcException("no stages: dvc.yaml is missing or empty")
    for stage, _ in stages:
        check_listings(stage)
    status = repo.status()
    plans: dict[Any, StagePlan] = {}
    restored: list[Any] = []
    for stage, earlier in stages:
        unsure = [one for one in earlier if one in plans and plans[one].action in (Action.RUN, Action.WAIT)]
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
        plans[stage] = StagePlan(stage.addressing, action, inputs + outs, waits_for, last_seconds(stage))
    return list(plans.values())


def changed_inputs(stage: Any, changes: Mapping[str, Any], pending: list[Any], restored: list[Any]) -> list[str]:
    """Says what is not as dvc.lock records it: command, parameters, deps; but for deps that a stage may yet rewrite."""
    lines = ["runs every time"] if "always changed" in changes else []
    if "changed command" in changes:
        lines.append(command_change(locked_command(stage), stage.cmd))
    for dep in (*stage.params, *(dep for dep in stage.deps if dep not in stage.params)):
        if holder(dep, pending):
            continue
        if holder(dep, restored):
            is_same = coming_hash(dep, restored) == dep.hash_info
            lines += [] if is_same else [f"{dep}: restored, and different from what it last read"]
        elif what := changes.get("changed deps", {}).get(str(dep)):
            content = changed_params if dep in stage.params else changed_content
            lines += content(dep) or [f"{dep}: changed"] if dep.exists and dep.hash_info else [_state(dep, what)]
    return lines


def changed_params(dep: Any) -> list[str]:
    """Returns lines like `params.yaml:47: train.learning_rate: 0.0001 -> 0.0002`; values as JSON writes them."""
    before, now = dict(leaves(dep.hash_info.value)), dict(leaves(dep.read_params()))
    lines = dict(_lines(YAML().load(Path(dep.fs_path))))
    return [
        f"{dep}{f':{lines[key]}' if key in lines else ''}: {key}: {_shown(before, key)} -> {_shown(now, key)}"
        for key in sorted(_differ(before, now), key=lambda key: lines.get(key, 0))
    ]


def changed_content(dep: Any) -> list[str]:
    """Names what changed in a folder or among the packages of a requirements file, where the old content is known."""
    path, md5 = Path(dep.fs_path), dep.hash_info.value
    if dep.is_in_repo and dep.hash_info.isdir and dep.isdir():
        changes = folder_changes(dep.repo, path, md5) or {}
        return named(str(dep), (f"{dep}/{name}: {word}" for name, word in changes.items()))
    if dep.is_in_repo and path.name.startswith("requirements") and (found := find_in_git(dep.repo, path, md5)):
        root = Path(dep.repo.scm.root_dir)
        before = _pins(git(root, "show", f"{found[0]}:{path.relative_to(root).as_posix()}") or "")
        now = _pins(path.read_text(encoding="utf-8"))
        return [f"{dep}: {name} {before.get(name, 'none')} -> {now.get(name, 'none')}" for name in _differ(before, now)]
    return []


def last_seconds(stage: Any) -> float | None:
    """Reads how long the stage's last run took, as the stage itself noted."""
    try:
        return float(json.loads(Path(stage.repo.root_dir, ".scratch", f"{stage.name}.seconds.json").read_text()))
    except (OSError, TypeError, ValueError):
        return None


def as_text(plans: list[StagePlan]) -> str:
    """Formats the answer; its last line has the total."""
    if all(plan.action is Action.SKIP for plan in plans):
        return "Nothing would run: every stage is up to date."
    lines = []
    for plan in plans:
        waits_for = " or ".join(f"{name}'s" for name in plan.waits_for)
        condition = f", if {waits_for} outputs change" if waits_for else ""
        time = "not timed yet" if plan.seconds is None else f"last run: {plan.seconds:.1f} s"
        lines += [f"{plan.stage}: {plan.action}{condition} ({time})", *(f"    {why}" for why in plan.reasons)]
    return "\n".join(
        [*map(visible, lines), f"Would run: {_total(plans, Action.RUN)}. May run: {_total(plans, Action.WAIT)}."]
    )


def _total(plans: list[StagePlan], action: Action) -> str:
    chosen = [plan for plan in plans if plan.action is action]
    timed = [plan.seconds for plan in chosen if plan.seconds is not None]
    untimed = ", ".join(plan.stage for plan in chosen if plan.seconds is None)
    times = f"{sum(timed):.1f} s{f'; not timed yet: {untimed}' if untimed else ''}" if timed else "not timed yet"
    return f"{', '.join(plan.stage for plan in chosen)} ({times})" if chosen else "nothing"


def _state(entry: Any, status: str) -> str:
    if not entry.exists:
        return f"{entry}: not in the workspace{', nor in the cache' if status == 'not in cache' else ''}"
    if not entry.hash_info:
        return f"{entry}: newly listed in dvc.yaml"
    return f"{entry}: {'not as the stage wrote it' if status == 'modified' else status}"


def _differ(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Returns the keys that only one has, or whose values differ; as DVC sees it, 1 and 1.0 do not."""
    keys = before.keys() | now.keys()
    return sorted(key for key in keys if (key in before, before.get(key)) != (key in now, now.get(key)))


def _shown(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key], ensure_ascii=False, default=str) if key in values else "not set"


def _lines(value: Any, prefix: str = "") -> Iterator[tuple[str, int]]:
    for key, inner in value.items() if isinstance(value, Mapping) else []:
        yield f"{prefix}{key}", value.lc.key(key)[0] + 1
        yield from _lines(inner, f"{prefix}{key}.")


def _pins(requirements: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", requirements, re.MULTILINE))


def refuse_made_sources(root: Path) -> None:
    """Names the key of params.yaml that leads to what a stage writes, where there is one; DVC names the stages alone.

    Raises:
        BadInput: there is one.
    """
    if Path.cwd() != root:  # the stages run there
        return
    try:
        given = read_sections(root, "download")["download"]
    except cli.Unanswerable:
        return  # DVC says what is wrong with the file
    for key in ("dataset_files", "checkpoint_files"):
        if isinstance(name := given.get(key), str):
            refuse_made(f"download.{key}", name)


def main(arguments: list[str]) -> int:
    """Answers on stdout and returns the exit status."""
    cli.make_parser("why", __doc__).parse_args(arguments)

    def ask(repo: Any) -> int:
        check_sections(Path(repo.root_dir))
        refuse_made_sources(Path(repo.root_dir))
        workspace = Revision(WORKSPACE, None, repo)
        lock = workspace.lock if workspace.text(LOCK_FILE) is not None else {}  # where no stage has run yet
        say("\n".join([as_text(plan(repo)), *find_foreign(lock, workspace.text)]))
        return 0

    return cli.answer("why", ask, BadInput, unanswered=1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
