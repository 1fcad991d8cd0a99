"""bert-base-uncased as it is on the Hub goes through the whole DAG, killed or not; only its weights are drawn."""

import hashlib
import json
import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import load_from_disk
from ruamel.yaml import YAML
from safetensors.numpy import load_file
from transformers import BertConfig, BertForPreTraining, pipeline

from benchmarks.replica import COMMIT, CONFIG, OTHERS, REPOSITORY, SMALL, small_files, tensor_shapes, write_replica
from tests.hub import Hub
from tests.project import STAGES, Project, copy_project, wait_for
from tests.repositories import GLUE_COMMIT, NEW, glue
from tests.test_kills import kill

# Of the files at that commit, as the Hub gives them.
SHA256 = {
    "config.json": "7160e1553ad2ca51d8c1cb066be533db31826e12d173824c1bb0cb1a4f187d20",
    "tokenizer.json": "ce64fce797c24f68df90b40a3f74f579b336a493db14bd583fd520ea0d8c9a98",
    "tokenizer_config.json": "a025160ef0431f1a392f6f050c1310f4c5d9fb6f275932dbccba73c4d214bf10",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
WEIGHTS = "model.safetensors"
WEIGHTS_BYTES, PARAMETERS = 440_449_768, 110_106_428
LABELS = ("not_equivalent", "equivalent")


def test_the_replicas_config_and_tokenizer_are_the_published_ones() -> None:
    files = small_files(CONFIG)
    assert {name: hashlib.sha256(files[name]).hexdigest() for name in SHA256} == SHA256
    assert set(files) == {*SHA256, *OTHERS}


def test_the_replicas_tensors_are_the_published_ones() -> None:
    """Those of transformers' own class, in the names of its early days; the tied decoder is in the file once."""
    shapes = tensor_shapes(CONFIG)
    assert sum(math.prod(shape) for shape in shapes.values()) == PARAMETERS
    with torch.device("meta"):
        state = BertForPreTraining(BertConfig()).state_dict()
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    names = {name: name.replace(found, old[found]) for name in state for found in old if name.endswith(found)}
    assert {names.get(name, name): tuple(tensor.shape) for name, tensor in state.items() if "decoder" not in name} == (
        shapes
    )


@dataclass(frozen=True)
class Ran:
    """A project whose training was killed once; then stages of it again, from the same inputs."""

    full: bool  # as large as the published one, and through all stages
    project: Project
    replica: Path
    requests: list[tuple[str, str]]  # what the Hub was asked for
    said: tuple[str, str]  # on stderr, after the kill and the second time
    stages: tuple[dict[str, Any], dict[str, Any]]  # dvc.lock's after each: the hashes of all inputs and outputs
    again: list[str]  # the stages that ran a second time


@pytest.fixture(
    scope="module",
    params=[pytest.param("small", marks=pytest.mark.slow), pytest.param("full", marks=pytest.mark.exhaustive)],
)
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """Fine-tunes on MRPC's columns from the Hub, by the README's parameters, on a few pairs."""
    folder = tmp_path_factory.mktemp("bert-base")
    full = request.param == "full"
    replica = write_replica(folder / "replica", **({} if full else SMALL))
    if full:
        assert (replica / WEIGHTS).stat().st_size == WEIGHTS_BYTES
    files = {str(file.relative_to(replica)): file.read_bytes() for file in replica.rglob("*") if file.is_file()}
    project = copy_project(folder / "project")
    project.set(
        download__dataset="glue/mrpc",
        download__checkpoint=f"hub:{REPOSITORY}",
        download__checkpoint_revision=COMMIT,
        tokenize__max_samples=16,
        train__epochs=2 if full else 6,
        train__batch_size=4,
        train__device_batch_size=4,
        execution__checkpoint_minutes=1e-9,  # after every step
    )
    models = {COMMIT: files, NEW: {}}
    with Hub({("dataset", "nyu-mll/glue"): {GLUE_COMMIT: glue(24)}, ("model", REPOSITORY): models}) as hub:
        project.repro("tokenize", HF_ENDPOINT=hub.endpoint, HF_HOME=str(folder / "hf"), HF_TOKEN="")
    shutil.rmtree(folder / "hf")
    project.commit("the task and the checkpoint")

    dvc = project.start()
    wait_for(lambda: "checkpoint-3" in project.checkpoints() or dvc.poll() is not None, 600)
    kill("stage", dvc, project)
    assert project.checkpoints(), "the training had ended before it was killed"
    killed = project.run("dvc", "repro", *([] if full else ["predict"]))
    first = stages_of(project)

    project.run("git", "checkout", "--", "dvc.lock")
    shutil.rmtree(project.folder / ".dvc" / "cache" / "runs")  # else the training comes from the run cache
    whole = project.run("dvc", "repro", *([] if full else ["train"]))
    again = re.findall(r"^Running stage '(\w+)'", whole.stdout, re.MULTILINE)
    said = (killed.stderr, whole.stderr)
    yield Ran(full, project, replica, hub.requests, said, (first, stages_of(project)), again)
    shutil.rmtree(folder)  # pytest would keep gigabytes


def stages_of(project: Project) -> dict[str, Any]:
    return dict(YAML(typ="safe", pure=True).load(project.read("dvc.lock"))["stages"])


def test_nothing_but_what_a_model_is_loaded_from_is_asked_for(ran: Ran) -> None:
    start = f"/{REPOSITORY}/resolve/{COMMIT}/"
    fetched = {path.removeprefix(start) for _, path in ran.requests if REPOSITORY in path and "/resolve/" in path}
    assert fetched == {*SHA256, WEIGHTS}
    taken = {file.name: file.read_bytes() for file in (ran.project.folder / "models" / "pretrained").iterdir()}
    assert taken == {name: (ran.replica / name).read_bytes() for name in fetched}


def test_a_killed_training_of_it_ends_with_the_uninterrupted_ones_bytes(ran: Ran) -> None:
    killed, whole = ran.said
    assert "train: resuming from step" in killed and "train: resuming from step" not in whole
    assert ran.again[0] == "train"
    for name in ran.again:
        assert ran.stages[0][name] == ran.stages[1][name], name
    assert not list((ran.project.folder / ".scratch" / "train").iterdir())


def test_the_stages_run_on_it(ran: Ran) -> None:
    """All of them on the full one; on the small one those to predict."""
    assert {"validation", "test"} <= {path.name for path in (ran.project.folder / "data" / "predictions").iterdir()}
    assert set(ran.stages[0]) == set(STAGES if ran.full else STAGES[:4])
    if ran.full:
        scores = json.loads(ran.project.read("metrics/metrics.json"))["validation"]
        assert list(scores) == ["accuracy", "f1", "loss", "examples"] and scores["examples"] == 12


def test_all_of_its_encoder_is_trained_and_its_other_heads_are_left_out_in_a_line(ran: Ran) -> None:
    for stderr in ran.said:
        (line,) = (line for line in stderr.splitlines() if "cls." in line)
        assert line.startswith("train: ") and "7 tensors" in line
    before = load_file(ran.replica / WEIGHTS)
    after = load_file(ran.project.folder / "models" / "finetuned" / WEIGHTS)
    after = {modern(name): tensor for name, tensor in after.items()}
    encoder = {modern(name): tensor for name, tensor in before.items() if name.startswith("bert.")}
    assert set(after) == {*encoder, "classifier.weight", "classifier.bias"}
    for name, tensor in encoder.items():
        # A tensor that was drawn anew would be off by 0.02 and more; these few steps move no weight that far.
        assert 0 < np.abs(after[name] - tensor).max() < 0.02, name


def modern(name: str) -> str:
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def test_its_finetuned_model_gives_the_logits_that_were_predicted(ran: Ran) -> None:
    folder = ran.project.folder
    logits = np.load(folder / "data" / "predictions" / "validation" / "logits.npy")
    classify = pipeline(
        "text-classification", str(folder / "models" / "finetuned"), top_k=None, function_to_apply="none"
    )
    raw = load_from_disk(str(folder / "data" / "raw"))["validation"]
    assert len(raw) == len(logits) == 12
    for row, expected in zip(raw, logits, strict=True):
        scores = {one["label"]: one["score"] for one in classify({name: row[name] for name in ("text", "text_pair")})}
        assert [scores[label] for label in LABELS] == pytest.approx(expected, abs=1e-5)
