"""checks.seeds: the spread over seeds, by Student; runs that are done are not done again."""

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from checks import seeds
from checks.cli import Unanswerable
from checks.revisions import Revision
from checks.seeds import SeedRun, experiment_names, mean_interval, paired_differences, spreads
from tests.project import PROGRAMS, Project


def runs(*accuracies: float, loss: float = 0.5) -> list[SeedRun]:
    return [
        SeedRun(seed, f"seed-{seed}", {"test": {"accuracy": value, "loss": loss - value / 10, "examples": 9}}, [])
        for seed, value in enumerate(accuracies, 1)
    ]


def test_the_interval_of_the_mean_is_students_first_example() -> None:
    """Student (1908): hours of sleep that ten patients gained by a drug; mean 1.58, deviation 1.23, t = 4.06."""
    gained = np.array([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4])
    mean, deviation, low, high = mean_interval(gained)
    assert (mean, deviation) == pytest.approx((1.58, 1.23), abs=5e-3)
    assert mean / (deviation / 10**0.5) == pytest.approx(4.06, abs=5e-3)
    expected = stats.ttest_1samp(gained, 0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_best_and_worst_follow_the_metrics_direction() -> None:
    accuracy, loss = spreads(runs(0.8, 0.9, 0.7))
    assert (accuracy.best, accuracy.best_seed, accuracy.worst, accuracy.worst_seed) == (0.9, 2, 0.7, 3)
    assert (loss.best_seed, loss.worst_seed) == (2, 3)
    assert accuracy.mean == pytest.approx(0.8) and accuracy.deviation == pytest.approx(0.1)


def test_two_configurations_are_compared_seed_by_seed() -> None:
    """What the seed does to both cancels: unpaired, these two could not be told apart."""
    one, two = runs(0.82, 0.93, 0.71, 0.87), runs(0.80, 0.90, 0.70, 0.85)
    accuracy, _ = paired_differences(one, two)
    values = [[run.scores["test"]["accuracy"] for run in each] for each in (one, two)]
    expected = stats.ttest_rel(*values).confidence_interval(0.95)
    assert (accuracy.low, accuracy.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert accuracy.verdict == "better" and paired_differences(two, one)[0].verdict == "worse"
    assert stats.ttest_ind(*values).confidence_interval(0.95).low < 0
    assert paired_differences(one, runs(0.9, 0.8, 0.9, 0.7))[0].verdict == "cannot be told apart"


def test_runs_with_other_splits_do_not_compare() -> None:
    other = [SeedRun(1, "seed-1", {"validation": {"accuracy": 0.5}}, [])]
    with pytest.raises(Unanswerable, match="on other splits or by other metrics"):
        paired_differences(runs(0.8), other)


class Stored(Revision):
    """A revision whose files are given."""

    def text(self, path: str) -> str | None:
        return self.repo.get(path)


@pytest.mark.parametrize(
    ("predicted", "value", "low", "expected"),
    [
        ((30, 70), 0.9, 0.85, []),
        (
            (0, 100),
            0.6,
            0.5,
            ["test: always 'yes'", "test: accuracy 0.6000 is no better than the best constant answer's 0.6000"],
        ),
        ((30, 70), 0.61, 0.51, ["test: accuracy 0.6100 is no better than the best constant answer's 0.6000"]),
    ],
)
def test_a_collapsed_run_is_flagged(predicted: tuple[int, int], value: float, low: float, expected: list[str]) -> None:
    record = {"split": "test", "metric": "accuracy", "value": value, "high": 1.0, "baseline": 0.6}
    records = [record | {"method": "bootstrap", "low": value}, record | {"method": "wilson", "low": low}]
    files = {
        "metrics/metrics.json": json.dumps({"test": {"accuracy": value}}),
        "metrics/intervals.json": json.dumps({"intervals": records}),
        "metrics/plots/confusion.csv": "split,actual,predicted,examples\n"
        f"test,no,no,{predicted[0]}\ntest,yes,yes,{predicted[1]}\n",
    }
    assert seeds.read_run(Stored("seed-1", "0", files), 1).collapsed == expected


def test_a_configuration_has_its_own_names_whatever_they_were_changed_by() -> None:
    params = {"train": {"seed": 42, "epochs": 3}, "download": {"metrics": ["f1"]}, "gate": []}
    name = next(experiment_names(3, params))
    assert re.fullmatch(r"seed-3-[0-9a-f]{8}", name)
    same = {"download": {"metrics": ["f1"]}, "gate": [{}], "train": {"epochs": 3, "seed": 3}}
    assert next(experiment_names(3, same)) == name
    assert next(experiment_names(3, params | {"train": {"seed": 42, "epochs": 4}})) != name


def git_project(folder: Path, params: str = "download: {dataset_files: data, checkpoint_files: models}\n") -> Project:
    project = Project(folder)
    folder.mkdir()
    (folder / "params.yaml").write_text(params + "train: {seed: 42, epochs: 3}\n")
    project.run("git", "init", "--quiet")
    project.run("git", "config", "user.name", "A Tester")
    project.run("git", "config", "user.email", "tester@example.org")
    project.commit("as it is")
    return project


def test_no_experiment_is_removed_or_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One by another's hand, one of this configuration with other data: both stay, and the new one is named anew."""
    project = git_project(tmp_path / "project")
    head = project.run("git", "rev-parse", "HEAD").stdout.strip()
    names = experiment_names(1, seeds.resolve(project.folder, []))
    mine, other = f"refs/exps/{head[:2]}/{head[2:]}/seed-1", f"refs/exps/{head[:2]}/{head[2:]}/{next(names)}"
    for ref in (mine, other):
        project.run("git", "update-ref", ref, "HEAD")
    ran = []

    def run(root: Path, name: str, changes: list[str], untracked: list[str]) -> None:
        ran.append(name)
        project.run("git", "update-ref", f"refs/exps/{head[:2]}/{head[2:]}/{name}", "HEAD")

    monkeypatch.setattr(seeds, "_run_experiment", run)
    monkeypatch.setattr(seeds, "is_current", lambda found, params: False)
    monkeypatch.setattr(seeds, "read_run", lambda found, seed: SeedRun(seed, found.name, {}, []))
    assert seeds.run_seed(SimpleNamespace(root_dir=str(project.folder)), 1, []).experiment == next(names) == ran[0]
    assert {mine, other} < set(project.run("git", "for-each-ref", "--format=%(refname)").stdout.split())


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (["download.dataset_files=../data"], "download.dataset_files: '../data' leads out of the project"),
        (["download.checkpoint_files=a/../../b"], "download.checkpoint_files: 'a/../../b' leads out of the project"),
        (["download.dataset_files=null"], "download.dataset_files: a path is expected, got None"),
        (["nowhere.key=1"], "'nowhere.key=1': params.yaml has no section nowhere"),
        (["train.epochs.more=1"], "'train.epochs.more=1': params.yaml has no section train.epochs"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: list[str], line: str
) -> None:
    project = git_project(tmp_path / "project")
    monkeypatch.setattr(seeds, "run_seed", lambda *_: pytest.fail("something ran"))
    with pytest.raises(Unanswerable, match=re.escape(line)):
        seeds.study_seeds(SimpleNamespace(root_dir=str(project.folder)), [1, 2], [], changes)


def test_the_data_of_a_changed_parameter_come_along(tmp_path: Path) -> None:
    project = git_project(tmp_path / "project")
    (project.folder / "other").mkdir()
    (project.folder / "other" / "train.csv").touch()
    params = seeds.resolve(project.folder, ["download.dataset_files=other", "train.epochs=5e-5"])
    assert params["train"]["epochs"] == 5e-5
    assert seeds.untracked_inputs(project.folder, params) == ["other"]
    assert seeds.untracked_inputs(project.folder, seeds.resolve(project.folder, [])) == []


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--seeds", "1,x"], "--seeds: whole numbers like 1,2,3 are expected, got '1,x'"),
        (["--seeds", "1"], "a spread takes at least two seeds, each of them once"),
        (["--seeds", "1,1"], "a spread takes at least two seeds, each of them once"),
        (["--count", "1"], "a spread takes at least two seeds, each of them once"),
        (["-S", "learning_rate"], "'learning_rate': section.key=value is expected, and train.seed comes from --seeds"),
        (["-S", "train.seed=3"], "'train.seed=3': section.key=value is expected, and train.seed comes from --seeds"),
    ],
)
def test_arguments_that_make_no_sense_are_one_line(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert seeds.main(arguments) == 2
    assert capsys.readouterr() == ("", f"seeds: {line}\n")


def untracked(project: Project) -> list[str]:
    return seeds.untracked_inputs(project.folder, seeds.resolve(project.folder, []))


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


def alive(folder: Path) -> list[str]:
    """Returns the programs that run below a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cwd").readlink().is_relative_to(folder):
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def start(project: Project, *arguments: str) -> Any:
    return subprocess.Popen(
        [sys.executable, "-m", "checks.seeds", *arguments],
        cwd=project.folder,
        env=os.environ | {"PATH": PROGRAMS},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_three_seeds_go_on_after_an_interruption_and_none_is_trained_twice(tiny: Project) -> None:
    """Interrupted while the second one trains, by Ctrl-C and then by a kill; in a tree with uncommitted changes."""
    tiny.set(train__epochs=1)
    trained: Counter[str] = Counter()
    current = ""
    for how in (signal.SIGINT, signal.SIGKILL, None):
        process = start(tiny, "--count", "3")
        lines = []
        for line in process.stdout:
            lines.append(line)
            if running := re.search(r"(seed-\d)-\w+: running", line):
                current = running[1]
            trained[current] += line.startswith("epoch 1/1: ")
            if how and "Running stage 'train'" in line and any(re.search(r"seed-2-\w+: running", one) for one in lines):
                process.send_signal(how)
                how = None
        process.wait()
        said = "".join(lines)
        assert not [program for program in alive(tiny.folder) if "dvc" in program or "stages" in program]
    assert process.returncode == 0
    assert re.search(r"seed-1-\w+: found", said)
    assert trained["seed-1"] == trained["seed-3"] == 1  # the second may have ended its epoch as it was interrupted
    again = tiny.run("python", "-m", "checks.seeds", "--count", "3", "--json")
    assert re.findall(r"seed-\d-\w+: (\w+)", again.stderr) == ["found"] * 3
    (configuration,) = json.loads(again.stdout)["configurations"]
    assert [run["seed"] for run in configuration["runs"]] == [1, 2, 3]
    # Restorable, and what it restores is the seed's.
    tiny.run("git", "stash")
    tiny.run("dvc", "exp", "apply", configuration["runs"][2]["experiment"])
    assert json.loads(tiny.read("metrics/metrics.json")) == configuration["runs"][2]["scores"]
    assert "seed: 3" in tiny.read("params.yaml")
    # An input that changed since makes it another run, and DVC decides what of it has to be done again.
    tiny.run("git", "checkout", "--", ".")
    tiny.set(train__epochs=1, train__weight_decay=0.1)
    done = tiny.run("python", "-m", "checks.seeds", "--seeds", "1,2", "--against", "train.weight_decay=0.0", "--json")
    assert re.findall(r"(seed-\d)-\w+: (\w+)", done.stderr) == [
        ("seed-1", "running"),
        ("seed-2", "running"),
        ("seed-1", "found"),  # those without decay are the ones from before
        ("seed-2", "found"),
    ]
    assert len(re.findall(r"epoch 1/1: .*", done.stderr)) == 2
    assert {one["metric"] for one in json.loads(done.stdout)["differences"]} == {"accuracy", "f1", "loss"}
