"""dvc.yaml, params.yaml and stages/ tell one story."""

import ast
import importlib
import json
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from benchmarks.hard_pairs import HARD_PAIRS
from checks.dvc_internals import content_of
from checks.schema import make_schema
from stages.report.inputs import SECTIONS
from stages.shared.runtime.sections import SCHEMA_FILE
from tests.project import PARAMS as TESTS_PARAMS
from tests.project import STAGES as OURS
from tests.project import Project

ROOT = Path(__file__).parents[1]
DAG: dict[str, Any] = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")
PARAMS: dict[str, Any] = YAML(typ="safe", pure=True).load(ROOT / "params.yaml")
# Those whose code is in stages/. What else a project's dvc.yaml runs is its owner's, who may do it as they like.
STAGES = [name for name in DAG["stages"] if (ROOT / "stages" / name / "__main__.py").is_file()]
NOT_IN_A_STAGE = {"execution", "gate"}  # read by stages or by checks, listed by none


def program(stage: str) -> Path:
    return ROOT / "stages" / stage / "__main__.py"


def named(stage: str, kind: str) -> Any:
    """Returns the stage's dataclass of Params or Files."""
    return getattr(importlib.import_module(f"stages.{stage}.{stage}"), f"{stage.capitalize()}{kind}")


def paths(entries: list[Any]) -> set[str]:
    return {next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries}


def imports(file: Path) -> set[Path]:
    """Returns the project's files that `file` imports, with the packages that they lie in."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            if name.split(".")[0] in ("stages", "checks"):
                path = ROOT / Path(*name.split("."))
                found |= {
                    candidate for candidate in (path.with_suffix(".py"), path / "__init__.py") if candidate.exists()
                }
    return found


def closure(file: Path) -> set[str]:
    reached, waiting = set(), {file}
    while waiting:
        current = waiting.pop()
        reached.add(current)
        packages = {
            file for parent in current.parents if ROOT in parent.parents and (file := parent / "__init__.py").exists()
        }
        waiting |= (imports(current) | packages) - reached
    return {str(path.relative_to(ROOT)) for path in reached}


def code_deps(stage: str) -> list[str]:
    return [dep for dep in DAG["stages"][stage]["deps"] if dep.startswith("stages/")]


def holds(dep: str, file: str) -> bool:
    return file == dep or file.startswith(f"{dep}/")


def unlisted(listed: list[str], reached: set[str]) -> set[str]:
    return {file for file in reached if not any(holds(dep, file) for dep in listed)}


def unused(listed: list[str], reached: set[str]) -> set[str]:
    # a folder's __init__.py is reached on the way to others
    return {dep for dep in listed if not any(holds(dep, file) for file in reached if file != f"{dep}/__init__.py")}


def test_the_six_stages_are_there() -> None:
    assert [name for name in STAGES if name in OURS] == list(OURS)


@pytest.mark.parametrize("stage", STAGES)
def test_every_module_that_a_stage_can_import_lies_in_what_it_lists(stage: str) -> None:
    assert not unlisted(code_deps(stage), closure(program(stage)))


@pytest.mark.parametrize("stage", STAGES)
def test_nothing_that_a_stage_lists_is_unused(stage: str) -> None:
    assert not unused(code_deps(stage), closure(program(stage)))


@pytest.mark.parametrize("stage", STAGES)
def test_every_module_of_a_stage_is_part_of_its_program(stage: str) -> None:
    files = {str(file.relative_to(ROOT)) for file in (ROOT / "stages" / stage).rglob("*.py")}
    assert files == {file for file in closure(program(stage)) if holds(f"stages/{stage}", file)}


def test_a_missing_and_a_needless_code_dep_are_noticed() -> None:
    listed, reached = code_deps("tokenize"), closure(program("tokenize"))
    assert "stages/shared/runtime/publish.py" in reached  # which nothing but other shared modules may import
    assert "stages/shared/runtime/publish.py" in unlisted([dep for dep in listed if "runtime" not in dep], reached)
    assert unused([*listed, "stages/shared/model"], reached) == {"stages/shared/model"}


@pytest.mark.parametrize("stage", STAGES)
def test_no_stage_imports_another(stage: str) -> None:
    others = {f"stages/{name}" for name in STAGES if name != stage}
    assert not [file for file in closure(program(stage)) if any(holds(other, file) for other in others)]


def test_the_scorer_and_the_seconds_of_its_library_are_for_train_and_evaluate_alone() -> None:
    scorer = "stages/shared/task/scorer.py"
    assert {stage for stage in OURS if scorer in closure(program(stage))} == {"train", "evaluate"}
    assert not [file.name for file in (ROOT / "checks").glob("*.py") if scorer in closure(file)]


@pytest.mark.parametrize("room", ["runtime", "task", "statistics", "model"])
def test_shared_code_imports_no_stage(room: str) -> None:
    for file in (ROOT / "stages" / "shared" / room).glob("*.py"):
        assert all(name.startswith(("stages/shared/", "stages/__init__")) for name in closure(file))


def record_of(stage: str) -> str:
    return f"metrics/made_from/{stage}.json"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_says_what_it_was_made_from_and_no_stage_reads_that(stage: str) -> None:
    assert {record_of(stage): {"cache": False}} in DAG["stages"][stage]["metrics"]
    assert not [dep for name in STAGES for dep in DAG["stages"][name]["deps"] if holds(dep, record_of(stage))]


@pytest.mark.parametrize("stage", STAGES)
def test_the_files_of_a_stage_are_its_deps_and_outs(stage: str) -> None:
    entry = DAG["stages"][stage]
    data = {str(field.default) for field in fields(named(stage, "Files"))} - {"params.yaml", "requirements.txt"}
    outs = paths([*entry.get("outs", []), *entry.get("metrics", []), *entry.get("plots", [])])
    deps = {dep for dep in paths(entry["deps"]) if not dep.startswith(("stages/", "${", "requirements"))}
    # the runner writes what the stage was made from, the same for every stage
    assert {file for file in data if not file.startswith(".scratch/")} == (outs - {record_of(stage)}) | deps


def test_what_python_compiled_is_no_input(project: Project) -> None:
    folder = project.folder / "stages" / "train"

    def as_dvc_hashes_it() -> Any:
        with Repo(project.folder) as repo:
            return content_of(repo, str(folder))

    before = as_dvc_hashes_it()
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "train.cpython-311.pyc").write_bytes(b"compiled")
    assert as_dvc_hashes_it() == before
    (folder / "new.py").touch()
    assert as_dvc_hashes_it() != before


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_reads_its_own_section_whole(stage: str) -> None:
    # report shows the parameters of the stages before it: when they change, those rerun, and so must the page.
    # baselines scores what evaluate scores, and runs the encoder as predict runs the model.
    several = {"report": list(SECTIONS), "baselines": ["baselines", "evaluate", "predict"]}
    assert DAG["stages"][stage]["params"] == several.get(stage, [stage])
    assert [field.name for field in fields(named(stage, "Params"))] == list(PARAMS[stage])


@pytest.mark.parametrize("stage", STAGES)
def test_cmd_is_the_stage_and_nothing_else(stage: str) -> None:
    assert DAG["stages"][stage]["cmd"] == f"exec python -m stages.{stage}"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_says_in_a_short_line_why_it_is_one(stage: str) -> None:
    assert len(DAG["stages"][stage]["desc"].splitlines()[0]) <= 80


@pytest.mark.parametrize("stage", STAGES)
def test_the_keys_of_a_stage_keep_one_order(stage: str) -> None:
    order = ["desc", "cmd", "params", "deps", "outs", "metrics", "plots"]
    assert list(DAG["stages"][stage]) == [key for key in order if key in DAG["stages"][stage]]


@pytest.mark.parametrize("stage", STAGES)
def test_an_upgrade_of_a_package_reruns_the_stage(stage: str) -> None:
    assert "requirements.txt" in DAG["stages"][stage]["deps"]


def test_the_users_folders_are_deps_of_download() -> None:
    listed = DAG["stages"]["download"]["deps"]
    assert {"${download.dataset_files}", "${download.checkpoint_files}"} <= set(listed)


def test_every_stage_has_its_section() -> None:
    assert set(PARAMS) >= set(STAGES) | NOT_IN_A_STAGE


def test_the_schema_is_that_of_the_dataclasses() -> None:
    made, there = make_schema(ROOT)["properties"], json.loads((ROOT / SCHEMA_FILE).read_text(encoding="utf-8"))
    known = {name: section for name, section in made.items() if name in there["properties"]}
    assert there["properties"] == known, "run `python -m checks.schema`"
    assert set(known) >= set(OURS) | NOT_IN_A_STAGE


def test_the_schema_only_refuses_so_a_new_parameter_elsewhere_reruns_nothing() -> None:
    assert not [name for name, entry in DAG["stages"].items() if str(SCHEMA_FILE) in entry.get("deps", [])]


@pytest.mark.release
def test_the_parameters_of_the_tests_are_those_of_params_yaml() -> None:
    assert PARAMS | {"download": PARAMS["download"] | HARD_PAIRS} == TESTS_PARAMS


@pytest.mark.release
def test_every_parameter_has_a_comment() -> None:
    lines = (ROOT / "params.yaml").read_text(encoding="utf-8").splitlines()
    pairs = pairwise(lines)
    assert not [line for above, line in pairs if line.startswith("  ") and not (line + above).count("  #")]


def test_small_results_are_in_git_and_large_ones_in_the_cache() -> None:
    for entry in (DAG["stages"][name] for name in STAGES):
        for out in [*entry.get("outs", []), *entry.get("metrics", []), *entry.get("plots", [])]:
            path = next(iter(out)) if isinstance(out, dict) else out
            cached = not (isinstance(out, dict) and out[path].get("cache") is False)
            # The page and the card quote the data, which is not for everyone who may read the repository. The list of
            # materials lies beside them: in Git it would have to be a metric, and `dvc metrics diff` would print it.
            quotes = path in {"metrics/report.html", "metrics/model_card.md", "metrics/model.cdx.json"}
            assert cached == (quotes or not path.startswith("metrics/")), path


def test_what_the_report_alone_needs_reruns_no_other_stage() -> None:
    listed = {stage for stage in STAGES if "requirements-report.txt" in DAG["stages"][stage]["deps"]}
    assert listed == {"report"}


def test_every_stage_can_come_from_the_run_cache() -> None:
    """DVC leaves a stage with a plain out in Git out of its run cache; metrics and plots may be there."""
    for entry in (DAG["stages"][name] for name in STAGES):
        assert all(isinstance(out, str) for out in entry.get("outs", []))
