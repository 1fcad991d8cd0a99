"""Every section of params.yaml is checked before a stage works: what only a later stage reads is refused now."""

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from checks import why
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.execution import Execution
from stages.shared.runtime.params import read_params
from stages.shared.runtime.sections import SCHEMA_FILE, as_type, check_sections
from tests.project import PARAMS, STAGES
from tests.tables import write_csv
from tests.test_train import Run

ROOT = Path(__file__).parents[1]
# Of each kind of constraint one value that does not fit.
BAD: list[tuple[str, str, Any]] = [
    ("download", "dataset", 3),
    ("download", "split_files", {"train": 1}),
    ("download", "problem_type", "classification"),
    ("download", "label_delimiter", ""),
    ("download", "metrics", []),
    ("download", "metrics", ["accuracy", "f2"]),
    ("download", "keep_columns", "kind"),
    ("download", "test_fraction", 1),
    ("download", "on_leakage", None),
    ("tokenize", "max_length", 3),
    ("tokenize", "max_samples", 2.5),
    ("train", "learning_rate", 0),
    ("train", "seed", 2**32),
    ("train", "keep", "first"),
    ("train", "epochs", True),
    ("download", "fold", 5),
    ("download", "fold", {"of": 5}),
    ("download", "fold", {"of": 1, "hold_out": 1}),
    ("download", "fold", {"of": 5, "hold_out": 1, "seed": 3}),
    ("train", "sampling", "even"),
    ("train", "class_weights", "balancd"),
    ("train", "class_weights", {"yes": 0}),
    ("train", "class_weights", {"yes": "much"}),
    ("train", "class_weights", {1: 2.0}),
    ("train", "label_smoothing", 1),
    ("predict", "token_budget", "many"),
    ("calibrate", "split", ""),
    ("calibrate", "thresholds", "f2"),
    ("calibrate", "costs", [[0, "1"], [1, 0]]),
    ("calibrate", "error_rate", 1),
    ("evaluate", "splits", []),
    ("evaluate", "splits", [1]),
    ("evaluate", "metrics", ["f2"]),
    ("evaluate", "confidence", 95),
    ("evaluate", "per_class", "fits"),
    ("evaluate", "per_class", [1]),
    ("baselines", "tfidf", "yes"),
    ("baselines", "frozen_encoder", None),
    ("report", "errors", -1),
    ("execution", "device", "gpu"),
]


def write(folder: Path, **sections: Any) -> None:
    """Writes a params.yaml that fits but for `sections`, and puts the schema beside it."""
    YAML(typ="safe", pure=True).dump({**PARAMS, **sections}, folder / "params.yaml")
    shutil.copy(ROOT / SCHEMA_FILE, folder)


def message(ask: Callable[[], Any]) -> str:
    with pytest.raises(BadInput) as raised:
        ask()
    return str(raised.value)


def test_what_fits_passes_and_other_sections_are_their_owners(tmp_path: Path) -> None:
    write(tmp_path, export={"format": "plain"})
    check_sections(tmp_path)
    rule = {"split": "validation", "metric": "f1", "at_least": 0.8}
    write(tmp_path, gate=[rule])
    check_sections(tmp_path)


@pytest.mark.parametrize(("section", "key", "value"), BAD, ids=lambda part: str(part))
def test_a_section_is_refused_in_the_words_of_its_own_stage(section: str, key: str, value: Any, tmp_path: Path) -> None:
    write(tmp_path, **{section: PARAMS[section] | {key: value}})
    module = importlib.import_module(f"stages.{section}.{section}") if section in STAGES else None
    schema = getattr(module, f"{section.capitalize()}Params") if module else Execution
    own = message(lambda: read_params(section, schema, tmp_path / "params.yaml"))
    assert own.startswith(f"params.yaml: {section}.{key}")
    assert message(lambda: check_sections(tmp_path)) == own


@pytest.mark.parametrize("section", STAGES)
def test_a_missing_section_an_unknown_and_a_missing_key_are_refused_so_too(section: str, tmp_path: Path) -> None:
    key, *others = PARAMS[section]
    write(tmp_path, **{section: {name: PARAMS[section][name] for name in others}})
    assert message(lambda: check_sections(tmp_path)) == f"params.yaml: {section}.{key}: missing; add it"
    write(tmp_path, **{section: PARAMS[section] | {"more": 1}})
    assert message(lambda: check_sections(tmp_path)).startswith(f"params.yaml: {section}.more: unknown key; known keys")
    write(tmp_path, **{section: None})
    expected = f"params.yaml: {section}: expected a section with the keys {key}, "
    assert message(lambda: check_sections(tmp_path)).startswith(expected)


@pytest.mark.parametrize(
    ("gate", "line"),
    [
        ({"split": "test"}, "params.yaml: gate: must be a list of sections, got {'split': 'test'}"),
        ([{"split": "test"}], "params.yaml: gate[0].metric: missing; add it"),
        ([{"split": "test", "metric": "f1", "at_last": 1}], "params.yaml: gate[0].at_last: unknown key; known keys"),
    ],
)
def test_a_rule_of_the_gate_is_checked_too(gate: Any, line: str, tmp_path: Path) -> None:
    write(tmp_path, gate=gate)
    assert message(lambda: check_sections(tmp_path)).startswith(line)


def test_without_a_schema_each_stage_checks_its_own_section(tmp_path: Path) -> None:
    write(tmp_path, report={})
    (tmp_path / SCHEMA_FILE).unlink()
    check_sections(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_damaged_schema_says_how_it_is_made(text: str, tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / SCHEMA_FILE).write_text(text)
    assert message(lambda: check_sections(tmp_path)).startswith(f"{SCHEMA_FILE}: outdated or edited; run `python")


def test_what_the_check_does_not_know_of_a_schema_is_left_to_the_stage() -> None:
    assert as_type({"$ref": "#/$defs/Other"}) is Any
    assert as_type({"type": "array", "prefixItems": []}) is Any


def test_a_stage_refuses_what_another_would_and_why_says_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, report={"errors": -1, "slice_columns": None})
    line = "params.yaml: report.errors: must be at least 0, got -1\n"
    command = [sys.executable, "-m", "stages.tokenize"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, f"tokenize: {line}")
    monkeypatch.chdir(tmp_path)
    Repo.init(str(tmp_path), no_scm=True).close()
    assert (why.main([]), capsys.readouterr().err) == (1, f"why: {line}")


# What depends on the data


ASKED: list[tuple[dict[str, Any], str]] = [
    (
        {"evaluate": {"splits": ["tset"]}},
        "params.yaml: evaluate.splits: no split 'tset' to score, only validation, test",
    ),
    ({"evaluate": {"splits": ["train"]}}, "params.yaml: evaluate.splits: no split 'train' to score, only validation, "),
    ({"evaluate": {"splits": ["test"]}}, "params.yaml: evaluate.splits: the test split has no labels to score against"),
    (
        {"calibrate": {"split": "tset"}},
        "params.yaml: calibrate.split: no split 'tset' to fit on, only validation, test",
    ),
    ({"calibrate": {"split": "train"}}, "params.yaml: calibrate.split: no split 'train' to fit on, only validation, "),
    ({"calibrate": {"split": "test"}}, "params.yaml: calibrate.split: the test split has no labels to fit on"),
    ({"calibrate": {"error_rate": 0.1}}, "params.yaml: calibrate.error_rate: takes calibrate.split, the labelled "),
    ({"evaluate": {"per_class": ["maybe"]}}, "params.yaml: evaluate.per_class: no label 'maybe'; the labels are "),
    ({"train": {"class_weights": {"fit": 2}}}, "params.yaml: train.class_weights: no label 'fit', only 'no', 'yes'"),
    ({"evaluate": {"metrics": ["pearson"]}}, "params.yaml: evaluate.metrics: pearson is not defined for single_label_"),
    (
        {"report": {"slice_columns": ["kind"]}, "download": {"keep_columns": ["other"]}},
        "params.yaml: report.slice_columns: 'kind' is not in download.keep_columns; add it there",
    ),
]


@pytest.mark.parametrize(("sections", "line"), ASKED)
def test_download_refuses_what_the_data_cannot_answer(
    sections: dict[str, Any], line: str, run_download: Callable[..., Any], tmp_path: Path
) -> None:
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", [(f"{split} {row}", "b", row % 2) for row in range(8)])
    write_csv(tmp_path / "data" / "test.csv", [(f"test {row}", "b", -1) for row in range(8)])
    YAML(typ="safe", pure=True).dump(sections, tmp_path / "params.yaml")
    assert message(run_download).startswith(line)
    (tmp_path / "params.yaml").write_text("evaluate: {splits: [validation]}")
    assert set(run_download()) == {"train", "validation", "test"}


def test_train_refuses_it_before_it_trains(
    tmp_path: Path, tiny_checkpoint: Path, sample_rows: list[dict[str, str]]
) -> None:
    """Download may have run before the value was there."""
    run = Run(tmp_path, tiny_checkpoint, sample_rows)
    (tmp_path / "params.yaml").write_text("evaluate: {splits: [tset]}")
    assert message(run).startswith("params.yaml: evaluate.splits: no split 'tset' to score, only")
