"""Saves weights: in checkpoints under the names in memory, in the final model under the names that others read."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from stages.shared.runtime.errors import BadInput


def save_weights(model: nn.Module, file: Path) -> None:
    """Writes the model's tensors as safetensors; `save_pretrained` would give some the names of an older format."""
    save_file({name: tensor.contiguous() for name, tensor in tensors(model).items()}, file)


@torch.no_grad()
def load_weights(model: nn.Module, file: Path) -> None:
    """Puts what `save_weights` wrote into a model of the same kind.

    Raises:
        RuntimeError: a tensor of the model is not in the file, or the other way around, or has another shape or dtype.
    """
    stored, own = load_file(file), tensors(model)
    names = sorted(stored.keys() | own.keys())
    if unlike := [name for name in names if _kind(stored.get(name)) != _kind(own.get(name))]:
        raise RuntimeError(f"{file} does not hold the tensors of this model; they differ in {', '.join(unlike)}")
    for name, tensor in own.items():
        tensor.copy_(stored[name])


def tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Returns the parameters and persistent buffers, each once: a tied one under the first of its names."""
    names: dict[int, tuple[str, torch.Tensor]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        names.setdefault(id(tensor), (name, tensor.detach()))
    return dict(names.values())


def save_for_use(model: PreTrainedModel, folder: Path) -> None:
    """Saves the model under the names that its readers know, and makes sure that they get these weights.

    Raises:
        BadInput: the library does not read what it wrote.
    """
    model.save_pretrained(folder)
    own, read = tensors(model), tensors(type(model).from_pretrained(folder, dtype=model.dtype))
    if lost := [name for name in sorted(own.keys() | read.keys()) if not _same(own.get(name), read.get(name))]:
        raise BadInput(
            f"transformers changes the trained {type(model).__name__} when it saves and loads it ({len(lost)} of "
            f"{len(own)} tensors, first {lost[0]}); use another checkpoint"
        )


def _kind(tensor: torch.Tensor | None) -> tuple[torch.Size, torch.dtype] | None:
    return None if tensor is None else (tensor.shape, tensor.dtype)


def _same(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    """Says whether two tensors are equal bit for bit, also where these are no numbers."""
    if one is None or other is None or _kind(one) != _kind(other):
        return False
    one, other = (tensor.cpu().contiguous().flatten().view(torch.uint8) for tensor in (one, other))
    return torch.equal(one, other)
