"""Cross-entropy over a vocabulary, by parts that stay in the processor's cache.

PyTorch's writes the logits down four times on the way to their gradient, in fp32 and as large as
the vocabulary. Here rows are taken a few at a time, and the gradient is written once, in the format
of the logits. On a GPU one kernel does the same, row by row.

Shapes: M labelled tokens, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from bertolt.models import fused

_PART = 1 << 19  # logits of a part: 2 MB in fp32
_WIDE = 1024  # classes from which on it is faster
_SMALL = 1e-30  # a share whose logarithm would soon be less exact, and at 0 infinite


def summed_cross_entropy(logits: Tensor, labels: Tensor, ignored: int) -> Tensor:
    """The sum of the cross-entropies of all rows whose label is not `ignored`, in fp32.

    Args:
        logits: (M, V).
        labels: (M,) int64.
        ignored: label of rows that do not count.

    Raises:
        IndexError: a label that is no class; on a CPU. On a GPU the sum is then not a number, or
            CUDA fails.
    """
    wide = logits.dim() == 2 and logits.shape[1] >= _WIDE
    if wide and fused.usable(logits):
        return fused.summed_cross_entropy(logits, labels, ignored)
    if not wide or logits.device.type != "cpu" or torch.compiler.is_compiling():
        return F.cross_entropy(logits.float(), labels, ignore_index=ignored, reduction="sum")
    counted = labels != ignored
    found = labels[counted]
    if found.numel() and not 0 <= int(found.min()) <= int(found.max()) < logits.shape[1]:
        raise IndexError(f"from {int(found.min())} to {int(found.max())}")
    total: Tensor = _Summed.apply(  # type: ignore[no-untyped-call]
        logits, labels.masked_fill(~counted, 0), counted
    )
    return total


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, counted: Tensor) -> Tensor:
        losses = torch.empty(len(logits))
        # The gradient is all but there once the loss is: making it later would be to do both again.
        gradient = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        rows = max(1, _PART // logits.shape[1])
        for start in range(0, len(logits), rows):
            some = slice(start, start + rows)
            part, label = logits[some], labels[some, None]
            shares = part.softmax(1, dtype=torch.float32)
            losses[some] = _losses(part, label, shares.gather(1, label)).squeeze(1)
            if gradient is not None:
                shares.scatter_add_(1, label, shares.new_full(label.shape, -1.0))
                gradient[some] = shares
        if gradient is not None:
            # Not multiplied: a row that is ignored may be infinite.
            gradient[~counted] = 0
            ctx.save_for_backward(gradient)
        return torch.where(counted, losses, 0.0).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * factor, None, None


def _losses(logits: Tensor, labels: Tensor, share: Tensor) -> Tensor:
    """(M, 1) cross-entropies from the shares of the labels, (M, 1) each."""
    losses = -share.log()
    small = (share < _SMALL).squeeze(1)
    if small.any():
        few = logits[small].float()
        losses[small] = few.logsumexp(1, keepdim=True) - few.gather(1, labels[small])
    return losses
