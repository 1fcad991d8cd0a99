"""baselines: simple models that learn what they can, on the rows of train alone, held against the fine-tuned one."""

import json
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from stages.baselines import baselines as module
from stages.baselines.baselines import BaselinesFiles, BaselinesParams, baselines, drawn
from stages.baselines.linear_model import fit, fit_chosen
from stages.baselines.tfidf import TOKEN, TfIdf, count_words
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.splits import save_splits
from stages.shared.task.task import Task, write_task
from tests.project import Project
from tests.tiny import EXECUTION

CLASSES, SETS, NUMBERS = "single_label_classification", "multi_label_classification", "regression"
TWO = Task("files", CLASSES, ["no", "yes"], ["accuracy", "f1"], "files", "0")
THREE = replace(TWO, label_names=["a", "b", "c"], metrics=["accuracy", "f1_macro"])
SEVERAL = replace(TWO, problem_type=SETS, label_names=["a", "b", "c"], metrics=["f1_micro"])
NUMBER = replace(TWO, problem_type=NUMBERS, label_names=[], metrics=["pearson"])
WORDS = [f"word{i}" for i in range(40)]
FEATURES: dict[str, Any] = {CLASSES: lambda n: ClassLabel(names=n), SETS: lambda n: List(Value("float32"))}
PARAMS = """\
evaluate: {{splits: {splits}, metrics: [], confidence: 0.95, resamples: 300, seed: 0, per_class: false}}
predict: {{arithmetic: portable, token_budget: 512, threads: 1}}
"""


def texts_of(generator: np.random.Generator, task: Task, labels: np.ndarray) -> list[str]:
    """Texts whose words give the label away: `no` or `yes`, `a`, and a word the more often the larger the number."""
    found = []
    for label in labels:
        words = list(generator.choice(WORDS, 8))
        if task.problem.numeric:
            words += ["large"] * int(label) + ["small"] * (5 - int(label))
        else:
            carried = [label] if task.problem.exclusive else np.flatnonzero(label)
            words += [f"told{task.label_names[i]}" for i in carried]
        found.append(" ".join(generator.permutation(words)))
    return found


def labels_of(generator: np.random.Generator, task: Task, examples: int) -> np.ndarray:
    if task.problem.numeric:
        return generator.uniform(0, 5, examples).astype(np.float32)
    if task.problem.exclusive:
        return generator.integers(0, task.columns, examples)
    return (generator.random((examples, task.columns)) < 0.5).astype(np.float32)


def split_of(task: Task, labels: np.ndarray, **columns: Sequence[Any]) -> Dataset:
    label = FEATURES.get(task.problem_type, lambda _: Value("float32"))(task.label_names)
    kinds = {name: Value("string") for name in columns} | {"label": label}
    return Dataset.from_dict({**columns, "label": labels.tolist()}, features=Features(kinds))


def make(folder: Path, task: Task, examples: int = 120, scored: Sequence[str] = ("validation",), **more: Any) -> Any:
    """Writes what the stage reads, with a fine-tuned model that guesses.

    Args:
        more: columns of every split, made from the number of examples; or `pairs`, made from the labels.
    """
    generator = np.random.default_rng(3)
    raw, tokenized = {}, {}
    pairs = more.pop("pairs", None)
    for name in ("train", *scored):
        labels = labels_of(generator, task, examples)
        texts = pairs(labels) if pairs else {"text": texts_of(generator, task, labels)}
        raw[name] = split_of(task, labels, **texts, **{key: value(examples) for key, value in more.items()})
        tokenized[name] = split_of(task, labels)
        if name != "train":
            (folder / "predictions" / name).mkdir(parents=True)
            np.save(folder / "predictions" / name / "labels.npy", labels)
            logits = generator.normal(size=(examples, task.columns)).astype(np.float32)
            np.save(folder / "predictions" / name / "logits.npy", logits)
    save_splits(raw, folder / "raw")
    save_splits(tokenized, folder / "tokenized")
    write_task(folder / "raw" / "task.json", task)
    (folder / "params.yaml").write_text(PARAMS.format(splits=list(scored)))
    return BaselinesFiles(**{field.name: folder / field.default.name for field in fields(BaselinesFiles)})


def run(files: BaselinesFiles, tfidf: bool = True, frozen_encoder: bool = False) -> dict[str, list[dict[str, Any]]]:
    baselines(BaselinesParams(tfidf, frozen_encoder), EXECUTION, files)
    return dict(json.loads(files.baselines.read_text()))


def by_metric(found: dict[str, list[dict[str, Any]]], split: str = "validation") -> dict[str, dict[str, Any]]:
    return {one["metric"]: one for one in found["baselines"] if one["split"] == split}


# What it says


@pytest.mark.parametrize("task", [TWO, THREE, SEVERAL, NUMBER], ids=lambda task: f"{task.problem_type} {task.columns}")
def test_words_that_give_the_label_away_are_learned_and_beat_a_model_that_guesses(task: Task, tmp_path: Path) -> None:
    found = by_metric(run(make(tmp_path, task)))
    assert list(found) == [*task.metrics, "loss"]
    first = found[task.metrics[0]]
    assert first["value"] > 0.9 > first["fine_tuned"] and first["low"] < first["value"] <= first["high"]
    assert (
        first["difference"] == pytest.approx(first["fine_tuned"] - first["value"], abs=2e-6) and first["p_holm"] < 0.05
    )
    assert first["difference_low"] < first["difference"] < first["difference_high"] < 0
    assert first["fine_tuned_is"] == found["loss"]["fine_tuned_is"] == "worse"
    assert found["loss"]["difference"] > 0


def test_the_file_is_a_function_of_its_inputs_and_prints_nothing_in_dvc_metrics(tmp_path: Path) -> None:
    files = make(tmp_path, THREE, scored=("validation", "test"))
    found = run(files)
    once = files.baselines.read_bytes()
    assert run(files) == found and files.baselines.read_bytes() == once
    assert all(isinstance(value, list) for value in found.values())
    assert {one["split"] for one in found["baselines"]} == {"validation", "test"}
    assert found["models"] == [
        {"baseline": "tfidf", "model": "logistic regression", "features": found["models"][0]["features"]}
        | {"examples": 120, "strength": found["models"][0]["strength"], "converged": True}
    ]


def test_a_model_that_is_no_different_is_not_told_apart(tmp_path: Path) -> None:
    files = make(tmp_path, TWO)
    noise = np.random.default_rng(0)
    labels = np.load(files.predictions / "validation" / "labels.npy")
    logits = np.stack([-(2.0 * labels - 1), 2.0 * labels - 1], axis=1) * 3
    logits[:2] *= -1
    np.save(
        files.predictions / "validation" / "logits.npy", (logits + noise.normal(size=logits.shape) / 9).astype("f4")
    )
    assert by_metric(run(files))["accuracy"]["fine_tuned_is"] == "cannot be told apart"


def test_nothing_asked_for_is_an_empty_file(tmp_path: Path) -> None:
    assert run(make(tmp_path, TWO), tfidf=False) == {"baselines": [], "models": []}


def test_groups_are_drawn_whole_and_widen_the_intervals(tmp_path: Path) -> None:
    """It is wrong on whole groups: thirty of them say less than 120 examples that were drawn alone."""
    found = []
    for name, more in (("alone", {}), ("grouped", {"group": lambda examples: [f"g{i // 4}" for i in range(examples)]})):
        files = make(tmp_path / name, TWO, **more)
        folder = files.predictions / "validation"
        labels = np.load(folder / "labels.npy")
        wrong = (np.arange(len(labels)) // 4) % 3 == 0
        np.save(folder / "logits.npy", 2 * np.eye(2, dtype=np.float32)[np.where(wrong, 1 - labels, labels)])
        found.append(by_metric(run(files))["accuracy"])
    alone, together = found
    assert (alone["groups"], together["groups"]) == (None, 30)
    assert together["value"] == pytest.approx(alone["value"], abs=0.05)
    widths = [one["high"] - one["low"] for one in found]
    assert widths[1] > 1.3 * widths[0]


def test_it_learns_from_the_rows_that_the_fine_tuned_model_was_trained_on_and_from_no_other(tmp_path: Path) -> None:
    files = make(tmp_path, TWO)
    whole = run(files)
    tokenized = Dataset.from_dict({"label": np.load(files.predictions / "validation" / "labels.npy")[:0]})
    labels = labels_of(np.random.default_rng(3), TWO, 120)
    save_splits({"train": split_of(TWO, labels[:50]), "validation": tokenized}, tmp_path / "first")
    fewer = run(replace(files, tokenized=tmp_path / "first"))
    assert (whole["models"][0]["examples"], fewer["models"][0]["examples"]) == (120, 50)


@pytest.mark.parametrize("bad", ["labels", "logits", "split"])
def test_what_cannot_be_scored_is_one_line(bad: str, tmp_path: Path) -> None:
    files = make(tmp_path, TWO)
    folder = files.predictions / "validation"
    if bad == "labels":
        np.save(folder / "labels.npy", np.full(120, -1))
        line = "params.yaml: evaluate.splits: the validation split has no labels to score against"
    elif bad == "logits":
        np.save(folder / "logits.npy", np.full((120, 2), np.nan, dtype=np.float32))
        line = "validation: non-finite logits in 120 rows"
    else:
        (tmp_path / "params.yaml").write_text(PARAMS.format(splits="[test]"))
        line = "params.yaml: evaluate.splits: no split 'test' to score, only validation"
    with pytest.raises(BadInput, match=line.replace(".", r"\.")):
        run(files)
    assert not files.baselines.exists()


# Words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The cat's 2 eyes", ["the", "cat", "s", "2", "eyes"]),
        ("iPhone很好用", ["iphone", "很", "好", "用"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("สวัสดี", list("สวัสดี")),
        ("caf\u0065\u0301 Straße", ["cafe\u0301", "straße"]),
        ("--- !", []),
    ],
)
def test_words_are_those_of_the_script(text: str, words: list[str]) -> None:
    import re

    assert re.findall(TOKEN, text.lower()) == words


def test_the_weights_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(1)  # no two of whose words share a place
    texts = [" ".join(generator.choice(WORDS, 9)) for _ in range(60)]
    counts = [count_words(texts)]
    ours = TfIdf(counts, 2)(counts).toarray()
    theirs = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2).fit_transform(texts).toarray()
    # the columns are in another order: that of hashes
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours @ ours.T, theirs @ theirs.T, atol=1e-12)


def test_a_pair_whose_texts_repeat_each_other_is_seen_as_one(tmp_path: Path) -> None:
    """No word tells anything here: only that the second text has the words of the first."""

    def pairs(labels: np.ndarray) -> dict[str, list[str]]:
        generator = np.random.default_rng(len(labels))
        firsts = [generator.choice(WORDS, 6, replace=False) for _ in labels]
        seconds = [
            generator.permutation(one) if label else generator.choice(sorted(set(WORDS) - set(one)), 6)
            for one, label in zip(firsts, labels, strict=True)
        ]
        return {name: [" ".join(one) for one in part] for name, part in (("text", firsts), ("text_pair", seconds))}

    assert by_metric(run(make(tmp_path, TWO, pairs=pairs)))["accuracy"]["value"] > 0.95


def test_texts_without_words_are_no_trouble(tmp_path: Path) -> None:
    empty = make(tmp_path, TWO, pairs=lambda labels: {"text": ["" for _ in labels], "text_pair": ["!" for _ in labels]})
    found = by_metric(run(empty))
    assert 0.3 < found["accuracy"]["value"] < 0.7


# Bounds


def test_more_text_than_memory_allows_is_drawn_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = make(tmp_path, TWO)
    monkeypatch.setattr(module, "MOST_BYTES", 3000)
    found = run(files)
    assert 20 < found["models"][0]["examples"] < 60  # of about 60 bytes each
    rows = drawn(np.full(100, 10), 200)
    assert len(rows) == 20 and (np.diff(rows) > 0).all() and rows[-1] > 50
    assert len(drawn(np.full(100, 10), 5)) == 1


def test_there_are_never_more_weights_than_the_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    from stages.baselines import tfidf

    monkeypatch.setattr(tfidf, "MOST_WEIGHTS", 60)
    counts = [count_words(["one two three four five six"] * 3 + ["one two"] * 3)]
    matrix = TfIdf(counts, 20)(counts)
    assert matrix.shape == (6, 3)
    assert (matrix.toarray()[3:] > 0).all()  # those in the most texts: one, two, and both


# The linear models


def features_of(task: Task, examples: int = 80) -> tuple[sparse.csr_matrix, np.ndarray]:
    generator = np.random.default_rng(1)
    labels = labels_of(generator, task, examples)
    return sparse.csr_matrix(generator.normal(size=(examples, 7)) + labels.reshape(examples, -1)[:, :1]), labels


def test_the_models_are_scikit_learns() -> None:
    features, labels = features_of(THREE)
    theirs = LogisticRegression(C=10.0, tol=1e-8, max_iter=9999).fit(features, labels)
    ours = fit(THREE, features, labels, 10.0)
    probabilities = THREE.classification.probabilities(ours.logits(features))
    np.testing.assert_allclose(probabilities, theirs.predict_proba(features), atol=1e-3)
    features, labels = features_of(NUMBER)
    theirs = Ridge(alpha=0.1, solver="cholesky").fit(features.toarray(), labels)
    np.testing.assert_allclose(
        fit(NUMBER, features, labels, 10.0).logits(features)[:, 0], theirs.predict(features.toarray()), atol=1e-4
    )


def test_a_label_that_train_does_not_have_is_unlikely_and_not_impossible() -> None:
    features, labels = features_of(replace(THREE, label_names=["a", "b", "c", "d", "e"]))
    for missing in (1, 4):
        task = replace(THREE, label_names=["a", "b", "c", "d", "e"])
        kept = labels != missing
        logits = fit(task, features[kept], labels[kept], 1.0).logits(features)
        probability = task.classification.probabilities(logits)[:, missing]
        assert np.isfinite(logits).all() and (probability < 1 / kept.sum()).all() and (probability > 0).all()
    alone = fit(THREE, features, np.full(80, 2), 1.0).logits(features)
    assert (alone.argmax(axis=1) == 2).all() and np.isfinite(alone).all()
    features, labels = features_of(SEVERAL)
    labels[:, 0], labels[:, 2] = 0, 1
    logits = fit(SEVERAL, features, labels, 1.0).logits(features)
    assert (logits[:, 0] < -4).all() and (logits[:, 2] > 4).all() and np.isfinite(logits).all()


def test_the_strength_is_chosen_on_what_is_held_out_of_train() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 400)
    noise = generator.normal(size=(400, 300))
    assert fit_chosen(TWO, noise, labels, None).strength == 0.1  # nothing to learn: the less the better
    noise[:, 0] = 0.05 * (2 * labels - 1)
    noise[:, 1:] = 0
    assert fit_chosen(TWO, noise, labels, None).strength == 100.0
    assert fit_chosen(TWO, noise[:19], labels[:19], None).strength == 1.0


def test_a_group_is_held_out_whole() -> None:
    """What is learned of a group by heart is worth nothing for another one, and the choice must see that."""
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(300), 3)
    labels = np.repeat(generator.integers(0, 2, 300), 3)
    by_heart = generator.normal(size=(300, 400))[groups]
    assert fit_chosen(TWO, by_heart, labels, None).strength == 100.0
    assert fit_chosen(TWO, by_heart, labels, groups).strength == 0.1


# The frozen encoder


def test_the_frozen_encoder_reads_the_mean_of_the_last_layer(tiny_checkpoint: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    from stages.baselines.encoder import FrozenEncoder

    tokenizer, model = AutoTokenizer.from_pretrained(tiny_checkpoint), AutoModel.from_pretrained(tiny_checkpoint).eval()
    texts = [("a bird of the night", "an owl"), ("a house", "for a dog and for all of its friends"), ("so", "it")] * 3
    encoded = [tokenizer(*pair) for pair in texts]
    tokens = {name: [one[name] for one in encoded] for name in ("input_ids", "token_type_ids")}
    lengths = {"length": [len(one["input_ids"]) for one in encoded]}
    features = Features({name: List(Value("int32")) for name in tokens} | {"length": Value("int32")})
    split = Dataset.from_dict(tokens | lengths, features=features)
    section = {"arithmetic": "portable", "token_budget": 40, "threads": 1}
    encoder = FrozenEncoder(section, "cpu", tiny_checkpoint)
    found = encoder(split, np.arange(9))
    assert found.shape == (9, 32)
    np.testing.assert_allclose(encoder(split, np.array([2, 4, 7])), found[[2, 4, 7]], atol=1e-6)
    with pytest.raises(AssertionError, match="a selection of rows"):
        encoder(split.select([2, 4, 7]), np.arange(3))
    with torch.no_grad():
        for pair, row in zip(texts, found, strict=True):
            expected = model(**tokenizer(*pair, return_tensors="pt")).last_hidden_state[0].mean(0)
            np.testing.assert_allclose(row, expected.numpy(), atol=1e-5)


@pytest.mark.slow
def test_the_stage_runs_with_both_models_and_again_with_the_same_bytes(tiny: Project) -> None:
    first = json.loads(tiny.read("metrics/baselines.json"))
    assert [one["baseline"] for one in first["models"]] == ["tfidf"]
    scores = tiny.read("metrics/metrics.json")
    tiny.set(baselines__frozen_encoder=True)
    assert tiny.repro() == ["baselines", "report"]
    written = tiny.read("metrics/baselines.json")
    tfidf, encoder = json.loads(written)["models"]
    assert tfidf == first["models"][0] and (encoder["baseline"], encoder["features"]) == ("frozen_encoder", 32)
    assert encoder["examples"] == tfidf["examples"] == 40
    assert tiny.read("metrics/metrics.json") == scores and "frozen encoder" in tiny.read("metrics/report.html")
    tiny.run("python", "-m", "stages.baselines")
    assert tiny.read("metrics/baselines.json") == written


@pytest.mark.slow
def test_a_label_that_is_asked_for_is_in_dvc_metrics_diff_and_no_other(tiny: Project) -> None:
    tiny.set(evaluate__per_class=["equivalent"])
    assert tiny.repro("evaluate") == ["evaluate"]
    said = tiny.run("dvc", "metrics", "diff", "HEAD").stdout
    assert "validation.equivalent.recall" in said and "not_equivalent" not in said
    assert "baselines" not in said and "metrics/metrics.json" not in said
