"""checks.why: foretells what `dvc repro` runs, and names what changed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.repo import Repo

from checks import why
from checks.why import Action, StagePlan
from tests.project import Project

ROOT = Path(__file__).parents[1]

# Three stages of a line of shell each. They write their names to `ran`, which no stage depends on.
PARAMS = """\
prepare:
  # Rows.
  rows: 3
train:
  # As in a real one.
  learning_rate: 1.0e-1
  names: [a, b]
"""
DAG = """\
stages:
  prepare:
    cmd: echo prepare >> ran; mkdir -p data/raw; cp data/sample/*.csv data/raw; cat requirements.txt > data/raw/made
    params: [prepare]
    deps: [data/sample, requirements.txt]
    outs: [data/raw]
  train:
    cmd: echo train >> ran; cat data/raw/train.csv params.yaml > model
    params: [train]
    deps: [code.py, data/raw/train.csv]
    outs: [model]
  evaluate:
    cmd: echo evaluate >> ran; tail -n 2 model | head -n 1 | tr -d -c 0-9 > score.json
    deps: [model]
    metrics:
      - score.json:
          cache: false
"""
FILES = {
    ".dvcignore": "data/sample/README.md\n",
    ".gitignore": "/ran\n.scratch/\n",
    "code.py": "print()\n",
    "data/sample/README.md": "Rows.\n",
    "data/sample/test.csv": "1\n",
    "data/sample/train.csv": "2\n",
    "dvc.yaml": DAG,
    "params.yaml": PARAMS,
    "requirements.txt": "# Why.\nnumpy==2.4.0\ntorch==2.12.0\n",
}


@pytest.fixture(scope="module")
def finished_small(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project of those stages, never run."""
    project = Project(tmp_path_factory.mktemp("small") / "project")
    for name, content in FILES.items():
        write(project, name, content)
    project.start_git()
    Repo.init(str(project.folder)).close()
    project.commit("never run")
    assert repro(project) == ["prepare", "train", "evaluate"]
    project.commit("the first run")
    return project


@pytest.fixture
def small(finished_small: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of it, cache and all, as the current folder."""
    shutil.copytree(finished_small.folder, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return Project(tmp_path / "project")


def write(project: Project, name: str, content: str) -> None:
    (project.folder / name).parent.mkdir(parents=True, exist_ok=True)
    (project.folder / name).write_text(content, encoding="utf-8")


def replace(project: Project, name: str, old: str, new: str) -> None:
    assert old in project.read(name)
    write(project, name, project.read(name).replace(old, new))


def repro(project: Project, *targets: str) -> list[str]:
    """Runs `dvc repro` and returns the stages whose commands ran."""
    (project.folder / "ran").unlink(missing_ok=True)
    with pytest.MonkeyPatch.context() as patch, Repo(str(project.folder)) as repo:
        patch.chdir(project.folder)
        repo.reproduce(targets=list(targets) or None)
    return project.read("ran").split() if (project.folder / "ran").exists() else []


def content(project: Project) -> dict[str, bytes]:
    """Returns every file, the cache too; but not dvc's notes to itself."""
    files = (file for file in project.folder.rglob("*") if file.is_file() and ".dvc/tmp" not in str(file))
    return {str(file): file.read_bytes() for file in files}


def foretell(project: Project) -> dict[str, StagePlan]:
    with Repo(str(project.folder)) as repo:
        return {plan.stage: plan for plan in why.plan(repo)}


def actions(project: Project) -> list[Action]:
    return [plan.action for plan in foretell(project).values()]


def reasons(project: Project, stage: str) -> list[str]:
    return foretell(project)[stage].reasons


def test_nothing_to_run_is_one_line(small: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert why.main([]) == 0
    assert capsys.readouterr() == ("Nothing would run: every stage is up to date.\n", "")
    command = small.run("python", "-m", "checks.why", PYTHONPATH=str(ROOT))
    assert (command.stdout, command.stderr) == ("Nothing would run: every stage is up to date.\n", "")


def test_a_changed_parameter_is_named_with_its_line_and_what_follows_may_run(
    small: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    write(small, ".scratch/train.seconds.json", "83.24\n")
    replace(small, "params.yaml", "1.0e-1\n  names: [a, b]", "2e-5\n  names: [a]\n  keep: null")
    assert why.main([]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "prepare: up to date (not timed yet)",
        "train: would run (last run: 83.2 s)",
        "    params.yaml:6: train.learning_rate: 0.1 -> 2e-05",
        '    params.yaml:7: train.names: ["a", "b"] -> ["a"]',
        "    params.yaml:8: train.keep: not set -> null",
        "evaluate: may run, if train's outputs change (not timed yet)",
        "Would run: train (83.2 s). May run: evaluate (not timed yet).",
    ]


def test_a_parameter_that_is_gone_has_no_line_and_an_equal_one_no_mention(small: Project) -> None:
    replace(small, "params.yaml", "  names: [a, b]\n", "")
    replace(small, "params.yaml", "1.0e-1", "0.10")
    assert reasons(small, "train") == ['params.yaml: train.names: ["a", "b"] -> not set']


def test_in_a_folder_the_files_are_named(small: Project) -> None:
    write(small, "data/sample/README.md", "Not an input.\n")
    assert actions(small) == [Action.SKIP] * 3
    replace(small, "data/sample/train.csv", "2", "3")
    (small.folder / "data/sample/test.csv").unlink()
    write(small, "data/sample/more/extra.csv", "4\n")
    small.commit("other data")
    named = ["data/sample/more/extra.csv: added", "data/sample/test.csv: removed", "data/sample/train.csv: changed"]
    assert reasons(small, "prepare") == named
    for number in range(10):
        write(small, f"data/sample/x{number}.csv", "5\n")
    expected = [*named, "data/sample/x0.csv: added", "data/sample/x1.csv: added", "data/sample: 8 more files"]
    assert reasons(small, "prepare") == expected


def test_a_folder_whose_old_files_nobody_knows_is_named_itself(small: Project) -> None:
    shutil.rmtree(small.folder / ".git")
    small.run("git", "init", "--quiet")
    replace(small, "data/sample/train.csv", "2", "3")
    assert reasons(small, "prepare") == ["data/sample: changed"]


def test_data_outside_the_project_is_named_too(small: Project) -> None:
    outside = small.folder.parent / "outside"
    shutil.copytree(small.folder / "data" / "sample", outside)
    replace(small, "dvc.yaml", "[data/sample,", f"[{outside},")
    assert reasons(small, "prepare") == [f"{outside}: newly listed in dvc.yaml"]
    repro(small)
    (outside / "train.csv").unlink()
    assert reasons(small, "prepare") == [f"{outside}: changed"]


def test_the_packages_that_changed_are_named(small: Project) -> None:
    replace(small, "requirements.txt", "torch==2.12.0", "torch==2.13.0\nxxhash==3.5.0")
    small.commit("a newer torch")
    replace(small, "requirements.txt", "numpy==2.4.0\n", "")
    expected = [
        "requirements.txt: numpy 2.4.0 -> none",
        "requirements.txt: torch 2.12.0 -> 2.13.0",
        "requirements.txt: xxhash none -> 3.5.0",
    ]
    assert reasons(small, "prepare") == expected
    write(small, "requirements.txt", FILES["requirements.txt"].replace("Why", "Because"))
    assert reasons(small, "prepare") == ["requirements.txt: changed"]


def test_a_folder_that_a_stage_made_is_compared_with_the_cache(small: Project) -> None:
    replace(small, "dvc.yaml", "data/raw/train.csv]", "data/raw]")
    repro(small)
    replace(small, "data/sample/train.csv", "2", "3")
    repro(small, "prepare")
    foretold = foretell(small)
    assert foretold["train"].reasons == ["data/raw/train.csv: changed"]
    assert [plan.action for plan in foretold.values()] == [Action.SKIP, Action.RUN, Action.WAIT]


def test_code_and_commands_are_inputs_too(small: Project) -> None:
    write(small, "code.py", "print(1)\n")
    replace(small, "dvc.yaml", "tail -n 2", "tail -n 1")
    foretold = foretell(small)
    assert foretold["train"].reasons == ["code.py: changed"]
    command = "echo evaluate >> ran; tail -n {} model | head -n 1 | tr -d -c 0-9 > score.json"
    assert foretold["evaluate"].reasons == [f'dvc.yaml: cmd: "{command.format(2)}" -> "{command.format(1)}"']
    assert [plan.action for plan in foretold.values()] == [Action.SKIP, Action.RUN, Action.RUN]
    (small.folder / "code.py").unlink()
    assert reasons(small, "train") == ["code.py: not in the workspace"]


def test_outs_that_are_gone_are_told_from_outs_that_changed(small: Project) -> None:
    shutil.rmtree(small.folder / "data" / "raw")
    write(small, "model", "mine")
    foretold = foretell(small)
    assert foretold["prepare"].reasons == ["data/raw: not in the workspace"]
    assert foretold["train"].reasons == ["model: not as the stage wrote it"]
    assert [plan.action for plan in foretold.values()] == [Action.RESTORE, Action.RESTORE, Action.SKIP]
    assert repro(small) == []
    shutil.rmtree(small.folder / ".dvc" / "cache")
    assert reasons(small, "train") == ["model: not in cache"]
    (small.folder / "model").unlink()
    foretold = foretell(small)
    assert foretold["train"].reasons == ["model: not in the workspace, nor in the cache"]
    assert [plan.action for plan in foretold.values()] == [Action.RUN, Action.RUN, Action.WAIT]


def test_a_fresh_clone_runs_what_git_does_not_hold(
    small: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.run("git", "clone", "--quiet", ".", str(tmp_path / "clone"))
    monkeypatch.chdir(tmp_path / "clone")
    clone = Project(tmp_path / "clone")
    assert actions(clone) == [Action.RUN, Action.RUN, Action.WAIT]
    assert repro(clone) == ["prepare", "train"]


def test_a_stage_that_never_ran_says_so_and_no_more(small: Project) -> None:
    (small.folder / "dvc.lock").unlink()
    foretold = foretell(small)
    assert [plan.reasons for plan in foretold.values()] == [["never run"]] * 3
    assert [plan.action for plan in foretold.values()] == [Action.RESTORE] * 3
    shutil.rmtree(small.folder / ".dvc" / "cache")
    assert actions(small) == [Action.RUN] * 3


def test_old_values_are_foretold_to_come_from_the_run_cache_and_asking_changes_nothing(small: Project) -> None:
    replace(small, "params.yaml", "1.0e-1", "2.0e-1")
    replace(small, "data/sample/train.csv", "2", "3")
    assert repro(small) == ["prepare", "train", "evaluate"]
    small.run("git", "checkout", "--", "params.yaml", "data")
    before = content(small)
    foretold = foretell(small)
    assert content(small) == before
    assert foretold["train"].reasons == [
        "params.yaml:6: train.learning_rate: 0.2 -> 0.1",
        "data/raw/train.csv: restored, and different from what it last read",
    ]
    assert foretold["evaluate"].reasons == ["model: restored, and different from what it last read"]
    assert [plan.action for plan in foretold.values()] == [Action.RESTORE] * 3
    assert repro(small) == []


@pytest.mark.slow
def test_what_is_foretold_is_what_happens(small: Project) -> None:
    """Stages that would run do, those that may run may, and no other does; whatever was changed before."""
    for name, old, new in [
        ("params.yaml", "names: [a, b]", "names: [a]"),  # trains anew, and comes to the same score's input or another
        ("requirements.txt", "Why", "Because"),
        ("data/sample/test.csv", "1", "11"),  # rewrites data/raw, but not the file in it that train reads
        ("data/sample/train.csv", "2", "22"),
        ("code.py", "print()", "print(2)"),  # an input that changes no output
        ("params.yaml", "names: [a]", "names: [a, b]"),
        ("code.py", "print(2)", "print()"),
        ("data/sample/train.csv", "22", "2"),
    ]:
        replace(small, name, old, new)
        foretold = foretell(small)
        certain = {stage for stage, plan in foretold.items() if plan.action is Action.RUN}
        possible = {stage for stage, plan in foretold.items() if plan.action is Action.WAIT}
        ran = set(repro(small))
        assert certain <= ran <= certain | possible, (name, new)


def test_times_are_summed_and_missing_ones_admitted() -> None:
    plans = [
        StagePlan("download", Action.SKIP, [], [], 60.0),
        StagePlan("tokenize", Action.RUN, ["never run"], [], 1.26),
        StagePlan("train", Action.RUN, ["code.py: changed"], [], None),
        StagePlan("predict", Action.WAIT, [], ["tokenize", "train"], 3.0),
        StagePlan("evaluate", Action.RESTORE, ["model: not in the workspace"], [], 4.0),
    ]
    assert why.as_text(plans).splitlines() == [
        "download: up to date (last run: 60.0 s)",
        "tokenize: would run (last run: 1.3 s)",
        "    never run",
        "train: would run (not timed yet)",
        "    code.py: changed",
        "predict: may run, if tokenize's or train's outputs change (last run: 3.0 s)",
        "evaluate: would be restored from the run cache (last run: 4.0 s)",
        "    model: not in the workspace",
        "Would run: tokenize, train (1.3 s; not timed yet: train). May run: predict (3.0 s).",
    ]


def test_what_cannot_be_answered_is_one_line(
    small: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def line() -> str:
        assert why.main([]) == 1
        out, error = capsys.readouterr()
        assert out == "" and error.endswith("\n") and error.count("\n") == 1
        return error

    write(small, "params.yaml", "train: [\n")
    assert line().startswith("why: unable to read: 'params.yaml', YAML file structure is corrupted: while parsing")
    (small.folder / "params.yaml").unlink()
    assert line() == "why: Parameters 'prepare' are missing from 'params.yaml'.\n"
    small.run("git", "checkout", "--", ".")
    write(small, "dvc.yaml", "stages:\n  prepare: {}\n")
    assert "dvc.yaml' validation failed: required key not provided" in line()
    (small.folder / "dvc.yaml").unlink()
    assert line() == "why: no stages: dvc.yaml is missing or empty\n"
    small.run("git", "checkout", "--", ".")
    shutil.rmtree(small.folder / ".git")
    assert "is not a git repository" in line()
    monkeypatch.chdir(tmp_path)
    assert line().startswith("why: you are not inside of a DVC repository")


def test_it_does_not_load_torch_and_would_notice() -> None:
    for imports, loaded in [("checks.why", False), ("checks.why, torch", True)]:
        code = f"import sys, {imports}; sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == loaded


def test_in_this_project_a_learning_rate_reruns_train_and_perhaps_what_follows(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.folder)
    fresh = foretell(project)
    assert fresh["train"].action is Action.RUN
    assert fresh["train"].reasons == ["never run"]

    with Repo() as repo:  # as if every stage had run
        for out in (out for stage in repo.index.stages for out in stage.outs if not out.exists):
            write(project, f"{out}/task.json", f"{out}")
        repo.commit(force=True)
    assert set(actions(project)) == {Action.SKIP}
    lines = project.read("params.yaml").splitlines()
    line = next(number for number, line in enumerate(lines, 1) if line.startswith("  learning_rate:"))
    old = float(lines[line - 1].split()[1])
    project.set(train__learning_rate=old * 2)
    replace(project, "data/hard/test.csv", "0", "1")
    foretold = foretell(project)
    assert foretold["download"].reasons == ["data/hard/test.csv: changed"]
    assert foretold["train"].reasons == [f"params.yaml:{line}: train.learning_rate: {old} -> {old * 2}"]
    assert {stage: (plan.action, plan.waits_for) for stage, plan in foretold.items()} == {
        "download": (Action.RUN, []),
        "tokenize": (Action.WAIT, ["download"]),
        "train": (Action.RUN, []),
        "predict": (Action.WAIT, ["download", "tokenize", "train"]),
        "calibrate": (Action.WAIT, ["download", "predict"]),
        "evaluate": (Action.WAIT, ["calibrate", "download", "predict", "train"]),
        "baselines": (Action.WAIT, ["download", "predict", "tokenize"]),
        "report": (Action.RUN, []),  # it shows the learning rate
    }


def test_without_the_environment_a_check_says_how_to_get_it() -> None:
    """Also for `--help`; -S leaves out what is installed."""
    for arguments in ([], ["--help"]):
        done = subprocess.run(
            [sys.executable, "-S", "-m", "checks.why", *arguments], cwd=ROOT, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert "`source .venv/bin/activate`" in done.stderr and "`make setup`" in done.stderr


def test_help_helps_and_runs_nothing(small: Project) -> None:
    done = small.run("python", "-m", "checks.why", "--help", PYTHONPATH=str(ROOT))
    assert done.stdout.startswith("usage: python -m checks.why") and "would run" not in done.stdout
