"""ship.glue: what the GLUE server takes, from predictions of several revisions."""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from dvc.repo import Repo

from ship import glue
from tests.hub import Hub
from tests.predictions import DAG, PARAMS, repro
from tests.project import Project
from tests.repositories import GLUE_COMMIT, Config, dataset

# Written down from the sample submission of gluebenchmark.com, apart from ship/glue.py: rows, and what a row may say.
WORDS = {"entailment", "not_entailment"}
OFFICIAL: dict[str, tuple[int, set[str] | None]] = {
    "AX.tsv": (1104, {"entailment", "neutral", "contradiction"}),
    "CoLA.tsv": (1063, {"0", "1"}),
    "MNLI-m.tsv": (9796, {"entailment", "neutral", "contradiction"}),
    "MNLI-mm.tsv": (9847, {"entailment", "neutral", "contradiction"}),
    "MRPC.tsv": (1725, {"0", "1"}),
    "QNLI.tsv": (5463, WORDS),
    "QQP.tsv": (390965, {"0", "1"}),
    "RTE.tsv": (3000, WORDS),
    "SST-2.tsv": (1821, {"0", "1"}),
    "STS-B.tsv": (1379, None),  # a number from 0 to 5
    "WNLI.tsv": (146, {"0", "1"}),
}
RTE, STSB, WNLI = ["entailment", "not_entailment"], [], ["not_entailment", "entailment"]


def test_the_table_is_that_of_the_server() -> None:
    assert {name: table.rows for name, table in glue.TABLES.items()} == {
        name: rows for name, (rows, _) in OFFICIAL.items()
    }


def check_format(file: Path) -> dict[str, list[str]]:
    """Holds a zip to the published format, and returns each file's predictions."""
    with zipfile.ZipFile(file) as archive:
        assert sorted(archive.namelist()) == sorted(OFFICIAL)
        texts = {name: archive.read(name).decode("ascii") for name in archive.namelist()}
    found = {}
    for name, (rows, words) in OFFICIAL.items():
        header, *lines = texts[name].removesuffix("\n").split("\n")
        assert header == "index\tprediction" and len(lines) == rows
        indices, predictions = zip(*(line.split("\t") for line in lines), strict=True)
        assert list(indices) == [str(index) for index in range(rows)]
        assert set(predictions) <= words if words else all(0 <= float(one) <= 5 for one in predictions)
        found[name] = list(predictions)
    return found


def predict(project: Project, task: str, names: list[str], logits: np.ndarray, idx: np.ndarray | None = None) -> None:
    """Commits a revision that predicted a test split."""
    shutil.rmtree(project.folder / "made", ignore_errors=True)
    raw, predictions = (project.folder / "made" / name for name in ("raw", "predictions"))
    for folder in (raw / "test", predictions / "test"):
        folder.mkdir(parents=True)
    kind = "single_label_classification" if names else "regression"
    facts = {"name": task, "problem_type": kind, "label_names": names, "metrics": ["accuracy"], "source": "glue"}
    (raw / "task.json").write_text(json.dumps(facts | {"revision": "0"}))
    table = pa.table({"text": ["x"] * len(logits), "idx": np.arange(len(logits)) if idx is None else idx})
    with pa.ipc.new_stream(raw / "test" / "data-00000-of-00001.arrow", table.schema) as stream:
        stream.write_table(table)
    (project.folder / "made" / "model").write_bytes(logits.tobytes())
    np.save(predictions / "test" / "labels.npy", np.full(len(logits), -1 if names else -1.0))
    np.save(predictions / "test" / "logits.npy", logits)
    (project.folder / "made" / "metrics.json").write_text("{}")
    repro(project)
    project.commit(task)


def columns_for(answers: np.ndarray) -> np.ndarray:
    return np.stack([1.0 - answers, answers], axis=1).astype(np.float32)


ANSWERS = {"rte": np.arange(3000) % 3 == 0, "wnli": np.arange(146) % 5 == 0}


@pytest.fixture(scope="module")
def three_once(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Branches rte, stsb and wnli, whose rows are in another order than their numbers, and `short` with too few."""
    project = Project(tmp_path_factory.mktemp("submission") / "project")
    project.folder.mkdir()
    (project.folder / "dvc.yaml").write_text(DAG)
    (project.folder / "params.yaml").write_text(PARAMS)
    project.start_git()
    Repo.init(str(project.folder)).close()
    turned = np.arange(146)[::-1]
    scores = np.linspace(-1, 6, 1379, dtype=np.float32)[:, None]
    for branch, names, logits, idx in (
        ("rte", RTE, columns_for(ANSWERS["rte"]), None),
        ("stsb", STSB, scores, None),
        ("wnli", WNLI, columns_for(ANSWERS["wnli"][turned]), turned),
        ("short", RTE, columns_for(ANSWERS["rte"][:100]), None),
        ("doubled", WNLI, columns_for(ANSWERS["wnli"]), np.zeros(146, dtype=np.int64)),
    ):
        project.run("git", "checkout", "--quiet", "-B", branch)
        predict(
            project,
            f"glue/{'rte' if branch == 'short' else 'wnli' if branch == 'doubled' else branch}",
            names,
            logits,
            idx,
        )
    return project


@pytest.fixture
def three(three_once: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(three_once.folder)
    return three_once


def test_three_revisions_make_a_submission(three: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "submission.zip"
    assert glue.main(["rte", "stsb", "wnli", "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert said.err == "" and said.out.count("since no revision predicted it") == 8
    found = check_format(out)
    assert found["RTE.tsv"] == ["not_entailment" if one else "entailment" for one in ANSWERS["rte"]]
    assert found["WNLI.tsv"] == ["1" if one else "0" for one in ANSWERS["wnli"]]
    assert (found["STS-B.tsv"][0], found["STS-B.tsv"][-1]) == ("0.000", "5.000")
    assert set(found["QNLI.tsv"]) == {"entailment"} and set(found["QQP.tsv"]) == {"0"}
    before = out.read_bytes()
    assert glue.main(["wnli", "stsb", "rte", "--out", str(out)]) == 0
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    ("revisions", "line"),
    [
        (["short"], "short: rte: test: 100 rows, where GLUE has 3000; set tokenize.max_samples: null"),
        (["doubled"], "doubled: wnli: test: column idx does not number the rows from 0 to 145, as GLUE's test sets do"),
        (["wnli", "doubled"], "wnli and doubled: both are glue/wnli; name one of them"),
        (["nowhere"], "nowhere"),
    ],
)
def test_what_is_no_submission_is_a_line_and_leaves_the_last_one(
    revisions: list[str], line: str, three: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "submission.zip"
    out.write_text("the last one")
    assert glue.main([*revisions, "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("glue: ") and error.count("\n") == 1 and line in error
    assert out.read_text() == "the last one" and [file.name for file in tmp_path.iterdir()] == ["submission.zip"]


def test_data_of_ones_own_are_no_task_of_glue(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert glue.main([]) == 1
    assert capsys.readouterr().err == "glue: workspace: its data are files, which is no task of GLUE\n"
    assert not (predicted.folder / "submission.zip").exists()


@pytest.mark.exhaustive
def test_three_tasks_of_the_hub_become_a_submission(
    project: Project, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def config(task: str, names: list[str], test: int) -> Config:
        def rows(split: str, number: int) -> list[Any]:
            label = [row % 2 if names else row % 6 * 0.9 for row in range(number)]
            return [
                (f"{task} {split} {row} one", f"{row} two", -1 if split == "test" else label[row])
                for row in range(number)
            ]

        splits = {split: rows(split, number) for split, number in (("train", 24), ("validation", 12), ("test", test))}
        return Config(splits, names, ("sentence1", "sentence2"))

    configs = {"wnli": config("wnli", WNLI, 146), "stsb": config("stsb", STSB, 1379), "rte": config("rte", RTE, 3000)}
    with Hub({("dataset", "nyu-mll/glue"): {GLUE_COMMIT: dataset(**configs)}}) as hub:
        for task in configs:
            project.run("git", "checkout", "--quiet", "-B", task)
            project.set(
                download__dataset=f"glue/{task}",
                download__checkpoint="files",
                download__checkpoint_files=str(tiny_checkpoint),
                tokenize__max_length=32,
                train__epochs=1,
            )
            project.repro(HF_ENDPOINT=hub.endpoint, HF_HOME=str(tmp_path / "hf"), HF_TOKEN="")
            project.commit(task)
    monkeypatch.chdir(project.folder)
    assert glue.main([*configs, "--out", str(tmp_path / "submission.zip")]) == 0
    found = check_format(tmp_path / "submission.zip")
    with Repo() as repo:
        logits = np.load(glue.find_revision(repo, "rte").files(glue.PREDICTIONS)["test/logits.npy"])
    assert found["RTE.tsv"] == [RTE[one] for one in logits.argmax(axis=1)]
