"""Writes the finished model in ONNX, and what that costs: flipped predictions, moved scores, size and speed.

    pip install -r requirements-onnx.txt
    python -m ship.export --onnx [--int8]

The exported model predicts the splits that `evaluate` scored, in the batches of `predict`, and is compared with the
logits of data/predictions. The folder has the names that `optimum` and `onnxruntime` expect: model.onnx and, with
--int8, model_quantized.onnx, beside config.json and the tokenizer, which cuts texts where `tokenize` cut them. What was
found is in price.json. The model is that of dvc.lock, or of another commit's (`--revision`).
Exit status: 0; 1 with one line on stderr when the model cannot be exported or too many predictions are flipped, and
nothing is written then.
"""

import argparse
import importlib.util
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from checks import cli
from checks.predictions import PREDICTIONS, read_groups
from checks.rules import FLIPS_AT_MOST
from ship.model import FinishedModel, calibration_of, link_files, open_model, stale
from ship.package import CARD
from ship.price import most_flipped, price
from stages.shared.runtime.arithmetic import prepare_for
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.params import fill_section
from stages.shared.runtime.publish import publish, write_json
from stages.shared.runtime.splits import load_splits
from stages.shared.runtime.terminal import say, warn
from stages.shared.statistics.params import EvaluateParams
from stages.shared.statistics.swaps import PairedPredictions
from stages.shared.task.asked import chosen_splits
from stages.shared.task.task import read_task

PACKAGES = ("onnx", "onnxruntime", "onnxscript")
FLOAT, INT8 = "model.onnx", "model_quantized.onnx"
FOLDERS = ("data/raw", "data/tokenized", PREDICTIONS)
FILE = "price.json"  # beside the model; a rule of `checks.gate` reads it
TIMED = 2000  # examples at most that the speed is measured on

Forward = Callable[[Any], np.ndarray]  # a batch -> float32[examples, columns]


def run(repo: Any, options: argparse.Namespace) -> int:
    """Exports what was asked for and returns the exit status."""
    check_packages()
    check_out(Path(options.out))
    root = Path(repo.root_dir)
    (root / ".scratch").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="export-", dir=root / ".scratch") as scratch:
        model = open_model(repo, options.revision, Path(scratch) / "model")
        if line := stale(model):
            warn(f"export: {line}")
        check_long_texts(model)
        data = {name: Path(scratch) / name for name in FOLDERS}
        for name, folder in data.items():
            link_files(model.revision, name, folder)
        prepare_for(model.params["predict"].get("arithmetic"))
        with publish(Path(options.out)) as (target,):
            target.mkdir()
            found = export(model, data, target, int8=options.int8)
            for line in table(found):
                say(line)
            for form in found["forms"]:
                check_flips(form, options.flips_at_most)
    say(f"export: {options.out} has the model that was scored, and {FILE}")
    return 0


def check_packages() -> None:
    """Makes sure that the packages of an export are there.

    Raises:
        BadInput: one is not.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise BadInput(f"{', '.join(missing)}: not installed; `pip install -r requirements-onnx.txt`")


def check_out(out: Path) -> None:
    """Makes sure that nothing but an older export would be replaced.

    Raises:
        BadInput: what lies there is something else.
    """
    replaceable = (out / FILE).is_file() or (out.is_dir() and not any(out.iterdir()))
    if out.is_symlink() or (out.exists() and not replaceable):
        raise BadInput(f"--out {out}: is there already and no earlier export; name a folder that is new or empty")


def check_long_texts(model: FinishedModel) -> None:
    """Makes sure that one call of the exported model answers a text.

    Raises:
        BadInput: the answer is made of several windows.
    """
    if model.cut.long_texts == "windows":
        raise BadInput(
            f"{model.revision.name}: tokenize.long_texts is windows, and an exported model answers one window at a "
            "time; use `python -m ship.score`, or train with truncate or head_tail"
        )
    if model.cut.long_texts == "head_tail":
        warn(
            "export: the tokenizer beside the model cuts a long text at its end, where tokenize keeps a part of it "
            "(tokenize.long_texts: head_tail)"
        )


def check_flips(form: Mapping[str, Any], most: float) -> None:
    """Makes sure that a form of the model gives its predictions, but for a share of them.

    Raises:
        BadInput: it does not.
    """
    worst = most_flipped(form["splits"])
    if not worst["flipped"] <= most:
        raise BadInput(
            f"{form['file']}: {worst['flipped']:.1%} of the predictions of {worst['split']} are flipped, "
            f"and {most:.1%} may be (--flips-at-most); nothing was written"
        )


def export(model: FinishedModel, data: Mapping[str, Path], folder: Path, *, int8: bool) -> dict[str, Any]:
    """Writes the forms of a model and price.json into a folder, and returns what that says.

    Args:
        data: where the outs of `FOLDERS` lie.

    Raises:
        BadInput: torch cannot export the model.
    """
    from ship.onnx_model import OnnxModel, write_int8, write_onnx  # here, for they import torch
    from stages.predict.predict import Predictor, PredictParams
    from stages.shared.model.batches import PaddedRows

    for file in model.folder.iterdir():
        if file.suffix != ".safetensors":
            shutil.copyfile(file, folder / file.name)
    shutil.copyfile(model.revision.files(CARD)["."], folder / "README.md")
    calibration_of(model.revision, folder)  # it lies in the folder then, if there is one
    p = fill_section(PredictParams, model.params["predict"], f"{model.revision.name}: dvc.lock: predict")
    predictor = Predictor(p, "cpu", model.folder)
    scoring = evaluate_params(model)
    tokenized = load_splits(data["data/tokenized"])
    known = [name for name in tokenized if name != "train"]
    splits = {name: tokenized[name] for name in chosen_splits(scoring.splits, known)}
    rows = {name: PaddedRows(split, predictor.tokenizer) for name, split in splits.items()}
    first = next(iter(splits))
    write_onnx(model.folder, rows[first][np.array([0, len(splits[first]) - 1])], folder / FLOAT)
    if int8:
        write_int8(folder / FLOAT, folder / INT8)
    runs: dict[str, Forward] = {
        form: OnnxModel.load(folder / form, p.threads) for form in ([FLOAT, INT8] if int8 else [FLOAT])
    }
    plans = {name: list(one.pieces.batches(p.token_budget)) for name, one in rows.items()}
    peers: dict[str, Forward] = {"PyTorch": predictor.forward, **runs}
    speed = {name: speed_of(forward, rows[first], plans[first]) for name, forward in peers.items()}
    task = read_task(data["data/raw"] / "task.json")
    pairs = {
        name: (np.load(data[PREDICTIONS] / name / "labels.npy"), np.load(data[PREDICTIONS] / name / "logits.npy"))
        for name in splits
    }
    forms = []
    for form, forward in runs.items():
        prices = []
        for name, (labels, logits) in pairs.items():
            after = predict(forward, rows[name], plans[name], logits)
            if not np.isfinite(after).all():
                raise BadInput(f"{form}: its answers on {name} are no numbers; nothing was written")
            groups = read_groups(model.revision, name, len(labels))
            prices.append(price(name, PairedPredictions(task, labels, logits, after, groups), scoring))
        size = (folder / form).stat().st_size
        forms.append({"file": form, "bytes": size, "examples_per_second": speed[form], "splits": prices})
    weights = sum(file.stat().st_size for file in model.folder.glob("*.safetensors"))
    found = {
        "model": model.revision.hash("models/finetuned"),
        "predictions": model.revision.hash(PREDICTIONS),
        "arithmetic": p.arithmetic,
        "threads": p.threads,
        "bytes": weights,
        "examples_per_second": speed["PyTorch"],
        "forms": forms,
    }
    write_json(folder / FILE, found)
    return found


def evaluate_params(model: FinishedModel) -> EvaluateParams:
    """Returns how the model was scored.

    Raises:
        Unanswerable: it was not.
        BadInput: it was scored by a tunelock that had other parameters.
    """
    stage = model.revision.lock.get("evaluate")
    if stage is None:
        raise cli.Unanswerable(f"{model.revision.name}: no stage evaluate in its dvc.lock; `dvc repro` there makes it")
    section = stage.get("params", {}).get("params.yaml", {}).get("evaluate")
    return fill_section(EvaluateParams, section, f"{model.revision.name}: dvc.lock: evaluate")


def predict(forward: Forward, rows: Any, batches: Sequence[np.ndarray], like: np.ndarray) -> np.ndarray:
    """Returns float32[examples, columns], as `like` has them."""
    logits = np.empty_like(like)
    for batch in batches:
        logits[batch] = forward(rows[batch])
    return logits


def speed_of(forward: Forward, rows: Any, batches: Sequence[np.ndarray]) -> float:
    """Returns examples a second, after a batch to warm up; over a share of the batches where the split is large."""
    few = batches[:: max(1, sum(map(len, batches)) // TIMED)]
    forward(rows[few[0]])
    start = time.perf_counter()
    for batch in few:
        forward(rows[batch])
    return sum(map(len, few)) / (time.perf_counter() - start)


def table(found: Mapping[str, Any]) -> list[str]:
    """Formats the answer for a terminal."""
    lines = [["", "MB", "examples/s", "split", "largest logit difference", "flipped", "scores, with 95 % intervals"]]
    lines.append(["PyTorch", f"{found['bytes'] / 1e6:.1f}", f"{found['examples_per_second']:.0f}", "", "", "", ""])
    for form in found["forms"]:
        head = [form["file"], f"{form['bytes'] / 1e6:.1f}", f"{form['examples_per_second']:.0f}"]
        for one in form["splits"]:
            moved = "; ".join(map(moved_score, one["metrics"])) or one["no_metrics"]
            cells = [one["split"], f"{one['largest_logit_difference']:.2g}", f"{one['flipped']:.1%}", moved]
            lines.append([*head, *cells])
            head = ["", "", ""]
    return cli.text_table(lines)


def moved_score(one: Mapping[str, Any]) -> str:
    """Says what became of a score."""
    interval = "" if one["low"] is None else f" [{one['low']:+.4f}, {one['high']:+.4f}]"
    return f"{one['metric']} {one['model']:.4f} -> {one['exported']:.4f}{interval}"


def share(text: str) -> float:
    """Reads a share, from 0 to 1.

    Raises:
        ArgumentTypeError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, got {text!r}")
    return value


def parser() -> argparse.ArgumentParser:
    """Makes the parser of the command line."""
    made = cli.make_parser("export", __doc__, "ship")
    made.add_argument("--onnx", action="store_true", required=True, help="write model.onnx, in float32")
    made.add_argument("--int8", action="store_true", help="also write model_quantized.onnx, a quarter of the size")
    made.add_argument("--out", default="exports/onnx", metavar="FOLDER", help="default: exports/onnx")
    made.add_argument(
        "--flips-at-most",
        type=share,
        default=FLIPS_AT_MOST,
        metavar="SHARE",
        help=f"of a split's predictions that may be others than the model's; default: {FLIPS_AT_MOST:g}",
    )
    made.add_argument("--revision", metavar="REV", help="the model of a branch, tag, commit or experiment")
    return made


def main(arguments: Sequence[str]) -> int:
    """Exports and returns the exit status."""
    options = parser().parse_args(arguments)
    kept = "nothing was written"
    return cli.answer("export", lambda repo: run(repo, options), BadInput, OSError, unanswered=1, interrupted=kept)


if __name__ == "__main__":
    cli.end_on_sigterm()
    sys.exit(main(sys.argv[1:]))
