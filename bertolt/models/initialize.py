"""The published initialisation rule, and what it is called in a load report."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bertolt.base.errors import CheckpointError
from bertolt.base.machine import is_out_of_memory

_DRAWN = (nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_)
"""By which linear layers and embeddings draw their weights when they are built."""


_UNDEFINED = ContextVar("undefined", default=False)


class _WithoutDraws(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        named = kwargs or {}
        if func in _DRAWN and _UNDEFINED.get():
            return args[0] if args else named["tensor"]
        return func(*args, **named)


@contextlib.contextmanager
def skip_init() -> Iterator[None]:
    """Inside, linear layers, embeddings and models draw no weights: what is in their memory stays.

    For weights that are read or drawn after anyway. To build on the meta device spares that too,
    but imports what PyTorch knows of shapes, a second of each start.

    Raises:
        CheckpointError: there is not as much memory.
    """
    try:
        with _undefined(True), _WithoutDraws():
            yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise CheckpointError(
            f"a model of this size does not fit into memory ({str(error).splitlines()[0]})",
            place="config.json",
            fix="look at vocab_size, hidden_size and the other sizes there, or take a machine "
            "with more memory",
        ) from error


def force_init() -> contextlib.AbstractContextManager[None]:
    """Inside, weights are drawn, also where a model around them is left undefined."""
    return _undefined(False)


@contextlib.contextmanager
def _undefined(value: bool) -> Iterator[None]:
    token = _UNDEFINED.set(value)
    try:
        yield
    finally:
        _UNDEFINED.reset(token)


def init_enabled() -> bool:
    """Whether a new model is to be initialised: not inside `skip_init`."""
    return not _UNDEFINED.get()


def init_weights(module: nn.Module, std: float) -> None:
    """Initialise one module by BERT's rule; modules without weights of their own are left alone.

    Linear and embedding weights are normal with deviation `std`, biases and the padding row zero,
    layer norms one and zero. Source: Devlin et al. (arXiv:1810.04805) and its published code,
    with a plain instead of a truncated normal, as in the PyTorch checkpoints' own code.
    """
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, mean=0.0, std=std)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, mean=0.0, std=std)
        if module.padding_idx is not None:
            nn.init.zeros_(module.weight[module.padding_idx])
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)


def rule_of(parameter_name: str, module: nn.Module, std: float) -> str:
    """The rule that `init_weights` follows for a parameter, in words."""
    if isinstance(module, nn.LayerNorm):
        return "ones" if parameter_name == "weight" else "zeros"
    if parameter_name == "weight" and isinstance(module, nn.Linear | nn.Embedding):
        return f"normal, std {std:g}"
    return "zeros" if parameter_name == "bias" else "its module's own rule"


def sinusoids(rows: int, width: int, std: float) -> Tensor:
    """A position table (rows, width) whose neighbours are alike from the start.

    Sines and cosines of wavelengths from 2π to 20,000π, scaled to the deviation that normal rows
    would have. EncoderStates: Vaswani et al., 2017, arXiv:1706.03762, section 3.5.
    """
    waves = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angles = torch.arange(rows)[:, None] * waves
    table = torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :width]
    return std * math.sqrt(2) * table
