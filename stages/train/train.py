"""train: data/tokenized/, data/raw/task.json, models/pretrained/ -> models/finetuned/, metrics/history.csv and more."""

import csv
import json
import math
import shutil
import sys
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn
from transformers import DataCollatorWithPadding, TrainingArguments

from stages.shared.model.collectives import broadcast, connect, gather
from stages.shared.model.device import advise, pick_device
from stages.shared.model.launcher import ElasticLauncher
from stages.shared.model.linear import OneDnnLinear, has_one_dnn
from stages.shared.model.loading import load_tokenizer
from stages.shared.model.speed_up import replace_modules
from stages.shared.runtime.arithmetic import Arithmetic
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.execution import Execution
from stages.shared.runtime.params import params_dataclass
from stages.shared.runtime.publish import publish, write_json, write_records
from stages.shared.runtime.rank import rank
from stages.shared.runtime.run_stage import SCRATCH
from stages.shared.runtime.splits import LIMIT_FILE, label_array, load_splits, read_window_logits
from stages.shared.runtime.terminal import warn
from stages.shared.task.asked import check_asked, check_imbalance
from stages.shared.task.metrics import check_metrics
from stages.shared.task.task import Task, read_task
from stages.train.checkpoints import discard, run_folder
from stages.train.dropout import draw_by_step
from stages.train.model import Origin, load_pretrained
from stages.train.objective import Objective, label_weights
from stages.train.recipe import environment, machine, recipe_key
from stages.train.resume import train_to_the_end
from stages.train.trainer import ResumableTrainer, Sampling
from stages.train.trial import try_out
from stages.train.weights import save_for_use
from stages.train.windows import WindowCollator, read_in_windows

LAUNCHER = ElasticLauncher(lambda p, execution: p.processes, over_nodes=True)


@params_dataclass
class TrainParams:
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]  # examples per optimizer step
    device_batch_size: Annotated[int, Field(ge=1)]  # examples at once on the device
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    lr_scheduler_type: Literal["constant", "constant_with_warmup", "cosine", "linear"]
    warmup_steps: Annotated[float, Field(ge=0, allow_inf_nan=False)]  # below 1: a share of all steps
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    max_grad_norm: Annotated[float, Field(ge=0, allow_inf_nan=False)]  # 0: no clipping
    arithmetic: Arithmetic
    sampling: Sampling
    class_weights: Literal["balanced"] | dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] | None
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]  # of the label's probability: what is spread over all labels
    keep: Literal["last", "best"]
    early_stopping_patience: Annotated[int, Field(ge=1)] | None  # epochs
    threads: Annotated[int, Field(ge=1)]  # of each process
    processes: Annotated[int, Field(ge=1)]  # over all nodes


@dataclass(frozen=True)
class TrainFiles:
    """What the stage reads, then what it writes."""

    tokenized: Path = Path("data/tokenized")
    task: Path = Path("data/raw/task.json")
    pretrained: Path = Path("models/pretrained")
    finetuned: Path = Path("models/finetuned")
    epochs: Path = Path("data/epochs.npy")
    history: Path = Path("metrics/history.csv")
    selection: Path = Path("metrics/selection.json")
    environment: Path = Path("metrics/environment.json")
    params: Path = Path("params.yaml")  # what evaluate and report ask is refused before the training
    scratch: Path = SCRATCH / "train"  # where its checkpoints are until it has ended


def train(p: TrainParams, execution: Execution, files: TrainFiles) -> None:
    """Fine-tunes the checkpoint and keeps one epoch's weights, resuming whatever run of the same recipe was cut short.

    Raises:
        BadInput: batch sizes that do not divide, a metric or class weights that do not fit the task, nodes that are
            not alike, a checkpoint that is not whole, a training that diverged.
    """
    connect(p.processes, "train")
    divide(p)  # what does not divide is refused before anything is loaded
    device = pick_device(execution.device, p.threads)
    advise("train", p.arithmetic, device)
    task = read_task(files.task)
    check_metrics(task)
    check_imbalance(task, p.class_weights, p.label_smoothing, p.sampling)
    splits = load_splits(files.tokenized)
    check_asked(files.params, task, splits)
    check_warm_up(p, len(splits["train"]))
    validation = next(name for name in splits if name.startswith("validation"))
    facts = environment(device, p.arithmetic, p.threads)
    same_everywhere(facts | {"train": asdict(p)})
    if rank() == 0:
        write_json(files.scratch.with_name("train.machine.json"), machine())
    run = broadcast(
        run_folder(files.scratch, recipe_key(asdict(p), facts, [files.tokenized, files.task, files.pretrained]))
        if rank() == 0
        else None
    )
    assert run is not None
    window_logits = read_window_logits(files.tokenized)
    weights = label_weights(p.class_weights, task, label_array(splits["train"]))

    origin: Origin | None = None

    def make() -> ResumableTrainer:
        nonlocal origin
        model, origin = load_pretrained(files.pretrained, task, p.seed)
        tokenizer = load_tokenizer(files.pretrained)
        collate = DataCollatorWithPadding(tokenizer) if window_logits is None else WindowCollator(tokenizer)
        if device.type == "cpu" and p.arithmetic != "bf16" and has_one_dnn():
            replace_modules(model, {nn.Linear: OneDnnLinear})
        dropout = draw_by_step(model, p.seed) if device.type == "cpu" else None  # GPUs draw their masks fast enough
        if window_logits is not None:
            read_in_windows(model, window_logits, divide(p)[0], dropout)
        trainer = ResumableTrainer(
            task=task,
            objective=Objective(task.problem, weights, p.label_smoothing),
            sampling=p.sampling,
            patience=p.early_stopping_patience,
            minutes=execution.checkpoint_minutes,
            live_file=files.scratch.with_name("live.csv"),
            dropout=dropout,
            model=model,
            args=training_arguments(p, device, run),
            train_dataset=splits["train"],
            eval_dataset=splits[validation],
            data_collator=collate,
        )
        try_out(model, collate, splits["train"], task.columns)
        return trainer

    trainer, kept = train_to_the_end(make, run, task, p.keep)
    if rank() > 0:
        return
    assert origin is not None
    with publish(files.finetuned, files.epochs, files.history, files.selection, files.environment) as (
        model,
        epochs,
        history,
        selection,
        facts_out,
    ):
        save_for_use(trainer.model, model)
        copy_tokenizer(files.pretrained, model, json.loads((files.tokenized / LIMIT_FILE).read_text())["max_length"])
        with epochs.open("wb") as file:  # `np.save` would add its own ending to the name
            np.save(file, np.stack(trainer.epochs))
        write_history(history, trainer.history)
        chosen = describe_selection(p.keep, task, validation, kept, len(trainer.history))
        write_json(selection, {"selection": [chosen], "origin": [asdict(origin)]})  # in lists, as `write_records` does
        write_records(facts_out, "environment", [facts])
    discard(run)


def divide(p: TrainParams) -> tuple[int, int]:
    """Returns how many examples a device takes at once, and how often in a step.

    Raises:
        BadInput: the processes cannot have equal shares of a step, or the device batches do not fill a share.
    """
    share_of_step, rest = divmod(p.batch_size, p.processes)
    if rest:
        raise BadInput(
            f"params.yaml: train.processes: must divide train.batch_size ({p.batch_size}), got {p.processes}"
        )
    device_batch_size = min(share_of_step, p.device_batch_size)
    if share_of_step % device_batch_size:
        raise BadInput(
            f"params.yaml: train.device_batch_size: must divide the {share_of_step} examples that each process "
            f"takes of a step (train.batch_size {p.batch_size} / train.processes {p.processes}), got "
            f"{p.device_batch_size}"
        )
    return device_batch_size, share_of_step // device_batch_size


def check_warm_up(p: TrainParams, examples: int) -> None:
    """Makes sure that the learning rate is reached: a warm-up longer than the training stays below it, unsaid.

    Raises:
        BadInput: it is not.
    """
    steps_per_epoch = math.ceil(examples / p.batch_size)
    steps = p.epochs * steps_per_epoch
    warm_up = int(p.warmup_steps) if p.warmup_steps >= 1 else math.ceil(steps * p.warmup_steps)
    if p.lr_scheduler_type == "constant":
        if warm_up and rank() == 0:
            warn(
                "train: warning: train.warmup_steps does nothing with train.lr_scheduler_type constant; for a warm-up "
                "choose constant_with_warmup"
            )
    elif warm_up >= steps:
        raise BadInput(
            f"params.yaml: train.warmup_steps: a warm-up of {warm_up} steps, but the whole training has {steps} "
            f"({p.epochs} epochs of {steps_per_epoch}), so the learning rate would never be reached; lower it, or "
            "train longer"
        )


def same_everywhere(facts: Mapping[str, Any]) -> None:
    """Makes sure that environment.json, and the recipe, are true of every process.

    Raises:
        BadInput: a process read another recipe, or runs on other versions or a processor with other features.
    """
    for number, other in enumerate(gather(facts)):
        differing = [name for name in facts if facts[name] != other.get(name)]
        if differing:
            raise BadInput(
                f"process {number} differs in {', '.join(f'{name} ({other.get(name)})' for name in differing)}; "
                "use identical nodes, with the same packages and params.yaml"
            )


def training_arguments(p: TrainParams, device: torch.device, run: Path) -> TrainingArguments:
    """Puts the recipe into the words of transformers; `run` is the folder of the checkpoints."""
    device_batch_size, accumulation_steps = divide(p)
    arguments = TrainingArguments(
        output_dir=str(run),
        seed=p.seed,
        num_train_epochs=p.epochs,
        per_device_train_batch_size=device_batch_size,
        gradient_accumulation_steps=accumulation_steps,
        per_device_eval_batch_size=max(32, device_batch_size),
        learning_rate=p.learning_rate,
        lr_scheduler_type=p.lr_scheduler_type,
        warmup_steps=p.warmup_steps,
        weight_decay=p.weight_decay,
        max_grad_norm=p.max_grad_norm,
        bf16=p.arithmetic == "bf16",
        use_cpu=device.type == "cpu",
        label_names=["labels"],  # else it is looked for in the signature of the model, and of some it is not there
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=not sys.stderr.isatty(),
        dataloader_pin_memory=device.type == "cuda",
        # DDP would lay out the exchanged gradients anew after its first step, so also after a resume: other rounding.
        ddp_find_unused_parameters=p.processes > 1,
        ddp_broadcast_buffers=False,  # an encoder's are constants
    )
    warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)  # accelerate knows no other
    arguments._n_gpu = 1  # one process drives one device; Trainer would spread each batch over all that it sees
    return arguments


def copy_tokenizer(pretrained_dir: Path, target: Path, max_length: int) -> None:
    """Copies the tokenizer's files as they are, but for the length to which it cuts: that is the trained model's.

    Whoever loads it cuts texts with `truncation=True` where they were cut for the training and for every score; the
    checkpoint's own limit may be another, or none. Saving the tokenizer anew would add the padding that was used last.
    """
    for file in sorted(pretrained_dir.iterdir()):
        if file.name != "config.json" and not file.name.startswith("model"):
            shutil.copyfile(file, target / file.name)
    file = target / "tokenizer_config.json"
    stored = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    write_json(file, stored | {"model_max_length": max_length})


def write_history(file: Path, rows: list[dict[str, float]]) -> None:
    """Writes a row an epoch; numbers in full precision, so that equal files mean equal runs."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def describe_selection(
    keep: str, task: Task, split: str, kept: Mapping[str, float], epochs_trained: int
) -> dict[str, Any]:
    """Says which epoch was kept, and by which metric of which split."""
    metric = task.metrics[0]
    return {
        "keep": keep,
        "epoch": kept["epoch"],
        "epochs_trained": epochs_trained,
        "step": kept["step"],
        "split": split,
        "metric": metric,
        "value": kept[metric],
    }
