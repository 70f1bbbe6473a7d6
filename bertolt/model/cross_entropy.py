"""Cross-entropy over a vocabulary, by parts that stay in the processor's cache.

PyTorch's writes the logits down four times on the way to their gradient, in fp32 and as large as
the vocabulary. Here rows are taken a few at a time, and the gradient is written once, in the format
of the logits.

Shapes: M labelled tokens, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_PART = 1 << 20  # logits of a part: 4 MB in fp32
_WIDE = 1024  # classes from which on it is faster


def summed_cross_entropy(logits: Tensor, labels: Tensor, ignored: int) -> Tensor:
    """The sum of the cross-entropies of all rows whose label is not `ignored`, in fp32.

    Args:
        logits: (M, V).
        labels: (M,) int64.
        ignored: label of rows that do not count.

    Raises:
        IndexError: a label that is no class; on a CPU.
    """
    wide = logits.dim() == 2 and logits.shape[1] >= _WIDE
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
        norms = torch.empty(len(logits))
        for part, out in zip(_parts(logits, logits), _parts(norms, logits), strict=True):
            torch.logsumexp(part.float(), 1, out=out)
        ctx.save_for_backward(logits, labels, counted, norms)
        own = logits.gather(1, labels[:, None]).squeeze(1).float()
        # Not multiplied: a row that is ignored may be infinite.
        return torch.where(counted, norms - own, 0.0).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        logits, labels, counted, norms = ctx.saved_tensors
        found = torch.empty_like(logits)
        whole = (logits, labels, norms, found)
        for part, label, norm, out in zip(*(_parts(each, logits) for each in whole), strict=True):
            share = torch.sub(part, norm[:, None]).exp_()
            share[torch.arange(len(label)), label] -= 1
            out.copy_(share.mul_(gradient))
        found[~counted] = 0
        return found, None, None


def _parts(values: Tensor, logits: Tensor) -> tuple[Tensor, ...]:
    """Rows of `values`, as many at a time as hold `_PART` logits."""
    return torch.split(values, max(1, _PART // logits.shape[1]))
