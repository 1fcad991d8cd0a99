"""A project that somebody has made their own passes the tests: only what they may not change is held to anything."""

import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.project import Project

pytestmark = pytest.mark.release

STAGE = {"cmd": "cp models/finetuned/config.json out.json", "deps": ["models/finetuned"], "outs": ["out.json"]}
NEAR = ("contract", "own_data", "readme", "sample")  # those that read a file of theirs


def make_their_own(project: Project) -> None:
    """Does what a user may do: other data and values, a stage more, other documents, no sample and no results."""
    rows = [f"ticket number {number},{('bug', 'login', 'praise')[number % 3]}" for number in range(60)]
    (project.folder / "tickets.csv").write_text("\n".join(["ticket,topic", *rows, ""]), encoding="utf-8")
    project.set(
        download__dataset_files="tickets.csv",
        download__text_column="ticket",
        download__text_pair_column=None,
        download__group_column=None,
        download__keep_columns=[],
        download__label_column="topic",
        download__label_names=None,
        download__metrics=["f1_macro", "accuracy"],
        download__validation_fraction=0.1,
        train__epochs=2,
        evaluate__splits=["validation", "test"],
    )
    yaml = YAML()
    params = yaml.load(project.folder / "params.yaml")
    params["export"] = {"format": "plain"}
    params["gate"] = [{"split": "validation", "metric": "f1_macro", "at_least": 0.5}]
    yaml.dump(params, project.folder / "params.yaml")
    dag = yaml.load(project.folder / "dvc.yaml")
    dag["stages"]["export"] = STAGE
    yaml.dump(dag, project.folder / "dvc.yaml")
    for name in ("data/sample", "metrics/made_from", "metrics/plots"):
        shutil.rmtree(project.folder / name)
    for name in ("dvc.lock", "LOG.md", "metrics/metrics.json", "metrics/intervals.json", "metrics/warnings.json"):
        (project.folder / name).unlink()
    (project.folder / "README.md").write_text("# Tickets\n", encoding="utf-8")
    project.commit("ours")


@pytest.mark.parametrize(
    "files",
    [
        pytest.param([f"tests/test_{name}.py" for name in NEAR], id="near", marks=pytest.mark.slow),
        pytest.param([], id="all", marks=pytest.mark.exhaustive),
    ],
)
def test_the_fast_tests_are_green_in_a_project_that_was_made_their_own(files: list[str], released: Project) -> None:
    make_their_own(released)
    there = [name for name in files if Path(released.folder, name).exists()]
    done = released.run(
        *("python", "-m", "pytest", "-q", "-m", "not slow and not exhaustive", "-p", "no:cacheprovider", *there),
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
