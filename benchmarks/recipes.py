"""How often checks.seeds tells equal recipes apart, and what intervals hold where examples come in groups: simulated.

    python -m benchmarks.recipes

Two recipes are drawn that are equally good, with what their seeds and their examples do; and models whose mistakes come
in groups. Each cell has 2,000 samples, by the functions that the checks and the stage call. Writes
benchmarks/results/recipes.json, and its tables into docs/recipes.md.
"""

import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.clone import ROOT
from checks.spread import spread_of_mean
from stages.evaluate.confidence import metric_intervals
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

Scores = np.ndarray  # float64[seeds, examples]


def two_recipes(
    generator: np.random.Generator, seeds: int, examples: int, *, disagreement: float, wobble: float, sway: float
) -> Scores:
    """Draws right minus right of two recipes that are equally good on examples of all kinds.

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
    answers = (right[:, None] ^ flipped).astype(np.float64)
    scores: Scores = answers[0] - answers[1]
    return scores


def alarms(make: Callable[[np.random.Generator], Scores], draws: int) -> int:
    """Counts how often the interval of equal recipes excludes 0."""
    generator, found = np.random.default_rng(0), 0
    for _ in range(draws):
        table = make(generator)
        found += abs(table.mean()) > spread_of_mean(table).reach(CONFIDENCE) + 1e-12
    return found


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


def simulate() -> dict[str, Any]:
    """Draws every cell."""
    cells = []
    for seeds in SEEDS:
        for examples in EXAMPLES:
            for setting in SETTINGS:
                found = alarms(partial(two_recipes, seeds=seeds, examples=examples, **setting), DRAWS)
                cells.append({"seeds": seeds, "examples": examples, **setting, "alarms": found})
    return {
        "draws": DRAWS,
        "seeds": cells,
        "groups": [{"groups": groups, "held": coverage(groups, DRAWS)} for groups in GROUPS],
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


TABLES = {"seeds": seeds, "groups": groups}


def filled(page: str, result: dict[str, Any]) -> str:
    """Returns the page with its two tables."""
    return PLACE.sub(lambda found: f"{found[1]}{found[2]}\n{TABLES[found[1]](result)}\n\n", page)


def main() -> None:
    """Simulates, writes the result file and fills the page."""
    result = simulate()
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), result), encoding="utf-8")
    print(seeds(result), groups(result), sep="\n\n")


if __name__ == "__main__":
    main()
