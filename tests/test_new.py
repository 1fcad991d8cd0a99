"""checks.new and checks.upgrade: from this repository to one's own, and to a newer tunelock in it."""

import argparse
import json
import re
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from checks.new import set_params
from checks.params_text import cut, joined, with_new_keys, with_values, without_rules
from stages.shared.runtime.sections import check_sections
from tests.project import Project, copy_release

pytestmark = pytest.mark.release  # a project that was made so does not make others

ROOT = Path(__file__).parents[1]
TOPICS = ("billing", "bugs", "login", "other", "praise", "shipping")
TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def upstream_once(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return copy_release(tmp_path_factory.mktemp("upstream") / "tunelock")


@pytest.fixture
def upstream(upstream_once: Project, tmp_path: Path) -> Project:
    """Tunelock, as somebody has cloned it."""
    shutil.copytree(upstream_once.folder, tmp_path / "tunelock")
    return Project(tmp_path / "tunelock")


@pytest.fixture
def tickets(tmp_path: Path) -> Path:
    """A csv of six classes."""
    rows = [f'"about {TOPICS[row % 6]}, number {row}",{TOPICS[row % 6]}' for row in range(240)]
    (tmp_path / "tickets.csv").write_text("\n".join(["ticket,topic", *rows, ""]), encoding="utf-8")
    return tmp_path / "tickets.csv"


def new(upstream: Project, tickets: Path, keep: str = "dvc", *more: str) -> Project:
    """Makes a project of one's own beside the clone."""
    target = upstream.folder.parent / "mine"
    columns = ("--text", "ticket", "--label", "topic", "--keep-data", keep)
    done = upstream.run("python", "-m", "checks.new", str(target), "--data", str(tickets), *columns, *more)
    assert f"cd {target} && make repro" in done.stdout
    return Project(target)


def files(project: Project) -> set[str]:
    return set(project.run("git", "ls-files").stdout.splitlines())


# A new project


@pytest.mark.parametrize("keep", ["dvc", "ignored"])
def test_a_project_has_the_code_and_the_data_and_nothing_of_tunelocks_own(
    keep: str, upstream: Project, tickets: Path
) -> None:
    mine = new(upstream, tickets, keep)
    assert len(mine.run("git", "log", "--oneline").stdout.splitlines()) == 1
    assert mine.run("git", "status", "--porcelain", "--untracked-files=all").stdout == ""
    there = files(mine)
    assert {"dvc.yaml", "params.yaml", "params.schema.json", "stages/train/train.py", "LICENSE.tunelock"} <= there
    assert not {"dvc.lock", "LOG.md", "LICENSE", "metrics/metrics.json", "docs/report.png"} & there
    assert not [name for name in there if name.startswith(("data/sample", ".ci/"))]
    assert [name for name in there if name.startswith("metrics/")] == ["metrics/.gitignore"]
    # the data are there, and no `git add .` publishes them
    assert mine.read("data/own/tickets.csv") == tickets.read_text(encoding="utf-8")
    assert not [name for name in there if "tickets" in name]
    assert ("data/own.dvc" in there) == (keep == "dvc")
    assert "# mine" in mine.read("README.md") and "Predicts `topic` from `ticket`" in mine.read("README.md")
    commit = upstream.run("git", "rev-parse", "HEAD").stdout.strip()
    assert json.loads(mine.read(".tunelock.json")) == {"upstream": str(upstream.folder), "commit": commit}
    check_sections(mine.folder)
    for page in [mine.folder / "README.md", *(mine.folder / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_only_the_datas_own_lines_of_params_yaml_are_other(upstream: Project, tickets: Path) -> None:
    mine = new(upstream, tickets)
    before, after = (project.read("params.yaml").splitlines() for project in (upstream, mine))
    assert len(before) == len(after)
    changed = [line.strip() for line, old in zip(after, before, strict=True) if line != old]
    assert "dataset_files: data/own/tickets.csv" in changed and "text_column: ticket" in changed
    assert all(":" in line and not line.startswith("#") for line in changed)


def test_where_a_newer_tunelock_will_be_is_the_remote_that_has_the_commit(upstream: Project, tickets: Path) -> None:
    clone = Project(upstream.folder.parent / "clone")
    upstream.run("git", "clone", "--quiet", str(upstream.folder), str(clone.folder))
    assert json.loads(new(clone, tickets).read(".tunelock.json"))["upstream"] == str(upstream.folder)


def test_what_cannot_be_made_is_one_line(upstream: Project, tickets: Path, tmp_path: Path) -> None:
    def refused(*arguments: str) -> str:
        done = upstream.run("python", "-m", "checks.new", *arguments, "--keep-data", "ignored", check=False)
        assert done.returncode == 1 and done.stderr.count("\n") == 1 and done.stderr.startswith("new: ")
        return done.stderr.removeprefix("new: ").strip()

    target = str(tmp_path / "other")
    assert refused(str(tmp_path)) == f"{tmp_path}: already exists; name a new or empty folder"
    assert refused(target, "--data", "nowhere.csv") == "nowhere.csv: not found; name a file or a folder"
    line = f"{tickets}: no column 'label' (--label), only ticket, topic"
    assert refused(target, "--data", str(tickets), "--text", "ticket") == line
    assert not Path(target).exists()


def test_make_new_and_make_upgrade_hand_over_what_they_are_given() -> None:
    def commands(*arguments: str) -> list[str]:
        done = Project(ROOT).run("make", "--dry-run", *arguments, check=False)
        return [line for line in done.stdout.splitlines() if line.startswith("python -m checks.")]

    assert commands("new", "DIR=../x y", "OPTIONS=--data a.csv") == ['python -m checks.new "../x y" --data a.csv']
    assert commands("upgrade", "OPTIONS=--to v2") == ["python -m checks.upgrade --to v2"]


# The text of params.yaml


def test_what_is_cut_can_be_joined_again() -> None:
    for text in (TEXT, "a:\n  b: [1,\n    2]\n\n  # c's\n  c: 1\nd: []\n# the end\n", "# nothing\n", "a: 1\n"):
        assert joined(cut(text)) == text


def test_a_value_that_goes_on_is_replaced_whole() -> None:
    text = "a:\n  # of b\n  b:\n    - 1\n    - 2\n  c: 3\ngate:\n  - {split: test}\n  # and\n  - {split: x}\n"
    assert with_values(text, "a", {"b": ["x y", None, "null", 0.1]}).startswith(
        'a:\n  # of b\n  b: ["x y", null, "null", 0.1]\n  c: 3\n'
    )
    assert without_rules(text) == "a:\n  # of b\n  b:\n    - 1\n    - 2\n  c: 3\ngate: []\n"


def test_new_keys_come_with_their_comments_after_the_key_before_them() -> None:
    ours = "a:\n  # one\n  x: 5\n  y: [1,\n    2]\n\nmine:\n  z: 1\n"
    theirs = (
        "a:\n  # nought\n  w: 0\n  # one\n  x: 1\n  # more\n  # of it\n  more: {k: 1}\n  y: 1\n  last: 2\n"
        "\nnew:\n  # n\n  n: 1\n"
    )
    expected = (
        "a:\n  # nought\n  w: 0\n  # one\n  x: 5\n  # more\n  # of it\n  more: {k: 1}\n  y: [1,\n    2]\n"
        "  last: 2\n\nmine:\n  z: 1\n\nnew:\n  # n\n  n: 1\n"
    )
    assert with_new_keys(ours, theirs) == expected
    assert with_new_keys(expected, theirs) == expected


# The way of a user, whole


def publish_a_newer_tunelock(upstream: Project) -> None:
    """Changes predict, gives report a knob, edits a page that the project has removed, and its own README."""

    def edit(name: str, old: str, new: str) -> None:
        assert old in upstream.read(name)
        (upstream.folder / name).write_text(upstream.read(name).replace(old, new, 1), encoding="utf-8")

    edit("stages/predict/predict.py", '"""predict: ', '"""predict, mended: ')
    edit(
        "stages/report/report.py",
        "    slice_columns: list",
        "    pages: int  # that the page has\n    slice_columns: list",
    )
    edit(
        "params.yaml",
        "  # The columns of download.keep",
        "  # That the page has.\n  pages: 1\n  # The columns of download.keep",
    )
    edit("docs/faults.md", "\n", "\nNewer.\n")
    edit("README.md", "\n", "\nNewer.\n")
    upstream.run("python", "-m", "checks.schema")
    upstream.commit("a newer one")


def make_small(mine: Project, tiny_checkpoint: Path) -> None:
    """Lets the project train in seconds."""
    shutil.copytree(tiny_checkpoint, mine.folder / "models" / "tiny")
    mine.set(download__checkpoint="files", download__checkpoint_files="models/tiny", train__epochs=1)
    mine.commit("small")


@pytest.mark.slow
def test_a_project_runs_and_an_upgrade_reruns_what_it_must(
    upstream: Project, tickets: Path, tiny_checkpoint: Path
) -> None:
    mine = new(upstream, tickets)
    make_small(mine, tiny_checkpoint)
    assert mine.repro() == ["download", "tokenize", "train", "predict", "calibrate", "evaluate", "baselines", "report"]
    assert set(json.loads(mine.read("metrics/metrics.json"))["validation"]) > {"f1_macro", "accuracy"}
    mine.run("git", "rm", "--quiet", "docs/faults.md")
    mine.commit("the first run")

    upgraded = mine.run("python", "-m", "checks.upgrade")
    assert upgraded.stdout == "upgrade: already up to date\n"
    publish_a_newer_tunelock(upstream)
    upgraded = mine.run("python", "-m", "checks.upgrade")
    lines = upgraded.stdout.splitlines()
    assert lines[0].startswith("upgrade: merged;")
    assert [line for line in lines if ": would run" in line and line.startswith(("predict", "report"))]
    assert "    stages/predict/predict.py: changed" in lines
    assert not [line for line in lines if line.startswith(("train: would", "tokenize: would"))]
    assert "  # That the page has.\n  pages: 1\n" in mine.read("params.yaml")
    assert "text_column: ticket" in mine.read("params.yaml") and "epochs: 1" in mine.read("params.yaml")
    assert not (mine.folder / "docs" / "faults.md").exists() and "Newer" not in mine.read("README.md")
    commit = upstream.run("git", "rev-parse", "HEAD").stdout.strip()
    assert json.loads(mine.read(".tunelock.json"))["commit"] == commit
    assert mine.repro() == ["predict", "report"]  # the same logits, so nothing to score anew
    mine.commit("upgraded")
    assert mine.run("python", "-m", "checks.upgrade").stdout == "upgrade: already up to date\n"


def test_an_upgrade_that_contradicts_names_the_files_and_can_be_undone(upstream: Project, tickets: Path) -> None:
    mine = new(upstream, tickets)
    name = "stages/predict/predict.py"
    (mine.folder / name).write_text(mine.read(name).replace('"""predict: ', '"""predict, ours: ', 1), encoding="utf-8")
    refused = mine.run("python", "-m", "checks.upgrade", check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert refused.stderr.startswith("upgrade: there are uncommitted changes")
    mine.commit("ours")
    publish_a_newer_tunelock(upstream)
    done = mine.run("python", "-m", "checks.upgrade", check=False)
    assert done.returncode == 1 and f"    {name}" in done.stdout.splitlines()
    assert "<<<<<<<" in mine.read(name) and "<<<<<<<" not in mine.read("params.yaml")
    mine.run("git", "reset", "--hard", "--quiet")
    assert mine.run("git", "status", "--porcelain").stdout == ""


def test_what_cannot_be_upgraded_is_one_line(upstream: Project, tickets: Path) -> None:
    def refused(project: Project, *arguments: str) -> str:
        done = project.run("python", "-m", "checks.upgrade", *arguments, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        return done.stderr

    assert "only a project made by `python -m checks.new` can be upgraded" in refused(upstream)
    mine = new(upstream, tickets)
    assert "git fetch: " in refused(mine, "--upstream", "/nowhere")
    assert "git fetch: " in refused(mine, "--to", "v9")
    record = mine.folder / ".tunelock.json"
    record.write_text(json.dumps({"upstream": str(upstream.folder), "commit": "0" * 40}))
    mine.commit("another")
    assert f"has no commit {'0' * 40}, from which this project was made" in refused(mine)
    record.write_text("{}")
    mine.commit("damaged")
    assert "expected an `upstream` and a `commit`" in refused(mine)


@pytest.mark.exhaustive
def test_a_projects_tests_are_green_and_it_reproduces_with_its_data_in_a_remote_alone(
    upstream: Project, tickets: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    mine = new(upstream, tickets)
    make_small(mine, tiny_checkpoint)
    mine.repro()
    mine.run("dvc", "remote", "add", "--default", "storage", str(tmp_path / "storage"))
    mine.commit("the first run")
    mine.run("dvc", "push")
    tests = ("python", "-m", "pytest", "-q", "-m", "not slow and not exhaustive", "-p", "no:cacheprovider")
    done = mine.run(*tests, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    for name in ("data/own", ".dvc/cache"):
        shutil.rmtree(mine.folder / name)
    verdict = mine.run("python", "-m", "checks.verify", check=False)
    assert verdict.returncode == 0 and "identical bytes" in verdict.stdout, verdict.stdout + verdict.stderr


def test_what_params_say_of_other_data_is_not_taken_over(tmp_path: Path) -> None:
    file, text = tmp_path / "params.yaml", (ROOT / "params.yaml").read_text(encoding="utf-8")
    other = {
        "id_column": "number",
        "label_aliases": {"a": "b"},
        "fold": {"of": 2, "hold_out": 1},
        "train_fraction": 0.5,
        "on_empty": "drop",
        "on_unlabelled": "drop",
    }
    file.write_text(with_values(with_values(text, "download", other), "train", {"class_weights": {"a": 2}}))
    set_params(file, "data/own/a.csv", None, argparse.Namespace(text="text", pair=None, label="topic"))
    params = YAML(typ="safe", pure=True).load(file)
    assert {name: params["download"][name] for name in other} == dict.fromkeys(other) | {
        "on_empty": "error",
        "on_unlabelled": "error",
    }
    assert params["train"]["class_weights"] is None
