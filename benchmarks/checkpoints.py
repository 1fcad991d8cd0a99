"""Which types of checkpoint can be trained? Makes each one tiny, trains and interrupts it, and publishes the result.

    python -m benchmarks.checkpoints [TYPE ...]

Takes every type in transformers' own mapping of sequence classifiers, or those that are named. Writes
benchmarks/results/checkpoints.json and the table of docs/checkpoints.md. An interrupted survey goes on where it was.
"""

import argparse
import csv
import gc
import hashlib
import json
import os
import re
import shutil
import sys
import traceback
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import transformers
from datasets import ClassLabel, Dataset, Features, Value
from tqdm import tqdm

from benchmarks.clone import ROOT, SCRATCH
from benchmarks.families import TYPES, WIDTH, make, tokenizer_class
from benchmarks.machine import describe
from stages.predict.predict import PredictFiles, PredictParams, predict
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.publish import write_json
from stages.shared.runtime.splits import load_splits, save_splits
from stages.shared.task.task import Task, write_task
from stages.tokenize.checkpoint import positions
from stages.tokenize.tokenize import TokenizeFiles, TokenizeParams, tokenize
from stages.train.train import TrainFiles, TrainParams, train
from stages.train.trainer import ResumableTrainer
from tests.tiny import EXECUTION, HARD_PAIRS

RESULT = ROOT / "benchmarks" / "results" / "checkpoints.json"
PAGE = ROOT / "docs" / "checkpoints.md"
PLACE = re.compile(r"(?<=<!-- survey -->\n).*?(?=<!-- end -->)", re.DOTALL)
TOLERANCE = 1e-5  # between two logits that differ by rounding alone
LABELS = ["not_equivalent", "equivalent"]
RECIPE: dict[str, Any] = {
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


def survey(folder: Path, pairs: int = 32) -> dict[str, Any]:
    """Takes the checkpoint in `folder`/checkpoint through the stages.

    Returns:
        `verdict`: works, refused or fails; where it is refused, `stage` and the `line` that it says; where it is not,
        `difference`: the largest between a logit of predict and the same one of `pipeline`.
    """
    checkpoint = folder / "checkpoint"
    prepare(folder, pairs)
    stage = "tokenize"
    try:
        limit = positions(transformers.AutoConfig.from_pretrained(checkpoint))
        p = TokenizeParams(min(WIDTH, limit or WIDTH), "truncate", 0, "mean", None)
        files = TokenizeFiles(folder / "raw", checkpoint, folder / "tokenized", folder / "truncation.json")
        tokenize(p, EXECUTION, files)
        stage = "train"
        whole = run(folder, "whole")
    except BadInput as error:
        line = str(error).replace(str(checkpoint), "models/pretrained")
        return {"verdict": "refused", "stage": stage, "line": line}
    interrupt(folder, "resumed", step=5)
    same_bytes = run(folder, "resumed").read_bytes() == whole.read_bytes()
    logits = predicted(folder)
    difference = float(np.abs(logits - answered(folder, p.max_length)).max())
    if not same_bytes:
        return {"verdict": "fails", "line": "other bytes after an interruption"}
    if len(np.unique(logits[:, 0])) == 1:
        return {"verdict": "fails", "line": "the same logits for every text"}
    if not difference <= TOLERANCE:  # nor where it is no number
        return {"verdict": "fails", "line": f"pipeline gives other logits, by {difference:.1e}"}
    return {"verdict": "works", "difference": float(f"{difference:.1e}")}


def prepare(folder: Path, pairs: int) -> None:
    """Writes pairs of the sample, three of four to train on."""
    with HARD_PAIRS.open(encoding="utf-8", newline="") as stream:
        rows = [row for row, _ in zip(csv.DictReader(stream), range(pairs), strict=False)]
    features = {"text": Value("string"), "text_pair": Value("string"), "label": ClassLabel(names=LABELS)}
    columns = {
        # of many lengths, some cut: what padding changes is to be seen
        "text": [row["sentence1"][: 4 + 31 * number % 100] for number, row in enumerate(rows)],
        "text_pair": [row["sentence2"][: 4 + 17 * number % 100] for number, row in enumerate(rows)],
        "label": [int(row["label"]) for row in rows],
        "idx": list(range(len(rows))),
    }
    data = Dataset.from_dict(columns, features=Features(features | {"idx": Value("int32")}))
    cut = 3 * len(data) // 4
    splits = {"train": data.select(range(cut)), "validation": data.select(range(cut, len(data)))}
    save_splits(splits, folder / "raw")
    write_task(folder / "task.json", Task("files", "single_label_classification", LABELS, ["accuracy"], "files", "0"))


def run(folder: Path, name: str, minutes: float = 60.0) -> Path:
    """Trains six steps, and returns the weights."""
    target = folder / name
    target.mkdir(exist_ok=True)
    files = TrainFiles(
        tokenized=folder / "tokenized",
        task=folder / "task.json",
        pretrained=folder / "checkpoint",
        finetuned=target / "finetuned",
        epochs=target / "epochs.npy",
        history=target / "history.csv",
        selection=target / "selection.json",
        environment=target / "environment.json",
        params=folder / "params.yaml",
        scratch=folder / "scratch",
    )
    train(TrainParams(**RECIPE), replace(EXECUTION, checkpoint_minutes=minutes), files)
    return target / "finetuned" / "model.safetensors"


def interrupt(folder: Path, name: str, step: int) -> None:
    """Trains up to a step, as a kill would leave it."""
    original = ResumableTrainer.training_step
    steps = iter(range(1, 1000))

    def training_step(self: ResumableTrainer, *arguments: Any, **keywords: Any) -> Any:
        if next(steps) == step:
            raise KeyboardInterrupt
        return original(self, *arguments, **keywords)

    ResumableTrainer.training_step = training_step  # type: ignore[method-assign]
    try:
        run(folder, name, minutes=1e-9)  # a checkpoint after each
    except KeyboardInterrupt:
        pass
    finally:
        ResumableTrainer.training_step = original  # type: ignore[method-assign]


def predicted(folder: Path) -> np.ndarray:
    """Returns predict's logits of the validation split, float32[examples, 2]."""
    p = PredictParams(arithmetic="portable", token_budget=512, threads=1)
    predictions = folder / "predictions"
    files = PredictFiles(
        folder / "tokenized", folder / "task.json", folder / "resumed" / "finetuned", predictions, folder / "parts"
    )
    predict(p, EXECUTION, files)
    return np.asarray(np.load(predictions / "validation" / "logits.npy"))


def answered(folder: Path, width: int) -> np.ndarray:
    """Returns what `pipeline()` says of the same texts, one by one: float64[examples, 2]."""
    classify = transformers.pipeline("text-classification", str(folder / "resumed" / "finetuned"), device="cpu")
    logits = []
    for row in load_splits(folder / "raw")["validation"]:
        pair = {"text": row["text"], "text_pair": row["text_pair"]}
        answer = classify(pair, top_k=None, function_to_apply="none", truncation=True, max_length=width)
        scores = {score["label"]: score["score"] for score in answer}
        logits.append([scores[name] for name in LABELS])
    return np.array(logits)


def apart(model_type: str, folder: Path) -> dict[str, Any]:
    """Makes and surveys a type in a process forked from this one, which has the imports and no state of another."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    child = os.fork()
    if child == 0:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a fork has none of the threads that it would wait for
        try:
            with (folder / "log").open("w") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            make(model_type, folder / "checkpoint")
            write_json(folder / "result.json", survey(folder))
        except BaseException as error:
            traceback.print_exc()
            said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            write_json(folder / "result.json", {"verdict": "fails", "line": said})
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    if not (folder / "result.json").exists():
        return {"verdict": "fails", "line": "the process died"}
    return dict(json.loads((folder / "result.json").read_text(encoding="utf-8")))


def surveyed(types: Iterable[str], folder: Path) -> list[dict[str, Any]]:
    """Returns a row for each type, from the file that it left in `folder` if it was surveyed before."""
    folder.mkdir(parents=True, exist_ok=True)
    gc.freeze()  # as the stages do after their imports: no search for garbage among them
    rows = []
    for model_type in (progress := tqdm(types, disable=None)):
        progress.set_description(model_type)
        done = folder / f"{model_type}.json"
        if not done.exists():
            verdict = apart(model_type, folder / model_type)
            if verdict["verdict"] == "fails":
                print(f"{model_type}: {(folder / model_type / 'log').read_text()}", file=sys.stderr)
            shutil.rmtree(folder / model_type)
            write_json(done, verdict)
        row = json.loads(done.read_text(encoding="utf-8"))
        rows.append({"type": model_type, "tokenizer": tokenizer_class(model_type), **row})
    return rows


def code() -> str:
    """Hashes what a verdict depends on, as it lies in this folder."""
    files = [*sorted((ROOT / "stages").rglob("*.py")), ROOT / "requirements.txt"]
    files += [ROOT / "benchmarks" / "families.py", ROOT / "benchmarks" / "checkpoints.py"]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def table(result: dict[str, Any]) -> str:
    """Makes the page's table: a row for each type."""
    verdicts = [row["verdict"] for row in result["types"]]
    lines = [
        f"Of {len(verdicts)} types, {verdicts.count('works')} work and {verdicts.count('refused')} are refused "
        f"(transformers {result['versions']['transformers']}, {result['date']}).",
        "",
        "| `model_type` | verdict | tokenizer class | message |",
        "| --- | --- | --- | --- |",
    ]
    for row in result["types"]:
        said = f"{row['stage']}: {row['line']}" if "stage" in row else row.get("line", "")
        said = said.replace("|", "\\|")
        lines.append(f"| {row['type']} | {row['verdict']} | {row['tokenizer']} | {said} |")
    return "\n".join(lines)


def filled(page: str, result: dict[str, Any]) -> str:
    """Returns the page with the table of the last survey."""
    return PLACE.sub(lambda _: f"\n{table(result)}\n\n", page)


def main(types: list[str]) -> None:
    """Surveys all types, writes the result file and the page; of types that are named, anew, and prints the rows."""
    if types:
        with TemporaryDirectory() as folder:
            for row in surveyed(types, Path(folder)):
                print(json.dumps(row))
        return
    rows = surveyed(TYPES, SCRATCH / "checkpoints" / code())
    result = {**describe(), "tolerance": TOLERANCE, "types": rows}
    write_json(RESULT, result)
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), result), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("types", nargs="*", metavar="TYPE", help="model_type of a config.json")
    main(parser.parse_args().types)
