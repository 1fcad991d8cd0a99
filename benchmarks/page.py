"""Puts the measured tables into benchmarks/RESULTS.md.

    python -m benchmarks.page

The page has a mark for each table, `<!-- module function -->`; what stands between it and `<!-- end -->` is replaced by
what `benchmarks.<module>.<function>` makes of benchmarks/results/<module>.json, with date, machine and versions.
`<module>_avx2` is the same, measured on a processor without bf16. The mark `<!-- page targets -->` stands for the
targets of all of them.
"""

import importlib
import json
import re
from statistics import median
from typing import Any

from benchmarks.clone import ROOT
from benchmarks.machine import WITHOUT_BF16
from benchmarks.score import MOST_MIB, MOST_TIMES
from benchmarks.startup import overhead
from benchmarks.train_throughput import shares

PAGE = ROOT / "benchmarks" / "RESULTS.md"
PLACE = re.compile(r"(?<=<!-- )(\w+) (\w+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)


def filled(page: str) -> str:
    """Returns the page with all its tables as they were measured last."""
    return PLACE.sub(lambda found: f"{found[1]} {found[2]}{found[3]}{content(found[1], found[2])}", page)


def content(module: str, function: str) -> str:
    """Returns a table, and what it was measured on."""
    if module == "page":
        return f"\n{targets()}\n\n"
    result = read(module)
    program = module.removesuffix(WITHOUT_BF16)
    table = getattr(importlib.import_module(f"benchmarks.{program}"), function)(result)
    return f"\n`python -m benchmarks.{program}`, {machine(result)}:\n\n{table}\n\n"


def read(module: str) -> Any:
    """Returns a benchmark's last result."""
    return json.loads((ROOT / "benchmarks" / "results" / f"{module}.json").read_text(encoding="utf-8"))


def machine(result: dict[str, Any]) -> str:
    """Says when and on what a result was measured."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return f"{result['date']}, {result['cores']} cores of {result['processor']}, Python {result['python']}, {versions}"


def targets() -> str:
    """Sets what was wanted beside what was measured, in medians where there are several runs."""
    train, predict, startup = read("train_throughput"), read("predict_throughput"), read("startup")
    training, prediction = (
        {name: median(rates) for name, rates in result["examples_per_second"].items()} for result in (train, predict)
    )
    trained, predicted = (
        {name: median(rates) for name, rates in read(f"{name}{WITHOUT_BF16}")["examples_per_second"].items()}
        for name in ("train_throughput", "predict_throughput")
    )
    to_course = {name: trained[name] / trained["course"] for name in ("portable", "native")}
    to_trainer = predicted["portable"] / predicted["trainer"]
    share = median(shares(train, "repeated"))
    seconds: dict[str, list[float]] = {}
    for run in read("mrpc")["runs"]:
        seconds.setdefault(run["recipe"], []).append(run["seconds"])
    sooner = median(seconds["course"]) / median(seconds["bf16"])
    nothing = read("noop")["programs"][0]["seconds"]["median"]
    own = median(overhead(run) for run in startup["repro"])
    small, large = (run for run in read("scale")["runs"] if run["stage"] == "predict")
    start = next(row["seconds"]["median"] for row in startup["programs"] if row["program"] == "predict")
    growth = (large["seconds"] - start) / (small["seconds"] - start)
    compared = read("compare_scale")["runs"]
    few, million = (
        max((run for run in compared if (run["rows"] >= 1_000_000) == large), key=lambda run: run["seconds"])
        for large in (False, True)
    )
    scored = read("score")
    held = max(run["peak_mib"] for run in compared) / 1024
    faster = training["bf16"] / training["run_glue"], training["bf16"] / training["course"]
    quicker = prediction["bf16"] / prediction["trainer"]
    gibibytes = large["peak_mib"] / 1024
    rows = [
        ("training in bf16, vs run_glue's defaults", "4.5 times", f"{faster[0]:.2f} times", faster[0] >= 4.5),
        ("training in bf16, vs the course's script", "2.3 times", f"{faster[1]:.2f} times", faster[1] >= 2.3),
        *(
            (
                f"training in {name}, vs the course's script, with AVX2 alone",
                f"{wanted} times",
                f"{to_course[name]:.2f} times",
                to_course[name] >= wanted,
            )
            for name, wanted in (("portable", 1.6), ("native", 2.3))
        ),
        ("its FLOP/s, as a share of bare bf16 products of the same shapes", "55 %", f"{share:.0%}", share >= 0.55),
        ("prediction in bf16, vs `Trainer.predict`", "4 times", f"{quicker:.2f} times", quicker >= 4.0),
        (
            "prediction in portable, vs `Trainer.predict`, with AVX2 alone",
            "2 times",
            f"{to_trainer:.2f} times",
            to_trainer >= 2,
        ),
        (
            "MRPC in bf16 from process start to metrics, vs the course's script",
            "1.8 times",
            f"{sooner:.2f} times",
            sooner >= 1.8,
        ),
        ("`dvc repro` with nothing to do", "under 3 s", f"{nothing:.1f} s", nothing < 3.0),
        ("`dvc repro` of the sample: time outside the stages' own work", "under 20 s", f"{own:.1f} s", own < 20.0),
        ("predict on 1,000,000 pairs: peak memory", "under 1.5 GiB", f"{gibibytes:.1f} GiB", gibibytes < 1.5),
        (
            "predict on 1,000,000 pairs vs 250,000, without start-up",
            "3.6 to 4.4 times",
            f"{growth:.1f} times",
            3.6 <= growth <= 4.4,
        ),
        (
            "`ship.score` on 1,000,000 pairs, vs `tokenize` and `predict` together",
            "at most 1.2 times the time",
            f"{scored['times']:.2f} times",
            scored["times"] <= MOST_TIMES,
        ),
        (
            "`ship.score` on 1,000,000 pairs: peak memory",
            "under 1.5 GiB",
            f"{scored['score']['peak_mib'] / 1024:.2f} GiB",
            scored["score"]["peak_mib"] < MOST_MIB,
        ),
        ("`checks.compare` on 1,725 pairs", "under 10 s", f"{few['seconds']:.1f} s", few["seconds"] < 10),
        (
            f"`checks.compare` on 1,000,000 pairs, the slowest case: {million['case']}",
            "under 60 s",
            f"{million['seconds']:.0f} s",
            million["seconds"] < 60,
        ),
        ("`checks.compare`: peak memory", "under 2 GiB", f"{held:.1f} GiB", held < 2),
    ]
    lines = ["| | target | measured | |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {what} | {wanted} | {found} | {'met' if met else '**missed**'} |" for what, wanted, found, met in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
