"""Does a revision reproduce? Runs it again in a clean clone and compares every artifact with its dvc.lock.

    python -m checks.verify [REVISION] [--exact] [--quick] [--dirty] [--json | --markdown]
    python -m checks.verify [REVISION] --attest FILE [--key FILE] [--builder URI]
    python -m checks.verify [REVISION] --check-attestation FILE [--trusted-keys FILE]
    python -m checks.verify --make-key FILE

Exit status: 0 if identical, equal or within tolerance; 1 if beyond tolerance, or within it under --exact; 2 if there is
no answer. If train and predict use portable arithmetic and both environments are equal, there is no tolerance, as with
--exact. Artifacts that are in no cache and no remote are judged by the metrics, which are in Git.
--quick trains nothing. It checks that lock, metrics, params and code belong together.
--attest also writes the answer as a statement that others can check offline (docs/attestations.md).
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dvc.repo import Repo
from ruamel.yaml import YAML

from checks import attesting, cli
from checks.artifacts import Agreement, FileComparison, Tolerance, compare_files
from checks.attestation import Rebuild, digest_of
from checks.dvc_internals import DamagedObject, cached_files
from checks.lock import Mismatches, find_mismatches, read_sections, read_stages
from checks.revisions import LOCK_FILE, WORKSPACE, Revision, added_data, find_revision, git
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.made_from import FOLDER
from stages.shared.runtime.terminal import say, visible

ENVIRONMENT = "metrics/environment.json"
COMPUTING = ("train", "predict")  # the stages that have an arithmetic


@dataclass(frozen=True)
class StageComparison:
    """How one stage's outs compare with those of the revision."""

    stage: str
    verdict: Agreement
    differences: list[FileComparison]


@dataclass(frozen=True)
class Reproduction:
    """The answer."""

    revision: str
    stages: list[StageComparison]
    mismatches: list[str]  # what in the revision does not belong to its own dvc.lock
    environment: list[str]  # what differs between the two environment.json
    portable: bool  # whether both runs ought to have the same bytes, whatever their processors
    rebuild: Rebuild

    @property
    def first(self) -> str | None:
        """The first stage in the order of the DAG whose content differs."""
        return next((stage.stage for stage in self.stages if stage.verdict > Agreement.EQUAL), None)

    @property
    def verdict(self) -> Agreement:
        return max((stage.verdict for stage in self.stages), default=Agreement.IDENTICAL)

    @property
    def bytes_expected(self) -> bool:
        """Whether no other processor can be the cause of a difference."""
        return self.portable and not self.environment

    @property
    def cause(self) -> str:
        """The likely cause of the first difference, in words."""
        if self.mismatches:
            return "; ".join(self.mismatches)
        if self.environment:
            return f"another environment: {'; '.join(self.environment)}"
        if self.portable:
            return (
                "the arithmetic is portable and the environments are equal, so no processor is: look for an input that "
                "is not declared, or a faulty machine"
            )
        return "the environments are equal: look for an input that is not declared"


def verify(revision: Revision, tolerance: Tolerance) -> Reproduction:
    """Reproduces a revision in a clean clone, and compares stage by stage.

    Raises:
        Unanswerable: the revision has no lock, or its pipeline does not run.
    """
    old_lock = revision.lock
    for out in (out for entry in old_lock.values() for out in entry.get("outs", [])):
        # damage is told before hours of work
        cached_files(revision.repo, out["md5"], f"{revision.name}: {out['path']}")
    with clean_clone(revision) as clone, tempfile.TemporaryDirectory(prefix="verify-") as folder:
        kept = Path(folder)
        for out in (out for entry in old_lock.values() for out in entry.get("outs", [])):
            copy_missing(out["path"], clone, kept)  # those in Git, before they are made anew
        with Repo(str(clone)) as repo:
            mismatches = find_mismatches(repo, old_lock)
        command = [sys.executable, "-m", "dvc", "repro", "--force"]
        # None of Git's variables, which may come from a hook that has started this program.
        kept_variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        environment = kept_variables | cli.own_programs_first() | {"DVC_NO_ANALYTICS": "1"}
        if subprocess.run(command, cwd=clone, env=environment, stdout=sys.stderr).returncode:
            raise cli.Unanswerable(f"{revision.name}: `dvc repro` failed in a clean clone; see its message above")
        with Repo(str(clone)) as repo:
            new_lock = Revision(WORKSPACE, None, repo).lock
        stages = []
        for stage in (stage for stage in read_stages(clone, read_sections(clone)) if stage in new_lock):
            before = {out["path"]: out.get("md5") for out in old_lock.get(stage, {}).get("outs", [])}
            after = {out["path"]: out.get("md5") for out in new_lock[stage].get("outs", [])}
            changed = [path for path in after if before.get(path) != after[path]]
            differences = [
                difference
                for path in changed
                for difference in compare_out(path, old_files(revision, kept, path), clone, tolerance)
            ]
            verdict = max((difference.verdict for difference in differences), default=Agreement.IDENTICAL)
            stages.append(StageComparison(stage, verdict, differences))
        digests = {path: digest_of(clone / path) for path in out_paths(new_lock)}
        portable = is_portable(old_lock, kept / ENVIRONMENT) and is_portable(new_lock, clone / ENVIRONMENT)
        other_environment = compare_files(ENVIRONMENT, kept / ENVIRONMENT, clone / ENVIRONMENT, tolerance)
    facts = [f"{name}: {change}" for name, change in other_environment.figures.items()]
    verdicts = {stage.stage: stage.verdict for stage in stages}
    rebuild = Rebuild(str(revision.commit), new_lock, digests, verdicts)
    return Reproduction(revision.name, stages, mismatches.reasons, facts, portable, rebuild)


def is_portable(lock: Mapping[str, Any], environment: Path) -> bool:
    """Says whether train and predict computed what every x86-64 processor with AVX2 computes."""
    sections = [lock.get(stage, {}).get("params", {}).get("params.yaml", {}).get(stage, {}) for stage in COMPUTING]
    if any(section.get("arithmetic") != "portable" for section in sections):
        return False
    try:
        (facts,) = json.loads(environment.read_text(encoding="utf-8"))["environment"]
    except (OSError, ValueError, LookupError, TypeError):
        return False
    return facts.get("device") == "cpu" and "cpu_features" not in facts  # they are there where the bytes depend on them


def quick(revision: Revision) -> Mismatches:
    """Says what in a revision does not belong together, without running a stage."""
    lock = revision.lock
    with clean_clone(revision, by_hash=True) as clone, Repo(str(clone)) as repo:
        mismatches = find_mismatches(repo, lock)
        if not mismatches.stages:
            repo.index.graph  # noqa: B018  (DVC reads all of dvc.yaml, and says what it does not understand)
        return mismatches


@contextmanager
def clean_clone(revision: Revision, by_hash: bool = False) -> Iterator[Path]:
    """Yields a clone at a revision, with nothing that Git does not know but the user's data and checkpoint files.

    Args:
        by_hash: data that DVC knows by their hash (`dvc add`) are left out, wherever that tells what they are.

    Raises:
        Unanswerable: what `dvc add` keeps is in no cache, no remote and not in the workspace.
    """
    with tempfile.TemporaryDirectory(prefix="verify-") as folder:
        whole = Path(folder) / "project"
        folder_in_git = git(revision.root, "rev-parse", "--show-prefix") or ""  # it may be a part of the repository
        top = git(revision.root, "rev-parse", "--show-toplevel") or str(revision.root)
        subprocess.run(["git", "clone", "--quiet", "--no-checkout", top, str(whole)], check=True)
        subprocess.run(["git", "checkout", "--quiet", "--detach", str(revision.commit)], cwd=whole, check=True)
        clone = whole / folder_in_git
        params = read_sections(clone, "download")
        added = added_data(clone)
        for name in (str(params["download"].get(key)) for key in ("dataset_files", "checkpoint_files")):
            if not Path(name).is_absolute():  # what lies elsewhere is read from there
                copy_missing(name, revision.root, clone, added)
        listed = (dep for stage in read_stages(clone, params).values() for dep in stage.get("deps", []))
        deps = {Path(os.path.normpath(dep)) for dep in listed}
        for path, one in added.items():
            inside = any(Path(path).is_relative_to(dep) and Path(path) != dep for dep in deps)
            if inside or (not by_hash and any(dep.is_relative_to(path) for dep in deps)):
                place_added(revision.added_files(path, one), clone / path)
                keep_as_data(clone / one.file)
        yield clone


def place_added(files: Mapping[str, Path], target: Path) -> None:
    """Copies what DVC keeps to its place."""
    for name, file in files.items():
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)  # without the cache's mode, which allows no write


def keep_as_data(file: Path) -> None:
    """Makes the .dvc file of an import one of `dvc add`: a forced run would ask its source, which may be gone."""
    yaml = YAML(typ="safe", pure=True)
    content = yaml.load(file)
    if "deps" in content:
        yaml.dump({key: content[key] for key in ("wdir", "outs") if key in content}, file)


def copy_missing(name: str, source: Path, target: Path, added: Iterable[str] = ()) -> None:
    """Copies a file, or the files of a folder, as far as the other tree does not have them.

    Args:
        added: what `dvc add` keeps, which is not copied: the workspace may hold another version.
    """
    for inner, file in _files(source / name).items():
        copy = target / name / inner
        if not file.is_file() or copy.exists():
            continue
        if not any(copy.is_relative_to(target / path) for path in added):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, copy)


def out_paths(lock: Mapping[str, Any]) -> list[str]:
    """Returns the paths of all outs of a lock."""
    return [out["path"] for entry in lock.values() for out in entry.get("outs", [])]


def old_files(revision: Revision, kept: Path, path: str) -> dict[str, Path] | None:
    """Returns a revision's files of an out, by their names in it; None if they are in no cache and no remote.

    Raises:
        DamagedObject: one of them has other bytes than the revision's run wrote.
    """
    if (kept / path).exists():
        return _files(kept / path)
    try:
        return revision.files(path)
    except DamagedObject:
        raise
    except cli.Unanswerable:
        return None


def compare_out(path: str, old: dict[str, Path] | None, clone: Path, tolerance: Tolerance) -> list[FileComparison]:
    """Compares the files of one out, and returns those that differ."""
    if old is None:
        return [FileComparison(path, Agreement.UNKNOWN, {"old": "in no cache and no remote"})]
    differences = []
    for name in sorted(old.keys() | _files(clone / path).keys()):
        whole = (Path(path) / name).as_posix()
        found = compare_files(whole, old.get(name), clone / whole, tolerance)
        if whole == ENVIRONMENT or Path(whole).parent == FOLDER:  # a likely cause, and no result
            found = replace(found, verdict=min(found.verdict, Agreement.WITHIN))
        if found.verdict is not Agreement.IDENTICAL:
            differences.append(found)
    return differences


def _files(path: Path) -> dict[str, Path]:
    """Returns the files of a folder by their names in it; a file by "."."""
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return {file.relative_to(path).as_posix(): file for file in files}


# Printing


def as_text(report: Reproduction) -> str:
    """Formats the answer for a terminal."""
    lines = [f"{report.revision}: `dvc repro --force` in a clean clone, against its dvc.lock"]
    width = max(len(stage.stage) for stage in report.stages)
    for stage in report.stages:
        lines.append(f"{stage.stage:<{width}}  {stage.verdict}")
        lines += [f"{'':<{width}}    {difference.path}: {_figures(difference)}" for difference in stage.differences]
    if report.first:
        lines.append(f"first difference: {report.first}; likely cause: {report.cause}")
    return "\n".join(lines)


def as_markdown(report: Reproduction) -> str:
    """Formats the answer for a pull request or a job summary."""
    rows = [["stage", "verdict", "differences"]]
    for stage in report.stages:
        found = "<br>".join(f"`{difference.path}`: {_figures(difference)}" for difference in stage.differences)
        rows.append([stage.stage, str(stage.verdict), found])
    lines = [f"**verify {report.revision}**: {report.verdict}", "", *cli.markdown_table(rows)]
    if report.first:
        lines += ["", f"First difference: `{report.first}`. Likely cause: {report.cause}."]
    return "\n".join(lines)


def as_json(report: Reproduction) -> str:
    """Formats the answer for programs."""
    content = asdict(report, dict_factory=_worded) | _worded([("first", report.first), ("verdict", report.verdict)])
    del content["rebuild"]  # --attest writes that
    return json.dumps(content, indent=2)


def _worded(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Agreement) else value for name, value in items}


def _figures(difference: FileComparison) -> str:
    """Says the figures of one difference; at most six of them, for a json file may hold hundreds."""
    items = [
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in difference.figures.items()
    ]
    more = f", and {len(items) - 6} more" if len(items) > 6 else ""
    return ", ".join(items[:6]) + more or str(difference.verdict)


def quick_answer(revision: str, mismatches: Mismatches, as_json: bool) -> str:
    """Formats the answer of --quick."""
    reasons = [*mismatches.reasons, *(f"{stage} would run" for stage in mismatches.stages)]
    if as_json:
        return json.dumps({"revision": revision, "belongs_together": not reasons, "reasons": reasons}, indent=2)
    verdict = "do not belong together" if reasons else "belong together; nothing would run"
    return "\n".join(
        [f"{revision}: lock, metrics, params and code {verdict}", *(f"- {visible(reason)}" for reason in reasons)]
    )


def main(arguments: list[str]) -> int:
    """Answers on stdout and returns the exit status."""
    parser = cli.make_parser("verify", __doc__)
    parser.add_argument("revision", nargs="?", default="HEAD", help="what to reproduce (default: HEAD)")
    parser.add_argument("--exact", action="store_true", help="a difference within tolerance also fails")
    parser.add_argument("--quick", action="store_true", help="train nothing: do lock, metrics, params and code agree?")
    parser.add_argument(
        "--dirty", action="store_true", help="run although the working tree has changes, and ignore them"
    )
    cli.add_forms(parser, as_text, {"--json": as_json, "--markdown": as_markdown})
    attesting.add_options(parser)
    options = parser.parse_args(arguments)
    attesting.check_options(parser, options)

    def ask(repo: Any) -> int:
        if options.make_key:
            return attesting.make_key(Path(options.make_key), Path(repo.root_dir))
        if options.check_attestation:
            return attesting.check(options, find_revision(repo, options.revision))
        if not options.dirty and git(Path(repo.root_dir), "status", "--porcelain", "--", "."):
            workspace = Revision(WORKSPACE, None, repo)
            if workspace.text(LOCK_FILE) is not None:
                workspace.lock  # noqa: B018  (where it is broken, that is what to say)
            raise cli.Unanswerable(
                "the working tree has changes that a clone would not see; commit them, or use --dirty"
            )
        revision = find_revision(repo, options.revision)
        if options.quick:
            mismatches = quick(revision)
            say(quick_answer(options.revision, mismatches, options.form is as_json))
            return int(bool(mismatches.reasons))
        attest = attesting.prepared(options, revision) if options.attest else None
        report = verify(revision, Tolerance())
        say(options.form(report))
        if attest:
            attest(report.rebuild)
        exact = options.exact or report.bytes_expected
        return int(report.verdict > (Agreement.EQUAL if exact else Agreement.WITHIN))

    return cli.answer("verify", ask, BadInput)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
