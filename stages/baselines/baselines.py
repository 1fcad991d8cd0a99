"""baselines: data/{raw,tokenized,predictions}/, models/pretrained/ -> metrics/baselines.json."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from stages.baselines.linear_model import LinearModel, fit_chosen
from stages.baselines.tfidf import Matrix, TfIdf, count_words
from stages.shared.runtime.execution import Execution
from stages.shared.runtime.params import PARAMS_FILE, params_dataclass, read_document, read_params
from stages.shared.runtime.publish import publish, write_json
from stages.shared.runtime.splits import label_array, load_splits, stream_rows
from stages.shared.statistics.confidence import MetricInterval, metric_intervals
from stages.shared.statistics.paired import SplitComparison, compare_split, judged
from stages.shared.statistics.params import EvaluateParams
from stages.shared.statistics.swaps import PairedPredictions
from stages.shared.task.asked import chosen_splits
from stages.shared.task.groups import row_groups
from stages.shared.task.predictions import open_labelled
from stages.shared.task.task import Task, read_task

MOST_BYTES = 2**26  # of text that the TF-IDF model learns from: 64 MiB, a million short pairs
MOST_WORK = 2**30  # bytes of text times labels, by which the time grows: minutes
MOST_EXAMPLES = 2**18  # that the head of the frozen encoder learns from
SEED = 0  # of which examples of train these are
DIGITS = 6  # that are written; chance is in the third
PLACES = ("text", "text_pair")


@params_dataclass
class BaselinesParams:
    tfidf: bool  # logistic regression, or ridge, on words and pairs of words
    frozen_encoder: bool  # the same on what the checkpoint makes of the texts before it is fine-tuned


@dataclass(frozen=True)
class BaselinesFiles:
    """What the stage reads, then what it writes."""

    raw: Path = Path("data/raw")
    tokenized: Path = Path("data/tokenized")
    predictions: Path = Path("data/predictions")
    pretrained: Path = Path("models/pretrained")
    params: Path = PARAMS_FILE  # for the sections `evaluate` and `predict`
    baselines: Path = Path("metrics/baselines.json")


@dataclass(frozen=True)
class Baseline:
    """A simple model of the task."""

    name: str  # its key in params.yaml
    model: LinearModel
    features: int
    learned_from: int  # examples of train
    logits: dict[str, np.ndarray]  # float32[examples, columns] of each split


def baselines(p: BaselinesParams, execution: Execution, files: BaselinesFiles) -> None:
    """Trains simple models on the examples that the fine-tuned one was trained on, and compares them with it.

    Raises:
        BadInput: a split was not predicted, or has no labels, or the encoder cannot be loaded.
    """
    task, asked = read_task(files.raw / "task.json"), read_params("evaluate", EvaluateParams, files.params)
    splits = chosen_splits(asked.splits, sorted(folder.name for folder in files.predictions.iterdir()))
    truth = {split: open_labelled(files.predictions, split) for split in splits}
    groups = {split: row_groups(files.raw / split, len(labels)) for split, (labels, _) in truth.items()}
    sizes = {split: len(labels) for split, (labels, _) in truth.items()}
    made = []
    if p.tfidf:
        made.append(of_words(task, files, sizes))
    if p.frozen_encoder:
        made.append(of_encoder(task, files, sizes, execution.device))
    compared, values = [], []
    for one in made:
        for split, (labels, logits) in truth.items():
            pair = PairedPredictions(task, labels, one.logits[split], logits, groups[split])
            compared.append(compare_split(split, pair, asked, 1 - asked.confidence, {}))
            values.append(own_intervals(pair, asked))
    names = [one.name for one in made for _ in truth]
    with publish(files.baselines) as (out,):
        write_json(
            out,
            {
                "baselines": list(describe(names, judged(compared, 1 - asked.confidence), values)),
                "models": [describe_model(one, task) for one in made],
            },
        )


def of_words(task: Task, files: BaselinesFiles, sizes: Mapping[str, int]) -> Baseline:
    """Makes the TF-IDF model: of as many examples of train, drawn at random, as the memory allows."""
    labels, groups = train_labels(files)
    most = min(MOST_BYTES, MOST_WORK // task.columns)
    chosen = drawn(bytes_of_texts(files.raw, len(labels)), most)
    counts = count_split(files.raw, "train", chosen)
    weigh = TfIdf(counts, task.columns)
    features = weigh(counts)
    model = fit_chosen(task, features, labels[chosen], None if groups is None else renumbered(groups[chosen]))
    logits = {
        split: np.concatenate([model.logits(weigh(part)) for part in counted(files.raw, split, np.arange(size))])
        for split, size in sizes.items()
    }
    return Baseline("tfidf", model, features.shape[1], len(chosen), logits)


def of_encoder(task: Task, files: BaselinesFiles, sizes: Mapping[str, int], device: str) -> Baseline:
    """Makes the linear head on the frozen encoder; torch is imported for nothing else."""
    from stages.baselines.encoder import FrozenEncoder

    encoder = FrozenEncoder(read_document(files.params)["predict"], device, files.pretrained)
    splits = load_splits(files.tokenized)
    labels, groups = train_labels(files)
    chosen = drawn(np.ones(len(labels), dtype=np.int64), MOST_EXAMPLES)
    features = encoder(splits["train"], chosen)
    middle, spread = features.mean(axis=0), features.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    model = fit_chosen(
        task, (features - middle) / scale, labels[chosen], None if groups is None else renumbered(groups[chosen])
    )
    logits = {
        split: model.logits((encoder(splits[split], np.arange(size)) - middle) / scale) for split, size in sizes.items()
    }
    return Baseline("frozen_encoder", model, features.shape[1], len(chosen), logits)


def train_labels(files: BaselinesFiles) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns labels and groups of the examples that the fine-tuned model was trained on: the first of data/raw."""
    split = load_splits(files.tokenized)["train"]
    labels = label_array(split)
    return labels, row_groups(files.raw / "train", len(labels))


def drawn(sizes: np.ndarray, most: int) -> np.ndarray:
    """Draws as many examples at random as are together no larger than `most`; one at least.

    Args:
        sizes: int64[examples].

    Returns:
        int64[drawn], their rows in rising order.
    """
    order = np.random.default_rng(SEED).permutation(len(sizes))
    return np.sort(order[: max(1, int((np.cumsum(sizes[order]) <= most).sum()))])


def bytes_of_texts(raw_dir: Path, examples: int) -> np.ndarray:
    """Returns how long the texts of the first examples of train are, int64[examples], in bytes of UTF-8."""
    parts = [
        sum(pc.fill_null(pc.binary_length(batch[name]), 0).to_numpy().astype(np.int64) for name in names_in(batch))
        for batch in stream_rows(raw_dir, "train")
    ]
    return np.concatenate(parts)[:examples]


def counted(raw_dir: Path, split: str, rows: np.ndarray) -> Iterator[list[Matrix]]:
    """Counts the words of these rows of a split, batch by batch: float64[examples, words] for each text."""
    start = 0
    for batch in stream_rows(raw_dir, split):
        inside = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + len(batch))] - start
        start += len(batch)
        if len(inside):
            some = batch.take(pa.array(inside))
            yield [count_words([text or "" for text in some[name].to_pylist()]) for name in names_in(some)]


def count_split(raw_dir: Path, split: str, rows: np.ndarray) -> list[Matrix]:
    """Does so for all of the rows at once."""
    parts = zip(*counted(raw_dir, split, rows), strict=True)
    return [sparse.vstack(part, format="csr") for part in parts]


def names_in(batch: Any) -> list[str]:
    """Returns the columns of a batch of data/raw that hold texts."""
    return [name for name in PLACES if name in batch.schema.names]


def renumbered(groups: np.ndarray) -> np.ndarray:
    """Numbers the groups that are left from 0 without a gap: int64[examples]."""
    numbers: np.ndarray = np.unique(groups, return_inverse=True)[1]
    return numbers


def own_intervals(pair: PairedPredictions, asked: EvaluateParams) -> dict[str, MetricInterval]:
    """Returns the intervals of the baseline's own scores."""
    return metric_intervals(
        pair.task,
        pair.labels,
        [pair.before],
        confidence=asked.confidence,
        resamples=asked.resamples,
        seed=asked.seed,
        groups=pair.groups,
        losses=pair.losses[:1],
    )


def describe(
    names: Sequence[str], splits: Sequence[SplitComparison], values: Sequence[Mapping[str, MetricInterval]]
) -> Iterator[dict[str, Any]]:
    """Yields a record for each baseline, split and metric: what it scores, and the fine-tuned model against it."""
    for name, split, intervals in zip(names, splits, values, strict=True):
        for one in split.differences:
            own = intervals[one.metric]
            yield {
                "split": split.split,
                "baseline": name,
                "metric": one.metric,
                "value": _short(one.old),
                "low": _short(own.low),
                "high": _short(own.high),
                "withheld": own.withheld,
                "fine_tuned": _short(one.new),
                "difference": _short(one.difference),
                "difference_low": _short(one.low),
                "difference_high": _short(one.high),
                "difference_withheld": one.withheld,
                "p_value": _short(one.p_value),
                "p_holm": _short(one.p_holm),
                "fine_tuned_is": one.verdict,
                "examples": split.examples,
                "groups": split.groups,
            }


def describe_model(made: Baseline, task: Task) -> dict[str, Any]:
    """Says what a baseline was fitted with."""
    return {
        "baseline": made.name,
        "model": "ridge regression" if task.problem.numeric else "logistic regression",
        "features": made.features,
        "examples": made.learned_from,
        "strength": made.model.strength,
        "converged": made.model.precise,
    }


def _short(value: float | None) -> float | None:
    return None if value is None else round(float(value), DIGITS)
