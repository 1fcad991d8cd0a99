"""Makes the model to train: the checkpoint's tensors, with a classification head for the task."""

import copy
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel, set_seed

from stages.shared.model.loading import Accounts, counted, discrepancies, listed, load_classifier
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.rank import rank
from stages.shared.runtime.terminal import warn
from stages.shared.task.task import Task

POOLER = "pooler"
CONSTANTS = ("inv_freq", "masked_bias", "position_ids", "token_type_ids")  # that older versions saved beside weights


@dataclass(frozen=True)
class Origin:
    """What of a model is not the checkpoint's as it was, and what of the checkpoint is not the model's."""

    summary: str  # in a sentence
    new: list[str]  # tensors that were drawn from the seed
    reordered: list[str]  # tensors whose rows were put into the order of the task's labels
    unused: dict[str, int]  # beginning of the names -> number of tensors


def load_pretrained(folder: Path, task: Task, seed: int) -> tuple[PreTrainedModel, Origin]:
    """Makes the task's model of a checkpoint; only its classification head, and a pooler it never had, may be new.

    Where the checkpoint's own head tells the task's labels apart, by their names, it is kept.

    Raises:
        BadInput: another tensor of the model would be random, or one of the encoder's be left out; or a weight is not
            a finite number.
    """
    set_seed(seed)  # before the model: what is new is drawn when it is made
    changes = {"num_labels": task.columns, "problem_type": task.problem_type, **label_maps(task)}
    model, accounts = load_classifier(folder, **changes)
    prefix = f"{model.base_model_prefix}."
    encoder = {name for name in model.state_dict() if name.startswith(prefix)}
    head = set(model.state_dict()) - encoder
    _check_encoder(folder, model, prefix, encoder, accounts)
    new = {name for name in accounts.missing | accounts.mismatched.keys() if not _is_constant(name)}
    reordered: set[str] = set()
    if not head <= accounts.missing:
        last = last_layer(model)
        order, reason = order_of_labels(json.loads((folder / "config.json").read_text(encoding="utf-8")), task)
        if order is None or new & head:
            if not last <= accounts.missing:
                _say(
                    f"the checkpoint's classification head is {reason or 'incomplete'}, so its last layer is newly "
                    "initialized"
                )
            draw_anew(model, last - new)
            new |= last
        elif order != sorted(order):
            put_in_order(model, last, order)
            reordered = last
    _check_finite(folder, model)
    of_head = sorted(new & head) if head - new else []
    summary = _summarize(of_head, bool(new & head), bool(new & encoder), bool(reordered))
    _say(summary[0].lower() + summary[1:-1])
    unused = Counter(_group(name, prefix) for name in accounts.unexpected if not _is_constant(name))
    if unused:
        counts = ", ".join(f"{group} ({count})" for group, count in sorted(unused.items()))
        _say(f"not used, because a classifier does not need them: {counted(unused.total())}, {counts}")
    return model, Origin(summary, sorted(new), sorted(reordered), dict(sorted(unused.items())))


def label_maps(task: Task) -> dict[str, Any]:
    """Returns `id2label` and `label2id` for the model's config, where the task has label names."""
    names = dict(enumerate(task.label_names))
    return {"id2label": names, "label2id": {name: index for index, name in names.items()}} if names else {}


def last_layer(model: PreTrainedModel) -> set[str]:
    """Returns the names of the tensors that have a row for each label: those that another number of labels changes."""
    config = copy.deepcopy(model.config)
    config.num_labels += 1
    with torch.random.fork_rng(devices=[]), torch.device("meta"):  # neither memory nor a random number is taken
        other = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False).state_dict()
    return {name for name, tensor in model.state_dict().items() if tensor.shape != other[name].shape}


def order_of_labels(config: Mapping[str, Any], task: Task) -> tuple[list[int] | None, str]:
    """Returns, for each label of the task, the row that it has in the head that a config.json describes.

    None where the head answers another question; the second value says in words which.
    """
    # as transformers reads a config that does not say it
    problem = config.get("problem_type") or ("regression" if task.columns == 1 else "single_label_classification")
    if problem != task.problem_type:
        return None, f"for another kind of problem ({problem})"
    if task.problem_type == "regression":
        return [0], ""
    stored = config.get("id2label")
    stored = stored if isinstance(stored, dict) else {}
    if stored.keys() != {str(row) for row in range(len(stored))}:
        return None, "for labels that are not numbered from 0"
    names = [str(stored[str(row)]) for row in range(len(stored))]
    if sorted(names) == sorted(task.label_names):
        return [names.index(name) for name in task.label_names], ""
    if all(name == f"LABEL_{row}" for row, name in enumerate(names)):
        return None, "for labels without names"
    return None, f"for other labels ({listed(set(names))})"


@torch.no_grad()
def put_in_order(model: PreTrainedModel, names: Iterable[str], order: list[int]) -> None:
    """Puts the rows of the tensors into the order of the task's labels."""
    for name in names:
        tensor = model.get_parameter(name)
        tensor.copy_(tensor[order].clone())


def draw_anew(model: PreTrainedModel, names: Iterable[str]) -> None:
    """Draws tensors as transformers would have drawn them, had the checkpoint not brought them."""
    for name in names:
        model.get_parameter(name)._is_hf_initialized = False
        path = name.split(".")
        for depth in range(len(path)):
            model.get_submodule(".".join(path[:depth]))._is_hf_initialized = False
    model.initialize_weights()  # of those that are not marked as initialized


def _check_encoder(folder: Path, model: PreTrainedModel, prefix: str, encoder: set[str], accounts: Accounts) -> None:
    """Refuses a checkpoint that is not the whole encoder, and one whose encoder is more than the model."""
    parts = {name.removeprefix(prefix).partition(".")[0] for name in encoder} - {POOLER}
    pooler = {name for name in encoder if POOLER in name.split(".")}
    has_pooler = not pooler <= accounts.missing or any(POOLER in name.split(".") for name in accounts.unexpected)
    lost = Accounts(
        {name for name in (accounts.missing & encoder) - (set() if has_pooler else pooler) if not _is_constant(name)},
        {name: shapes for name, shapes in accounts.mismatched.items() if name in encoder},
        {
            name
            for name in accounts.unexpected
            if name.removeprefix(prefix).partition(".")[0] in parts and not _is_constant(name)
        },
    )
    words = discrepancies(lost)
    if not words:
        return
    sizes = {name: tensor.numel() for name, tensor in model.state_dict().items() if name in encoder}
    random = 100 * sum(sizes[name] for name in sizes.keys() & (accounts.missing | accounts.mismatched.keys()))
    random /= sum(sizes.values())
    consequence = f"{random:.1f} % of the encoder would be random" if random else "part of it would be left out"
    stray = _stray_prefix(lost.missing, accounts.unexpected, prefix)
    remedy = (
        f"its names begin with {stray!r}, because the model was saved inside a wrapper; save the model itself"
        if stray
        else "use the config.json that belongs to the weights"
    )
    raise BadInput(f"{folder}: not the encoder that config.json describes: {'; '.join(words)}; {consequence}: {remedy}")


def _stray_prefix(missing: set[str], unexpected: set[str], prefix: str) -> str | None:
    """Returns what stands before the names of most of the missing tensors in the checkpoint, if anything does."""
    before: dict[str, str] = {}
    for name in unexpected:
        path = name.split(".")
        before |= {".".join(path[depth:]): ".".join(path[:depth]) + "." for depth in range(1, len(path))}
    found = Counter(before[name] if name in before else before.get(name.removeprefix(prefix), "") for name in missing)
    stray, count = found.most_common(1)[0] if found else ("", 0)
    return stray if stray and 2 * count > len(missing) else None


@torch.no_grad()
def _check_finite(folder: Path, model: PreTrainedModel) -> None:
    """Refuses weights that are no numbers: the first loss would be none either, and seem to be the learning rate's."""
    # a sum is quick, and NaN and infinity do not vanish in it
    suspects = {name: weight for name, weight in model.named_parameters() if not torch.isfinite(weight.sum())}
    broken = {name for name, weight in suspects.items() if not torch.isfinite(weight).all()}
    if broken:
        raise BadInput(
            f"{folder}: NaN or infinite weights in {counted(len(broken))} ({listed(broken)}); training cannot "
            "repair them; use another copy of the checkpoint"
        )


def _summarize(of_head: list[str], new_head: bool, new_pooler: bool, reordered: bool) -> str:
    """Says in a sentence what is new; `of_head`: tensors, where it is a part of the head."""
    layers = ", ".join(sorted({name.rpartition(".")[0] for name in of_head}))
    head = f"of the classification head, {layers}" if layers else "the classification head"
    new = [head] * new_head + ["the pooler"] * new_pooler
    if new:
        sentence = f"{' and '.join(new)} {'were' if len(new) > 1 else 'was'} new; everything else is the checkpoint's"
    else:
        sentence = "nothing was new: the classification head is the checkpoint's too"
    order = ", its rows in the order of this task's labels" if reordered else ""
    return f"{sentence[0].upper()}{sentence[1:]}{order}."


def _group(name: str, prefix: str) -> str:
    """Returns the beginning of a name that tells what it belongs to: cls.*, or bert.decoder.*"""
    inner = name.removeprefix(prefix)
    first, dot, _ = inner.partition(".")
    return f"{name[: len(name) - len(inner)]}{first}{'.*' if dot else ''}"


def _is_constant(name: str) -> bool:
    return name.rpartition(".")[2] in CONSTANTS


def _say(line: str) -> None:
    if rank() == 0:
        warn(f"train: {line}")
