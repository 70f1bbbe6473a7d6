"""Checkpoints of a model that is split over processes: each writes its part, any number read them.

This is `torch.distributed.checkpoint` with its safetensors files. Its usual ones are not used:
their index is a pickle, and reading it could run code. It reads the files of a model that was not
split as well.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bertolt.base.errors import CheckpointError
from bertolt.base.threads import ignored_warnings

FOLDER = "sharded"
"""In a checkpoint, the folder of the parts."""


def is_split(tensor: Tensor) -> bool:
    """Whether this process has only a part of it."""
    return hasattr(tensor, "to_local")


def is_split_model(model: nn.Module) -> bool:
    """Whether this process has only a part of the parameters."""
    return any(is_split(parameter) for parameter in model.parameters())


def save_parts(checkpoint: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write the parts of all processes, each of which calls this.

    Args:
        checkpoint: the same folder for all.
        tensors: split ones, and others that are the same everywhere and are written once.

    Raises:
        OSError: the file system refused, on each process.
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    folder = checkpoint / FOLDER
    folder.mkdir(exist_ok=True)
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    with _plainly():
        save(dict(tensors), storage_writer=writer)


def load_parts(checkpoint: Path, tensors: Mapping[str, Tensor]) -> None:
    """Fill tensors, whole or of a model that is split, from the parts of a checkpoint.

    Args:
        checkpoint: written by any number of processes; all processes of now call this.
        tensors: by the names that they were saved under.

    Raises:
        CheckpointError: one is missing, or of another shape.
    """
    from torch.distributed.checkpoint.state_dict_loader import load

    known = sizes(checkpoint)
    for name, tensor in tensors.items():
        if known.get(name) != tuple(tensor.shape):
            raise CheckpointError(
                f"{name} is {known.get(name, 'not there')}, and {tuple(tensor.shape)} here",
                place=str(checkpoint),
                fix="build the model as it was",
            )
    with _plainly():
        load(dict(tensors), storage_reader=_reader(checkpoint), no_dist=not dist.is_initialized())


def sizes(checkpoint: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor that was saved."""
    try:
        metadata = _reader(checkpoint).read_metadata()
    except Exception as error:
        raise CheckpointError(
            f"its parts cannot be read ({error})",
            place=str(checkpoint),
            fix="resume from another checkpoint",
        ) from error
    return {name: tuple(each.size) for name, each in metadata.state_dict_metadata.items()}


def load_model(checkpoint: Path, model: nn.Module) -> None:
    """Give a model, split or whole, the weights of a checkpoint that was saved in parts.

    Raises:
        CheckpointError: a tensor is missing, or of another shape.
    """
    load_parts(checkpoint, named_weights(model))


def named_weights(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer once, in no gradient's graph."""
    both = (*model.named_parameters(), *model.named_buffers())
    return {name: value.detach() for name, value in both}


def load_optimizer(checkpoint: Path, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The tensors of an optimizer's state as NUMBER.NAME, split as their parameters are.

    Raises:
        CheckpointError: they cannot be read.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    tensors: dict[str, Tensor] = {}
    for name, size in sizes(checkpoint).items():
        number, _, what = name.partition(".")
        if not number.isdigit() or not what:
            continue
        like = parameters[int(number)] if int(number) < len(parameters) else None
        if like is not None and tuple(like.shape) == size and size:
            tensors[name] = torch.zeros_like(like, requires_grad=False)
        else:
            tensors[name] = torch.zeros(size)
    load_parts(checkpoint, tensors)
    return tensors


def _reader(checkpoint: Path) -> Any:
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    folder = checkpoint / FOLDER
    return HuggingFaceStorageReader(str(folder if folder.is_dir() else checkpoint))


@contextlib.contextmanager
def _plainly() -> Iterator[None]:
    """Without torch's warnings about its own interfaces, and with the error behind its own.

    Its own holds the errors of all processes, and is no `Exception`: what failed first, a full disk
    for instance, is raised instead on each of them.
    """
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        with ignored_warnings():
            yield
    except CheckpointException as error:
        raise next(failure for failure, _ in error.failures.values()) from error
