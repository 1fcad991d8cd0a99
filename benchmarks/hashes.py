"""Writes hashes/: the packages of each requirements file with the SHA-256 of the file that pip takes for them.

    python -m benchmarks.hashes

Run it on Linux, x86-64, with CPython 3.11, after a pin has changed; it asks the package index and keeps nothing of what
pip downloads. torch is left out: its version has two builds, and the machine's index decides between them (README).
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.clone import ROOT

FOLDER = ROOT / "hashes"
FILES = ("requirements.txt", "requirements-report.txt", "requirements-tools.txt", "requirements-onnx.txt")
LEFT_OUT = ("torch",)  # what the index does not serve as one file to everyone
PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)$", re.MULTILINE)
HEADER = """\
# {name} with hashes, for Linux on x86-64 and CPython 3.11, without {left_out}; made by `python -m benchmarks.hashes`.
#   pip install --require-hashes --no-deps --requirement hashes/{name}
"""


def pins(text: str) -> dict[str, str]:
    """Returns the versions of a requirements file's packages, without those that have no hash."""
    return {name: version for name, version in PIN.findall(text) if name not in LEFT_OUT}


def canonical(name: str) -> str:
    """Returns a package's name as every index writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def find_hashes(packages: Mapping[str, str]) -> dict[str, str]:
    """Asks pip which file it would take for each package, and returns their SHA-256 by canonical names.

    Raises:
        SystemExit: pip failed, or took a file that no index vouches for.
    """
    with tempfile.TemporaryDirectory() as folder:
        wanted, report = Path(folder, "wanted.txt"), Path(folder, "report.json")
        wanted.write_text("".join(f"{name}=={version}\n" for name, version in packages.items()))
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-deps", "--quiet"]
        subprocess.run([*command, "--report", str(report), "--requirement", str(wanted)], check=True)
        installs: list[dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))["install"]
    found = {}
    for install in installs:
        name, source = canonical(install["metadata"]["name"]), install["download_info"]
        if not source["url"].startswith("https://") or "sha256" not in source["archive_info"].get("hashes", {}):
            raise SystemExit(
                f"{name}: pip would take a file of this machine; PIP_CONFIG_FILE=/dev/null makes it ask the index"
            )
        found[name] = source["archive_info"]["hashes"]["sha256"]
    return found


def hashed(name: str, packages: Mapping[str, str], hashes: Mapping[str, str]) -> str:
    """Writes a requirements file's packages with their hashes."""
    lines = [
        f"{package}=={version} \\\n    --hash=sha256:{hashes[canonical(package)]}\n"
        for package, version in packages.items()
    ]
    return HEADER.format(name=name, left_out=", ".join(LEFT_OUT)) + "".join(lines)


def main() -> None:
    """Writes the files."""
    packages = {name: pins((ROOT / name).read_text(encoding="utf-8")) for name in FILES}
    hashes = find_hashes({package: version for one in packages.values() for package, version in one.items()})
    FOLDER.mkdir(exist_ok=True)
    for name, one in packages.items():
        (FOLDER / name).write_text(hashed(name, one, hashes), encoding="utf-8")


if __name__ == "__main__":
    main()
