"""A colleague's clone pulls what was pushed, and has nothing to compute: from S3-compatible storage, from a folder."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import requests
from moto.server import ThreadedMotoServer

from tests.project import Project

pytestmark = pytest.mark.slow

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "a-key", "AWS_SECRET_ACCESS_KEY": "a-secret", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an S3-compatible server on loopback with an empty bucket `results`."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    requests.post(f"http://{host}:{port}/moto-api/reset", timeout=30)  # servers of one process share their buckets
    boto3.client("s3", endpoint_url=f"http://{host}:{port}").create_bucket(Bucket="results")
    yield f"http://{host}:{port}"
    server.stop()


def clone(project: Project, folder: Path) -> Project:
    """What a colleague has: Git's files alone, and none of the cache."""
    subprocess.run(["git", "clone", "--quiet", str(project.folder), str(folder)], check=True)
    return Project(folder)


def add_remote(project: Project, address: str, *options: str) -> None:
    project.run("dvc", "remote", "add", "--default", "storage", address)
    if options:
        project.run("dvc", "remote", "modify", "storage", *options)
    project.commit("a remote")


def add_s3(project: Project, endpoint: str) -> None:
    add_remote(project, "s3://results/tunelock", "endpointurl", endpoint)


def assert_a_colleague_has_nothing_to_compute(project: Project, folder: Path) -> None:
    project.run("dvc", "push")
    colleague = clone(project, folder)
    assert not (colleague.folder / "models" / "finetuned").exists()
    colleague.run("dvc", "pull")
    assert colleague.repro() == []
    assert "up to date" in colleague.run("dvc", "status").stdout
    assert colleague.run("git", "status", "--short").stdout == ""
    for name in ("models/finetuned/model.safetensors", "data/predictions/validation/logits.npy"):
        assert (colleague.folder / name).read_bytes() == (project.folder / name).read_bytes()


def test_a_colleague_pulls_from_s3_and_has_nothing_to_compute(tiny: Project, s3: str, tmp_path: Path) -> None:
    add_s3(tiny, s3)
    assert_a_colleague_has_nothing_to_compute(tiny, tmp_path / "colleague")
    assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"] not in tiny.run("git", "grep", "-h", "", "--", ".dvc").stdout


def test_a_colleague_pulls_from_a_folder_and_has_nothing_to_compute(tiny: Project, tmp_path: Path) -> None:
    add_remote(tiny, str(tmp_path / "storage"))
    assert_a_colleague_has_nothing_to_compute(tiny, tmp_path / "colleague")


@pytest.mark.exhaustive
def test_a_colleague_gets_an_experiment_with_its_model(tiny: Project, tmp_path: Path) -> None:
    add_remote(tiny, str(tmp_path / "storage"))
    tiny.run("git", "init", "--quiet", "--bare", str(tmp_path / "shared.git"))
    tiny.run("git", "remote", "add", "origin", str(tmp_path / "shared.git"))
    tiny.run("git", "push", "--quiet", "origin", "main")
    tiny.run("dvc", "push")
    tiny.run("dvc", "exp", "run", "--name", "faster", "-S", "train.learning_rate=2e-3")
    tiny.run("dvc", "exp", "push", "origin", "faster")
    subprocess.run(
        ["git", "clone", "--quiet", "--branch", "main", str(tmp_path / "shared.git"), str(tmp_path / "colleague")],
        check=True,
    )
    colleague = Project(tmp_path / "colleague")
    colleague.run("dvc", "exp", "pull", "origin", "faster")
    colleague.run("dvc", "exp", "apply", "faster")
    colleague.run("dvc", "pull")
    assert colleague.repro() == []
    assert "learning_rate: 0.002" in colleague.read("params.yaml")
    for name in ("models/finetuned/model.safetensors", "metrics/metrics.json"):
        assert (colleague.folder / name).read_bytes() == (tiny.folder / name).read_bytes()


def test_a_remote_without_the_files_says_so(tiny: Project, s3: str, tmp_path: Path) -> None:
    add_s3(tiny, s3)  # and nothing is pushed
    done = clone(tiny, tmp_path / "colleague").run("dvc", "pull", check=False)
    assert done.returncode and "missing" in (done.stdout + done.stderr).lower()
