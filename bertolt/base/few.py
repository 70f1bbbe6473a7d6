"""Small work of PyTorch without its threads: they would be woken for two rows and more.

Awake they wait for what comes next, as those of GNU's OpenMP do for some milliseconds. Beside a
graph, which another runtime computes, they take the cores that it needs. The numbers are the same.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

FEW = 128
"""Rows that take less time one after the other than the threads wait awake."""


def softmax(logits: Tensor) -> Tensor:
    """(…, C) logits as probabilities."""
    rows = logits.reshape(-1, logits.shape[-1])
    if logits.device.type != "cpu" or not 1 < len(rows) <= FEW or logits.requires_grad:
        return logits.softmax(-1)
    shares = torch.empty_like(rows)
    for row, share in zip(rows.unbind(), shares.unbind(), strict=True):
        torch.softmax(row, -1, out=share)
    return shares.view(logits.shape)


def repeated(values: Tensor, counts: Tensor, total: int) -> Tensor:
    """Each of the values so many times, `total` in all."""
    if values.device.type == "cpu" and not torch.compiler.is_compiling():
        return torch.from_numpy(np.repeat(values.numpy(), counts.numpy()))
    return values.repeat_interleave(counts, output_size=total)
