"""What the tests share: a tiny real checkpoint and tiny real data, made on the spot, and a project to run `dvc` in."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import stages  # noqa: F401  (seals the environment before any library reads it)
from benchmarks.hard_pairs import HARD_PAIRS
from tests.hub import Files
from tests.project import ROOT, Project, copy_project, copy_release
from tests.repositories import Downloader

sys.path.insert(0, str(ROOT))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--release",
        action="store_true",
        help="also hold tunelock's own documents to its own committed results; whoever uses it has others",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what holds of tunelock's own release alone, and puts files with slow tests first.

    Started last, a slow test would run alone while the other processes idle.
    """
    if not config.getoption("--release"):
        others = [item for item in items if item.get_closest_marker("release")]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in set(others)]
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers, 32 wide, with a WordPiece tokenizer of the words of data/hard."""
    from tests.tiny import make_checkpoint

    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def checkpoint_files(tiny_checkpoint: Path) -> Files:
    """The tiny checkpoint as a repository, with what others also put there."""
    files = {file.name: file.read_bytes() for file in tiny_checkpoint.iterdir()}
    return files | {"README.md": b"A model.", "pytorch_model.bin": b"pickle", "1_Pooling/config.json": b"{}"}


@pytest.fixture
def download(tmp_path: Path, tiny_checkpoint: Path) -> Downloader:
    """Runs the stage's program in tmp_path."""
    return Downloader(tmp_path, tiny_checkpoint)


@pytest.fixture
def run_download(tmp_path: Path, tiny_checkpoint: Path) -> Callable[..., dict[str, Any]]:
    """Runs the stage's story on tmp_path/data, with changes of its parameters, and returns the splits that it wrote."""
    from datasets import load_from_disk

    from stages.download.download import DownloadFiles, download
    from tests.tables import params
    from tests.tiny import EXECUTION

    def run(**changes: Any) -> dict[str, Any]:
        files = DownloadFiles(
            *(tmp_path / name for name in ("raw", "pretrained", "overlap", "data.json", "params.yaml"))
        )
        download(params(tiny_checkpoint, tmp_path / "data", **changes), EXECUTION, files)
        return dict(load_from_disk(str(tmp_path / "raw")))

    (tmp_path / "data").mkdir()
    return run


@pytest.fixture
def sample_rows() -> list[dict[str, str]]:
    """The first 48 training pairs of data/hard, as csv rows."""
    from tests.tiny import sample_pairs

    return sample_pairs()[:48]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A Git repository with this project's code as it is now, and the parameters of the tests."""
    return copy_project(tmp_path / "project")


@pytest.fixture
def released(tmp_path: Path) -> Project:
    """A Git repository with all of this one's files as they are now, results and all."""
    return copy_release(tmp_path / "project")


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Project:
    """A project whose model trains in seconds (the tiny checkpoint, 40 rows of each split), run and committed."""
    project = copy_project(tmp_path_factory.mktemp("finished") / "project")
    shutil.copytree(tiny_checkpoint, project.folder / "data" / "tiny")
    project.set(
        **{f"download__{key}": value for key, value in HARD_PAIRS.items()},
        download__checkpoint="files",
        download__checkpoint_files="data/tiny",
        tokenize__max_samples=40,
        train__epochs=2,
        train__learning_rate=1e-3,
    )
    project.commit("a tiny model")
    ran = project.repro()
    assert ran == ["download", "tokenize", "train", "predict", "calibrate", "evaluate", "baselines", "report"]
    project.commit("the first run")
    return project


@pytest.fixture
def tiny(finished_once: Project, tmp_path: Path) -> Project:
    """A copy of that project, cache and all."""
    return finished_once.copy(tmp_path / "project")


@pytest.fixture(scope="session")
def branched_once(finished_once: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """That project with a branch `faster` checked out, run and committed: another learning rate, and more epochs."""
    project = finished_once.copy(tmp_path_factory.mktemp("branched") / "project")
    project.run("git", "checkout", "--quiet", "-b", "faster")
    project.set(train__learning_rate=5e-3, train__epochs=6)
    assert project.repro() == ["train", "predict", "calibrate", "evaluate", "baselines", "report"]
    project.commit("faster")
    return project


@pytest.fixture
def branched(branched_once: Project, tmp_path: Path) -> Project:
    """A copy of it, cache and all."""
    return branched_once.copy(tmp_path / "project")


@pytest.fixture(scope="session")
def predicted_once(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project of tests/predictions.py."""
    from tests.predictions import make_project

    return make_project(tmp_path_factory.mktemp("predicted") / "project")


@pytest.fixture
def predicted(predicted_once: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of it, cache and all, as the current folder."""
    monkeypatch.chdir(predicted_once.copy(tmp_path / "project").folder)
    return Project(tmp_path / "project")
