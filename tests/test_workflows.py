"""The GitHub workflows: valid, pinned, without rights, and running only what a person can run here too."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))
NAMES = [file.name for file in FILES]
SCHEMA = "vendor.github-workflows"
TIMEOUTS = "custom.github-workflows-require-timeout"


def refused(schema: str, *files: Path) -> set[str]:
    """Returns the names of the workflows that `schema`, part of check-jsonschema's package, does not accept."""
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--output-format", "json", "--builtin-schema", schema, *files],
        capture_output=True,
        text=True,
    )
    answer = json.loads(done.stdout)
    assert not answer.get("parse_errors"), answer
    assert done.returncode == (answer["status"] != "ok"), done.stderr
    return {Path(error["filename"]).name for error in answer.get("errors", [])}


def unpinned(text: str) -> list[str]:
    """Returns the lines that use an action otherwise than by a whole commit, with its version beside it."""
    pin = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
    uses = re.findall(r"^[\s-]*uses:\s*(.*?)\s*$", text, re.MULTILINE)
    return [line for line in uses if not pin.fullmatch(line)]


def steps(text: str) -> Iterator[dict[str, Any]]:
    for job in parse(text)["jobs"].values():
        yield from job.get("steps", [])


def scripts(text: str) -> list[str]:
    return [step["run"] for step in steps(text) if "run" in step]


def inlined(text: str) -> list[str]:
    """Returns the scripts that GitHub completes before the shell reads them: whoever names a branch writes code."""
    return [script for script in scripts(text) if "${{" in script]


def writable(text: str) -> list[str]:
    """Returns the permissions that are more than reading the code, on top or in a job."""
    workflow = parse(text)
    found = [] if workflow.get("permissions") == {"contents": "read"} else ["top level"]
    return found + [name for name, job in workflow["jobs"].items() if "permissions" in job]


def unknown_commands(text: str) -> list[str]:
    """Returns the `make` targets, the checks and the options of checks that a script names and nobody wrote."""
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    unknown = []
    for line in "\n".join(scripts(text)).splitlines():
        unknown += [f"make {target}" for target in re.findall(r"\bmake ([\w-]+)", line) if target not in targets]
        for module, arguments in re.findall(r"\bpython -m (checks[\w.]*)([^>|;&]*)", line):
            file = ROOT / f"{module.replace('.', '/')}.py"
            source = file.read_text(encoding="utf-8") if file.exists() else ""
            options = [option for option in arguments.split() if option.startswith("-")] if source else []
            unknown += [f"{module} {option}" for option in options if f'"{option}"' not in source]
            unknown += [] if source else [module]
    return unknown


def parse(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


@pytest.fixture(params=FILES, ids=NAMES)
def text(request: pytest.FixtureRequest) -> str:
    return request.param.read_text(encoding="utf-8")


def test_there_is_one_workflow_for_pushes_one_for_pull_requests_and_one_for_the_night() -> None:
    triggers = {file.name: set(parse(file.read_text(encoding="utf-8"))["on"]) for file in FILES}
    assert triggers == {
        "nightly.yml": {"schedule", "workflow_dispatch"},
        "pull_request.yml": {"pull_request"},
        "tests.yml": {"push", "pull_request"},
    }


@pytest.mark.parametrize("schema", [SCHEMA, TIMEOUTS])
def test_every_workflow_is_valid_and_every_job_has_a_timeout(schema: str) -> None:
    assert refused(schema, *FILES) == set()


def test_a_broken_workflow_is_refused(tmp_path: Path) -> None:
    whole = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    broken = {
        "misspelt key.yml": whole.replace("timeout-minutes:", "timeout-minute:"),
        "no runner.yml": whole.replace("    runs-on: ubuntu-24.04\n", ""),
        "no such right.yml": whole.replace("contents: read", "contents: reed"),
        "no such event.yml": whole.replace("  push:\n", "  pushed:\n"),
    }
    for name, content in {"whole.yml": whole, **broken}.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    assert refused(SCHEMA, *tmp_path.iterdir()) == set(broken)


def test_every_action_is_pinned_by_its_commit_with_the_version_beside_it(text: str) -> None:
    assert text.count("uses:") >= 2
    assert unpinned(text) == []


def test_all_workflows_pin_the_same_commit_of_an_action() -> None:
    pins = {step["uses"] for file in FILES for step in steps(file.read_text(encoding="utf-8")) if "uses" in step}
    assert len(pins) == len({pin.split("@")[0] for pin in pins}), pins


def test_a_workflow_may_read_the_code_and_nothing_else(text: str) -> None:
    assert writable(text) == []
    assert "secrets." not in text


def test_a_checkout_leaves_no_token_behind(text: str) -> None:
    checkouts = [step for step in steps(text) if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_nothing_is_inlined_into_a_script(text: str) -> None:
    assert inlined(text) == []


def test_the_base_branch_is_fetched_where_it_is_compared_with(text: str) -> None:
    depths = [step.get("with", {}).get("fetch-depth") for step in steps(text) if "checkout@" in step.get("uses", "")]
    assert depths == ([0] if "github.base_ref" in text else [None])


def test_a_newer_push_ends_the_older_run_and_nothing_cuts_a_night_short(text: str) -> None:
    assert parse(text)["concurrency"]["cancel-in-progress"] is ("schedule" not in parse(text)["on"])


def test_downloads_are_cached_by_all_requirements_files(text: str) -> None:
    python = [step["with"] for step in steps(text) if "setup-python@" in step.get("uses", "")]
    assert [settings["cache"] for settings in python] == ["pip"]
    found = {file.name for settings in python for file in ROOT.glob(settings["cache-dependency-path"])}
    assert found == {f"requirements{part}.txt" for part in ("", "-onnx", "-report", "-tools")}


def test_every_command_exists(text: str) -> None:
    assert unknown_commands(text) == []


@pytest.mark.parametrize(
    ("find", "old", "new"),
    [
        (unpinned, "@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1", "@v7"),
        (unpinned, "@3d3c42e5aac5ba805825da76410c181273ba90b1", "@3d3c42e"),
        (unpinned, " # v4.3.0", ""),
        (inlined, '"$BASE_REF"', '"${{ github.base_ref }}"'),
        (inlined, "make setup", 'echo "${{ github.event.pull_request.title }}"'),
        (inlined, "make setup", 'git switch "${{ github.head_ref }}"'),
        (writable, "contents: read", "contents: write"),
        (writable, "permissions:\n  contents: read\n", ""),
        (writable, "    steps:", "    permissions: write-all\n    steps:"),
        (unknown_commands, "make setup", "make reproduce"),
        (unknown_commands, "make setup", "python -m checks.nobody_wrote_this"),
        (unknown_commands, "make setup", "python -m checks.verify --quickly"),
    ],
)
def test_each_of_these_checks_can_fail(find: Any, old: str, new: str) -> None:
    whole = (ROOT / ".github" / "workflows" / "pull_request.yml").read_text(encoding="utf-8")
    assert old in whole
    assert len(find(whole.replace(old, new))) == 1
