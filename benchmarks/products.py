"""How fast this machine multiplies matrices of the shapes that a training has, and does nothing else.

    python -m benchmarks.products RESULT EXAMPLES_PER_BATCH

Runs in a folder in which the pipeline has tokenized, with params.yaml's threads, in bf16. RESULT is a JSON file:
`flops_per_token`, what a training computes in the encoder for a token of mean length (linear layers and attention,
forward and backward; Chowdhery et al. 2022, PaLM, appendix B); `tokens_per_example`, real ones; `padding`, the share
of a batch that is not real; `repeated`, FLOP/s of a product that is repeated with its operands in the cache; `in_turn`,
FLOP/s where each layer has operands of its own and all of a step's products follow each other, as in a training.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stages.shared.model.device import pick_device
from stages.shared.runtime.environment import go_native
from stages.shared.runtime.params import read_params
from stages.shared.runtime.splits import load_splits
from stages.train.order import EpochSampler
from stages.train.train import TrainParams

Product = Callable[[], torch.Tensor]
STEPS = 12  # batches of the epoch whose shapes are measured
REPEATED = 20  # times that a product runs on the same operands


def shapes(config: dict[str, Any]) -> list[tuple[int, int]]:
    """Returns the linear layers of one layer of the encoder: inputs, outputs."""
    hidden, intermediate = config["hidden_size"], config["intermediate_size"]
    return [(hidden, hidden)] * 4 + [(hidden, intermediate), (intermediate, hidden)]


def products(tokens: int, inputs: int, outputs: int) -> list[Product]:
    """Returns the forward product of a linear layer, and the two of its gradients, on random operands."""
    x, weight, gradient = (
        torch.randn(size, dtype=torch.bfloat16) for size in ((tokens, inputs), (outputs, inputs), (tokens, outputs))
    )
    return [lambda: x @ weight.T, lambda: gradient @ weight, lambda: gradient.T @ x]


def seconds(run: Sequence[Product], times: int) -> float:
    """Times all of `run`, in turn, `times` times over, after one round that is not counted."""
    for product in run:
        product()
    start = time.perf_counter()
    for _ in range(times):
        for product in run:
            product()
    return time.perf_counter() - start


def main(result: Path, batch_size: int) -> None:
    """Measures and writes the result file."""
    go_native()  # nothing was computed yet: torch looks at the first product
    p = read_params("train", TrainParams)
    pick_device("cpu", p.threads)
    config = json.loads(Path("models/pretrained/config.json").read_text(encoding="utf-8"))
    lengths = np.asarray(load_splits(Path("data/tokenized"))["train"].with_format("numpy")["length"][:])
    order = np.array(list(EpochSampler(len(lengths), batch_size, p.seed, lengths)))
    batches = lengths[order[: len(order) // batch_size * batch_size]].reshape(-1, batch_size)
    widths = batches.max(axis=1)
    layers = config["num_hidden_layers"]
    done = {"repeated": 0.0, "in_turn": 0.0}
    flops = 0.0
    for width in np.sort(widths)[:: -(-len(widths) // STEPS)]:
        tokens = int(width) * batch_size
        flops += sum(6 * tokens * i * o for i, o in shapes(config)) * layers
        for i, o in set(shapes(config)):
            share = shapes(config).count((i, o)) * layers
            done["repeated"] += share * sum(
                seconds([product], REPEATED) / REPEATED for product in products(tokens, i, o)
            )
        step = [product for _ in range(layers) for i, o in shapes(config) for product in products(tokens, i, o)]
        done["in_turn"] += seconds(step, 3) / 3
    linear = sum(6 * i * o for i, o in shapes(config))
    attention = 12 * config["hidden_size"] * float((lengths**2).sum() / lengths.sum())
    facts = {
        "flops_per_token": layers * (linear + attention),
        "tokens_per_example": float(lengths.mean()),
        "padding": 1.0 - float(batches.sum() / (widths.sum() * batch_size)),
        **{name: flops / value for name, value in done.items()},
    }
    result.write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
