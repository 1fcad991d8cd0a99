"""What the tests share: a tiny real checkpoint and tiny real data, made on the spot, and a project to run `dvc` in."""

import csv
import sys
from pathlib import Path

import pytest
import torch  # noqa: F401  (first: stages.tokenize hides it from transformers, which the other stages need whole)
import transformers  # noqa: F401

from tests.project import Project, copy_project

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers, 32 wide, with a WordPiece tokenizer of the sample's words."""
    from tests.tiny import make_checkpoint

    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def sample_rows() -> list[dict[str, str]]:
    """The first 48 training pairs of the sample, as csv rows."""
    with (ROOT / "data" / "sample" / "train.csv").open(encoding="utf-8", newline="") as stream:
        return [row for row, _ in zip(csv.DictReader(stream), range(48), strict=False)]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A Git repository with this project's files as they are now."""
    return copy_project(ROOT, tmp_path / "project")
