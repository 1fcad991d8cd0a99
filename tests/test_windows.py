"""Long texts: their beginning, both their ends, or all of them in windows, alike in every stage and command."""

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from ship import export, score
from stages.predict.predict import PredictFiles, PredictParams, predict
from stages.shared.model import batches
from stages.shared.model.batches import Pieces
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.splits import load_splits, save_splits
from stages.tokenize.cuts import Cut
from stages.train.dropout import draw_by_step
from stages.train.windows import WindowCollator, of_texts, read_in_windows
from tests.project import PARAMS
from tests.shipped import Shipped, make_shipped, predicted
from tests.test_score import logits_of, read, write
from tests.test_tokenize import run as run_tokenize
from tests.test_tokenize import words
from tests.test_train import Run, content, interrupt
from tests.tiny import EXECUTION, make_checkpoint

WINDOWS: dict[str, Any] = {"long_texts": "windows", "stride": 4}
SHORT: dict[str, Any] = {"max_length": 16, **WINDOWS}  # most pairs of the sample have several windows


# Which tokens


def test_the_windows_of_a_text_are_those_of_the_tokenizer(tiny_checkpoint: Path, tmp_path: Path) -> None:
    texts = [words(number) for number in range(30)]
    rows = Dataset.from_dict({"text": texts, "label": [0] * len(texts), "idx": range(len(texts))})
    save_splits({"train": rows}, tmp_path / "raw")
    plain = AutoTokenizer.from_pretrained(tiny_checkpoint)
    for max_length, stride in ((6, 0), (8, 1), (9, 5), (16, 4)):
        train = run_tokenize(
            tmp_path / "raw", tiny_checkpoint, max_length=max_length, long_texts="windows", stride=stride
        )["train"]
        cut = {"truncation": True, "max_length": max_length, "stride": stride, "return_overflowing_tokens": True}
        for row, text in zip(train, texts, strict=True):
            expected = plain(text, **cut)["input_ids"]
            assert row["windows"] == list(map(len, expected))
            assert row["input_ids"] == [token for window in expected for token in window]
            assert row["length"] == sum(row["windows"])


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_windows_of_a_pair_hold_all_of_the_longer_text_and_as_much_of_the_other_as_has_half_the_room(
    side: str,
) -> None:
    for first, second, stride in product(range(14), range(14), (0, 2)):
        sequences = [None, *[0] * first, None, *[1] * second, None]
        if len(sequences) <= 12:
            continue
        windows = Cut(12, "windows", stride).places(sequences, side)
        (truncated,) = Cut(12).places(sequences, side)
        texts = [
            {place for place, number in enumerate(sequences) if number == text and place in window}
            for window in windows
            for text in (0, 1)
        ]
        longer = 1 if first <= second else 0
        whole = {place for place, number in enumerate(sequences) if number == longer}
        assert set.union(*texts[longer::2]) == whole
        added = {place for place, number in enumerate(sequences) if number is None}
        assert all(len(window) <= 12 and added <= set(window.tolist()) for window in windows)
        assert len({frozenset(text) for text in texts[1 - longer :: 2]}) == 1  # the other text is the same in each
        assert len(texts[1 - longer]) == min((first, second)[1 - longer], 9 // 2)
        for one, other in zip(texts[longer::2], texts[longer + 2 :: 2], strict=False):
            assert len(one & other) == stride and min(one) < min(other)
        if side == "right":
            assert windows[0].tolist() == truncated.tolist()


def test_head_tail_keeps_the_first_quarter_and_the_last_three_quarters_of_what_fits() -> None:
    (kept,) = Cut(10, "head_tail").places([None, *[0] * 20, None], "right")
    assert kept.tolist() == [0, 1, 2, 15, 16, 17, 18, 19, 20, 21]
    (pair,) = Cut(11, "head_tail").places([None, 0, 0, None, *[1] * 20, None], "right")
    assert pair.tolist() == [0, 1, 2, 3, 4, 19, 20, 21, 22, 23, 24]


def test_head_tail_leaves_texts_that_fit_as_they_are(tmp_path: Path, tiny_checkpoint: Path) -> None:
    rows = Dataset.from_dict({"text": [words(5), words(40)], "label": [0, 1], "idx": [0, 1]})
    save_splits({"train": rows}, tmp_path / "raw")
    train = run_tokenize(tmp_path / "raw", tiny_checkpoint, max_length=10, long_texts="head_tail")["train"]
    ids = AutoTokenizer.from_pretrained(tiny_checkpoint)([words(5), words(40)])["input_ids"]
    assert train["input_ids"] == [ids[0], ids[1][:3] + ids[1][-7:]]
    assert "windows" not in train.column_names
    facts = json.loads((tmp_path / "truncation.json").read_text())["splits"][0]
    assert facts["truncated"] == 1 and "windows" not in facts


def test_what_is_read_in_windows_is_counted_and_said(
    tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = Dataset.from_dict({"text": [words(5), words(40), words(14)], "label": [0, 1, 1], "idx": [0, 1, 2]})
    save_splits({"train": rows}, tmp_path / "raw")
    run_tokenize(tmp_path / "raw", tiny_checkpoint, **SHORT)
    (facts,) = json.loads((tmp_path / "truncation.json").read_text())["splits"]
    assert facts["windows"] == {"examples": 1, "mean": 2.0, "most": 4}
    assert (facts["truncated"], facts["tokens"]["longest"]) == (0, 60)
    line = "tokenize: 1 of 3 train examples (33.3%) are longer than tokenize.max_length 16 and are read in windows, at "
    assert line + "most 4 of them" in capsys.readouterr().err


def test_a_text_of_a_pair_that_windows_leave_out_in_part_counts_as_truncated(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    columns = {"text": [words(3), words(20)], "text_pair": [words(40), words(20)]}
    save_splits({"train": Dataset.from_dict(columns | {"label": [0, 1], "idx": [0, 1]})}, tmp_path / "raw")
    run_tokenize(tmp_path / "raw", tiny_checkpoint, **SHORT)
    (facts,) = json.loads((tmp_path / "truncation.json").read_text())["splits"]
    assert (facts["truncated"], facts["windows"]["examples"]) == (1, 2)


@pytest.mark.parametrize(
    ("pairs", "stride", "line"),
    [
        (False, 14, "must be below 14, the 14 tokens of a window that are not added by the tokenizer, got 14"),
        (True, 7, "must be below 7, half of the 13 tokens of a window that are not added by the tokenizer, got 7"),
    ],
)
def test_windows_that_do_not_move_on_are_refused(
    pairs: bool, stride: int, line: str, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    columns = {"text": [words(40)], **({"text_pair": [words(40)]} if pairs else {})}
    save_splits({"train": Dataset.from_dict(columns | {"label": [0], "idx": [0]})}, tmp_path / "raw")
    with pytest.raises(BadInput, match=f"params.yaml: tokenize.stride: {line}"):
        run_tokenize(tmp_path / "raw", tiny_checkpoint, max_length=16, long_texts="windows", stride=stride)
    run_tokenize(tmp_path / "raw", tiny_checkpoint, max_length=16, long_texts="windows", stride=stride - 1)
    run_tokenize(tmp_path / "raw", tiny_checkpoint, max_length=16, long_texts="truncate", stride=stride)


# Training


def run_of(folder: Path, checkpoint: Path, rows: list[dict[str, str]], **cut: Any) -> Run:
    return Run(folder, checkpoint, rows, **(SHORT | cut))


def test_what_is_computed_twice_has_the_gradient_of_what_is_kept(
    tmp_path: Path, tiny_checkpoint: Path, sample_rows: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tmp_path, tiny_checkpoint, sample_rows)
    split = load_splits(run.folder / "tokenized")["train"].select(range(8))
    batch = WindowCollator(AutoTokenizer.from_pretrained(tiny_checkpoint))(list(split))
    assert batch["windows"].tolist() == list(map(len, split["windows"])) and len(batch["input_ids"]) > 16
    labels = batch.pop("labels")

    def gradients() -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_pretrained(tiny_checkpoint, num_labels=2).train()
        dropout = draw_by_step(model, 5)
        read_in_windows(model, "mean", 3, dropout)
        dropout.start(1, 0, 0)
        torch.nn.functional.cross_entropy(model(**batch).logits, labels).backward()
        return [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]

    again = gradients()
    computed: list[int] = []

    def keep(part: Callable[[int], torch.Tensor], number: int, **_: Any) -> torch.Tensor:
        computed.append(number)
        return part(number)

    monkeypatch.setattr("stages.train.windows.checkpoint", keep)
    kept = gradients()
    assert len(computed) > 5 and len(again) == len(kept) > 30
    assert all(torch.equal(one, other) for one, other in zip(again, kept, strict=True))


def test_a_training_in_windows_keeps_no_more_of_a_long_text_than_of_a_short_one(tiny_checkpoint: Path) -> None:
    """Counted in what autograd saves: with more windows it is the logits alone that are more."""

    def saved(windows: int) -> int:
        model = AutoModelForSequenceClassification.from_pretrained(tiny_checkpoint, num_labels=2).train()
        read_in_windows(model, "mean", 4, None)
        ids = torch.randint(5, 60, (windows, 32))
        tensors: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda kept: tensors.append(kept.numel()) or kept, lambda kept: kept
        ):
            model(windows=torch.tensor([windows]), input_ids=ids, attention_mask=torch.ones_like(ids))
        return sum(tensors)

    assert saved(64) < saved(8) + 1000 < saved(4)


@pytest.mark.parametrize("how", ["mean", "max"])
def test_the_logits_of_a_text_are_those_of_its_windows(how: Any) -> None:
    logits = torch.tensor([[1.0, 5.0], [3.0, 1.0], [2.0, 2.0]])
    found = of_texts(logits, torch.tensor([2, 1]), how).tolist()
    assert found == ([[2.0, 3.0], [2.0, 2.0]] if how == "mean" else [[3.0, 5.0], [2.0, 2.0]])


def test_a_training_in_windows_does_not_depend_on_how_many_are_computed_at_once(
    tmp_path: Path, sample_rows: list[dict[str, str]]
) -> None:
    still = make_checkpoint(tmp_path / "still", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    run = run_of(tmp_path, still, sample_rows)
    whole = load_file(run("whole") / "finetuned" / "model.safetensors")
    parts = load_file(run("parts", device_batch_size=2) / "finetuned" / "model.safetensors")
    assert max(float((whole[name] - parts[name]).abs().max()) for name in whole) < 1e-4


@pytest.mark.parametrize("arithmetic", ["portable", pytest.param("bf16", marks=pytest.mark.exhaustive)])
def test_an_interrupted_training_in_windows_ends_with_the_same_bytes(
    arithmetic: str,
    tmp_path: Path,
    tiny_checkpoint: Path,
    sample_rows: list[dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = run_of(tmp_path, tiny_checkpoint, sample_rows)
    recipe: dict[str, Any] = {"device_batch_size": 4, "arithmetic": arithmetic}
    whole = content(run("whole", **recipe))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, 13)
        run("resumed", minutes=1e-9, **recipe)
    assert content(run("resumed", **recipe)) == whole


def test_what_fits_in_one_window_is_trained_to_the_same_answers_with_windows_and_without(
    tmp_path: Path, sample_rows: list[dict[str, str]]
) -> None:
    still = make_checkpoint(tmp_path / "still", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    weights = [
        load_file(Run(tmp_path / name, still, sample_rows, max_length=128, **cut)() / "finetuned" / "model.safetensors")
        for name, cut in (("windows", WINDOWS), ("cut", {}))
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


# Prediction


def predict_in(folder: Path, finetuned: Path, out: str = "predictions", budget: int = 128) -> np.ndarray:
    p = PredictParams(**(PARAMS["predict"] | {"token_budget": budget}))
    predict(
        p, EXECUTION, PredictFiles(folder / "tokenized", folder / "task.json", finetuned, folder / out, folder / "x")
    )
    assert not (folder / "x").exists()
    return np.load(folder / out / "validation" / "logits.npy")


@pytest.mark.parametrize("how", ["mean", "max"])
def test_predict_gives_a_text_one_row_made_of_its_windows(
    how: str, tmp_path: Path, tiny_checkpoint: Path, sample_rows: list[dict[str, str]]
) -> None:
    run = run_of(tmp_path, tiny_checkpoint, sample_rows, window_logits=how)
    finetuned = run("out", epochs=1) / "finetuned"
    logits = predict_in(run.folder, finetuned)
    split = load_splits(run.folder / "tokenized")["validation"]
    assert logits.shape == (len(split), 2) and max(map(len, split["windows"])) > 2
    model = AutoModelForSequenceClassification.from_pretrained(finetuned).eval()
    for row, found in zip(split, logits, strict=True):
        ends = np.cumsum(row["windows"])
        with torch.no_grad():
            answers = [
                model(**{name: torch.tensor([row[name][end - size : end]]) for name in ("input_ids", "token_type_ids")})
                for end, size in zip(ends, row["windows"], strict=True)
            ]
        each = torch.cat([answer.logits for answer in answers]).numpy()
        assert found == pytest.approx(each.mean(axis=0) if how == "mean" else each.max(axis=0), abs=1e-5)
    assert (np.load(run.folder / "out" / "epochs.npy")[-1] == logits.argmax(axis=1)).all()


@pytest.fixture
def scored_of(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Shipped]:
    def make(pairs: bool = True, **cut: Any) -> Shipped:
        made = make_shipped(tmp_path / "shipped", tiny_checkpoint, "single_label_classification", pairs, **cut)
        monkeypatch.chdir(made.folder)
        return made

    return make


@pytest.mark.parametrize(
    ("pairs", "cut"),
    [
        (True, {**WINDOWS, "window_logits": "max"}),
        (False, {**WINDOWS, "stride": 0, "window_logits": "mean"}),
        (True, {"long_texts": "head_tail"}),
    ],
)
def test_score_gives_long_texts_the_logits_of_predict_byte_for_byte(
    scored_of: Callable[..., Shipped], pairs: bool, cut: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.shipped.MAX_LENGTH", 24)
    shipped = scored_of(pairs, **cut)
    file, out = write(tmp_path / "rows.jsonl", shipped.rows), tmp_path / "out.jsonl"
    assert score.main([str(file), "--out", str(out), "--logits"]) == 0
    assert logits_of(read(out)).tobytes() == shipped.logits.tobytes()
    monkeypatch.setattr(batches, "WINDOW", 16)
    again = predicted(shipped.folder, shipped.task, shipped.columns, shipped.rows, **cut)
    if cut["long_texts"] == "windows":  # else nearly all rows are as long, and no padding is another
        assert again.tobytes() != shipped.logits.tobytes()  # the batches are others, and so is the rounding
    assert score.main([str(file), "--out", str(out), "--logits"]) == 0
    assert logits_of(read(out)).tobytes() == again.tobytes()


def test_an_export_of_a_model_that_reads_in_windows_is_refused(
    scored_of: Callable[..., Shipped], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scored_of(**WINDOWS)
    monkeypatch.setattr(export, "check_packages", lambda: None)
    assert export.main(["--onnx"]) == 1
    assert (
        "tokenize.long_texts is windows, and an exported model answers one window at a time" in capsys.readouterr().err
    )


def test_a_file_without_any_text_is_scored_in_windows_too(scored_of: Callable[..., Shipped], tmp_path: Path) -> None:
    scored_of(False, **WINDOWS)
    file, out = write(tmp_path / "rows.jsonl", [{"first": " "}, {"first": ""}]), tmp_path / "out.jsonl"
    assert score.main([str(file), "--out", str(out), "--on-empty", "skip"]) == 0
    assert [row["predicted_label"] for row in read(out)] == [None, None]


def test_pieces_are_where_the_windows_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "WINDOW", 2)
    windows = [[3, 2], [1], [4, 4, 1], [2], [5]]
    rows = Dataset.from_dict(
        {"input_ids": [list(range(sum(row))) for row in windows], "windows": windows, "length": list(map(sum, windows))}
    )
    save_splits({"validation": rows}, tmp_path)
    pieces = Pieces(load_splits(tmp_path)["validation"])
    assert pieces.lengths.tolist() == [3, 2, 1, 4, 4, 1, 2, 5] and list(pieces.blocks()) == [0, 3, 7]
    numbers, starts = pieces.places(np.arange(8))
    assert (numbers.tolist(), starts.tolist()) == ([0, 0, 1, 2, 2, 2, 3, 4], [0, 3, 0, 0, 4, 8, 0, 0])
    numbers, counts = pieces.inside(np.array([0, 2, 4]))
    assert (numbers.tolist(), counts.tolist()) == ([0, 1, 3, 4, 5, 7], [2, 3, 1])
    logits = np.arange(16, dtype=np.float32).reshape(8, 2)
    assert np.concatenate(list(pieces.of_rows(logits, "max")))[:, 0].tolist() == [2, 4, 10, 12, 14]
    assert np.concatenate(list(pieces.of_rows(logits, "mean")))[:, 0].tolist() == [1, 4, 8, 12, 14]
    cut = [numbers.tolist() for numbers in batches.batches(pieces.lengths, 8, pieces.blocks())]
    assert cut == [[0, 1], [2], [3, 4], [6, 5], [7]]


# What it is for


@pytest.mark.slow
def test_a_fact_in_the_last_sentence_of_3000_words_is_found_with_windows_and_not_where_the_text_is_cut(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    """Trained on short texts, most of two windows, in which one letter among others decides."""
    generator = np.random.default_rng(0)

    def rows(number: int, length: int, last: bool) -> Dataset:
        texts, labels = [], [place % 2 for place in range(number)]
        for label in labels:
            letters = generator.choice(list("abcdefghijklm"), length).tolist()
            letters[length - 3 if last else int(generator.integers(length))] = "xz"[label]
            texts.append(" ".join(letters))
        features = Features({"text": Value("string"), "label": ClassLabel(names=["x", "z"]), "idx": Value("int32")})
        return Dataset.from_dict({"text": texts, "label": labels, "idx": range(number)}, features)

    splits = {"train": rows(240, 40, False), "validation": rows(20, 40, False), "test": rows(16, 3000, True)}
    right = {}
    for name, cut in (("windows", {**WINDOWS, "window_logits": "max"}), ("truncate", {})):
        run = Run(tmp_path / name, tiny_checkpoint, splits, max_length=32, **cut)
        finetuned = run(epochs=10, batch_size=16, device_batch_size=16, learning_rate=3e-3) / "finetuned"
        predict_in(run.folder, finetuned, budget=4096)
        logits = np.load(run.folder / "predictions" / "test" / "logits.npy")
        right[name] = (logits.argmax(axis=1) == np.array(splits["test"]["label"])).mean()
    assert right["windows"] >= 0.9 > 0.7 >= right["truncate"]
