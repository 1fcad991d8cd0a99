"""What is trained, and what predicts, is what lies in the files: every tensor is accounted for."""

import contextlib
import copy
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from transformers import set_seed

from stages.predict.predict import PredictFiles, Predictor, PredictParams, predict
from stages.shared.model.loading import load_tokenizer
from stages.shared.runtime.errors import BadInput
from stages.shared.task.task import Task
from stages.tokenize.checkpoint import load_tokenizer as tokenizer_for
from stages.train.model import last_layer, load_pretrained
from tests.test_headers import config, cut, prefixed, shard, tensors
from tests.test_train import Run, history, selection
from tests.tiny import EXECUTION

Tensors = dict[str, torch.Tensor]
NEW_HEAD = "The classification head was new; everything else is the checkpoint's."


def task(*names: str, problem: Any = "single_label_classification") -> Task:
    return Task("files", problem, list(names), ["accuracy"], "files", "0")


TWO = task("not_equivalent", "equivalent")


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint, whose tensors have no prefix: it was saved as a BertModel."""
    return shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")


def refusal(folder: Path, asked: Task = TWO) -> str:
    with pytest.raises(BadInput) as raised:
        load_pretrained(folder, asked, 1)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_only_the_head_is_new_and_drawn_from_the_seed(folder: Path, capsys: Any) -> None:
    model, origin = load_pretrained(folder, TWO, 1)
    stored = {f"bert.{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    loaded = model.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in stored.items())
    assert origin.new == sorted(loaded.keys() - stored.keys()) == ["classifier.bias", "classifier.weight"]
    assert origin.summary == NEW_HEAD and not origin.unused and not origin.reordered
    assert capsys.readouterr().err.splitlines()[-1] == (
        "train: the classification head was new; everything else is the checkpoint's"
    )
    set_seed(1)
    usual = hf.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2, dtype=torch.float32)
    assert torch.equal(usual.classifier.weight, model.classifier.weight)
    other, _ = load_pretrained(folder, TWO, 2)
    assert not torch.equal(other.classifier.weight, model.classifier.weight)


def test_the_names_of_old_are_the_models_too(folder: Path) -> None:
    """bert-base-uncased and its like call the weights of their layer norms gamma and beta."""
    expected = load_pretrained(folder, TWO, 1)[0].state_dict()
    new = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}

    def rename(stored: Tensors) -> Tensors:
        for name, old in new.items():
            stored = {key.replace(name, old): tensor + 1 if name in key else tensor for key, tensor in stored.items()}
        return stored

    tensors(rename)(folder)
    model, origin = load_pretrained(folder, TWO, 1)
    assert origin.summary == NEW_HEAD
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, expected[name] + ("LayerNorm" in name)), name


# What is not the whole encoder


def without(*names: str) -> Callable[[Path], None]:
    return tensors(lambda stored: {name: tensor for name, tensor in stored.items() if name not in names})


def renamed(part: str, other: str) -> Callable[[Path], None]:
    return tensors(lambda stored: {name.replace(part, other): tensor for name, tensor in stored.items()})


def layer_twice(stored: Tensors) -> Tensors:
    return stored | {name.replace("layer.1.", "layer.2."): tensor.clone() for name, tensor in stored.items()}


QUERY = "encoder.layer.1.attention.self.query"
NOT_WHOLE: dict[str, tuple[Callable[[Path], None], str]] = {
    "module.": (prefixed("module."), r"100.0 % of the encoder would be random: its names begin with 'module.'"),
    "_orig_mod.": (prefixed("_orig_mod."), r"100.0 % .*: its names begin with '_orig_mod.'"),
    "model. before the model's own": (prefixed("model.bert."), r"100.0 % .*: its names begin with 'model.'"),
    "another model's prefix": (prefixed("roberta."), r"100.0 % .*: its names begin with 'roberta.'"),
    "a wrapper inside": (
        renamed("encoder.layer", "encoder._orig_mod.layer"),
        r"missing \(bert.encoder.layer.0.* no place for \(encoder._orig_mod.layer.0.*would be random",
    ),
    "names without a sense": (renamed("encoder", "body"), r"32 tensors missing \(bert.encoder.layer.0.attention"),
    "a tensor that is missing": (
        without(f"{QUERY}.weight"),
        rf"checkpoint: not the encoder that config.json describes: 1 tensor missing \(bert.{QUERY}.weight\); \d.\d %",
    ),
    "a layer norm that is missing": (without("embeddings.LayerNorm.bias"), r"1 tensor missing .* 0.1 % of the encoder"),
    "half a pooler": (without("pooler.dense.bias"), r"1 tensor missing \(bert.pooler.dense.bias\)"),
    "a pooler by another name": (
        renamed("pooler.dense", "pooler.linear"),
        r"2 tensors missing \(bert.pooler.dense.bias",
    ),
    "a pooler of another shape": (
        tensors(lambda stored: stored | {"pooler.dense.weight": torch.zeros(16, 32)}),
        r"1 tensor of another shape \(bert.pooler.dense.weight: \[16, 32\] in the file, \[32, 32\] by config.json\)",
    ),
    "vocab_size": (
        lambda folder: config(vocab_size=json.loads((folder / "config.json").read_text())["vocab_size"] + 8)(folder),
        r"1 tensor of another shape \(bert.embeddings.word_embeddings.weight: \[\d+, 32\] in the file, .*; \d\d.\d %",
    ),
    "intermediate_size": (
        config(intermediate_size=128),
        r"6 tensors of another shape \(bert.encoder.layer.0.intermedia",
    ),
    "more layers": (config(num_hidden_layers=3), r"16 tensors missing \(bert.encoder.layer.2."),
    "fewer layers": (
        config(num_hidden_layers=1),
        r"16 tensors that the model has no place for \(encoder.layer.1.*; part of it would be left out: use the config",
    ),
    "a layer that config.json does not know": (tensors(layer_twice), r"16 tensors that the model has no place for"),
    "an adapter": (
        tensors(lambda stored: stored | {f"{QUERY}.adapter.down.weight": torch.zeros(4, 32)}),
        rf"1 tensor that the model has no place for \({QUERY}.adapter.down.weight\)",
    ),
    "another architecture": (config(model_type="distilbert"), r"missing \(distilbert."),
    "nothing but a head": (
        tensors(lambda _: {"classifier.weight": torch.zeros(2, 32), "classifier.bias": torch.zeros(2)}),
        r"37 tensors missing .*; 100.0 % of the encoder would be random",
    ),
    "weights that are damaged": (cut, r"checkpoint: cannot be loaded as a model: .*header"),
    "a config that makes no model": (
        config(num_attention_heads=5),
        r"checkpoint: cannot be loaded as a model: .*heads",
    ),
    "a config with a text for a number": (config(hidden_size="wide"), r"checkpoint: cannot be loaded as a model: "),
}


@pytest.mark.parametrize("case", NOT_WHOLE)
def test_what_is_not_the_whole_encoder_is_refused(case: str, folder: Path) -> None:
    change, message = NOT_WHOLE[case]
    change(folder)
    line = refusal(folder)
    assert re.search(message, line), line


def test_the_refusal_comes_before_the_first_step(
    tmp_path: Path, tiny_checkpoint: Path, sample_rows: list[dict[str, str]]
) -> None:
    run = Run(tmp_path, shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"), sample_rows)
    prefixed("module.")(run.checkpoint)
    with pytest.raises(BadInput, match=r"checkpoint: not the encoder that config.json describes: 39 tensors missing"):
        run()
    assert not list((tmp_path / "out").iterdir()) and not list((tmp_path / "scratch").rglob("checkpoint-*"))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_no_numbers_are_named(value: float, folder: Path) -> None:
    def spoil(stored: Tensors) -> Tensors:
        stored[f"{QUERY}.weight"][3, 5] = value
        return stored

    tensors(spoil)(folder)
    line = refusal(folder)
    assert f"checkpoint: NaN or infinite weights in 1 tensor (bert.{QUERY}.weight)" in line
    assert "learning_rate" not in line


# What a checkpoint may lack, and what it may have besides


def test_a_pooler_that_the_checkpoint_never_had_is_new_and_said(folder: Path, capsys: Any) -> None:
    without("pooler.dense.weight", "pooler.dense.bias")(folder)
    _, origin = load_pretrained(folder, TWO, 1)
    assert origin.summary == "The classification head and the pooler were new; everything else is the checkpoint's."
    assert "bert.pooler.dense.weight" in origin.new
    assert "the classification head and the pooler were new" in capsys.readouterr().err


def test_the_heads_of_the_pretraining_are_counted_in_one_line(folder: Path, capsys: Any) -> None:
    stored = hf.BertForPreTraining.from_pretrained(folder)
    stored.save_pretrained(folder)
    capsys.readouterr()
    _, origin = load_pretrained(folder, TWO, 1)
    assert origin.summary == NEW_HEAD and origin.unused == {"cls.*": 7}
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "cls" in line and line.startswith("train:")]
    assert line == "train: not used, because a classifier does not need them: 7 tensors, cls.* (7)"


def test_numbered_positions_and_shards_are_nothing_special(folder: Path) -> None:
    tensors(lambda stored: stored | {"embeddings.position_ids": torch.arange(128)[None]})(folder)
    expected = load_pretrained(folder, TWO, 1)
    assert expected[1].summary == NEW_HEAD and not expected[1].unused
    shard(folder)
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    model, origin = load_pretrained(folder, TWO, 1)
    assert origin == expected[1]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected[0].parameters(), strict=True))


# A checkpoint with a head of its own


def own(folder: Path, *names: str, problem: str | None = "single_label_classification", rows: int = 0) -> Tensors:
    """Makes a fine-tuned model of the tiny checkpoint, and returns its tensors."""
    labels = dict(enumerate(names))
    maps = {"id2label": labels, "label2id": {name: row for row, name in labels.items()}} if names else {}
    set_seed(7)
    model = hf.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=len(names) or rows, **maps)
    with torch.no_grad():
        model.classifier.bias.normal_()
    model.config.problem_type = problem
    model.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("problem", ["single_label_classification", "multi_label_classification"])
def test_the_rows_of_an_own_head_follow_the_names_of_the_labels(problem: str, folder: Path, capsys: Any) -> None:
    stored = own(folder, "a", "b", "c", problem=problem)
    model, origin = load_pretrained(folder, task("c", "a", "b", problem=problem), 1)
    assert torch.equal(model.classifier.weight, stored["classifier.weight"][[2, 0, 1]])
    assert torch.equal(model.classifier.bias, stored["classifier.bias"][[2, 0, 1]])
    assert model.config.id2label == {0: "c", 1: "a", 2: "b"}
    assert origin.new == [] and origin.reordered == ["classifier.bias", "classifier.weight"]
    said = (
        "nothing was new: the classification head is the checkpoint's too, its rows in the order of this task's labels"
    )
    assert f"train: {said}\n" in capsys.readouterr().err


def test_an_own_head_with_the_same_labels_is_kept(folder: Path, capsys: Any) -> None:
    stored = own(folder, "a", "b", problem=None)  # as many publish it
    model, origin = load_pretrained(folder, task("a", "b"), 1)
    assert torch.equal(model.classifier.weight, stored["classifier.weight"])
    assert origin.summary == "Nothing was new: the classification head is the checkpoint's too."
    assert "train: nothing was new: the classification head is the checkpoint's too\n" in capsys.readouterr().err


@pytest.mark.parametrize("problem", ["regression", None])
def test_an_own_head_for_a_number_is_kept_for_a_number(problem: str | None, folder: Path) -> None:
    stored = own(folder, problem=problem, rows=1)
    model, origin = load_pretrained(folder, task(problem="regression"), 1)
    assert torch.equal(model.classifier.weight, stored["classifier.weight"]) and not origin.new


OTHER_HEADS: dict[str, tuple[Callable[[Path], Any], Task, str]] = {
    "other names": (lambda folder: own(folder, "x", "y"), TWO, r"for other labels \(x, y\)"),
    "one other name": (lambda folder: own(folder, "equivalent", "y"), TWO, r"for other labels \(equivalent, y\)"),
    "one name twice": (lambda folder: own(folder, "equivalent", "equivalent"), TWO, r"for other labels \(equivalent\)"),
    "no names": (lambda folder: own(folder, rows=2), TWO, "for labels without names"),
    "another number of labels": (
        lambda folder: own(folder, "not_equivalent", "equivalent", "x"),
        TWO,
        r"for other labels \(equivalent, not_equivalent, x\)",
    ),
    "names that are numbered otherwise": (
        lambda folder: (own(folder, "a", "b"), config(id2label={"1": "equivalent", "2": "not_equivalent"})(folder)),
        TWO,
        "for labels that are not numbered from 0",
    ),
    "several labels a row": (
        lambda folder: own(folder, "not_equivalent", "equivalent", problem="multi_label_classification"),
        TWO,
        r"for another kind of problem \(multi_label_classification\)",
    ),
    "one label a row": (
        lambda folder: own(folder, "a", "b"),
        task("a", "b", problem="multi_label_classification"),
        r"for another kind of problem \(single_label_classification\)",
    ),
    "a number": (
        lambda folder: own(folder, problem="regression", rows=1),
        TWO,
        r"another kind of problem \(regression\)",
    ),
    "classes, for a number": (
        lambda folder: own(folder, "a", "b"),
        task(problem="regression"),
        r"another kind of problem \(single_label_classification\)",
    ),
    "half a head": (
        lambda folder: (own(folder, "not_equivalent", "equivalent"), without("classifier.bias")(folder)),
        TWO,
        "incomplete",
    ),
}


@pytest.mark.parametrize("case", OTHER_HEADS)
def test_an_own_head_for_something_else_is_drawn_anew(
    case: str, folder: Path, tiny_checkpoint: Path, capsys: Any
) -> None:
    make, asked, reason = OTHER_HEADS[case]
    make(folder)
    capsys.readouterr()
    model, origin = load_pretrained(folder, asked, 1)
    never_had_one, _ = load_pretrained(tiny_checkpoint, asked, 1)
    assert torch.equal(model.classifier.weight, never_had_one.classifier.weight)
    assert not model.classifier.bias.any()
    assert origin.summary == NEW_HEAD and origin.new == ["classifier.bias", "classifier.weight"]
    said = rf"train: the checkpoint's classification head is (for )?{reason}, so its last layer is newly initialized\n"
    assert re.search(said, capsys.readouterr().err)


def test_an_own_model_is_as_good_for_labels_in_another_order(
    tmp_path: Path, tiny_checkpoint: Path, sample_rows: list[dict[str, str]]
) -> None:
    run = Run(tmp_path, tiny_checkpoint, sample_rows)
    first = run("first", epochs=3, learning_rate=3e-3)
    run.checkpoint = shutil.copytree(first / "finetuned", tmp_path / "turned")
    names = {"0": "equivalent", "1": "not_equivalent"}
    config(id2label=names, label2id={name: int(row) for row, name in names.items()})(run.checkpoint)
    turn = tensors(
        lambda stored: {
            name: tensor.flip(0).contiguous() if name.startswith("classifier") else tensor
            for name, tensor in stored.items()
        }
    )
    turn(run.checkpoint)
    second = run("second", epochs=1, learning_rate=1e-12)
    assert history(second)[0]["loss"] == pytest.approx(history(first)[-1]["loss"], abs=1e-6)
    (origin,) = json.loads((second / "selection.json").read_text())["origin"]
    assert origin["new"] == [] and origin["reordered"] == ["classifier.bias", "classifier.weight"]
    assert selection(second)["epoch"] == 1


# Every architecture, by one rule

SIZE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
VOCABULARY = {"vocab_size": 40}
ENCODERS: dict[str, Any] = {
    "albert": hf.AlbertConfig(embedding_size=8, **SIZE, **VOCABULARY),
    "bart": hf.BartConfig(
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        **VOCABULARY,
    ),
    "bert": hf.BertConfig(**SIZE, **VOCABULARY),
    "deberta-v2": hf.DebertaV2Config(relative_attention=True, pos_att_type=["p2c", "c2p"], **SIZE, **VOCABULARY),
    "distilbert": hf.DistilBertConfig(dim=16, n_layers=2, n_heads=2, hidden_dim=32, **VOCABULARY),
    "electra": hf.ElectraConfig(embedding_size=8, **SIZE, **VOCABULARY),
    "funnel": hf.FunnelConfig(
        architectures=["FunnelModel"], d_model=16, n_head=2, d_head=8, d_inner=32, block_sizes=[1, 1], **VOCABULARY
    ),
    "gpt2": hf.GPT2Config(n_embd=16, n_layer=2, n_head=2, pad_token_id=1, **VOCABULARY),
    "llama": hf.LlamaConfig(pad_token_id=1, **SIZE, **VOCABULARY),
    "modernbert": hf.ModernBertConfig(
        pad_token_id=0, bos_token_id=1, cls_token_id=1, eos_token_id=2, sep_token_id=2, **SIZE, **VOCABULARY
    ),
    "mpnet": hf.MPNetConfig(**SIZE, **VOCABULARY),
    "roberta": hf.RobertaConfig(**SIZE, **VOCABULARY),
    "t5": hf.T5Config(d_model=16, d_kv=8, d_ff=32, num_layers=1, num_decoder_layers=1, num_heads=2, **VOCABULARY),
    "xlm": hf.XLMConfig(emb_dim=16, n_layers=2, n_heads=2, **VOCABULARY),
    "xlnet": hf.XLNetConfig(d_model=16, n_layer=2, n_head=2, d_inner=32, **VOCABULARY),
}
CAUSAL = dict.fromkeys(("gpt2", "llama", "xlnet"), hf.AutoModelForCausalLM)
PRETRAINED = {"t5": hf.AutoModelForSeq2SeqLM, **CAUSAL}
THREE = task("a", "b", "c")


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_checkpoint_with_or_without_other_heads_is_whole(kind: str, tmp_path: Path) -> None:
    classes = [hf.AutoModel, PRETRAINED.get(kind, hf.AutoModelForMaskedLM)]
    for number, made_by in enumerate(classes):
        folder = tmp_path / str(number)
        made_by.from_config(ENCODERS[kind]).save_pretrained(folder)
        model, origin = load_pretrained(folder, THREE, 1)
        assert last_layer(model) <= set(origin.new), origin
        encoder = [name for name in origin.new if name.startswith(f"{model.base_model_prefix}.")]
        assert all("pooler" in name for name in encoder), origin


@pytest.mark.parametrize("kind", ENCODERS)
def test_the_rows_of_every_kind_of_head_follow_the_names(kind: str, tmp_path: Path) -> None:
    labelled = copy.deepcopy(ENCODERS[kind])
    labelled.id2label, labelled.label2id = {0: "b", 1: "c", 2: "a"}, {"b": 0, "c": 1, "a": 2}
    stored = hf.AutoModelForSequenceClassification.from_config(labelled)
    with torch.no_grad():
        for parameter in stored.parameters():
            parameter.normal_()
    stored.save_pretrained(tmp_path)
    model, origin = load_pretrained(tmp_path, THREE, 1)
    last = last_layer(model)
    assert origin.new == [] and origin.reordered == sorted(last) and last
    for name, tensor in model.state_dict().items():
        before = stored.state_dict()[name]
        assert torch.equal(tensor, before[[2, 0, 1]] if name in last else before), name
    other, origin = load_pretrained(tmp_path, task("x", "y", "z"), 1)
    assert origin.new == sorted(last)
    for name, tensor in other.state_dict().items():
        same = torch.equal(tensor, stored.state_dict()[name])
        assert same != (name in last), name


# No downloaded program, and no question


@pytest.mark.parametrize("own_tokenizer", [True, False])
@pytest.mark.parametrize("kind", ["bert", "mine"])
def test_nothing_asks_whether_a_program_may_run(
    kind: str, own_tokenizer: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr("builtins.input", asked.append)
    classes = ("AutoConfig", "AutoModel", "AutoModelForSequenceClassification")
    config(model_type=kind, auto_map={name: f"mine.{name}" for name in classes})(folder)
    if own_tokenizer:
        stored = json.loads((folder / "tokenizer_config.json").read_text())
        stored |= {"tokenizer_class": "MyTokenizer", "auto_map": {"AutoTokenizer": ["mine.MyTokenizer", None]}}
        (folder / "tokenizer_config.json").write_text(json.dumps(stored))
    (folder / "mine.py").write_text("raise SystemExit('it ran')")
    if kind == "bert":
        assert tokenizer_for(folder, 48) and load_tokenizer(folder) and load_pretrained(folder, TWO, 1)
    else:
        with pytest.raises(BadInput):
            tokenizer_for(folder, 48)
        with contextlib.suppress(BadInput):
            load_tokenizer(folder)
        refusal(folder)
    assert not asked


# predict


def damaged_head(stored: Tensors) -> Tensors:
    return stored | {"classifier.weight": torch.zeros(3, 32)}


NOT_FINETUNED: dict[str, tuple[Callable[[Path], None], str]] = {
    "a tensor too few": (
        without("classifier.bias"),
        r"changed since train wrote it: 1 tensor missing \(classifier.bias\); run",
    ),
    "a tensor too many": (
        tensors(lambda stored: stored | {"cls.bias": torch.zeros(2)}),
        r"1 tensor that the model has no place for \(cls.bias\)",
    ),
    "another name": (renamed("encoder.layer.0", "encoder.layer.00"), "16 tensors missing"),
    "another shape": (tensors(damaged_head), r"1 tensor of another shape \(classifier.weight: \[3, 32\] in the file"),
    "no pooler": (without("bert.pooler.dense.weight", "bert.pooler.dense.bias"), "2 tensors missing"),
    "another config": (config(num_hidden_layers=1), "16 tensors that the model has no place for"),
    "weights cut off": (cut, "cannot be loaded as a model"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "cannot be loaded as a model"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "cannot be loaded as a .*"),
    "a damaged tokenizer": (
        lambda folder: (folder / "tokenizer.json").write_text("{") and None,
        "cannot be loaded as a tokenizer",
    ),
}


@pytest.mark.parametrize("case", NOT_FINETUNED)
def test_a_model_that_is_not_what_train_wrote_does_not_predict(case: str, folder: Path) -> None:
    own(folder, "not_equivalent", "equivalent")
    p = PredictParams(arithmetic="portable", token_budget=512, threads=1)
    Predictor(p, "cpu", folder)
    change, message = NOT_FINETUNED[case]
    change(folder)
    with pytest.raises(BadInput, match=rf"checkpoint: .*{message}") as raised:
        Predictor(p, "cpu", folder)
    assert "\n" not in str(raised.value)


def test_a_model_of_another_task_does_not_predict(
    tmp_path: Path, tiny_checkpoint: Path, sample_rows: list[dict[str, str]]
) -> None:
    run = Run(tmp_path, shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"), sample_rows)
    own(run.checkpoint, "a", "b", "c")
    p = PredictParams(arithmetic="portable", token_budget=512, threads=1)
    files = PredictFiles(tmp_path / "tokenized", tmp_path / "task.json", run.checkpoint, tmp_path / "out", tmp_path)
    with pytest.raises(BadInput, match=r"checkpoint: gives 3 logits, but the task needs 2; run `dvc repro -f"):
        predict(p, EXECUTION, files)


def test_gamma_and_beta_predict_too(folder: Path) -> None:
    own(folder, "not_equivalent", "equivalent")
    stored = load_file(folder / "model.safetensors")
    old = {name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): t for name, t in stored.items()}
    save_file(old, folder / "model.safetensors")
    model = Predictor(PredictParams(arithmetic="portable", token_budget=512, threads=1), "cpu", folder).model
    assert all(torch.equal(tensor, stored[name]) for name, tensor in model.state_dict().items())
