"""The checkpoint as it came, before any fine-tuning: the mean of its last layer over the tokens of an example."""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import nn

from stages.shared.model.batches import WINDOW, PaddedRows, batches
from stages.shared.model.device import advise, explain_nondeterminism, pick_device
from stages.shared.model.linear import OneDnnLinear, has_one_dnn
from stages.shared.model.loading import load_classifier, load_tokenizer
from stages.shared.model.speed_up import speed_up


class FrozenEncoder:
    """Makes features of examples. No weight is trained, and a classification head plays no part."""

    def __init__(self, section: Mapping[str, Any], device_name: str, pretrained_dir: Path) -> None:
        """Loads the checkpoint.

        Args:
            section: `predict` of params.yaml, by which it is run.

        Raises:
            BadInput: it cannot be loaded, or not be run here.
        """
        self.device, self.token_budget = pick_device(device_name, section["threads"]), section["token_budget"]
        advise("predict", section["arithmetic"], self.device)
        self.tokenizer = load_tokenizer(pretrained_dir)
        model, _ = load_classifier(pretrained_dir)  # a head that is missing is drawn, and not used
        bf16 = section["arithmetic"] == "bf16"
        if self.device.type == "cpu":
            speed_up(model, {nn.Linear: OneDnnLinear} if has_one_dnn() and not bf16 else {})
        base = model.to(self.device).eval().base_model
        self.encoder = base.get_encoder() if model.config.is_encoder_decoder else base
        self.autocast = torch.autocast(self.device.type, torch.bfloat16) if bf16 else nullcontext()

    def __call__(self, split: Dataset, rows: np.ndarray) -> np.ndarray:
        """Returns float64[rows, hidden] of some rows of a split of data/tokenized; of a text in windows their mean."""
        inputs, features = PaddedRows(split, self.tokenizer), []
        for start in range(0, len(rows), WINDOW):  # of so many texts there may be many windows, but not of all at once
            numbers, counts = inputs.pieces.inside(rows[start : start + WINDOW])
            found = np.empty((len(numbers), 0))
            for batch in batches(inputs.pieces.lengths[numbers], self.token_budget):
                means = self.forward(inputs[numbers[batch]])
                if not found.size:
                    found = np.empty((len(numbers), means.shape[1]))
                found[batch] = means
            firsts = np.concatenate([[0], counts.cumsum()[:-1]])
            features.append(np.add.reduceat(found, firsts, axis=0) / counts[:, np.newaxis])
        return np.concatenate(features)

    def forward(self, batch: Mapping[str, torch.Tensor]) -> np.ndarray:
        """Returns float32[batch, hidden] for int64[batch, tokens] of each input."""
        with torch.inference_mode(), self.autocast, explain_nondeterminism():
            inputs = {name: values.to(self.device) for name, values in batch.items()}
            hidden = self.encoder(**inputs).last_hidden_state.float()
            real = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])).unsqueeze(-1)
            if hidden.shape[1] != real.shape[1]:  # an encoder that shortens the sequence, such as Funnel's
                real = torch.ones_like(hidden[..., :1])
            means: np.ndarray = ((hidden * real).sum(1) / real.sum(1)).cpu().numpy()
            return means
