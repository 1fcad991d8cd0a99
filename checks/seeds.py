"""How much of a score is luck? Trains one configuration with several seeds, and compares two over the same seeds.

    python -m checks.seeds [--count N | --seeds 1,2,3] [-S KEY=VALUE ...] [--against [KEY=VALUE ...]]
                          [--json | --markdown | --latex]

Each seed is a DVC experiment of the workspace as it is, in a folder of its own (checks/experiments.py). Its name is
printed, and `dvc exp apply <name>` restores it. No experiment is ever removed or overwritten. A finished seed is not
trained again, neither after an interruption nor for another comparison. `-S` changes parameters, as in `dvc exp run`.
`--against` names the changes of a second configuration (none: params.yaml as it is), and the differences are taken seed
by seed.
The intervals cover other seeds and other examples (checks/spread.py), so they are about the recipe. Two seeds get no
interval and no verdict.
Exit status: 0 with an answer; 2 with one line on stderr if there is none; 130 for Ctrl-C.
"""

import argparse
import csv
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from checks import cli
from checks.dvc_internals import DamagedObject
from checks.experiments import Experiment, add_changes, check_experiments, checked, finished
from checks.predictions import read_pair
from checks.revisions import Revision
from checks.spread import (
    FEWEST_SEEDS,
    correlation_of_seeds,
    score_range,
    scores_of_units,
    spread_of_mean,
    withheld_by,
)
from stages.evaluate.score_warnings import reaches_constant
from stages.report.markdown import plain
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.terminal import say
from stages.shared.task.cells import text_of
from stages.shared.task.intervals import interval_of
from stages.shared.task.metrics import greater_is_better

CONFIDENCE = 0.95
SEED = "train.seed"


@dataclass(frozen=True)
class Evidence:
    """What the logits of several runs say."""

    values: dict[tuple[str, str], np.ndarray]  # (split, metric) -> float64[seeds, units]
    missing: dict[str, str]  # a split, or a split and a metric -> why there is no interval


@dataclass(frozen=True)
class MeanOfSeeds:
    """The mean of a metric, or of a difference, over the seeds."""

    mean: float
    deviation: float  # of the seeds
    low: float | None  # interval of the mean, over other seeds and other examples
    high: float | None
    of_seeds: float | None  # standard error of the mean that the choice of seeds brings
    of_examples: float | None  # and the choice of examples
    withheld: str | None  # why there is no interval


@dataclass(frozen=True, kw_only=True)
class Spread(MeanOfSeeds):
    """A metric over the seeds."""

    split: str
    metric: str
    best: float
    best_seed: int
    worst: float
    worst_seed: int


@dataclass(frozen=True, kw_only=True)
class PairedDifference(MeanOfSeeds):
    """What the first configuration changes against the second one, seed by seed."""

    split: str
    metric: str
    values: list[float]  # of each seed
    correlation: float | None  # of both configurations' scores over the seeds; None: one of them has no spread
    verdict: str


@dataclass(frozen=True)
class SeedRun:
    """One seed of one configuration, finished."""

    seed: int
    experiment: str
    scores: dict[str, dict[str, float]]  # metrics/metrics.json
    collapsed: list[str]  # why the training is to be taken for failed; empty: it is not
    doubtful: list[str]  # scores that may be a constant answer's


@dataclass(frozen=True)
class Configuration:
    """One configuration's runs, in the order of the seeds."""

    changes: list[str]  # KEY=VALUE
    runs: list[SeedRun]
    spreads: list[Spread]


@dataclass(frozen=True)
class SeedStudy:
    """The answer."""

    configurations: list[Configuration]
    differences: list[PairedDifference]  # of two configurations


def study_seeds(repo: Any, seeds: Sequence[int], first: list[str], second: list[str] | None) -> SeedStudy:
    """Makes sure that every seed of every configuration has run, and sums up.

    Raises:
        Unanswerable: a run failed, or the runs were scored on other splits or metrics.
    """
    chosen = [first] if second is None else [first, second]
    experiments = [[experiment_of(seed, changes) for seed in seeds] for changes in chosen]
    check_experiments(repo, [one for configuration in experiments for one in configuration])
    found = [[finished(repo, "seeds", one) for one in configuration] for configuration in experiments]
    configurations, evidence = [], []
    for changes, revisions in zip(chosen, found, strict=True):
        runs = [read_run(revision, seed) for revision, seed in zip(revisions, seeds, strict=True)]
        evidence.append(read_evidence(revisions, runs[0].scores))
        configurations.append(Configuration(changes, runs, spreads(runs, evidence[-1])))
    if second is None:
        return SeedStudy(configurations, [])
    one, two = (configuration.runs for configuration in configurations)
    return SeedStudy(configurations, paired_differences(one, two, combined([both[0] for both in found], *evidence)))


def experiment_of(seed: int, changes: list[str]) -> Experiment:
    """Returns the run of one seed of one configuration."""
    return Experiment(f"seed-{seed}", [*changes, f"{SEED}={seed}"], (SEED,))


def read_run(found: Revision, seed: int) -> SeedRun:
    """Reads what an experiment left in Git."""
    scores = found.json("metrics/metrics.json")
    collapsed: list[str] = []
    doubtful: list[str] = []
    for split in scores:
        if answer := _only_answer(found, split):
            collapsed.append(f"{split}: always {answer!r}")
        records = [one for one in found.json("metrics/intervals.json")["intervals"] if one["split"] == split]
        # The first metric: it selected the checkpoint.
        first = interval_of(records, split, records[0]["metric"]) if records else None
        if first and reaches_constant(first):
            known = {} if first["low"] is None else {"low": None, "high": None}
            beaten = not reaches_constant({**first, **known})  # by the value, if not by its interval
            words = "cannot be told from" if beaten else "is no better than"
            said = (
                f"{split}: {first['metric']} {first['value']:.4f} {words} the best constant answer's "
                f"{first['baseline']:.4f}"
            )
            (doubtful if beaten else collapsed).append(said)
    return SeedRun(seed, found.name, scores, collapsed, doubtful)


def _only_answer(found: Revision, split: str) -> str | None:
    """Returns what a model answers to every example of a split, if it does."""
    table = csv.DictReader(io.StringIO(found.text("metrics/plots/confusion.csv") or ""))
    answers = {text_of(row["predicted"]) for row in table if text_of(row["split"]) == split and int(row["examples"])}
    return answers.pop() if len(answers) == 1 else None


def read_evidence(found: Sequence[Revision], scores: Mapping[str, Mapping[str, float]]) -> Evidence:
    """Reads what the logits of one configuration's runs, kept by DVC, say of each metric of each split of `scores`."""
    evidence = Evidence({}, {})
    for split in scores:
        try:
            pairs = [read_pair(found[0], other, split) for other in found[1:]]
        except DamagedObject:
            raise
        except (cli.Unanswerable, BadInput) as error:
            evidence.missing[split] = str(error)
            continue
        task, labels, logits = pairs[0].task, pairs[0].labels, [pairs[0].before, *(pair.after for pair in pairs)]
        names = [name for name in scores[split] if name != "examples"]
        for metric, values in scores_of_units(task, names, labels, logits, pairs[0].groups).items():
            evidence.values[split, metric] = values
            if reason := withheld_by(task, metric, labels, logits, pairs[0].groups):
                evidence.missing[f"{split} {metric}"] = reason
    return evidence


def combined(found: Sequence[Revision], one: Evidence, two: Evidence) -> Evidence:
    """Subtracts what two configurations' logits say, entry by entry: the same seeds, the same examples.

    Args:
        found: a run of each.
    """
    both = Evidence({}, one.missing | two.missing)
    for split in dict.fromkeys(split for split, _ in one.values):
        try:
            read_pair(found[0], found[1], split)
        except DamagedObject:
            raise
        except (cli.Unanswerable, BadInput) as error:
            both.missing[split] = str(error)
    for key in one.values.keys() & two.values.keys():
        if key[0] not in both.missing:
            both.values[key] = one.values[key] - two.values[key]
    return both


def spreads(runs: Sequence[SeedRun], evidence: Evidence) -> list[Spread]:
    """Sums up every metric of every split over the seeds."""
    found = []
    for split, metric in _metrics(runs):
        scores = {run.seed: run.scores[split][metric] for run in runs}
        ends = (max, min) if greater_is_better(metric) else (min, max)
        best, worst = (end(scores, key=scores.__getitem__) for end in ends)
        summary = summarize(np.array(list(scores.values())), evidence, split, metric)
        found.append(
            Spread(
                **asdict(summary),
                split=split,
                metric=metric,
                best=scores[best],
                best_seed=best,
                worst=scores[worst],
                worst_seed=worst,
            )
        )
    return found


def paired_differences(
    first: Sequence[SeedRun], second: Sequence[SeedRun], evidence: Evidence
) -> list[PairedDifference]:
    """Takes the differences seed by seed: what a seed does to both configurations cancels, as far as it does."""
    found = []
    for split, metric in _metrics([*first, *second]):
        one, two = (np.array([run.scores[split][metric] for run in runs]) for runs in (first, second))
        summary = summarize(one - two, evidence, split, metric, difference=True)
        word = "cannot be told apart"
        if summary.low is None or summary.high is None:
            word = "no verdict"
        elif summary.low > 0 or summary.high < 0:
            word = "better" if (summary.low > 0) == greater_is_better(metric) else "worse"
        found.append(
            PairedDifference(
                **asdict(summary),
                split=split,
                metric=metric,
                values=(one - two).tolist(),
                correlation=correlation_of_seeds(one, two),
                verdict=word,
            )
        )
    return found


def summarize(
    values: np.ndarray, evidence: Evidence, split: str, metric: str, *, difference: bool = False
) -> MeanOfSeeds:
    """Returns mean, deviation and the mean's interval of float64[seeds]; the interval stays in the metric's range."""
    mean, deviation = float(values.mean()), float(values.std(ddof=1))
    table = evidence.values.get((split, metric))
    withheld = evidence.missing.get(split) or evidence.missing.get(f"{split} {metric}")
    if len(values) < FEWEST_SEEDS:
        withheld = f"{len(values)} seeds are too few to estimate their variation; the minimum is {FEWEST_SEEDS}"
    if withheld is not None or table is None:
        return MeanOfSeeds(mean, deviation, None, None, None, None, withheld or "no logits")
    spread = spread_of_mean(table)
    if spread.error == 0 and not difference:
        return MeanOfSeeds(mean, deviation, None, None, 0.0, 0.0, "all seeds and all examples have the same score")
    lowest, highest = score_range(metric)
    if difference:
        lowest, highest = lowest - highest, highest - lowest
    reach = spread.reach(CONFIDENCE)
    ends = max(mean - reach, lowest), min(mean + reach, highest)
    return MeanOfSeeds(mean, deviation, *ends, spread.of_seeds, spread.of_examples, None)


def _metrics(runs: Sequence[SeedRun]) -> list[tuple[str, str]]:
    found = [
        [(split, name) for split in run.scores for name in run.scores[split] if name != "examples"] for run in runs
    ]
    if any(names != found[0] for names in found):
        raise cli.Unanswerable("the runs were scored on different splits or metrics and cannot be compared")
    return found[0]


# Printing


class Block(NamedTuple):
    """What is said of one configuration, or of the differences."""

    title: str
    summary: list[list[str]]  # a table, its header first
    seeds: list[list[str]]  # the same of every seed
    notes: list[str]


def blocks(study: SeedStudy) -> Iterator[Block]:
    """Yields what the answer says, in the order in which it is printed."""
    for configuration in study.configurations:
        head = ["mean", "deviation", f"{100 * CONFIDENCE:g} % of the mean", "± seeds", "± examples", "best", "worst"]
        rows = [["split", "metric", *head]]
        for s in configuration.spreads:
            ends = [f"{s.best:.4f} (seed {s.best_seed})", f"{s.worst:.4f} (seed {s.worst_seed})"]
            rows.append([s.split, s.metric, f"{s.mean:.4f}", *_mean_cells(s), *ends])
        notes = _reasons(configuration.spreads)
        notes += [f"seed {run.seed} collapsed: {why}" for run in configuration.runs for why in run.collapsed]
        notes += [f"seed {run.seed}: {why}" for run in configuration.runs for why in run.doubtful]
        notes.append(f"restore one: dvc exp apply {configuration.runs[0].experiment}")
        yield Block(f"{_named(configuration)}, {len(configuration.runs)} seeds", rows, _seed_rows(configuration), notes)
    if study.differences:
        head = ["difference", "deviation", f"{100 * CONFIDENCE:g} % interval", "± seeds", "± examples"]
        rows = [["split", "metric", *head, "correlation", "verdict"]]
        for d in study.differences:
            correlation = "unknown" if d.correlation is None else f"{d.correlation:+.2f}"
            rows.append([d.split, d.metric, f"{d.mean:+.4f}", *_mean_cells(d, "+"), correlation, d.verdict])
        of_seeds = [["split", "metric", *(f"seed {run.seed}" for run in study.configurations[0].runs)]]
        of_seeds += [[d.split, d.metric, *(f"{value:+.4f}" for value in d.values)] for d in study.differences]
        title = f"{' minus '.join(map(_named, study.configurations))}, seed by seed"
        yield Block(title, rows, of_seeds, _reasons(study.differences))


def as_text(study: SeedStudy) -> str:
    """Formats the answer for a terminal."""
    lines: list[str] = []
    for title, summary, seeds, notes in blocks(study):
        lines += ["", title, *cli.text_table(summary), "", *cli.text_table(seeds), *notes]
    return "\n".join(lines[1:])


def as_markdown(study: SeedStudy) -> str:
    """Formats the answer for a pull request or a page."""
    lines: list[str] = []
    for title, summary, seeds, notes in blocks(study):
        lines += ["", f"**{plain(title)}**", "", *cli.markdown_table(summary), "", *cli.markdown_table(seeds), ""]
        lines += [f"- {plain(note)}" for note in notes]
    return "\n".join(lines[1:])


def as_latex(study: SeedStudy) -> str:
    """Formats the answer for a paper: tables of the package booktabs, what else is to be said as comments."""
    lines: list[str] = []
    for title, summary, seeds, notes in blocks(study):
        lines += [
            "",
            f"% {title}",
            *cli.latex_table(summary),
            "",
            *cli.latex_table(seeds),
            *(f"% {note}" for note in notes),
        ]
    return "\n".join(["% \\usepackage{booktabs}", *lines[1:]])


def _mean_cells(summary: MeanOfSeeds, sign: str = "") -> list[str]:
    """Formats deviation, interval and the two parts of its width; what is withheld, as a dash."""
    cells = [f"{summary.deviation:.4f}"]
    known = summary.low is not None and summary.high is not None
    cells.append(f"[{summary.low:{sign}.4f}, {summary.high:{sign}.4f}]" if known else "-")
    return cells + ["-" if part is None else f"{part:.4f}" for part in (summary.of_seeds, summary.of_examples)]


def _seed_rows(configuration: Configuration) -> list[list[str]]:
    """Shows every seed's own scores."""
    rows = [["split", "metric", *(f"seed {run.seed}" for run in configuration.runs)]]
    for s in configuration.spreads:
        rows.append([s.split, s.metric, *(f"{run.scores[s.split][s.metric]:.4f}" for run in configuration.runs)])
    return rows


def _reasons(summaries: Sequence[Spread | PairedDifference]) -> list[str]:
    return cli.no_intervals((f"{one.split} {one.metric}", one.withheld) for one in summaries)


def as_json(study: SeedStudy) -> str:
    """Formats the answer for programs."""
    return json.dumps(asdict(study), indent=2)


def _named(configuration: Configuration) -> str:
    return ", ".join(configuration.changes) or "params.yaml"


def _seeds(options: argparse.Namespace) -> list[int]:
    try:
        seeds = [int(part) for part in options.seeds.split(",")] if options.seeds else list(range(1, options.count + 1))
    except ValueError:
        raise cli.Unanswerable(f"--seeds: expected whole numbers like 1,2,3, got {options.seeds!r}") from None
    if len(seeds) < 2 or len(set(seeds)) < len(seeds):
        raise cli.Unanswerable("give at least two different seeds")
    return seeds


def main(arguments: Sequence[str]) -> int:
    """Answers on stdout and returns the exit status."""
    parser = cli.make_parser("seeds", __doc__)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--count", type=int, default=3, metavar="N", help="seeds 1 to N (3)")
    which.add_argument("--seeds", metavar="1,2,3", help="these seeds")
    add_changes(parser)
    parser.add_argument("--against", nargs="*", metavar="KEY=VALUE", help="a second configuration; none: params.yaml")
    cli.add_forms(parser, as_text, {"--json": as_json, "--markdown": as_markdown, "--latex": as_latex})
    options = parser.parse_args(arguments)
    cli.end_on_sigterm()

    def ask(repo: Any) -> int:
        seeds, first = _seeds(options), checked(options.changes, SEED, "--seeds")
        second = None if options.against is None else checked(options.against, SEED, "--seeds")
        say(options.form(study_seeds(repo, seeds, first, second)))
        return 0

    return cli.answer("seeds", ask, interrupted="run the same command to continue")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
