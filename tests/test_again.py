"""Each stage once more, where nothing is as it was but its declared inputs: the same bytes, and nothing else.

Another folder, shell, language, time zone and umask; one core for two threads; no network, no home and no cache.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.project import STAGES, Project
from tests.test_offline import watch
from tests.test_purity import THERE, outs

pytestmark = pytest.mark.slow

# The lines that a stage writes into a log: download a table of three splits, train one of the new head and one for each
# epoch, report its block at the end; the others none.
LINES = {"download": 4, "train": 3, "report": 8}


@dataclass(frozen=True)
class Again:
    """A stage that ran a second time."""

    stage: str
    made: tuple[dict[str, bytes], dict[str, bytes]]  # its outs the first time, and the second
    files: tuple[dict[Path, bytes], dict[Path, bytes]]  # all of the project's, before it and after it
    said: str
    notes: str  # what it did to the network and outside of the project
    left: list[Path]  # in the folder for temporary files


def everything(project: Project) -> dict[Path, bytes]:
    """Returns all files of the project but Git's, DVC's and what a stage may leave."""
    skip = {".git", ".dvc", ".scratch", "__pycache__"}
    files = [file for file in project.folder.rglob("*") if file.is_file() and not skip & set(file.parts)]
    return {file.relative_to(project.folder): file.read_bytes() for file in files}


@pytest.fixture(scope="module", params=STAGES)
def again(request: pytest.FixtureRequest, finished_once: Project, tmp_path_factory: pytest.TempPathFactory) -> Again:
    stage, folder = request.param, tmp_path_factory.mktemp("again")
    project = finished_once.copy(folder / "a" / "much longer" / "way" / "to go")
    caches = dict.fromkeys(("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), "")
    ambient = {"HF_ENDPOINT": "http://127.0.0.1:9", "MKL_DYNAMIC": "TRUE", **THERE, **caches, **watch(folder)}
    before, first = everything(project), outs(finished_once, stage)
    program = f"umask 077; exec taskset --cpu-list 0 {sys.executable} -m stages.{stage}"
    done = project.run("sh", "-c", program, **ambient)
    notes = folder / "notes"
    return Again(
        stage,
        (first, outs(project, stage)),
        (before, everything(project)),
        done.stdout + done.stderr,
        notes.read_text() if notes.exists() else "",
        list((folder / "tmp").iterdir()),
    )


def test_it_gives_the_same_bytes_in_another_folder_and_shell_and_on_one_core(again: Again) -> None:
    first, second = again.made
    assert second == first and len(first) > 0


def test_it_writes_nothing_but_its_outputs(again: Again) -> None:
    before, after = again.files
    assert after == before and not again.left


def test_no_socket_leaves_it_and_nothing_is_written_elsewhere(again: Again) -> None:
    """download too: its sources here are files."""
    assert again.notes == ""


def test_it_writes_whole_lines_into_a_log_and_few(again: Again) -> None:
    assert "\r" not in again.said and "%|" not in again.said
    lines = [line for line in again.said.splitlines() if "bf16" not in line]  # advice that depends on the processor
    assert len(lines) == LINES.get(again.stage, 0), again.said
