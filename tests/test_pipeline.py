"""The DAG for real, through dvc: what runs, what does not, and what comes out."""

import json
import stat
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import load_from_disk
from huggingface_hub import ModelCard
from transformers import pipeline

from tests.project import Project

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow

ALL = ["download", "tokenize", "train", "predict", "calibrate", "evaluate", "baselines", "report"]


def outputs(project: Project) -> dict[str, bytes]:
    names = ["models/finetuned/model.safetensors", "data/predictions/validation/logits.npy", "metrics/metrics.json"]
    names += ["metrics/report.html", "metrics/model_card.md"]
    return {name: (project.folder / name).read_bytes() for name in names}


def assert_the_pipeline_of_transformers_answers_as_predict(project: Project) -> None:
    """What is handed over is what was evaluated, long texts too, and others may read it."""
    finetuned = project.folder / "models" / "finetuned"
    rows = load_from_disk(project.folder / "data" / "raw" / "validation")
    (facts, *_) = json.loads(project.read("metrics/truncation.json"))["splits"]
    assert facts["truncated"] > 0
    logits = np.load(project.folder / "data" / "predictions" / "validation" / "logits.npy")
    texts = [{"text": row["text"], "text_pair": row["text_pair"]} for row in rows.select(range(len(logits)))]
    texts[0] = {"text": "word " * 2000, "text_pair": texts[0]["text_pair"]}
    answers = pipeline("text-classification", str(finetuned))(texts, truncation=True)
    names = load_config(finetuned)["id2label"]
    expected = [names[str(column)] for column in logits.argmax(axis=1)]
    assert [answer["label"] for answer in answers][1:] == expected[1:]
    assert {stat.S_IMODE(file.stat().st_mode) & 0o444 for file in finetuned.iterdir()} == {0o444}


def load_config(finetuned: Path) -> dict[str, Any]:
    return dict(json.loads((finetuned / "config.json").read_text(encoding="utf-8")))


def test_a_change_of_the_scores_reruns_no_model_and_comes_back_from_the_cache(tiny: Project) -> None:
    assert tiny.repro() == []
    first = outputs(tiny)
    tiny.set(evaluate__splits=["validation", "test"])
    assert tiny.repro() == ["evaluate", "baselines", "report"]
    assert set(json.loads(tiny.read("metrics/metrics.json"))) == {"validation", "test"}
    tiny.set(execution__workers=1)
    assert tiny.repro() == []
    assert_the_old_values_bring_back(tiny, first)


def assert_the_old_values_bring_back(project: Project, first: dict[str, bytes]) -> None:
    """The committed values have the committed outputs, and no stage's program runs."""
    project.run("git", "checkout", "--", ".")
    assert project.repro() == []
    assert outputs(project) == first
    assert project.run("git", "status", "--porcelain").stdout == ""
    assert "up to date" in project.run("dvc", "status").stdout


@pytest.mark.exhaustive
def test_a_change_reruns_its_stage_and_what_follows_and_nothing_else(tiny: Project) -> None:
    first = outputs(tiny)
    scores = tiny.read("metrics/metrics.json")
    tiny.set(calibrate__error_rate=0.2)
    assert tiny.repro() == ["calibrate", "evaluate", "report"]
    assert tiny.read("metrics/metrics.json") == scores
    tiny.set(predict__token_budget=1000)  # other batches: the logits' last digits move
    assert tiny.repro() == ["predict", "calibrate", "evaluate", "baselines", "report"]
    tiny.set(train__learning_rate=2e-3)
    assert tiny.repro() == ["train", "predict", "calibrate", "evaluate", "baselines", "report"]
    assert outputs(tiny) != first
    tiny.set(tokenize__max_length=24)
    assert tiny.repro() == ["tokenize", "train", "predict", "calibrate", "evaluate", "baselines", "report"]
    assert_the_pipeline_of_transformers_answers_as_predict(tiny)
    tiny.set(report__errors=3)
    assert tiny.repro() == ["report"]
    file = tiny.folder / "data" / "hard" / "train.csv"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("forty minutes late", "fifty minutes late", 1), encoding="utf-8")
    assert tiny.repro()[:3] == ["download", "tokenize", "train"]
    assert_the_old_values_bring_back(tiny, first)


def test_two_branches_can_be_compared_metric_by_metric(branched: Project) -> None:
    lines = branched.run("dvc", "metrics", "diff", "main", "--all").stdout.splitlines()
    assert lines[0].split() == ["Path", "Metric", "main", "workspace", "Change"]
    assert {line.split()[1] for line in lines[1:]} >= {"validation.accuracy", "validation.f1", "validation.loss"}
    loss = next(line.split() for line in lines if "validation.loss" in line)
    assert float(loss[4]) == pytest.approx(float(loss[3]) - float(loss[2]), abs=1e-4) != 0

    drawn = json.loads(branched.run("dvc", "plots", "diff", "main", "--json").stdout)["data"]
    (curves,) = drawn["learning curve (loss)"]
    rows = Counter((row["rev"], row["field"]) for row in curves["content"]["data"]["values"])
    fields = ("train_loss", "loss")
    assert rows == {("main", field): 2 for field in fields} | {("workspace", field): 6 for field in fields}  # epochs


def test_two_branches_are_compared_by_their_predictions(branched: Project) -> None:
    """Both went through the whole DAG; main's predictions are in the cache alone."""
    done = branched.run("python", "-m", "checks.compare", "main", "--flips", "3")
    lines = done.stdout.splitlines()
    assert lines[2] == "validation, 40 examples"
    assert [line.split()[0] for line in lines[3:8]] == ["metric", "accuracy", "f1", "loss", "flips:"]
    assert any(line.startswith("warning: main: ") for line in lines)
    report = json.loads(branched.run("python", "-m", "checks.compare", "main", "--json").stdout)
    old = json.loads(branched.run("git", "show", "main:metrics/metrics.json").stdout)["validation"]
    assert report["splits"][0]["differences"][0]["old"] == old["accuracy"]


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"train__learning_rate": -1}, "train", "train: params.yaml: train.learning_rate: must be above 0, got -1"),
    ({"download__label_column": "labl"}, "download", "train.csv: no column 'labl' (download.label_column), only"),
    # what a later stage reads is refused before the training that comes first
    ({"train__epochs": 3, "evaluate__splits": ["valid"]}, "train", "train: params.yaml: evaluate.splits: no split"),
    ({"train__epochs": 3, "report__errors": -1}, "train", "train: params.yaml: report.errors: must be at least 0"),
    ({"evaluate__splits": ["valid"]}, "evaluate", "params.yaml: evaluate.splits: no split 'valid' to score, only"),
]


@pytest.mark.parametrize(
    "cases", [REFUSED[:2], pytest.param(REFUSED[2:], marks=pytest.mark.exhaustive)], ids=["its own", "a later stage's"]
)
def test_bad_input_is_one_line_and_loses_nothing(cases: list[tuple[dict[str, Any], str, str]], tiny: Project) -> None:
    good = outputs(tiny)
    for values, stage, line in cases:
        tiny.set(**values)
        failed = tiny.run("dvc", "repro", check=False)
        assert failed.returncode != 0
        assert line in failed.stderr and "Traceback" not in failed.stdout + failed.stderr
        assert f"failed to reproduce '{stage}'" in failed.stderr
        assert not list(tiny.folder.rglob("*.partial"))
        tiny.run("git", "checkout", "--", ".")
        tiny.run("dvc", "checkout")
        assert outputs(tiny) == good
    assert tiny.repro() == []


def test_what_a_refused_experiment_removed_comes_back_as_the_page_says(tiny: Project) -> None:
    good = outputs(tiny)
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    refused, remedy = (part.partition("```")[0].splitlines() for part in page.split("```console\n")[1:3])
    failed = tiny.run(*refused[0].removeprefix("$ ").split(), check=False)
    assert failed.returncode != 0 and refused[1] in failed.stderr.splitlines()
    assert "learning_rate: -1" in tiny.read("params.yaml")
    for command in remedy:
        tiny.run(*command.removeprefix("$ ").split())
    assert outputs(tiny) == good and tiny.repro() == []
    assert tiny.run("git", "status", "--porcelain").stdout == ""


def test_one_dropped_experiment_parameter_is_read_as_dvc_wrote_it(tiny: Project) -> None:
    """`dvc exp run -S` writes 0.00002 as 2e-05, a string to YAML 1.1."""
    done = tiny.run("dvc", "exp", "run", "-S", "train.learning_rate=0.00002", "-S", "train.epochs=1", "train")
    assert "2e-05" in tiny.read("params.yaml")
    assert "Ran experiment" in done.stdout
    assert len(tiny.read("metrics/history.csv").splitlines()) == 2


@pytest.mark.release
def test_the_committed_run_is_reproduced(released: Project) -> None:
    """The default recipe, for real: the seed's shapes, and the committed lock where the environment is the same."""
    committed = {name: released.read(name) for name in ("dvc.lock", "metrics/environment.json")}
    assert released.repro("--force") == ALL
    logits = np.load(released.folder / "data" / "predictions" / "validation" / "logits.npy")
    labels = np.load(released.folder / "data" / "predictions" / "validation" / "labels.npy")
    assert (logits.dtype, logits.shape, labels.dtype, labels.shape) == ("float32", (400, 2), "int64", (400,))
    metrics: dict[str, Any] = json.loads(released.read("metrics/metrics.json"))
    assert metrics["validation"]["examples"] == 400 and metrics["validation"]["accuracy"] > 0.85
    assert metrics["validation"]["accuracy"] == pytest.approx(float((logits.argmax(axis=1) == labels).mean()))
    classify = pipeline("text-classification", str(released.folder / "models" / "finetuned"))
    answer = classify({"text": "grandmother", "text_pair": "the mother of your father or mother"})
    assert answer["label"] == "fits"
    if released.read("metrics/environment.json") == committed["metrics/environment.json"]:
        assert released.read("dvc.lock") == committed["dvc.lock"]
        assert released.run("git", "status", "--porcelain").stdout == ""


def test_the_loss_so_far_can_be_drawn_while_the_training_runs(tiny: Project) -> None:
    columns = ("-x", "step", "-y", "train_loss")
    shown = tiny.run("dvc", "plots", "show", ".scratch/live.csv", *columns, "--show-vega").stdout
    steps = [int(row["step"]) for row in json.loads(shown)["data"]["values"]]
    assert steps == list(range(1, 7))  # 40 rows in batches of 16, twice
    assert tiny.run("git", "status", "--porcelain").stdout == ""


def test_the_report_is_printed_at_the_end_and_its_card_can_be_read(tiny: Project) -> None:
    done = tiny.run("dvc", "repro", "--force", "--single-item", "report")
    lines = done.stdout[done.stdout.index("validation, 40 examples") :].splitlines()
    assert lines[1].startswith("  accuracy  0.") and " interval " in lines[1] and " best constant answer " in lines[1]
    assert "report: metrics/report.html" in lines
    card = ModelCard.load(tiny.folder / "metrics" / "model_card.md")
    assert card.data.eval_results is not None
    assert [result.metric_type for result in card.data.eval_results] == ["accuracy", "f1"]
    assert tiny.run("git", "check-ignore", "metrics/report.html", "metrics/model_card.md").returncode == 0


def test_the_plots_are_drawn_offline(tiny: Project) -> None:
    shown = tiny.run("dvc", "plots", "show", "--json").stdout
    drawn = json.loads(shown)["data"]
    assert {"learning curve (loss)", "metrics/plots/confusion.csv"} <= set(drawn)
    assert "share of actual" in json.dumps(drawn["metrics/plots/confusion.csv"])  # the project's own template


def test_make_repro_needs_no_environment_of_its_own(tmp_path: Path) -> None:
    """The Makefile's set-up is idempotent: with the environment in place, make has nothing to install."""
    done = subprocess.run(["make", "--dry-run", "repro"], cwd=ROOT, capture_output=True, text=True, check=True)
    if (ROOT / ".venv" / ".installed").exists():
        assert "pip install" not in done.stdout
    assert "dvc repro" in done.stdout
