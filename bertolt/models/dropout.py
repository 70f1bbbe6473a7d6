"""Dropout that does not wait for a serial random generator.

PyTorch's CPU dropout draws one number for each element, in one thread. Here each element costs 16
random bits of a vectorised generator, which is seeded from PyTorch's own, so `torch.manual_seed`
still decides every mask and a saved random state still restores them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

_LEVELS = 1 << 16


class Dropout(nn.Module):
    """Zero a share `p` of the elements while training and scale the rest by 1 / (1 - p).

    On the CPU the share is rounded to the nearest 1/65536 and the scale follows it exactly.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Return `x`, of any shape, with elements dropped if the module is training."""
        return dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        """Show the share in the module's representation."""
        return f"p={self.p}"


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Functional form of `Dropout`."""
    if not training or p == 0.0:
        return x
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return nn.functional.dropout(x, p, training=True)
    return x * _draw_mask(x, p)


def dropout_add(x: Tensor, residual: Tensor, p: float, training: bool) -> Tensor:
    """`residual` and what dropout leaves of `x`, of the same shape, summed in one pass."""
    if not training or p == 0.0 or x.device.type != "cpu" or torch.compiler.is_compiling():
        return dropout(x, p, training) + residual
    return torch.addcmul(residual, x, _draw_mask(x, p))


def _draw_mask(x: Tensor, p: float) -> Tensor:
    """Zero for a share `p` of the elements of `x`, and the scale for the others."""
    threshold = round(p * _LEVELS)
    if threshold >= _LEVELS:
        return torch.zeros_like(x)
    mask = torch.empty(x.shape, dtype=x.dtype)
    # Compared straight into the format of the numbers, which spares two passes.
    torch.ge(_draw_levels(x.numel()).view(x.shape), threshold - _LEVELS // 2, out=mask)
    return mask.mul_(_LEVELS / (_LEVELS - threshold))


def _draw_levels(count: int) -> Tensor:
    """`count` int16 values, uniform over all 65536, from a generator seeded by torch's own."""
    seed = int(torch.randint(0, 2**63 - 1, ()).item())
    generator = np.random.Generator(np.random.SFC64(seed))
    words = generator.integers(0, 2**64, size=-(-count // 4), dtype=np.uint64)
    return torch.from_numpy(words.view(np.int16))[:count]
