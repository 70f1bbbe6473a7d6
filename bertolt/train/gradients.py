"""From gradients to an update: their norm, clipping, and the rows of the word embedding alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from bertolt.base.distributed import total_norm
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
    ours = optimizer if isinstance(optimizer, AdamW) else None
    with contextlib.nullcontext() if ours is None else ours.dense_gradients():
        split = any(hasattr(parameter, "full_tensor") for parameter in parameters)  # over processes
        if max_norm > 0 and ours is not None and ours.fused and not split:
            ours.step_clipped(norm, max_norm)
            return
        if max_norm > 0:
            nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
        optimizer.step()


def can_hold_back(optimizer: torch.optim.Optimizer, device: torch.device) -> bool:
    """Whether `update_if_finite` can be used, and spares the host from waiting for a GPU."""
    return device.type == "cuda" and type(optimizer) is AdamW and optimizer.fused


def update_if_finite(
    optimizer: AdamW,
    parameters: Sequence[nn.Parameter],
    checked: Tensor,
    norm: Tensor,
    limit: float,
) -> None:
    """One update, which the GPU itself leaves out if one of the numbers is not finite.

    Args:
        optimizer: for which `can_hold_back` is true.
        parameters: its own.
        checked: (2,), the loss and the norm of the gradients.
        norm: of the gradients.
        limit: they are scaled down to it, unless it is 0.
    """
    optimizer.found_inf = (~checked.isfinite().all()).float()
    try:
        clip_and_step(optimizer, parameters, norm, limit)
    finally:
        optimizer.found_inf = None


@contextlib.contextmanager
def sparse_word_gradient(table: nn.Embedding, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """On a CPU, let the gradient of the word embedding hold the rows of the batch alone.

    The table is most of a small model, and a batch has few of its words: clearing and reading the
    rest would take time in each step. Only Bertolt's AdamW takes such a gradient. A table that is
    a decoder's too has a gradient for every row.

    Args:
        table: of the words.
        optimizer: that will make the update.
    """
    if not _takes_rows(table, optimizer):
        yield
        return
    usual, table.sparse = table.sparse, True
    try:
        yield
    finally:
        table.sparse = usual


def _takes_rows(table: nn.Module, optimizer: torch.optim.Optimizer) -> bool:
    if not isinstance(table, nn.Embedding) or not isinstance(optimizer, AdamW):
        return False
    weight = table.weight
    # A table that this optimizer does not update would gather rows that nobody clears.
    known = any(each is weight for group in optimizer.param_groups for each in group["params"])
    return known and weight.device.type == "cpu" and weight.dtype != torch.float16
