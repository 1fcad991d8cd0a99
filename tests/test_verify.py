"""checks.verify: says "same", or which stage differs first, by how much and why."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from ruamel.yaml import YAML
from safetensors.numpy import load_file, save_file

from checks.artifacts import Agreement, Tolerance, compare_files
from checks.attestation import Rebuild
from checks.verify import Reproduction, StageComparison, is_portable
from tests.project import Project


def save_arrow(file: Path, rows: list[int], chunk: int) -> None:
    table = pa.table({"label": rows})
    with pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table, max_chunksize=chunk)


WRITE: dict[str, Callable[[Path, Any], None]] = {
    "model.safetensors": lambda file, values: save_file({"w": np.array(values, dtype=np.float32)}, file),
    "logits.npy": lambda file, values: np.save(file, np.array(values, dtype=np.float32)),
    "epochs.npy": lambda file, values: np.save(file, np.array(values, dtype=np.uint8)),
    "metrics.json": lambda file, values: file.write_text(json.dumps(values), encoding="utf-8"),
    "history.csv": lambda file, values: file.write_text("loss\n" + "\n".join(values) + "\n", encoding="utf-8") and None,
    "data.arrow": lambda file, values: save_arrow(file, *values),
    "note.txt": lambda file, values: file.write_text(values, encoding="utf-8") and None,
}


@pytest.mark.parametrize(
    ("name", "old", "new", "verdict", "figures"),
    [
        ("model.safetensors", [1.0, 2.0], [1.0, 2.0], Agreement.IDENTICAL, {}),
        ("model.safetensors", [1.0, 2.0], [1.0, 2.5], Agreement.BEYOND, {"largest": 0.5, "mean": 0.25}),
        ("model.safetensors", [0.0, 0.0], [0.0, 2**-20], Agreement.WITHIN, {"largest": 2**-20, "mean": 2**-21}),
        ("model.safetensors", [1.0], [1.0, 2.0], Agreement.BEYOND, {"tensors": "other names, shapes or dtypes"}),
        (
            "logits.npy",
            [[0.0, 1.0]],
            [[0.0, 1.5]],
            Agreement.BEYOND,
            {"largest": 0.5, "mean": 0.25, "flipped": 0, "of": 1},
        ),
        ("logits.npy", [[0.0, 2**-9]], [[2**-8, 0.0]], Agreement.BEYOND, {"largest": 2**-8, "flipped": 1, "of": 1}),
        ("logits.npy", [[0.0, 1.0]], [[2**-8, 1.0]], Agreement.WITHIN, {"largest": 2**-8, "flipped": 0}),
        ("logits.npy", [[0.0, 1.0]], [[0.0], [1.0]], Agreement.BEYOND, {"shape": "float32[1, 2] -> float32[2, 1]"}),
        ("epochs.npy", [[0] * 100] * 2, [[0] * 100, [0] * 99 + [1]], Agreement.WITHIN, {"flipped": 1, "of": 200}),
        ("epochs.npy", [[0, 1]], [[1, 1]], Agreement.BEYOND, {"flipped": 1, "of": 2}),
        ("metrics.json", {"a": {"f1": 0.5}}, {"a": {"f1": 0.75}}, Agreement.BEYOND, {"a.f1": "0.5 -> 0.75"}),
        ("metrics.json", {"f1": 0.5}, {"f1": 0.501}, Agreement.WITHIN, {"f1": "0.5 -> 0.501"}),
        ("metrics.json", {"a": 1, "b": 2}, {"b": 2, "a": 1}, Agreement.EQUAL, {}),
        ("metrics.json", {"cpu": "AVX512"}, {"cpu": "AVX2"}, Agreement.BEYOND, {"cpu": "AVX512 -> AVX2"}),
        ("history.csv", ["0.5"], ["0.75"], Agreement.BEYOND, {"row 1 loss": "0.5 -> 0.75"}),
        ("history.csv", ["0.5"], ["0.50"], Agreement.EQUAL, {}),
        ("data.arrow", ([1, 2, 3], 3), ([1, 2, 3], 1), Agreement.EQUAL, {"rows": 3}),
        ("data.arrow", ([1, 2, 3], 3), ([1, 5], 3), Agreement.BEYOND, {"rows changed": 2, "of": 3}),
        ("note.txt", "a", "b", Agreement.UNKNOWN, {}),
    ],
)
def test_artifacts_are_compared_by_their_kind(
    name: str, old: Any, new: Any, verdict: Agreement, figures: dict[str, Any], tmp_path: Path
) -> None:
    for folder, values in (("old", old), ("new", new)):
        (tmp_path / folder).mkdir()
        WRITE[name](tmp_path / folder / name, values)
    found = compare_files(name, tmp_path / "old" / name, tmp_path / "new" / name, Tolerance())
    assert found.verdict == verdict
    assert figures.items() <= found.figures.items()


FACTS = {"device": "cpu", "threads": 2}


@pytest.mark.parametrize(
    ("arithmetics", "facts", "portable"),
    [
        (("portable", "portable"), FACTS, True),
        (("portable", "bf16"), FACTS, False),
        (("native", "portable"), FACTS, False),
        (("portable", "portable"), FACTS | {"device": "cuda"}, False),
        (("portable", "portable"), FACTS | {"cpu_features": ["neon"]}, False),
        (("portable", None), FACTS, False),
        (("portable", "portable"), None, False),
    ],
)
def test_bytes_are_expected_where_nothing_of_the_processor_shows(
    arithmetics: tuple[str, str], facts: dict[str, Any] | None, portable: bool, tmp_path: Path
) -> None:
    lock = {
        stage: {"params": {"params.yaml": {stage: {"arithmetic": arithmetic}}}}
        for stage, arithmetic in zip(("train", "predict"), arithmetics, strict=True)
    }
    (tmp_path / "environment.json").write_text(json.dumps({"environment": [facts]} if facts else []), encoding="utf-8")
    assert is_portable(lock, tmp_path / "environment.json") == portable


def test_a_portable_revision_fails_for_what_a_native_one_is_forgiven() -> None:
    within = [StageComparison("train", Agreement.WITHIN, [])]

    def report(**changes: Any) -> Reproduction:
        rebuild = Rebuild("", {}, {}, {})
        return Reproduction(
            **(
                {
                    "revision": "HEAD",
                    "stages": within,
                    "mismatches": [],
                    "environment": [],
                    "portable": True,
                    "rebuild": rebuild,
                }
                | changes
            )
        )

    assert report().bytes_expected and "faulty machine" in report().cause
    assert not report(portable=False).bytes_expected
    assert not report(environment=["packages.torch: 2.13.0 -> 2.14.0"]).bytes_expected


def test_a_file_on_one_side_only_differs(tmp_path: Path) -> None:
    (tmp_path / "new").touch()
    assert compare_files("x", tmp_path / "old", tmp_path / "new", Tolerance()).figures == {"only in": "the new run"}


def verify(project: Project, *arguments: str) -> tuple[int, Any]:
    done = project.run("python", "-m", "checks.verify", "--json", *arguments, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


@pytest.mark.slow
def test_an_untouched_commit_is_identical_in_every_stage(tiny: Project, tmp_path: Path) -> None:
    status, report = verify(tiny, "--attest", str(tmp_path / "statement.json"))
    assert status == 0
    assert {stage["stage"]: stage["verdict"] for stage in report["stages"]} == dict.fromkeys(
        ["download", "tokenize", "train", "predict", "calibrate", "evaluate", "baselines", "report"], "identical bytes"
    )
    assert report["first"] is None
    text = (tmp_path / "statement.json").read_text(encoding="ascii")
    statement, lock = json.loads(text), YAML(typ="safe", pure=True).load(tiny.folder / "dvc.lock")["stages"]
    outs = {out["path"] for entry in lock.values() for out in entry["outs"]}
    assert {subject["name"] for subject in statement["subject"]} == outs
    assert statement["predicate"]["runDetails"]["tunelock:verdict"]["verdict"] == "identical bytes"
    assert str(tmp_path) not in text


@pytest.mark.exhaustive
def test_a_lock_made_with_another_seed_differs_first_in_train(tiny: Project) -> None:
    tiny.set(train__seed=7)
    tiny.repro()
    tiny.set(train__seed=42)
    tiny.commit("a lock of another seed")
    status, report = verify(tiny)
    assert (status, report["first"]) == (1, "train")
    assert "params.yaml: train.seed is 42, dvc.lock was made with 7" in report["mismatches"]
    train = next(stage for stage in report["stages"] if stage["stage"] == "train")
    weights = next(d for d in train["differences"] if d["path"] == "models/finetuned/model.safetensors")
    assert weights["figures"]["largest"] > weights["figures"]["mean"] > 0
    predict = next(stage for stage in report["stages"] if stage["stage"] == "predict")
    logits = next(d for d in predict["differences"] if d["path"] == "data/predictions/validation/logits.npy")
    assert {"largest", "mean", "flipped"} <= set(logits["figures"]) and logits["figures"]["of"] == 40
    # --quick finds it too, without training
    status, answer = verify(tiny, "--quick")
    assert status == 1 and "train would run" in answer["reasons"]


@pytest.mark.slow
def test_a_weight_altered_by_a_millionth_is_told(tiny: Project) -> None:
    file = tiny.folder / "models" / "finetuned" / "model.safetensors"
    weights = load_file(file)
    name = "classifier.bias"
    weights[name] = weights[name] + np.array([1e-6, 0.0], dtype=np.float32)
    save_file(weights, file, metadata={"format": "pt"})
    tiny.run("dvc", "commit", "--force", "train")
    tiny.commit("a weight that no training gave")
    status, report = verify(tiny)
    assert (status, report["first"], report["verdict"]) == (1, "train", "differs, within tolerance")
    assert report["portable"] and not report["environment"]  # so a tolerance is no excuse
    train = next(stage for stage in report["stages"] if stage["stage"] == "train")
    (difference,) = train["differences"]
    assert difference["path"] == "models/finetuned/model.safetensors"
    assert difference["figures"]["largest"] == pytest.approx(1e-6, rel=0.1)
    assert "the environments are equal" not in report["mismatches"]


@pytest.mark.slow
def test_quick_is_content_with_a_fresh_clone_and_not_with_a_changed_metric(tiny: Project, tmp_path: Path) -> None:
    clone = Project(tmp_path / "clone")
    tiny.run("git", "clone", "--quiet", str(tiny.folder), str(clone.folder))
    assert verify(clone, "--quick") == (0, {"revision": "HEAD", "belongs_together": True, "reasons": []})
    for name, stage in (("metrics/metrics.json", "evaluate"), ("stages/predict/__main__.py", "predict")):
        text = clone.read(name)
        (clone.folder / name).write_text(text.replace("accuracy", "acuracy") + "\n", encoding="utf-8")
        clone.run("git", "config", "user.name", "A Tester")
        clone.run("git", "config", "user.email", "tester@example.org")
        clone.commit(f"{name} is not what the lock says")
        status, answer = verify(clone, "--quick")
        assert status == 1
        assert f"{name} is not the file that dvc.lock was made with" in answer["reasons"]
        assert f"{stage} would run" in answer["reasons"]


@pytest.mark.exhaustive
def test_what_is_in_no_cache_is_said(tiny: Project) -> None:
    tiny.set(predict__token_budget=1000)
    tiny.repro("predict")
    tiny.set(predict__token_budget=4096)
    tiny.commit("a lock of another budget")
    shutil.rmtree(tiny.folder / ".dvc" / "cache")
    status, report = verify(tiny, "--exact")
    assert (status, report["first"]) == (1, "predict")
    predict = next(stage for stage in report["stages"] if stage["stage"] == "predict")
    assert predict["differences"][0]["figures"] == {"old": "in no cache and no remote"}


def test_a_question_that_cannot_be_answered_is_one_line(project: Project) -> None:
    for arguments, line in [
        (
            ["no-such-branch"],
            "verify: no revision 'no-such-branch' in this repository; `git branch --all` lists its branches\n",
        ),
        (["--quick"], None),
    ]:
        if line is None:
            (project.folder / "params.yaml").write_text(project.read("params.yaml") + "# changed\n", encoding="utf-8")
            line = "verify: the working tree has changes that a clone would not see; commit them, or use --dirty\n"
        assert verify(project, *arguments) == (2, line)
