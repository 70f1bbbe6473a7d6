"""Weights of a module of the user's own, to a file and back."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from bertolt.base.errors import CheckpointError, UsageError
from bertolt.base.files import write_atomically
from bertolt.checkpoint.weights import read_tensors, write_tensors

WEIGHTS = "model.safetensors"


def save(module: nn.Module, folder: Path) -> None:
    """Write parameters and buffers to `model.safetensors`, what has two names once.

    Raises:
        UsageError: the module has a state that is no tensor.
        BertoltError: the folder cannot be written.
    """
    tensors = _named_once(module)
    write_atomically(folder / WEIGHTS, lambda path: write_tensors(path, tensors))


@torch.no_grad()
def restore(module: nn.Module, folder: Path) -> None:
    """Give a module the weights that `save` wrote of one of the same shape, bit by bit.

    Raises:
        CheckpointError: a tensor more or less, of another shape or another format.
    """
    ours, theirs = _named_once(module), read_tensors(folder / WEIGHTS)
    for name in sorted(ours.keys() ^ theirs.keys()):
        side = "is not in the file" if name in ours else "has no place in the model"
        raise _unlike(folder, f"the tensor {name} {side}")
    for name, value in theirs.items():
        if (value.shape, value.dtype) != (ours[name].shape, ours[name].dtype):
            here = f"{list(ours[name].shape)} of {ours[name].dtype} in the model"
            raise _unlike(folder, f"{name} is {list(value.shape)} of {value.dtype}, and {here}")
    for name, value in theirs.items():
        ours[name].copy_(value)


def _named_once(module: nn.Module) -> dict[str, Tensor]:
    """The tensors of a module by the first name of each, in no memory twice."""
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, value in module.state_dict(keep_vars=True).items():
        if not isinstance(value, Tensor):
            raise UsageError(
                f"the model keeps {name}, a {type(value).__name__}, which no checkpoint can hold",
                place=type(module).__name__,
                fix="keep it as a buffer: register_buffer(name, tensor)",
            )
        if id(value) not in seen:
            seen.add(id(value))
            tensors[name] = value.detach()
    places: dict[int, str] = {}
    for name, value in tensors.items():
        if value.numel() and places.setdefault(value.data_ptr(), name) != name:
            raise UsageError(
                f"the model's {name} and {places[value.data_ptr()]} are two tensors in one memory",
                place=type(module).__name__,
                fix="tie them by one parameter: self.second.weight = self.first.weight",
            )
    return tensors


def _unlike(folder: Path, how: str) -> CheckpointError:
    return CheckpointError(how, place=str(folder / WEIGHTS), fix="build the model as it was")
