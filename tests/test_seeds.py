"""checks.seeds: the spread over seeds and examples; runs that are done are not done again."""

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from checks import cli, seeds
from checks.cli import Unanswerable
from checks.revisions import Revision
from checks.seeds import Evidence, SeedRun, paired_differences, spreads
from tests.project import PROGRAMS, Project


def runs(*accuracies: float, loss: float = 0.5) -> list[SeedRun]:
    return [
        SeedRun(seed, f"seed-{seed}", {"test": {"accuracy": value, "loss": loss - value / 10, "examples": 9}}, [], [])
        for seed, value in enumerate(accuracies, 1)
    ]


def evidence(*values: float, examples: int = 400, spread: float = 0.0) -> Evidence:
    """Says of each seed this much on average, and of every example the same, or by `spread` more or less."""
    table = np.repeat(np.array(values)[:, None], examples, axis=1) + spread * np.resize([1.0, -1.0], examples)
    return Evidence({("test", "accuracy"): table, ("test", "loss"): -table / 10}, {})


def test_best_and_worst_follow_the_metrics_direction() -> None:
    accuracy, loss = spreads(runs(0.8, 0.9, 0.7), evidence(0.8, 0.9, 0.7))
    assert (accuracy.best, accuracy.best_seed, accuracy.worst, accuracy.worst_seed) == (0.9, 2, 0.7, 3)
    assert (loss.best_seed, loss.worst_seed) == (2, 3)
    assert accuracy.mean == pytest.approx(0.8) and accuracy.deviation == pytest.approx(0.1)


def test_two_configurations_are_compared_seed_by_seed() -> None:
    """What the seed does to both cancels: unpaired, these two could not be told apart."""
    one, two = runs(0.82, 0.93, 0.71, 0.87), runs(0.80, 0.90, 0.70, 0.85)
    values = [np.array([run.scores["test"]["accuracy"] for run in each]) for each in (one, two)]
    accuracy, _ = paired_differences(one, two, evidence(*(values[0] - values[1])))
    expected = stats.ttest_rel(*values).confidence_interval(0.95)
    assert (accuracy.low, accuracy.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert accuracy.values == pytest.approx([0.02, 0.03, 0.01, 0.02])
    assert accuracy.correlation == pytest.approx(stats.pearsonr(*values).statistic)
    assert accuracy.verdict == "better"
    assert paired_differences(two, one, evidence(*(values[1] - values[0])))[0].verdict == "worse"
    assert stats.ttest_ind(*values).confidence_interval(0.95).low < 0


def test_the_examples_are_as_much_a_matter_of_chance_as_the_seeds() -> None:
    """The same seeds, now on examples that say 1 or -1 beside it: 400 of those are sure to a tenth."""
    one, two = runs(0.82, 0.93, 0.71, 0.87), runs(0.80, 0.90, 0.70, 0.85)
    accuracy, _ = paired_differences(one, two, evidence(0.02, 0.03, 0.01, 0.02, spread=1.0))
    assert accuracy.verdict == "cannot be told apart"
    assert accuracy.of_examples == pytest.approx(0.05, rel=0.01) and accuracy.of_seeds == pytest.approx(
        0.0041, abs=1e-4
    )
    assert accuracy.high - accuracy.low == pytest.approx(2 * 1.97 * 0.05, rel=0.02)


def test_two_seeds_are_shown_and_give_no_verdict() -> None:
    """Twice the same difference has no spread, and two different ones an interval that holds almost everything."""
    for others in ((0.80, 0.90), (0.8, 0.7)):
        one, two = runs(0.82, 0.92), runs(*others)
        accuracy, loss = paired_differences(one, two, evidence(0.02, 0.02))
        assert accuracy.verdict == loss.verdict == "no verdict"
        assert (accuracy.low, accuracy.high) == (None, None)
        assert accuracy.withheld == "2 seeds are too few to estimate their variation; the minimum is 3"
        assert accuracy.values == pytest.approx([0.82 - others[0], 0.92 - others[1]])
        (spread, _) = spreads(one, evidence(0.82, 0.92))
        assert spread.low is None and spread.mean == pytest.approx(0.87)


def test_an_interval_ends_where_the_metric_does() -> None:
    """Three seeds of F1, two of them collapsed: Student's interval ends at 1.4."""
    (accuracy, loss) = spreads(runs(0.95, 0.1, 0.9), evidence(0.95, 0.1, 0.9))
    assert (accuracy.low, accuracy.high) == (0.0, 1.0)
    assert loss.low is not None and loss.low >= 0
    (difference, _) = paired_differences(runs(0.9, 0.0, 0.9), runs(0.0, 0.9, 0.1), evidence(0.9, -0.9, 0.8))
    assert (difference.low, difference.high) == (-1.0, 1.0)


def test_without_logits_the_scores_are_shown_and_the_reason_said() -> None:
    (accuracy, loss) = spreads(runs(0.8, 0.9, 0.7), Evidence({}, {"test": "neither in the cache nor in a remote"}))
    assert accuracy.withheld == loss.withheld == "neither in the cache nor in a remote"
    assert accuracy.mean == pytest.approx(0.8)
    (difference, _) = paired_differences(
        runs(0.8, 0.9, 0.7), runs(0.7, 0.8, 0.6), Evidence({}, {"test": "other texts"})
    )
    assert (difference.verdict, difference.withheld) == ("no verdict", "other texts")


def test_a_metric_that_neither_seed_nor_example_moves_has_no_interval() -> None:
    (accuracy, _) = spreads(runs(1.0, 1.0, 1.0), evidence(1.0, 1.0, 1.0))
    assert accuracy.withheld == "all seeds and all examples have the same score"


def study() -> seeds.SeedStudy:
    """Two configurations over three seeds."""
    one, two = runs(0.82, 0.93, 0.71), runs(0.80, 0.90, 0.70)
    configurations = [
        seeds.Configuration(changes, own, spreads(own, evidence(*(run.scores["test"]["accuracy"] for run in own))))
        for changes, own in ((["train.epochs=3"], one), ([], two))
    ]
    return seeds.SeedStudy(configurations, paired_differences(one, two, evidence(0.02, 0.03, 0.01)))


def test_a_table_for_a_page_has_all_that_the_terminal_shows() -> None:
    lines = seeds.as_markdown(study()).splitlines()
    assert lines[0] == "**train.epochs=3, 3 seeds**"
    assert (
        lines[2].startswith("| split | metric | mean | deviation | 95 % of the mean |") and lines[3].count("---") == 9
    )
    cells = [cell for line in lines if line.startswith("| test") for cell in line.strip("| ").split(" | ")]
    assert {"0.8200", "0.9300", "+0.0200", "+0.0300", study().differences[0].verdict} <= set(cells)
    assert "- restore one: dvc exp apply seed-1" in lines


def test_a_table_for_a_paper_is_latex_that_shows_the_signs() -> None:
    text = seeds.as_latex(study())
    lines = text.splitlines()
    assert lines[0] == r"% \usepackage{booktabs}" and lines[1] == "% train.epochs=3, 3 seeds"
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 6
    header = r"split & metric & mean & deviation & 95 \% of the mean & $\pm$ seeds & $\pm$ examples & best & worst \\"
    assert header in lines
    row = next(line for line in lines if line.startswith("test & accuracy & $0.8200$"))
    assert row.count("&") == header.count("&") and row.endswith(r" \\")
    assert any("$[+0." in line or "$[-0." in line for line in lines)  # an interval, its minus a real one
    assert cli.latex("a_b & 5 % ~ {x} \\") == r"a\_b \& 5 \% \textasciitilde{} \{x\} \textbackslash{}"
    depth = [line for line in lines if not line.startswith("%") and line and not line.startswith("\\")]
    assert all(line.endswith(r" \\") for line in depth)


def test_everything_that_is_said_is_printed() -> None:
    one, two = runs(0.82, 0.93, 0.71), runs(0.80, 0.90, 0.70)
    configurations = [
        seeds.Configuration(changes, own, spreads(own, evidence(*(run.scores["test"]["accuracy"] for run in own))))
        for changes, own in (([], one), (["train.epochs=4"], two))
    ]
    study = seeds.SeedStudy(configurations, paired_differences(one, two, evidence(0.02, 0.03, 0.01)))
    text = seeds.as_text(study)
    assert re.search(r"test +accuracy +0\.8200 +0\.9300 +0\.7100\n", text)
    assert re.search(r"test +accuracy +\+0\.0200 +\+0\.0300 +\+0\.0100\n", text)
    assert "± seeds" in text and "± examples" in text and re.search(r"\+1\.00 +cannot be told apart", text)
    two_seeds = [seeds.Configuration([], one[:2], spreads(one[:2], evidence(0.82, 0.93)))]
    assert "no interval for test accuracy, test loss: 2 seeds are too few" in seeds.as_text(
        seeds.SeedStudy(two_seeds, [])
    )
    assert json.loads(seeds.as_json(study))["differences"][0]["verdict"] == "cannot be told apart"


def test_runs_with_other_splits_do_not_compare() -> None:
    other = [SeedRun(1, "seed-1", {"validation": {"accuracy": 0.5}}, [], [])]
    with pytest.raises(Unanswerable, match="on different splits or metrics"):
        paired_differences(runs(0.8), other, Evidence({}, {}))


class Stored(Revision):
    """A revision whose files are given."""

    def text(self, path: str) -> str | None:
        return self.repo.get(path)


@pytest.mark.parametrize(
    ("predicted", "value", "low", "collapsed", "doubtful"),
    [
        ((30, 70), 0.9, 0.85, [], []),
        (
            (0, 100),
            0.6,
            0.5,
            ["test: always 'yes'", "test: accuracy 0.6000 is no better than the best constant answer's 0.6000"],
            [],
        ),
        ((30, 70), 0.55, 0.45, ["test: accuracy 0.5500 is no better than the best constant answer's 0.6000"], []),
        ((30, 70), 0.61, 0.51, [], ["test: accuracy 0.6100 cannot be told from the best constant answer's 0.6000"]),
    ],
)
def test_a_collapsed_run_is_flagged_and_a_doubtful_one_is_not_called_so(
    predicted: tuple[int, int], value: float, low: float, collapsed: list[str], doubtful: list[str]
) -> None:
    record = {"split": "test", "metric": "accuracy", "value": value, "high": 1.0, "baseline": 0.6}
    records = [record | {"method": "bootstrap", "low": value}, record | {"method": "wilson", "low": low}]
    files = {
        "metrics/metrics.json": json.dumps({"test": {"accuracy": value}}),
        "metrics/intervals.json": json.dumps({"intervals": records}),
        "metrics/plots/confusion.csv": "split,actual,predicted,examples\n"
        f"test,no,no,{predicted[0]}\ntest,yes,yes,{predicted[1]}\n",
    }
    found = seeds.read_run(Stored("seed-1", "0", files), 1)
    assert (found.collapsed, found.doubtful) == (collapsed, doubtful)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--seeds", "1,x"], "--seeds: expected whole numbers like 1,2,3, got '1,x'"),
        (["--seeds", "1"], "give at least two different seeds"),
        (["--seeds", "1,1"], "give at least two different seeds"),
        (["--count", "1"], "give at least two different seeds"),
        (["-S", "learning_rate"], "'learning_rate': expected section.key=value, and train.seed comes from --seeds"),
        (["-S", "train.seed=3"], "'train.seed=3': expected section.key=value, and train.seed comes from --seeds"),
    ],
)
def test_arguments_that_make_no_sense_are_one_line(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert seeds.main(arguments) == 2
    assert capsys.readouterr() == ("", f"seeds: {line}\n")


def alive(folder: Path) -> list[str]:
    """Returns the programs that run below a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cwd").readlink().is_relative_to(folder):
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def start(project: Project, *arguments: str) -> Any:
    return subprocess.Popen(
        [sys.executable, "-m", "checks.seeds", *arguments],
        cwd=project.folder,
        env=os.environ | {"PATH": PROGRAMS},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.exhaustive
def test_three_seeds_go_on_after_an_interruption_and_none_is_trained_twice(tiny: Project) -> None:
    """Interrupted while the second one trains, by Ctrl-C and then by a kill; in a tree with uncommitted changes."""
    tiny.set(train__epochs=1)
    trained: Counter[str] = Counter()
    current = ""
    for how in (signal.SIGINT, signal.SIGKILL, None):
        process = start(tiny, "--count", "3")
        lines = []
        for line in process.stdout:
            lines.append(line)
            if running := re.search(r"(seed-\d)-\w+: running", line):
                current = running[1]
            trained[current] += line.startswith("epoch 1/1: ")
            if how and "Running stage 'train'" in line and any(re.search(r"seed-2-\w+: running", one) for one in lines):
                process.send_signal(how)
                how = None
        process.wait()
        said = "".join(lines)
        assert not [program for program in alive(tiny.folder) if "dvc" in program or "stages" in program]
    assert process.returncode == 0
    assert re.search(r"seed-1-\w+: found", said)
    assert trained["seed-1"] == trained["seed-3"] == 1  # the second may have ended its epoch as it was interrupted
    again = tiny.run("python", "-m", "checks.seeds", "--count", "3", "--json")
    assert re.findall(r"seed-\d-\w+: (\w+)", again.stderr) == ["found"] * 3
    (configuration,) = json.loads(again.stdout)["configurations"]
    assert [run["seed"] for run in configuration["runs"]] == [1, 2, 3]
    # Restorable, and what it restores is the seed's.
    tiny.run("git", "stash")
    tiny.run("dvc", "exp", "apply", configuration["runs"][2]["experiment"])
    assert json.loads(tiny.read("metrics/metrics.json")) == configuration["runs"][2]["scores"]
    assert "seed: 3" in tiny.read("params.yaml")
    # An input that changed since makes it another run, and DVC decides what of it has to be done again.
    tiny.run("git", "checkout", "--", ".")
    tiny.set(train__epochs=1, train__weight_decay=0.1)
    done = tiny.run("python", "-m", "checks.seeds", "--seeds", "1,2", "--against", "train.weight_decay=0.0", "--json")
    assert re.findall(r"(seed-\d)-\w+: (\w+)", done.stderr) == [
        ("seed-1", "running"),
        ("seed-2", "running"),
        ("seed-1", "found"),  # those without decay are the ones from before
        ("seed-2", "found"),
    ]
    assert len(re.findall(r"epoch 1/1: .*", done.stderr)) == 2
    assert {one["metric"] for one in json.loads(done.stdout)["differences"]} == {"accuracy", "f1", "loss"}
