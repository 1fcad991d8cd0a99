"""metrics/model.cdx.json: what the model was made from, in a form that tools of the standard can read."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from stages.report.materials import read_pins
from tests.made_run import make_run
from tests.test_report import render

# The standard's own JSON schema of version 1.6 (Apache-2.0), without its descriptions.
SCHEMA = json.loads(Path(__file__).with_name("cyclonedx-1.6.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft7Validator(SCHEMA, format_checker=jsonschema.FormatChecker())


def listed(folder: Path, **task: Any) -> dict[str, Any]:
    inputs = make_run(folder, **task)
    render(inputs)
    return dict(json.loads(inputs.materials.read_text(encoding="ascii")))


@pytest.mark.parametrize(
    "task",
    [
        {},
        {"source": "glue", "name": "glue/mrpc", "revision": "b" * 40},
        {"source": "hub", "name": "hub:someone/pairs:default", "revision": "c" * 40},
        {"problem": "regression"},
    ],
)
def test_the_list_is_of_the_standard(task: dict[str, Any], tmp_path: Path) -> None:
    content = listed(tmp_path, **task)
    assert [error.message for error in VALIDATOR.iter_errors(content)] == []
    references = [content["metadata"]["component"], *content["components"]]
    references += [inner for one in references for inner in one.get("components", [])]
    names = [one["bom-ref"] for one in references]
    assert len(set(names)) == len(names)
    (dependency,) = content["dependencies"]
    assert {dependency["ref"], *dependency["dependsOn"]} <= set(names)


def test_the_schema_refuses_what_is_not_of_the_standard(tmp_path: Path) -> None:
    content = listed(tmp_path)
    for changed in (
        content | {"specVersion": 1.6},
        content | {"made": "today"},
        content | {"components": [{"type": "model", "name": "x"}]},
        content | {"components": [{"type": "data"}]},
        content | {"components": [{"type": "file", "name": "x", "hashes": [{"alg": "SHA-256", "content": "abc"}]}]},
    ):
        assert list(VALIDATOR.iter_errors(changed))


def test_data_checkpoint_weights_and_packages_are_in_it_with_their_hashes(tmp_path: Path) -> None:
    inputs = make_run(tmp_path)
    render(inputs)
    first = inputs.materials.read_bytes()
    content = json.loads(first)
    components = {one["bom-ref"]: one for one in content["components"]}
    assert components["data"]["hashes"] == [{"alg": "SHA-256", "content": "0" * 64}]
    (weights,) = components["checkpoint"]["components"]
    (trained,) = content["metadata"]["component"]["components"]
    assert weights["name"] == trained["name"] == "model.safetensors"
    assert weights["hashes"][0]["alg"] == "SHA-256" and len(weights["hashes"][0]["content"]) == 64
    pins = read_pins(inputs.requirements.read_text(encoding="utf-8"))
    assert {one["name"] for one in components.values() if one["type"] == "library"} == set(pins)
    numpy = components[f"pkg:pypi/numpy@{pins['numpy'].version}"]
    assert len(numpy["hashes"]) == 1
    assert "hashes" not in components[f"pkg:pypi/torch@{pins['torch'].version}"]  # of two builds, nobody knows which
    render(inputs)
    assert inputs.materials.read_bytes() == first


def test_on_another_platform_the_packages_are_other_files(tmp_path: Path) -> None:
    inputs = make_run(tmp_path)
    text = inputs.environment.read_text(encoding="utf-8")
    inputs.environment.write_text(text.replace("x86_64", "arm64"), encoding="utf-8")
    render(inputs)
    content = json.loads(inputs.materials.read_text(encoding="utf-8"))
    libraries = [one for one in content["components"] if one["type"] == "library"]
    assert libraries and not [one for one in libraries if "hashes" in one]
