"""A flipped byte in an object of DVC's cache or a remote is named, and nothing is concluded from it."""

import hashlib
import json
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from checks import compare, gate, seeds, why
from checks.dvc_internals import DamagedObject, cached_listing
from checks.revisions import find_revision
from tests.predictions import branch, labels_of, logits_of
from tests.project import Project
from tests.test_why import content, finished_small, repro, small, write  # noqa: F401  (a project of three lines of shell)

LABELS = labels_of(200)
REPORT = "metrics/report.html"


def objects(folder: Path) -> Iterator[Path]:
    """Yields the objects that DVC keeps below a folder."""
    yield from sorted(file for file in (folder / "files" / "md5").rglob("*") if file.is_file())


def flip(file: Path, at: int = -2) -> None:
    """Changes one byte and nothing else: not the size, not the mode that makes DVC believe an object's name."""
    mode, whole = file.stat().st_mode, bytearray(file.read_bytes())
    whole[at] ^= 1
    file.chmod(stat.S_IRUSR | stat.S_IWUSR)
    file.write_bytes(whole)
    file.chmod(stat.S_IMODE(mode))


def object_of(project: Project, revision: str, out: str, name: str | None = None) -> Path:
    """Returns the object of an out of a revision, or of a file in it; of a folder itself, its listing."""
    lock = YAML(typ="safe", pure=True).load(project.run("git", "show", f"{revision}:dvc.lock").stdout)
    md5 = next(
        item["md5"] for stage in lock["stages"].values() for item in stage.get("outs", []) if item["path"] == out
    )
    cache = project.folder / ".dvc" / "cache" / "files" / "md5"
    if name is not None:
        listing = json.loads((cache / md5[:2] / md5[2:]).read_text())
        md5 = next(entry["md5"] for entry in listing if entry["relpath"] == name)
    return cache / md5[:2] / md5[2:]


def ask(main: Callable[[Any], int], arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = main(arguments)
    return status, *capsys.readouterr()


KINDS = [
    ("data/raw", None),
    ("data/raw", "task.json"),
    ("data/raw", "validation/data-00000-of-00001.arrow"),
    ("data/predictions", None),
    ("data/predictions", "validation/labels.npy"),
    ("data/predictions", "validation/logits.npy"),
]


def test_compare_and_gate_name_the_damaged_object_and_say_nothing_else(
    predicted: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    branch(predicted, "better", LABELS, logits_of(LABELS, range(10)))
    rule = "gate:\n  - {split: validation, metric: accuracy, against: main, not_worse_by: 0.05}\n"
    write(predicted, "params.yaml", predicted.read("params.yaml").replace("gate: []\n", rule))
    assert ask(gate.main, [], capsys)[0] == 0, "the gate opens where nothing is damaged"
    for out, name in KINDS:
        damaged = object_of(predicted, "main", out, name)
        flip(damaged)
        for program, main, arguments in (("compare", compare.main, ["main"]), ("gate", gate.main, [])):
            status, said, error = ask(main, arguments, capsys)
            assert (status, said) == (2, "")
            assert error.startswith(f"{program}: ") and error.count("\n") == 1
            whole = f"{out}{f'/{name}' if name else ''}: its object {damaged} in DVC's cache is damaged: its MD5 is "
            assert whole in error
            assert error.endswith("; delete it, then `dvc pull` or `dvc repro` brings it back\n")
        flip(damaged)


def test_seeds_sum_up_no_damaged_predictions(predicted: Project) -> None:
    branch(predicted, "seed-2", LABELS, logits_of(LABELS, range(10)))
    flip(object_of(predicted, "main", "data/predictions", "validation/logits.npy"))
    with Repo(str(predicted.folder)) as repo:
        runs = [find_revision(repo, name) for name in ("main", "seed-2")]
        with pytest.raises(DamagedObject, match=r"main: data/predictions/validation/logits\.npy: its object "):
            seeds.read_evidence(runs, ["validation"])
        with pytest.raises(DamagedObject, match=r"main: data/predictions/validation/logits\.npy: its object "):
            seeds.combined(runs, seeds.Evidence({("validation", "f1"): LABELS}, {}), seeds.Evidence({}, {}))


@pytest.mark.exhaustive
def test_whatever_object_is_damaged_compare_says_the_same_as_before_or_names_it(
    predicted: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    branch(predicted, "better", LABELS, logits_of(LABELS, range(10)))
    before = ask(compare.main, ["main", "--flips", "3"], capsys)
    named = 0
    for damaged in objects(predicted.folder / ".dvc" / "cache"):
        whole = damaged.read_bytes()
        for at in (0, len(whole) // 2, len(whole) - 1):
            flip(damaged, at)
            status, said, error = ask(compare.main, ["main", "--flips", "3"], capsys)
            if (status, said, error) != before:
                assert (status, said) == (2, "") and str(damaged) in error and error.count("\n") == 1
                named += 1
            flip(damaged, at)
    assert named >= 3 * len(KINDS)


def test_what_comes_damaged_from_a_remote_is_named_and_not_kept(
    predicted: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    branch(predicted, "better", LABELS, logits_of(LABELS, range(10)))
    remote, cache = predicted.folder.parent / "remote", predicted.folder / ".dvc" / "cache"
    predicted.run("dvc", "remote", "add", "--default", "storage", str(remote))
    for branch_name in ("better", "main"):
        predicted.run("git", "checkout", "--quiet", branch_name)
        predicted.run("dvc", "push")
    parts = [("data/raw", None), ("data/predictions", None), ("data/predictions", "validation/logits.npy")]
    objects = [object_of(predicted, "main", out, name).relative_to(cache) for out, name in parts]
    for damaged in objects:
        flip(remote / damaged)
        shutil.rmtree(cache, ignore_errors=True)
        status, said, error = ask(compare.main, ["main", "better"], capsys)
        assert (status, said) == (2, "") and error.count("\n") == 1
        assert f"its object {''.join(damaged.parts[2:])} arrived damaged from the remote and was discarded" in error
        assert not (cache / damaged).exists()
        flip(remote / damaged)  # mended there
    assert ask(compare.main, ["main", "better"], capsys)[0] == 0


@pytest.mark.parametrize("name", ["../../elsewhere", "/elsewhere", "a/../../elsewhere"])
def test_a_listing_that_names_files_outside_of_its_folder_is_refused(small: Project, name: str) -> None:  # noqa: F811
    listing = json.dumps([{"md5": "0" * 32, "relpath": name}]).encode()
    md5 = hashlib.md5(listing).hexdigest()
    place = small.folder / ".dvc" / "cache" / "files" / "md5" / md5[:2] / f"{md5[2:]}.dir"
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(listing)
    with Repo(str(small.folder)) as repo, pytest.raises(DamagedObject, match=r"^data: its listing .* outside the"):
        cached_listing(repo, f"{md5}.dir", "data")


def test_why_believes_no_damaged_listing(small: Project, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    damaged = object_of(small, "HEAD", "data/raw")
    flip(damaged)
    before = content(small)
    assert ask(why.main, [], capsys) == (
        1,
        "",
        f"why: data/raw: its object {damaged} in DVC's cache is damaged: its MD5 is {md5_of(damaged)}; "
        "delete it, then `dvc pull` or `dvc repro` brings it back\n",
    )
    assert content(small) == before


def md5_of(file: Path) -> str:
    return hashlib.md5(file.read_bytes()).hexdigest()


def test_why_promises_nothing_to_come_back_damaged(small: Project, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    text = small.read("params.yaml")
    write(small, "params.yaml", text.replace("1.0e-1", "2.0e-1"))
    repro(small)
    write(small, "params.yaml", text)
    assert "would be restored from the run cache" in ask(why.main, [], capsys)[1]
    for damaged in (object_of(small, "HEAD", "model"), *(small.folder / ".dvc" / "cache" / "runs").glob("*/*/*")):
        record = "runs" in damaged.parts
        if record and "0.1" not in damaged.read_text():
            continue  # of the other rate, which nothing asks for
        flip(damaged, 10)
        before = content(small)
        status, said, error = ask(why.main, [], capsys)
        assert (status, said) == (1, "") and error.count("\n") == 1 and "damaged" in error and str(damaged) in error
        assert content(small) == before
        flip(damaged, 10)


@pytest.mark.slow
@pytest.mark.parametrize(
    "out", ["models/finetuned", *(pytest.param(out, marks=pytest.mark.exhaustive) for out in ("data/raw", REPORT))]
)
def test_verify_names_a_damaged_object_before_it_runs_anything(tiny: Project, out: str) -> None:
    damaged = object_of(tiny, "HEAD", out)
    flip(damaged)
    done = tiny.run("python", "-m", "checks.verify", check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"verify: HEAD: {out}: its object {damaged} in DVC's cache is damaged: its MD5 is ")
    assert done.stderr.count("\n") == 1
