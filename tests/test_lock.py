"""checks.lock: a lock belongs to a tree exactly where DVC would run nothing, and what does not fit is named."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from dvc.exceptions import DvcException
from dvc.repo import Repo

from checks import verify, why
from checks.lock import Mismatches, find_mismatches
from checks.revisions import WORKSPACE, Revision
from tests.project import Project
from tests.test_why import finished_small, repro, small, write  # noqa: F401  (a project of three lines of shell)

WORDS = "is not the file that dvc.lock was made with"
CODE = {"code/train.py": "print()\n", "code/deep/loop.py": "print(1)\n"}


@pytest.fixture
def coded(small: Project) -> Project:  # noqa: F811
    """With a folder of code that `train` reads, a metric in Git that `report` reads, and data named by a parameter."""
    text = small.read("dvc.yaml").replace("deps: [code.py,", "deps: [code, code.py,")
    text = text.replace("deps: [data/sample,", 'deps: ["${prepare.data}",')
    text += "  report:\n    cmd: echo report >> ran; cp score.json page\n    deps: [score.json]\n    outs: [page]\n"
    write(small, "dvc.yaml", text)
    write(small, "params.yaml", small.read("params.yaml").replace("rows: 3\n", "rows: 3\n  data: data/sample\n"))
    for name, content in CODE.items():
        write(small, name, content)
    repro(small)
    small.commit("a folder of code")
    return small


def mismatches(project: Project, **params: object) -> Mismatches:
    with Repo(str(project.folder)) as repo:
        return find_mismatches(repo, Revision(WORKSPACE, None, repo).lock, params or None)


def would_run(project: Project) -> set[str]:
    """Asks DVC itself."""
    done = project.run("dvc", "repro", "--dry", check=False)
    return set(re.findall(r"(?:^Running stage|failed to reproduce) '(\w+)'", done.stdout + done.stderr, re.MULTILINE))


def test_a_lock_belongs_to_the_tree_that_it_was_made_in(coded: Project) -> None:
    assert mismatches(coded) == Mismatches({}, [])
    shutil.rmtree(coded.folder / "data" / "raw")  # DVC has it
    assert mismatches(coded) == Mismatches({}, [])


@pytest.mark.parametrize("committed", [True, False])
def test_in_a_folder_of_code_the_file_is_named(coded: Project, committed: bool) -> None:
    write(coded, "code/train.py", "print(2)\n")
    write(coded, "code/new.py", "")
    (coded.folder / "code" / "deep" / "loop.py").unlink()
    if committed:
        coded.commit("other code")
    lines = ["code/deep/loop.py: removed", "code/new.py: added", f"code/train.py {WORDS}"]
    assert mismatches(coded).stages == {"train": lines}


def test_a_folder_whose_old_files_nobody_knows_is_named_itself(coded: Project) -> None:
    shutil.rmtree(coded.folder / ".git")
    coded.run("git", "init", "--quiet")
    write(coded, "code/train.py", "print(2)\n")
    assert mismatches(coded).reasons == ["code is not the folder that dvc.lock was made with"]


def test_a_compiled_file_changes_nothing(coded: Project) -> None:
    write(coded, ".dvcignore", coded.read(".dvcignore") + "__pycache__\n")
    write(coded, "code/__pycache__/train.cpython-311.pyc", "compiled")
    assert mismatches(coded) == Mismatches({}, [])


@pytest.mark.parametrize(
    ("file", "old", "new", "stages", "reason"),
    [
        ("params.yaml", "rows: 3", "rows: 4", {"prepare"}, "params.yaml: prepare.rows is 4, dvc.lock was made with 3"),
        ("params.yaml", "rows: 3", "rows: 3.0", set(), None),
        (
            "params.yaml",
            "  rows: 3\n",
            "",
            {"prepare"},
            "params.yaml: prepare.rows is not set, dvc.lock was made with 3",
        ),
        (
            "params.yaml",
            "[a, b]",
            "[a, b]\n  keep: null",
            {"train"},
            "params.yaml: train.keep is None, dvc.lock was ma",
        ),
        ("dvc.yaml", "tail -n 2", "tail -n 1", {"evaluate"}, 'dvc.yaml: cmd: "echo evaluate >> ran; tail -n 2'),
        ("dvc.yaml", "deps: [model]", "deps: [model, code.py]", {"evaluate"}, "code.py: newly listed in dvc.yaml"),
        ("dvc.yaml", "deps: [code, code.py,", "deps: [code,", set(), None),
        ("dvc.yaml", "outs: [page]", "outs: [page, more]", {"report"}, "more: newly listed in dvc.yaml"),
        ("data/sample/test.csv", "1", "2", {"prepare"}, f"data/sample/test.csv {WORDS}"),
        ("code.py", "print()", "print(2)", {"train"}, f"code.py {WORDS}"),
        ("score.json", "", "2", {"evaluate", "report"}, f"score.json {WORDS}"),
        ("model", "", "another branch's", set(), None),
        ("code.py", None, "", {"train"}, "code.py: not in the workspace"),
        ("score.json", None, "", {"evaluate", "report"}, "score.json: not in the workspace"),
    ],
)
def test_what_does_not_belong_is_what_dvc_would_run(
    coded: Project, file: str, old: str | None, new: str, stages: set[str], reason: str | None
) -> None:
    if old is None:
        (coded.folder / file).unlink()
    else:
        assert old in coded.read(file)
        write(coded, file, coded.read(file).replace(old, new) if old else new)
    found = mismatches(coded)
    assert set(found.stages) == stages
    assert [why.startswith(str(reason)) for why in found.reasons] == [True] * bool(reason)
    if file != "model":  # DVC would bring its own back from the cache, without a run
        assert would_run(coded) >= stages


def test_what_was_made_anew_and_not_read_since_is_told(coded: Project) -> None:
    write(coded, "params.yaml", coded.read("params.yaml").replace("names: [a, b]", "names: [a]"))
    repro(coded, "train")
    assert mismatches(coded) == Mismatches({"evaluate": ["model: remade since it was read"]}, [])
    assert would_run(coded) == {"evaluate"}


def test_a_stage_that_is_gone_is_told_and_runs_nothing(coded: Project) -> None:
    text = coded.read("dvc.yaml")
    write(coded, "dvc.yaml", text[: text.index("  report:")])
    assert mismatches(coded) == Mismatches({}, ["report: in dvc.lock, but not in dvc.yaml"])
    write(coded, "dvc.yaml", text.replace("  report:", "  page:"))
    assert mismatches(coded).stages == {"page": ["page: not in dvc.lock"]}


def test_other_parameters_choose_other_data(coded: Project, tmp_path: Path) -> None:
    """As `checks.seeds -S` does: the tree's params.yaml is not asked."""
    shutil.copytree(coded.folder / "data" / "sample", tmp_path / "same")
    params = {
        "prepare": {"rows": 3, "data": str(tmp_path / "same")},
        "train": {"learning_rate": 0.1, "names": ["a", "b"]},
    }
    found = mismatches(coded, **params)
    assert set(found.stages) == {"prepare"}
    assert f"{tmp_path / 'same'}: newly listed in dvc.yaml" in found.reasons
    write(coded, "params.yaml", coded.read("params.yaml").replace("data/sample", str(tmp_path / "same")))
    repro(coded)
    assert mismatches(coded, **params) == Mismatches({}, [])


def test_with_other_parameters_the_results_of_the_tree_are_not_the_question(coded: Project) -> None:
    """A lock of an experiment is asked about in a workspace that holds another run's metrics."""
    write(coded, "score.json", "2")
    assert set(mismatches(coded).stages) == {"evaluate", "report"}
    params = {"prepare": {"rows": 3, "data": "data/sample"}, "train": {"learning_rate": 0.1, "names": ["a", "b"]}}
    assert mismatches(coded, **params) == Mismatches({}, [])
    write(coded, "code.py", "print(2)\n")
    assert set(mismatches(coded, **params).stages) == {"train"}


def test_data_of_dvc_add_that_were_not_pulled_are_no_reason(coded: Project) -> None:
    shutil.copytree(coded.folder / "data" / "sample", coded.folder / "data" / "kept")
    coded.run("dvc", "add", "data/kept")
    write(coded, "params.yaml", coded.read("params.yaml").replace("data: data/sample", "data: data/kept"))
    repro(coded)
    write(coded, "data/kept/test.csv", "9\n")
    assert mismatches(coded).stages == {"prepare": [f"data/kept/test.csv {WORDS}"]}
    shutil.rmtree(coded.folder / "data" / "kept")
    assert mismatches(coded) == Mismatches({}, [])


def test_a_dvc_file_of_other_data_is_told_without_the_data(coded: Project) -> None:
    shutil.copytree(coded.folder / "data" / "sample", coded.folder / "data" / "kept")
    coded.run("dvc", "add", "data/kept")
    write(coded, "params.yaml", coded.read("params.yaml").replace("data: data/sample", "data: data/kept"))
    repro(coded)
    write(coded, "data/kept/test.csv", "9\n")
    coded.run("dvc", "add", "data/kept")
    coded.commit("newer data")
    shutil.rmtree(coded.folder / "data" / "kept")
    assert mismatches(coded).stages == {"prepare": ["data/kept.dvc is of other data than dvc.lock was made with"]}


GIT_HAS_IT = "run `git checkout dvc.lock` to restore the committed one"


@pytest.mark.parametrize(
    ("broken", "line"),
    [
        (lambda text: "", f"empty, perhaps because DVC was killed while it wrote it; {GIT_HAS_IT}"),
        (lambda text: " \n\n", f"empty, perhaps because DVC was killed while it wrote it; {GIT_HAS_IT}"),
        (lambda text: "\0" * len(text), "not YAML ("),
        (lambda text: text[: text.index("md5: ", text.index("  train:"))], "incomplete (train: "),
        (lambda text: text[: text.index("deps:", text.index("  train:"))] + "deps:\n", "incomplete ("),
        (lambda text: text[: text.index("cmd:", text.index("  train:"))], "incomplete ("),
        (lambda text: text[: text.index("stages:")], "incomplete (it has no stages)"),
        (lambda text: text[: text.index("stages:") + 7], "incomplete ("),
        (lambda text: text.replace("    cmd: echo train", "    command: echo train"), "incomplete ("),
        (
            lambda text: f"<<<<<<< HEAD\n{text}=======\n{text}>>>>>>> main\n",
            "it has conflict markers of a merge; ",
        ),
        (lambda text: "stages: {a: [}\n", "not YAML ("),
        (lambda text: "[]\n", "incomplete ("),
        (lambda text: "a text\n", "incomplete ("),
        (lambda text: "\xff\xfe" + text, None),
    ],
)
def test_a_broken_lock_is_one_line_with_what_to_do(
    coded: Project,
    capsys: pytest.CaptureFixture[str],
    broken: Callable[[str], str],
    line: str | None,
) -> None:
    text = broken(coded.read("dvc.lock"))
    (coded.folder / "dvc.lock").write_bytes(text.encode("latin-1"))
    for name, main, arguments, status in (("why", why.main, [], 1), ("verify", verify.main, ["--quick"], 2)):
        assert main(arguments) == status
        said, error = capsys.readouterr()
        assert (
            said == ""
            and error.count("\n") == 1
            and error.startswith(f"{name}: workspace: dvc.lock is broken: {line or ''}")
        )
        assert "`git checkout " in error


def test_dvc_goes_on_once_the_committed_lock_is_back(coded: Project) -> None:
    write(coded, "dvc.lock", "")
    with pytest.raises(DvcException, match=r"dvc.lock' validation failed"):
        repro(coded)
    coded.run("git", "checkout", "dvc.lock")
    assert repro(coded) == []


def test_a_broken_lock_that_was_committed_is_not_brought_back(
    coded: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    write(coded, "dvc.lock", "")
    coded.commit("an empty lock")
    assert verify.main(["--quick"]) == 2
    remedy = "take dvc.lock from another commit, or delete it, and run `dvc repro`"
    expected = f"verify: HEAD: dvc.lock is broken: empty, perhaps because DVC was killed while it wrote it; {remedy}\n"
    assert capsys.readouterr() == ("", expected)
    (coded.folder / "dvc.lock").unlink()
    assert repro(coded) == []  # from the run cache
