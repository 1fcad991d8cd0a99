"""checks.compare: two models on the same examples, from the cache; words that the interval bears out."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import compare_scale
from checks import compare
from stages.shared.statistics.paired import list_flips
from stages.shared.statistics.swaps import PairedPredictions
from stages.shared.task.task import Task
from tests.predictions import TASK, branch, labels_of, logits_of, make, repro, warn
from tests.project import Project

ROOT = Path(__file__).parents[1]
LABELS = labels_of(200)


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert compare.main([*arguments, "--json"]) == 0, capsys.readouterr().err
    return dict(json.loads(capsys.readouterr().out))


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert compare.main(arguments) == 2
    out, error = capsys.readouterr()
    assert out == "" and error.startswith("compare: ") and error.count("\n") == 1
    return error


def test_two_branches_are_compared_from_the_cache_alone(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    branch(predicted, "better", LABELS, logits_of(LABELS, range(30, 50)))
    shutil.rmtree(predicted.folder / "data")
    report = answer(capsys, "main", "better")
    (split,) = report["splits"]
    assert (split["split"], split["examples"]) == ("validation", 200)
    assert split["flips"] == {"wrong -> right": 30, "right -> wrong": 10, "wrong -> wrong": 0}
    accuracy = split["differences"][0]
    assert (accuracy["metric"], accuracy["old"], accuracy["new"]) == ("accuracy", 0.8, 0.9)
    assert accuracy["difference"] == pytest.approx(0.1)
    assert 0 < accuracy["low"] < accuracy["difference"] < accuracy["high"]
    assert accuracy["verdict"] == "better"
    assert [one["metric"] for one in split["differences"]] == ["accuracy", "f1", "loss"]
    assert split["p_value"] == pytest.approx(0.002, abs=5e-4)
    assert not (predicted.folder / "data").exists()


def test_the_workspace_is_compared_with_main_and_when_it_has_changes_with_head(
    predicted: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "main and workspace are the same commit" in refusal(capsys)
    branch(predicted, "worse", LABELS, logits_of(LABELS, range(80)))
    report = answer(capsys)
    assert (report["old"].split()[0], report["new"]) == ("main", "workspace")
    assert report["splits"][0]["differences"][0]["verdict"] == "worse"
    np.save(predicted.folder / "made/predictions/validation/logits.npy", logits_of(LABELS, range(20)))
    repro(predicted)
    report = answer(capsys)
    assert report["old"].split()[0] == "HEAD"
    assert report["splits"][0]["flips"]["wrong -> right"] == 60


def test_a_folder_that_belongs_to_another_branch_is_not_taken_for_the_workspaces(
    predicted: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    """After `git checkout` without `dvc checkout` the data are the other branch's; dvc.lock is not."""
    branch(predicted, "better", LABELS, logits_of(LABELS, range(10)))
    predicted.run("git", "checkout", "--quiet", "main")
    (difference, *_) = answer(capsys, "better")["splits"][0]["differences"]
    assert (difference["old"], difference["new"]) == (0.95, 0.8)


def test_parameters_that_were_not_run_are_warned_of(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    branch(predicted, "better", LABELS, logits_of(LABELS, range(10)))
    text = predicted.read("params.yaml").replace("1.0e-4", "2.0e-4")
    (predicted.folder / "params.yaml").write_text(text)
    assert compare.main(["main"]) == 0
    expected = "compare: warning: params.yaml: train.learning_rate is 0.0002, dvc.lock was made with 0.0001"
    assert capsys.readouterr().err.startswith(expected)


@pytest.mark.parametrize("gained", [3, 5, 6, 8])
def test_few_flips_one_way_are_no_difference(
    predicted: Project, capsys: pytest.CaptureFixture[str], gained: int
) -> None:
    """Six flips have p = 0.031, but three metrics are printed that all see the same six; eight have 3 * 0.0078."""
    branch(predicted, "other", LABELS, logits_of(LABELS, range(40 - gained)))
    differences = answer(capsys, "main")["splits"][0]["differences"]
    for one in differences:
        assert one["p_value"] == pytest.approx(2 ** (1 - gained), abs=0.02)
        assert one["p_holm"] == pytest.approx(min(1, 3 * 2 ** (1 - gained)), abs=0.04)
        assert one["verdict"] == ("better" if gained == 8 else "cannot be told apart"), one


def test_the_first_metric_of_the_first_split_is_the_primary_one(
    predicted: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    branch(predicted, "better", LABELS, logits_of(LABELS, range(10)))
    differences = answer(capsys, "main")["splits"][0]["differences"]
    assert {one["metric"]: one["primary"] for one in differences} == {"accuracy": True, "f1": False, "loss": False}
    assert compare.main(["main"]) == 0
    rows = [line.split()[:2] for line in capsys.readouterr().out.splitlines()[4:7]]
    assert rows == [["accuracy", "primary"], ["f1", "secondary"], ["loss", "secondary"]]


def per_class(project: Project, value: str) -> None:
    text = project.read("params.yaml").replace("per_class: false", f"per_class: {value}")
    (project.folder / "params.yaml").write_text(text)


def test_labels_are_compared_where_they_are_asked_for(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """What the new model mends are all mistakes on examples of yes."""
    mended = [row for row in range(40) if LABELS[row] == 0]
    branch(predicted, "better", LABELS, logits_of(LABELS, mended))
    per_class(predicted, "[yes]")
    differences = answer(capsys, "main")["splits"][0]["differences"]
    of_yes = {one["metric"]: one for one in differences if one["label"] == "yes"}
    assert [(one["metric"], one["label"]) for one in differences[:3]] == [
        ("accuracy", None),
        ("f1", None),
        ("loss", None),
    ]
    assert list(of_yes) == ["precision", "recall", "f1"] and len(differences) == 6
    right = (LABELS == 1) & (np.arange(200) >= 40)
    assert of_yes["recall"]["old"] == pytest.approx(right.sum() / (LABELS == 1).sum())
    assert of_yes["recall"]["new"] == 1.0 and of_yes["recall"]["verdict"] == "better"
    assert of_yes["recall"]["low"] > 0 and not of_yes["recall"]["primary"]
    assert of_yes["f1"] | {"label": None, "primary": False} == differences[1]  # of two labels it is that of the second
    (predicted.folder / "params.yaml").write_text(predicted.read("params.yaml").replace("[yes]", "true"))
    assert compare.main(["main", "--margin", "recall=0.02"]) == 0
    out = capsys.readouterr().out
    assert "recall of no " in out and "recall of yes " in out and "f1 of no " in out


def test_a_label_to_compare_that_is_not_there_is_one_line(
    predicted: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    branch(predicted, "better", LABELS, logits_of(LABELS, range(10)))
    per_class(predicted, "[maybe]")
    expected = "params.yaml: evaluate.per_class: no label 'maybe'; the labels are no, yes"
    assert expected in refusal(capsys, "main", "better")


def test_a_logit_that_is_not_finite_is_refused(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """Of one NaN the loss is NaN, every comparison with it is false, and "not equal" was taken for "better"."""
    for row, number in ((4, np.nan), (5, np.inf)):
        logits = logits_of(LABELS, range(40))
        logits[row, 0] = number
        predicted.run("git", "checkout", "--quiet", "main")
        branch(predicted, f"broken-{row}", LABELS, logits)
        expected = f"workspace: validation: non-finite logits in row {row + 1}; the training diverged"
        assert expected in refusal(capsys, "main")


def test_it_is_said_which_examples_two_different_words_come_from(
    predicted: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    """Five flips tell no accuracies apart; the loss is better as the other answers are surer, too."""
    logits = logits_of(LABELS, range(35))
    right = logits.argmax(axis=1) == LABELS
    logits[right] *= np.float32(1.05)
    branch(predicted, "surer", LABELS, logits)
    (split,) = answer(capsys, "main")["splits"]
    words = {one["metric"]: one["verdict"] for one in split["differences"]}
    assert words["accuracy"] == "cannot be told apart" and words["loss"] == "better"
    share = 100 * split["loss_from_flips"]
    assert 50 < share < 99
    assert compare.main(["main"]) == 0
    expected = (
        f"the verdicts on accuracy and loss differ: {share:.0f} % of the change in loss comes from the 5 examples "
        "that flipped, and the other metrics depend only on these"
    )
    assert expected in capsys.readouterr().out


def test_what_speaks_against_the_scores_of_both_is_repeated(
    predicted: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    warn(predicted, "validation", "the epoch was chosen as the best of 3 by its accuracy here")
    branch(predicted, "other", LABELS, logits_of(LABELS, range(10)))
    warn(predicted, "validation", "7 of the split's 200 examples are in train too")
    lines = ["main: validation: the epoch was chosen as the best of 3 by its accuracy here"]
    lines += ["workspace: validation: 7 of the split's 200 examples are in train too"]
    assert answer(capsys, "main")["warnings"] == lines
    for option in ([], ["--markdown"]):
        assert compare.main(["main", *option]) == 0
        out = capsys.readouterr().out.splitlines()
        assert len(out) > 2 and all("warning: " in line for line in out[-2:])


@pytest.mark.parametrize("correct", [12, 190])
def test_a_loss_of_few_mistakes_has_no_interval_and_is_not_equivalent(
    predicted: Project, capsys: pytest.CaptureFixture[str], correct: int
) -> None:
    labels = LABELS[: correct + 2]
    make(predicted, labels, logits_of(labels, range(2)))
    branch(predicted, "other", labels, logits_of(labels, range(2)) * np.float32(1.001))
    (split,) = answer(capsys, "main")["splits"]
    loss = split["differences"][-1]
    assert (loss["low"], loss["high"], loss["detectable"]) == (None, None, None)
    assert loss["withheld"] == "2 wrong answers carry the loss; its interval takes 20"
    assert not loss["verdict"].startswith("equivalent")
    assert compare.main(["main"]) == 0
    out = capsys.readouterr().out
    assert "no interval for loss: 2 wrong answers carry the loss" in out and " withheld " in out


def test_equal_predictions_on_few_of_a_class_are_not_equivalent_by_f1(
    predicted: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    """1,000 rows, 10 positives: three in ten of new positives may flip, and F1 with them; the accuracy may not move."""
    labels = (np.arange(1000) % 100 == 0).astype(np.int64)
    logits = logits_of(labels, range(1, 60))
    make(predicted, labels, logits)
    branch(predicted, "same", labels, 2 * logits)
    accuracy, f1, _ = answer(capsys, "main", "--margin", "0.01")["splits"][0]["differences"]
    assert accuracy["verdict"] == "equivalent within 0.01"
    assert f1["verdict"] == "cannot be told apart" and f1["low"] < -0.02


@pytest.mark.parametrize("margin", ["nan", "-1", "10", "inf", "1", "much", "f1=2", "accuracy=nan"])
def test_a_margin_that_can_be_none_is_one_line(
    predicted: Project, capsys: pytest.CaptureFixture[str], margin: str
) -> None:
    branch(predicted, "other", LABELS, logits_of(LABELS, range(39)))
    assert f"--margin {margin}: " in refusal(capsys, "main", f"--margin={margin}")


def test_each_metric_may_have_its_margin(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    branch(predicted, "other", LABELS, logits_of(LABELS, range(39)))
    found = answer(capsys, "main", "--margin", "0.1", "--margin", "loss=2")["splits"][0]["differences"]
    assert [one["verdict"] for one in found] == ["equivalent within 0.1"] * 2 + ["equivalent within 2"]
    assert "--margin pearson: must be for one of accuracy, f1, loss" in refusal(capsys, "main", "--margin=pearson=0.1")
    assert "no metric 'f2'; known are accuracy, f1, " in refusal(capsys, "main", "--margin=f2=0.1")


def test_the_level_of_the_test_is_not_the_intervals_of_evaluate(
    predicted: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    text = predicted.read("params.yaml").replace("confidence: 0.95", "confidence: 0.5")
    (predicted.folder / "params.yaml").write_text(text)
    predicted.commit("narrow intervals")
    branch(predicted, "other", LABELS, logits_of(LABELS, range(32)))
    usual = answer(capsys, "main")["splits"][0]["differences"][0]
    assert usual["verdict"] == "better" and usual["low"] == pytest.approx(0.0204, abs=1e-4)
    strict = answer(capsys, "main", "--alpha", "0.01")["splits"][0]["differences"][0]
    assert strict["verdict"] == "cannot be told apart" and strict["low"] < usual["low"]
    for alpha in ("0", "nan", "1"):
        assert f"--alpha {alpha}: must be above 0 and below 0.5" in refusal(capsys, "main", "--alpha", alpha)


def test_a_reader_that_has_gone_ends_it_without_a_word(predicted: Project) -> None:
    branch(predicted, "better", LABELS, logits_of(LABELS, range(10)))
    command = [sys.executable, "-m", "checks.compare", "main"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=predicted.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout is not None and running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == b""
    assert running.returncode == 128 + signal.SIGPIPE


def test_flips_are_listed_with_their_texts_surest_first(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    branch(predicted, "other", LABELS, logits_of(LABELS, [*range(38), 198, 199]))
    flipped = answer(capsys, "main", "--flips", "3")["splits"][0]["flipped"]
    assert [flip["row"] for flip in flipped] == [200, 199, 40]
    assert flipped[0]["kind"] == "right -> wrong" and flipped[2]["kind"] == "wrong -> right"
    assert (flipped[0]["text"], flipped[0]["text_pair"]) == ("text 200", "the pair of text 200")
    assert flipped[0]["label"] == flipped[0]["old"] != flipped[0]["new"]
    assert flipped[0]["confidence"] == pytest.approx(1 / (1 + np.exp(-3.0)), abs=1e-6)
    assert compare.main(["main", "--flips", "1"]) == 0
    assert "row 200: right -> wrong, label" in capsys.readouterr().out


def test_markdown_is_a_table_and_text_cannot_break_it(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    texts = [f"a | b <b>\n{row}" for row in range(200)]
    make(predicted, LABELS, logits_of(LABELS, range(40)), texts)
    branch(predicted, "other", LABELS, logits_of(LABELS, range(41)), texts=texts)
    assert compare.main(["main", "--markdown", "--flips", "1"]) == 0
    out = capsys.readouterr().out
    assert (
        "| metric |  | old | new | difference | 95 % interval | p | p (Holm) | detectable | verdict |\n| --- |" in out
    )
    assert "a \\| b \\<b\\> 40" in out and out.splitlines()[-1].count(" | ") == 6


def test_a_text_cannot_decorate_a_pull_request(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    text = r"a \| b ![x](http://x) @octocat `code` &lt; <img>"
    make(predicted, LABELS, logits_of(LABELS, range(40)), [text] * 200, label_names=["@no", "y|es"])
    branch(predicted, "other", LABELS, logits_of(LABELS, range(41)), texts=[text] * 200, label_names=["@no", "y|es"])
    per_class(predicted, "true")
    assert compare.main(["main", "--markdown", "--flips", "1"]) == 0
    out = capsys.readouterr().out
    assert r"| precision of y\|es | secondary |" in out and "@no |" not in out
    row = out.splitlines()[-1]
    assert r"a \\\| b \!\[x\]\(http://x\) @&#8203;octocat \`code\` \&lt; \<img\><br>" in row
    assert r" | @&#8203;no | @&#8203;no | y\|es | " in row


def test_a_text_cannot_steer_the_terminal(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    texts = ["\x1b[2J red \x9b31m\r\nnext\u2028line é"] * 200
    names = ["\x1bno", "yes"]
    make(predicted, LABELS, logits_of(LABELS, range(40)), texts, label_names=names)
    branch(predicted, "other", LABELS, logits_of(LABELS, range(41)), texts=texts, label_names=names)
    assert compare.main(["main", "--flips", "1"]) == 0
    out = capsys.readouterr().out
    assert r"    \x1b[2J red \x9b31m\r\nnext\u2028line é" in out and r"label \x1bno" in out
    assert not set(out) & set("\x1b\x9b\r\u2028")


def test_equal_predictions_say_what_they_leave_open(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    branch(predicted, "same", LABELS, 2 * logits_of(LABELS, range(40)))
    assert compare.main(["main"]) == 0
    out = capsys.readouterr().out
    rows = {line.split()[0]: line for line in out.splitlines() if line.startswith(("accuracy", "f1"))}
    assert all(row.endswith("  cannot be told apart") for row in rows.values()) and len(rows) == 2
    assert "  +0.0000  " in rows["accuracy"] and "  [-0.0188, +0.0188]  " in rows["accuracy"]  # Tango's, of no flips
    assert "McNemar's exact test: p = 1" in out
    assert "no prediction flipped; on new examples, up to 1.5 % may flip" in out  # 3 / 200


@pytest.mark.parametrize("problem", ["regression", "multi_label_classification"])
def test_other_problems_compare_too(predicted: Project, capsys: pytest.CaptureFixture[str], problem: str) -> None:
    numbers = problem == "regression"
    metrics = ["pearson", "spearmanr", "mean_squared_error"] if numbers else ["f1_macro", "accuracy"]
    task = {"problem_type": problem, "metrics": metrics, "label_names": [] if numbers else ["no", "yes"]}
    labels = labels_of(200, **task)
    noise = np.random.default_rng(1).normal(size=(200, 1)).astype(np.float32)
    one, two = (
        (labels[:, None] + noise, labels[:, None] + 0.5 * noise)
        if numbers
        else (logits_of(labels, range(40)), logits_of(labels, range(10)))
    )
    make(predicted, labels, one, **task)
    branch(predicted, "better", labels, two, **task)
    (split,) = answer(capsys, "main", "--flips", "2")["splits"]
    assert {one["metric"]: one["verdict"] for one in split["differences"]} == dict.fromkeys(
        [*metrics, "loss"], "better"
    )
    assert split["flips"] == (None if numbers else {"wrong -> right": 30, "right -> wrong": 0, "wrong -> wrong": 0})
    assert len(split["flipped"]) == (0 if numbers else 2)


def test_what_cannot_be_compared_is_one_line(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    logits = logits_of(LABELS, range(40))
    assert "no revision 'nope' in this repository" in refusal(capsys, "nope")
    cases: dict[str, tuple[tuple[np.ndarray, np.ndarray], dict[str, Any], str]] = {
        "fewer": ((LABELS[:150], logits[:150]), {}, "validation: 200 examples in main and 150 in workspace"),
        "labels": ((1 - LABELS, logits), {}, "main and workspace have different labels, first in row 1"),
        "texts": (
            (LABELS, logits),
            {"texts": ["text 1", *(f"other {row}" for row in range(199))]},
            "main and workspace have different texts, first in row 2",
        ),
        "names": ((LABELS, logits), {"label_names": ["a", "b"]}, "main and workspace have different tasks"),
    }
    for name, (arrays, more, line) in cases.items():
        predicted.run("git", "checkout", "--quiet", "main")
        branch(predicted, name, *arrays, **more)
        assert line in refusal(capsys, "main"), name
    for name, labels, line in (
        ("few", LABELS[:9], "9 examples are too few to compare by; 10 are the least"),
        ("one", np.ones(50, dtype=np.int64), "all examples have the same label"),
    ):
        predicted.run("git", "checkout", "--quiet", "main")
        branch(predicted, name, labels, logits_of(labels, []))
        predicted.run("git", "commit", "--quiet", "--allow-empty", "--message", "again")
        assert line in refusal(capsys, f"{name}~1"), name


def test_other_splits_and_broken_files_are_one_line(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    predicted.run("git", "checkout", "--quiet", "-b", "tested")
    (predicted.folder / "made/predictions/validation").rename(predicted.folder / "made/predictions/test")
    repro(predicted)
    predicted.commit("another split")
    expected = "no split in common: main predicted validation and workspace predicted test"
    assert expected in refusal(capsys, "main")
    (predicted.folder / "params.yaml").write_text("evaluate: [")
    assert "params.yaml" in refusal(capsys, "main")
    predicted.run("git", "checkout", "--quiet", "params.yaml")
    (predicted.folder / "dvc.lock").write_text("[]")
    predicted.commit("a broken lock")
    assert "tested: dvc.lock is broken" in refusal(capsys, "main", "tested")


def test_data_that_changed_since_are_warned_of(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    branch(predicted, "better", LABELS, logits_of(LABELS, range(10)))
    (predicted.folder / "made/raw/more.csv").write_text("a row\n")
    assert compare.main(["main"]) == 0
    assert capsys.readouterr().err == "compare: warning: made/raw/more.csv: added: run `dvc repro` first\n"


def test_a_revision_without_lock_or_stage_is_one_line(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    predicted.run("git", "checkout", "--quiet", "-b", "bare")
    lock = predicted.read("dvc.lock")
    (predicted.folder / "dvc.lock").write_text(lock[: lock.index("  predict:")])
    predicted.commit("no predictions")
    assert "bare: no stage in its dvc.lock makes data/predictions" in refusal(capsys, "bare", "main")
    (predicted.folder / "dvc.lock").unlink()
    predicted.commit("no lock")
    assert "bare: no dvc.lock; run `dvc repro` there and commit it" in refusal(capsys, "bare", "main")


def test_what_is_only_in_the_remote_is_fetched_and_what_is_nowhere_is_said(
    predicted: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    branch(predicted, "better", LABELS, logits_of(LABELS, range(10)))
    remote, cache = predicted.folder.parent / "remote", predicted.folder / ".dvc" / "cache"
    predicted.run("dvc", "remote", "add", "--default", "storage", str(remote))
    for name in ("better", "main"):
        predicted.run("git", "checkout", "--quiet", name)
        predicted.run("dvc", "push")
    shutil.rmtree(cache)
    assert answer(capsys, "main", "better")["splits"][0]["differences"][0]["verdict"] == "better"
    shutil.rmtree(cache)
    shutil.rmtree(remote)
    assert "better: data/raw is neither in the cache nor in a remote" in refusal(capsys, "main", "better")
    predicted.run("dvc", "remote", "remove", "storage")
    assert "neither in the cache nor in a remote; run `git checkout better`" in refusal(capsys, "main", "better")


def test_a_margin_may_be_set(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    branch(predicted, "other", LABELS, logits_of(LABELS, range(39)))
    assert (
        answer(capsys, "main", "--margin", "0.1")["splits"][0]["differences"][0]["verdict"] == "equivalent within 0.1"
    )


def test_it_is_said_how_many_models_a_split_was_scored_for(
    predicted: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    branch(predicted, "better", LABELS, logits_of(LABELS, range(30, 50)))
    branch(predicted, "third", LABELS, logits_of(LABELS, range(60)))
    assert compare.main(["main", "better"]) == 0
    assert "\nvalidation has been used to score 3 models (in Git and DVC's experiments)\n" in capsys.readouterr().out
    assert answer(capsys, "main", "better")["looks"] == {"validation": 3}


def test_examples_of_one_group_are_drawn_and_swapped_together(
    predicted: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twelve examples gained, all of one author: as single examples they tell the models apart, as one group not."""
    groups = [f"author {row // 12}" for row in range(200)]
    branch(predicted, "alone", LABELS, logits_of(LABELS, range(12, 40)))
    branch(predicted, "grouped", LABELS, logits_of(LABELS, range(12, 40)), groups=groups)
    alone, together = (answer(capsys, "main", new)["splits"][0] for new in ("alone", "grouped"))
    assert (alone["groups"], together["groups"]) == (None, 17)
    assert alone["differences"][0]["verdict"] == "better" and alone["p_value"] < 0.001
    assert together["differences"][0]["verdict"] == "cannot be told apart" and together["p_value"] is None
    assert together["differences"][0]["p_value"] == pytest.approx(1.0)
    assert together["differences"][1]["withheld"] == "17 groups; an interval takes 20"
    assert compare.main(["main", "grouped"]) == 0
    assert "the examples come in 17 groups, which are resampled and swapped as a whole" in capsys.readouterr().out


@pytest.mark.exhaustive
@pytest.mark.parametrize("case", compare_scale.CASES, ids=lambda case: case.name)
def test_what_the_benchmark_compares_can_be_compared(tmp_path: Path, case: compare_scale.Case) -> None:
    small = replace(case, rows=600)
    compare_scale.make(str(tmp_path), small)
    run = compare_scale.compare(tmp_path, small)
    assert run["processor_seconds"] > 0 and 0 < run["peak_mib"] < compare_scale.MOST_MIB


def test_a_flip_has_the_id_of_its_row(predicted: Project) -> None:
    labels = labels_of(200)
    pair = PairedPredictions(Task(**TASK), labels, logits_of(labels, range(40)), logits_of(labels, range(38)))
    rows: list[tuple[str, str | None]] = [(f"text {row}", None) for row in range(200)]
    flips = list_flips(pair, rows, 1, [f"r{row}" for row in range(200)])
    assert (flips[0].row, flips[0].id, compare.row_of(flips[0])) == (40, "r39", "row 40 (id r39)")
    assert list_flips(pair, rows, 1)[0].id is None
