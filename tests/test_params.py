"""params.yaml: what fits is read, what does not fit is named."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.params import params_dataclass, read_params


@params_dataclass
class ExampleParams:
    count: Annotated[int, Field(ge=1)]
    rate: Annotated[float, Field(gt=0)]
    mode: Literal["one", "two"]
    names: list[str] | None
    columns: str | list[str]
    aliases: dict[str, str | None] | None


GOOD = {"count": "3", "rate": "0.5", "mode": "one", "names": "[a, b]", "columns": "a", "aliases": "{a: null}"}


def read(tmp_path: Path, **changes: str | None) -> ExampleParams:
    lines = [f"  {key}: {value}" for key, value in (GOOD | changes).items() if value is not None]
    file = tmp_path / "params.yaml"
    file.write_text("\n".join(["example:", *lines]), encoding="utf-8")
    return read_params("example", ExampleParams, file)


def test_a_section_becomes_a_frozen_dataclass(tmp_path: Path) -> None:
    params = read(tmp_path)
    assert (params.count, params.rate, params.mode, params.names) == (3, 0.5, "one", ["a", "b"])
    with pytest.raises(AttributeError):
        params.count = 4


@pytest.mark.parametrize("written", ["2e-05", "2.0e-5", "0.00002"])
def test_a_float_may_be_written_as_dvc_writes_it(tmp_path: Path, written: str) -> None:
    assert read(tmp_path, rate=written).rate == 2e-5


def test_a_whole_number_is_a_float_too(tmp_path: Path) -> None:
    assert read(tmp_path, rate="1").rate == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rate": "-1"}, "params.yaml: example.rate: must be above 0, got -1"),
        ({"count": "0"}, "params.yaml: example.count: must be at least 1, got 0"),
        ({"count": "2.5"}, "params.yaml: example.count: must be a whole number, got 2.5"),
        ({"count": "'3'"}, "params.yaml: example.count: must be a whole number, got '3'"),
        ({"rate": "fast"}, "params.yaml: example.rate: must be a number, got 'fast'"),
        ({"mode": "three"}, "params.yaml: example.mode: must be one of 'one' or 'two', got 'three'"),
        ({"names": "a"}, "params.yaml: example.names: must be a list, got 'a'"),
        ({"rate": None}, "params.yaml: example.rate: missing; add it"),
        ({"columns": "null"}, "params.yaml: example.columns: must be a string or a list, got None"),
        ({"columns": "[a, 3]"}, "params.yaml: example.columns.1: must be a string, got 3"),
        ({"aliases": "{1: a}"}, "params.yaml: example.aliases.1: must be a string, got 1"),
        ({"aliases": "{a: [b]}"}, "params.yaml: example.aliases.a: must be a string, got ['b']"),
        (
            {"speed": "1"},
            "params.yaml: example.speed: unknown key; known keys are count, rate, mode, names, columns, aliases",
        ),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, changes: dict[str, str | None], message: str) -> None:
    with pytest.raises(BadInput) as raised:
        read(tmp_path, **changes)
    assert str(raised.value) == message


def test_a_file_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("example: [1,", encoding="utf-8")
    with pytest.raises(BadInput, match=r"params.yaml: not valid YAML: "):
        read_params("example", ExampleParams, tmp_path / "params.yaml")


def test_a_missing_section_is_named_with_its_keys(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("other: {}", encoding="utf-8")
    with pytest.raises(BadInput, match="example: expected a section with the keys count, rate, mode, names"):
        read_params("example", ExampleParams, tmp_path / "params.yaml")


def test_a_missing_file_says_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not found; run the stage from the project's root folder"):
        read_params("example", ExampleParams, tmp_path / "params.yaml")
