"""docs/architecture.md names what is there."""

import re

import pytest

from benchmarks.tree import PAGE, ROOT, filled

pytestmark = pytest.mark.release  # whoever adds a stage need not write it into our map

TEXT = PAGE.read_text(encoding="utf-8")


def test_the_tree_is_that_of_the_modules() -> None:
    assert filled(TEXT) == TEXT


def test_a_module_that_is_missing_from_the_tree_is_noticed() -> None:
    assert filled(TEXT.replace("  - `train.py`", "  - `brain.py`")) == TEXT


def test_every_file_that_the_map_names_is_there() -> None:
    written = ("data/", "models/")  # by a stage: not there in a fresh clone
    for name in re.findall(r"`([\w/]+(?:\.(?:py|md|yaml|lock|txt|json|csv)|/))`", TEXT):
        inside = any(list((ROOT / room).rglob(name)) for room in ("stages", "checks", "ship", "metrics", "benchmarks"))
        assert name.startswith(written) or (ROOT / name).exists() or inside, name
