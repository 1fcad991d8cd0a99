"""checks.folds: every row is predicted by a model that did not see it, and what that says has an honest interval."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from checks import folds
from checks.cli import Unanswerable
from checks.folds import corrected_interval, cross_validate, write_predictions
from checks.out_of_fold import OutOfFold, own_changes, put_together
from stages.shared.statistics.params import EvaluateParams
from stages.shared.task.task import Task
from tests.predictions import TASK
from tests.project import PROGRAMS, Project, copy_project
from tests.tiny import wordpieces

NO_CHANGE = "expected section.key=value, and download.fold comes from --k"
P = EvaluateParams(splits=["validation"], metrics=[], confidence=0.95, resamples=500, seed=0, per_class=False)


class Run:
    """A finished fold whose files are given."""

    def __init__(
        self, folder: Path, number: int, idx: Sequence[int], predicted: int | None = None, **task: Any
    ) -> None:
        self.name, self.folder = f"fold-{number}-of-2-0", folder / str(number)
        self.folder.mkdir(parents=True)
        labels = np.array([one % 2 for one in idx])
        columns = {
            "text": [f"text {one}" for one in idx],
            "label": labels,
            "idx": pa.array(idx, pa.int32()),
            "group": [f"g{one // 4}" for one in idx],
        }
        table = pa.table(columns)
        with pa.ipc.new_stream(self.folder / "rows.arrow", table.schema) as stream:
            stream.write_table(table)
        (self.folder / "task.json").write_text(json.dumps(TASK | task))
        np.save(self.folder / "labels.npy", labels[:predicted])
        logits = np.stack([-labels, labels + np.array(idx)], axis=1).astype(np.float32)
        np.save(self.folder / "logits.npy", logits[:predicted])

    def files(self, out: str) -> dict[str, Path]:
        if out == "data/raw":
            return {"task.json": self.folder / "task.json", "validation/data-0.arrow": self.folder / "rows.arrow"}
        return {f"validation/{name}.npy": self.folder / f"{name}.npy" for name in ("labels", "logits")}


def test_the_folds_are_put_into_the_order_of_train(tmp_path: Path) -> None:
    found = put_together([Run(tmp_path, 1, [0, 3, 5]), Run(tmp_path, 2, [1, 2, 7])])  # type: ignore[list-item]
    assert found.idx.tolist() == [0, 1, 2, 3, 5, 7] and found.fold.tolist() == [0, 1, 1, 0, 0, 1]
    assert found.labels.tolist() == [0, 1, 0, 1, 1, 1]
    assert (found.logits[:, 1] - found.labels).tolist() == found.idx.tolist()
    assert found.rows["text"].to_pylist() == [f"text {one}" for one in found.idx]
    assert found.groups is not None and found.groups.tolist() == [0, 0, 0, 0, 1, 1]
    assert (found.folds, found.left_out) == (2, 0)
    runs = [Run(tmp_path / "again", 1, [0, 3, 5]), Run(tmp_path / "again", 2, [1, 2, 7])]
    without_texts = put_together(runs, ["idx", "group"])
    assert without_texts.rows.column_names == ["idx", "group"]
    assert without_texts.rows.equals(found.rows.select(["idx", "group"]))


def test_rows_that_were_not_predicted_are_counted_and_twice_the_same_row_is_refused(tmp_path: Path) -> None:
    found = put_together([Run(tmp_path, 1, [0, 3, 5], predicted=2), Run(tmp_path, 2, [1, 2, 7])])  # type: ignore[list-item]
    assert found.idx.tolist() == [0, 1, 2, 3, 7] and found.left_out == 1
    with pytest.raises(Unanswerable, match="a row is in two folds"):
        put_together([Run(tmp_path, 3, [0, 1]), Run(tmp_path, 4, [1, 2])])  # type: ignore[list-item]
    with pytest.raises(Unanswerable, match="the folds have different labels"):
        put_together([Run(tmp_path, 5, [0]), Run(tmp_path, 6, [1], label_names=["a", "b"])])  # type: ignore[list-item]


def test_no_fold_chooses_the_epoch_that_it_is_scored_by() -> None:
    train: dict[str, Any] = {"keep": "last", "early_stopping_patience": None}
    params = {"train": train, "calibrate": {"split": "validation"}}
    assert own_changes(params) == ["evaluate.splits=[validation]"]
    params = {"train": {"keep": "best", "early_stopping_patience": 2}, "calibrate": {"split": "validation_matched"}}
    assert own_changes(params) == [
        "evaluate.splits=[validation]",
        "calibrate.split=validation",
        "train.keep=last",
        "train.early_stopping_patience=null",
    ]


def made(rows: int = 200, right: float = 0.8, count: int = 5) -> OutOfFold:
    draws = np.random.default_rng(1)
    labels = draws.integers(0, 2, rows)
    said = np.where(draws.random(rows) < right, labels, 1 - labels)
    logits = np.stack([1 - said, said], axis=1).astype(np.float32) * 3
    fold = np.arange(rows) % count
    names = [f"fold-{number}-of-{count}-0" for number in range(1, count + 1)]
    return OutOfFold(
        Task(**TASK),
        names,
        fold,
        np.arange(rows, dtype=np.int32),
        labels,
        logits,
        None,
        pa.table({}),
        0,
    )


def test_the_score_of_all_rows_is_that_of_the_pooled_predictions() -> None:
    found = made()
    scores, notes = cross_validate(found, P)
    accuracy = next(one for one in scores if one.metric == "accuracy")
    right = found.logits.argmax(axis=1) == found.labels
    assert accuracy.value == pytest.approx(right.mean())
    assert accuracy.of_folds == pytest.approx([right[found.fold == fold].mean() for fold in range(5)])
    assert accuracy.deviation == pytest.approx(np.std(accuracy.of_folds, ddof=1))
    assert accuracy.low is not None and accuracy.low < accuracy.value < (accuracy.high or 0)
    assert [one.metric for one in scores] == ["accuracy", "f1", "loss"] and notes == []
    two, _ = cross_validate(made(count=2), P)
    assert two[0].recipe_low is None and two[0].low is not None


def test_the_interval_of_the_recipe_is_the_corrected_one_of_nadeau_and_bengio() -> None:
    values = np.array([0.70, 0.74, 0.78, 0.72, 0.76])
    low, high = corrected_interval(values, "accuracy", 0.95)
    error = np.sqrt((1 / 5 + 1 / 4) * values.var(ddof=1))
    assert (low, high) == pytest.approx((0.74 - 2.776445 * error, 0.74 + 2.776445 * error), abs=1e-6)
    assert corrected_interval(np.array([0.9, 1.0, 0.95]), "accuracy", 0.95)[1] == 1.0  # where the metric ends
    assert corrected_interval(np.array([0.1, 0.9, 0.2]), "loss", 0.95)[0] == 0.0


def test_a_label_that_is_in_one_fold_alone_is_named() -> None:
    found = made(20)
    found.labels[:] = 0
    found.labels[[3, 8]] = 1  # both in the fold 3
    _, notes = cross_validate(found, P)
    assert notes == ["all rows of 'yes' are in one fold, whose model never saw that label"]


def test_the_interval_of_the_recipe_holds_what_it_promises() -> None:
    """Worlds in which a training has luck of its own: an interval of the pooled rows alone would be too narrow."""
    draws = np.random.default_rng(0)
    held = pooled = 0
    for _ in range(400):
        accuracies = 0.8 + draws.normal(0, 0.06, 5)  # what the training brings, besides the rows
        rows = draws.random((5, 40)) < accuracies[:, None]
        low, high = corrected_interval(rows.mean(axis=1), "accuracy", 0.95)
        held += low <= 0.8 <= high
        reach = 1.96 * np.sqrt(rows.mean() * (1 - rows.mean()) / rows.size)
        pooled += abs(rows.mean() - 0.8) <= reach
    assert held / 400 > 0.93 > pooled / 400


def test_everything_is_printed_in_every_form() -> None:
    scores, notes = cross_validate(made(), P)
    answer = folds.CrossValidation(made().experiments, 200, 25, [40] * 5, 0.95, scores, [*notes, "a note"], "a.npz")
    text = folds.as_text(answer)
    assert text.startswith("200 rows of train in 25 groups, in 5 folds\n")
    assert re.search(r"^metric +all rows +95 %, these models +mean of folds +deviation +95 %, the recipe$", text, re.M)
    assert re.search(r"^rows +40 +40 +40 +40 +40$", text, re.M)
    assert text.endswith("a note\nthe predictions of all folds: a.npz")
    assert "| rows | 40 |" in folds.as_markdown(answer) and r"\begin{tabular}" in folds.as_latex(answer)
    assert json.loads(folds.as_json(answer))["scores"][0]["metric"] == "accuracy"
    two = folds.CrossValidation(["a", "b"], 2, None, [1, 1], 0.95, cross_validate(made(count=2), P)[0], [], "a.npz")
    assert "2 folds are too few for an interval of the recipe; the minimum is 3" in folds.as_text(two)


def test_the_predictions_are_the_same_file_twice(tmp_path: Path) -> None:
    for name in ("one.npz", "two.npz"):
        write_predictions(tmp_path / name, made())
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    stored = np.load(tmp_path / "one.npz")
    assert sorted(stored) == ["fold", "idx", "labels", "logits"]
    assert stored["logits"].dtype == np.float32 and stored["idx"].tolist() == list(range(200))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--k", "1"], "--k 1: must be at least 2"),
        (["--out", "nowhere/a.npz"], "--out nowhere/a.npz: no folder nowhere; make it first"),
        (
            ["-S", "download.fold.of=3"],
            "'download.fold.of=3': " + NO_CHANGE,
        ),
        (["-S", "epochs=3"], "'epochs=3': " + NO_CHANGE),
    ],
)
def test_arguments_that_make_no_sense_are_one_line(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert folds.main(arguments) == 2
    assert capsys.readouterr() == ("", f"folds: {line}\n")


def planted_project(folder: Path, tiny_checkpoint: Path) -> tuple[Project, set[int]]:
    """Makes a project whose texts are of two kinds of words, with 5 % wrong labels; returns their rows, from 0."""
    project = copy_project(folder)
    shutil.copytree(tiny_checkpoint, folder / "data" / "tiny")
    words = sorted(word for word in wordpieces() if word.isalpha() and len(word) > 4)
    draws = np.random.default_rng(0)
    kinds = [words[::2], words[1::2]]
    true = draws.permutation(np.arange(160) % 2)
    wrong = set(draws.choice(160, 8, replace=False).tolist())
    (folder / "data" / "mine").mkdir()
    with (folder / "data" / "mine" / "train.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerow(["text", "label"])
        for row, kind in enumerate(true):
            label = kind if row not in wrong else 1 - kind
            csv.writer(stream).writerow([" ".join(draws.choice(kinds[kind], 12)), ["no", "yes"][label]])
    project.set(
        download__dataset_files="data/mine",
        download__text_column="text",
        download__text_pair_column=None,
        download__label_names=["no", "yes"],
        download__checkpoint="files",
        download__checkpoint_files="data/tiny",
        train__epochs=10,
        train__learning_rate=2e-3,
    )
    project.commit("planted")
    return project, wrong


@pytest.mark.slow
def test_a_killed_fold_goes_on_and_its_logits_find_the_planted_labels(tmp_path: Path, tiny_checkpoint: Path) -> None:
    project, wrong = planted_project(tmp_path / "project", tiny_checkpoint)
    process = subprocess.Popen(
        [sys.executable, "-m", "checks.folds", "--k", "2"],
        cwd=project.folder,
        env=os.environ | {"PATH": PROGRAMS},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    current, lines = "", []
    for line in process.stdout:
        lines.append(line)
        if running := re.search(r"(fold-\d)-of-2-\w+: running", line):
            current = running[1]
        if current == "fold-2" and line.startswith("epoch 2/10"):
            process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "".join(lines)
    done = project.run("python", "-m", "checks.folds", "--k", "2", "--json")
    assert re.findall(r"(fold-\d)-of-2-\w+: (\w+)", done.stderr) == [("fold-1", "found"), ("fold-2", "running")]
    resumed = re.search(r"train: resuming from step (\d+)", done.stderr)
    assert resumed is not None and int(resumed[1]) >= 5  # the second fold's first epoch is not trained again
    assert not list((project.folder / ".scratch" / "experiments").iterdir())
    answer = json.loads(done.stdout)
    assert (answer["rows"], answer["sizes"]) == (160, [80, 80])
    stored = np.load(project.folder / answer["file"])
    assert stored["idx"].tolist() == list(range(160)) and stored["logits"].shape == (160, 2)

    ranked = project.run("python", "-m", "checks.suspects", "--k", "2", "--all", "--out", "suspects.csv")
    assert re.findall(r"(fold-\d)-of-2-\w+: (\w+)", ranked.stderr) == [("fold-1", "found"), ("fold-2", "found")]
    with (project.folder / "suspects.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 160 and {int(row["idx"]) for row in rows} == set(range(160))
    top = {int(row["idx"]) for row in rows[:16]}
    assert len(top & wrong) >= 0.6 * len(wrong)
    # Each fold is an experiment like any other, with its own scores.
    refs = project.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").stdout.split()
    (ref,) = [one for one in refs if one.endswith(answer["experiments"][1])]
    metrics = json.loads(project.run("git", "show", f"{ref}:metrics/metrics.json").stdout)
    assert metrics["validation"]["examples"] == 80
    assert "hold_out: 2" in project.run("git", "show", f"{ref}:params.yaml").stdout
