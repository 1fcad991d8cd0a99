"""Predicts every row of train by a model that did not see it: one experiment a fold, and what they predicted as one.

The folds are those of `download.fold`. Each is trained as params.yaml says, but for one thing: an epoch that is chosen
by its score on the fold that is held out would have seen that fold, so the last epoch is kept.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from checks.cli import Unanswerable
from checks.experiments import LAST_STAGE, Experiment, check_experiments, finished, resolve
from checks.predictions import PREDICTIONS, read_rows, task_of
from checks.revisions import Revision
from stages.shared.runtime.terminal import warn
from stages.shared.task.groups import GROUP
from stages.shared.task.kept_columns import PREFIX
from stages.shared.task.predictions import open_predictions
from stages.shared.task.task import Task

FOLD = "download.fold"
HELD_OUT = "validation"  # the split that a fold becomes


@dataclass(frozen=True)
class OutOfFold:
    """What the models of all folds predicted, each for the rows that it did not see; in the order of `idx`."""

    task: Task
    experiments: list[str]  # of each fold
    fold: np.ndarray  # int64[rows], from 0
    idx: np.ndarray  # int32[rows]: data/raw's column
    labels: np.ndarray  # as in `problem_types.Problem`
    logits: np.ndarray  # float32[rows, columns]
    groups: np.ndarray | None  # int64[rows] from 0; None: each row is on its own
    rows: pa.Table  # the columns of data/raw that were asked for
    left_out: int  # rows that were not predicted, because of tokenize.max_samples

    @property
    def folds(self) -> int:
        return len(self.experiments)


def fold_experiments(params: Mapping[str, Any], folds: int, changes: Sequence[str]) -> list[Experiment]:
    """Returns the run of each fold.

    Args:
        params: params.yaml with these changes.
    """
    own = own_changes(params)
    return [
        Experiment(
            f"fold-{number}-of-{folds}",
            [*changes, *own, f"{FOLD}={{of: {folds}, hold_out: {number}}}"],
            (FOLD,),
            LAST_STAGE,
        )
        for number in range(1, folds + 1)
    ]


def own_changes(params: Mapping[str, Any]) -> list[str]:
    """Returns what else a fold's run takes besides the fold: the held-out rows are scored, and choose nothing."""
    changes = [f"evaluate.splits=[{HELD_OUT}]"]
    if _of(params, "calibrate", "split") not in (None, HELD_OUT):
        changes.append(f"calibrate.split={HELD_OUT}")
    return changes + without_choice(params)


def without_choice(params: Mapping[str, Any]) -> list[str]:
    """Returns the changes after which no epoch is chosen by its score."""
    changes = ["train.keep=last"] if _of(params, "train", "keep") != "last" else []
    patience = _of(params, "train", "early_stopping_patience")
    return changes + ([] if patience is None else ["train.early_stopping_patience=null"])


def _of(params: Mapping[str, Any], section: str, key: str) -> Any:
    values = params.get(section)
    return values.get(key) if isinstance(values, Mapping) else None


def predict_out_of_fold(
    repo: Any, program: str, folds: int, changes: Sequence[str], columns: Collection[str] | None = None
) -> OutOfFold:
    """Makes sure that every fold has run, and puts together what they predicted.

    Args:
        program: whose lines on stderr say what happens.
        folds: how many, as its `--k` says.
        columns: as in `put_together`.

    Raises:
        Unanswerable: there are too few folds, a run failed, or the folds do not belong together.
        BadInput: a logit is not finite.
    """
    if folds < 2:
        raise Unanswerable(f"--k {folds}: must be at least 2")
    params = resolve(Path(repo.root_dir), changes)
    experiments = fold_experiments(params, folds, changes)
    check_experiments(repo, experiments)
    if chosen := without_choice(params):
        warn(f"{program}: with {' and '.join(chosen)}: a fold must not choose the epoch of the model that predicts it")
    return put_together([finished(repo, program, one) for one in experiments], columns)


def put_together(found: Sequence[Revision], columns: Collection[str] | None = None) -> OutOfFold:
    """Reads the held-out rows of each fold, and puts them into the order of train.

    Args:
        columns: those of data/raw that are needed, `idx` and, where there is one, the group among them; None: all,
            which copies every text.

    Raises:
        Unanswerable: a row is in two folds, or the tasks differ.
        BadInput: a logit is not finite.
    """
    tasks = [task_of(one) for one in found]
    if any(task.label_names != tasks[0].label_names for task in tasks):
        raise Unanswerable("the folds have different labels; run the command again")
    parts, labels, logits, left_out = [], [], [], 0
    for one in found:
        files = one.files(PREDICTIONS)
        own = open_predictions(
            files[f"{HELD_OUT}/labels.npy"], files[f"{HELD_OUT}/logits.npy"], f"{one.name}: {HELD_OUT}"
        )
        whole = read_rows(one, HELD_OUT)
        parts.append(whole.slice(0, len(own[0])))
        left_out += len(whole) - len(own[0])
        labels.append(own[0])
        logits.append(own[1])
    rows = pa.concat_tables(parts)
    if columns is not None:
        rows = rows.select([name for name in rows.column_names if name in columns])
    idx = rows["idx"].to_numpy()
    if len(np.unique(idx)) < len(idx):
        raise Unanswerable("a row is in two folds; run the command again")
    order = np.argsort(idx, kind="stable")
    rows = rows.take(pa.array(order))
    fold = np.repeat(np.arange(len(found)), list(map(len, labels)))
    return OutOfFold(
        tasks[0],
        [one.name for one in found],
        fold[order],
        idx[order],
        np.concatenate(labels)[order],
        np.concatenate(logits)[order],
        _codes(rows[GROUP]) if GROUP in rows.column_names else None,
        rows,
        left_out,
    )


def _codes(names: pa.ChunkedArray) -> np.ndarray:
    return pc.dictionary_encode(names.combine_chunks()).indices.to_numpy().astype(np.int64)


def kept_columns(rows: pa.Table) -> dict[str, list[str]]:
    """Returns the columns of download.keep_columns, by their names in the data."""
    return {name.removeprefix(PREFIX): rows[name].to_pylist() for name in rows.column_names if name.startswith(PREFIX)}
