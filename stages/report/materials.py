"""The bill of materials in CycloneDX format: the data, the checkpoint and the packages, with their hashes.

The standard's minimum (ECMA-424, version 1.6), as plain JSON. No clock and no random serial number is in it.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from stages.report.card import base_model
from stages.report.inputs import Model, RunSummary

PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s\\;]+)((?:\s*\\\n\s*--hash=sha256:[0-9a-f]{64})*)", re.MULTILINE)
HASH = re.compile(r"sha256:([0-9a-f]{64})")


class Pin(NamedTuple):
    """A package of a requirements file."""

    version: str
    hashes: list[str]  # SHA-256 of its files, where the file has them


def read_pins(text: str) -> dict[str, Pin]:
    """Reads the packages of a requirements file, with or without hashes."""
    return {name: Pin(version, HASH.findall(hashes)) for name, version, hashes in PIN.findall(text)}


def render_materials(run: RunSummary, requirements: str, hashed: str) -> str:
    """Renders the list.

    Args:
        requirements: the text of requirements.txt.
        hashed: the text of the file with the hashes of those packages, for one platform.
    """
    packages = read_pins(requirements)
    hashes = {name: pin.hashes for name, pin in read_pins(hashed).items()} if _is_hashed_platform(run) else {}
    components = [
        _data(run),
        _checkpoint(run),
        {"type": "platform", "bom-ref": "python", "name": "CPython", "version": run.environment["python"]},
        *(_package(name, pin.version, hashes.get(name, [])) for name, pin in sorted(packages.items())),
    ]
    model = {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": f"{run.checkpoint.rpartition('/')[2] or run.checkpoint}-{run.dataset.rpartition('/')[2]}",
        "components": _weights(run.finetuned, "model"),
    }
    content = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": model},
        "components": components,
        "dependencies": [{"ref": "model", "dependsOn": [component["bom-ref"] for component in components]}],
    }
    return json.dumps(content, indent=2) + "\n"  # in ASCII: no character of a name can do anything


def _is_hashed_platform(run: RunSummary) -> bool:
    """Says whether the packages of the run are the files whose hashes are known: of another system they are others."""
    facts = run.environment
    return (facts["python"], facts["system"], facts["machine"]) == ("3.11", "Linux", "x86_64")


def _data(run: RunSummary) -> dict[str, Any]:
    identity: Mapping[str, Any] = (
        {"hashes": [_sha256(run.task.revision)]} if run.task.source == "files" else {"version": run.task.revision}
    )
    return {"type": "data", "bom-ref": "data", "name": run.dataset, **identity}


def _checkpoint(run: RunSummary) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "machine-learning-model", "bom-ref": "checkpoint", "name": run.checkpoint}
    commit, name = run.params["download"]["checkpoint_revision"], base_model(run)
    if commit:
        found["version"] = commit
    if name:
        found["purl"] = f"pkg:huggingface/{name}" + (f"@{commit}" if commit else "")
    return found | {"components": _weights(run.pretrained, "checkpoint")}


def _weights(model: Model, ref: str) -> list[dict[str, Any]]:
    return [
        {"type": "file", "bom-ref": f"{ref}/{name}", "name": name, "hashes": [_sha256(digest)]}
        for name, digest in model.files
    ]


def _package(name: str, version: str, hashes: list[str]) -> dict[str, Any]:
    address = f"pkg:pypi/{re.sub(r'[-_.]+', '-', name).lower()}@{version}"
    found: dict[str, Any] = {"type": "library", "bom-ref": address, "name": name, "version": version, "purl": address}
    return found | ({"hashes": [_sha256(digest) for digest in hashes]} if hashes else {})


def _sha256(digest: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": digest}
