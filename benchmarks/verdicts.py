"""How often the verdicts of checks.compare and checks.gate, and the intervals of evaluate, are wrong, by simulation.

    python -m benchmarks.verdicts [--draws 2000] [--resamples 400] [--jobs 1] [--only NAME] [--missing]

A world draws examples and two models' answers to them. Its truth is the score of a very large sample. From each of
2,000 samples the intervals and p-values are taken by the functions that the stage and the checks call, and held to the
truth. Writes benchmarks/results/verdicts.json; docs/statistics.md shows its tables, which this program fills in too.
"""

import argparse
import json
import re
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from benchmarks.clone import ROOT
from stages.shared.statistics.confidence import MetricInterval, is_share, metric_intervals, probability_interval
from stages.shared.statistics.paired import ALPHA, detectable, holm, plain_scores
from stages.shared.statistics.probabilities import probability_influence
from stages.shared.statistics.swaps import PairedPredictions, swap_p_values
from stages.shared.task.metrics import METRICS, PROBABILITY_METRICS, greater_is_better
from stages.shared.task.problem_types import CLASSES, NUMBERS, SETS
from stages.shared.task.task import Task

RESULT = ROOT / "benchmarks" / "results" / "verdicts.json"
LARGE = 1_000_000  # examples that stand for all
PAGE = ROOT / "docs" / "statistics.md"
PLACE = re.compile(r"(?<=<!-- table )(\w+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)
EQUAL_MARGIN = 0.048  # what 408 examples of which 12 % flip can show with a power of 80 %
Sample = tuple[np.ndarray, np.ndarray, np.ndarray]  # labels, and two models' logits


@dataclass(frozen=True)
class World:
    """Where samples come from."""

    name: str
    task: Task = field(hash=False)
    draw: Callable[[np.random.Generator, int], Sample]
    sizes: tuple[int, ...]

    @property
    def equal(self) -> bool:
        """Whether its two models are alike."""
        return "worse" not in self.name


def make_task(problem: Any, columns: int = 2) -> Task:
    """A task with every metric that is defined for it."""
    fitting = [name for name, metric in METRICS.items() if problem in metric.problem_types]
    fitting = [name for name in fitting if not METRICS[name].for_more_labels or columns == 2]
    names = [] if problem == NUMBERS else [f"label {index}" for index in range(columns)]
    return Task("files", problem, names, fitting, "files", "0")


def classes(
    shares: Sequence[float],
    right: float,
    flips: float,
    *,
    worse: float = 0.0,
    confidence: float = 3.0,
    worse_class: int | None = None,
) -> Callable[[np.random.Generator, int], Sample]:
    """Classes of these shares.

    Args:
        right: the share of right answers that both models would give alike.
        flips: the share of examples that exactly one of them has right, which of them by a coin.
        worse: the share of examples that the first one alone has right besides, and so the second is worse by.
        worse_class: the one class that these are of; None: any.
        confidence: the mean margin of the logits, right or wrong: 3 says 95 %, so at 85 % right it is too much.
    """
    number = len(shares)

    def draw(generator: np.random.Generator, examples: int) -> Sample:
        labels = generator.choice(number, p=list(shares), size=examples)
        wrong = (labels + generator.integers(1, number, examples)) % number
        kind = generator.random(examples)
        alike = generator.random(examples) < right
        coin = generator.random(examples) < 0.5
        lost = generator.random(examples) < worse
        if worse_class is not None:
            lost &= labels == worse_class
        flipped = kind < flips
        answers = [np.where(flipped, coin, alike), np.where(flipped, ~coin, alike)]
        answers = [answers[0] | lost, answers[1] & ~lost]
        shared = generator.gamma(2.0, confidence / 2, examples)
        logits = []
        for is_right in answers:
            predicted = np.where(is_right, labels, wrong)
            margin = np.maximum(shared * np.exp(0.2 * generator.normal(size=examples)), 0.05)
            logits.append((np.eye(number)[predicted] * margin[:, np.newaxis]).astype(np.float32))
        return labels, logits[0], logits[1]

    return draw


def sets(
    columns: int, share: float, noise: float, *, worse: float = 0.0
) -> Callable[[np.random.Generator, int], Sample]:
    """Several labels at once that tend to occur together; the second model's noise may be larger."""

    def draw(generator: np.random.Generator, examples: int) -> Sample:
        common = generator.normal(size=(examples, 1))
        latent = np.sqrt(0.7) * generator.normal(size=(examples, columns)) + np.sqrt(0.3) * common
        level = np.quantile(np.random.default_rng(0).normal(size=100_000), 1 - share)
        labels = (latent > level).astype(np.float32)
        shared = generator.normal(size=(examples, columns))
        logits = [
            3 * (latent - level + scale * (0.8 * shared + 0.6 * generator.normal(size=(examples, columns))))
            for scale in (noise, noise + worse)
        ]
        return labels, logits[0].astype(np.float32), logits[1].astype(np.float32)

    return draw


def numbers(noise: float, tails: float = np.inf, *, worse: float = 0.0) -> Callable[[np.random.Generator, int], Sample]:
    """Normal numbers, and predictions with errors that are half shared; normal, or Student's with so many degrees."""

    def errors(generator: np.random.Generator, examples: int) -> np.ndarray:
        return generator.normal(size=examples) if tails == np.inf else generator.standard_t(tails, examples)

    def draw(generator: np.random.Generator, examples: int) -> Sample:
        labels = generator.normal(size=examples)
        shared = errors(generator, examples)
        logits = []
        for scale in (noise, noise + worse):
            own = errors(generator, examples)
            logits.append((labels + scale * np.where(generator.random(examples) < 0.5, shared, own))[:, np.newaxis])
        return labels.astype(np.float32), logits[0].astype(np.float32), logits[1].astype(np.float32)

    return draw


SIZES = (30, 100, 408)
FIVE = [0.4, 0.25, 0.15, 0.1, 0.1]
WORLDS = (
    World("two classes, 85 % right", make_task(CLASSES), classes([0.4, 0.6], 0.85, 0.12), SIZES),
    World("two classes, 98 % right", make_task(CLASSES), classes([0.4, 0.6], 0.99, 0.02), (*SIZES, 1725)),
    World("two classes, one of 10 %", make_task(CLASSES), classes([0.9, 0.1], 0.9, 0.06), (*SIZES, 1725)),
    World("two classes, one of 2 %", make_task(CLASSES), classes([0.98, 0.02], 0.95, 0.03), SIZES),
    World("five classes", make_task(CLASSES, 5), classes(FIVE, 0.8, 0.12), SIZES),
    World("four labels at once", make_task(SETS, 4), sets(4, 0.3, 0.5), SIZES),
    World("numbers, normal errors", make_task(NUMBERS), numbers(0.5), SIZES),
    World("numbers, heavy tails", make_task(NUMBERS), numbers(0.4, 5.0), SIZES),
    World("two classes, worse by 5 %", make_task(CLASSES), classes([0.4, 0.6], 0.87, 0.07, worse=0.05), (20, *SIZES)),
    World(
        "two classes, worse by 0.5 %",
        make_task(CLASSES),
        classes([0.4, 0.6], 0.9, 0.0, worse=0.0055),
        (100, 408, 1725),
    ),
    World(
        "one class of 1 %, worse there",
        make_task(CLASSES),
        classes([0.99, 0.01], 0.995, 0.0, worse=0.12, worse_class=1),
        (1000, 4000),
    ),
    World("five classes, worse by 5 %", make_task(CLASSES, 5), classes(FIVE, 0.8, 0.08, worse=0.05), (100, 408)),
    World("four labels at once, worse", make_task(SETS, 4), sets(4, 0.3, 0.5, worse=0.1), (100, 408)),
    World("numbers, normal errors, worse", make_task(NUMBERS), numbers(0.5, worse=0.1), SIZES),
    World("numbers, heavy tails, worse", make_task(NUMBERS), numbers(0.4, 5.0, worse=0.1), SIZES),
)


FLIPS, WORSE = "two classes, 85 % right", "two classes, worse by 5 %"
PROMISED = {  # of each cell, in shares of its draws; the error of simulation, twice, comes on top
    "alarms": 0.065,
    "any_word": 0.065,
    "covered": 0.92,
    "equivalent": 0.05,
    "wrong_pass": 0.05,
}
FEWEST_GIVEN = 200  # intervals of a cell, for their coverage to be held to the promise


@cache
def truths(world: World) -> list[dict[str, float]]:
    """Returns each model's score of a very large sample."""
    labels, *logits = world.draw(np.random.default_rng(zlib.crc32(world.name.encode())), LARGE)
    ranked = probability_names(world)
    return [
        plain_scores(world.task, labels, one)
        | {name: probability_influence(world.task, name, labels, one)[0][0] for name in ranked}
        for one in logits
    ]


def probability_names(world: World) -> list[str]:
    """Returns the metrics of probabilities that are simulated: evaluate has their intervals, no check compares them."""
    return list(PROBABILITY_METRICS) if world.equal and not world.task.problem.numeric else []


def simulate(world: World, examples: int, draws: int, resamples: int) -> list[dict[str, Any]]:
    """Returns a record for each metric: how often what is said of a sample of so many examples is wrong."""
    started = time.perf_counter()
    first, second = truths(world)
    names, ranked = [*world.task.metrics, "loss"], probability_names(world)
    generator = np.random.default_rng([zlib.crc32(world.name.encode()), examples])
    figures: dict[str, dict[str, float]] = {name: dict.fromkeys(FIGURES, 0) for name in (*names, *ranked)}
    any_word = 0
    for index in range(draws):
        labels, before, after = world.draw(generator, examples)
        if (labels == labels[0]).all():
            continue  # refused
        pair = PairedPredictions(world.task, labels, before, after)
        options: dict[str, Any] = {"confidence": 1 - ALPHA, "resamples": resamples, "seed": index}
        paired = metric_intervals(world.task, labels, [before, after], **options)
        p_values = swap_p_values(pair, resamples, index)
        corrected = dict(zip(names, holm([p_values[name] for name in names]), strict=True))
        any_word += min(corrected.values()) < ALPHA
        for name in names:
            figure, two, truth = figures[name], paired[name], second[name] - first[name]
            figure["alarms"] += p_values[name] < ALPHA
            if two.low is not None and two.high is not None:
                figure["paired_given"] += 1
                figure["paired_below"] += two.high < truth - 1e-9
                figure["paired_above"] += two.low > truth + 1e-9
                figure["equivalent"] += -abs(truth) < two.low and two.high < abs(truth)
                worst = two.low if greater_is_better(name) else -two.high
                figure["wrong_pass"] += worst > (truth if greater_is_better(name) else -truth) + 1e-9
                figure["passes"] += worst > -EQUAL_MARGIN
                figure["detectable"] += detectable(two, ALPHA) or 0.0
        if not world.equal:
            continue  # the first model is one of the equal worlds'
        alone: dict[str, MetricInterval] = metric_intervals(world.task, labels, [before], **options)
        for name in ranked:
            _, alone[name] = probability_interval(world.task, name, labels, before, 1 - ALPHA)
        for name, one in alone.items():
            if one.low is not None and one.high is not None:
                figures[name]["given"] += 1
                figures[name]["below"] += one.high < first[name] - 1e-9
                figures[name]["above"] += one.low > first[name] + 1e-9
    seconds = time.perf_counter() - started
    return [
        {
            "world": world.name,
            "examples": examples,
            "metric": name,
            "equal": world.equal,
            "wilson": is_share(world.task, name),
            "compared": name in names,
            "truth": first[name],
            "difference": second[name] - first[name],
            "draws": draws,
            **figures[name],
            "any_word": any_word,
            "seconds": round(seconds, 1),
        }
        for name in (*names, *ranked)
    ]


def simulate_at(place: int, examples: int, draws: int, resamples: int) -> list[dict[str, Any]]:
    """Simulates a cell of the world at this place of WORLDS, in a process of its own."""
    return simulate(WORLDS[place], examples, draws, resamples)


FIGURES = (
    "alarms",  # p-value below alpha
    "given",  # an interval of the first model's score
    "below",  # the truth lies above it
    "above",
    "paired_given",
    "paired_below",
    "paired_above",
    "equivalent",  # within a margin as large as the true difference
    "wrong_pass",  # of a gate whose margin is how much worse the second model truly is
    "passes",  # of a gate with EQUAL_MARGIN
    "detectable",  # the sum of the differences that are called so
)


def error(share: float, draws: int) -> float:
    """Returns the standard error of a simulated share."""
    return float(np.sqrt(share * (1 - share) / draws))


def shares(record: dict[str, Any]) -> dict[str, tuple[float, int]]:
    """Returns what is promised of a cell as it was found: shares, and of how many draws."""
    draws = record["draws"]
    found = {}
    if record["compared"]:
        found["wrong_pass"] = record["wrong_pass"] / draws, draws
        if record["equal"]:
            found |= {name: (record[name] / draws, draws) for name in ("alarms", "any_word")}
        else:
            found["equivalent"] = record["equivalent"] / draws, draws
    for kind in ("", "paired_"):
        given = record[f"{kind}given"]
        if given >= FEWEST_GIVEN and (kind or not record["wilson"]):
            missed = record[f"{kind}below"] + record[f"{kind}above"]
            found[f"{kind}covered"] = 1 - missed / given, given
    return found


def broken(record: dict[str, Any]) -> list[str]:
    """Says which promises a cell breaks by more than twice the error of simulation."""
    said = []
    for name, (share, draws) in shares(record).items():
        bound = PROMISED[name.removeprefix("paired_")]
        beyond = bound - share if name.endswith("covered") else share - bound
        if beyond > 2 * error(bound, draws) and (record["examples"] >= 30 or name == "wrong_pass"):
            where = f"{record['world']}, {record['examples']} examples, {record['metric']}"
            said.append(f"{where}: {name} {share:.4f} (error {error(share, draws):.4f}), promised {bound}")
    return said


# The page


def filled(page: str, records: Sequence[dict[str, Any]]) -> str:
    """Returns docs/statistics.md with its tables as they were simulated last."""
    return PLACE.sub(lambda found: f"{found[1]}{found[2]}\n{TABLES[found[1]](records)}\n\n", page)


def table(records: Sequence[dict[str, Any]], name: str, *, least: bool = False) -> str:
    """Shows the worst share of all worlds, for each metric and number of examples; in percent."""
    found: dict[str, dict[int, list[float]]] = {}
    for one in records:
        if name in (known := shares(one)):
            found.setdefault(one["metric"], {}).setdefault(one["examples"], []).append(100 * known[name][0])
    sizes = sorted({size for cells in found.values() for size in cells})
    lines = [f"| | {' | '.join(f'n = {size}' for size in sizes)} |", f"| ---{' | ---' * len(sizes)} |"]
    for metric, cells in found.items():
        worst = [f"{(min if least else max)(cells[size]):.1f} %" if size in cells else "" for size in sizes]
        lines.append(f"| {metric} | {' | '.join(worst)} |")
    return "\n".join(lines)


def alarms(records: Sequence[dict[str, Any]]) -> str:
    """How often equal models are told apart by one metric's p-value, and by any word after Holm's correction."""
    any_word = [
        one | {"metric": "any word, after Holm", "alarms": one["any_word"]}
        for one in records
        if one["metric"] == "loss"
    ]
    return table([*records, *any_word], "alarms")


def wall(records: Sequence[dict[str, Any]]) -> str:
    """How often a gate passes equal models, and a difference that is called detectable is told apart."""
    found = {one["world"]: one for one in records if (one["metric"], one["examples"]) == ("accuracy", 408)}
    lines = []
    if equal := found.get(FLIPS):
        passed = 100 * equal["passes"] / equal["draws"]
        lines.append(
            f"- Equal models, of which 12 % of the answers flip: with 408 examples, {passed:.0f} % of the samples pass "
            f"an accuracy margin of {EQUAL_MARGIN}."
        )
    if worse := found.get(WORSE):
        called, told = worse["detectable"] / worse["paired_given"], 100 * worse["alarms"] / worse["draws"]
        lines.append(
            f"- A model whose accuracy is truly worse by {-worse['difference']:.3f}: with 408 examples, where the "
            f"detectable difference is {called:.3f} on average, {told:.0f} % of the samples tell the models apart."
        )
    return "\n".join(lines)


def worlds(records: Sequence[dict[str, Any]]) -> str:
    """What was simulated."""
    rows: dict[str, dict[str, None]] = {}
    for one in records:
        rows.setdefault(one["world"], {})[str(one["examples"])] = None
    return "\n".join(
        ["| world | n |", "| --- | --- |", *(f"| {name} | {', '.join(sizes)} |" for name, sizes in rows.items())]
    )


TABLES: dict[str, Callable[[Sequence[dict[str, Any]]], str]] = {
    "alarms": alarms,
    "intervals": lambda records: table(records, "covered", least=True),
    "differences": lambda records: table(records, "paired_covered", least=True),
    "gate": lambda records: table(records, "wrong_pass"),
    "wall": wall,
    "equivalent": lambda records: table(records, "equivalent"),
    "worlds": worlds,
}


def main() -> None:
    """Simulates every cell, writes the result file after each, and fills in the page."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.verdicts", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=400, help="of each interval and test; params.yaml has 10,000")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument(
        "--only", default="", help="worlds whose names have this in them; the others keep their records"
    )
    parser.add_argument("--missing", action="store_true", help="only the cells without a record")
    options = parser.parse_args()
    known = read()
    there = {(one["world"], one["examples"]) for one in known} if options.missing else set()
    cells = [
        (world, size)
        for world in WORLDS
        for size in world.sizes
        if options.only in world.name and (world.name, size) not in there
    ]
    anew = {(world.name, size) for world, size in cells}
    done = [one for one in known if (one["world"], one["examples"]) not in anew]
    with ProcessPoolExecutor(options.jobs) as pool:
        waiting = [
            pool.submit(simulate_at, WORLDS.index(world), size, options.draws, options.resamples)
            for world, size in cells
        ]
        for (world, size), future in zip(cells, waiting, strict=True):
            records = future.result()
            done = ordered([*done, *records])
            print(f"{world.name}, {size} examples: {records[0]['seconds']:.0f} s", flush=True)
            write(done)


def ordered(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Brings records into the order of WORLDS."""
    places = {world.name: place for place, world in enumerate(WORLDS)}
    return sorted(records, key=lambda one: (places[one["world"]], one["examples"]))


def write(records: Sequence[dict[str, Any]]) -> None:
    """Writes the result file, a line for each record, and fills in the page."""
    lines = ",\n".join(json.dumps(one) for one in records)
    RESULT.write_text(f'{{"cells": [\n{lines}\n]}}\n', encoding="utf-8")
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), records), encoding="utf-8")


def read() -> list[dict[str, Any]]:
    """Returns the records of the last simulation."""
    return list(json.loads(RESULT.read_text(encoding="utf-8"))["cells"]) if RESULT.exists() else []


if __name__ == "__main__":
    main()
