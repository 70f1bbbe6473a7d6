"""From gradients to an update: their norm, clipping, and the rows of the word embedding alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from bertolt.distributed import total_norm
from bertolt.train.optim import AdamW


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The 2-norm of all gradients together, as torch computes it for clipping: a scalar."""
    grads = []
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()  # rows that occur twice are summed first
            grads.append(parameter.grad.values())
        elif parameter.grad is not None:
            grads.append(parameter.grad)
    return total_norm(grads)


def clip_and_step(
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[nn.Parameter],
    norm: Tensor,
    max_norm: float,
) -> None:
    """One update by gradients of this norm, scaled down to `max_norm` unless that is 0."""
    split = any(hasattr(parameter, "full_tensor") for parameter in parameters)  # over processes
    if max_norm > 0 and isinstance(optimizer, AdamW) and optimizer.fused and not split:
        optimizer.step_clipped(norm, max_norm)
        return
    if max_norm > 0:
        nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    optimizer.step()


@contextlib.contextmanager
def sparse_word_gradient(table: nn.Embedding, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """On a CPU, let the gradient of the word embedding hold the rows of the batch alone.

    The table is most of a small model, and a batch has a fiftieth of its words: clearing and
    reading the rest took 5% of a step. Only Bertolt's AdamW takes such a gradient. A table that is
    a decoder's too has a gradient for every row.

    Args:
        table: of the words.
        optimizer: that will make the update.
    """
    usual = table.sparse
    fitting = isinstance(optimizer, AdamW) and table.weight.device.type == "cpu"
    table.sparse = usual or fitting
    try:
        yield
    finally:
        table.sparse = usual
