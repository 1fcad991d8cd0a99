"""report: one page that renders for every kind of problem, safely, and says what the files say."""

import base64
import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from huggingface_hub import ModelCard, metadata_load
from scipy.stats import binomtest
from sklearn import metrics as reference
from transformers import pipeline

from stages.report.answers import (
    BINS,
    Answers,
    confusion,
    histogram_quantiles,
    read_answers,
)
from stages.report.card import KNOWN_WEIGHTS
from stages.report.figures import learning_curves, most_frequent, precision_recall, shown_curves
from stages.report.inputs import SECTIONS, ReportFiles, read_run
from stages.report.markdown import plain
from stages.report.page import SUSPECTS_SHOWN, matrix_of
from stages.report.probabilities import describe_calibration
from stages.report.report import ReportParams, columns_to_slice, report
from stages.report.slices import (
    MOST_VALUES,
    chance_of_worse,
    measure,
    overlap_groups,
    quarters,
    slice_split,
    values_of,
    word_overlap,
)
from stages.report.suspects import find_suspects
from stages.report.texts import LONGEST_CHARACTERS, mark_differences, show, without_controls
from stages.shared.runtime.errors import BadInput
from stages.shared.statistics.labels import LabelScore, label_scores, with_intervals
from stages.shared.task.calibration import Fit
from stages.shared.task.task import Task, read_task
from tests.made_run import CALIBRATION, CLASSES, NUMBERS, SETS, make_run
from tests.project import own_dag, run_python
from tests.tiny import EXECUTION

ROOT = Path(__file__).parents[1]
VOID = {"meta", "input", "br", "use", "path"}  # HTML's, and the SVG elements that matplotlib closes in themselves


class Page(HTMLParser):
    """What a browser would make of a page: elements, texts, and whether every element is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text.append(data)

    def ids(self) -> list[str]:
        return [str(attributes["id"]) for _, attributes in self.elements if "id" in attributes]

    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def render(files: ReportFiles, errors: int = 50) -> tuple[str, str, str]:
    """Returns the page, the card and the summary."""
    said = StringIO()
    with redirect_stdout(said):
        report(ReportParams(errors=errors, slice_columns=None), EXECUTION, files)
    return files.page.read_text("utf-8"), files.card.read_text("utf-8"), said.getvalue()


TWENTY = [f"intent number {i}" for i in range(20)]
KINDS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "two classes": (
        {},
        ["confusion-validation", "scores-validation", "reliability-validation", "precision-recall-validation"],
    ),
    "twenty classes": ({"names": TWENTY, "examples": 200}, ["confusion-validation", "scores-validation"]),
    "both splits of mnli": (
        {
            "names": ["entailment", "neutral", "contradiction"],
            "scored": ["validation_matched", "validation_mismatched"],
            "others": ["test_matched", "test_mismatched"],
        },
        ["confusion-validation_matched", "confusion-validation_mismatched", "scores-validation_mismatched"],
    ),
    "numbers": ({"problem": NUMBERS}, ["scatter-validation", "residuals-validation"]),
    "sets of labels": ({"problem": SETS, "names": ["a", "b", "c"]}, ["scores-validation", "roc-validation"]),
    "single texts": ({"pairs": False}, ["confusion-validation"]),
    "no test split": ({"others": []}, ["confusion-validation"]),
    "a labelled test split": ({"scored": ["validation", "test"], "others": []}, ["confusion-test"]),
    "one example": ({"examples": 1}, ["confusion-validation", "scores-validation"]),
    "one example of a number": ({"examples": 1, "problem": NUMBERS}, ["scatter-validation", "residuals-validation"]),
    "no mistake": ({"right": True}, ["confusion-validation"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_renders_for_every_kind_of_problem(kind: str, tmp_path: Path) -> None:
    arguments, wanted = KINDS[kind]
    html, card, said = render(make_run(tmp_path, **arguments))
    page = Page(html)
    ids = page.ids()
    sections = ["result", "training", "predictions", "slices", "mistakes", "data", "provenance"]
    assert set(ids) >= {*sections, "learning-curve-loss", "learning-curve-metrics", *wanted}
    assert len(ids) == len(set(ids))
    assert not re.search(r"\b(nan|None|Undefined|inf)\b", page.words() + card.replace("top_k=None", ""))
    assert len(html.encode()) < 1_000_000
    numbers = kind in ("numbers", "one example of a number")
    assert ("probabilities" in ids) == ("suspects" in ids) == (not numbers)
    for split in arguments.get("scored", ["validation"]):
        assert split in page.words() and split in card and split in said


def test_another_shell_renders_the_same_bytes(tmp_path: Path) -> None:
    """Neither the clock, the hash seed, the folder, the language nor somebody's matplotlibrc gets into the page."""
    program = (
        "from pathlib import Path; from tests.made_run import make_run\n"
        "from stages.report.report import ReportParams, report\n"
        "from tests.tiny import EXECUTION\n"
        "report(ReportParams(errors=50, slice_columns=None), EXECUTION, make_run(Path('run')))"
    )
    elsewhere = tmp_path / "another and longer"
    elsewhere.mkdir()
    (elsewhere / "matplotlibrc").write_text("axes.linewidth: 9\nxtick.major.size: 20\n")
    shell = {"PYTHONHASHSEED": "2", "TZ": "Asia/Kathmandu", "SOURCE_DATE_EPOCH": "1", "LC_ALL": "C"}
    done = run_python("-c", program, folder=elsewhere, MPLCONFIGDIR=str(elsewhere / "config"), **shell)
    assert done.returncode == 0, done.stderr
    report(ReportParams(errors=50, slice_columns=None), EXECUTION, make_run(tmp_path / "run"))
    for name in ("report.html", "card.md"):
        assert (elsewhere / "run" / name).read_bytes() == (tmp_path / "run" / name).read_bytes()


HOSTILE = [
    "<script>alert('text')</script> & \"quotes\" 'too' </td></table>",
    "\N{GRINNING FACE} \N{WOMAN}\N{ZERO WIDTH JOINER}\N{ROCKET} caf\u00e9",
    "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \u202edesrever",
    "w" * 10_000,
    "nul \x00 bell \x07 tab \t {{ 7 * 7 }} {% raw %} $x^2$",
]


def test_hostile_texts_and_names_are_shown_and_never_run(tmp_path: Path) -> None:
    names = ["<script>alert('label')</script>", "a|b $c$ \N{GRINNING FACE} \u05e9\u05dc\u05d5\u05dd"]
    inputs = make_run(
        tmp_path, names=names, examples=300, texts=HOSTILE * 60, warnings=["<script>alert('warning')</script>"]
    )
    html, card, _ = render(inputs)
    page = Page(html)
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert html.count("</script>") == 1 and "alert('" not in html.partition("<script>")[2]
    words = page.words()
    for shown in ("<script>", "'label'", "'warning'", "{{ 7 * 7 }}", "$x^2$", "\u2400", "desrever", "</td></table>"):
        assert shown in words, shown
    assert "more characters)" in words and "w" * (LONGEST_CHARACTERS + 1) not in words
    texts = [attributes for tag, attributes in page.elements if tag == "p" and "dir" in attributes]
    assert texts and all(attributes["dir"] == "auto" for attributes in texts)  # right-to-left stays in its own box
    assert "<script>" not in card and "a|b" not in card
    assert "\x00" not in html


INVISIBLE = [*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), *"\u061c\u200e\u200f\u2028\u2029"]
INVISIBLE += [*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))]


def test_no_control_character_of_the_data_is_in_what_is_published(tmp_path: Path) -> None:
    every = "".join(INVISIBLE)
    names = [f"no{every}", "yes\x1b]0;title\x07\u202etxet"]
    inputs = make_run(
        tmp_path, names=names, examples=300, texts=[f"a{every}b\r\nc\rd"] * 300, warnings=[f"of \x9b31m{every}"]
    )
    text = inputs.params.read_text(encoding="utf-8")
    inputs.params.write_text(text.replace("data/made", '"data/\\e[31m\\u202Emade"'), encoding="utf-8")
    html, _, _ = render(inputs)
    for file in (inputs.page, inputs.card):
        assert set(file.read_bytes().decode()) & set(INVISIBLE) <= {"\n", "\t"}
    words = Page(html).words()
    for shown in ("\u241b]0;title\u2407\\u202etxet", "\\x9b31m", "data/\u241b[31m\\u202emade"):
        assert shown in words, shown


def test_what_has_no_control_character_is_published_as_it_is() -> None:
    text = "a\tb\n\u05e9\u05dc\u05d5\u05dd caf\u00e9 \u200d\u200c \U0001f600"
    assert without_controls(text) == text
    assert without_controls("a\r\nb\rc") == "a\nb\nc"


def test_the_page_asks_no_network_and_runs_no_script_but_its_own(tmp_path: Path) -> None:
    html, _, _ = render(make_run(tmp_path))
    page = Page(html)
    policy = next(str(attributes["content"]) for _, attributes in page.elements if "http-equiv" in attributes)
    assert policy.startswith("default-src 'none';")
    script = re.search(r"<script>(.*?)</script>", html, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert not re.search(r"https?:|url\((?!#)|@import|src=", html.replace("script-src", "").replace("default-src", ""))


def test_figures_take_their_colours_and_fonts_from_the_page(tmp_path: Path) -> None:
    html, _, _ = render(make_run(tmp_path))
    for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        assert "var(--ink)" in svg and not re.search(
            r"#[0-9a-f]{6}\b(?!\d)", re.sub(r"[#(]#?[mp][0-9a-f]{10}", "", svg)
        )
        assert "<text" in svg and "DejaVu" not in svg
    figures = [attributes for tag, attributes in Page(html).elements if tag == "figure" and "role" in attributes]
    assert len(figures) == 6 and all(len(str(attributes["aria-label"])) > 40 for attributes in figures)


def test_the_headline_says_the_metrics_against_a_constant_and_the_warnings(tmp_path: Path) -> None:
    html, _, said = render(make_run(tmp_path, warnings=["validation chose the epoch"]))
    words = Page(html).words()
    assert "accuracy 0.750 0.600 to 0.850 0.500" in words
    assert "Before you trust it validation : validation chose the epoch" in words
    assert said.splitlines() == [
        "validation, 60 examples",
        "  accuracy  0.750  95 % interval 0.600 to 0.850  best constant answer 0.500",
        "  f1        0.750  95 % interval 0.600 to 0.850  best constant answer 0.500",
        "  loss      0.500",
        "  at a temperature of 1.75: loss 0.500 -> 0.400, calibration error 0.100 -> 0.030",
        "  TF-IDF: accuracy 0.600; fine-tuning +0.150 (+0.020 to +0.280), better",
        "warning: validation: validation chose the epoch",
        f"report: {tmp_path / 'report.html'}",
    ]
    html, _, said = render(make_run(tmp_path / "other"))
    assert "Before you trust it" not in html and "warning" not in said


def test_the_page_says_whether_fine_tuning_pays(tmp_path: Path) -> None:
    html, _, said = render(make_run(tmp_path, simple=["tfidf", "frozen_encoder"]))
    words = Page(html).words()
    assert "Does fine-tuning pay?" in words
    for name in ("TF-IDF", "frozen encoder"):
        assert f"{name} accuracy 0.600 0.500 to 0.700 +0.150 +0.020 to +0.280 0.0025 better" in words
        assert f"{name} loss 0.600 unknown +0.150 unknown 0.0025 better" in words
    assert "TF-IDF: logistic regression on 1,234 features: words and pairs of neighbouring words" in words
    assert "  frozen encoder: accuracy 0.600; fine-tuning +0.150 (+0.020 to +0.280), better\n" in said


def test_of_many_labels_the_most_frequent_are_drawn_and_it_is_said(tmp_path: Path) -> None:
    points = (np.array([0.0, 1.0]), np.array([1.0, 0.5]))
    curves = dict.fromkeys("abcdef", points)
    share = {"a": 0.05, "b": 0.3, "c": 0.1, "d": 0.05, "e": 0.25, "f": 0.2, "never": 0.05}
    assert list(shown_curves(curves, share)) == ["b", "c", "e", "f"]
    assert list(shown_curves(dict.fromkeys("ad", points), share)) == ["a", "d"]
    rows = [
        {"label": name, "recall": str(x), "precision": str(y)}
        for name, curve in curves.items()
        for x, y in zip(*curve, strict=True)
    ]
    assert "Shown are the 4 most frequent of 7 labels." in precision_recall(rows, "test", share).caption
    assert "most frequent" not in precision_recall(rows[:8], "test", share).caption


def test_without_simple_models_the_page_does_not_ask_whether_fine_tuning_pays(tmp_path: Path) -> None:
    html, _, said = render(make_run(tmp_path, simple=[]))
    assert "Does fine-tuning pay?" not in html and "TF-IDF" not in said


def test_a_metric_without_interval_or_baseline_is_shown_without(tmp_path: Path) -> None:
    inputs = make_run(tmp_path)
    intervals = json.loads(inputs.intervals.read_text())
    intervals["intervals"][0] |= {"low": None, "high": None, "baseline": None}
    del intervals["intervals"][1]
    inputs.intervals.write_text(json.dumps(intervals))
    html, card, said = render(inputs)
    assert "accuracy 0.750 unknown unknown" in Page(html).words() and "f1 0.750 unknown unknown" in Page(html).words()
    assert "| validation | F1 | 0.750 | unknown | unknown |" in card
    assert "  accuracy  0.750\n  f1        0.750\n  loss      0.500\n" in said


def test_of_the_accuracy_wilsons_interval_is_shown_everywhere(tmp_path: Path) -> None:
    inputs = make_run(tmp_path)
    intervals = json.loads(inputs.intervals.read_text())
    first = intervals["intervals"][0]
    intervals["intervals"].append(first | {"method": "wilson", "low": 0.6123, "high": 0.8456, "confidence": 0.995})
    inputs.intervals.write_text(json.dumps(intervals))
    html, card, said = render(inputs)
    assert "accuracy 0.750 0.612 to 0.846 0.500" in Page(html).words()
    assert "| validation | Accuracy | 0.750 | 0.612 to 0.846 | 0.500 |" in card
    assert "  accuracy  0.750  99.5 % interval 0.612 to 0.846  best constant answer 0.500\n" in said


def test_only_the_declared_sections_of_params_are_shown(tmp_path: Path) -> None:
    from ruamel.yaml import YAML

    html, _, _ = render(make_run(tmp_path))
    shown = re.search(r'<pre class="parameters"[^>]*><code>(.*?)</code>', html, re.DOTALL)
    assert shown is not None
    yaml = YAML(typ="safe", pure=True)
    params = yaml.load(tmp_path / "params.yaml")
    del params["execution"]
    assert yaml.load(shown[1]) == params  # it can be copied into another params.yaml
    assert list(SECTIONS) == own_dag()["stages"]["report"]["params"]


def test_the_mistakes_are_the_surest_ones_with_their_texts(tmp_path: Path) -> None:
    inputs = make_run(tmp_path, examples=300)
    html, _, _ = render(inputs, errors=7)
    logits = np.load(inputs.predictions / "validation" / "logits.npy").astype(float)
    labels = np.load(inputs.predictions / "validation" / "labels.npy")
    sure = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).max(axis=1)
    wrong = np.flatnonzero(logits.argmax(axis=1) != labels)
    expected = wrong[np.argsort(-sure[wrong])][:7]
    shown = re.findall(r'data-label="Score">([\d.]+)<.*?data-label="Row">(\d+)<', html, re.DOTALL)
    assert [int(row) - 1 for _, row in shown] == expected.tolist()
    assert [float(score) for score, _ in shown] == pytest.approx(sure[expected], abs=5e-4)
    assert f"7 of {len(wrong)} mistakes" in html
    html, _, _ = render(inputs, errors=0)
    assert "none shown (report.errors is 0)" in html


def test_the_page_shows_the_labels_that_the_model_contradicts(tmp_path: Path) -> None:
    inputs = make_run(tmp_path, examples=300)
    files = [inputs.predictions / "validation" / name for name in ("labels.npy", "logits.npy")]
    labels, logits = map(np.load, files)
    sure = np.argsort(-np.abs(logits[:, 1] - logits[:, 0]))[:20]
    labels[sure] = 1 - logits[sure].argmax(axis=1)  # mistakes of whoever labelled them
    np.save(files[0], labels)
    html, _, _ = render(inputs)
    found = find_suspects(of(CLASSES, "no", "yes"), labels, logits)
    count = int(found.suspect.sum())
    assert count >= 20
    assert f"{count} of 300 labels are suspect. The {SUSPECTS_SHOWN} worst." in Page(html).words()
    shown = re.findall(r'data-label="Quality">([\d.]+)<.*?data-label="Row">(\d+)<', html, re.DOTALL)
    expected = found.ranked()[:SUSPECTS_SHOWN]
    assert [int(row) - 1 for _, row in shown] == expected.tolist()
    assert [float(quality) for quality, _ in shown] == pytest.approx(found.quality[expected], abs=5e-4)


def answers(task: Task, labels: Any, logits: Any, tmp_path: Path) -> Answers:
    folder = tmp_path / "validation"
    folder.mkdir()
    np.save(folder / "labels.npy", np.asarray(labels))
    np.save(folder / "logits.npy", np.asarray(logits, dtype=np.float32))
    return read_answers(task, tmp_path, "validation")


def of(problem: str, *names: str) -> Task:
    return Task("files", problem, list(names), ["accuracy"], "files", "0")


def test_counts_of_classes_are_those_of_the_definition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.report.answers.PROBABILITIES_AT_ONCE", 16)  # several, and a rest
    generator = np.random.default_rng(0)
    labels, logits = generator.integers(0, 3, 100), generator.normal(size=(100, 3))
    found = answers(of(CLASSES, "a", "b", "c"), labels, logits, tmp_path)
    predicted = logits.argmax(axis=1)
    task = of(CLASSES, "a", "b", "c")
    assert confusion(task, found).tolist() == reference.confusion_matrix(labels, predicted).tolist()
    precision, recall, f1, support = reference.precision_recall_fscore_support(labels, predicted)
    scores = label_scores(task, found.labels, found.predicted)
    assert [score.precision for score in scores] == pytest.approx(precision)
    assert [score.recall for score in scores] == pytest.approx(recall)
    assert [score.f1 for score in scores] == pytest.approx(f1)
    assert [score.actual for score in scores] == support.tolist()
    assert found.histogram.sum(axis=(1, 2)).tolist() == [100] * 3
    assert found.histogram[:, 1].sum(axis=1).tolist() == support.tolist()


def test_counts_of_sets_are_those_of_the_definition(tmp_path: Path) -> None:
    labels = np.array([[1, 0], [1, 1], [0, 0], [0, 1]], dtype=np.float32)
    logits = np.array([[2.0, -1.0], [-3.0, 1.0], [-1.0, -0.5], [0.1, 4.0]])
    task = of(SETS, "a", "b")
    found = answers(task, labels, logits, tmp_path)
    assert found.right.tolist() == [True, False, True, False]
    precision, recall, f1, _ = reference.precision_recall_fscore_support(labels, logits > 0)
    scores = label_scores(task, found.labels, found.predicted)
    assert [(s.precision, s.recall, s.f1) for s in scores] == [
        tuple(row) for row in zip(precision, recall, f1, strict=True)
    ]
    assert found.mistakes(5).tolist() == [1, 3]  # 0.95 away from the truth, then 0.52
    assert found.certainty[1] == pytest.approx(1 - 1 / (1 + np.exp(3.0)))


def test_the_largest_errors_of_numbers_come_first(tmp_path: Path) -> None:
    found = answers(of(NUMBERS), np.array([1, 2, 3], dtype=np.float32), [[1.5], [0.0], [3.0]], tmp_path)
    assert found.mistakes(2).tolist() == [1, 0]
    assert found.certainty.tolist() == [0.5, 2.0, 0.0]


def test_quantiles_of_a_histogram_are_those_of_the_values() -> None:
    values = np.random.default_rng(0).beta(2, 5, 10_000)
    counts = np.histogram(values, bins=BINS, range=(0, 1))[0]
    shares = (0.05, 0.25, 0.5, 0.75, 0.95)
    assert histogram_quantiles(counts, shares) == pytest.approx(np.quantile(values, shares), abs=1 / BINS)
    assert np.isnan(histogram_quantiles(np.zeros(BINS), shares)).all()


def test_of_many_classes_the_matrix_shows_those_with_the_most_mistakes(tmp_path: Path) -> None:
    names = [str(i) for i in range(40)]
    labels = np.arange(40).repeat(2)
    predicted = labels.copy()
    predicted[2 * 35], predicted[2 * 7] = 7, 35  # 35 and 7 are taken for each other
    task = of(CLASSES, *names)
    found = answers(task, labels, np.eye(40)[predicted], tmp_path)
    matrix = matrix_of(task, found)
    assert len(matrix.names) == 25 and {"7", "35"} <= set(matrix.names) and matrix.classes == 40
    assert matrix.counts[matrix.names.index("35")][matrix.names.index("7")] == 1
    assert matrix.rates[matrix.names.index("35")][matrix.names.index("7")] == 0.5
    assert len(most_frequent(label_scores(task, found.labels, found.predicted))) == 30


def test_a_slices_interval_is_wilsons() -> None:
    part = measure("x", np.array([True] * 8 + [False] * 2), 0.95)
    assert (part.examples, part.value) == (10, 0.8)
    assert (part.low, part.high) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)  # Agresti & Coull (1998), (2)
    errors = measure("x", np.array([1.0, 2.0, 3.0], dtype=np.float32), 0.95)
    assert (errors.value, errors.high - errors.value) == pytest.approx((2.0, 1.959964 / 3**0.5))
    assert measure("x", np.array([2.0]), 0.95).low == 2.0


def test_every_example_is_in_one_slice_of_a_kind(tmp_path: Path) -> None:
    for kind in ("two classes", "numbers"):
        inputs = make_run(tmp_path / kind, **KINDS[kind][0])
        task = read_task(inputs.raw / "task.json")
        from stages.shared.runtime.splits import load_splits

        texts = load_splits(inputs.raw)["validation"].data.table
        answers = read_answers(task, inputs.predictions, "validation")
        slicings = slice_split(task, answers, texts, 0.95, overlap=np.zeros(60, np.uint8))
        assert len(slicings) == 3
        assert [sum(part.examples for part in slicing.slices) for slicing in slicings] == [60] * 3


def test_a_split_is_sliced_by_the_columns_that_were_kept() -> None:
    column = pa.chunked_array([["b", "a", "", "a"]])
    assert [(name, rows.tolist()) for name, rows in values_of(column)] == [
        ("(empty)", [False, False, True, False]),
        ("a", [False, True, False, True]),
        ("b", [True, False, False, False]),
    ]
    many = pa.chunked_array([[f"{number:02}" for number in range(20)] * 2 + ["19", "18"]])
    parts = values_of(many)
    assert len(parts) == MOST_VALUES and parts[-1][0] == "9 others"
    assert {"18", "19"} < {name for name, _ in parts} and sum(rows.sum() for _, rows in parts) == 42
    with pytest.raises(BadInput, match=r"report.slice_columns: 'kind' is not in download.keep_columns; add it there"):
        columns_to_slice(["kind"], ["author"])
    assert columns_to_slice(None, ["author"]) == ["author"]


def test_a_slice_is_worse_than_the_rest_of_its_split_by_fishers_test() -> None:
    """Fisher (1935): of 30 twins of convicts, 10 of 13 were convicted if identical, 2 of 17 if not; p = 0.000465."""
    right = np.array([True] * 3 + [False] * 10 + [True] * 15 + [False] * 2)
    identical = np.arange(30) < 13
    assert chance_of_worse(right, identical, None, 0.95) == pytest.approx(0.000465, abs=1e-6)
    assert chance_of_worse(right, ~identical, None, 0.95) > 0.99
    # In groups of equal answers there are fewer facts.
    alone = chance_of_worse(right, identical, np.arange(30), 0.95)
    together = chance_of_worse(right, identical, np.repeat(np.arange(15), 2), 0.95)
    assert alone < together < 0.5
    errors = np.where(identical, 2.0, 1.0) + np.random.default_rng(0).normal(0, 0.1, 30)
    assert (
        chance_of_worse(errors, identical, None, 0.95) < 1e-6 < 0.99 < chance_of_worse(errors, ~identical, None, 0.95)
    )


def test_no_slice_by_label_is_called_worse(tmp_path: Path) -> None:
    labels = np.array([0, 1] * 100)
    logits = np.eye(2)[np.zeros(200, dtype=int)]  # one answer to all: right on one label, wrong on the other
    task = of(CLASSES, "a", "b")
    texts = pa.table({"text": ["x" * (1 + place // 50) for place in range(200)]})
    found = slice_split(task, answers(task, labels, logits, tmp_path), texts, 0.95, overlap=np.zeros(200, np.uint8))
    assert [part.value for part in found[-1].slices] == [1.0, 0.0]
    assert not any(part.worse for slicing in found for part in slicing.slices)


def test_the_scores_of_a_label_have_wilsons_intervals() -> None:
    score = LabelScore("a", actual=40, predicted=50, found=30)
    ends = score.intervals(0.95)
    assert ends["recall"] == pytest.approx(tuple(binomtest(30, 40).proportion_ci(method="wilson")))
    assert ends["precision"] == pytest.approx(tuple(binomtest(30, 50).proportion_ci(method="wilson")))
    assert ends["f1"] is not None and ends["f1"][0] < score.f1 < ends["f1"][1]
    wider = score.intervals(0.95, {"precision": 1.0, "recall": 0.25, "f1": 1.0})["recall"]
    assert (
        wider is not None and ends["recall"] is not None and wider[0] < ends["recall"][0] < ends["recall"][1] < wider[1]
    )
    assert LabelScore("b", actual=3, predicted=0, found=0).intervals(0.95)["precision"] is None


def test_a_label_whose_mistakes_come_in_groups_has_wider_intervals_than_one_whose_mistakes_do_not(
    tmp_path: Path,
) -> None:
    """Of forty groups of ten, half of either label, eight have all of b wrong; as many of a are wrong, anywhere."""
    groups, labels = np.arange(400) // 10, np.arange(400) % 2
    wrong = (labels == 1) & (groups < 8)
    wrong[np.flatnonzero(labels == 0)[::5]] = True
    task = of(CLASSES, "a", "b")
    found = answers(task, labels, np.eye(2)[labels ^ wrong], tmp_path)
    spans = {}
    for kind, drawn in (("alone", None), ("whole", groups)):
        for score, ends in with_intervals(task, found.labels, found.predicted, drawn, 0.95):
            assert ends["recall"] is not None and score.recall == 0.8
            spans[kind, score.name] = ends["recall"][1] - ends["recall"][0]
    assert spans["whole", "b"] > 2 * spans["alone", "b"]
    assert spans["whole", "a"] < 1.1 * spans["alone", "a"]


def test_a_path_outside_the_project_is_no_title(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path))
    for path, shown in (("/home/me/tickets.csv", "tickets.csv"), ("../data/mine", "mine"), ("data/mine", "data/mine")):
        changed = replace(run, params={**run.params, "download": run.params["download"] | {"dataset_files": path}})
        assert changed.dataset == shown


def test_equal_lengths_are_not_cut_apart() -> None:
    assert [(name, rows.sum()) for name, rows in quarters(np.array([5, 5, 5, 5, 9]))] == [("5", 4), ("9", 1)]
    assert [name for name, _ in quarters(np.arange(8))] == ["0 to 1", "2 to 3", "4 to 5", "6 to 7"]


def test_the_overlap_is_the_share_of_words_in_both_texts() -> None:
    texts = pa.table({"text": ["One two three", "a b", "", "same"], "text_pair": ["two THREE four", "c d", "", "same"]})
    assert word_overlap(texts).tolist() == [0.5, 0.0, 1.0, 1.0]
    assert [rows.tolist() for _, rows in overlap_groups(texts)][2] == [True, False, False, False]
    assert sum(rows.sum() for _, rows in overlap_groups(texts)) == 4


@pytest.mark.parametrize(
    ("first", "second", "marked"),
    [
        ("the cat sat", "the dog sat", (["cat"], ["dog"])),
        ("It cost 1,000.50 dollars.", "it cost 1,000.75 dollars", (["1,000.50"], ["1,000.75"])),
        ("a big, old cat", "a cat", (["big, old"], [])),
        ("", "all new", ([], ["all new"])),
        ("same", "same", ([], [])),
    ],
)
def test_words_that_differ_are_marked(first: str, second: str, marked: tuple[list[str], list[str]]) -> None:
    pieces = mark_differences(first, second)
    assert tuple([text for text, differs in run if differs] for run in pieces) == marked
    assert tuple("".join(text for text, _ in run) for run in pieces) == (first, second)


def test_long_texts_are_cut_and_control_characters_pictured() -> None:
    assert show("a\x00b\tc\n") == "a\u2400b\tc\n"
    assert show("x" * (LONGEST_CHARACTERS + 3)) == "x" * LONGEST_CHARACTERS + " … (3 more characters)"


def test_the_card_is_what_the_hub_reads(tmp_path: Path) -> None:
    inputs = make_run(tmp_path, scored=["validation", "test"], others=[], warnings=["it is shaky"])
    _, text, _ = render(inputs)
    card = ModelCard.load(tmp_path / "card.md")  # refuses metadata that the Hub would
    results = card.data.eval_results
    assert results is not None
    assert [(r.dataset_split, r.metric_type, r.metric_value) for r in results] == [
        (split, name, 0.75) for split in ("validation", "test") for name in ("accuracy", "f1")
    ]
    metadata = metadata_load(tmp_path / "card.md")
    assert metadata is not None
    assert metadata["pipeline_tag"] == "text-classification" and metadata["library_name"] == "transformers"
    assert {"license", "language", "base_model", "datasets"}.isdisjoint(metadata)  # none of them is known here
    assert "- validation: it is shaky" in text
    for heading in ("How to use", "Intended use and limits", "Evaluation", "Training", "Licence"):
        assert f"\n## {heading}\n" in text
    table = text.partition("| Split |")[2].partition("\n\n")[0]
    assert table.count("\n") == 5  # no empty line cuts it


def test_the_card_says_what_of_the_model_was_new(tmp_path: Path) -> None:
    inputs = make_run(tmp_path)
    facts = json.loads(inputs.selection.read_text("utf-8"))
    for summary in (facts["origin"][0]["summary"], "Of the classification head, classifier.out_proj was new."):
        facts["origin"][0]["summary"] = summary
        inputs.selection.write_text(json.dumps(facts), "utf-8")
        assert plain(summary) in render(inputs)[1].splitlines()


def test_the_card_names_a_base_model_and_data_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = make_run(tmp_path, name="glue/mrpc", source="glue", revision="b" * 40)
    monkeypatch.setitem(KNOWN_WEIGHTS, read_run(inputs).pretrained.files[0][1], "somebody/known-by-its-bytes")
    render(inputs)
    card = ModelCard.load(tmp_path / "card.md")
    assert card.data.base_model == "somebody/known-by-its-bytes"
    assert card.data.datasets == ["nyu-mll/glue"]
    result = card.data.eval_results[0]
    assert (result.dataset_type, result.dataset_config, result.dataset_revision) == ("nyu-mll/glue", "mrpc", "b" * 40)
    params = inputs.params.read_text().replace("package:made/model", "hub:somebody/model")
    inputs.params.write_text(params)
    render(inputs)
    assert ModelCard.load(tmp_path / "card.md").data.base_model == "somebody/model"


def test_a_label_cannot_break_out_of_the_card() -> None:
    assert plain("a|b\n# c <b> `d`") == r"a\|b \# c \<b\> \`d\`"


@pytest.mark.parametrize("pairs", [True, False])
def test_the_cards_example_runs(pairs: bool, tmp_path: Path, tiny_checkpoint: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    _, card, _ = render(make_run(tmp_path, pairs=pairs))
    example = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert example is not None
    model = AutoModelForSequenceClassification.from_pretrained(tiny_checkpoint, num_labels=2)
    model.save_pretrained(tmp_path / "finetuned")
    AutoTokenizer.from_pretrained(tiny_checkpoint).save_pretrained(tmp_path / "finetuned")
    code = example[1].replace("models/finetuned", str(tmp_path / "finetuned"))
    names: dict[str, Any] = {"pipeline": pipeline}
    exec(code.replace("classify({", "answer = classify({").replace('classify("A', 'answer = classify("A'), names)
    assert names["answer"]


def test_a_broken_input_leaves_the_old_page(tmp_path: Path) -> None:
    inputs = make_run(tmp_path)
    html, card, _ = render(inputs)
    shutil.rmtree(inputs.predictions / "validation")
    with pytest.raises(FileNotFoundError):
        render(inputs)
    assert (tmp_path / "report.html").read_text("utf-8") == html and (tmp_path / "card.md").read_text("utf-8") == card


@pytest.mark.exhaustive
def test_a_million_predictions_fit_into_two_gibibytes_and_the_page_stays_small(tmp_path: Path) -> None:
    with (ROOT / "data" / "hard" / "train.csv").open(encoding="utf-8", newline="") as stream:
        texts = [row[name] for row in csv.DictReader(stream) for name in ("sentence1", "sentence2")]
    inputs = make_run(tmp_path, examples=1_000_000, others=[], texts=(texts * 1000)[:1_000_000])
    program = (
        "import re; from pathlib import Path; from stages.report.inputs import ReportFiles\n"
        "from stages.shared.runtime.execution import Execution\n"
        "from stages.report.report import ReportParams, columns_to_slice, report\n"
        f"fields = { ({name: str(path) for name, path in vars(inputs).items()})!r}\n"
        "files = ReportFiles(**{name: Path(path) for name, path in fields.items()})\n"
        "report(ReportParams(errors=50, slice_columns=None), Execution('cpu', 60.0, 1, 60.0, 1, 1, None), files)\n"
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', Path('/proc/self/status').read_text())[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
    )
    # KiB at the highest, memory-mapped files included. Not ru_maxrss: a child begins with its parent's.
    assert int(done.stdout.splitlines()[-1]) < 2 * 2**20  # behind what the report says
    assert inputs.page.stat().st_size < 500_000


def test_a_squared_error_does_not_share_the_axis_of_the_scores() -> None:
    row = {"epoch": 1, "train_loss": 9.0, "loss": 9.0, "pearson": 0.5, "mean_squared_error": 900.0}
    losses, scores = learning_curves([row, row], ["mean_squared_error", "pearson"], 1, "validation", {})
    assert "mean_squared_error" not in scores.svg and "pearson" in scores.svg
    (alone,) = learning_curves([row], ["mean_squared_error"], 1, "validation", {})
    assert alone.title == losses.title == "Loss"


@pytest.mark.parametrize(("predicted", "said"), [("portable", True), ("bf16", False)])
def test_the_page_calls_a_run_portable_only_if_train_and_predict_were(
    predicted: str, said: bool, tmp_path: Path
) -> None:
    files = make_run(tmp_path)
    facts = json.loads(files.environment.read_text(encoding="utf-8"))["environment"][0]
    portable = {name: value for name, value in facts.items() if not name.startswith("cpu_")}
    files.environment.write_text(json.dumps({"environment": [portable]}), encoding="utf-8")
    text = files.params.read_text(encoding="utf-8")
    assert "predict: {arithmetic: portable}" in text
    files.params.write_text(text.replace("arithmetic: portable}", f"arithmetic: {predicted}}}"), encoding="utf-8")
    assert ("the arithmetic is portable" in render(files)[0]) == said


def test_the_page_offers_a_methods_paragraph_with_the_runs_numbers(tmp_path: Path) -> None:
    html, _, _ = render(make_run(tmp_path, examples=60))
    found = re.search(r'<p class="methods">(.*?)</p>', html, re.DOTALL)
    assert found is not None
    sentences = found[1].split(". ")
    start = "We fine-tuned package:made/model (TinyModel, 0.0 million parameters) on 60 training examples of "
    assert sentences[0].startswith(start)
    assert sentences[0].endswith("with AdamW (seed 42, learning rate 0.0001, early stopping patience none)")
    assert sentences[1:3] == [
        "Inputs were truncated to 128 tokens",
        "Of 3 epochs, the weights of epoch 2 were kept: it had the best accuracy on validation",
    ]
    score = "0.750 (95 % interval 0.600 to 0.850; best constant answer 0.500)"
    assert sentences[3] == f"On the 60 examples of validation: accuracy {score}, f1 {score}, loss 0.500"
    assert found[1].endswith("and not for other seeds. Python 3.11, torch 2.13.0; cpu, 2 threads.")
    regression, _, _ = render(make_run(tmp_path / "number", problem=NUMBERS))
    assert "mean squared error 0.750" in regression


# Probabilities


def test_a_calibration_has_a_section_with_scores_before_and_after_it(tmp_path: Path) -> None:
    html, card, said = render(make_run(tmp_path))
    words = Page(html).words()
    for shown in (
        "divided by a temperature of 1.75, which was fitted on the 60 examples of validation",
        "loss 0.500 0.400 0.300 to 0.500",
        "expected calibration error 0.100 0.030 by chance up to 0.050",
        "fitted without it, in 10 folds",
        "100.0 % 0.900 10.0 % 5.0 to 20.0",
        "made to hold the right one for 90.0 % of new examples",
        "none: no answer 2 3.3 %",
        "hold the right label for 91.0 % of the examples",
    ):
        assert shown in words, shown
    assert html.count('id="reliability-validation"') == 1 and "the model's own" in words
    assert "those of the logits divided by 1.75" in " ".join(card.split())
    assert "  at a temperature of 1.75: loss 0.500 -> 0.400, calibration error 0.100 -> 0.030" in said.splitlines()


def test_without_a_calibration_nothing_is_said_of_one(tmp_path: Path) -> None:
    html, card, said = render(make_run(tmp_path, calibration=None))
    assert "temperature" not in html.partition("<h3>Methods")[0] + card + said
    assert html.count('id="reliability-validation"') == 1


def test_decisions_and_what_could_not_be_fitted_are_said(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path))
    fitted = replace(CALIBRATION, notes=["9 groups are too few"], drawn=9)

    def said(task: Task = run.task, **changes: Any) -> str:
        return describe_calibration(replace(run, task=task, fitted=replace(fitted, **changes)))

    assert "on the 60 examples in 9 groups of validation" in said() and said().endswith(" 9 groups are too few.")
    assert "Decisions" not in said()
    by_threshold = said(metric="f1", whole=Fit(1.0, [0.25], None))
    assert "thresholds that were chosen for f1: yes above 0.250." in by_threshold
    assert "Decisions are those of the least expected cost" in said(costs=[[0.0, 1.0], [5.0, 0.0]])
    many = Task("files", SETS, [f"label {number}" for number in range(12)], ["f1_micro"], "files", "0")
    of_many = said(many, metric="f1_micro", whole=Fit(1.0, [0.5] * 12, None))
    assert "label 9 above 0.500 and 2 more." in of_many and "label 10" not in of_many
