"""checks.leaderboard: who is best, who may be as good, and no more words than the examples bear out."""

import json
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from checks import leaderboard
from checks.board import BEST, TIED, WORSE, Board, Entry, draw_boards
from checks.dvc_internals import experiment_name
from stages.shared.statistics.paired import holm
from stages.shared.statistics.swaps import mcnemar
from tests.predictions import branch, labels_of, logits_of, make
from tests.project import Project

LABELS = labels_of(200)


@pytest.fixture(scope="module")
def ranked_once(predicted_once: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with main (160 of 200 right), far (110), an experiment (166) and a branch with fewer examples."""
    folder = tmp_path_factory.mktemp("ranked") / "project"
    shutil.copytree(predicted_once.folder, folder)
    project = Project(folder)
    for name, wrong in (("far", range(90)), ("experiment", range(34))):
        branch(project, name, LABELS, logits_of(LABELS, wrong))
        project.run("git", "checkout", "--quiet", "main")
    baseline, commit = (project.run("git", "rev-parse", name).stdout.strip() for name in ("main", "experiment"))
    project.run("git", "update-ref", f"refs/exps/{baseline[:2]}/{baseline[2:]}/lucky-seed", commit)
    project.run("git", "update-ref", "refs/exps/exec/EXEC_BASELINE", baseline)
    project.run("git", "branch", "--quiet", "-D", "experiment")
    project.run("git", "branch", "--quiet", "twin", "main")
    branch(project, "other", LABELS[:50], logits_of(LABELS[:50], range(5)))
    project.run("git", "checkout", "--quiet", "main")
    shutil.rmtree(project.folder / "data")
    return project


@pytest.fixture
def ranked(ranked_once: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.chdir(ranked_once.folder)
    before = {file.name for file in ranked_once.folder.iterdir()}
    yield ranked_once
    assert {file.name for file in ranked_once.folder.iterdir()} == before  # nothing is checked out, and nothing runs


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert leaderboard.main([*arguments, "--json"]) == 0, capsys.readouterr().err
    return dict(json.loads(capsys.readouterr().out))


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert leaderboard.main(arguments) == 2
    out, error = capsys.readouterr()
    assert out == "" and error.startswith("leaderboard: ") and error.count("\n") == 1
    return error


def test_branches_and_experiments_are_ranked_and_held_to_the_best(
    ranked: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answer(capsys)
    (board,) = found["boards"]
    assert (board["split"], board["examples"], board["metric"]) == ("validation", 200, "accuracy")
    assert [(one["revision"], one["score"], one["verdict"]) for one in board["entries"]] == [
        ("lucky-seed", 0.83, BEST),
        ("main, twin", 0.8, TIED),
        ("far", 0.55, WORSE),
    ]
    best, main, far = board["entries"]
    assert best["p_value"] is None and best["difference"] == 0.0
    assert main["p_value"] == pytest.approx(mcnemar(0, 6))
    assert main["p_holm"] == pytest.approx(2 * mcnemar(0, 6))  # the second of the three pairs of three models
    assert far["difference"] == pytest.approx(-0.28) and far["difference_high"] < 0
    assert all(one["low"] < one["score"] < one["high"] for one in board["entries"])
    (line,) = found["left_out"]
    assert (
        line.startswith("other: validation: 200 examples in main, twin and 50 in other")
        and "scores on different examples cannot be compared" in line
    )


def test_named_revisions_are_ranked_by_a_named_metric(ranked: Project, capsys: pytest.CaptureFixture[str]) -> None:
    (board,) = answer(capsys, "far", "lucky-seed", "main", "--metric", "loss")["boards"]
    losses = [one["score"] for one in board["entries"]]
    assert losses == sorted(losses) and [one["revision"] for one in board["entries"]] == ["lucky-seed", "main", "far"]
    assert board["entries"][0]["verdict"] == BEST and board["entries"][2]["verdict"] == WORSE
    (board,) = answer(capsys, "far", "lucky-seed", "--metric", "f1")["boards"]
    assert [one["revision"] for one in board["entries"]] == ["lucky-seed", "far"]


def test_the_answer_has_four_forms_and_a_picture(
    ranked: Project, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert leaderboard.main(["far", "main", "--svg", str(tmp_path / "board.svg")]) == 0
    text = capsys.readouterr().out
    assert text.startswith("validation, 200 examples, by accuracy\n")
    assert "1  main" in text and "worse" in text and "0 of the other 1 cannot be told apart from the best" in text
    assert leaderboard.main(["far", "main", "--markdown"]) == 0
    assert "| 1 | main |  | 0.8000 |" in capsys.readouterr().out
    assert leaderboard.main(["far", "main", "--latex"]) == 0
    latex = capsys.readouterr().out
    assert r"\toprule" in latex and "$0.8000$" in latex and r"95 \% interval" in latex
    root = ET.fromstring((tmp_path / "board.svg").read_text())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    said = " ".join(root.itertext())
    assert "main 0.8000 (best), far 0.5500 (worse)" in said and "accuracy with 95 % interval" in said


def test_what_cannot_be_ranked_is_said_in_one_line(
    ranked: Project, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert "no revision 'nobody'" in refusal(capsys, "main", "nobody")
    assert "1 model to rank, and it takes two" in refusal(capsys, "main")
    assert "--metric recall: must be one of accuracy, f1, loss" in refusal(capsys, "main", "far", "--metric", "recall")
    assert "200 examples in main and 50 in other" in refusal(capsys, "main", "other")
    assert "--alpha 1: must be above 0" in refusal(capsys, "main", "far", "--alpha", "1")
    nowhere = tmp_path / "nowhere" / "board.svg"
    assert f"--svg {nowhere}: no folder" in refusal(capsys, "main", "far", "--svg", str(nowhere))


def test_the_parameters_in_which_models_differ_are_shown(
    predicted: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    predicted.run("git", "checkout", "--quiet", "-b", "faster")
    predicted.set(train__learning_rate=0.001)
    make(predicted, LABELS, logits_of(LABELS, range(39)))
    (board,) = answer(capsys, "main", "faster")["boards"]
    changes = {one["revision"]: one["changes"] for one in board["entries"]}
    assert changes == {"main": "train.learning_rate=0.0001", "faster": "train.learning_rate=0.001"}


def test_the_queues_of_dvc_are_no_experiments() -> None:
    assert experiment_name(f"refs/exps/ab/{'0' * 38}/exp-1") == "exp-1"
    for ref in ("refs/exps/stash", "refs/exps/exec/EXEC_HEAD", "refs/exps/celery/stash", "refs/heads/main"):
        assert experiment_name(ref) is None


def test_of_equal_models_seldom_one_is_called_worse() -> None:
    """Eight models whose answers are coins. To correct for the comparisons with the best alone would not be enough."""
    models, examples, alpha, samples = 8, 200, 0.05, 1000
    generator = np.random.default_rng(0)
    pairs, alarms, naive = models * (models - 1) // 2, 0, 0
    for _ in range(samples):
        right = generator.random((models, examples)) < 0.7
        best = int(right.sum(axis=1).argmax())
        p_values = [
            mcnemar(int((right[i] & ~right[best]).sum()), int((right[best] & ~right[i]).sum()))
            for i in range(models)
            if i != best
        ]
        entries = [entry("best", None)] + [entry("other", p_value) for p_value in p_values]
        (board,) = leaderboard.corrected([Board("s", examples, None, "accuracy", entries)], pairs, alpha)
        alarms += any(one.verdict == WORSE for one in board.entries)
        naive += min(holm(p_values)) < alpha
    assert alarms / samples <= alpha < naive / samples


def entry(name: str, p_value: float | None, score: float = 0.5) -> Entry:
    """One whose interval would let a difference pass."""
    return Entry(name, "", score, 0.4, 0.6, -0.1, -0.2, -0.05, p_value, None, BEST)


def test_a_difference_whose_interval_holds_zero_is_none() -> None:
    tied = Entry("a", "", 0.5, 0.4, 0.6, -0.1, -0.2, 0.0, 1e-9, None, BEST)
    withheld = Entry("b", "", 0.5, None, None, -0.1, None, None, 1e-9, None, BEST)
    board = Board("s", 9, None, "f1", [entry("best", None), tied, withheld])
    assert [one.verdict for one in leaderboard.corrected([board], 3, 0.05)[0].entries] == [BEST, TIED, WORSE]


def test_a_name_of_the_repository_is_no_markup_in_the_picture() -> None:
    hostile = "<script>&" + "x" * 60
    root = ET.fromstring(draw_boards([Board("<s>", 9, None, "f1", [entry(hostile, None), entry("b", 0.5)])], 0.05))
    assert "<script>&x" in " ".join(root.itertext())
    assert not [node for node in root.iter() if node.tag.endswith("script")]
