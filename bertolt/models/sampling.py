"""Choosing the next token from its logits."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bertolt.base.checks import is_real, is_whole
from bertolt.base.errors import BertoltError, UsageError

COLDEST = 1e-6
"""The least temperature: logits divided by less may overflow."""

WARMTH = f"a number from {COLDEST:g} on; for the most probable token, do_sample=False"


class Sampling:
    """Greedy choice, or a draw from a sharpened and shortened distribution.

    Args:
        do_sample: draw; otherwise the most probable token is taken and the rest has no meaning.
        temperature: logits are divided by it; below 1 the probable becomes more so.
        top_k: keep the k most probable tokens (and those equal to the last of them); 0, None: all.
        top_p: keep the fewest tokens whose probabilities add up to this; 1, None: all.
            Source: Holtzman et al., 2019, arXiv:1904.09751.
        seed: of the draws; None: PyTorch's own random state.
        device: where the logits are.
        least: tokens that `top_k` and `top_p` keep at least.

    Raises:
        UsageError: a setting of another type or out of its range.
    """

    def __init__(
        self,
        do_sample: bool,
        temperature: float,
        top_k: int | None,
        top_p: float | None,
        seed: int | None,
        device: torch.device,
        *,
        least: int = 1,
    ) -> None:
        top_k = 0 if top_k is None else top_k
        top_p = 1.0 if top_p is None else top_p
        for name, value, fits, allowed in (
            ("temperature", temperature, _within(temperature, COLDEST, math.inf), WARMTH),
            ("top_k", top_k, is_whole(top_k) and top_k >= 0, "0 for all, or how many to keep"),
            ("top_p", top_p, _within(top_p, 0, 1) and top_p > 0, "a share above 0, up to 1"),
            ("seed", seed, seed is None or is_whole(seed), "a whole number, or None"),
        ):
            if not fits:
                raise UsageError(f"{name} is {value!r}", fix=f"give {allowed}")
        self.do_sample, self.least = do_sample, least
        self.temperature, self.top_k, self.top_p = temperature, top_k, top_p
        self._generator = None
        if seed is not None:
            self._generator = torch.Generator(device).manual_seed(seed)

    def choose(self, logits: Tensor) -> Tensor:
        """One token (B,) from each row of logits (B, V).

        Raises:
            BertoltError: a row without a most probable token.
        """
        self.require_finite(logits)
        if not self.do_sample:
            return logits.argmax(dim=-1)
        shares = self.warped(logits).softmax(dim=-1)
        return torch.multinomial(shares, 1, generator=self._generator).squeeze(1)

    def require_finite(self, logits: Tensor) -> Tensor:
        """The same logits (B, V).

        Raises:
            BertoltError: a row without a most probable token.
        """
        best = logits.amax(dim=-1)
        if not bool(best.isfinite().all()):
            row = int((~best.isfinite()).nonzero()[0])
            raise BertoltError(
                f"the logits of sequence {row} are not finite",
                fix="look for weights that are not finite, or run in bfloat16 or float32",
            )
        return logits

    def several(self, scores: Tensor, count: int) -> Tensor:
        """So many different columns (B, count), drawn by scores (B, …) one after another."""
        return torch.multinomial(scores.softmax(dim=-1), count, generator=self._generator)

    def warped(self, logits: Tensor) -> Tensor:
        """Logits (B, V) as they are drawn by; the same without a draw."""
        return self.shortened(logits / self.temperature) if self.do_sample else logits

    def shortened(self, logits: Tensor) -> Tensor:
        """Logits (B, V) with -inf for the tokens that `top_k` and `top_p` leave out."""
        top_k = max(self.top_k, self.least) if self.top_k else 0
        if 0 < top_k < logits.shape[-1]:
            least = logits.topk(top_k, dim=-1).values.narrow(-1, top_k - 1, 1)
            logits = logits.masked_fill(logits < least, -math.inf)
        if self.top_p < 1:
            ordered, order = logits.sort(dim=-1, descending=True)
            shares = ordered.softmax(dim=-1)
            # A token is left out when those before it are already enough; the first never is.
            out = shares.cumsum(dim=-1) - shares >= self.top_p
            out[..., : self.least] = False
            logits = logits.masked_fill(out.scatter(-1, order, out), -math.inf)
        return logits


def _within(value: object, least: float, most: float) -> bool:
    """Whether it is a finite number in this range."""
    return is_real(value) and least <= value <= most
