"""How much of a score is luck? Trains one configuration with several seeds, and compares two over the same seeds.

    python -m checks.seeds [--count N | --seeds 1,2,3] [-S KEY=VALUE ...] [--against [KEY=VALUE ...]] [--json]

Each seed is a DVC experiment of the workspace as it is, without what Git does not know but for the data and checkpoint
folders, run in a folder of its own by `dvc exp run --temp`: DVC's queue for temporary folders, in the foreground, for
`--queue` would leave a daemon behind that trains on when this program is stopped. Its name is printed, and
`dvc exp apply <name>` restores it. No experiment is ever removed or written over, and a seed that is done is not
trained again: not after an interruption, and not for another comparison. `-S` changes
parameters, as for `dvc exp run`; `--against` names those of a second configuration (none: params.yaml as it is); the
differences are taken seed by seed.
The intervals are Student's: they hold what the seed does, on these very examples, and nothing of what other examples
would do (metrics/intervals.json has that).
Exit status: 0 with an answer, 2 with one line on stderr when there is none, 130 for Ctrl-C.
"""

import argparse
import csv
import ctypes
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML
from scipy.stats import t

from checks import cli
from checks.dvc_internals import experiment_ref
from checks.lock import find_mismatches, read_sections
from checks.paired import greater_is_better
from checks.revisions import Revision, git
from stages.evaluate.score_warnings import reaches_constant
from stages.shared.runtime.terminal import say, warn
from stages.shared.task.cells import text_of
from stages.shared.task.intervals import interval_of

CONFIDENCE = 0.95
SEED = "train.seed"
NO_STAGES = ("execution", "gate")  # sections that belong to no stage


@dataclass(frozen=True)
class Spread:
    """A metric over the seeds."""

    split: str
    metric: str
    mean: float
    deviation: float  # of the seeds
    low: float  # interval of the mean
    high: float
    best: float
    best_seed: int
    worst: float
    worst_seed: int


@dataclass(frozen=True)
class PairedDifference:
    """What the first configuration changes against the second one, seed by seed."""

    split: str
    metric: str
    mean: float
    deviation: float
    low: float
    high: float
    verdict: str


@dataclass(frozen=True)
class SeedRun:
    """One seed of one configuration, finished."""

    seed: int
    experiment: str
    scores: dict[str, dict[str, float]]  # metrics/metrics.json
    collapsed: list[str]  # why the training is to be taken for failed; empty: it is not


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
    for changes in chosen:  # what is refused is so before anything is trained
        untracked_inputs(Path(repo.root_dir), resolve(Path(repo.root_dir), changes))
    configurations = []
    for changes in chosen:
        runs = [run_seed(repo, seed, changes) for seed in seeds]
        configurations.append(Configuration(changes, runs, spreads(runs)))
    differences = [] if second is None else paired_differences(*(one.runs for one in configurations))
    return SeedStudy(configurations, differences)


def run_seed(repo: Any, seed: int, changes: list[str]) -> SeedRun:
    """Returns a finished run: the experiment's if it is there and still what would come out, else a new one.

    Raises:
        Unanswerable: the run failed; its own message stands above.
    """
    root = Path(repo.root_dir)
    params = resolve(root, [*changes, f"{SEED}={seed}"])
    for name in experiment_names(seed, params):
        commit = _experiment(root, name)
        if commit is None:
            break
        found = Revision(name, commit, repo)
        if is_current(found, params):
            warn(f"seeds: {name}: found")
            return read_run(found, seed)
    warn(f"seeds: {name}: running")
    _run_experiment(root, name, [*changes, f"{SEED}={seed}"], untracked_inputs(root, params))
    commit = _experiment(root, name)
    if commit is None:
        raise cli.Unanswerable(f"{name}: `dvc exp run` made no experiment; its own message stands above")
    return read_run(Revision(name, commit, repo), seed)


def _experiment(root: Path, name: str) -> str | None:
    head = str(git(root, "rev-parse", "HEAD"))
    return git(root, "rev-parse", "--verify", "--quiet", experiment_ref(head, name))


def experiment_names(seed: int, params: Mapping[str, Any]) -> Iterator[str]:
    """Names a run after its seed, and by a hash after all parameters; then the same again with a number.

    An experiment of that name may be of other data or code: it stays, and the new one takes the next name.
    """
    sections = {name: section for name, section in params.items() if name not in NO_STAGES}
    sections["train"] = {key: value for key, value in sections["train"].items() if key != "seed"}
    digest = hashlib.sha256(json.dumps(sections, sort_keys=True, default=str).encode()).hexdigest()[:8]
    yield f"seed-{seed}-{digest}"
    yield from (f"seed-{seed}-{digest}-{number}" for number in count(2))


def resolve(root: Path, changes: Sequence[str]) -> dict[str, Any]:
    """Returns params.yaml with parameters changed as `dvc exp run --set-param` changes them.

    Raises:
        Unanswerable: the file cannot be read, or has no such section.
    """
    params = read_sections(root, "download", "train")
    for change in changes:
        key, _, value = change.partition("=")
        *sections, last = key.split(".")
        inner: Any = params
        for section in sections:
            inner = inner.get(section) if isinstance(inner, dict) else None
        if not isinstance(inner, dict):
            raise cli.Unanswerable(f"{change!r}: params.yaml has no section {'.'.join(sections)}")
        inner[last] = YAML(typ="safe", pure=True).load(value)
    return params


def is_current(found: Revision, params: Mapping[str, Any]) -> bool:
    """Says whether the working tree, with these parameters, would give what an experiment gave."""
    return not find_mismatches(found.repo, found.lock, params).stages


def _run_experiment(root: Path, name: str, changes: Sequence[str], untracked: Sequence[str]) -> None:
    """Runs `dvc exp run --temp`; it and its stages end with this program, however that ends.

    Raises:
        Unanswerable: it failed.
    """
    command = [sys.executable, "-m", "dvc", "exp", "run", "--temp", "--name", name]
    for change in changes:
        command += ["--set-param", change]
    for path in untracked:
        command += ["--copy-paths", path]
    environment = os.environ | cli.own_programs_first()
    # A group of its own: Ctrl-C reaches this program alone, which then ends the whole group.
    own_group: dict[str, Any] = {"start_new_session": True, "preexec_fn": _die_with_parent}
    child = subprocess.Popen(command, cwd=root, env=environment, stdout=sys.stderr, **own_group)
    try:
        status = child.wait()
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGINT)  # DVC ends its stage, and removes the folder
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout=20)
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        raise
    if status:
        raise cli.Unanswerable(f"{name}: `dvc exp run` failed; its own message stands above")


def _die_with_parent() -> None:
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def untracked_inputs(root: Path, params: Mapping[str, Any]) -> list[str]:
    """Returns what Git does not know of the user's data and checkpoint folders in the project; whole folders as one.

    Raises:
        Unanswerable: one is no path, or a relative one that leads out of the project, and so elsewhere from the folder
            that an experiment runs in.
    """
    names = []
    for key in ("dataset_files", "checkpoint_files"):
        name = params["download"].get(key)
        if not isinstance(name, str):
            raise cli.Unanswerable(f"download.{key}: a path is expected, got {name!r}")
        if Path(os.path.normpath(name)).parts[:1] == ("..",):
            raise cli.Unanswerable(
                f"download.{key}: {name!r} leads out of the project, and a seed runs in another folder; "
                "give the absolute path"
            )
        if not Path(name).is_absolute():
            names.append(name)
    untracked = ("-c", "core.quotePath=false", "ls-files", "--others", "--directory", "--")
    listed = git(root, *untracked, *names) if names else ""
    return [path.rstrip("/") for path in (listed or "").splitlines()]


def read_run(found: Revision, seed: int) -> SeedRun:
    """Reads what an experiment left in Git."""
    scores = found.json("metrics/metrics.json")
    collapsed = [f"{split}: {why}" for split in scores for why in _collapse(found, split)]
    return SeedRun(seed, found.name, scores, collapsed)


def _collapse(found: Revision, split: str) -> list[str]:
    """Says why a training is to be taken for failed: one answer to everything, or no better score than a constant's."""
    reasons = []
    table = csv.DictReader(io.StringIO(found.text("metrics/plots/confusion.csv") or ""))
    answers = {text_of(row["predicted"]) for row in table if text_of(row["split"]) == split and int(row["examples"])}
    if len(answers) == 1:
        reasons.append(f"always {answers.pop()!r}")
    records = [one for one in found.json("metrics/intervals.json")["intervals"] if one["split"] == split]
    # The first metric: it selected the checkpoint.
    first = interval_of(records, split, records[0]["metric"]) if records else None
    if first and reaches_constant(first):
        reasons.append(
            f"{first['metric']} {first['value']:.4f} is no better than the best constant answer's "
            f"{first['baseline']:.4f}"
        )
    return reasons


def spreads(runs: Sequence[SeedRun]) -> list[Spread]:
    """Sums up every metric of every split over the seeds."""
    found = []
    for split, metric in _metrics(runs):
        scores = {run.seed: run.scores[split][metric] for run in runs}
        ends = (max, min) if greater_is_better(metric) else (min, max)
        best, worst = (end(scores, key=scores.__getitem__) for end in ends)
        summary = mean_interval(np.array(list(scores.values())))
        found.append(Spread(split, metric, *summary, scores[best], best, scores[worst], worst))
    return found


def paired_differences(first: Sequence[SeedRun], second: Sequence[SeedRun]) -> list[PairedDifference]:
    """Takes the differences seed by seed: what a seed does to both configurations cancels."""
    found = []
    for split, metric in _metrics([*first, *second]):
        one, two = (np.array([run.scores[split][metric] for run in runs]) for runs in (first, second))
        mean, deviation, low, high = mean_interval(one - two)
        word = "cannot be told apart"
        if low > 0 or high < 0:
            word = "better" if (low > 0) == greater_is_better(metric) else "worse"
        found.append(PairedDifference(split, metric, mean, deviation, low, high, word))
    return found


def mean_interval(values: np.ndarray) -> tuple[float, float, float, float]:
    """Returns mean, standard deviation and the mean's interval (Student 1908) of float64[seeds], at least two."""
    mean, deviation = float(values.mean()), float(values.std(ddof=1))
    reach = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * deviation / len(values) ** 0.5
    return mean, deviation, mean - reach, mean + reach


def _metrics(runs: Sequence[SeedRun]) -> list[tuple[str, str]]:
    found = [
        [(split, name) for split in run.scores for name in run.scores[split] if name != "examples"] for run in runs
    ]
    if any(names != found[0] for names in found):
        raise cli.Unanswerable("the runs were scored on other splits or by other metrics, which do not compare")
    return found[0]


# Printing


def as_text(study: SeedStudy) -> str:
    """Formats the answer for a terminal."""
    lines: list[str] = []
    for configuration in study.configurations:
        lines += ["", f"{_named(configuration)}, {len(configuration.runs)} seeds"]
        rows = [["split", "metric", "mean", "deviation", f"{100 * CONFIDENCE:g} % of the mean", "best", "worst"]]
        for s in configuration.spreads:
            ends = [f"{s.best:.4f} (seed {s.best_seed})", f"{s.worst:.4f} (seed {s.worst_seed})"]
            interval = f"[{s.low:.4f}, {s.high:.4f}]"
            rows.append([s.split, s.metric, f"{s.mean:.4f}", f"{s.deviation:.4f}", interval, *ends])
        lines += cli.text_table(rows)
        lines += [f"seed {run.seed} collapsed: {why}" for run in configuration.runs for why in run.collapsed]
        lines.append(f"restore one: dvc exp apply {configuration.runs[0].experiment}")
    if study.differences:
        lines += ["", f"{' minus '.join(map(_named, study.configurations))}, seed by seed"]
        rows = [["split", "metric", "difference", "deviation", f"{100 * CONFIDENCE:g} % interval", "verdict"]]
        for d in study.differences:
            interval = f"[{d.low:+.4f}, {d.high:+.4f}]"
            rows.append([d.split, d.metric, f"{d.mean:+.4f}", f"{d.deviation:.4f}", interval, d.verdict])
        lines += cli.text_table(rows)
    return "\n".join(lines[1:])


def as_json(study: SeedStudy) -> str:
    """Formats the answer for programs."""
    return json.dumps(asdict(study), indent=2)


def _named(configuration: Configuration) -> str:
    return ", ".join(configuration.changes) or "params.yaml"


def _seeds(options: argparse.Namespace) -> list[int]:
    try:
        seeds = [int(part) for part in options.seeds.split(",")] if options.seeds else list(range(1, options.count + 1))
    except ValueError:
        raise cli.Unanswerable(f"--seeds: whole numbers like 1,2,3 are expected, got {options.seeds!r}") from None
    if len(seeds) < 2 or len(set(seeds)) < len(seeds):
        raise cli.Unanswerable("a spread takes at least two seeds, each of them once")
    return seeds


def _checked(changes: Sequence[str]) -> list[str]:
    for change in changes:
        key, equals, _ = change.partition("=")
        if not equals or "." not in key or key == SEED:
            raise cli.Unanswerable(f"{change!r}: section.key=value is expected, and {SEED} comes from --seeds")
    return list(changes)


def main(arguments: Sequence[str]) -> int:
    """Answers on stdout and returns the exit status."""
    parser = cli.make_parser("seeds", __doc__)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--count", type=int, default=3, metavar="N", help="seeds 1 to N (3)")
    which.add_argument("--seeds", metavar="1,2,3", help="these seeds")
    parser.add_argument("-S", "--set-param", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    parser.add_argument("--against", nargs="*", metavar="KEY=VALUE", help="a second configuration; none: params.yaml")
    cli.add_forms(parser, as_text, {"--json": as_json})
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that the run is ended too

    def ask(repo: Any) -> int:
        seeds, first = _seeds(options), _checked(options.changes)
        second = None if options.against is None else _checked(options.against)
        say(options.form(study_seeds(repo, seeds, first, second)))
        return 0

    try:
        return cli.answer("seeds", ask)
    except KeyboardInterrupt:
        warn("seeds: interrupted; the same command goes on from here")
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
