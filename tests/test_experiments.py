"""checks.experiments: what runs as an experiment has a name of its own, brings its inputs, and is found again."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from checks import experiments
from checks.cli import Unanswerable
from checks.experiments import Experiment, check_experiments, checked, finished, names_of, stages_until
from checks.out_of_fold import predict_out_of_fold
from checks.seeds import study_seeds
from stages.shared.runtime.run_stage import SCRATCH_VARIABLE
from tests.project import Project

DAG = """\
stages:
  download: {cmd: "true", params: [download], outs: [data]}
  train: {cmd: "true", params: [train], deps: [data/raw], outs: [models]}
  evaluate: {cmd: "true", params: [evaluate], deps: [models], outs: [metrics]}
  report: {cmd: "true", params: [report, train], deps: [metrics], outs: [page]}
"""
SEED_1 = Experiment("seed-1", ["train.seed=1"], ("train.seed",))


def git_project(folder: Path, params: str = "download: {dataset_files: data, checkpoint_files: models}\n") -> Project:
    project = Project(folder)
    folder.mkdir()
    (folder / "params.yaml").write_text(params + "train: {seed: 42, epochs: 3}\n")
    (folder / "dvc.yaml").write_text(DAG)
    project.start_git()
    project.commit("as it is")
    return project


def repo_of(project: Project) -> Any:
    return SimpleNamespace(root_dir=str(project.folder))


def test_a_configuration_has_its_own_names_whatever_they_were_changed_by() -> None:
    params = {"train": {"seed": 42, "epochs": 3}, "download": {"metrics": ["f1"]}, "gate": []}
    sections = ["download", "train"]
    name = next(names_of(SEED_1, params, sections))
    assert re.fullmatch(r"seed-1-[0-9a-f]{8}", name)
    same = {"download": {"metrics": ["f1"]}, "gate": [{}], "train": {"epochs": 3, "seed": 3}}
    assert next(names_of(SEED_1, same, sections)) == name
    assert next(names_of(SEED_1, params | {"train": {"seed": 42, "epochs": 4}}, sections)) != name


def test_what_is_not_read_on_the_way_to_the_target_is_no_part_of_the_run(tmp_path: Path) -> None:
    project = git_project(tmp_path / "project")
    assert stages_until(project.folder, {}, None) == {"download", "train", "evaluate", "report"}
    needed = stages_until(project.folder, {}, "evaluate")
    assert needed == {"download", "train", "evaluate"}
    assert experiments.sections_of(project.folder, {}, needed) == ["download", "evaluate", "train"]


def test_no_experiment_is_removed_or_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One by another's hand, one of this configuration with other data: both stay, and the new one is named anew."""
    project = git_project(tmp_path / "project")
    head = project.run("git", "rev-parse", "HEAD").stdout.strip()
    params = experiments.resolve(project.folder, SEED_1.changes)
    names = names_of(SEED_1, params, ["download", "evaluate", "report", "train"])
    mine, other = f"refs/exps/{head[:2]}/{head[2:]}/seed-1", f"refs/exps/{head[:2]}/{head[2:]}/{next(names)}"
    for ref in (mine, other):
        project.run("git", "update-ref", ref, "HEAD")
    ran = []

    def run(root: Path, name: str, experiment: Experiment, untracked: list[str]) -> None:
        ran.append(name)
        project.run("git", "update-ref", f"refs/exps/{head[:2]}/{head[2:]}/{name}", "HEAD")

    monkeypatch.setattr(experiments, "run_experiment", run)
    monkeypatch.setattr(experiments, "is_current", lambda found, params, stages: False)
    assert finished(repo_of(project), "seeds", SEED_1).name == next(names) == ran[0]
    assert {mine, other} < set(project.run("git", "for-each-ref", "--format=%(refname)").stdout.split())


def test_a_mapping_is_merged_as_dvc_merges_it(tmp_path: Path) -> None:
    project = git_project(tmp_path / "project")
    (project.folder / "params.yaml").write_text("download: {}\ntrain: {class_weights: {a: 1, b: 5}, other: null}\n")
    params = experiments.resolve(project.folder, ["train.class_weights={a: 2}", "train.other={c: 3}"])
    assert params["train"] == {"class_weights": {"a": 2, "b": 5}, "other": {"c": 3}}


def test_a_run_keeps_its_scratch_in_the_project_until_it_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC removes the folder that it makes for a run; a checkpoint in there would go with it."""
    project = git_project(tmp_path / "project")
    seen: list[tuple[list[str], str]] = []

    class Run:
        def __init__(self, command: list[str], **options: Any) -> None:
            seen.append((command, options["env"][SCRATCH_VARIABLE]))
            assert Path(seen[-1][1]).is_dir()

        def wait(self) -> int:
            return len(seen) % 2  # the first one fails

    monkeypatch.setattr(experiments.subprocess, "Popen", Run)
    experiment = Experiment("fold-1", ["train.epochs=1"], (), "evaluate")
    with pytest.raises(Unanswerable, match=r"fold-1-0: `dvc exp run` failed"):
        experiments.run_experiment(project.folder, "fold-1-0", experiment, ["data"])
    scratch = project.folder / ".scratch" / "experiments" / "fold-1-0"
    assert scratch.is_dir()
    experiments.run_experiment(project.folder, "fold-1-0", experiment, ["data"])
    assert not scratch.exists()
    command, folder = seen[1]
    assert folder == str(scratch)
    arguments = ["--name", "fold-1-0", "--set-param", "train.epochs=1", "--copy-paths", "data", "evaluate"]
    assert command[-7:] == arguments


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (["download.dataset_files=../data"], "download.dataset_files: '../data' is outside the project"),
        (["download.checkpoint_files=a/../../b"], "download.checkpoint_files: 'a/../../b' is outside the project"),
        (["download.dataset_files=null"], "download.dataset_files: expected a path, got None"),
        (["nowhere.key=1"], "'nowhere.key=1': params.yaml has no section nowhere"),
        (["train.epochs.more=1"], "'train.epochs.more=1': params.yaml has no section train.epochs"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: list[str], line: str
) -> None:
    monkeypatch.setattr(experiments, "run_experiment", lambda *_: pytest.fail("something was trained"))
    inputs = "evaluate: {}\ndownload: {dataset_files: data, checkpoint_files: models}\n"
    repo = repo_of(git_project(tmp_path / "project", inputs))
    asks: list[Callable[[], object]] = [
        lambda: check_experiments(repo, [SEED_1, Experiment("seed-2", changes, ())]),
        lambda: study_seeds(repo, [1, 2], [], changes),
        lambda: predict_out_of_fold(repo, "folds", 2, changes),
    ]
    for ask in asks:
        with pytest.raises(Unanswerable, match=re.escape(line)):
            ask()


def test_a_parameter_that_the_program_sets_cannot_be_changed() -> None:
    assert checked(["train.epochs=2", "download.folds=1"], "download.fold", "--k") == [
        "train.epochs=2",
        "download.folds=1",
    ]
    for change in ("download.fold=null", "download.fold.of=3", "epochs=2", "train.epochs"):
        line = f"{change!r}: expected section.key=value, and download.fold comes from --k"
        with pytest.raises(Unanswerable, match=re.escape(line)):
            checked([change], "download.fold", "--k")


def test_the_data_of_a_changed_parameter_come_along(tmp_path: Path) -> None:
    project = git_project(tmp_path / "project")
    (project.folder / "other").mkdir()
    (project.folder / "other" / "train.csv").touch()
    params = experiments.resolve(project.folder, ["download.dataset_files=other", "train.epochs=5e-5"])
    assert params["train"]["epochs"] == 5e-5
    assert experiments.untracked_inputs(project.folder, params) == ["other"]
    assert untracked(project) == []


def untracked(project: Project) -> list[str]:
    return experiments.untracked_inputs(project.folder, experiments.resolve(project.folder, []))


def test_data_that_git_does_not_know_come_along(tmp_path: Path) -> None:
    """`dvc exp run --copy-paths` takes a folder only where there is none: a folder that Git knows goes file by file."""
    project = Project(tmp_path / "project")
    for name in (
        "models/local/README.md",
        "models/local/config.json",
        "data/mine/train.csv",
        "data/mine/deep/test.csv",
    ):
        (project.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (project.folder / name).touch()
    (project.folder / ".gitignore").write_text("/models/local/config.json\n")
    params = "download: {dataset_files: data/mine, checkpoint_files: models/local}\ntrain: {seed: 1}\n"
    (project.folder / "params.yaml").write_text(params)
    project.run("git", "init", "--quiet")
    project.run("git", "add", "params.yaml", ".gitignore", "models/local/README.md")
    assert sorted(untracked(project)) == ["data/mine", "models/local/config.json"]
    project.run("git", "add", "data/mine/train.csv")
    assert sorted(untracked(project)) == ["data/mine/deep", "models/local/config.json"]
    (project.folder / "params.yaml").write_text(params.replace("data/mine", "/data").replace("models/local", "/models"))
    assert untracked(project) == []
