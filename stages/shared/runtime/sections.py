"""Checks every section of params.yaml against params.schema.json before a stage runs.

A value that only the last stage reads is refused before the first one trains for hours. A stage cannot ask the others:
it would have to import them. So the schema is a file, generated from their dataclasses by `python -m checks.schema`. No
result depends on it, so it is no input of a stage.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from pydantic import Field
from typing_extensions import TypedDict

from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.params import PARAMS_FILE, fill, fill_section, params_dataclass, read_document

SCHEMA_FILE = Path("params.schema.json")
TYPES = {"boolean": bool, "integer": int, "null": None, "number": float, "string": str}
BOUNDS = {
    "exclusiveMaximum": "lt",
    "exclusiveMinimum": "gt",
    "maximum": "le",
    "minimum": "ge",
    "minItems": "min_length",
    "minLength": "min_length",
}


def check_sections(root: Path = Path()) -> None:
    """Refuses a params.yaml of which any section that the project's schema knows does not fit.

    Other sections are their owner's. A folder without a schema is checked by each stage alone, its own section.

    Raises:
        BadInput: a section is missing, or a key is unknown, missing, mistyped or out of range; the schema is damaged.
    """
    if not (root / SCHEMA_FILE).is_file():
        return
    try:
        sections = json.loads((root / SCHEMA_FILE).read_text(encoding="utf-8"))["properties"]
    except (ValueError, LookupError, TypeError):
        raise BadInput(f"{SCHEMA_FILE}: outdated or edited; run `python -m checks.schema`") from None
    document = read_document(root / PARAMS_FILE)
    for name, node in sections.items():
        place, values = f"{PARAMS_FILE.name}: {name}", document.get(name)
        if node["type"] == "object":
            fill_section(as_dataclass(node), values, place)
        elif name in document:  # a list, which may be left out
            if not isinstance(values, list) or not all(isinstance(value, Mapping) for value in values):
                raise BadInput(f"{place}: must be a list of sections, got {values!r}")
            for number, value in enumerate(values):
                fill(as_dataclass(kind_of(value, node["items"]["anyOf"])), value, f"{place}[{number}]")


def kind_of(value: Mapping[Any, Any], kinds: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Returns the schema of which a section has a required key; the last one, if it has none of any."""
    return next((kind for kind in kinds if set(kind["required"]) & value.keys()), kinds[-1])


def as_dataclass(node: Mapping[str, Any]) -> type[Any]:
    """Makes a dataclass of a JSON schema of an object: it refuses what the one refuses that the schema was made of."""
    types = {name: as_type(inner) for name, inner in node["properties"].items()}
    defaults = {name: inner["default"] for name, inner in node["properties"].items() if "default" in inner}
    return params_dataclass(type("Section", (), {"__annotations__": types, **defaults}))


def as_type(node: Mapping[str, Any]) -> Any:
    """Returns the type of the values that a JSON schema accepts; what is beyond this, the stage itself checks."""
    if "anyOf" in node:
        return Union[tuple(as_type(inner) for inner in node["anyOf"])]  # noqa: UP007  (made while it runs)
    if "enum" in node or "const" in node:
        return Literal[tuple(node.get("enum", [node.get("const")]))]
    if "properties" in node:
        return TypedDict("Section", {name: as_type(inner) for name, inner in node["properties"].items()})  # type: ignore[operator]
    if node.get("type") == "array" and "items" in node:
        kind: Any = list[as_type(node["items"])]  # type: ignore[misc]
    elif isinstance(node.get("additionalProperties"), Mapping):
        kind = dict[str, as_type(node["additionalProperties"])]  # type: ignore[misc]
    else:
        kind = TYPES.get(str(node.get("type")), Any)
    bounds = {BOUNDS[name]: value for name, value in node.items() if name in BOUNDS}
    return Annotated[kind, Field(**bounds)] if bounds else kind
