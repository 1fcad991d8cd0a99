"""Every artifact is a function of its declared inputs: a clone makes them again, and an impure stage is noticed."""

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.project import STAGES, Project, own_dag

pytestmark = pytest.mark.exhaustive

DAG: dict[str, Any] = own_dag()["stages"]

# Two shells that have nothing in common.
HERE = {"TZ": "UTC", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "1", "HOME": "/tmp"}
THERE = {"TZ": "Asia/Kathmandu", "LANG": "tr_TR.UTF-8", "LC_ALL": "C", "OMP_NUM_THREADS": "7", "PYTHONHASHSEED": "2"}


def outs(project: Project, stage: str) -> dict[str, bytes]:
    """Returns the bytes of every file that the stage writes."""
    entry, content = DAG[stage], {}
    for out in [*entry.get("outs", []), *entry.get("metrics", []), *entry.get("plots", [])]:
        path = project.folder / (next(iter(out)) if isinstance(out, dict) else out)
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                content[str(file.relative_to(project.folder))] = file.read_bytes()
    return content


def two_runs(project: Project, stage: str, elsewhere: Path) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Runs one stage in two folders and two shells on the same inputs."""
    results = []
    for there, environment, umask in ((project, HERE, "022"), (project.copy(elsewhere), THERE, "077")):
        home = {"HF_HOME": str(there.folder.parent / f"home-{umask}"), "XDG_CACHE_HOME": str(there.folder.parent)}
        there.run("sh", "-c", f"umask {umask}; exec {sys.executable} -m stages.{stage}", **(environment | home))
        results.append(outs(there, stage))
    return results[0], results[1]


def test_a_clone_in_another_shell_makes_the_committed_lock(finished_once: Project, tmp_path: Path) -> None:
    clone = Project(tmp_path / "another one")
    finished_once.run("git", "clone", "--quiet", str(finished_once.folder), str(clone.folder))
    assert clone.repro("--force", **THERE, HF_HOME=str(tmp_path / "another home")) == list(STAGES)
    assert clone.read("dvc.lock") == finished_once.read("dvc.lock")
    assert clone.run("git", "status", "--porcelain").stdout == ""


IMPURE = {
    "a timestamp": "__import__('time').time_ns()",
    "an unordered set": "list({'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight'})",
    "a hidden random number": "__import__('random').SystemRandom().random()",
    "a read of the environment": "__import__('os').environ.get('TZ')",
    "the folder": "__import__('os').getcwd()",
}
# A text file that each stage writes.
TARGET = {
    "download": "metrics/data.json",
    "tokenize": "metrics/truncation.json",
    "train": "metrics/selection.json",
    "predict": "data/predictions/validation/note.txt",
    "calibrate": "metrics/calibration.json",
    "evaluate": "metrics/metrics.json",
    "baselines": "metrics/baselines.json",
    "report": "metrics/report.html",
}


@pytest.mark.parametrize("impurity", IMPURE)
@pytest.mark.parametrize("stage", STAGES)
def test_an_impure_stage_is_noticed(stage: str, impurity: str, tiny: Project, tmp_path: Path) -> None:
    program = tiny.folder / "stages" / stage / "__main__.py"
    spoilt = f"    with open({TARGET[stage]!r}, 'a') as stream:\n        stream.write(str({IMPURE[impurity]}))\n"
    program.write_text(program.read_text(encoding="utf-8") + spoilt, encoding="utf-8")
    one, two = two_runs(tiny, stage, tmp_path / "elsewhere")
    assert one.keys() == two.keys() and one != two
