"""ship.export: the same model in ONNX, and what that costs, measured before anybody is handed it."""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import transformers as hf
from dvc.repo import Repo
from ruamel.yaml import YAML

from checks import gate
from checks.cli import Unanswerable
from checks.revisions import WORKSPACE, Revision
from checks.rules import ExportRule, read_rule
from ship import export, onnx_model
from stages.shared.model.batches import PaddedRows, batches, lengths_of
from stages.shared.model.loading import load_tokenizer
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.splits import load_splits
from tests.project import Project

LOGITS = "data/predictions/validation/logits.npy"


@pytest.fixture(scope="module")
def exported(finished_once: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny project with its model exported, in both forms."""
    folder = tmp_path_factory.mktemp("exported") / "project"
    shutil.copytree(finished_once.folder, folder, symlinks=True)
    project = Project(folder)
    done = project.run("python", "-m", "ship.export", "--onnx", "--int8", "--flips-at-most", "1")
    assert done.stdout.endswith("export: exports/onnx has the model that was scored, and price.json\n")
    return project


def price_of(project: Project) -> Any:
    return json.loads(project.read("exports/onnx/price.json"))


@pytest.mark.slow
def test_the_exported_model_gives_the_logits_of_predict(exported: Project) -> None:
    folder = exported.folder / "exports/onnx"
    split = load_splits(exported.folder / "data/tokenized")["validation"]
    rows = PaddedRows(split, load_tokenizer(folder))
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    logits = np.load(exported.folder / LOGITS)
    for batch in [*batches(lengths_of(split), 512), np.array([0])]:  # one text alone, too
        [found] = session.run(["logits"], {name: values.numpy() for name, values in rows[batch].items()})
        assert np.abs(found - logits[batch]).max() < 1e-5
    form, _ = price_of(exported)["forms"]
    assert form["splits"][0]["flipped"] == 0 and form["splits"][0]["largest_logit_difference"] < 1e-5


@pytest.mark.slow
def test_the_folder_has_what_others_look_for_and_cuts_texts_where_they_were_cut(exported: Project) -> None:
    folder = exported.folder / "exports/onnx"
    assert {"model.onnx", "model_quantized.onnx", "config.json", "tokenizer.json", "README.md"} <= {
        file.name for file in folder.iterdir()
    }
    assert not list(folder.glob("*.safetensors"))
    calibration = (folder / "calibration.json").read_text(encoding="utf-8")
    assert calibration == exported.read("metrics/calibration.json") and "temperature" in calibration
    assert (folder / "README.md").read_text(encoding="utf-8") == exported.read("metrics/model_card.md")
    limit = json.loads(exported.read("data/tokenized/limit.json"))["max_length"]
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer("a " * 1000, truncation=True)["input_ids"]) == limit
    assert hf.AutoConfig.from_pretrained(folder).id2label


@pytest.mark.slow
def test_the_price_names_what_it_is_of(exported: Project) -> None:
    found = price_of(exported)
    lock = YAML(typ="safe", pure=True).load(exported.read("dvc.lock"))["stages"]
    revision = {out["path"]: out["md5"] for stage in lock.values() for out in stage["outs"]}
    assert (found["model"], found["predictions"]) == (revision["models/finetuned"], revision["data/predictions"])
    sizes = [form["bytes"] for form in found["forms"]]
    assert sizes[1] < sizes[0] == (exported.folder / "exports/onnx/model.onnx").stat().st_size
    for form in found["forms"]:
        assert [one["split"] for one in form["splits"]] == ["validation"]
        assert {"accuracy", "loss"} <= {one["metric"] for one in form["splits"][0]["metrics"]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "passed", "why"),
    [
        (lambda price: None, True, "exports/onnx/model"),
        (lambda price: price["forms"][1]["splits"][0].update(flipped=0.06), False, "flips 6.0% of validation, at most"),
        (lambda price: price.update(model="0" * 32 + ".dir"), False, "has another model than that of dvc.lock"),
    ],
)
def test_the_gate_bounds_the_flips_of_the_model_of_the_lock(
    exported: Project, change: Any, passed: bool, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(exported.folder)
    price = price_of(exported)
    for form in price["forms"]:
        form["splits"][0]["flipped"] = 0.0
    change(price)
    (exported.folder / "exports/other").mkdir(exist_ok=True)
    (exported.folder / "exports/other/price.json").write_text(json.dumps(price))
    with Repo() as repo:
        ruling = gate.judge_export(ExportRule("exports/other"), Revision(WORKSPACE, None, repo))
    assert ruling.passed == passed and why.replace("exports/onnx", "exports/other") in ruling.why


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": "", "predictions": "", "forms": []}', "NAN"])
def test_a_price_that_is_none_is_no_answer(text: str, predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    nan = {"model": "", "predictions": "", "forms": [{"file": "f", "splits": [{"split": "v", "flipped": np.nan}]}]}
    (predicted.folder / "exports").mkdir()
    (predicted.folder / "exports/price.json").write_text(json.dumps(nan) if text == "NAN" else text)
    with Repo() as repo, pytest.raises(Unanswerable, match=r"exports/price.json"):
        gate.judge_export(ExportRule("exports"), Revision(WORKSPACE, None, repo))


def test_without_an_export_the_gate_says_how_to_make_it(predicted: Project) -> None:
    with Repo() as repo:
        ruling = gate.judge_export(ExportRule("exports/onnx"), Revision(WORKSPACE, None, repo))
    line = "no exports/onnx/price.json; `python -m ship.export --onnx --out exports/onnx` writes it"
    assert (ruling.passed, ruling.why) == (False, line)


def test_a_rule_for_an_export_names_a_folder_of_the_repository() -> None:
    assert read_rule({"export": "exports/onnx"}, "gate[0]") == ExportRule("exports/onnx", 0.05)
    for folder in ("/tmp/onnx", "../onnx", ""):
        with pytest.raises(BadInput, match=r"gate\[0\].export: must be a folder of the repository"):
            read_rule({"export": folder}, "gate[0]")
    with pytest.raises(BadInput, match="flips_at_most"):
        read_rule({"export": "exports/onnx", "flips_at_most": 2}, "gate[0]")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("factor", "line"),
    [
        (-1.0, "of the predictions of validation are flipped, and 5.0% may be (--flips-at-most); nothing was written"),
        (np.nan, "model.onnx: its answers on validation are no numbers; nothing was written"),
    ],
)
def test_a_model_that_predicts_noise_is_not_handed_on(
    factor: float, line: str, tiny: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tiny.folder)
    forward = onnx_model.OnnxModel.__call__
    monkeypatch.setattr(onnx_model.OnnxModel, "__call__", lambda self, batch: factor * forward(self, batch))
    assert export.main(["--onnx"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("export: ") and error.count("\n") == 1 and line in error
    assert not (tiny.folder / "exports/onnx").exists() and not list((tiny.folder / ".scratch").glob("export-*"))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--onnx", "--revision", "nowhere"], "nowhere"),
        (["--onnx", "--out", "params.yaml"], "--out params.yaml: is there already and no earlier export"),
        (["--onnx", "--out", "metrics"], "--out metrics: is there already and no earlier export"),
    ],
)
def test_what_cannot_be_exported_is_a_line_and_leaves_nothing(
    arguments: list[str], line: str, predicted: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path for path in predicted.folder.rglob("*") if ".dvc" not in path.parts)
    params = predicted.read("params.yaml")
    assert export.main(arguments) == 1
    out, error = capsys.readouterr()
    assert out == "" and error.startswith("export: ") and error.count("\n") == 1 and line in error
    assert predicted.read("params.yaml") == params
    after = sorted(path for path in predicted.folder.rglob("*") if ".dvc" not in path.parts)
    assert [path for path in after if path not in before and ".scratch" not in path.parts] == []


def test_without_its_packages_it_says_how_to_get_them(
    predicted: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert export.main(["--onnx"]) == 1
    line = "export: onnx, onnxruntime, onnxscript: not installed; `pip install -r requirements-onnx.txt`\n"
    assert capsys.readouterr() == ("", line)


@pytest.mark.parametrize("text", ["-0.1", "1.1", "nan", "x"])
def test_a_share_is_from_0_to_1(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        export.main(["--onnx", "--flips-at-most", text])
    assert "must be a number from 0 to 1" in capsys.readouterr().err
