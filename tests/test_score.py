"""ship.score: the logits of `predict` for new texts, every row and column kept, and a broken-off file never left."""

import csv
import gzip
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from ruamel.yaml import YAML

from benchmarks import score as benchmark
from ship import score
from ship.input_rows import InputFiles
from ship.model import FinishedModel
from stages.shared.model import batches
from stages.shared.task.calibration import Calibration, Fit, calibrated_logits, label_sets, write_calibration
from tests.project import Project
from tests.shipped import Shipped, calibration, make_shipped, predicted, reproduce, save_model

SINGLE = "single_label_classification"
KINDS = {
    "pairs": (SINGLE, True),
    "sets": ("multi_label_classification", False),
    "numbers": ("regression", True),
}


@pytest.fixture(scope="module")
def shipped_of(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Callable[[str], Shipped]:
    made: dict[str, Shipped] = {}

    def get(kind: str) -> Shipped:
        if kind not in made:
            folder = tmp_path_factory.mktemp("shipped") / kind
            made[kind] = make_shipped(folder, tiny_checkpoint, *KINDS[kind])
        return made[kind]

    return get


@pytest.fixture
def shipped(shipped_of: Callable[[str], Shipped], monkeypatch: pytest.MonkeyPatch) -> Shipped:
    """The model of pairs, as the current folder."""
    monkeypatch.chdir(shipped_of("pairs").folder)
    return shipped_of("pairs")


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    """Writes rows in the format that the file's name says."""
    names = list(rows[0])
    kind = file.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        parquet.write_table(pa.Table.from_pylist(rows), file)
        return file
    if kind == "jsonl":
        text = "".join(json.dumps(row) + "\n" for row in rows)
    elif kind == "tsv":
        text = "\n".join("\t".join(cells) for cells in [names, *([str(row[name]) for name in names] for row in rows)])
    else:
        stream = io.StringIO(newline="")
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        writer.writerows(rows)
        text = stream.getvalue()
    file.write_bytes(gzip.compress(text.encode()) if file.suffix == ".gz" else text.encode())
    return file


def read(file: Path) -> list[dict[str, Any]]:
    """Reads them back; cells of csv and tsv as texts."""
    content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    kind = file.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        return list(parquet.read_table(file).to_pylist())
    text = content.decode()
    if kind == "jsonl":
        return [json.loads(line) for line in text.splitlines()]
    if kind == "tsv":
        return list(csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE))
    return list(csv.DictReader(io.StringIO(text, newline="")))


def names_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def logits_of(rows: list[dict[str, Any]]) -> np.ndarray:
    """Returns the logits that were written, float32[rows, columns]."""
    names = [name for name in rows[0] if name.startswith("predicted_logit")]
    return np.array([[float(row[name]) for name in names] for row in rows], dtype=np.float32)


def refused(capfd: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Runs it and returns its one line."""
    capfd.readouterr()
    assert score.main(list(map(str, arguments))) == 1
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("score: ")
    said = lines[0].removeprefix("score: ")
    assert said[: len(said) // 2 - 1] != said[len(said) // 2 + 1 :]  # with a colon between both
    return said


# The same logits


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet", "csv.gz"])
def test_the_texts_of_a_split_get_the_logits_of_predict_byte_for_byte(
    shipped_of: Callable[[str], Shipped], kind: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = shipped_of(kind)
    rows = [row | {"note": "x"} for row in shipped.rows] if suffix == "tsv" else shipped.rows
    monkeypatch.chdir(shipped.folder)
    file, out = write(tmp_path / f"rows.{suffix}", rows), tmp_path / f"out.{suffix}"
    assert score.main([str(file), "--out", str(out), "--logits"]) == 0
    found = read(out)
    assert [{name: row[name] for name in rows[0]} for row in found] == rows
    assert logits_of(found).tobytes() == shipped.logits.tobytes()
    assert not list(shipped.folder.glob(".scratch/score-*"))


def test_predict_and_score_cut_a_long_file_into_the_same_batches(
    shipped: Shipped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "WINDOW", 16)
    monkeypatch.setattr("ship.input_rows.BATCH_ROWS", 7)  # portions that end elsewhere than windows
    again = predicted(shipped.folder, shipped.task, shipped.columns, shipped.rows)
    assert again.tobytes() != shipped.logits.tobytes()  # the batches are others, and so is the rounding
    np.testing.assert_allclose(again, shipped.logits, atol=1e-5)
    file, out = write(tmp_path / "rows.jsonl", shipped.rows), tmp_path / "out.jsonl"
    assert score.main([str(file), "--out", str(out), "--logits"]) == 0
    assert logits_of(read(out)).tobytes() == again.tobytes()


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_text_in_several_columns_is_joined_as_download_does(suffix: str, shipped: Shipped, tmp_path: Path) -> None:
    """A word piece tokenizer takes the end of line in between for a space."""
    rows = []
    for row in shipped.rows:
        head, _, tail = row["first"].partition(" ")
        rows.append({"head": head, "tail": tail, "second": row["second"]})
    file, out = write(tmp_path / f"new.{suffix}", rows), tmp_path / "out.jsonl"
    named = ["--text", "head", "--text", "tail", "--pair", "second"]
    assert score.main([str(file), *named, "--logits", "--out", str(out)]) == 0
    assert np.array_equal(logits_of(read(out)), shipped.logits)


def test_the_columns_of_a_text_are_those_of_the_training() -> None:
    params = {"download": {"dataset": "files", "text_column": ["title", "body"], "text_pair_column": "answer"}}
    model = FinishedModel(None, Path(), None, 8, params)
    assert model.texts == [["title", "body"], ["answer"]]


def test_several_files_are_scored_as_one(shipped: Shipped, tmp_path: Path) -> None:
    files = [write(tmp_path / f"{part}.csv", shipped.rows[start : start + 30]) for part, start in enumerate((0, 30))]
    assert score.main([*map(str, files), "--out", str(tmp_path / "out.parquet"), "--logits"]) == 0
    assert logits_of(read(tmp_path / "out.parquet")).tobytes() == shipped.logits.tobytes()


def test_the_pipeline_of_transformers_gives_the_same_labels_and_logits_up_to_rounding(shipped: Shipped) -> None:
    from transformers import pipeline

    classify = pipeline("text-classification", str(shipped.folder / "models" / "finetuned"), device="cpu")
    texts = [{"text": row["first"], "text_pair": row["second"]} for row in shipped.rows]
    found = classify(texts, truncation=True, top_k=None, function_to_apply="none")
    names = shipped.task.label_names
    logits = np.array([[{one["label"]: one["score"] for one in row}[name] for name in names] for row in found])
    np.testing.assert_allclose(logits, shipped.logits, atol=1e-5)
    assert (logits.argmax(axis=1) == shipped.logits.argmax(axis=1)).all()


@pytest.mark.slow
def test_the_validation_split_of_a_trained_model_is_scored_from_its_csv(finished_once: Project, tmp_path: Path) -> None:
    """The whole way, by the programs: raw csv to logits, in a project that `dvc repro` ran."""
    source = finished_once.folder / "data" / "hard" / "validation.csv"
    head = "".join(source.read_text(encoding="utf-8").splitlines(keepends=True)[:41])  # tokenize.max_samples: 40
    (tmp_path / "validation.csv").write_text(head, encoding="utf-8")
    out = tmp_path / "out.csv"
    done = finished_once.run(
        "python", "-m", "ship.score", str(tmp_path / "validation.csv"), "--logits", "--out", str(out)
    )
    expected = np.load(finished_once.folder / "data" / "predictions" / "validation" / "logits.npy")
    assert logits_of(read(out)).tobytes() == expected.tobytes()
    assert re.fullmatch(
        r"score: 40 rows in .* s \(\d+ rows/s\), .*by the model of the dvc.lock here, calibrated\n", done.stderr
    )
    assert not finished_once.run("git", "status", "--porcelain").stdout
    assert not finished_once.repro()


# What is written


def test_a_label_and_its_probability_are_written_and_more_on_request(shipped: Shipped, tmp_path: Path) -> None:
    file, out = write(tmp_path / "rows.jsonl", shipped.rows), tmp_path / "out.jsonl"
    assert score.main([str(file), "--out", str(out), "--probabilities", "--prefix", "p_"]) == 0
    rows = read(out)
    assert list(rows[0]) == [*shipped.rows[0], "p_label", "p_probability", "p_probability_no", "p_probability_=yes"]
    chances = shipped.task.classification.probabilities(shipped.logits)
    names = [shipped.task.label_names[column] for column in shipped.logits.argmax(axis=1)]
    assert [row["p_label"] for row in rows] == names
    assert [row["p_probability"] for row in rows] == chances.max(axis=1).tolist()
    assert [row["p_probability_no"] for row in rows] == chances[:, 0].tolist()


def test_a_number_is_written_for_a_regression_and_has_no_probability(
    shipped_of: Callable[[str], Shipped],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    shipped = shipped_of("numbers")
    monkeypatch.chdir(shipped.folder)
    file, out = write(tmp_path / "rows.csv", shipped.rows), tmp_path / "out.jsonl"
    assert score.main([str(file), "--out", str(out)]) == 0
    assert np.array([row["predicted_number"] for row in read(out)], np.float32).tobytes() == shipped.logits.tobytes()
    assert "predicts a number" in refused(capfd, file, "--probabilities")


def test_the_set_of_labels_is_written_as_a_list_or_as_one_text(
    shipped_of: Callable[[str], Shipped], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = shipped_of("sets")
    monkeypatch.chdir(shipped.folder)
    file = write(tmp_path / "rows.csv", shipped.rows)
    for suffix in ("jsonl", "csv"):
        assert score.main([str(file), "--out", str(tmp_path / f"out.{suffix}")]) == 0
    sets = [
        [name for name, is_set in zip(shipped.task.label_names, row, strict=True) if is_set]
        for row in shipped.logits > 0
    ]
    assert len(set(map(len, sets))) > 1
    found = read(tmp_path / "out.jsonl")
    assert [row["predicted_labels"] for row in found] == sets
    assert [len(row["predicted_probabilities"]) for row in found] == list(map(len, sets))
    assert [row["predicted_labels"] for row in read(tmp_path / "out.csv")] == ["|".join(names) for names in sets]


def test_cells_of_a_csv_stay_as_they_are_and_new_ones_are_no_formulas(shipped: Shipped, tmp_path: Path) -> None:
    rows = [row | {"id": "=1+1"} for row in shipped.rows]
    file, out = write(tmp_path / "rows.csv", rows), tmp_path / "out.csv"
    assert score.main([str(file), "--out", str(out)]) == 0
    found = read(out)
    assert {row["id"] for row in found} == {"=1+1"}
    assert {row["predicted_label"] for row in found} == {"no", "'=yes"}
    write(tmp_path / "rows.jsonl", rows)
    assert score.main([str(tmp_path / "rows.jsonl"), "--out", str(out)]) == 0
    assert {row["id"] for row in read(out)} == {"'=1+1"}


def test_a_line_of_jsonl_stays_as_it_is_up_to_its_end(shipped: Shipped, tmp_path: Path) -> None:
    line = '{"first": "a dog ran", "second":"no",  "n": 1.10, "big": 123456789012345678901234567890, "x": {"y": []} }'
    (tmp_path / "rows.jsonl").write_text(f"\ufeff{line}\n\n{line}", encoding="utf-8")
    assert score.main([str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "out.jsonl")]) == 0
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert len(lines) == 2 and all(one.startswith(line.removesuffix(" }") + ', "predicted_label": ') for one in lines)


def test_types_survive_from_one_format_to_another(shipped: Shipped, tmp_path: Path) -> None:
    rows = [{"n": 1, "x": 0.5, "b": True, "tags": ["a", "b"], "big": 2**70, **row} for row in shipped.rows[:2]]
    rows[1] |= {"n": None, "late": "only here"}
    file = write(tmp_path / "rows.jsonl", rows)
    for suffix in ("parquet", "csv"):
        assert score.main([str(file), "--out", str(tmp_path / f"out.{suffix}")]) == 0
    first, second = read(tmp_path / "out.parquet")
    assert (first["n"], first["x"], first["b"], first["late"]) == (1, 0.5, True, None)
    assert (second["n"], second["late"], second["tags"], second["big"]) == (None, "only here", '["a", "b"]', str(2**70))
    assert read(tmp_path / "out.csv")[0]["tags"] == '["a", "b"]'
    table = pa.table({"when": pa.array([0], pa.timestamp("s")), "tags": [["a"]], "first": ["a dog"], "second": ["no"]})
    parquet.write_table(table, tmp_path / "typed.parquet")
    assert score.main([str(tmp_path / "typed.parquet"), "--out", str(tmp_path / "typed.jsonl")]) == 0
    assert read(tmp_path / "typed.jsonl")[0]["when"] == "1970-01-01 00:00:00.000"


def test_a_file_without_rows_gives_a_file_without_rows(shipped: Shipped, tmp_path: Path) -> None:
    (tmp_path / "none.csv").write_text("first,second,id\n")
    (tmp_path / "none.jsonl").write_text("")
    for name in ("none.csv", "none.jsonl"):
        assert score.main([str(tmp_path / name), "--out", str(tmp_path / f"out.{name}")]) == 0
    assert (tmp_path / "out.none.csv").read_text() == (
        '"first","second","id","predicted_label","predicted_probability"\n'
    )
    assert (tmp_path / "out.none.jsonl").read_text() == ""


# Calibrated


@pytest.fixture
def calibrated(
    shipped_of: Callable[[str], Shipped], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, Calibration], Shipped]:
    """Gives a model a calibration, in a copy of its project that becomes the current folder."""

    def give(kind: str, fitted: Calibration) -> Shipped:
        shipped = shipped_of(kind)
        shutil.copytree(shipped.folder, tmp_path / "project")
        monkeypatch.chdir(tmp_path / "project")
        write_calibration(Path("calibration.json"), fitted)
        reproduce(Project(tmp_path / "project"))
        return shipped

    return give


def test_a_calibration_of_the_model_makes_its_probabilities_thresholds_and_sets(
    shipped_of: Callable[[str], Shipped],
    calibrated: Callable[[str, Calibration], Shipped],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    logits = shipped_of("pairs").logits
    usual = float(np.median(shipped_of("pairs").task.problem.losses(logits, logits.argmax(axis=1))))
    fitted = calibration(Fit(2.5, [0.501], usual), metric="f1", error_rate=0.1)
    shipped = calibrated("pairs", fitted)
    file, out = write(tmp_path / "rows.csv", shipped.rows), tmp_path / "out.jsonl"
    assert score.main([str(file), "--out", str(out), "--probabilities", "--logits"]) == 0
    rows = read(out)
    chances = shipped.task.classification.probabilities(calibrated_logits(fitted.whole, shipped.logits))
    assert [row["predicted_probability_=yes"] for row in rows] == chances[:, 1].tolist()
    assert [row["predicted_label"] for row in rows] == ["=yes" if chance > 0.501 else "no" for chance in chances[:, 1]]
    assert logits_of(rows).tobytes() == shipped.logits.tobytes()
    sets = [
        [name for name, is_in in zip(shipped.task.label_names, row, strict=True) if is_in]
        for row in label_sets(fitted.whole, shipped.logits)
    ]
    assert [row["predicted_set"] for row in rows] == sets and len({len(one) for one in sets}) > 1
    assert capfd.readouterr().err.endswith("by the model of the dvc.lock here, calibrated\n")
    assert score.main([str(file), "--out", str(out), "--uncalibrated"]) == 0
    own = shipped.task.classification.probabilities(shipped.logits).max(axis=1)
    assert [row["predicted_probability"] for row in read(out)] == own.tolist()
    assert "predicted_set" not in read(out)[0]


def test_thresholds_decide_on_a_set_of_labels(
    calibrated: Callable[[str, Calibration], Shipped], tmp_path: Path
) -> None:
    shipped = calibrated("sets", calibration(Fit(1.0, [0.0, 1.0, 1.0]), metric="f1_micro"))
    file, out = write(tmp_path / "rows.csv", shipped.rows), tmp_path / "out.jsonl"
    assert score.main([str(file), "--out", str(out)]) == 0
    assert {tuple(row["predicted_labels"]) for row in read(out)} == {("billing",)}


def test_a_calibration_that_is_not_the_models_is_refused(
    calibrated: Callable[[str, Calibration], Shipped], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shipped = calibrated("pairs", calibration(Fit(2.5)))
    file = write(tmp_path / "rows.csv", shipped.rows)
    write_calibration(Path("metrics/calibration.json"), calibration(Fit(0.1)))
    assert "workspace: metrics/calibration.json is not the file that dvc.lock records; `dvc repro` makes" in refused(
        capfd, file
    )
    write_calibration(Path("metrics/calibration.json"), calibration(Fit(2.5)))
    lock = Path("dvc.lock").read_text()
    (line,) = re.findall(r"calibrate:\n.*?data/predictions\n\s+hash: md5\n\s+md5: (\w+)\.dir", lock, re.DOTALL)
    before, _, after = lock.partition("calibrate:\n")
    Path("dvc.lock").write_text(before + "calibrate:\n" + after.replace(line, "0" * 32, 1))
    assert "was fitted on another model's predictions; `dvc repro` makes it anew" in refused(capfd, file)


@pytest.mark.parametrize("stage", ["download", "tokenize", "predict"])
def test_a_lock_whose_stage_has_no_parameters_is_refused(
    stage: str, shipped: Shipped, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "rows.csv", shipped.rows)
    shutil.copytree(shipped.folder, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    lock = YAML().load(Path("dvc.lock"))
    del lock["stages"][stage]["params"]
    YAML().dump(lock, Path("dvc.lock"))
    assert refused(capfd, file) == f"workspace: no parameters of {stage} in its dvc.lock; `dvc repro` there makes it"


# Rows without text


def test_rows_without_text_are_refused_by_number_before_anything_is_scored(
    shipped: Shipped, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [dict(row) for row in shipped.rows]
    for number in (1, 4, 9, 10, 30, 50):
        rows[number]["second"] = " " if number == 4 else None
    file, out = write(tmp_path / "rows.jsonl", rows), tmp_path / "out.jsonl"
    monkeypatch.setattr(score, "score", lambda *_, **__: pytest.fail("scored"))
    line = refused(capfd, file, "--out", out)
    assert "rows.jsonl: rows 2, 5, 10, 11, 31 and 1 more have no text in columns 'first' or 'second'; fill" in line
    assert "rows 2, 10, 11, 31 and 51 have no text" in refused(capfd, file, "--out", out, "--on-empty", "score")
    assert not out.exists()


def test_skipped_rows_stay_without_a_prediction(
    shipped: Shipped, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = [dict(row) for row in shipped.rows]
    rows[0]["first"], rows[7]["first"], rows[59]["second"] = "", "\t ", ""
    file, out = write(tmp_path / "rows.csv", rows), tmp_path / "out.csv"
    assert score.main([str(file), "--out", str(out), "--on-empty", "skip", "--logits"]) == 0
    found = read(out)
    assert [row["id"] for row in found] == [row["id"] for row in rows]
    assert [number for number, row in enumerate(found) if not row["predicted_label"]] == [0, 7, 59]
    kept = [number for number in range(60) if number not in (0, 7, 59)]
    np.testing.assert_allclose(logits_of([found[number] for number in kept]), shipped.logits[kept], atol=1e-5)
    assert "3 without text have no prediction" in capfd.readouterr().err


def test_a_blank_text_may_be_scored_as_predict_does(shipped: Shipped, tmp_path: Path) -> None:
    rows = [dict(row) for row in shipped.rows]
    rows[7]["first"], rows[9]["second"] = "", "  "
    file, out = write(tmp_path / "rows.jsonl", rows), tmp_path / "out.jsonl"
    assert score.main([str(file), "--out", str(out), "--on-empty", "score", "--logits"]) == 0
    expected = predicted(shipped.folder, shipped.task, shipped.columns, rows)
    assert logits_of(read(out)).tobytes() == expected.tobytes()


# Bad input


@pytest.mark.parametrize(
    ("name", "content", "options", "said"),
    [
        (
            "a.csv",
            b"first,x\na,b\n",
            [],
            "a.csv: no column 'second' (as in the data that the model was trained",
        ),
        ("a.csv", b"first,x\na,b\n", ["--pair", "y"], "a.csv: no column 'y' (--text, --pair), only first, x"),
        ("a.csv", b"first,second,first\na,b,c\n", [], "a.csv: two columns are called 'first'"),
        ("a.csv", b"first,second\na,\xff\n", [], "a.csv: the text is not UTF-8; save it as UTF-8"),
        ("a.csv", b"", [], "a.csv: the file is empty; expected a header line and rows"),
        ("a.csv", b"first,second\na,b,c\n", [], "a.csv: cannot be read as csv: "),
        ("a.csv.gz", b"first,second\na,b\n", [], "a.csv.gz: cannot be read as csv: "),
        ("a.jsonl", b'{"first": "a", "second": 3}\n', [], "a.jsonl: row 1: column 'second': expected a text, found 3"),
        ("a.jsonl", b'{"first": "a"\n', [], "a.jsonl: not valid JSON: "),
        ("a.jsonl", b'{"first": "a"}\n', [], "a.jsonl: no column 'second' "),
        ("a.parquet", b"PAR1", [], "a.parquet: cannot be read as parquet: "),
        ("a.txt", b"a", [], "a.txt: the name says no format; expected csv|tsv|jsonl|parquet|arrow"),
        ("a.csv", b"first,second,predicted_label\na,b,c\n", [], "a.csv: has a column 'predicted_label' of its own"),
        ("a.jsonl", b'{"first":"a","second":"b","predicted_label":1}', [], "a.jsonl: has a column 'predicted_label'"),
        (
            "a.csv",
            b"first,second\na,b\n",
            ["--to", "tsv", "--out", "x.csv"],
            "--out x.csv: the name says csv, but --to tsv",
        ),
        (
            "a.csv",
            b"first,second\na,b\n",
            ["--text", "second"],
            "--text and --pair: both are 'second'; name two columns",
        ),
        ("a.csv", b"first,second\na,b\n", ["--from", "csv"], "--from: is for standard input (-)"),
        ("a.csv", b"first,second\na,b\n", ["--revision", "nowhere"], "no revision 'nowhere' in this repository"),
        ("a.csv", b'first,second\n"a\tb",b\n', ["--out", "x.tsv"], "row 1 has a tab or an end of line in a cell"),
        (
            "a.jsonl",
            b'{"first":"a","second":"b","x":"\\ud800"}',
            ["--out", "x.csv"],
            "row 1: column 'x': the text has half",
        ),
        ("a.jsonl", b'{"first":"a","second":"b","\\ud800":1}', ["--out", "x.csv"], "a name holds half a character"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    shipped: Shipped,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    name: str,
    content: bytes,
    options: list[str],
    said: str,
) -> None:
    (tmp_path / name).write_bytes(content)
    assert said in refused(capfd, tmp_path / name, *(o.replace("x.", f"{tmp_path}/x.") for o in options)).replace(
        f"{tmp_path}/", ""
    )
    assert names_in(tmp_path) == [name] and not list(shipped.folder.glob(".scratch/score-*"))


def test_files_that_are_not_alike_are_refused(
    shipped: Shipped, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    one = write(tmp_path / "a.csv", shipped.rows)
    other = write(tmp_path / "b.csv", [row | {"more": 1} for row in shipped.rows])
    assert "b.csv: its columns are not those of " in refused(capfd, one, other)
    assert "c.jsonl: not of the format of " in refused(capfd, one, write(tmp_path / "c.jsonl", shipped.rows))
    assert "d.csv: no such file" in refused(capfd, tmp_path / "d.csv")
    assert "is the file that is scored; name another" in refused(capfd, one, "--out", one)


def test_a_file_that_changes_while_it_is_scored_gives_no_output(
    shipped: Shipped, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = write(tmp_path / "rows.csv", shipped.rows), tmp_path / "out.csv"
    survey = InputFiles.survey

    def survey_then_edit(self: InputFiles, *arguments: Any) -> Any:
        found = survey(self, *arguments)
        write(file, shipped.rows[:50])
        return found

    monkeypatch.setattr(InputFiles, "survey", survey_then_edit)
    assert "rows.csv: changed while it was scored" in refused(capfd, file, "--out", out)
    assert names_in(tmp_path) == ["rows.csv"]


def test_an_output_that_breaks_off_is_not_left(
    shipped: Shipped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = write(tmp_path / "rows.csv", shipped.rows), tmp_path / "out.csv"
    out.write_text("an earlier one")
    monkeypatch.setattr(InputFiles, "check_unchanged", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert score.main([str(file), "--out", str(out)]) == 130
    assert out.read_text() == "an earlier one" and names_in(tmp_path) == ["out.csv", "rows.csv"]


# Standard input and output


def test_standard_input_is_scored_to_standard_output(
    shipped: Shipped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "rows.csv.gz", shipped.rows)
    with file.open("rb") as stream:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream))
        assert score.main(["-", "--from", "csv.gz", "--logits"]) == 0
    rows = list(csv.DictReader(io.StringIO(capfd.readouterr().out, newline="")))
    assert logits_of(rows).tobytes() == shipped.logits.tobytes()
    assert "-: standard input has no name that says its format; give --from csv|" in refused(capfd, "-")
    with io.BytesIO(b"first,second\na,\n") as empty:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(empty))
        assert refused(capfd, "-", "--from", "csv").startswith("standard input.csv: row 1 has no text")


def test_it_ends_without_a_word_when_the_reader_has_gone(
    shipped: Shipped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "rows.csv", [row | {"note": ""} for row in shipped.rows])
    reading, writing = os.pipe()
    os.close(reading)
    for output in ("csv", "jsonl", "parquet", "tsv"):
        with os.fdopen(os.dup(writing), "w") as stdout:
            monkeypatch.setattr(sys, "stdout", stdout)
            assert score.main([str(file), "--to", output, "--text", "id", "--pair", "id2"][:3]) == 141, output
            monkeypatch.undo()
            monkeypatch.chdir(shipped.folder)
    os.close(writing)
    assert capfd.readouterr().err == ""


# Which model


def test_another_commits_model_scores_and_the_workspaces_is_that_of_its_lock(
    shipped_of: Callable[[str], Shipped],
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    first = shipped_of("pairs")
    shutil.copytree(first.folder, tmp_path / "project")
    project = Project(tmp_path / "project")
    monkeypatch.chdir(project.folder)
    project.run("git", "tag", "first")
    save_model(project.folder / "made", tiny_checkpoint, first.task, seed=2)
    reproduce(project)
    file, out = write(tmp_path / "rows.jsonl", first.rows), tmp_path / "out.jsonl"
    assert score.main([str(file), "--out", str(out), "--logits", "--revision", "first"]) == 0
    assert logits_of(read(out)).tobytes() == first.logits.tobytes()
    assert re.search(r"by the model of first \([0-9a-f]{12}\)\n$", capfd.readouterr().err)
    assert score.main([str(file), "--out", str(out), "--logits"]) == 0
    second = logits_of(read(out))
    assert np.abs(second - first.logits).max() > 1e-3
    assert capfd.readouterr().err.count("\n") == 1
    project.set(predict__threads=1)
    weights = project.folder / "models" / "finetuned" / "model.safetensors"
    weights.write_bytes(b"half of another run's")
    assert score.main([str(file), "--out", str(out), "--logits"]) == 0
    assert logits_of(read(out)).tobytes() == second.tobytes()
    assert capfd.readouterr().err.startswith(
        "score: params.yaml: predict.threads is 1, dvc.lock was made with 2: this is the model of dvc.lock; "
    )


def test_torch_is_not_imported_before_the_arithmetic_is_chosen(shipped: Shipped, tmp_path: Path) -> None:
    """Nor before all rows were looked at: a bad row is told within a second or two."""
    (tmp_path / "rows.csv").write_text("first,second\na,\n")
    code = (
        "import sys; from ship import score; "
        f"status = score.main([{str(tmp_path / 'rows.csv')!r}]); "
        "print(status, sorted({'torch', 'transformers', 'evaluate'} & set(sys.modules)))"
    )
    root = str(Path(__file__).parents[1])
    done = shipped.project.run(sys.executable, "-c", code, PYTHONPATH=root)
    assert done.stdout == "1 []\n"


@pytest.mark.exhaustive
def test_a_large_file_is_scored_in_bounded_memory_with_the_bytes_of_predict(tmp_path: Path) -> None:
    """200,000 pairs, in four windows; the half of them takes nearly as much memory."""
    runs = {rows: benchmark.measure(tmp_path / str(rows), rows) for rows in (100_000, 200_000)}
    assert all(run["same_bytes"] for run in runs.values())
    assert runs[200_000]["score"]["peak_mib"] < benchmark.MOST_MIB
    assert runs[200_000]["score"]["peak_mib"] < runs[100_000]["score"]["peak_mib"] + 100
