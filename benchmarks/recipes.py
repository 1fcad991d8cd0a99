"""How often checks.seeds tells equal recipes apart, what choosing a seed does to a number, and intervals of groups.

    python -m benchmarks.recipes

All simulated. Two recipes are drawn that are equally good, with what their seeds and their examples do; and models
whose mistakes come in groups. Each cell has 2,000 samples, by the functions that the checks and the stage call. Writes
benchmarks/results/recipes.json, and its tables into docs/recipes.md. Ten minutes on a quiet processor.
"""

import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.clone import ROOT
from checks.spread import spread_of_mean
from stages.shared.statistics.confidence import metric_intervals
from stages.shared.task.task import Task

RESULT = ROOT / "benchmarks" / "results" / "recipes.json"
PAGE = ROOT / "docs" / "recipes.md"
PLACE = re.compile(r"(?<=<!-- recipes )(\w+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)
DRAWS, CONFIDENCE = 2000, 0.95
SEEDS, EXAMPLES, GROUPS = (3, 5, 10, 20), (100, 408), (20, 30, 50, 100)
MEMBERS, SHARE, ALIKENESS = 8, 0.8, 0.3  # of a group: how many, how many are right, how they correlate
SETTINGS: list[dict[str, Any]] = [
    {"disagreement": disagreement, "wobble": wobble, "sway": sway}
    for disagreement in (0.0, 0.02, 0.1, 0.2)
    for wobble, sway in ((0.0, 0.0), (0.05, 0.0), (0.05, 0.02), (0.1, 0.05))
    if disagreement or wobble
]

CHOICE = {"disagreement": 0.1, "wobble": 0.05, "sway": 0.02}  # of the recipes whose seeds somebody chooses
CHOICE_EXAMPLES = 408

Scores = np.ndarray  # float64[seeds, examples]


def two_recipes(generator: np.random.Generator, seeds: int, examples: int, **setting: float) -> Scores:
    """Draws right minus right of two recipes that are equally good on examples of all kinds."""
    first, second = right_answers(generator, seeds, examples, **setting)
    scores: Scores = first - second
    return scores


def right_answers(
    generator: np.random.Generator, seeds: int, examples: int, *, disagreement: float, wobble: float, sway: float
) -> np.ndarray:
    """Draws which answers of two equally good recipes are right: float64[2, seeds, examples] of 0 and 1.

    Args:
        disagreement: share of the examples of which one recipe, by a coin, is right with every seed, the other wrong.
        wobble: how likely a single training is to answer any example otherwise.
        sway: how much more or less likely, as a deviation over trainings: a good or a bad seed.
    """
    base = generator.random(examples) < 0.8
    other = generator.random(examples) < disagreement
    first = generator.random(examples) < 0.5
    right = np.stack([np.where(other, first, base), np.where(other, ~first, base)])
    share = np.clip(wobble + sway * generator.normal(size=(2, seeds, 1)), 0, 1)
    flipped = generator.random((2, seeds, examples)) < share
    return (right[:, None] ^ flipped).astype(np.float64)


def alarms(make: Callable[[np.random.Generator], Scores], draws: int) -> int:
    """Counts how often the interval of equal recipes excludes 0."""
    generator, found = np.random.default_rng(0), 0
    for _ in range(draws):
        table = make(generator)
        found += told_apart(table)
    return found


def told_apart(table: Scores) -> bool:
    """Says whether the interval of all seeds and examples excludes 0."""
    return bool(abs(table.mean()) > spread_of_mean(table).reach(CONFIDENCE) + 1e-12)


def chosen(seeds: int, draws: int) -> dict[str, Any]:
    """Returns what is shown of two equal recipes on a test split if somebody chooses the seeds, by means over draws.

    "above" is the best seed of one minus the worst of the other, "lucky" the best seed minus what its recipe has with
    other seeds on other examples, and "apart" counts how often the interval of all seeds and examples excludes 0.
    """
    generator, above, lucky, apart = np.random.default_rng(0), [], [], 0
    share = 0.8 * (1 - CHOICE["disagreement"]) + 0.5 * CHOICE["disagreement"]
    truth = share * (1 - CHOICE["wobble"]) + (1 - share) * CHOICE["wobble"]
    for _ in range(draws):
        first, second = right_answers(generator, seeds, CHOICE_EXAMPLES, **CHOICE)
        above.append(first.mean(axis=1).max() - second.mean(axis=1).min())
        lucky.append(first.mean(axis=1).max() - truth)
        table = first - second
        apart += told_apart(table)
    return {"seeds": seeds, "above": float(np.mean(above)), "lucky": float(np.mean(lucky)), "apart": apart}


def alike(generator: np.random.Generator, groups: int, size: int, share: float, alikeness: float) -> np.ndarray:
    """Draws bool[groups * size], in groups whose members agree beyond chance: `alikeness` is their correlation."""
    spread = (1 - alikeness) / alikeness
    of_group = generator.beta(share * spread, (1 - share) * spread, groups)
    return generator.random(groups * size) < np.repeat(of_group, size)


def answers(labels: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Returns logits that are right where they are to be, and surer the later the example."""
    predicted = np.where(right, labels, 1 - labels)
    return (np.eye(2)[predicted] * np.linspace(1, 2, len(labels))[:, None]).astype(np.float32)


def coverage(groups: int, draws: int) -> dict[str, dict[str, int]]:
    """Counts how often the interval holds the truth, of each metric, with examples drawn alone and in groups."""
    task = Task("files", "single_label_classification", ["no", "yes"], ["accuracy", "f1"], "files", "0")
    members, generator = np.repeat(np.arange(groups), MEMBERS), np.random.default_rng(0)
    held = {how: dict.fromkeys(task.metrics, 0) for how in ("alone", "grouped")}
    for draw in range(draws):
        labels = generator.integers(0, 2, groups * MEMBERS)
        logits = answers(labels, alike(generator, groups, MEMBERS, SHARE, ALIKENESS))
        for how, counts in held.items():
            drawn = members if how == "grouped" else None
            found = metric_intervals(
                task, labels, [logits], confidence=CONFIDENCE, resamples=400, seed=draw, groups=drawn
            )
            for name in task.metrics:  # with labels of equal shares the F1 of all examples is SHARE too
                low, high = found[name].low, found[name].high
                counts[name] += low is not None and high is not None and low <= SHARE <= high
    return held


def simulate(draws: int = DRAWS) -> dict[str, Any]:
    """Draws every cell so often."""
    cells = []
    for seeds in SEEDS:
        for examples in EXAMPLES:
            for setting in SETTINGS:
                found = alarms(partial(two_recipes, seeds=seeds, examples=examples, **setting), draws)
                cells.append({"seeds": seeds, "examples": examples, **setting, "alarms": found})
    return {
        "draws": draws,
        "seeds": cells,
        "choice": [chosen(seeds, draws) for seeds in SEEDS],
        "groups": [{"groups": groups, "held": coverage(groups, draws)} for groups in GROUPS],
    }


def seeds(result: dict[str, Any]) -> str:
    """Formats the worst of each number of seeds and share of disagreement."""
    shares = sorted({cell["disagreement"] for cell in result["seeds"]})
    lines = [
        f"| seeds | {' | '.join(f'{100 * share:g} % of the examples' for share in shares)} |",
        f"| --- |{' --- |' * len(shares)}",
    ]
    for number in SEEDS:
        worst = [
            max(cell["alarms"] for cell in result["seeds"] if (cell["seeds"], cell["disagreement"]) == (number, share))
            for share in shares
        ]
        row = " | ".join(f"{100 * count / result['draws']:.1f} %" for count in worst)
        lines.append(f"| {number} | {row} |")
    return "\n".join(lines)


def groups(result: dict[str, Any]) -> str:
    """Formats the coverage of both kinds of interval."""
    lines = ["| groups of 8 | accuracy, alone | accuracy, in groups | F1, alone | F1, in groups |"]
    lines.append(f"| --- |{' --- |' * 4}")
    for cell in result["groups"]:
        shares = [cell["held"][how][name] for name in ("accuracy", "f1") for how in ("alone", "grouped")]
        row = " | ".join(f"{100 * count / result['draws']:.1f} %" for count in shares)
        lines.append(f"| {cell['groups']} | {row} |")
    return "\n".join(lines)


def choice(result: dict[str, Any]) -> str:
    """Formats what choosing a seed does, by the number of seeds to choose from."""
    lines = ["| seeds of each | best of one minus worst of the other | best seed, above its recipe | told apart |"]
    lines.append(f"| --- |{' --- |' * 3}")
    for cell in result["choice"]:
        apart = 100 * cell["apart"] / result["draws"]
        lines.append(f"| {cell['seeds']} | {cell['above']:+.3f} | {cell['lucky']:+.3f} | {apart:.1f} % |")
    return "\n".join(lines)


TABLES = {"seeds": seeds, "groups": groups, "choice": choice}


def filled(page: str, result: dict[str, Any]) -> str:
    """Returns the page with its tables."""
    return PLACE.sub(lambda found: f"{found[1]}{found[2]}\n{TABLES[found[1]](result)}\n\n", page)


def main() -> None:
    """Simulates, writes the result file and fills the page."""
    result = simulate()
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), result), encoding="utf-8")
    print(seeds(result), groups(result), choice(result), sep="\n\n")


if __name__ == "__main__":
    main()
