"""Reads a section of params.yaml into the dataclass of its stage, and refuses what does not fit."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from typing_extensions import dataclass_transform

from stages.shared.runtime.errors import BadInput

Params = TypeVar("Params")
PARAMS_FILE = Path("params.yaml")


@dataclass_transform(frozen_default=True)
def params_dataclass(cls: type[Params]) -> type[Params]:
    """Makes a frozen dataclass that knows no conversions ("3" is no number) and no unknown keys."""
    return pydantic_dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))(cls)  # type: ignore[return-value]


def read_params(section: str, schema: type[Params], file: Path = PARAMS_FILE) -> Params:
    """Reads `section` of a params.yaml as an instance of `schema`.

    The file is read as YAML 1.2, as DVC reads it: to YAML 1.1 the `2e-05` that `dvc exp run -S` writes is a string.

    Raises:
        BadInput: the file is no YAML, the section is missing, or a key is unknown, missing, mistyped or out of range.
    """
    return fill_section(schema, read_document(file).get(section), f"{file.name}: {section}")


def read_document(file: Path = PARAMS_FILE) -> Mapping[Any, Any]:
    """Reads a params.yaml; one that is no mapping of sections counts as one without any.

    Raises:
        BadInput: it is not there, or no YAML.
    """
    try:
        document = parsed(file.read_bytes())
    except FileNotFoundError:
        raise BadInput(f"{file.name}: not found; run the stage from the project's root folder") from None
    except YAMLError as error:
        raise BadInput(f"{file.name}: not valid YAML: {' '.join(str(error).split())}") from None
    return document if isinstance(document, Mapping) else {}


@cache
def parsed(text: bytes) -> Any:
    """Reads YAML; the same text once, since a stage asks several times and this takes longer than to read a file."""
    return YAML(typ="safe", pure=True).load(text)


def fill_section(schema: type[Params], values: Any, place: str) -> Params:
    """Makes an instance of `schema` of the section at `place`, such as `params.yaml: train`.

    Raises:
        BadInput: it is no section, or a key is unknown, missing, mistyped or out of range.
    """
    if not isinstance(values, Mapping):
        raise BadInput(f"{place}: expected a section with the keys {', '.join(_names(schema))}")
    return fill(schema, values, place)


def fill(schema: type[Params], values: Mapping[Any, Any], place: str) -> Params:
    """Makes an instance of `schema` of what stands at `place`, such as `params.yaml: train`.

    Raises:
        BadInput: a key is unknown, missing, mistyped or out of range.
    """
    named = {str(key): value for key, value in values.items()}
    try:
        return schema(**named)
    except ValidationError as error:
        path, complaints = _first_complaints(error.errors(), named)
        key = ".".join(str(part) for part in (place, *path))
        raise BadInput(f"{key}: {_expectation(complaints, schema)}") from None


def _names(schema: type[Any]) -> list[str]:
    return [field.name for field in fields(schema)]


def _first_complaints(errors: Sequence[Any], values: Mapping[Any, Any]) -> tuple[Sequence[Any], list[Any]]:
    """Returns where in `values` the first thing is that does not fit, and all that is wrong with it.

    Where a value may be of several types, each of them complains. The one that looked farthest into the value is meant.
    """
    of_key = [error for error in errors if error["loc"][0] == errors[0]["loc"][0]]
    paths = [_path(error, values) for error in of_key]
    farthest = max(paths, key=len)
    return farthest, [error for error, path in zip(of_key, paths, strict=True) if path == farthest]


def _path(error: Any, values: Mapping[Any, Any]) -> list[Any]:
    """Returns where a complaint is, without what names the types that the validator tried."""
    location = error["loc"]
    path, value = [location[0]], values.get(location[0])
    for part in location[1:]:
        if (isinstance(value, Mapping) and part in value) or (isinstance(value, list) and isinstance(part, int)):
            path.append(part)
            value = value[part]
    return [*path, location[-1]] if error["type"] == "missing" and location[1:] else path


def _expectation(complaints: Sequence[Any], schema: type[Any]) -> str:
    """Says what was expected and what was found, in the words of the file rather than of the validator."""
    match complaints[0]["type"]:
        case "unexpected_keyword_argument":
            return f"unknown key; known keys are {', '.join(_names(schema))}"
        case "extra_forbidden":
            return "unknown key; remove it"
        case "missing":
            return "missing; add it"
    first, *others = dict.fromkeys(map(_expected, complaints))
    expected = " or ".join([first, *(other.removeprefix("must be ") for other in others)])
    return f"{expected}, got {complaints[0]['input']!r}"


def _expected(error: Any) -> str:
    context = error.get("ctx", {})
    bound = next((f"{context[name]:g}" for name in ("gt", "ge", "lt", "le") if name in context), "")
    words = {
        "bool_type": "must be true or false",
        "dataclass_type": "must be a section",
        "dict_type": "must be a mapping",
        "finite_number": "must be a finite number",
        "float_type": "must be a number",
        "greater_than": f"must be above {bound}",
        "greater_than_equal": f"must be at least {bound}",
        "int_type": "must be a whole number",
        "less_than": f"must be below {bound}",
        "less_than_equal": f"must be at most {bound}",
        "list_type": "must be a list",
        "literal_error": f"must be one of {context.get('expected')}",
        "string_type": "must be a string",
        "too_short": f"must have at least {context.get('min_length')} entries",
    }
    return words.get(error["type"], str(error["msg"]))
