"""checks.gate: turns a worse model down, lets an equivalent one through, and knows which direction is better."""

import re
import shutil

import pytest

from checks import gate
from tests.predictions import branch, labels_of, logits_of, make, repro
from tests.project import Project

LABELS = labels_of(200)


def ask(project: Project, *rules: str) -> None:
    text = project.read("params.yaml")
    lines = "".join(f"\n  - {rule}" for rule in rules)
    (project.folder / "params.yaml").write_text(text[: text.index("gate:")] + f"gate:{lines or ' []'}\n")


def answer(capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    status = gate.main([])
    out, error = capsys.readouterr()
    assert error == ""
    return status, out.splitlines()


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    assert gate.main([]) == 2
    out, error = capsys.readouterr()
    assert out == "" and error.startswith("gate: ") and error.count("\n") == 1
    return error.removeprefix("gate: ").strip()


def test_without_rules_nothing_is_asked(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(capsys) == (0, ["gate: params.yaml has no rules under `gate`; nothing was asked"])


def test_each_rule_has_a_line_and_one_failure_is_enough(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    ask(
        predicted,
        "{split: validation, metric: accuracy, at_least: 0.8}",
        "{split: validation, metric: accuracy, at_least: 0.81}",
        "{split: validation, metric: loss, at_most: 0.9}",
    )
    status, lines = answer(capsys)
    assert status == 1
    assert lines[:2] == [
        "pass  validation accuracy 0.8000, at least 0.8 is asked",
        "FAIL  validation accuracy 0.8000, at least 0.81 is asked",
    ]
    assert lines[2].startswith("pass  validation loss 0.") and lines[2].endswith(", at most 0.9 is asked")


AGAINST = (
    "{split: validation, metric: accuracy, against: main, allowed_drop: 0.01}",
    "{split: validation, metric: accuracy, against: main, not_significantly_worse: true}",
    "{split: validation, metric: loss, against: main, not_significantly_worse: true}",
)


def test_a_worse_model_is_turned_down(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    branch(predicted, "worse", LABELS, logits_of(LABELS, range(80)))
    ask(predicted, *AGAINST)
    status, lines = answer(capsys)
    assert status == 1
    assert lines[0] == ("FAIL  validation accuracy 0.6000 against 0.8000 of main, worse by 0.2000, 0.01 is allowed")
    assert lines[1].startswith("FAIL  validation accuracy 0.6000, -0.2000 [-0.2")
    assert lines[1].endswith("] against main: worse")
    assert lines[2].startswith("FAIL  validation loss ") and lines[2].endswith(" against main: worse")


def test_an_equivalent_model_is_let_through(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    branch(predicted, "other", LABELS, logits_of(LABELS, range(1, 42)))
    ask(predicted, *AGAINST[:2])
    status, lines = answer(capsys)
    assert status == 0
    assert lines[0].endswith("worse by 0.0050, 0.01 is allowed")
    assert lines[1].endswith("against main: cannot be told apart")


def test_three_flips_the_wrong_way_are_not_worse(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    branch(predicted, "other", LABELS, logits_of(LABELS, range(43)))
    ask(predicted, AGAINST[1])
    status, (line,) = answer(capsys)
    assert status == 0 and re.search(r"-0.0150 \[-0.0\d+, -0.0\d+\] against main: cannot be told apart$", line)


def test_what_compare_calls_equivalent_passes(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """8 of 4,000 examples lost and none gained is surely worse, by less than the margin."""
    labels = labels_of(4000)
    make(predicted, labels, logits_of(labels, range(400)))
    branch(predicted, "other", labels, logits_of(labels, range(408)))
    ask(predicted, AGAINST[1])
    status, (line,) = answer(capsys)
    assert line.endswith("] against main: equivalent within 0.005") and ", -0.0" in line
    assert status == 0


def test_a_better_model_passes_in_both_directions(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    branch(predicted, "better", LABELS, logits_of(LABELS, range(10)))
    ask(predicted, *AGAINST, "{split: validation, metric: loss, against: main, allowed_drop: 0}")
    assert answer(capsys)[0] == 0


def test_a_missing_metric_fails(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    ask(
        predicted,
        "{split: test, metric: accuracy, at_least: 0.1}",
        "{split: validation, metric: f1_macro, at_least: 0.1}",
    )
    assert answer(capsys) == (
        1,
        [
            "FAIL  test accuracy is not in metrics/metrics.json",
            "FAIL  validation f1_macro is not in metrics/metrics.json",
        ],
    )


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        ("{metric: f1, at_least: 0.8}", "params.yaml: gate[0].split: missing; add it"),
        (
            "{split: test, metric: f1, atleast: 0.8}",
            "params.yaml: gate[0].atleast: unknown key; the section knows split",
        ),
        ("{split: test, metric: f1, at_least: high}", "params.yaml: gate[0].at_least: must be a number, got 'high'"),
        ("{split: test, metric: f2, at_least: 0.8}", "params.yaml: gate[0].metric: must be one of accuracy, f1, "),
        ("{split: test, metric: f1}", "params.yaml: gate[0]: must have one of at_least, at_most, allowed_drop, "),
        ("{split: test, metric: f1, at_least: 0, at_most: 1}", "params.yaml: gate[0]: must have one of at_least,"),
        ("{split: test, metric: f1, allowed_drop: 0.1}", "params.yaml: gate[0]: `against: <revision>` belongs to"),
        (
            "{split: test, metric: f1, against: main, at_least: 1}",
            "params.yaml: gate[0]: `against: <revision>` belongs",
        ),
        (
            "{split: test, metric: f1, against: main, allowed_drop: -1}",
            "params.yaml: gate[0].allowed_drop: must be at l",
        ),
        (
            "{split: test, metric: loss, at_least: 1}",
            "params.yaml: gate[0].at_least: loss is better when lower; use at_m",
        ),
        (
            "{split: test, metric: f1, at_most: 1}",
            "params.yaml: gate[0].at_most: f1 is better when higher; use at_leas",
        ),
        ("at_least 0.8", "params.yaml: gate: must be a list of rules like"),
        ("{split: validation, metric: f1, against: nope, allowed_drop: 0}", "no revision 'nope' in this repository"),
    ],
)
def test_a_rule_that_makes_no_sense_is_one_line(
    predicted: Project, capsys: pytest.CaptureFixture[str], rule: str, line: str
) -> None:
    ask(predicted, rule)
    assert refusal(capsys).startswith(line)


def test_metrics_of_other_parameters_are_not_judged(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    ask(predicted, "{split: validation, metric: accuracy, at_least: 0.1}")
    (predicted.folder / "params.yaml").write_text(predicted.read("params.yaml").replace("1.0e-4", "2.0e-4"))
    expected = "params.yaml: train.learning_rate is 0.0002, dvc.lock was made with 0.0001; run `dvc repro`"
    assert refusal(capsys) == f"the metrics are not those of the workspace: {expected}"


@pytest.mark.parametrize(
    ("file", "old", "new", "reason"),
    [
        ("made/raw/more.csv", "", "a row", "made/raw/more.csv: added"),
        ("dvc.yaml", "rm -rf data/raw;", "rm -fr data/raw;", "dvc.yaml: cmd: "),
        ("dvc.yaml", "deps: [made/raw]", "deps: [made/raw, params.yaml]", "params.yaml: newly listed in dvc.yaml"),
    ],
)
def test_metrics_of_other_data_or_commands_are_not_judged(
    predicted: Project, capsys: pytest.CaptureFixture[str], file: str, old: str, new: str, reason: str
) -> None:
    ask(predicted, "{split: validation, metric: accuracy, at_least: 0.1}")
    text = predicted.read(file) if old else ""
    (predicted.folder / file).write_text(text.replace(old, new) if old else new)
    assert refusal(capsys).startswith(f"the metrics are not those of the workspace: {reason}")


def test_metrics_in_git_are_judged_where_no_artifact_is(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """As in a fresh clone, and after a `git checkout` without `dvc checkout`."""
    ask(predicted, "{split: validation, metric: accuracy, at_least: 0.1}")
    (predicted.folder / "data/predictions/validation/logits.npy").unlink()
    assert answer(capsys)[0] == 0
    shutil.rmtree(predicted.folder / "data")
    assert answer(capsys)[0] == 0


def test_what_cannot_be_read_is_one_line(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    branch(predicted, "tested", LABELS, logits_of(LABELS, range(10)))
    (predicted.folder / "made/predictions/validation").rename(predicted.folder / "made/predictions/test")
    repro(predicted)
    predicted.commit("another split")
    predicted.run("git", "checkout", "--quiet", "main")
    ask(predicted, AGAINST[1].replace("main", "tested"))
    assert refusal(capsys) == "tested: the validation split was not predicted"
    (predicted.folder / "params.yaml").write_text("gate: [\n")
    assert refusal(capsys).startswith("params.yaml: cannot be read: ")
    (predicted.folder / "params.yaml").write_text("just a text\n")
    assert refusal(capsys).startswith("params.yaml: gate: must be a list of rules like")
    ask_text = "{split: validation, metric: accuracy, at_least: 0.1}"
    (predicted.folder / "params.yaml").write_text(f"gate: [{ask_text}]\n")
    assert refusal(capsys).endswith("params.yaml: train: the section is missing; run `dvc repro`")


def test_scores_on_other_examples_do_not_compare(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    branch(predicted, "fewer", LABELS[:100], logits_of(LABELS[:100], range(10)))
    ask(predicted, AGAINST[0])
    assert refusal(capsys).startswith("validation: 200 examples in main and 100 in workspace")


def test_the_gate_is_read_by_no_stage(predicted: Project) -> None:
    ask(predicted, AGAINST[0])
    before = predicted.read("dvc.lock")
    repro(predicted)
    assert predicted.read("dvc.lock") == before
