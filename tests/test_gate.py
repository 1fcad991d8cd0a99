"""checks.gate: turns a worse model down, lets an equivalent one through, and knows which direction is better."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from checks import cli, gate, verify
from checks.attestation import digest_of, written
from checks.revisions import Revision
from checks.signing import signer_of
from tests.predictions import branch, labels_of, logits_of, make, repro, warn
from tests.project import Project
from tests.statements import ADA, BOB, EVE, statement_of

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
    assert answer(capsys) == (0, ["gate: params.yaml has no rules under `gate`; nothing to check"])


@pytest.mark.parametrize(
    ("left", "line"), [("", "x: interrupted\n"), ("all is there", "x: interrupted; all is there\n")]
)
def test_a_command_that_is_interrupted_says_so(
    left: str, line: str, predicted: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(repo: object) -> int:
        raise KeyboardInterrupt

    assert cli.answer("x", ask, interrupted=left) == 130
    assert capsys.readouterr() == ("", line)


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
        "pass  validation accuracy 0.8000, required: at least 0.8",
        "FAIL  validation accuracy 0.8000, required: at least 0.81",
    ]
    assert lines[2].startswith("pass  validation loss 0.") and lines[2].endswith(", required: at most 0.9")


def of_label(metric: str, label: str, limit: str) -> str:
    return f"{{split: validation, metric: {metric}, label: {label}, {limit}}}"


def write_classes(project: Project) -> None:
    """Commits what evaluate says of the labels; the project's own evaluate is a line of shell."""
    records = [
        {"split": "validation", "label": label, "precision": 0.9, "recall": recall, "f1": 0.85}
        for label, recall in (("no", 0.95), ("yes", 0.75))
    ]
    (project.folder / "metrics" / "classes.json").write_text(json.dumps({"classes": records}))
    project.commit("classes")


def test_a_rule_may_be_about_one_label(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    write_classes(predicted)
    rules = [of_label("recall", label, "at_least: 0.8") for label in ("no", "yes", "maybe")]
    ask(predicted, *rules)
    assert answer(capsys) == (
        1,
        [
            "pass  validation recall of no 0.9500, required: at least 0.8",
            "FAIL  validation recall of yes 0.7500, required: at least 0.8",
            "FAIL  validation recall of maybe is not in metrics/classes.json",
        ],
    )


def test_a_label_may_not_get_worse_than_another_revisions(
    predicted: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    """The new model is wrong on more examples of yes, and on fewer of no."""
    no = [row for row in range(40) if LABELS[row] == 1]
    branch(predicted, "other", LABELS, logits_of(LABELS, [*no, *[row for row in range(40, 110) if LABELS[row] == 1]]))
    write_classes(predicted)
    ask(predicted, *(of_label("recall", label, "against: main, not_worse_by: 0.05") for label in ("yes", "no")))
    status, lines = answer(capsys)
    assert status == 1 and lines[0].endswith("against main: worse by more than 0.05")
    assert lines[1].startswith("pass  validation recall of no 0.9500, +0.") and "not worse by 0.05" in lines[1]


def test_without_the_scores_of_labels_there_is_no_answer(
    predicted: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(predicted, of_label("recall", "yes", "at_least: 0.8"))
    assert refusal(capsys) == "workspace: no metrics/classes.json; `dvc repro` there makes it"


@pytest.mark.parametrize("metric", ["accuracy", "loss", "f1_macro"])
def test_a_rule_about_a_label_takes_a_metric_that_a_label_has(
    metric: str, predicted: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(predicted, of_label(metric, "yes", "at_least: 0.8"))
    expected = f"params.yaml: gate[0].metric: of a label must be one of precision, recall, f1, got '{metric}'"
    assert refusal(capsys) == expected


def against(metric: str, margin: float, revision: str = "main") -> str:
    return f"{{split: validation, metric: {metric}, against: {revision}, not_worse_by: {margin}}}"


AGAINST = (against("accuracy", 0.05), against("f1", 0.05), against("loss", 0.1))


def test_a_worse_model_is_turned_down(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    branch(predicted, "worse", LABELS, logits_of(LABELS, range(80)))
    ask(predicted, *AGAINST)
    status, lines = answer(capsys)
    assert status == 1 and [line[:5] for line in lines] == ["FAIL "] * 3
    assert lines[0].startswith("FAIL  validation accuracy 0.6000, -0.2000 [-0.2")
    assert lines[0].endswith("] against main: worse by more than 0.05")
    assert lines[2].startswith("FAIL  validation loss ") and lines[2].endswith(" against main: worse by more than 0.1")


def test_an_equal_model_is_let_through_where_the_examples_suffice(
    predicted: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    branch(predicted, "other", LABELS, logits_of(LABELS, range(1, 42)))
    ask(predicted, against("accuracy", 0.05))
    status, (line,) = answer(capsys)
    assert status == 0 and line.endswith("] against main: not worse by 0.05")


def test_too_few_examples_fail_and_it_is_said_what_they_could_show(
    predicted: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    branch(predicted, "other", LABELS, logits_of(LABELS, range(1, 42)))
    ask(predicted, against("accuracy", 0.01))
    status, (line,) = answer(capsys)
    assert status == 1
    assert re.search(r"-0.0050 \[-0.0\d+, \+0.0\d+\] against main: too few examples: n = 200 could show 0.0", line)


def test_five_of_twenty_lost_do_not_pass(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """The bootstrap's interval is [-0.45, -0.10], and a test of five flips cannot tell: small n was a free pass."""
    labels = labels_of(20)
    make(predicted, labels, logits_of(labels, []))
    branch(predicted, "other", labels, logits_of(labels, range(5)))
    ask(predicted, against("accuracy", 0.02))
    status, (line,) = answer(capsys)
    assert status == 1 and line.startswith("FAIL  validation accuracy 0.7500, -0.2500 [-0.4")


@pytest.mark.parametrize(("examples", "passes"), [(50, False), (100, False), (189, True), (250, True)])
def test_where_nothing_flips_the_number_of_examples_decides(
    predicted: Project, capsys: pytest.CaptureFixture[str], examples: int, passes: bool
) -> None:
    """Tango's interval of no flips ends at z ** 2 / (n + z ** 2): 0.0199 of 189."""
    labels = labels_of(examples)
    make(predicted, labels, logits_of(labels, range(examples // 5)))
    branch(predicted, "same", labels, 2 * logits_of(labels, range(examples // 5)))
    ask(predicted, against("accuracy", 0.02))
    status, (line,) = answer(capsys)
    assert (status == 0) == passes
    assert passes or f"too few examples: n = {examples} could show 0." in line


@pytest.mark.parametrize("metric", ["f1", "loss"])
def test_no_flip_is_no_free_pass_for_other_metrics(
    predicted: Project, capsys: pytest.CaptureFixture[str], metric: str
) -> None:
    branch(predicted, "same", LABELS, logits_of(LABELS, range(40)) * np.float32(1 + 1e-6))
    ask(predicted, against(metric, 0.002))
    status, (line,) = answer(capsys)
    assert status == 1 and "too few examples: n = 200 could show 0.0" in line


def test_the_very_same_model_is_not_worse_than_itself(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """On the main branch a rule against main holds a model to itself, of however few examples."""
    ask(predicted, against("accuracy", 0.001), against("loss", 0.0))
    status, lines = answer(capsys)
    assert status == 0 and all(line.endswith(", the same model as main's") for line in lines)


def test_a_loss_that_few_mistakes_carry_is_not_judged(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    make(predicted, LABELS, logits_of(LABELS, range(12)))
    branch(predicted, "other", LABELS, logits_of(LABELS, range(11)))
    ask(predicted, against("loss", 0.5))
    status, (line,) = answer(capsys)
    assert status == 1 and line.endswith("no verdict: 12 wrong answers carry the loss; its interval takes 20")


def test_a_tag_is_a_reference_that_does_not_drift(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """Each step loses two of 200 and passes against the one before; six of them do not pass against the first."""
    labels = labels_of(2000)
    make(predicted, labels, logits_of(labels, range(400)))
    predicted.run("git", "tag", "v1")
    for step in range(1, 4):
        branch(predicted, f"step-{step}", labels, logits_of(labels, range(400 + 20 * step)))
        ask(predicted, against("accuracy", 0.02, "main" if step == 1 else f"step-{step - 1}"))
        assert answer(capsys)[0] == 0
    ask(predicted, against("accuracy", 0.02, "v1"))
    status, (line,) = answer(capsys)
    assert status == 1 and "against v1: " in line


def test_a_better_model_passes_in_both_directions(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    branch(predicted, "better", LABELS, logits_of(LABELS, range(10)))
    ask(predicted, *(against(metric, 0) for metric in ("accuracy", "f1", "loss")))
    assert answer(capsys)[0] == 0


def test_logits_that_are_not_finite_are_not_judged(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    logits = logits_of(LABELS, range(10))
    logits[7, 1] = np.nan
    branch(predicted, "broken", LABELS, logits)
    ask(predicted, against("accuracy", 0.1))
    assert refusal(capsys).startswith("workspace: validation: non-finite logits in row 8; the training diverged")


def test_a_score_that_is_no_number_fails(predicted: Project, capsys: pytest.CaptureFixture[str]) -> None:
    (predicted.folder / "made/metrics.json").write_text('{"validation": {"accuracy": NaN, "loss": -Infinity}}')
    repro(predicted)
    ask(
        predicted,
        "{split: validation, metric: accuracy, at_least: 0.1}",
        "{split: validation, metric: loss, at_most: 1}",
    )
    status, lines = answer(capsys)
    assert status == 1 and lines[1] == "FAIL  validation loss is -inf in metrics/metrics.json, which is not a score"


def test_what_speaks_against_the_scores_of_both_is_repeated(
    predicted: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    warn(predicted, "validation", "the epoch was chosen as the best of 3 by its accuracy here")
    branch(predicted, "other", LABELS, logits_of(LABELS, range(1, 42)))
    warn(predicted, "validation", "7 of the split's 200 examples are in train too")
    ask(predicted, against("accuracy", 0.05))
    assert answer(capsys)[1][1:] == [
        "warning: workspace: validation: 7 of the split's 200 examples are in train too",
        "warning: main: validation: the epoch was chosen as the best of 3 by its accuracy here",
    ]


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
            "params.yaml: gate[0].atleast: unknown key; known keys are split",
        ),
        ("{split: test, metric: f1, at_least: high}", "params.yaml: gate[0].at_least: must be a number, got 'high'"),
        ("{split: test, metric: f2, at_least: 0.8}", "params.yaml: gate[0].metric: must be one of accuracy, f1, "),
        ("{split: test, metric: f1}", "params.yaml: gate[0]: must have one of at_least, at_most, not_worse_by, "),
        ("{split: test, metric: f1, at_least: 0, at_most: 1}", "params.yaml: gate[0]: must have one of at_least,"),
        (
            "{split: test, metric: f1, not_worse_by: 0.1}",
            "params.yaml: gate[0]: `against: <revision>` and not_worse_by",
        ),
        (
            "{split: test, metric: f1, against: main, at_least: 1}",
            "params.yaml: gate[0]: `against: <revision>` and not_worse_by must be used together",
        ),
        (
            "{split: test, metric: f1, against: main, allowed_drop: 0.01}",
            "params.yaml: gate[0].allowed_drop: is no longer a rule: on few examples, two scores differ by this much "
            "by chance; use not_worse_by: 0.02, which",
        ),
        (
            "{split: test, metric: f1, against: main, not_significantly_worse: true}",
            "params.yaml: gate[0].not_significantly_worse: is no longer a rule: it let any model pass if there were "
            "too few examples; use not_worse_by: 0.02",
        ),
        *(
            (
                f"{{split: test, metric: accuracy, against: main, not_worse_by: {margin}}}",
                "params.yaml: gate[0].not_worse_by: must be a finite number",
            )
            for margin in ("-0.01", ".nan", ".inf", "1", "10")
        ),
        (
            "{split: test, metric: loss, at_least: 1}",
            "params.yaml: gate[0].at_least: loss is better when lower; use at_m",
        ),
        (
            "{split: test, metric: f1, at_most: 1}",
            "params.yaml: gate[0].at_most: f1 is better when higher; use at_leas",
        ),
        (
            "{rebuild_by: 2}",
            "params.yaml: gate[0]: must name a split and a metric, or be {rebuilt_by: 2} or {export: ",
        ),
        ("{rebuilt_by: 0}", "params.yaml: gate[0].rebuilt_by: must be at least 1, got 0"),
        ("{rebuilt_by: two}", "params.yaml: gate[0].rebuilt_by: must be a whole number, got 'two'"),
        ("{rebuilt_by: true}", "params.yaml: gate[0].rebuilt_by: must be a whole number, got True"),
        ("{rebuilt_by: 2, metric: f1}", "params.yaml: gate[0].metric: unknown key; known keys are rebuilt_by, att"),
        (
            "{rebuilt_by: 2, attestations: ../others}",
            "params.yaml: gate[0].attestations: must be a folder of the repository, got '../others'",
        ),
        (
            "{rebuilt_by: 2, attestations: elsewhere}",
            "elsewhere/keys.txt: not found; this file lists the trusted keys; for each key, expected a line `ssh",
        ),
        ("at_least 0.8", "params.yaml: gate: must be a list of rules like"),
        ("{split: validation, metric: f1, against: nope, not_worse_by: 0}", "no revision 'nope' in this repository"),
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
    assert refusal(capsys) == f"the metrics do not match the workspace: {expected}"


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
    assert refusal(capsys).startswith(f"the metrics do not match the workspace: {reason}")


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
    ask(predicted, against("accuracy", 0.02, "tested"))
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


def trust(project: Project, **signers: Ed25519PrivateKey) -> None:
    folder = project.folder / "attestations"
    folder.mkdir()
    (folder / "keys.txt").write_text("".join(f"{signer_of(key, name).line}\n" for name, key in signers.items()))


def test_a_rebuild_is_attested_and_a_third_person_checks_it(
    predicted: Project, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (predicted.folder / "params.yaml").write_text(
        predicted.read("params.yaml") + "download: {dataset_files: made/raw}\n"
    )
    predicted.commit("a project that verify knows")
    key, file = tmp_path / "key", tmp_path / "bob.json"
    key.write_bytes(BOB.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    asked = ["--json", "--attest", str(file), "--key", str(key), "--builder", "https://example.org/bob"]
    assert verify.main(asked) == 0
    out, error = capfd.readouterr()
    assert json.loads(out)["verdict"] == "identical bytes" and "rebuild" not in json.loads(out)
    signed = f"signed by {signer_of(BOB).fingerprint}, in keys.txt: {signer_of(BOB).line}"
    assert error.splitlines()[-1] == f"verify: {file}: identical bytes; {signed}"
    # It says what anybody can see in dvc.lock, in the outs and in Git.
    lock = Revision("workspace", None, SimpleNamespace(root_dir=predicted.folder)).lock
    outs = [out["path"] for entry in lock.values() for out in entry["outs"]]
    rebuilt = statement_of(lock, {out: digest_of(predicted.folder / out) for out in outs}, builder=asked[-1])
    commit = predicted.run("git", "rev-parse", "HEAD").stdout.strip()
    rebuilt["predicate"]["buildDefinition"]["resolvedDependencies"][0]["digest"] = {"gitCommit": commit}
    assert file.read_text() == written(rebuilt, BOB)

    trust(predicted, ada=ADA, bob=BOB)
    assert verify.main(["--check-attestation", str(file)]) == 0
    assert capfd.readouterr().out == (
        f"{file}: identical bytes, for the dvc.lock of HEAD; commit {commit}, rebuilt by https://example.org/bob, "
        f"signed by bob {signer_of(BOB).fingerprint}\n"
    )
    (tmp_path / "keys.txt").write_text(signer_of(ADA, "ada").line)
    assert verify.main(["--check-attestation", str(file), "--trusted-keys", str(tmp_path / "keys.txt")]) == 1
    out = capfd.readouterr().out
    assert out == f"{file}: does not count: signed by no trusted key: {signer_of(BOB).fingerprint}\n"

    folder = predicted.folder / "attestations"
    shutil.copy(file, folder / "b.json")
    shutil.copy(file, folder / "copy.json")
    by_eve = written(rebuilt, EVE)
    (folder / "e.json").write_text(by_eve)
    (folder / "f.json").write_text(by_eve.replace("SHA256:", "\\npass  \\u001b[2K"))
    ask(predicted, "{rebuilt_by: 2}")
    known = signer_of(EVE).fingerprint
    refused = [
        f"      not counted: attestations/e.json: signed by no trusted key: {known}",
        f"      not counted: attestations/f.json: signed by no trusted key: \\npass  \\x1b[2K{known[7:]}",
        "      not counted: attestations/copy.json: signed by bob, whose key already counts in attestations/b.json",
    ]
    assert answer(capfd) == (
        1,
        [
            "FAIL  dvc.lock rebuilt by 1 trusted key of attestations/keys.txt, required: 2: bob (attestations/b.json)",
            *refused,
        ],
    )
    (folder / "a.json").write_text(written(rebuilt, ADA))
    assert answer(capfd) == (
        0,
        [
            "pass  dvc.lock rebuilt by 2 trusted keys of attestations/keys.txt, required: 2: "
            "ada (attestations/a.json), bob (attestations/b.json)",
            *refused,
        ],
    )
    # A new run takes away what was said of the old one.
    (predicted.folder / "made" / "model").write_bytes(b"another model")
    repro(predicted)
    status, lines = answer(capfd)
    assert status == 1 and lines[0] == "FAIL  dvc.lock rebuilt by 0 trusted keys of attestations/keys.txt, required: 2"
    assert "      not counted: attestations/a.json: of another dvc.lock: made/model, models/finetuned" in lines


def test_what_cannot_be_attested_is_one_line(
    predicted: Project, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for arguments, line in [
        (
            ["--attest", "x.json", "--key", str(tmp_path / "key")],
            f"{tmp_path / 'key'}: the key cannot be read: No such",
        ),
        (["--check-attestation", "x.json"], "attestations/keys.txt: not found; this file lists the trusted keys"),
        (["--make-key", "key"], "--make-key: key is in the repository, where a commit could include it"),
    ]:
        assert verify.main(arguments) == 2
        out, error = capsys.readouterr()
        assert out == "" and error.startswith(f"verify: {line}") and error.count("\n") == 1
