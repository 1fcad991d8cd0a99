"""What the README says twice is what the files say."""

import json
import re
import tomllib
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from ruamel.yaml import YAML

from benchmarks import machines, mrpc, processes, scale
from benchmarks.recipes import CHOICE_EXAMPLES
from checks.artifacts import Tolerance

pytestmark = pytest.mark.release

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def stage_table() -> list[str]:
    dag: dict[str, Any] = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")["stages"]
    rows = []
    for name, entry in dag.items():
        outs = [*entry.get("outs", []), *entry.get("metrics", []), *entry.get("plots", [])]
        names = [next(iter(out)) if isinstance(out, dict) else out for out in outs]
        names.remove(f"metrics/made_from/{name}.json")  # every stage has it
        # one name for all the plots' files
        short = dict.fromkeys("metrics/plots" if name.startswith("metrics/plots/") else name for name in names)
        paths = ", ".join(f"`{name}`" for name in short)
        rows.append(f"| {name} | {entry['desc']} | {paths} |")
    return rows


def result(name: str = "mrpc") -> dict[str, Any]:
    return dict(json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8")))


def test_the_stages_are_those_of_dvc_yaml() -> None:
    assert "\n".join(stage_table()) in README


def test_the_mrpc_table_is_the_measured_one() -> None:
    assert mrpc.table(result(), result("mrpc_all-mpnet-base-v2")) in README


def test_the_lesson_of_selection_is_the_measured_one() -> None:
    assert mrpc.selection(result()) in README


def test_the_cost_of_choosing_a_seed_is_the_simulated_one() -> None:
    (cell,) = [one for one in result("recipes")["choice"] if one["seeds"] == 5]
    said = (
        f"with five seeds each and {CHOICE_EXAMPLES} test examples that nothing was chosen on, the best seed of one is"
    )
    assert f"{said} {100 * cell['above']:.1f} points above the worst of the other" in " ".join(README.split())


def test_the_interval_of_a_mean_is_students() -> None:
    """Student (1908): ten patients, 1.58 hours more of sleep, deviation 1.23; t is 2.262 at nine degrees of freedom."""
    gained = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
    assert mrpc.student_reach(gained) == pytest.approx(2.262 * 1.23 / 10**0.5, abs=2e-3)


def test_the_mrpc_figures_say_on_what_machine_they_were_measured() -> None:
    text, on_gpu = " ".join(README.split()), result("mrpc_all-mpnet-base-v2")
    assert f"{result()['cores']} cores of {result()['processor']}, {result()['date']}" in text
    assert f"{on_gpu['gpu']} with torch {on_gpu['versions']['torch']}, {on_gpu['date']}" in text
    assert all(round(run["seconds"] / 60) == 2 for run in on_gpu["runs"])  # "about two minutes"


@pytest.mark.parametrize("name", ["machines", "machines_mrpc"])
def test_the_table_of_other_machines_is_the_measured_one(name: str) -> None:
    file = ROOT / "benchmarks" / "results" / f"{name}.json"
    assert machines.table(json.loads(file.read_text(encoding="utf-8"))) in README


def test_the_table_of_a_million_pairs_is_the_measured_one() -> None:
    measured = result("scale")
    for page in (README, (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")):
        assert scale.table(measured) in page
        assert f"{measured['cores']} cores of {measured['processor']}, {measured['date']}" in " ".join(page.split())
    assert max(run["peak_mib"] for run in measured["runs"]) < 2048


def test_the_table_of_several_processes_is_the_measured_one() -> None:
    file = ROOT / "benchmarks" / "results" / "processes.json"
    page = (ROOT / "docs" / "several_machines.md").read_text(encoding="utf-8")
    assert processes.table(json.loads(file.read_text(encoding="utf-8"))) in page


def test_the_tolerances_are_those_of_verify() -> None:
    said = re.search(
        r"weights (\S+), logits (\S+), (\S+) % of the predictions flipped, metrics (\S+)\. ", " ".join(README.split())
    )
    assert said is not None
    weights, logits, percent, metrics = map(float, said.groups())
    assert Tolerance(weights, logits, percent / 100, metrics) == Tolerance()


@pytest.mark.parametrize("metric", mrpc.METRICS)
@pytest.mark.parametrize("recipe", ["tunelock", "bf16"])
def test_our_mean_is_not_more_than_a_point_below_the_courses(recipe: str, metric: str) -> None:
    mean = result()["mean"]
    assert mean[recipe][metric] >= mean["course"][metric] - 0.01


@pytest.mark.parametrize("recipe", ["tunelock", "bf16"])
def test_how_fast_it_says_to_be_was_measured(recipe: str) -> None:
    ours, courses = (
        median(run["seconds"] for run in result()["runs"] if run["recipe"] == name) for name in (recipe, "course")
    )
    assert f"{courses / ours:.1f} times as fast" in " ".join(README.split())


def test_the_shown_output_is_that_of_the_committed_run() -> None:
    records = json.loads((ROOT / "metrics" / "intervals.json").read_text(encoding="utf-8"))["intervals"]
    number = r"(\d\.\d+)"
    line = rf"^  (\w+) +{number}  95 % interval {number} to {number}  best constant answer {number}$"
    shown = {name: list(map(float, numbers)) for name, *numbers in re.findall(line, README, re.MULTILINE)}
    said = {one["metric"]: [one[key] for key in ("value", "low", "high", "baseline")] for one in records}
    assert shown.keys() == said.keys()
    assert all(shown[name] == pytest.approx(said[name], abs=5e-4) for name in said)
    for warning in json.loads((ROOT / "metrics" / "warnings.json").read_text(encoding="utf-8"))["warnings"]:
        assert f"warning: {warning['split']}: {warning['message']}" in README


def test_every_command_shown_exists() -> None:
    for target in re.findall(r"(?:`|\$ )make ([a-z-]+)", README):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE), target
    for module in re.findall(r"python -m ([\w.]+)", README):
        path = ROOT / Path(*module.split("."))
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


def test_every_link_leads_to_a_file() -> None:
    own = (ROOT / name for name in ("README.md", "CONTRIBUTING.md"))
    for page in [*own, *(ROOT / "data").glob("*/README.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), target


def test_the_page_on_security_names_tests_that_are_there() -> None:
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ") and not re.match(r"\| (what|never|---) ", line)]
    for row in rows:
        named = re.findall(r"`(tests/test_\w+\.py)`", row)
        assert named and not [name for name in named if not (ROOT / name).is_file()], row
    functions = re.findall(r"`(test_\w+)`", page)
    code = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests").glob("test_*.py"))
    assert functions and not [name for name in functions if f"def {name}(" not in code]


def test_the_citation_file_is_of_this_version() -> None:
    citation = YAML(typ="safe", pure=True).load(ROOT / "CITATION.cff")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)  # what the format requires
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert citation["title"].startswith(f"{project['name']}: ")
