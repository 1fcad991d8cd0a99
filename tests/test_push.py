"""ship.push: the model, its card and its origin travel, data and token do not; what arrives is what was sent."""

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from ship import push
from stages.shared.task.calibration import Fit, write_calibration
from tests.hub import Fault, Hub
from tests.project import Project
from tests.shipped import Shipped, calibration, make_shipped, reproduce

TOKEN = "hf_not_to_be_printed"
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Shipped:
    folder = tmp_path_factory.mktemp("shipped") / "pairs"
    return make_shipped(folder, tiny_checkpoint, "single_label_classification", pairs=True, examples=8)


@pytest.fixture
def shipped(made: Shipped, monkeypatch: pytest.MonkeyPatch) -> Shipped:
    monkeypatch.chdir(made.folder)
    return made


@pytest.fixture
def pushed(made: Shipped) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Runs the program against a Hub: the library reads the Hub's address and its switches when it is imported."""

    def run(hub: Hub | None, *arguments: str, token: str = TOKEN) -> "subprocess.CompletedProcess[str]":
        home = str(made.folder.parent / "hf")
        environment = {"HF_ENDPOINT": hub.endpoint if hub else "http://127.0.0.1:9", "HF_TOKEN": token, "HF_HOME": home}
        command = (sys.executable, "-m", "ship.push", *arguments)
        return made.project.run(*command, check=False, PYTHONPATH=str(ROOT), **environment)

    return run


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert push.main(arguments) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("push: ")
    return lines[0].removeprefix("push: ")


def head(project: Project) -> str:
    return project.run("git", "rev-parse", "HEAD").stdout.strip()


def answers(shipped: Shipped, folder: Path) -> torch.Tensor:
    """What `from_pretrained` makes of a folder: its logits for the rows."""
    model, tokenizer = (one.from_pretrained(folder) for one in (AutoModelForSequenceClassification, AutoTokenizer))
    first, second = ([row[column] for row in shipped.rows] for column in shipped.columns)
    with torch.inference_mode():
        inputs = tokenizer(first, second, truncation=True, padding=True, return_tensors="pt")
        return model.eval()(**inputs).logits


def test_what_was_pushed_is_read_back_with_equal_logits_and_no_data(
    shipped: Shipped, tmp_path: Path, pushed: Callable[..., "subprocess.CompletedProcess[str]"]
) -> None:
    with Hub({}, token=TOKEN) as hub:
        done = pushed(hub, "someone/model", "--private")
        assert done.returncode == 0, done.stderr
        again = pushed(hub, "someone/model")  # the same files once more: nothing to change, and no error
        assert again.returncode == 0, again.stderr
    files = hub.repositories["model", "someone/model"][list(hub.repositories["model", "someone/model"])[-1]]
    assert hub.visibility == {"someone/model": "private"}
    finetuned = {file.name: file.read_bytes() for file in (shipped.folder / "models" / "finetuned").iterdir()}
    assert set(files) == {*finetuned, "README.md", "provenance.json"}
    assert {name: files[name] for name in finetuned} == finetuned
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert torch.equal(answers(shipped, tmp_path), answers(shipped, shipped.folder / "models" / "finetuned"))
    facts = json.loads(files["provenance.json"])
    lock = shipped.folder / "dvc.lock"
    assert facts["commit"] == head(shipped.project)
    assert facts["dvc_lock_sha256"] == push.checksums(lock.parent)["dvc.lock"]
    card = files["README.md"].decode()
    assert card.startswith("---\npipeline_tag") and all(str(facts[name]) in card for name in ("commit", "data_md5"))
    assert TOKEN not in done.stdout + done.stderr + again.stdout + again.stderr
    assert f"{len(files)} files of commit {facts['commit'][:12]}, compared with the Hub's hashes" in done.stdout


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(r"/lfs/", methods=("PUT",), alter=lambda body: body[:-1]), "what arrived is not what was sent: model."),
        pytest.param(Fault(r"/commit/main", methods=("POST",), status=403), "403", marks=pytest.mark.exhaustive),
        pytest.param(Fault(r"/lfs/", methods=("PUT",), status=403), "403", marks=pytest.mark.exhaustive),
        pytest.param(Fault(r"/create", methods=("POST",), status=401), "401", marks=pytest.mark.exhaustive),
    ],
)
def test_a_hub_that_does_not_take_it_is_told_in_one_line_without_the_token(
    fault: Fault, said: str, pushed: Callable[..., "subprocess.CompletedProcess[str]"]
) -> None:
    with Hub({}, token=TOKEN, faults=[fault]) as hub:
        done = pushed(hub, "someone/model")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("push: someone/model: the Hub at http://127.0.0.1:") and said in done.stderr
    assert done.stderr.count("\n") == 1 and TOKEN not in done.stderr


def test_without_a_token_nobody_is_asked(pushed: Callable[..., "subprocess.CompletedProcess[str]"]) -> None:
    with Hub({}) as hub:
        done = pushed(hub, "someone/model", token="")
    assert done.stderr == (
        "push: the Hub needs a token with the right to write: set HF_TOKEN, or run `hf auth login`\n"
    )
    assert done.returncode == 1 and not hub.seen


def test_a_dry_run_says_what_would_travel_and_asks_nobody(
    shipped: Shipped, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "go_online", lambda: pytest.fail("went online"))
    assert push.main(["someone/model", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"push: the model of commit {head(shipped.project)[:12]} would go to the model repository")
    digest = push.checksums(shipped.folder / "models" / "finetuned")["model.safetensors"]
    assert f"  {digest}  model.safetensors" in said and "README.md" in said
    assert not list(shipped.folder.glob(".scratch/push-*"))


def test_a_bundle_is_the_same_folder_with_checksums_and_the_same_bytes_each_time(
    shipped: Shipped, tmp_path: Path
) -> None:
    for name in ("a.zip", "b.zip"):
        assert push.main(["--bundle", str(tmp_path / name)]) == 0
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        archive.extractall(tmp_path / "model")
    assert subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path / "model").returncode == 0
    listed = {line.split("  ")[1] for line in (tmp_path / "model" / "SHA256SUMS").read_text().splitlines()}
    assert listed == {file.name for file in (tmp_path / "model").iterdir()} - {"SHA256SUMS"}
    assert torch.equal(answers(shipped, tmp_path / "model"), answers(shipped, shipped.folder / "models" / "finetuned"))


def test_a_calibration_travels_beside_the_weights(
    made: Shipped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(made.folder, tmp_path / "project")
    project = Project(tmp_path / "project")
    monkeypatch.chdir(project.folder)
    write_calibration(project.folder / "calibration.json", calibration(Fit(2.33)))
    reproduce(project)
    assert push.main(["--bundle", str(tmp_path / "a.zip")]) == 0
    assert push.main(["--bundle", str(tmp_path / "old.zip"), "--revision", "HEAD~1"]) == 0
    with zipfile.ZipFile(tmp_path / "a.zip") as archive, zipfile.ZipFile(tmp_path / "old.zip") as old:
        assert json.loads(archive.read("calibration.json"))["calibration"][0]["whole"]["temperature"] == 2.33
        assert "`calibration.json` holds how" in archive.read("README.md").decode()
        assert "calibration.json" not in old.namelist()


def test_what_does_not_go_together_is_refused(
    made: Shipped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(made.folder, tmp_path / "project")
    project = Project(tmp_path / "project")
    monkeypatch.chdir(project.folder)
    assert "name either a repository of the Hub, OWNER/NAME, or --bundle" in refused(capsys)
    assert "name either" in refused(capsys, "someone/model", "--bundle", "a.zip")
    assert "model: a repository of the Hub is OWNER/NAME" in refused(capsys, "model", "--dry-run")
    assert "no revision 'nowhere'" in refused(capsys, "--bundle", "a.zip", "--revision", "nowhere")
    (project.folder / "made" / "train.csv").write_text("data")
    project.run("dvc", "repro", "--quiet")
    assert "dvc.lock is not committed" in refused(capsys, "--bundle", "a.zip")
    project.commit("with data")
    assert "models/finetuned/train.csv: looks like data" in refused(capsys, "--bundle", "a.zip")
    assert not (project.folder / "a.zip").exists()
