"""Models in ONNX: written from a fine-tuned one, made int8, and run by onnxruntime."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnxruntime import InferenceSession, SessionOptions
from onnxruntime.quantization import QuantType, quantize_dynamic

from stages.shared.model.loading import load_classifier
from stages.shared.runtime.errors import BadInput

LARGEST_BYTES = 2**31 - 1  # of a protobuf; a larger model would need its weights in a second file


def write_onnx(folder: Path, example: Mapping[str, torch.Tensor], file: Path) -> None:
    """Writes a fine-tuned model as one ONNX file, float32, for any number of texts of any length.

    Args:
        folder: the model, as `from_pretrained` reads it.
        example: a batch of it, int64[texts, tokens] for each input; two texts at least, for torch takes 1 as fixed.

    Raises:
        BadInput: torch cannot export such a model.
    """
    model, _ = load_classifier(folder)
    model.eval()
    anything = {name: {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC} for name in example}
    try:
        with _quiet():
            program = torch.onnx.export(
                model,
                kwargs=dict(example),
                dynamic_shapes=anything,
                input_names=list(example),
                output_names=["logits"],
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # of any kind: torch's exporter follows the model's own code
        why = " ".join(str(error).split())[:300]
        raise BadInput(f"torch cannot export a {model.config.model_type} model to ONNX: {why}") from None
    assert program is not None
    proto = program.model_proto
    for value in [*proto.graph.input, *proto.graph.output]:
        sizes = value.type.tensor_type.shape.dim
        sizes[0].dim_param = "texts"
        if value.name != "logits":
            sizes[1].dim_param = "tokens"
    if proto.ByteSize() > LARGEST_BYTES:
        raise BadInput("the model is larger than the 2 GiB of one ONNX file")
    onnx.checker.check_model(proto)
    file.write_bytes(proto.SerializeToString(deterministic=True))


def write_int8(source: Path, target: Path) -> None:
    """Writes a model with its weights as int8 and its products in int8, their inputs quantised as they come.

    The weights are unsigned as their inputs are. Processors with AVX2 but no VNNI add two products of an unsigned and a
    signed byte in 16 bits, which are too few, without a word: one way to get a model that predicts noise.
    """
    with _quiet():
        quantize_dynamic(source, target, weight_type=QuantType.QUInt8, per_channel=True)


@dataclass(frozen=True)
class OnnxModel:
    """A model that onnxruntime runs on the processor."""

    session: InferenceSession

    @classmethod
    def load(cls, file: Path, threads: int) -> "OnnxModel":
        """Loads it, with a number of threads."""
        options = SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors alone
        return cls(InferenceSession(file, options, providers=["CPUExecutionProvider"]))

    def __call__(self, batch: Mapping[str, torch.Tensor]) -> np.ndarray:
        """Returns float32[texts, columns] for int64[texts, tokens] of each input."""
        [logits] = self.session.run(["logits"], {name: values.numpy() for name, values in batch.items()})
        return np.asarray(logits)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps to itself what the exporters say of their own versions and of steps that they could take."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)
