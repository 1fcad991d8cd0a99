"""Texts in windows: all windows of a text have a part in its logits, in its loss and in the gradient."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers import DataCollatorWithPadding, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from stages.shared.runtime.splits import WindowLogits
from stages.train.dropout import StepDropout

INPUTS = ("input_ids", "token_type_ids")


class WindowCollator:
    """Makes a batch of rows with windows: the inputs of all windows, and how many each row has."""

    def __init__(self, tokenizer: Any) -> None:
        self.pad = DataCollatorWithPadding(tokenizer)

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Returns `windows`, int64[rows], the model's inputs, int64[windows, tokens], and what else the rows have.

        `windows` comes first: `Trainer` takes the length of the first tensor for the number of rows.
        """
        inputs = []
        for row in rows:
            start = 0
            for length in row["windows"]:
                inputs.append({name: row[name][start : start + length] for name in INPUTS if name in row})
                start += length
        others = {"labels": "label", "weight": "weight"}
        return {
            "windows": torch.tensor([len(row["windows"]) for row in rows]),
            **self.pad(inputs),
            **{name: torch.tensor([row[key] for row in rows]) for name, key in others.items() if key in rows[0]},
        }


def read_in_windows(model: PreTrainedModel, how: WindowLogits, at_once: int, dropout: StepDropout | None) -> None:
    """Lets the model take what `WindowCollator` makes, and give one row of logits for each text.

    It computes `at_once` windows at a time. Where there are more, it keeps nothing of them but the logits, and computes
    them again when their gradient is asked for. So memory does not grow with the length of a text, and the gradient has
    the bits that it would have if everything was kept: what is dropped is drawn anew from the same seed.
    """
    compute = model.forward

    def forward(
        windows: torch.Tensor,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """Computes float32[texts, columns] of int64[texts] numbers of windows, and int64[windows, tokens] inputs."""
        named = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        inputs = {name: values for name, values in named.items() if values is not None}

        def part(number: int) -> torch.Tensor:
            if dropout is not None and model.training:
                dropout.start_part(number)
            rows = slice(number * at_once, (number + 1) * at_once)
            logits: torch.Tensor = compute(**{name: values[rows] for name, values in inputs.items()})["logits"]
            return logits.float()

        parts = -(-len(input_ids) // at_once)
        again = parts > 1 and torch.is_grad_enabled()
        logits = [checkpoint(part, number, use_reentrant=False) if again else part(number) for number in range(parts)]
        return SequenceClassifierOutput(logits=of_texts(torch.cat(logits), windows, how))

    model.forward = forward


def of_texts(logits: torch.Tensor, windows: torch.Tensor, how: WindowLogits) -> torch.Tensor:
    """Returns the logits of texts, float32[texts, columns], from those of their windows, float32[windows, columns].

    The gradient of a greatest logit goes to all windows that have it, in equal parts.
    """
    texts = logits.split(windows.tolist())
    return torch.stack([text.mean(dim=0) if how == "mean" else text.amax(dim=0) for text in texts])
