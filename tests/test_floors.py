"""checks/ and ship/ have two floors: commands, and below them modules that know none; each name means one thing."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(file for folder in ("checks", "ship") for file in (ROOT / folder).glob("*.py"))
COMMANDS = {
    f"checks.{name}"
    for name in (
        "ci",
        "compare",
        "folds",
        "gate",
        "leaderboard",
        "learning_curve",
        "new",
        "schema",
        "seeds",
        "suspects",
    )
}
COMMANDS |= {f"checks.{name}" for name in ("upgrade", "verify", "why")}
COMMANDS |= {f"ship.{name}" for name in ("export", "glue", "push", "score")}
PUBLIC = {"dvc.repo.Repo", "dvc.exceptions.DvcException"}


def parse(source: str) -> list[ast.AST]:
    return list(ast.walk(ast.parse(source)))


def imported(source: str) -> Iterator[str]:
    """Yields the whole names of what a module imports."""
    for node in parse(source):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def commands_imported(source: str) -> set[str]:
    return {name for name in imported(source) if ".".join(name.split(".")[:2]) in COMMANDS}


def internals_used(source: str) -> set[str]:
    """Returns what a module imports of DVC beyond what DVC documents, and the private attributes that it reads."""
    found = {name for name in imported(source) if name.split(".")[0].startswith(("dvc", "scmrepo"))} - PUBLIC
    return found | {node.attr for node in parse(source) if isinstance(node, ast.Attribute) and is_private(node)}


def is_private(node: ast.Attribute) -> bool:
    own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
    return node.attr.startswith("_") and not node.attr.startswith("__") and not own


def long_signatures(source: str) -> set[str]:
    """Returns the functions that take more than five positional arguments."""
    functions = (node for node in parse(source) if isinstance(node, ast.FunctionDef))
    return {one.name for one in functions if len([*one.args.posonlyargs, *one.args.args]) - is_method(one) > 5}


def is_method(function: ast.FunctionDef) -> bool:
    return bool(function.args.args) and function.args.args[0].arg in ("self", "cls")


def test_the_commands_are_those_with_a_main() -> None:
    found = {file for file in FILES if "def main(" in file.read_text(encoding="utf-8")}
    assert {f"{file.parent.name}.{file.stem}" for file in found} == COMMANDS


@pytest.mark.parametrize("folder", ["checks", "ship", "stages", "benchmarks"])
def test_no_module_imports_a_command(folder: str) -> None:
    files = list((ROOT / folder).rglob("*.py"))
    assert files and not {file.name for file in files if commands_imported(file.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("folder", ["stages", "checks"])
def test_neither_stages_nor_checks_know_what_uses_the_model(folder: str) -> None:
    sources = [file.read_text(encoding="utf-8") for file in (ROOT / folder).rglob("*.py")]
    assert not [name for source in sources for name in imported(source) if name.startswith("ship")]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_dvc_does_not_promise_is_used_in_one_module(file: Path) -> None:
    assert bool(internals_used(file.read_text(encoding="utf-8"))) == (file.stem == "dvc_internals")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_function_takes_more_than_five_positional_arguments(file: Path) -> None:
    assert not long_signatures(file.read_text(encoding="utf-8"))


def test_a_class_has_its_name_alone() -> None:
    files = [file for folder in ("checks", "ship", "stages") for file in (ROOT / folder).rglob("*.py")]
    nodes = (node for file in files for node in parse(file.read_text(encoding="utf-8")))
    names = Counter(node.name for node in nodes if isinstance(node, ast.ClassDef))
    assert names["Revision"] and not [name for name, times in names.items() if times > 1]


def test_each_of_these_walls_can_break() -> None:
    assert commands_imported("from checks import lock, verify") == {"checks.verify"}
    assert commands_imported("def f():\n    from checks.compare import MARGIN") == {"checks.compare.MARGIN"}
    assert internals_used("from dvc.repo import Repo\nfrom dvc.stage.cache import _can_hash") == {
        "dvc.stage.cache._can_hash"
    }
    assert internals_used("import dvc_data\nstage.cache._load(1)\nself._own()") == {"dvc_data", "_load"}
    assert long_signatures("def f(a, b, c, d, e, f): ...\ndef g(self, a, b, c, d, e, *, f): ...") == {"f"}
