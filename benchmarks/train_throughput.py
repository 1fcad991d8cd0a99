"""How many examples a second train: this pipeline beside the scripts that people use.

    python -m benchmarks.train_throughput [FOLDER] [--rounds 3]

FOLDER holds a corpus of pairs in GLUE's columns; without it, it is the bundled sample. All train the same checkpoint on
the same texts with the same number of threads, each as the program that its users start: the course's script, that of
`run_glue.py`'s defaults, and the stage `train` of a scratch clone of HEAD, in every arithmetic.
They take turns, each in a process of its own, and the clock (benchmarks/training_clock.py) runs while they train,
without start and warm-up. Where bf16 is in hardware, the last lines set the training's floating point operations on
real tokens against this machine's bf16 matrix products of the same shapes (benchmarks/products.py). Writes
benchmarks/results/train_throughput.json, or train_throughput_avx2.json where the processor has no bf16.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from benchmarks.clone import as_parquet, call, fresh_clone, repro, set_params
from benchmarks.hard_pairs import PAIRS
from benchmarks.machine import arithmetics, describe, result_file
from benchmarks.repeat import interleaved, spread

EXAMPLES = {"run_glue": 320, "course": 640}  # of their random orders; a pipeline's epoch goes by length, so all of it
AN_EPOCH = 10**9
PROFILED_FROM, PROFILED_STEPS = 320, 20  # examples, steps
OPERATORS = 12  # of a step, with the most time of their own
LABELS = {
    "run_glue": "run_glue's defaults",
    "course": "the course's script",
    "fp32": "tunelock, fp32 with MKL (the earlier default)",
    "portable": "tunelock, params.yaml as committed",
    "native": "tunelock, native",
    "bf16": "tunelock, bf16",
}


def main(folder: Path | None, rounds: int) -> None:
    """Measures, prints the tables and writes the result file."""
    clone = fresh_clone("throughput")
    data = {"download": PAIRS | {"dataset_files": str(folder.resolve())}} if folder else {}
    repro(clone, data, "tokenize")
    corpus, checkpoint = as_parquet(clone), clone / "models" / "pretrained"
    train = YAML(typ="safe", pure=True).load(clone / "params.yaml")["train"]
    environment = {"OMP_NUM_THREADS": str(train["threads"])}

    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "measured.json"

        def clock(examples: int, profiled_steps: int, *program: str) -> dict[str, Any]:
            command = ["benchmarks.training_clock", str(file), str(examples), str(profiled_steps), *program]
            call([sys.executable, "-m", *command], clone, environment)
            return dict(json.loads(file.read_text(encoding="utf-8")))

        def peer(name: str) -> Callable[[], float]:
            arguments = [str(corpus), str(checkpoint), "1", os.devnull]
            return lambda: rate(clock(EXAMPLES[name], 0, f"benchmarks.{name}", *arguments))

        def stage(arithmetic: str) -> Callable[[], float]:
            def run() -> float:
                set_params(clone, data | {"train": {"arithmetic": arithmetic}})
                return rate(clock(AN_EPOCH, 0, "stages.train"))

            return run

        def multiply() -> float:
            call([sys.executable, "-m", "benchmarks.products", str(file), str(train["batch_size"])], clone)
            found.append(json.loads(file.read_text(encoding="utf-8")))
            return float(found[-1]["repeated"])

        found: list[dict[str, float]] = []
        programs = {name: peer(name) for name in EXAMPLES} | {name: stage(name) for name in arithmetics()}
        rates = interleaved(programs | ({"products": multiply} if "bf16" in programs else {}), rounds)
        # Of the arithmetic that was set last, after some batches of random length.
        milliseconds = clock(PROFILED_FROM, PROFILED_STEPS, "stages.train")["milliseconds"]
    largest = sorted(milliseconds, key=milliseconds.__getitem__, reverse=True)[: OPERATORS + 1]  # the step itself first
    result = {
        **describe(),
        "corpus": folder.name if folder else "sample",
        "recipe": {key: train[key] for key in ("batch_size", "sampling", "threads")},
        "examples_per_second": {name: rates[name] for name in programs},
        "products": found,
        "milliseconds": {name: round(milliseconds[name], 2) for name in largest}
        | {"operators": round(sum(milliseconds.values()) - milliseconds["step"], 2)},
    }
    result_file("train_throughput").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))


def rate(measured: dict[str, Any]) -> float:
    """Returns examples a second."""
    return float(measured["examples"] / measured["seconds"])


def table(result: dict[str, Any]) -> str:
    """Formats the figures; benchmarks/RESULTS.md shows them."""
    rates = {name: spread(values) for name, values in result["examples_per_second"].items()}
    lines = [
        f"| training on {result['corpus']} | examples/s: median (min to max) | vs run_glue | vs the course |",
        "| --- | --- | --- | --- |",
    ]
    for name, values in rates.items():
        ratios = " | ".join(f"{values['median'] / rates[peer]['median']:.2f}" for peer in EXAMPLES)
        lines.append(
            f"| {LABELS[name]} | {values['median']:.1f} ({values['min']:.1f} to {values['max']:.1f}) | {ratios} |"
        )
    if not result["products"]:
        return "\n".join([*lines, "", *profile("native", result["milliseconds"])])
    lines += ["", "| bf16 | GFLOP/s: median (min to max) | training's share of it |", "| --- | --- | --- |"]
    lines.append(f"| tunelock, without padding | {gigaflops(of_tokens(result))} | |")
    for name, label in (
        ("repeated", "the same shapes' products, each repeated on operands in the cache"),
        ("in_turn", "the same shapes' products, each layer its own operands, in turn"),
    ):
        share = spread(shares(result, name))
        lines.append(
            f"| {label} | {gigaflops([measured[name] for measured in result['products']])} "
            f"| {share['median']:.0%} ({share['min']:.0%} to {share['max']:.0%}) |"
        )
    return "\n".join([*lines, "", *profile("bf16", result["milliseconds"])])


def of_tokens(result: dict[str, Any]) -> list[float]:
    """Returns the FLOP/s of the bf16 training on real tokens, round by round."""
    facts = result["products"][0]
    return [
        rate * facts["tokens_per_example"] * facts["flops_per_token"] for rate in result["examples_per_second"]["bf16"]
    ]


def shares(result: dict[str, Any], products: str) -> list[float]:
    """Returns what of the products' FLOP/s, `repeated` or `in_turn`, the bf16 training reaches, round by round."""
    return [ours / measured[products] for ours, measured in zip(of_tokens(result), result["products"], strict=True)]


def gigaflops(speeds: list[float]) -> str:
    """Formats FLOP/s."""
    found = {name: value / 1e9 for name, value in spread(speeds).items()}
    return f"{found['median']:.0f} ({found['min']:.0f} to {found['max']:.0f})"


def profile(arithmetic: str, milliseconds: dict[str, float]) -> list[str]:
    """Formats where a step's time goes."""
    step, operators = milliseconds["step"], milliseconds["operators"]
    largest = {name: value for name, value in milliseconds.items() if "::" in name}
    parts = {f"`{name}`": value for name, value in largest.items()} | {
        "all other operators of torch": operators - sum(largest.values()),
        "none of torch's: Python, NumPy's draws, the next batch": step - operators,
    }
    lines = [f"| a step, {arithmetic}, under torch's profiler, {step:.0f} ms | ms | share |", "| --- | --- | --- |"]
    return lines + [f"| {name} | {value:.1f} | {value / step:.0%} |" for name, value in parts.items()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    main(chosen.folder, chosen.rounds)
