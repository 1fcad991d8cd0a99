"""The checkpoint as it came, before any fine-tuning: the mean of its last layer over the tokens of an example."""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import nn

from stages.shared.model.batches import PaddedRows, batches
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
        self.encoder = model.to(self.device).eval().base_model
        self.autocast = torch.autocast(self.device.type, torch.bfloat16) if bf16 else nullcontext()

    def __call__(self, split: Dataset) -> np.ndarray:
        """Returns float64[examples, hidden] of a split of data/tokenized; of a text in windows the mean of these."""
        inputs = PaddedRows(split, self.tokenizer)
        pieces, found = inputs.pieces, np.empty((len(inputs.pieces), 0))
        for numbers in batches(pieces.lengths, self.token_budget, pieces.blocks()):
            means = self.forward(inputs[numbers])
            if not found.size:
                found = np.empty((len(pieces), means.shape[1]))
            found[numbers] = means
        return np.concatenate(list(pieces.of_rows(found, "mean"))).astype(np.float64) if pieces.in_windows else found

    def forward(self, batch: Mapping[str, torch.Tensor]) -> np.ndarray:
        """Returns float32[batch, hidden] for int64[batch, tokens] of each input."""
        with torch.inference_mode(), self.autocast, explain_nondeterminism():
            inputs = {name: values.to(self.device) for name, values in batch.items()}
            hidden = self.encoder(**inputs).last_hidden_state.float()
            real = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])).unsqueeze(-1)
            means: np.ndarray = ((hidden * real).sum(1) / real.sum(1)).cpu().numpy()
            return means
