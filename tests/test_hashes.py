"""hashes/: every pin of the requirements files has the hash of a file there, and nothing else has."""

from pathlib import Path

import pytest

from benchmarks.hashes import FILES, FOLDER, LEFT_OUT, canonical, hashed, pins
from stages.report.materials import read_pins

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", FILES)
def test_pins_and_hashes_agree(name: str) -> None:
    wanted = pins((ROOT / name).read_text(encoding="utf-8"))
    found = read_pins((FOLDER / name).read_text(encoding="utf-8"))
    assert {package: pin.version for package, pin in found.items()} == wanted
    assert all(len(pin.hashes) == 1 for pin in found.values())


def test_all_pins_but_torch_are_covered() -> None:
    lines = (line for name in FILES for line in (ROOT / name).read_text(encoding="utf-8").splitlines())
    packages = [line.partition("==")[0] for line in lines if line and not line.startswith("#")]
    covered = {package for name in FILES for package in pins((ROOT / name).read_text(encoding="utf-8"))}
    assert set(packages) - covered == set(LEFT_OUT) == {"torch"}


def test_a_package_has_one_hash_in_all_files() -> None:
    found: dict[str, list[str]] = {}
    for name in FILES:
        for package, pin in read_pins((FOLDER / name).read_text(encoding="utf-8")).items():
            assert found.setdefault(canonical(package), pin.hashes) == pin.hashes, package


def test_what_is_written_can_be_read_and_names_no_index() -> None:
    text = hashed("requirements.txt", {"PyYAML": "6.0", "numpy": "2.0"}, {"pyyaml": "a" * 64, "numpy": "b" * 64})
    assert {name: tuple(pin) for name, pin in read_pins(text).items()} == {
        "PyYAML": ("6.0", ["a" * 64]),
        "numpy": ("2.0", ["b" * 64]),
    }
    for name in FILES:
        assert "://" not in (FOLDER / name).read_text(encoding="utf-8")
