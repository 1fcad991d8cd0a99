"""checks.learning_curve: what more rows of train bring, on the same examples, and whether that is more than chance."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from dvc.repo import Repo

from checks import learning_curve
from checks.cli import Unanswerable
from checks.curve import draw_curve
from checks.learning_curve import learning_curve as compare_shares
from checks.learning_curve import read_shares, share_experiments
from checks.revisions import Revision, find_revision
from stages.shared.statistics.params import EvaluateParams
from tests.predictions import branch, labels_of, logits_of
from tests.project import Project

P = EvaluateParams(splits=["validation"], metrics=[], confidence=0.95, resamples=2000, seed=0, per_class=False)
SHARES = [0.1, 0.3, 1.0]


@pytest.fixture
def models(predicted: Project) -> Iterator[list[Revision]]:
    """Four made models that are wrong in 90, 60, 10 and 9 of 200 rows, after 100, 300, 1,000 and 1,100 of train."""
    labels, draws = labels_of(200), np.random.default_rng(5)
    for wrong, rows in ((90, 100), (60, 300), (10, 1000), (9, 1100)):
        branch(predicted, f"rows-{rows}", labels, logits_of(labels, draws.choice(200, wrong, replace=False).tolist()))
        splits = [{"split": "train", "examples": rows}, {"split": "validation", "examples": 200}]
        (predicted.folder / "metrics" / "truncation.json").write_text(json.dumps({"splits": splits}))
        predicted.commit("truncation")
    with Repo() as repo:
        yield [find_revision(repo, f"rows-{rows}") for rows in (100, 300, 1000, 1100)]


def test_a_curve_says_whether_more_data_are_worth_labelling(models: list[Revision]) -> None:
    curve = compare_shares(models[:3], SHARES, "validation", None, P)
    accuracy = curve.of("accuracy")
    assert [(one.share, one.rows, one.value) for one in accuracy] == [
        (0.1, 100, pytest.approx(0.55)),
        (0.3, 300, pytest.approx(0.70)),
        (1.0, 1000, pytest.approx(0.95)),
    ]
    assert all(one.low is not None and one.low < one.value < (one.high or 0) for one in accuracy)
    assert [(step.share, step.larger) for step in curve.steps] == [(0.1, 0.3), (0.3, 1.0)]
    last = curve.steps[-1].differences[0]
    assert (last.metric, last.verdict) == ("accuracy", "better") and last.difference == pytest.approx(0.25)
    assert curve.sentence.startswith(
        "More data are worth labelling: from 300 to 1,000 rows, accuracy went +0.2500 (95 % interval +0."
    )
    assert curve.sentence.endswith("twice the rows bring about +0.1439.")  # 0.25 / log2(1000 / 300)
    text = learning_curve.as_text(curve)
    assert re.search(r"^0\.3 +300 +accuracy +0\.7000 +\[0\.\d{4}, 0\.\d{4}\]$", text, re.M) and curve.sentence in text
    assert "**validation, 200 examples**" in learning_curve.as_markdown(curve)
    assert json.loads(learning_curve.as_json(curve))["sentence"] == curve.sentence
    svg = draw_curve(accuracy, "validation", 0.95)
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert "0.5500 with 100 rows, 0.7000 with 300 rows, 0.9500 with 1,000 rows" in svg and ">1,000<" in svg

    flat = compare_shares(models[2:], [0.9, 1.0], "validation", "f1", P)
    assert flat.sentence.startswith("It cannot be told whether more data are worth labelling: from 1,000 to 1,100 rows")
    same = replace(flat.steps[0].differences[1], verdict="equivalent within 0.005", low=-0.001, high=0.001)
    assert learning_curve.verdict_on(flat, [same]).startswith("More data of this kind are hardly worth labelling: ")
    worse = replace(same, verdict="worse", difference=-0.1)
    assert learning_curve.verdict_on(flat, [worse]).startswith("More data of this kind did not help: ")

    with pytest.raises(Unanswerable, match=r"--shares: 0.1 and 0.3 of train are both 100 rows"):
        compare_shares([models[0], models[0]], [0.1, 0.3], "validation", None, P)
    with pytest.raises(Unanswerable, match=r"--split test: not predicted, only validation"):
        compare_shares(models, [0.1, 0.2, 0.3, 1.0], "test", None, P)
    with pytest.raises(Unanswerable, match=r"--metric recall: must be one of accuracy, f1, loss"):
        compare_shares(models, [0.1, 0.2, 0.3, 1.0], "validation", "recall", P)


def test_all_of_train_is_the_run_without_a_share() -> None:
    one, whole = share_experiments([0.25, 1.0], ["train.epochs=2"])
    assert one.changes == ["train.epochs=2", "download.train_fraction=0.25"] and one.title == "share-0.25"
    assert whole.changes == ["train.epochs=2", "download.train_fraction=null"] and whole.title == "share-1"


def test_shares_are_numbers_in_any_order() -> None:
    assert read_shares("1,0.1, 0.3") == [0.1, 0.3, 1.0]
    for text, line in (
        ("0.1,x", "--shares: expected numbers like 0.1,0.3,1, got '0.1,x'"),
        ("0,1", "--shares: each must be above 0 and at most 1, got '0,1'"),
        ("0.5,1.5", "--shares: each must be above 0 and at most 1, got '0.5,1.5'"),
        ("nan,1", "--shares: each must be above 0 and at most 1, got 'nan,1'"),
        ("0.5", "--shares: give at least two different shares, got '0.5'"),
        ("0.5,0.5", "--shares: give at least two different shares, got '0.5,0.5'"),
    ):
        with pytest.raises(Unanswerable, match=re.escape(line)):
            read_shares(text)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--shares", "2"], "--shares: each must be above 0 and at most 1, got '2'"),
        (["--svg", "nowhere/a.svg"], "--svg nowhere/a.svg: no folder nowhere; make it first"),
        (
            ["-S", "download.train_fraction=1"],
            "'download.train_fraction=1': expected section.key=value, and download.train_fraction comes from --shares",
        ),
    ],
)
def test_arguments_that_make_no_sense_are_one_line(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert learning_curve.main(arguments) == 2
    assert capsys.readouterr() == ("", f"learning_curve: {line}\n")


@pytest.mark.exhaustive
def test_two_shares_of_a_tiny_model_are_run_and_compared(tiny: Project) -> None:
    tiny.set(tokenize__max_samples=None, train__epochs=1)
    arguments = ("python", "-m", "checks.learning_curve", "--shares", "0.05,0.1", "--svg", "curve.svg", "--json")
    done = tiny.run(*arguments)
    curve = json.loads(done.stdout)
    rows = [point["rows"] for point in curve["points"] if point["metric"] == "accuracy"]
    assert 1.8 < rows[1] / rows[0] < 2.2
    assert (tiny.folder / "curve.svg").read_text(encoding="utf-8").startswith("<svg")
    again = tiny.run(*arguments)
    assert re.findall(r"(share-0\.\d+)-\w+: (\w+)", again.stderr) == [("share-0.05", "found"), ("share-0.1", "found")]
    assert again.stdout == done.stdout
