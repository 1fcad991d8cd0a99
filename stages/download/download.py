"""download: the Hub, a package or local files -> data/{raw,overlap}/, models/pretrained/, metrics/data.json."""

import shutil
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from stages.download.canonical import canonical_splits
from stages.download.carving import carve, with_share_of_train
from stages.download.checkpoint import fetch_checkpoint
from stages.download.cleaning import cleaned
from stages.download.data_quality import check_leakage, describe, format_table, say_repeated
from stages.download.files import read_files
from stages.download.folds import Fold, check_fold
from stages.download.glue import read_glue
from stages.download.hub import read_hub
from stages.download.source import Labelling, Source, in_order
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.execution import Execution
from stages.shared.runtime.params import params_dataclass
from stages.shared.runtime.publish import publish, write_json
from stages.shared.runtime.snapshot import refuse_made
from stages.shared.runtime.splits import save_splits
from stages.shared.runtime.terminal import say
from stages.shared.task.asked import check_asked
from stages.shared.task.metrics import MetricName
from stages.shared.task.overlap import write_overlap
from stages.shared.task.task import ProblemType, Task, write_task


@params_dataclass
class DownloadParams:
    dataset: str  # files | glue/<task> | hub:<owner>/<name>[:<config>]
    dataset_files: str  # a folder with the files of the splits, or one file that is the train split
    split_files: dict[str, str] | None  # split -> pattern inside that folder, or the Hub's name of it; None: by names
    dataset_revision: str | None  # 40-hex commit of a hub: dataset
    checkpoint: str  # package:<module>/<folder> | hub:<owner>/<name> | files
    checkpoint_files: str  # a folder with config, tokenizer and safetensors
    checkpoint_revision: str | None  # 40-hex commit of a hub: checkpoint
    problem_type: ProblemType
    text_column: str | list[str]  # several are joined
    text_pair_column: str | list[str] | None  # None: single texts
    label_column: str
    label_names: list[str] | None  # None: learned from the train split, sorted
    label_delimiter: Annotated[str, Field(min_length=1)] | None  # between the labels of a multi-label row
    label_aliases: dict[str, str | None] | None  # a label as it is written -> what is meant; None: that it is none
    group_column: Annotated[str, Field(min_length=1)] | None  # None: every row is on its own
    id_column: Annotated[str, Field(min_length=1)] | None  # what the user calls a row; the model never sees it
    keep_columns: list[str]  # beside the texts, for slices of the results
    metrics: Annotated[list[MetricName], Field(min_length=1)]  # the first one selects the checkpoint
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] | None  # of the train split's examples
    test_fraction: Annotated[float, Field(gt=0, lt=1)] | None  # of the train split's examples
    fold: Fold | None  # held out of train as the validation split; None: no folds
    train_fraction: Annotated[float, Field(gt=0, le=1)] | None  # of train's examples, to train on; None: all
    split_seed: Annotated[int, Field(ge=0)]
    on_leakage: Literal["warn", "error"]
    on_empty: Literal["error", "drop"]  # rows without text
    on_unlabelled: Literal["error", "drop"]  # rows without label in a split that has labels


@dataclass(frozen=True)
class DownloadFiles:
    """What the stage writes; what it reads is in its parameters."""

    raw: Path = Path("data/raw")
    pretrained: Path = Path("models/pretrained")
    overlap: Path = Path("data/overlap")
    data: Path = Path("metrics/data.json")
    params: Path = Path("params.yaml")  # what later sections ask of the data is refused here


def download(p: DownloadParams, execution: Execution, files: DownloadFiles) -> None:
    """Fetches dataset and checkpoint, and publishes both in the form that every later stage reads.

    Raises:
        BadInput: a source cannot be reached, or its content does not fit the parameters.
    """
    check_places(p)
    network_timeout = execution.network_timeout_seconds
    check_fold(p.fold)
    with publish(files.raw, files.pretrained, files.overlap, files.data) as (raw, pretrained, overlap, data):
        scratch = raw / "scratch"  # It lies on the disk of the outputs, and goes with them if the stage fails.
        scratch.mkdir(parents=True)
        source = read_source(p, network_timeout, scratch)
        rules = {"on_empty": p.on_empty, "on_unlabelled": p.on_unlabelled}
        if source.kind == "glue":  # whose test splits are handed in whole
            rules = dict.fromkeys(rules, "error")
        source, dropped = cleaned(source, rules, scratch)
        splits, label_names = canonical_splits(source)
        fractions = {"validation": p.validation_fraction, "test": p.test_fraction}
        splits = in_order(carve(splits, fractions, p.split_seed, scratch, p.fold))
        splits = with_share_of_train(splits, p.train_fraction, p.split_seed, scratch)
        # Data that is refused is refused before a checkpoint of gigabytes is fetched.
        facts, flags = describe(splits, label_names)
        say(format_table(facts))
        say_repeated(facts, splits)
        if dropped:
            facts["dropped"] = dropped
        task = Task(
            name=p.dataset,
            problem_type=source.labelling.problem_type,
            label_names=label_names,
            metrics=source.metrics or list(p.metrics),
            source=source.kind,
            revision=source.revision,
        )
        check_asked(files.params, task, splits)
        check_leakage(facts, p.on_leakage)
        fetch_checkpoint(p.checkpoint, Path(p.checkpoint_files), p.checkpoint_revision, pretrained, network_timeout)
        save_splits(splits, raw)
        write_task(raw / "task.json", task)
        for split, flag in flags.items():
            write_overlap(overlap, split, flag)
        write_json(data, facts)  # `dvc metrics diff` shows no lists, so it leaves these counts out.
        shutil.rmtree(scratch)


def read_source(p: DownloadParams, network_timeout: float, scratch: Path) -> Source:
    """Reads the tables that `download.dataset` names, with the columns and labels that belong to them."""
    if p.dataset.startswith("glue/"):
        if p.split_files is not None:
            raise BadInput("params.yaml: download.split_files: glue/* brings its own splits; set it to null")
        return read_glue(p.dataset.removeprefix("glue/"), network_timeout)
    check_columns(p)
    labelling = Labelling(**{field.name: getattr(p, field.name) for field in fields(Labelling)})
    if p.dataset == "files":
        return read_files(Path(p.dataset_files), p.split_files, labelling, scratch)
    if p.dataset.startswith("hub:"):
        name = p.dataset.removeprefix("hub:")
        return read_hub(name, p.dataset_revision, p.split_files, labelling, network_timeout)
    raise BadInput(
        f"params.yaml: download.dataset: must be files, glue/<task> or hub:<owner>/<name>, got {p.dataset!r}"
    )


def check_columns(p: DownloadParams) -> None:
    """Makes sure that columns are named that can be what they are named for.

    Raises:
        BadInput: they cannot.
    """
    if p.group_column == p.label_column:
        raise BadInput(
            f"params.yaml: download.group_column: {p.group_column!r} is download.label_column; use a column that "
            "rows share besides the label"
        )
    for key in ("text_column", "text_pair_column"):
        columns = getattr(p, key)
        if isinstance(columns, list) and (not columns or len(set(columns)) < len(columns)):
            raise BadInput(f"params.yaml: download.{key}: must be one or more different columns, got {columns!r}")


def check_places(p: DownloadParams) -> None:
    """Makes sure that the user's files are not among what stages write: DVC knows no stage that reads what follows it.

    Raises:
        BadInput: they are.
    """
    for key, name in (("dataset", p.dataset_files), ("checkpoint", p.checkpoint_files)):
        if getattr(p, key) == "files":
            refuse_made(f"download.{key}_files", name)
