"""Writes params.schema.json, the schema of params.yaml, for editors and for the check at the start of every run.

    python -m checks.schema

The schema is generated from the dataclasses in which the stages declare their parameters. Run this after you change one
or add a stage. Editors with the YAML language server use it to complete and check params.yaml.
Exit status: 0; 1 with one line on stderr if a stage has no such dataclass.
"""

import importlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from checks import cli
from checks.lock import read_parameters, read_stages
from checks.rules import ExportRule, RebuiltRule, Rule
from stages.shared.runtime.execution import Execution
from stages.shared.runtime.publish import write_json
from stages.shared.runtime.sections import SCHEMA_FILE
from stages.shared.runtime.terminal import say

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def make_schema(root: Path) -> dict[str, Any]:
    """Returns the JSON schema of a project's params.yaml: a section for each stage that is made of code in stages/.

    Raises:
        Unanswerable: dvc.yaml cannot be read, or a stage lacks its dataclass.
    """
    stages = [name for name in read_stages(root, read_parameters(root)) if (root / "stages" / name).is_dir()]
    sections = {name: section_of(declared(name)) for name in stages} | {"execution": section_of(Execution)}
    gate = {"type": "array", "items": {"anyOf": [section_of(ExportRule), section_of(RebuiltRule), section_of(Rule)]}}
    return {
        "$schema": DRAFT,
        "title": "params.yaml",
        "type": "object",
        "properties": {**sections, "gate": gate},
        "required": list(sections),
    }


def declared(stage: str) -> type[Any]:
    """Returns the dataclass of a stage's parameters, by its name."""
    module, name = f"stages.{stage}.{stage}", f"{stage.capitalize()}Params"
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        raise cli.Unanswerable(
            f"{module}: no dataclass {name}; docs/architecture.md describes what a stage needs"
        ) from None


def section_of(dataclass: type[Any]) -> dict[str, Any]:
    """Returns the JSON schema of a section, without the titles that repeat its keys, and in one piece."""
    schema = TypeAdapter(dataclass).json_schema()
    return dict(_plain(schema, schema.pop("$defs", {})))


def _plain(node: Any, parts: Mapping[str, Any]) -> Any:
    """Leaves out the titles, and puts a part that is defined elsewhere where it is referred to."""
    if isinstance(node, dict):
        if "$ref" in node:
            return _plain(parts[node["$ref"].rpartition("/")[2]], parts)
        return {name: _plain(inner, parts) for name, inner in node.items() if name != "title"}
    return [_plain(inner, parts) for inner in node] if isinstance(node, list) else node


def main(arguments: Sequence[str]) -> int:
    """Writes the file and returns the exit status."""
    cli.make_parser("schema", __doc__).parse_args(arguments)

    def ask(repo: Any) -> int:
        root = Path(repo.root_dir)
        write_json(root / SCHEMA_FILE, make_schema(root))
        say(f"schema: {SCHEMA_FILE}")
        return 0

    return cli.answer("schema", ask, unanswered=1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
