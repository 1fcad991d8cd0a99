"""What a stage was made from: its own record has DVC's hashes, and a dvc.lock that a merge has mixed is told by it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from checks import compare, gate, why
from checks.dvc_internals import content_of
from checks.made_from import find_foreign
from checks.revisions import WORKSPACE, Revision
from stages.shared.runtime.dvc_hash import dvc_hash
from tests.predictions import branch, labels_of, logits_of
from tests.project import Project, own_dag
from tests.test_why import repro, write

ROOT = Path(__file__).parents[1]
DAG: dict[str, Any] = own_dag()

PROGRAM = """\
import sys
from pathlib import Path
from stages.shared.runtime.run_stage import alone, program
from stages.shared.runtime.snapshot import snapshot
name, source, target = sys.argv[1:]
with program(name), alone(name, snapshot(name)):
    with open("ran", "a") as ran:
        print(name, file=ran)
    Path(target).mkdir(parents=True, exist_ok=True)
    Path(target, "part").write_text(Path(source).read_text() + Path("params.yaml").read_text())
"""
STAGES = """\
stages:
  prepare:
    cmd: exec python program.py prepare "${prepare.source}/text" data
    params: [prepare]
    deps: ["${prepare.source}", code/prepare, program.py]
    outs: [data]
    metrics:
      - metrics/made_from/prepare.json:
          cache: false
  train:
    cmd: exec python program.py train data/part model
    params: [train]
    deps: [code/train, data, program.py]
    outs: [model]
    metrics:
      - metrics/made_from/train.json:
          cache: false
"""
FILES = {
    ".dvcignore": "__pycache__\n",
    ".gitattributes": (ROOT / ".gitattributes").read_text(encoding="utf-8"),
    ".gitignore": "/ran\n.scratch/\n",
    "code/prepare/deep/rows.py": "rows = 1\n",
    "code/prepare/rows.py": "rows = 1\n",
    "code/train/loop.py": "loop = 1\n",
    "dvc.yaml": STAGES,
    "params.yaml": "prepare:\n  source: source\n  rows: 3\n  note: first\ntrain:\n  rate: 1.0e-1\n  names: [a, null]\n",
    "program.py": PROGRAM,
    "source/text": "a text\n",
}


@pytest.fixture(scope="module")
def recorded_once(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project of two stages that are programs of this project, run and committed."""
    project = Project(tmp_path_factory.mktemp("recorded") / "project")
    for name, content in FILES.items():
        write(project, name, content)
    project.start_git()
    Repo.init(str(project.folder)).close()
    assert run(project) == ["prepare", "train"]
    project.commit("the first run")
    return project


@pytest.fixture
def recorded(recorded_once: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of it, cache and all, as the current folder."""
    shutil.copytree(recorded_once.folder, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return Project(tmp_path / "project")


def run(project: Project, *targets: str) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        return repro(project, *targets)


def record(project: Project, stage: str) -> dict[str, Any]:
    (made_from,) = json.loads(project.read(f"metrics/made_from/{stage}.json"))["made_from"]
    return dict(made_from)


def lock(project: Project) -> dict[str, Any]:
    return dict(YAML(typ="safe", pure=True).load(project.read("dvc.lock"))["stages"])


def hashes(items: list[dict[str, str]]) -> dict[str, str]:
    return {item["path"]: item["md5"] for item in items}


def foreign(project: Project) -> list[str]:
    with Repo(str(project.folder)) as repo:
        workspace = Revision(WORKSPACE, None, repo)
        return find_foreign(workspace.lock, workspace.text)


def as_dvc(path: str) -> str:
    with Repo(".") as repo:
        return content_of(repo, os.path.abspath(path)).md5  # noqa: PTH100  (not through links)


# The hash


@pytest.mark.parametrize(
    "path", sorted({dep for entry in DAG["stages"].values() for dep in entry["deps"] if (ROOT / dep).exists()})
)
def test_a_dep_of_this_project_has_dvcs_own_hash(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert dvc_hash(Path(path)) == as_dvc(path)


def make_odd_tree(folder: Path) -> None:
    for name in (
        "plain.txt",
        "empty",
        "Größe 1.csv",
        'quote".txt',
        "deep/deeper/file",
        "deep/notes.tmp",
        "deep/keep.tmp",
        "build/out",
        "deep/build/out",
        "anchored/x",
        "deep/anchored/x",
        "__pycache__/code.pyc",
        "deep/__pycache__/code.pyc",
        ".hidden",
        ".git/config",
        "project/.dvc/config",
        "project/data.csv",
        "deep/project/.dvc/config",
        "deep/project/data.csv",
        "a#b",
        "#hash",
        "!bang",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "nothing").mkdir()
    (folder / "file link").symlink_to(folder / "plain.txt")
    (folder / "folder link").symlink_to(folder / "deep")
    (folder / "looping link").symlink_to(folder)


IGNORED = """\
# a comment

__pycache__
*.tmp
!keep.tmp
build/
/tree/anchored
tree/nothing
\\#hash
"""


def test_what_is_ignored_linked_or_oddly_named_is_hashed_as_dvc_hashes_it(
    recorded: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_odd_tree(recorded.folder / "tree")
    make_odd_tree(recorded.folder / "inner" / "tree")
    make_odd_tree(recorded.folder.parent / "outside")
    write(recorded, ".dvcignore", IGNORED)
    write(recorded, "inner/.dvcignore", "*.csv\n/tree/deep/deeper\n!notes.tmp\n")
    (recorded.folder / "link").symlink_to(recorded.folder / "tree")
    paths = ["tree", "tree/deep", "tree/nothing", "tree/anchored", "tree/build", "inner/tree", "link", "../outside"]
    paths += [str(recorded.folder / "tree"), "tree/plain.txt", "tree/file link", "./tree/", "code"]
    found = {path: dvc_hash(Path(path)) for path in paths}
    assert found == {path: as_dvc(path) for path in paths}
    assert found["tree"] != found["../outside"]  # the rules did something
    assert found["tree"] != found["inner/tree"]


def test_what_is_not_there_has_no_hash(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        dvc_hash(tmp_path / "nothing")


def test_a_stage_hashes_without_importing_dvc() -> None:
    code = (
        "import sys, stages.shared.runtime.run_stage; sys.exit('dvc' in sys.modules or 'pathspec' not in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


# The record


def test_the_record_is_the_entry_of_the_lock(recorded: Project) -> None:
    for stage, entry in lock(recorded).items():
        made_from = record(recorded, stage)
        assert hashes(made_from["deps"]) == hashes(entry["deps"])
        assert made_from["params"] == entry["params"]
        own = f"metrics/made_from/{stage}.json"
        assert hashes(made_from["outs"]) == {path: md5 for path, md5 in hashes(entry["outs"]).items() if path != own}
    assert foreign(recorded) == []


def test_the_same_inputs_give_the_same_bytes_and_dvc_prints_none_of_them(recorded: Project) -> None:
    before = recorded.read("metrics/made_from/train.json")
    shutil.rmtree(recorded.folder / ".dvc" / "cache")
    shutil.rmtree(recorded.folder / "model")
    (recorded.folder / "metrics/made_from/train.json").unlink()
    assert run(recorded, "train") == ["prepare", "train"]
    assert recorded.read("metrics/made_from/train.json") == before
    with Repo(".") as repo:
        assert all(not found["data"] for found in repo.metrics.show()[""]["data"].values())


def test_the_record_comes_back_from_the_run_cache_with_the_outputs(recorded: Project) -> None:
    first = {stage: recorded.read(f"metrics/made_from/{stage}.json") for stage in ("prepare", "train")}
    params = recorded.read("params.yaml")
    write(recorded, "params.yaml", params.replace("rows: 3", "rows: 4"))
    assert run(recorded) == ["prepare", "train"]
    assert record(recorded, "prepare")["params"] == {
        "params.yaml": {"prepare": {"source": "source", "rows": 4, "note": "first"}}
    }
    write(recorded, "params.yaml", params)
    assert run(recorded) == []
    assert {stage: recorded.read(f"metrics/made_from/{stage}.json") for stage in first} == first
    assert foreign(recorded) == []


def test_data_from_outside_the_project_are_recorded_as_the_lock_has_them(recorded: Project) -> None:
    shutil.copytree(recorded.folder / "source", recorded.folder.parent / "elsewhere")
    for place in (
        "../elsewhere",
        str(recorded.folder.parent / "elsewhere"),
        "./source",
        str(recorded.folder / "source"),
    ):
        text = re.sub("source: .*", f"source: {place}", recorded.read("params.yaml"))
        write(recorded, "params.yaml", text)
        run(recorded)
        assert foreign(recorded) == []


def test_parameters_that_json_does_not_know_are_compared_as_well(recorded: Project) -> None:
    for value in (".inf", "-.inf", ".nan", "{a: 1, b: [1.5, null]}", "1e3", "'007'"):
        write(recorded, "params.yaml", re.sub("note: .*", f"note: {value}", recorded.read("params.yaml")))
        run(recorded, "prepare")
        assert foreign(recorded) == [], value


def test_a_stage_whose_record_is_not_listed_writes_none(recorded: Project) -> None:
    text = recorded.read("dvc.yaml").replace(
        "    metrics:\n      - metrics/made_from/train.json:\n          cache: false\n", ""
    )
    write(recorded, "dvc.yaml", text)
    (recorded.folder / "metrics/made_from/train.json").unlink()
    shutil.rmtree(recorded.folder / "model")
    shutil.rmtree(recorded.folder / ".dvc" / "cache")
    run(recorded, "train")
    assert not (recorded.folder / "metrics/made_from/train.json").exists()


# A merge


def mixed(project: Project) -> None:
    """Leaves what Git made of a newer code's lock and an older one's results: the new hash beside the old output."""
    old = dvc_hash(Path("code/train"))
    write(project, "code/train/loop.py", "loop = 2\n")
    text = project.read("dvc.lock")
    assert text.count(old) == 1
    write(project, "dvc.lock", text.replace(old, dvc_hash(Path("code/train"))))
    project.commit("merged")
    assert run(project) == []  # DVC has nothing to say


def test_a_mixed_lock_is_told_by_the_stages_record_and_mended_by_what_is_said(
    recorded: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed(recorded)
    line = (
        "train: dvc.lock and metrics/made_from/train.json differ in code/train, so its outputs were not made from "
        "these inputs; run `dvc repro --force --single-item train`, then `dvc repro` for what follows"
    )
    assert foreign(recorded) == [line]
    assert why.main([]) == 0
    assert capsys.readouterr().out.splitlines() == ["Nothing would run: every stage is up to date.", line]
    environment = {"PYTHONPATH": str(ROOT)}
    recorded.run("dvc", *re.findall(r"`dvc (repro --force .*?)`", line)[0].split(), **environment)
    assert foreign(recorded) == []


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (r"rate: 0.1", "rate: 0.2", "train.rate"),
        (r"- a\n", "- b\n", "train.names"),
        (r"(?<=path: model\n      hash: md5\n      md5: )\w{4}", "0000", "model"),
        (r"(?<=path: program.py\n      hash: md5\n      md5: )\w{4}", "0000", "program.py"),
    ],
)
def test_any_hash_or_parameter_that_is_not_the_stages_own_is_named(
    recorded: Project, old: str, new: str, named: str
) -> None:
    text = recorded.read("dvc.lock")
    start = text.index("  train:")
    changed = re.sub(old, new, text[start:])
    assert changed != text[start:]
    write(recorded, "dvc.lock", text[:start] + changed)
    (line,) = foreign(recorded)
    assert line.startswith(f"train: dvc.lock and metrics/made_from/train.json differ in {named}")


@pytest.mark.parametrize(
    "text", ["", "<<<<<<< ours\n", "[]", '{"made_from": []}', '{"made_from": [{"deps": [1]}]}', "\x00"]
)
def test_a_record_that_no_stage_wrote_is_said_to_be_that(recorded: Project, text: str) -> None:
    write(recorded, "metrics/made_from/train.json", text)
    (line,) = foreign(recorded)
    assert line.startswith("train: metrics/made_from/train.json was not written by a stage; run `dvc repro --force")


def test_where_both_branches_ran_a_stage_the_merge_stops_and_dvc_makes_it_anew(recorded: Project) -> None:
    recorded.run("git", "checkout", "--quiet", "-b", "own")
    write(recorded, "params.yaml", recorded.read("params.yaml").replace("1.0e-1", "2.0e-1"))
    assert run(recorded) == ["train"]
    recorded.commit("another rate")
    kept = recorded.read("dvc.lock")
    recorded.run("git", "checkout", "--quiet", "main")
    write(recorded, "code/train/loop.py", "loop = 2\n")
    run(recorded)
    recorded.commit("newer code")
    recorded.run("git", "checkout", "--quiet", "own")
    merged = recorded.run("git", "merge", "main", check=False)
    assert merged.returncode == 1 and "CONFLICT (content): Merge conflict in dvc.lock" in merged.stdout
    assert recorded.read("dvc.lock") == kept  # whole: DVC can read it
    assert run(recorded) == ["train"]
    recorded.commit("merged")
    assert foreign(recorded) == []
    assert "loop = 2" in recorded.read("code/train/loop.py") and "2.0e-1" in recorded.read("params.yaml")
    assert run(recorded) == []


def test_a_clone_has_the_bytes_that_were_committed_whatever_git_does_to_ends_of_lines(
    recorded: Project, tmp_path: Path
) -> None:
    (recorded.folder / "source" / "windows.csv").write_bytes(b"a,b\r\n1,2\r\n")
    recorded.commit("a table from Windows")
    names = recorded.run("git", "ls-files").stdout.split()
    assert len(names) > 10
    for setting in ("true", "input", "false"):
        clone = tmp_path / setting
        recorded.run("git", "-c", f"core.autocrlf={setting}", "clone", "--quiet", ".", str(clone))
        for name in names:
            assert (clone / name).read_bytes() == (recorded.folder / name).read_bytes(), name


def test_compare_warns_of_a_commit_whose_outputs_are_of_other_inputs(
    predicted: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = labels_of(200)
    write(predicted, "metrics/made_from/predict.json", '{"made_from": [{"deps": [], "params": {}, "outs": []}]}')
    predicted.commit("merged")
    branch(predicted, "better", labels, logits_of(labels, range(10)))
    (predicted.folder / "metrics/made_from/predict.json").unlink()
    predicted.commit("another")
    assert compare.main(["main"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("compare: warning: main: predict: dvc.lock and ") and "data/predictions" in line


def test_the_gate_judges_no_output_of_other_inputs(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    labels = labels_of(200)
    branch(predicted, "better", labels, logits_of(labels, range(10)))
    rule = "gate:\n  - {split: validation, metric: accuracy, at_least: 0.1}\n"
    write(predicted, "params.yaml", predicted.read("params.yaml").replace("gate: []\n", rule))
    assert gate.main([]) == 0
    capsys.readouterr()
    write(predicted, "metrics/made_from/predict.json", '{"made_from": [{"deps": [], "params": {}, "outs": []}]}')
    assert gate.main([]) == 2
    error = capsys.readouterr().err
    assert error.startswith("gate: the metrics do not match the workspace: predict: dvc.lock and ")
    assert error.count("\n") == 1 and error.rstrip().endswith("for what follows")


@pytest.mark.slow
def test_every_record_of_a_real_run_is_its_entry_of_the_lock(tiny: Project) -> None:
    entries = lock(tiny)
    assert set(entries) == set(DAG["stages"])
    for stage, entry in entries.items():
        made_from = record(tiny, stage)
        assert hashes(made_from["deps"]) == hashes(entry["deps"])
        assert made_from["params"] == entry["params"]
    assert foreign(tiny) == []


@pytest.mark.slow
def test_quick_tells_a_lock_that_a_merge_has_mixed(tiny: Project) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tiny.folder)
        old = dvc_hash(Path("stages/predict"))
        write(tiny, "stages/predict/linear.py", tiny.read("stages/predict/linear.py") + "# newer code\n")
        write(tiny, "dvc.lock", tiny.read("dvc.lock").replace(old, dvc_hash(Path("stages/predict"))))
    tiny.commit("merged")
    assert tiny.repro() == []
    done = tiny.run("python", "-m", "checks.verify", "--quick", check=False)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "HEAD: lock, metrics, params and code do not belong together"
    assert lines[1].startswith("- predict: dvc.lock and metrics/made_from/predict.json differ in stages/predict")
    assert len(lines) == 2
