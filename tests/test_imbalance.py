"""Imbalanced labels: class weights, label smoothing and balanced sampling are exact, and off by default."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional

from stages.shared.runtime.errors import BadInput
from stages.shared.task.asked import check_imbalance
from stages.shared.task.problem_types import PROBLEMS
from stages.shared.task.task import ProblemType, Task
from stages.train.objective import Objective, label_weights, strata
from stages.train.order import BalancedSampler, StepBatches
from tests.test_train import Run, content, history, interrupt
from tests.tiny import make_checkpoint

EVERYTHING: dict[str, Any] = {"sampling": "balanced", "class_weights": {"equivalent": 3}, "label_smoothing": 0.1}
LABELS = np.array([0] * 6 + [1] * 3 + [2])
SETS = np.array([[1, 1, 0]] * 2 + [[1, 0, 0]] * 5 + [[0, 0, 0]], dtype=np.float32)


def task_of(kind: ProblemType = "single_label_classification") -> Task:
    names = [] if kind == "regression" else ["a", "b", "c"]
    return Task("files", kind, names, ["accuracy"], "files", "0")


def weights_of(asked: Any, labels: np.ndarray) -> np.ndarray:
    kind: ProblemType = "single_label_classification" if labels.ndim == 1 else "multi_label_classification"
    weights = label_weights(asked, task_of(kind), labels)
    assert weights is not None and weights.dtype == np.float32
    return weights


@pytest.fixture
def run(tmp_path: Path, tiny_checkpoint: Path, sample_rows: list[dict[str, str]]) -> Run:
    return Run(tmp_path, tiny_checkpoint, sample_rows)


# Weights


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    expected = compute_class_weight("balanced", classes=np.arange(3), y=LABELS)
    assert weights_of("balanced", LABELS) == pytest.approx(expected)


@pytest.mark.parametrize("asked", ["balanced", {"c": 5}, {"a": 0.1, "b": 40.0, "c": 3}])
def test_the_weights_of_all_examples_have_a_mean_of_one(asked: Any) -> None:
    assert weights_of(asked, LABELS)[LABELS].mean() == pytest.approx(1.0)
    yes_or_no = weights_of(asked, SETS)
    for column in range(3):
        assert yes_or_no[SETS[:, column].astype(int), column].mean() == pytest.approx(1.0)


def test_only_the_ratios_of_weights_count_and_a_label_without_one_has_one() -> None:
    weights = weights_of({"b": 2, "c": 8}, LABELS)
    assert weights / weights[0] == pytest.approx([1, 2, 8])
    assert np.array_equal(weights, weights_of({"a": 10, "b": 20, "c": 80}, LABELS))


def test_a_label_that_train_does_not_have_leaves_the_others_as_they_are() -> None:
    both = weights_of("balanced", LABELS[:9])
    assert both[:2] == pytest.approx(compute_class_weight("balanced", classes=np.arange(2), y=LABELS[:9]))
    assert np.isfinite(both).all()
    # of several labels: one that no example has, and one that all have, have nothing to be balanced against
    sets = weights_of("balanced", SETS[:7])
    assert sets[:, 0].tolist() == sets[:, 2].tolist() == [1, 1]


def test_a_yes_of_a_balanced_label_counts_as_much_as_a_no_in_sum() -> None:
    no, yes = weights_of("balanced", SETS)
    positives = SETS.sum(axis=0)[:2]
    assert (yes[:2] * positives) == pytest.approx(no[:2] * (len(SETS) - positives))


def test_without_weights_and_smoothing_the_loss_has_the_bits_that_it_had() -> None:
    logits, labels = torch.randn(10, 3), torch.from_numpy(LABELS)
    own = Objective(PROBLEMS["single_label_classification"]).losses(logits, labels)
    assert torch.equal(own, functional.cross_entropy(logits, labels, reduction="none"))
    sets = torch.from_numpy(SETS)
    own = Objective(PROBLEMS["multi_label_classification"]).losses(logits[:8], sets)
    expected = functional.binary_cross_entropy_with_logits(logits[:8], sets, reduction="none").mean(dim=1)
    assert torch.equal(own, expected)


def test_a_weight_multiplies_the_loss_of_its_label() -> None:
    logits, labels = torch.randn(10, 3), torch.from_numpy(LABELS)
    weights = weights_of({"c": 5}, LABELS)
    plain = functional.cross_entropy(logits, labels, reduction="none", label_smoothing=0.2)
    own = Objective(PROBLEMS["single_label_classification"], weights, 0.2).losses(logits, labels)
    assert own.tolist() == pytest.approx((plain * torch.from_numpy(weights)[labels]).tolist())


def test_of_several_labels_it_is_torchs_positive_weight_up_to_the_scale() -> None:
    logits, sets = torch.randn(8, 3), torch.from_numpy(SETS)
    no, yes = weights_of({"b": 4}, SETS)
    ratio = torch.tensor([1.0, 4.0, 1.0])
    expected = functional.binary_cross_entropy_with_logits(logits, sets, reduction="none", pos_weight=ratio)
    own = Objective(PROBLEMS["multi_label_classification"], np.stack([no, yes])).losses(logits, sets)
    assert own.tolist() == pytest.approx((expected * torch.from_numpy(no)).mean(dim=1).tolist())


def test_label_smoothing_of_several_labels_moves_each_towards_one_half() -> None:
    logits, sets = torch.randn(8, 3), torch.from_numpy(SETS)
    own = Objective(PROBLEMS["multi_label_classification"], label_smoothing=0.2).losses(logits, sets)
    softer = torch.where(sets > 0.5, 0.9, 0.1)
    assert own.tolist() == pytest.approx(functional.binary_cross_entropy_with_logits(logits, softer, reduction="none")
                                         .mean(dim=1).tolist())  # fmt: skip


@pytest.mark.parametrize(("processes", "device"), [(1, 24), (1, 5), (2, 12), (3, 4), (4, 2)])
def test_the_loss_of_a_step_does_not_depend_on_how_it_is_cut(processes: int, device: int) -> None:
    generator = np.random.default_rng(0)
    labels, logits = generator.choice(3, 50, p=[0.7, 0.2, 0.1]), torch.from_numpy(generator.normal(size=(50, 3)))
    task = task_of()
    objective = Objective(task.problem, label_weights("balanced", task, labels), 0.1)
    order = BalancedSampler(strata(task, labels), 24, 1)
    steps: list[list[int]] = [list(order)[start : start + 24] for start in range(0, 50, 24)]
    whole = [float(objective.losses(logits[rows], torch.from_numpy(labels[rows])).mean()) for rows in steps]
    turns = -(-24 // (device * processes))
    dealt = [list(StepBatches(order, device, rank, processes)) for rank in range(processes)]
    for step, expected in enumerate(whole):
        slots = [slot for own in dealt for batch in own[step * turns : (step + 1) * turns] for slot in batch]
        rows, shares = [row for row, _ in slots], torch.tensor([share for _, share in slots])
        found = (objective.losses(logits[rows], torch.from_numpy(labels[rows])) * shares).sum()
        assert float(found) == pytest.approx(expected)


def test_weights_are_the_same_in_batches_of_the_device(tmp_path: Path, sample_rows: list[dict[str, str]]) -> None:
    still = make_checkpoint(tmp_path / "still", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    run = Run(tmp_path, still, sample_rows)
    whole = load_file(run("whole", **EVERYTHING) / "finetuned" / "model.safetensors")
    parts = load_file(run("parts", device_batch_size=2, **EVERYTHING) / "finetuned" / "model.safetensors")
    assert max(float((whole[name] - parts[name]).abs().max()) for name in whole) < 1e-4


def test_the_loss_on_validation_is_the_unweighted_one(run: Run) -> None:
    """A learning rate that changes nothing leaves the same model, whose loss on train is another one by weights."""
    recipe: dict[str, Any] = {"epochs": 1, "learning_rate": 1e-12, "weight_decay": 0.0, "sampling": "random"}
    (plain,) = history(run("plain", **recipe))
    (weighted,) = history(run("weighted", **recipe, class_weights={"equivalent": 50}, label_smoothing=0.5))
    assert weighted["loss"] == pytest.approx(plain["loss"], abs=1e-6)
    assert abs(weighted["train_loss"] - plain["train_loss"]) > 1e-3


def test_an_interrupted_training_ends_with_the_same_bytes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = content(run("whole", **EVERYTHING))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, 8)  # in the second epoch
        run("resumed", minutes=1e-9, **EVERYTHING)
    assert content(run("resumed", **EVERYTHING)) == whole


def test_weights_of_equal_ratios_change_no_byte(run: Run) -> None:
    assert content(run("equal", class_weights={"equivalent": 2, "not_equivalent": 2})) == content(run("none"))


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        (({"a": 2}, 0.0, "random"), "train.class_weights: is for labels, and this is a regression; set it to null"),
        (("balanced", 0.0, "random"), "train.class_weights: is for labels, and this is a regression; set it to null"),
        ((None, 0.1, "random"), "train.label_smoothing: is for labels, and this is a regression; set it to 0"),
        ((None, 0.0, "balanced"), "train.sampling: is for labels, and this is a regression; set it to random or "),
    ],
)
def test_a_regression_has_no_classes(asked: tuple[Any, float, str], line: str) -> None:
    with pytest.raises(BadInput) as raised:
        check_imbalance(task_of("regression"), *asked)
    assert str(raised.value).startswith(f"params.yaml: {line}")


def test_a_weight_for_a_label_that_is_not_there_is_refused(run: Run) -> None:
    with pytest.raises(BadInput, match=r"train.class_weights: no label 'same', only 'not_equivalent', 'equivalent'"):
        run(class_weights={"same": 2.0})


# Sampling


def epochs(sampler: BalancedSampler, number: int) -> list[list[int]]:
    drawn = []
    for epoch in range(number):
        sampler.set_epoch(epoch)
        drawn.append(list(sampler))
    return drawn


def test_every_epoch_is_as_long_as_train_and_has_as_many_of_each_class() -> None:
    for drawn in epochs(BalancedSampler(LABELS, 4, 1), 7):
        assert len(drawn) == len(LABELS)
        assert set(Counter(LABELS[drawn]).values()) <= {3, 4}


def test_no_example_comes_again_before_all_of_its_class_have_come() -> None:
    classes = np.array([0] * 90 + [1] * 7 + [2] * 3)
    seen: Counter[int] = Counter()
    for drawn in epochs(BalancedSampler(classes, 8, 3), 9):
        seen.update(drawn)
        for value in range(3):
            counts = [seen[row] for row in np.flatnonzero(classes == value)]
            assert max(counts) - min(counts) <= 1
    assert min(seen[row] for row in range(90)) >= 3


def test_the_draw_depends_on_seed_and_epoch_alone() -> None:
    classes = np.random.default_rng(0).choice(4, 300, p=[0.9, 0.05, 0.03, 0.02])
    used = epochs(BalancedSampler(classes, 8, 1), 4)
    fresh = BalancedSampler(classes, 8, 1)
    fresh.set_epoch(3)
    torch.manual_seed(99)
    assert list(fresh) == used[3] != used[2]
    assert epochs(BalancedSampler(classes, 8, 2), 1) != used[:1]


@pytest.mark.parametrize("classes", [[0], [0, 0, 0], [0, 1, 2], [2, 5]])
def test_few_examples_are_balanced_too(classes: list[int]) -> None:
    for drawn in epochs(BalancedSampler(np.array(classes), 8, 1), 3):
        assert sorted(drawn) == list(range(len(classes)))


def test_an_example_with_several_labels_is_drawn_for_its_rarest() -> None:
    assert strata(task_of("multi_label_classification"), SETS).tolist() == [1, 1, 0, 0, 0, 0, 0, 3]
    assert strata(task_of(), LABELS).tolist() == LABELS.tolist()
