"""A finished run of any kind of problem, made in a moment: all that the report reads, by its contracts."""

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, Features, List, Value
from safetensors.numpy import save_file

from stages.report.inputs import ReportFiles
from stages.shared.runtime.splits import save_splits
from stages.shared.task.calibration import Calibration, Fit, write_calibration
from stages.shared.task.overlap import write_overlap
from stages.shared.task.task import Task, write_task

ROOT = Path(__file__).parents[1]
CLASSES, SETS, NUMBERS = "single_label_classification", "multi_label_classification", "regression"
METRICS = {
    CLASSES: ["accuracy", "f1_macro"],
    SETS: ["f1_micro", "accuracy"],
    NUMBERS: ["pearson", "mean_squared_error"],
}
CURVES = {
    "calibrated": ["split", "bin", "confidence", "accuracy", "examples"],
    "calibration": ["split", "bin", "confidence", "accuracy", "examples"],
    "precision_recall": ["split", "label", "recall", "precision"],
    "roc": ["split", "label", "false_positive_rate", "true_positive_rate"],
}
FIT = Fit(1.75, None, 1.5)
CALIBRATION = Calibration(["validation"], 60, 60, None, None, 0.1, FIT, [FIT] * 10, [])
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]


def make_run(
    folder: Path,
    problem: str = CLASSES,
    names: Sequence[str] = ("no", "yes"),
    scored: Sequence[str] = ("validation",),
    others: Sequence[str] = ("test",),
    examples: int = 60,
    pairs: bool = True,
    texts: Sequence[str] = (),
    warnings: Sequence[str] = (),
    errors: int = 50,
    right: bool = False,
    calibration: Calibration | None = CALIBRATION,
    simple: Sequence[str] = ("tfidf",),
    **task: Any,
) -> ReportFiles:
    """Writes the files and returns where they are.

    Args:
        others: splits without labels.
        texts: take the place of made ones, from the first row on.
        right: no prediction is wrong.
        calibration: what was fitted; never of a regression. None: nothing was.
        simple: models that the fine-tuned one was compared with.
    """
    generator = np.random.default_rng(7)
    names = [] if problem == NUMBERS else list(names)
    metrics = ["accuracy", "f1"] if problem == CLASSES and len(names) == 2 else METRICS[problem]
    made = Task("files", problem, names, metrics, "files", "0" * 64)
    made = replace(made, **task)
    inputs = ReportFiles(
        **{name: folder / "data" / name for name in ("raw", "overlap", "predictions")},
        **{name: folder / "models" / name for name in ("pretrained", "finetuned")},
        **{
            name: folder / "metrics" / f"{name}.json"
            for name in ("metrics", "intervals", "warnings", "data", "truncation", "selection", "environment")
        },
        baselines=folder / "metrics" / "baselines.json",
        fitted=folder / "metrics" / "calibration.json",
        calibrated_scores=folder / "metrics" / "calibrated.json",
        **{name: folder / "metrics" / "plots" / f"{name}.csv" for name in CURVES},
        history=folder / "metrics" / "history.csv",
        requirements=ROOT / "requirements.txt",
        hashed_requirements=ROOT / "hashes" / "requirements.txt",
        page=folder / "report.html",
        card=folder / "card.md",
        materials=folder / "model.cdx.json",
        params=folder / "params.yaml",
    )
    inputs.roc.parent.mkdir(parents=True)
    write_plots(inputs.roc.parent, made, scored)
    splits, scores, intervals = {}, {}, []
    for split in ("train", *scored, *others):
        labels, logits = predict(generator, problem, len(names) or 1, examples, right)
        if split in others:
            labels = np.full_like(labels, -1)
        splits[split] = rows(generator, labels, names, problem, pairs, texts)
        if split != "train":
            target = inputs.predictions / split
            target.mkdir(parents=True)
            np.save(target / "labels.npy", labels)
            np.save(target / "logits.npy", logits)
            write_overlap(inputs.overlap, split, np.zeros(len(labels), dtype=np.uint8))
        if split in scored:
            scores[split] = dict.fromkeys(made.metrics, 0.75) | {"loss": 0.5, "examples": examples}
            intervals += [
                {
                    "split": split,
                    "metric": name,
                    "value": 0.75,
                    "low": 0.6,
                    "high": 0.85,
                    "confidence": 0.95,
                    "method": "bootstrap",
                    "baseline": 0.5,
                    "examples": examples,
                }
                for name in made.metrics
            ]
    save_splits(splits, inputs.raw)
    write_task(inputs.raw / "task.json", made)
    for model in (inputs.pretrained, inputs.finetuned):
        model.mkdir(parents=True)
        (model / "config.json").write_text('{"architectures": ["TinyModel"]}')
        save_file(
            {"a": np.zeros((3, 4), dtype=np.float32), "b": np.zeros(5, dtype=np.float32)}, model / "model.safetensors"
        )
    write(inputs.metrics, scores)
    fitted = None if problem == NUMBERS else calibration
    write_calibration(inputs.fitted, fitted, "off")
    write(inputs.calibrated_scores, calibrated_scores(fitted, scored, examples))
    write(inputs.intervals, {"intervals": intervals})
    write(inputs.baselines, baseline_records(made, simple, scored, examples))
    write(
        inputs.warnings,
        {"warnings": [{"guard": "calibration", "split": scored[0], "message": text} for text in warnings]},
    )
    counted = {"train": 0, **dict.fromkeys(scored, 0)}
    write(
        inputs.data,
        {
            "splits": [
                {"split": split, "examples": examples}
                | ({"labels": dict.fromkeys(names, examples // len(names))} if split in counted and names else {})
                | ({"label_range": {"min": 0.0, "mean": 2.5, "max": 5.0}} if problem == NUMBERS else {})
                | {"duplicates": 0, "empty_texts": 0, "conflicting_labels": 0}
                for split in splits
            ],
            "shared": [{"splits": ["train", scored[0]], "examples": 2, "rows": [[3, 5], [4, 6]]}],
        },
    )
    write(
        inputs.truncation,
        {
            "splits": [
                {
                    "split": split,
                    "examples": examples,
                    "truncated": 1,
                    "tokens": {"mean": 9.5, "median": 9.0, "longest": 20},
                }
                for split in splits
            ]
        },
    )
    write(
        inputs.selection,
        {
            "selection": [
                {
                    "keep": "best",
                    "epoch": 2,
                    "epochs_trained": 3,
                    "step": 8,
                    "split": scored[0],
                    "metric": made.metrics[0],
                    "value": 0.75,
                }
            ],
            "origin": [
                {
                    "summary": "The classification head was new; everything else is the checkpoint's.",
                    "new": ["classifier.bias", "classifier.weight"],
                    "reordered": [],
                    "unused": {},
                }
            ],
        },
    )
    write(
        inputs.environment,
        {
            "environment": [
                {
                    "python": "3.11",
                    "packages": {"torch": "2.13.0"},
                    "machine": "x86_64",
                    "system": "Linux",
                    "cpu_capability": "AVX512",
                    "cpu_features": ["avx2", "fma"],
                    "threads": 2,
                    "device": "cpu",
                }
            ]
        },
    )
    with inputs.history.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["epoch", "step", "learning_rate", "train_loss", *made.metrics, "loss"])
        writer.writerows([epoch, 4 * epoch, 1e-4, 0.7 / epoch, *[0.7] * len(made.metrics), 0.6] for epoch in (1, 2, 3))
    write_params(inputs.params, pairs, errors)
    return inputs


def predict(
    generator: np.random.Generator, problem: str, columns: int, examples: int, right: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels, and logits that are mostly, or always, right."""
    noise = generator.normal(size=(examples, columns)).astype(np.float32) * (0.01 if right else 1)
    if problem == NUMBERS:
        numbers = generator.uniform(0, 5, examples).astype(np.float32)
        return numbers, numbers[:, None] + noise
    if problem == SETS:
        member = generator.random((examples, columns)) < 0.4
        return member.astype(np.float32), noise + np.where(member, 1.0, -1.0).astype(np.float32)
    labels = generator.integers(0, columns, examples)
    return labels, noise + 2 * np.eye(columns, dtype=np.float32)[labels]


def rows(
    generator: np.random.Generator,
    labels: np.ndarray,
    names: Sequence[str],
    problem: str,
    pairs: bool,
    texts: Sequence[str],
) -> Dataset:
    """Returns the canonical columns of download."""
    feature = {CLASSES: lambda: ClassLabel(names=list(names)), SETS: lambda: List(Value("float32"))}.get(
        problem, lambda: Value("float32")
    )()
    count = len(labels)

    def column() -> list[str]:
        made = [
            " ".join(generator.choice(WORDS, size)) for size in generator.integers(3, 12, max(0, count - len(texts)))
        ]
        return [*texts[:count], *made]

    columns: dict[str, Any] = {"text": column()} | ({"text_pair": column()} if pairs else {})
    columns |= {"label": labels.tolist(), "idx": list(range(count))}
    features = Features(
        {name: Value("string") for name in columns if name.startswith("text")}
        | {"label": feature, "idx": Value("int32")}
    )
    return Dataset.from_dict(columns, features=features)


def write_plots(folder: Path, task: Task, splits: Sequence[str]) -> None:
    """Writes the curves of evaluate; for a regression they have no rows."""
    points = [i / 10 for i in range(11)]
    rows: dict[str, list[list[Any]]] = {name: [] for name in CURVES}
    for split in splits if task.label_names else []:
        rows["calibration"] += [[split, i + 1, 0.5 + i / 20, 0.45 + i / 20, 6] for i in range(10)]
        rows["calibrated"] += [[split, i + 1, 0.5 + i / 20, 0.48 + i / 20, 6] for i in range(10)]
        for name in task.label_names[-3:]:
            rows["precision_recall"] += [[split, name, x, 1 - x / 2] for x in points]
            rows["roc"] += [[split, name, x, x**0.5] for x in points]
    for name, columns in CURVES.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream, lineterminator="\n").writerows([columns, *rows[name]])


def calibrated_scores(calibration: Calibration | None, splits: Sequence[str], examples: int) -> dict[str, Any]:
    """Returns what evaluate says of a calibration."""
    found: dict[str, Any] = {"calibrated": [], "sets": [], "selective": []}
    for split in splits if calibration is not None else []:
        base = {"split": split, "cross_fitted": True}
        ends = {"low": 0.3, "high": 0.5}
        none = dict.fromkeys(ends)
        found["calibrated"] += [
            base | {"metric": "loss", "before": 0.5, "after": 0.4} | ends,
            base | {"metric": "brier_score", "before": 0.2, "after": 0.15} | none,
            base | {"metric": "calibration_error", "before": 0.1, "after": 0.03, "by_chance": 0.05} | none,
        ]
        covered = {"error_rate": 0.1, "covered": 0.91, "low": 0.85, "high": 0.95, "mean_size": 1.2}
        sizes = [{"labels": 0, "examples": 2}, {"labels": 1, "examples": examples - 2}]
        found["sets"].append(base | covered | {"examples": examples, "sizes": sizes, "wrong_of_one": 0.08})
        found["selective"] += [
            {
                "split": split,
                "answered": share,
                "examples": 30,
                "probability": 0.9,
                "error": 0.1,
                "low": 0.05,
                "high": 0.2,
            }
            for share in (1.0, 0.5)
        ]
    return found


def baseline_records(task: Task, simple: Sequence[str], splits: Sequence[str], examples: int) -> dict[str, Any]:
    """Returns what baselines says of simple models; of the loss there is no interval."""
    ends = {"low": 0.5, "high": 0.7, "difference_low": 0.02, "difference_high": 0.28}
    return {
        "baselines": [
            {"split": split, "baseline": name, "metric": metric, "value": 0.6, "fine_tuned": 0.75, "difference": 0.15}
            | (dict.fromkeys(ends) if metric == "loss" else ends)
            | {"withheld": None, "difference_withheld": None, "p_value": 0.001, "p_holm": 0.0025}
            | {"fine_tuned_is": "better", "examples": examples, "groups": None}
            for name in simple
            for split in splits
            for metric in (*task.metrics, "loss")
        ],
        "models": [
            {"baseline": name, "model": "logistic regression", "features": 1234, "examples": examples}
            | {"strength": 1.0, "converged": True}
            for name in simple
        ],
    }


def write_params(file: Path, pairs: bool, errors: int) -> None:
    """Writes the sections that the report shows, and one that it must not."""
    pair = "sentence2" if pairs else "null"
    file.write_text(
        "download: {dataset: files, dataset_files: data/made, checkpoint: 'package:made/model', checkpoint_files: x, "
        f"checkpoint_revision: null, text_pair_column: {pair}, keep_columns: []}}\n"
        "tokenize: {max_length: 128, long_texts: truncate}\n"
        "train: {seed: 42, learning_rate: 1.0e-4, early_stopping_patience: null}\n"
        "predict: {arithmetic: portable}\ncalibrate: {split: validation}\n"
        "evaluate: {splits: [validation], confidence: 0.95}\nbaselines: {tfidf: true, frozen_encoder: false}\n"
        f"report: {{errors: {errors}, slice_columns: null}}\nexecution: {{device: auto}}\n"
    )


def write(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content), encoding="utf-8")
