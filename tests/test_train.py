"""train: a recipe gives its bytes, interrupted or not."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, pipeline

from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.splits import load_splits, save_splits
from stages.shared.task.problem_types import PROBLEMS
from stages.shared.task.task import Task, write_task
from stages.tokenize.tokenize import TokenizeFiles, tokenize
from stages.train.callbacks import Live
from stages.train.objective import Objective
from stages.train.order import EpochSampler
from stages.train.train import TrainFiles, TrainParams, check_warm_up, train
from stages.train.trainer import ResumableTrainer
from tests.project import PARAMS
from tests.tiny import EXECUTION, make_checkpoint, tokenize_params

OUTPUTS = ("finetuned/model.safetensors", "finetuned/config.json", "epochs.npy", "history.csv", "selection.json")


class Run:
    """A training on 48 pairs of the sample with the tiny checkpoint."""

    def __init__(
        self,
        folder: Path,
        checkpoint: Path,
        rows: list[dict[str, str]] | dict[str, Dataset],
        **tokenize_changes: Any,
    ) -> None:
        self.folder, self.checkpoint = folder, checkpoint
        splits = rows if isinstance(rows, dict) else splits_of(rows)
        save_splits(splits, folder / "raw")
        names = splits["train"].features["label"].names
        write_task(
            folder / "task.json",
            Task("files", "single_label_classification", names, ["accuracy", "f1"], "files", "0"),
        )
        p = tokenize_params(**({"max_length": 48} | tokenize_changes))
        files = TokenizeFiles(folder / "raw", checkpoint, folder / "tokenized", folder / "truncation.json")
        tokenize(p, EXECUTION, files)

    def __call__(self, out: str = "out", minutes: float = 60.0, **changes: Any) -> Path:
        recipe: dict[str, Any] = {
            "seed": 1,
            "epochs": 2,
            "batch_size": 8,
            "device_batch_size": 8,
            "learning_rate": 1e-3,
            "lr_scheduler_type": "linear",
            "warmup_steps": 0.1,
            "weight_decay": 0.01,
            "max_grad_norm": 1.0,
            "arithmetic": "portable",
            "sampling": "group_by_length",
            "class_weights": None,
            "label_smoothing": 0.0,
            "keep": "last",
            "early_stopping_patience": None,
            "threads": 1,
            "processes": 1,
        }
        target = self.folder / out
        target.mkdir(exist_ok=True)
        files = TrainFiles(
            tokenized=self.folder / "tokenized",
            task=self.folder / "task.json",
            pretrained=self.checkpoint,
            finetuned=target / "finetuned",
            epochs=target / "epochs.npy",
            history=target / "history.csv",
            selection=target / "selection.json",
            environment=target / "environment.json",
            params=self.folder / "params.yaml",
            scratch=self.folder / "scratch",
        )
        train(TrainParams(**(recipe | changes)), replace(EXECUTION, checkpoint_minutes=minutes), files)
        return target


def splits_of(rows: list[dict[str, str]]) -> dict[str, Dataset]:
    """Makes 36 pairs train, and the others validation."""
    features = Features(
        {
            "text": Value("string"),
            "text_pair": Value("string"),
            "label": ClassLabel(names=["not_equivalent", "equivalent"]),
            "idx": Value("int32"),
        }
    )
    columns = {
        "text": [row["sentence1"] for row in rows],
        "text_pair": [row["sentence2"] for row in rows],
        "label": [int(row["label"]) for row in rows],
        "idx": list(range(len(rows))),
    }
    data = Dataset.from_dict(columns, features=features)
    return {"train": data.select(range(36)), "validation": data.select(range(36, 48))}


@pytest.fixture
def run(tmp_path: Path, tiny_checkpoint: Path, sample_rows: list[dict[str, str]]) -> Run:
    return Run(tmp_path, tiny_checkpoint, sample_rows)


def content(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in OUTPUTS}


def history(out: Path) -> list[dict[str, float]]:
    with (out / "history.csv").open() as stream:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]


def selection(out: Path) -> dict[str, Any]:
    (kept,) = json.loads((out / "selection.json").read_text())["selection"]
    return dict(kept)


def interrupt(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Makes the training stop dead in its n-th step, as a kill would."""
    original: Callable[..., Any] = ResumableTrainer.training_step
    steps = iter(range(1, 1000))

    def training_step(self: ResumableTrainer, *arguments: Any, **keywords: Any) -> torch.Tensor:
        if next(steps) == step:
            raise KeyboardInterrupt
        result: torch.Tensor = original(self, *arguments, **keywords)
        return result

    monkeypatch.setattr(ResumableTrainer, "training_step", training_step)


def test_the_history_has_a_row_an_epoch_with_loss_and_the_tasks_metrics(run: Run) -> None:
    rows = history(run())
    assert [(row["epoch"], row["step"]) for row in rows] == [(1, 5), (2, 10)]
    assert list(rows[0]) == ["epoch", "step", "learning_rate", "train_loss", "accuracy", "f1", "loss"]
    assert rows[-1]["learning_rate"] == 0.0


def test_what_each_epoch_predicted_is_kept_in_the_order_of_the_split(run: Run) -> None:
    """The trainer goes from the longest example to the shortest; the last epoch's model answers them one by one."""
    out = run(sampling="group_by_length", epochs=6, learning_rate=1e-2)
    rows = load_splits(run.folder / "tokenized")["validation"]
    epochs = np.load(out / "epochs.npy")
    assert (epochs.dtype, epochs.shape) == (np.uint8, (6, len(rows)))
    assert [(one == np.array(rows["label"])).mean() for one in epochs] == [row["accuracy"] for row in history(out)]
    model = AutoModelForSequenceClassification.from_pretrained(out / "finetuned").eval()
    fed = ("input_ids", "token_type_ids")
    with torch.no_grad():
        logits = [model(**{name: torch.tensor([row[name]]) for name in fed if name in row}).logits for row in rows]
    assert epochs[-1].tolist() == [int(one.argmax()) for one in logits]
    assert 0 < epochs[-1].mean() < 1  # one answer to all would be right in any order


def test_the_same_recipe_gives_the_same_bytes(run: Run) -> None:
    first = content(run("first"))
    torch.manual_seed(12345)  # what the process drew before must not matter
    assert content(run("second")) == first


@pytest.mark.parametrize("change", [{"seed": 2}, {"sampling": "random"}, {"learning_rate": 2e-3}, {"batch_size": 16}])
def test_another_recipe_gives_other_bytes(run: Run, change: dict[str, Any]) -> None:
    assert (
        content(run("other", **change))["finetuned/model.safetensors"] != content(run())["finetuned/model.safetensors"]
    )


@pytest.mark.parametrize("sampling", ["random", "group_by_length"])
@pytest.mark.parametrize("step", [2, 6, 8])  # in the first epoch, at the start of the second, in the second
def test_an_interrupted_training_ends_with_the_same_bytes(
    run: Run, monkeypatch: pytest.MonkeyPatch, sampling: str, step: int
) -> None:
    whole = content(run("whole", sampling=sampling, keep="best"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, step)
        run("resumed", minutes=1e-9, sampling=sampling, keep="best")  # a checkpoint after every step
    assert not list((run.folder / "resumed").iterdir())
    assert list((run.folder / "scratch").rglob("checkpoint-*"))
    assert content(run("resumed", sampling=sampling, keep="best")) == whole
    assert not list((run.folder / "scratch").iterdir())


def test_a_resumed_training_does_not_start_over(run: Run, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, 8)
        run(minutes=1e-9)
    capsys.readouterr()
    run()
    assert "train: resuming from step 7" in capsys.readouterr().err


def test_a_checkpoint_of_another_recipe_is_not_resumed(run: Run, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    expected = content(run("expected", learning_rate=5e-4))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, 8)
        run(minutes=1e-9)
    capsys.readouterr()
    assert content(run("other", learning_rate=5e-4)) == expected
    assert "going on" not in capsys.readouterr().err


def test_when_checkpoints_are_written_changes_no_byte(run: Run) -> None:
    assert content(run("often", minutes=1e-9)) == content(run("seldom"))


def test_checkpoints_are_pruned_to_the_last_and_the_best(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, 14)
        run(minutes=1e-9, epochs=3)
    names = {path.name for path in (run.folder / "scratch").rglob("checkpoint-*")}
    assert "checkpoint-13" in names and len(names) <= 2
    assert not list((run.folder / "scratch").rglob("partial"))


def test_accumulated_batches_are_averaged_like_whole_ones(tmp_path: Path, sample_rows: list[dict[str, str]]) -> None:
    still = make_checkpoint(tmp_path / "still", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    run = Run(tmp_path, still, sample_rows)
    # 36 rows in batches of 8: the last batch has 4, and is accumulated from one of 3 and one of 1
    whole = load_file(run("whole") / "finetuned" / "model.safetensors")
    parts = load_file(run("parts", device_batch_size=2) / "finetuned" / "model.safetensors")
    assert max(float((whole[name] - parts[name]).abs().max()) for name in whole) < 1e-4
    rows, other = history(run.folder / "whole"), history(run.folder / "parts")
    assert [row["train_loss"] for row in rows] == pytest.approx([row["train_loss"] for row in other], abs=1e-4)


@pytest.mark.parametrize(
    ("problem", "labels"),
    [
        ("single_label_classification", torch.tensor([0, 1, 1])),
        ("multi_label_classification", torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])),
        ("regression", torch.tensor([0.5, 2.0, -1.0])),
    ],
)
def test_the_loss_is_that_of_the_model_itself(problem: str, labels: torch.Tensor) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    columns = 1 if problem == "regression" else 2
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    config = BertConfig(vocab_size=9, num_labels=columns, problem_type=problem, **size)
    outputs = BertForSequenceClassification(config)(input_ids=torch.tensor([[1, 2], [3, 4], [5, 6]]), labels=labels)
    mean = Objective(PROBLEMS[problem]).losses(outputs.logits, labels).mean().item()
    assert mean == pytest.approx(outputs.loss.item(), abs=1e-6)


def test_the_best_epoch_is_kept_by_the_first_metric_and_the_first_of_equals(run: Run) -> None:
    out = run(epochs=4, keep="best")
    rows, kept = history(out), selection(out)
    best = max(row["accuracy"] for row in rows)
    assert kept["value"] == best
    assert kept["epoch"] == next(row["epoch"] for row in rows if row["accuracy"] == best)
    assert {key: kept[key] for key in ("keep", "split", "metric", "epochs_trained")} == {
        "keep": "best",
        "split": "validation",
        "metric": "accuracy",
        "epochs_trained": 4,
    }


def test_the_kept_weights_are_those_of_the_kept_epoch(run: Run) -> None:
    # a constant learning rate makes the first epoch of four the same as a run of one epoch
    steady = {"lr_scheduler_type": "constant", "warmup_steps": 0}
    out = run("best", epochs=4, keep="best", **steady)
    epoch = selection(out)["epoch"]
    alone = run("alone", epochs=epoch, keep="last", **steady)
    assert content(out)["finetuned/model.safetensors"] == content(alone)["finetuned/model.safetensors"]


def test_training_stops_when_the_patience_is_used_up(run: Run) -> None:
    out = run(
        epochs=30, learning_rate=1e-9, early_stopping_patience=2
    )  # nothing is learned: the first epoch stays best
    assert len(history(out)) == 3
    assert selection(out)["epoch"] == 3  # keep: last


def test_a_run_that_had_ended_early_is_not_trained_further(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe: dict[str, Any] = {"epochs": 30, "learning_rate": 1e-9, "early_stopping_patience": 2}
    whole = content(run("whole", **recipe))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("stages.train.resume.load_weights", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        run("resumed", **recipe)
    assert content(run("resumed", **recipe)) == whole


def test_a_kill_while_checkpoints_are_removed_leaves_none_that_is_half_there(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = content(run("whole"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("stages.shared.runtime.publish.shutil.rmtree", half_remove)
        run("resumed")
    assert content(run("resumed")) == whole


REMOVE = shutil.rmtree


def half_remove(folder: Path) -> None:
    """Removes a file of every checkpoint, then is killed."""
    if folder.name == "discarded" and folder.exists():
        for file in folder.glob("*/optimizer.pt"):
            file.unlink()
        raise KeyboardInterrupt
    REMOVE(folder)


def test_a_torn_file_of_the_loss_so_far_does_not_end_the_training(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, 8)
        run(minutes=1e-9)
    (run.folder / "live.csv").write_bytes(b"step,train_loss\n1,0.5\n,\xff")
    run()
    assert [line.partition(",")[0] for line in (run.folder / "live.csv").read_text().splitlines()] == [
        "step",
        *(str(step) for step in (8, 9, 10)),
    ]


def test_a_batch_that_does_not_divide_is_refused(run: Run) -> None:
    with pytest.raises(
        BadInput, match=r"train.device_batch_size: must divide the 8 examples that each process takes of a step"
    ):
        run(device_batch_size=3)


def test_a_training_that_diverges_says_so(run: Run) -> None:
    with pytest.raises(BadInput, match=r"the training diverged in epoch 1 .*lower train.learning_rate"):
        run(learning_rate=1e30, max_grad_norm=0.0, warmup_steps=0)


def test_bf16_trains_and_repeats(run: Run) -> None:
    assert content(run("one", arithmetic="bf16")) == content(run("two", arithmetic="bf16"))


def test_the_model_is_ready_for_pipeline_and_says_label_names(run: Run) -> None:
    classify = pipeline("text-classification", str(run() / "finetuned"))
    answer = classify({"text": "A dog ran.", "text_pair": "A dog was running."})
    assert answer["label"] in {"not_equivalent", "equivalent"}


def test_the_model_folder_holds_what_pipeline_needs_and_nothing_else(run: Run) -> None:
    names = {file.name for file in (run() / "finetuned").iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert str(run.folder) not in (run.folder / "out" / "finetuned" / "config.json").read_text()


def test_the_environment_names_versions_but_no_host_or_time(run: Run) -> None:
    import platform

    text = (run() / "environment.json").read_text()
    (facts,) = json.loads(text)["environment"]
    assert {"packages", "threads", "device"} <= set(facts)
    assert platform.node() not in text and str(run.folder) not in text


# The order of the examples


def order(sampler: EpochSampler, epoch: int) -> list[int]:
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("size", [1, 7, 64, 1000, 1003])
def test_every_example_is_seen_once_an_epoch(grouped: bool, size: int) -> None:
    lengths = np.random.default_rng(0).integers(5, 100, size) if grouped else None
    assert sorted(order(EpochSampler(size, 8, 1, lengths), 3)) == list(range(size))


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    lengths = np.random.default_rng(0).integers(5, 100, 500)
    first = order(EpochSampler(500, 8, 1, lengths), 2)
    used = EpochSampler(500, 8, 1, lengths)
    for epoch in (0, 1):
        order(used, epoch)
    torch.manual_seed(99)
    assert order(used, 2) == first
    assert order(used, 3) != first
    assert order(EpochSampler(500, 8, 2, lengths), 2) != first


def test_grouped_batches_need_little_padding_and_stay_random() -> None:
    lengths = np.random.default_rng(0).integers(5, 100, 4000)

    def padded(indices: list[int]) -> float:
        batches = [lengths[indices[start : start + 16]] for start in range(0, len(indices), 16)]
        return float(sum(len(batch) * batch.max() for batch in batches) / lengths.sum())

    grouped = EpochSampler(4000, 16, 1, lengths)
    assert padded(order(EpochSampler(4000, 16, 1), 0)) > 1.6
    assert padded(order(grouped, 0)) < 1.06
    firsts = [lengths[order(grouped, epoch)[0]] for epoch in range(20)]
    assert np.std(firsts) > 10  # the batches of a group come in random order, not the longest first


def test_the_loss_so_far_can_be_watched_and_a_resumed_run_goes_on_in_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def live() -> list[tuple[int, float]]:
        with (run.folder / "live.csv").open() as stream:
            return [(int(row["step"]), float(row["train_loss"])) for row in csv.DictReader(stream)]

    rows = history(run("whole"))
    whole = live()
    assert [step for step, _ in whole] == list(range(1, 11))
    for epoch, row in enumerate(rows):
        assert np.mean([loss for _, loss in whole[5 * epoch : 5 * epoch + 5]]) == pytest.approx(
            row["train_loss"], abs=1e-5
        )
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, 8)
        run("cut", minutes=1e-9)
    assert len(live()) == 7
    run("cut", minutes=1e-9)
    assert live() == whole


def test_without_a_terminal_the_training_says_how_far_it_is(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quiet = content(run("quiet"))
    assert "min left" not in capsys.readouterr().err  # a line a minute, and this took seconds
    monkeypatch.setattr(Live, "SECONDS", 0.0)
    assert content(run("telling")) == quiet
    said = re.findall(r"^train: epoch (\d)/2, step (\d+)/10, loss \d\.\d{4}, \d+\.\d examples/s, \d+ min left$",
                      capsys.readouterr().err, re.MULTILINE)  # fmt: skip
    assert said == [(str(1 + (step > 5)), str(step)) for step in range(1, 11)]
    with (run.folder / "live.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == list(Live.COLUMNS) and [int(row["epoch"]) for row in rows] == [1] * 5 + [2] * 5
    assert float(rows[-1]["minutes_left"]) == 0.0 < float(rows[-1]["examples_per_second"])


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"warmup_steps": 500}, "a warm-up of 500 steps, but the whole training has 12 \\(4 epochs of 3\\)"),
        ({"warmup_steps": 12}, "a warm-up of 12 steps"),
        ({"warmup_steps": 0.999}, "a warm-up of 12 steps"),
        ({"warmup_steps": 11}, None),
        ({"warmup_steps": 0.1}, None),
        ({"warmup_steps": 500, "lr_scheduler_type": "constant_with_warmup"}, "a warm-up of 500 steps"),
        ({"warmup_steps": 0, "lr_scheduler_type": "constant"}, None),
    ],
)
def test_a_warm_up_that_lasts_the_whole_training_is_refused(changes: dict[str, Any], line: str | None) -> None:
    p = TrainParams(**PARAMS["train"] | changes)
    if line is None:
        check_warm_up(p, 36)
        return
    with pytest.raises(BadInput, match=f"params.yaml: train.warmup_steps: {line}"):
        check_warm_up(p, 36)


def test_a_warm_up_that_the_schedule_ignores_is_pointed_out(capsys: pytest.CaptureFixture[str]) -> None:
    check_warm_up(TrainParams(**PARAMS["train"] | {"warmup_steps": 5, "lr_scheduler_type": "constant"}), 36)
    assert "train.warmup_steps does nothing with train.lr_scheduler_type constant" in capsys.readouterr().err
