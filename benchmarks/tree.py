"""Writes the tree of docs/architecture.md: the modules of stages, checks and ship, with the first lines of their docs.

python -m benchmarks.tree
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from benchmarks.clone import ROOT

PAGE = ROOT / "docs" / "architecture.md"
PLACE = re.compile(r"(?<=<!-- tree -->\n).*?(?=<!-- end -->)", re.DOTALL)
ROOMS = ("stages", "checks", "ship")


def filled(page: str) -> str:
    """Returns the page with the tree as it is now."""
    lines = "\n".join(line for room in ROOMS for line in folder_lines(ROOT / room))
    return PLACE.sub(lambda _: f"\n{lines}\n\n", page)


def folder_lines(folder: Path) -> Iterator[str]:
    """Yields a list item for a folder and for each module in it, then those of the folders inside it."""
    depth = "  " * (len(folder.relative_to(ROOT).parts) - 1)
    init = folder / "__init__.py"
    said = f": {first_line(init)}" if init.exists() else ""
    yield f"{depth}- `{folder.relative_to(ROOT)}/`{said}"
    for file in sorted(folder.glob("*.py")):
        if file.name not in ("__init__.py", "__main__.py"):
            yield f"{depth}  - `{file.name}`: {first_line(file)}"
    for inner in sorted(folder.iterdir()):
        if inner.is_dir() and any(inner.rglob("*.py")):
            yield from folder_lines(inner)


def first_line(file: Path) -> str:
    """Returns the first line of a module's docstring, of which the whole first sentence stands on it."""
    return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n")[0]


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
