"""Puts the measured tables into benchmarks/RESULTS.md.

    python -m benchmarks.page

The page has a mark for each table, `<!-- module function -->`; what stands between it and `<!-- end -->` is replaced by
what `benchmarks.<module>.<function>` makes of benchmarks/results/<module>.json, with date, machine and versions.
"""

import importlib
import json
import re
from typing import Any

from benchmarks.clone import ROOT

PAGE = ROOT / "benchmarks" / "RESULTS.md"
PLACE = re.compile(r"(?<=<!-- )(\w+) (\w+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)


def filled(page: str) -> str:
    """Returns the page with all its tables as they were measured last."""
    return PLACE.sub(lambda found: f"{found[1]} {found[2]}{found[3]}{measured(found[1], found[2])}", page)


def measured(module: str, function: str) -> str:
    """Returns a table, and what it was measured on."""
    result = json.loads((ROOT / "benchmarks" / "results" / f"{module}.json").read_text(encoding="utf-8"))
    table = getattr(importlib.import_module(f"benchmarks.{module}"), function)(result)
    return f"\n`python -m benchmarks.{module}`, {machine(result)}:\n\n{table}\n\n"


def machine(result: dict[str, Any]) -> str:
    """Says when and on what a result was measured."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return f"{result['date']}, {result['cores']} cores of {result['processor']}, Python {result['python']}, {versions}"


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
