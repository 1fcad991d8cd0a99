"""checks.ledger: how many models a split was scored for, by what Git's history and DVC's experiments hold."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from checks import ledger
from checks.ledger import count_looks, look_of
from checks.revisions import WORKSPACE, Revision
from tests.project import Project

LOCK = """\
schema: '2.0'
stages:
  download:
    cmd: run download
    outs:
    - path: data/raw
      md5: {raw}.dir
  predict:
    cmd: run predict
    outs:
    - path: data/predictions
      md5: {predictions}.dir
  evaluate:
    cmd: run evaluate
    deps:
    - path: data/predictions
      md5: {predictions}.dir
    params:
      params.yaml:
        evaluate:
          splits: [{splits}]
  report:
    cmd: run report
    deps:
    - path: data/predictions
      md5: {predictions}.dir
    params:
      params.yaml:
        evaluate: {{splits: [{splits}]}}
        report: {{errors: 50}}
"""
# What DVC's cache knows: predictions -> the hashes of labels and logits of their test split.
LISTINGS = {
    "first": ("labels", "one"),
    "again": ("labels", "one"),  # other logits of validation alone
    "second": ("labels", "two"),
    "third": ("labels", "three"),
    "elsewhere": ("other labels", "four"),
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    def listing(repo: Any, md5: str, what: str) -> dict[str, str] | None:
        hashes = LISTINGS.get(md5.removesuffix(".dir"))
        return hashes and {"test/labels.npy": hashes[0], "test/logits.npy": hashes[1]}

    monkeypatch.setattr(ledger, "cached_listing", listing)
    made = Project(tmp_path / "repository" / "part")
    made.folder.mkdir(parents=True)
    made.start_git("..")
    return made


def scored(project: Project, predictions: str, splits: str = "test", raw: str = "raw") -> None:
    text = LOCK.format(predictions=predictions, splits=splits, raw=raw)
    (project.folder / "dvc.lock").write_text(text)
    project.run("git", "add", "dvc.lock")
    project.run("git", "commit", "--quiet", "--allow-empty", "-m", predictions)


def looks(project: Project, *splits: str) -> dict[str, int]:
    return count_looks(Revision(WORKSPACE, None, SimpleNamespace(root_dir=str(project.folder))), splits or ("test",))


def test_a_model_counts_once_however_often_it_was_committed(project: Project) -> None:
    for predictions in ("first", "second", "first", "again"):
        scored(project, predictions)
    assert looks(project) == {"test": 2}


def test_branches_experiments_and_what_is_not_committed_count_too(project: Project) -> None:
    scored(project, "first")
    project.run("git", "checkout", "--quiet", "-b", "side")
    scored(project, "second")
    project.run("git", "checkout", "--quiet", "--detach")
    scored(project, "third")
    project.run("git", "update-ref", "refs/exps/12/345/seed-1", "HEAD")
    project.run("git", "checkout", "--quiet", "main")
    assert looks(project) == {"test": 3}
    (project.folder / "dvc.lock").write_text(LOCK.format(predictions="third", splits="test", raw="raw"))
    project.run("git", "update-ref", "-d", "refs/exps/12/345/seed-1")
    assert looks(project) == {"test": 3}


def test_other_splits_and_other_examples_are_no_look(project: Project) -> None:
    for predictions, splits in (("second", "validation"), ("elsewhere", "test"), ("first", "validation, test")):
        scored(project, predictions, splits)
    assert looks(project, "test", "validation", "test_matched") == {"test": 1, "validation": 0, "test_matched": 0}


def test_without_listings_the_same_data_will_do(project: Project) -> None:
    """A clone whose cache is empty: predictions of the same data/raw are taken for scores on the same examples."""
    for predictions, raw in (("u", "raw"), ("v", "raw"), ("w", "other"), ("x", "raw")):
        scored(project, predictions, "test", raw)
    assert looks(project, "test", "test_mismatched") == {"test": 3, "test_mismatched": 3}


def test_a_lock_that_scored_nothing_or_is_broken_is_passed_over(project: Project) -> None:
    for text in ("stages: {}", "stages: [1]", "a: [", "", "stages: {evaluate: 1}"):
        (project.folder / "dvc.lock").write_text(text)
        project.run("git", "add", "dvc.lock")
        project.run("git", "commit", "--quiet", "--allow-empty", "-m", "broken")
    scored(project, "first")
    assert looks(project) == {"test": 1}


def test_the_report_is_no_look_of_its_own() -> None:
    entry = {
        "deps": [{"path": "data/predictions", "md5": "1"}],
        "params": {"params.yaml": {"evaluate": {"splits": ["a"]}}},
    }
    assert look_of({"evaluate": entry}) == (("a",), "1", None)
    entry["params"]["params.yaml"]["report"] = {}
    assert look_of({"report": entry}) is None
