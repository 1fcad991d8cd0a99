"""Does a revision reproduce? Runs it again in a clean clone and compares every artifact with its dvc.lock.

    python -m checks.verify [REVISION] [--exact] [--quick] [--dirty] [--json | --markdown]

Exit status: 0 identical, equal or within tolerance; 1 beyond tolerance, or within it under --exact; 2 for a question
that cannot be answered. What is in no cache and no remote is judged by the metrics, which are in Git.
With --quick nothing is trained: do the lock, metrics, params and code belong together?
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from checks.artifacts import Comparison, Tolerance, Verdict, compare_files
from checks.revisions import Unanswerable, git

ENVIRONMENT = "metrics/environment.json"


@dataclass(frozen=True)
class StageReport:
    """How one stage's outs compare with those of the revision."""

    stage: str
    verdict: Verdict
    differences: list[Comparison]


@dataclass(frozen=True)
class Report:
    """The answer."""

    revision: str
    stages: list[StageReport]
    mismatches: list[str]  # what in the revision does not belong to its own dvc.lock
    environment: list[str]  # what differs between the two environment.json

    @property
    def first(self) -> str | None:
        """The first stage in the order of the DAG whose content differs."""
        return next((report.stage for report in self.stages if report.verdict > Verdict.EQUAL), None)

    @property
    def verdict(self) -> Verdict:
        return max((report.verdict for report in self.stages), default=Verdict.IDENTICAL)

    @property
    def cause(self) -> str:
        """The likely cause of the first difference, in words."""
        if self.mismatches:
            return "; ".join(self.mismatches)
        if self.environment:
            return f"another environment: {'; '.join(self.environment)}"
        return "the environments are equal: look for an input that is not declared"


def verify(root: Path, revision: str, tolerance: Tolerance) -> Report:
    """Reproduces `revision` of the project at `root` in a clean clone, and compares stage by stage.

    Raises:
        Unanswerable: the revision has no lock, or its pipeline does not run.
    """
    with clean_clone(root, revision) as clone:
        old_lock = read_lock(clone)
        old_metrics = {name: clone.joinpath(name).read_bytes() for name in tracked_outs(clone, old_lock)}
        mismatches = belonging(clone, old_lock)
        bring_inputs(root, clone)
        command = [sys.executable, "-m", "dvc", "repro", "--force"]
        if subprocess.run(command, cwd=clone, env=_environment(), stdout=sys.stderr).returncode:
            raise Unanswerable(f"{revision}: `dvc repro` failed in a clean clone; its own message stands above")
        new_lock = read_lock(clone)
        with tempfile.TemporaryDirectory() as scratch:
            old = Path(scratch)
            for name, content in old_metrics.items():
                (old / name).parent.mkdir(parents=True, exist_ok=True)
                (old / name).write_bytes(content)
            stages = [
                compare_stage(stage, root, revision, old_lock, new_lock, old, clone, tolerance) for stage in new_lock
            ]
            environment = compare_files(ENVIRONMENT, old / ENVIRONMENT, clone / ENVIRONMENT, tolerance)
        facts = [f"{name}: {change}" for name, change in environment.figures.items()]
    return Report(revision, stages, mismatches, facts)


def quick(root: Path, revision: str) -> list[str]:
    """Returns what in `revision` does not belong together, without running a stage; empty: nothing would run."""
    with clean_clone(root, revision) as clone:
        lock = read_lock(clone)
        bring_inputs(root, clone)
        reasons = belonging(clone, lock)
        dry = subprocess.run(
            [sys.executable, "-m", "dvc", "repro", "--dry", "--allow-missing"],
            cwd=clone,
            env=_environment(),
            capture_output=True,
            text=True,
        )
        # A stage that would run on data that are not there ends the dry run, and is named in the error.
        would_run = re.findall(r"(?:^Running stage|failed to reproduce) '(\w+)'", dry.stdout + dry.stderr, re.MULTILINE)
        if dry.returncode and not would_run:
            raise Unanswerable(f"{revision}: dvc cannot read the pipeline: {' '.join(dry.stderr.split())[-300:]}")
        return reasons + [f"{stage} would run" for stage in dict.fromkeys(would_run)]


@contextmanager
def clean_clone(root: Path, revision: str) -> Iterator[Path]:
    """Yields a clone of `root` at `revision`, without anything that Git does not know."""
    found = git(root, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if found is None:
        raise Unanswerable(f"no revision {revision!r} in this repository")
    with tempfile.TemporaryDirectory(prefix="verify-") as folder:
        clone = Path(folder) / "project"
        subprocess.run(["git", "clone", "--quiet", "--no-checkout", str(root), str(clone)], check=True)
        subprocess.run(["git", "checkout", "--quiet", "--detach", found], cwd=clone, check=True)
        yield clone


def bring_inputs(root: Path, clone: Path) -> None:
    """Copies the user's data and checkpoint files that Git does not hold; what lies elsewhere is read from there."""
    params = YAML(typ="safe", pure=True).load(clone / "params.yaml")["download"]
    for name in (params["dataset_files"], params["checkpoint_files"]):
        ours, theirs = root / name, clone / name
        if not Path(name).is_absolute() and ours.is_dir():
            shutil.copytree(
                ours, theirs, dirs_exist_ok=True, ignore=lambda folder, names: _tracked(clone, folder, root)
            )
        elif not Path(name).is_absolute() and ours.is_file() and not theirs.exists():
            theirs.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ours, theirs)


def _tracked(clone: Path, folder: str, root: Path) -> list[str]:
    there = clone / Path(folder).relative_to(root)
    return [path.name for path in there.iterdir() if path.is_file()] if there.is_dir() else []


def read_lock(clone: Path) -> dict[str, Any]:
    """Returns the stages of dvc.lock, in the order of the DAG."""
    yaml = YAML(typ="safe", pure=True)
    try:
        lock = yaml.load(clone / "dvc.lock")["stages"]
    except FileNotFoundError:
        raise Unanswerable("the revision has no dvc.lock: run `dvc repro` and commit it") from None
    return {stage: lock[stage] for stage in yaml.load(clone / "dvc.yaml")["stages"] if stage in lock}


def tracked_outs(clone: Path, lock: dict[str, Any]) -> list[str]:
    """Returns the outs that are files in Git."""
    names = []
    for entry in lock.values():
        for out in entry.get("outs", []):
            path = clone / out["path"]
            files = sorted(path.rglob("*")) if path.is_dir() else [path]
            names += [str(file.relative_to(clone)) for file in files if file.is_file()]
    return names


def belonging(clone: Path, lock: dict[str, Any]) -> list[str]:
    """Compares parameters, code and metrics of a clone with its own lock; returns what does not belong to it."""
    yaml = YAML(typ="safe", pure=True)
    params, dag = yaml.load(clone / "params.yaml"), yaml.load(clone / "dvc.yaml")["stages"]
    reasons = [f"{stage}: not in dvc.lock" for stage in dag if stage not in lock]
    seen: set[str] = set()
    for stage, entry in lock.items():
        if stage not in dag:
            reasons.append(f"{stage}: in dvc.lock, but not in dvc.yaml")
            continue
        for section in dag[stage].get("params", []):
            recorded = entry.get("params", {}).get("params.yaml", {}).get(section, {})
            if not isinstance(params.get(section), dict):
                reasons.append(f"params.yaml: {section}: the section is missing")
                continue
            for key, value in params[section].items():
                if recorded.get(key) != value:
                    reasons.append(
                        f"params.yaml: {section}.{key} is {value!r}, dvc.lock was made with {recorded.get(key)!r}"
                    )
        for item in [*entry.get("deps", []), *entry.get("outs", [])]:
            file = clone / item["path"]
            if file.is_file() and item["path"] not in seen and _md5(file) != item.get("md5"):
                reasons.append(f"{item['path']} is not the file that dvc.lock was made with")
                seen.add(item["path"])
    return reasons


def compare_stage(
    stage: str,
    root: Path,
    revision: str,
    old_lock: dict[str, Any],
    new_lock: dict[str, Any],
    old: Path,
    clone: Path,
    tolerance: Tolerance,
) -> StageReport:
    """Compares the outs of one stage; fetches the revision's from the cache, or a remote, where the hashes differ."""
    before = {out["path"]: out.get("md5") for out in old_lock.get(stage, {}).get("outs", [])}
    differences: list[Comparison] = []
    for out in new_lock[stage].get("outs", []):
        path = out["path"]
        if before.get(path) == out.get("md5"):
            continue
        if not (old / path).exists() and not fetch(root, revision, path, old / path):
            differences.append(Comparison(path, Verdict.UNKNOWN, {"old": "in no cache and no remote"}))
            continue
        for name in sorted({_inside(file, folder) for folder in (old, clone) for file in _files(folder / path)}):
            found = compare_files(name, old / name, clone / name, tolerance)
            if name == ENVIRONMENT:  # a likely cause, and no result
                found = replace(found, verdict=min(found.verdict, Verdict.WITHIN))
            if found.verdict is not Verdict.IDENTICAL:
                differences.append(found)
    return StageReport(stage, max((d.verdict for d in differences), default=Verdict.IDENTICAL), differences)


def fetch(root: Path, revision: str, path: str, target: Path) -> bool:
    """Copies an artifact of `revision` out of DVC's cache or remote; False if it is in neither."""
    from dvc.api import DVCFileSystem
    from dvc_data.index import DataIndexError

    try:
        files = DVCFileSystem(str(root), rev=revision)
        target.parent.mkdir(parents=True, exist_ok=True)
        files.get(path, str(target), recursive=files.isdir(path))
    except (OSError, DataIndexError):
        shutil.rmtree(target, ignore_errors=True)
        return False
    return target.exists()


def _files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]


def _inside(file: Path, folder: Path) -> str:
    return str(file.relative_to(folder))


def _md5(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()


def _environment() -> dict[str, str]:
    """The same interpreter's programs first, and none of Git's variables from a hook that may have started us."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}


# Printing


def as_text(report: Report) -> str:
    """Formats the answer for a terminal."""
    lines = [f"{report.revision}: `dvc repro --force` in a clean clone, against its dvc.lock"]
    width = max(len(stage.stage) for stage in report.stages)
    for stage in report.stages:
        lines.append(f"{stage.stage:<{width}}  {stage.verdict}")
        lines += [f"{'':<{width}}    {difference.path}: {_figures(difference)}" for difference in stage.differences]
    if report.first:
        lines.append(f"first difference: {report.first}; likely cause: {report.cause}")
    return "\n".join(lines)


def as_markdown(report: Report) -> str:
    """Formats the answer for a pull request or a job summary."""
    lines = [
        f"**verify {report.revision}**: {report.verdict}",
        "",
        "| stage | verdict | differences |",
        "| --- | --- | --- |",
    ]
    for stage in report.stages:
        found = "<br>".join(f"`{difference.path}`: {_figures(difference)}" for difference in stage.differences)
        lines.append(f"| {stage.stage} | {stage.verdict} | {found} |")
    if report.first:
        lines += ["", f"First difference: `{report.first}`. Likely cause: {report.cause}."]
    return "\n".join(lines)


def as_json(report: Report) -> str:
    """Formats the answer for programs."""
    content = asdict(report) | {"first": report.first, "verdict": report.verdict}
    return json.dumps(_worded(content), indent=2)


def _worded(value: Any) -> Any:
    if isinstance(value, Verdict):
        return str(value)
    if isinstance(value, dict):
        return {key: _worded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_worded(inner) for inner in value]
    return value


def _figures(difference: Comparison) -> str:
    """Says the figures of one difference; at most six of them, for a json file may hold hundreds."""
    items = [
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in difference.figures.items()
    ]
    more = f", and {len(items) - 6} more" if len(items) > 6 else ""
    return ", ".join(items[:6]) + more or str(difference.verdict)


def main(arguments: list[str]) -> int:
    """Answers on stdout and returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m checks.verify", description=__doc__.partition("\n")[0])
    parser.add_argument("revision", nargs="?", default="HEAD", help="what to reproduce (default: HEAD)")
    parser.add_argument("--exact", action="store_true", help="a difference within tolerance fails too")
    parser.add_argument("--quick", action="store_true", help="train nothing: do lock, metrics, params and code agree?")
    parser.add_argument(
        "--dirty", action="store_true", help="go on though the working tree has changes: they are not seen"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true")
    form.add_argument("--markdown", action="store_true")
    options = parser.parse_args(arguments)
    try:
        top = git(Path.cwd(), "rev-parse", "--show-toplevel")
        if top is None:
            raise Unanswerable("not in a Git repository; run it in the project's folder")
        root = Path(top)
        if not options.dirty and git(root, "status", "--porcelain"):
            raise Unanswerable("the working tree has changes that a clone would not see; commit them, or say --dirty")
        if options.quick:
            return _answer_quickly(quick(root, options.revision), options)
        report = verify(root, options.revision, Tolerance())
    except Unanswerable as error:
        print(f"verify: {error}", file=sys.stderr)
        return 2
    print((as_json if options.json else as_markdown if options.markdown else as_text)(report))
    return int(report.verdict > (Verdict.EQUAL if options.exact else Verdict.WITHIN))


def _answer_quickly(reasons: list[str], options: argparse.Namespace) -> int:
    if options.json:
        print(json.dumps({"revision": options.revision, "belongs_together": not reasons, "reasons": reasons}, indent=2))
    else:
        verdict = "do not belong together" if reasons else "belong together; nothing would run"
        lines = [
            f"{options.revision}: lock, metrics, params and code {verdict}",
            *(f"- {reason}" for reason in reasons),
        ]
        print("\n".join(lines))
    return int(bool(reasons))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
