"""calibrate: data/{predictions,raw}/ -> metrics/calibration.json."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from stages.calibrate.sets import fewest, fit_greatest_loss, one_of_each
from stages.calibrate.temperature import fit_temperature
from stages.calibrate.thresholds import fit_thresholds
from stages.shared.runtime.execution import Execution
from stages.shared.runtime.params import params_dataclass
from stages.shared.runtime.publish import publish
from stages.shared.task.asked import check_calibration, chosen_splits
from stages.shared.task.calibration import (
    FOLDS,
    SEED,
    Calibration,
    Fit,
    calibrated_logits,
    deal,
    write_calibration,
)
from stages.shared.task.groups import groups_of_splits
from stages.shared.task.metrics import MetricName
from stages.shared.task.predictions import open_labelled
from stages.shared.task.task import Task, read_task

FEWEST = 10  # examples, or groups of them, to fit a temperature and thresholds on
MOST = 100_000  # examples; more would say nothing new of a handful of numbers


@params_dataclass
class CalibrateParams:
    split: Annotated[str, Field(min_length=1)] | None  # to fit on; `validation` also means its like. None: off
    thresholds: MetricName | None  # to choose them by; None: the labels are the model's own
    costs: list[list[float]] | None  # of each answer, in columns, for each right label, in rows
    error_rate: Annotated[float, Field(gt=0, lt=1)] | None  # of sets of labels; None: no sets


@dataclass(frozen=True)
class CalibrateFiles:
    """What the stage reads, then what it writes."""

    predictions: Path = Path("data/predictions")
    raw: Path = Path("data/raw")
    calibration: Path = Path("metrics/calibration.json")


def calibrate(p: CalibrateParams, execution: Execution, files: CalibrateFiles) -> None:
    """Fits the temperature and what else is asked for, once on the whole split and once without each of its folds.

    Raises:
        BadInput: what is asked does not fit the task, or the split was not predicted, or has no labels.
    """
    task = read_task(files.raw / "task.json")
    check_calibration(task, p.split, p.thresholds, p.costs, p.error_rate)
    with publish(files.calibration) as (out,):
        if p.split is None:
            write_calibration(out, None, "params.yaml: calibrate.split is null")
        elif task.problem.numeric:
            write_calibration(out, None, "does not apply: a regression has no probabilities")
        else:
            write_calibration(out, fit_calibration(task, p, p.split, files))


def fit_calibration(task: Task, p: CalibrateParams, split: str, files: CalibrateFiles) -> Calibration:
    """Reads the split, or its like, and fits on all of their examples together."""
    known = sorted(folder.name for folder in files.predictions.iterdir())
    splits = chosen_splits([split], known, "calibrate.split", "fit on")
    read = [open_labelled(files.predictions, name, "calibrate.split", "fit on") for name in splits]
    sizes = {name: len(labels) for name, (labels, _) in zip(splits, read, strict=True)}
    groups = groups_of_splits(files.raw, sizes)
    examples = sum(sizes.values())
    folds = deal(examples, groups)
    drawn = examples if groups is None else int(groups.max()) + 1
    rows = np.arange(examples)
    if examples > MOST:
        rows = np.sort(np.random.default_rng(SEED).permutation(examples)[:MOST])
    labels, logits = (_rows_of([one[part] for one in read], rows) for part in (0, 1))
    folds = folds[rows]
    alike = np.ones(len(rows), dtype=np.bool_) if groups is None else one_of_each(groups[rows])
    fits = []
    for number in (None, *range(min(FOLDS, drawn) if drawn > 1 else 0)):
        keep = folds != number if number is not None else np.ones(len(rows), dtype=np.bool_)
        fits.append(fit(task, p, labels[keep], logits[keep], alike[keep], enough=drawn >= FEWEST))
    (whole, notes), *parts = fits
    unit = "examples" if groups is None else "groups"
    if drawn < FEWEST:
        notes.append(f"{drawn} {unit} are too few to fit a temperature or thresholds, which takes {FEWEST}")
    if p.error_rate is not None and whole.greatest_loss is None:
        notes.append(
            f"{drawn} {unit} are too few for an error rate of {p.error_rate:g}, which takes {fewest(p.error_rate)}: "
            "every label is in every set"
        )
    without = [part for part, _ in parts]
    return Calibration(splits, examples, drawn, p.thresholds, p.costs, p.error_rate, whole, without, notes)


def fit(
    task: Task, p: CalibrateParams, labels: np.ndarray, logits: np.ndarray, alike: np.ndarray, *, enough: bool
) -> tuple[Fit, list[str]]:
    """Fits on some examples; returns with it why something is not what the likelihood says.

    Args:
        labels: as in `problem_types.Problem`.
        logits: float32[examples, columns].
        alike: bool[examples]: on which of them to fit sets (`sets.one_of_each`).
        enough: whether there are enough examples for a temperature and thresholds; sets need no least number.
    """
    notes, temperature, thresholds, greatest = [], 1.0, None, None
    if enough:
        temperature, note = fit_temperature(task, labels, logits)
        notes += [note] if note is not None else []
    if enough and p.thresholds is not None:
        probabilities = task.classification.probabilities(calibrated_logits(Fit(temperature), logits))
        thresholds = fit_thresholds(task, p.thresholds, labels, probabilities)
    if p.error_rate is not None:
        greatest = fit_greatest_loss(task.problem.losses(logits[alike], labels[alike]), p.error_rate)
    return Fit(temperature, thresholds, greatest), notes


def _rows_of(arrays: Sequence[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Takes rows, in rising order, of several arrays as if these were one."""
    starts = np.cumsum([0, *(len(one) for one in arrays)])
    ends = np.searchsorted(rows, starts)
    parts = [one[rows[ends[i] : ends[i + 1]] - starts[i]] for i, one in enumerate(arrays)]
    return np.concatenate(parts)
