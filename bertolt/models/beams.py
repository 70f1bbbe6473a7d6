"""Beam search: of each prompt the most probable continuations are gone on with, side by side.

The choices are those of the peer, to the tie: which candidates are looked at, when a text counts as
ended, and when no beam can get better any more.

Shapes: B prompts, K beams of each, C candidates, M columns with all new tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

EarlyStopping = bool | Literal["never"]

_NEVER = -1e9
"""The score of what is never taken."""

Ended = Callable[[Tensor], Tensor]
"""From ids (R, L) to (R,) whether each text ends here."""


class Beams:
    """The running beams and the ended texts of B prompts.

    Args:
        prompts: (B·K, P) ids, the K rows of a prompt one after another.
        count: K.
        columns: M, prompts included.
        filler: what follows the end of a text.
        ends: how many ids end a text.
        length_penalty: scores are divided by the number of new tokens to this power.
        early_stopping: True: as soon as there are K ended texts; False: when no beam seems to get
            better; "never": when none can.
        draw: picks C candidates (B, C) from scores (B, K·V); None: the best.
    """

    def __init__(
        self,
        prompts: Tensor,
        count: int,
        columns: int,
        *,
        filler: int,
        ends: int,
        length_penalty: float,
        early_stopping: EarlyStopping,
        draw: Callable[[Tensor, int], Tensor] | None = None,
    ) -> None:
        size, self.prompt = len(prompts) // count, prompts.shape[1]
        self.count, self.columns, self.length = count, columns, self.prompt
        # So many that K of them go on, even if all others end here.
        self.candidates = max(2, 1 + ends) * count
        self.length_penalty, self.early_stopping, self.draw = length_penalty, early_stopping, draw
        device = prompts.device
        self.running = torch.full((size, count, columns), filler, device=device)
        self.running[:, :, : self.prompt] = prompts.view(size, count, -1)
        self.ended = self.running.clone()
        # At first all beams are the same: one of them alone is gone on with.
        self.scores = torch.full((size, count), _NEVER, device=device)
        self.scores[:, 0] = 0.0
        self.ended_scores = torch.full((size, count), _NEVER, device=device)
        self.is_ended = torch.zeros(size, count, dtype=torch.bool, device=device)
        self.improvable = torch.ones(size, 1, dtype=torch.bool, device=device)
        self.origins = torch.full((size, count, columns - self.prompt), -1, device=device)
        self.ended_origins = self.origins.clone()
        self.first_rows = torch.arange(size, device=device)[:, None] * count

    @property
    def ids(self) -> Tensor:
        """(B·K, L) ids of the running beams."""
        return self.running[:, :, : self.length].flatten(0, 1)

    def advance(self, log_probs: Tensor, ended: Ended) -> tuple[Tensor, Tensor] | None:
        """Go on by one token.

        Args:
            log_probs: (B·K, V) of the next token.
            ended: of texts with their new token, whether they end there.

        Returns:
            (B·K,) the new tokens, and the rows whose beams they go on; None: the search is over.
        """
        size, count, vocabulary = len(self.running), self.count, log_probs.shape[-1]
        sums = log_probs.view(size, count, -1) + self.scores[:, :, None]
        sums = sums.view(size, count * vocabulary)
        if self.draw is None:
            sums, chosen = sums.topk(self.candidates)
        else:
            chosen = self.draw(sums, self.candidates)
            sums = sums.gather(1, chosen)
        beams = chosen // vocabulary
        texts, origins = _rows(self.running, beams), _rows(self.origins, beams)
        texts[:, :, self.length] = chosen % vocabulary
        origins[:, :, self.length - self.prompt] = beams + self.first_rows
        self.length += 1
        stops = ended(texts[:, :, : self.length].flatten(0, 1)).view(size, -1)
        stops = stops | (self.length >= self.columns)
        self._take_ended(texts, origins, sums, stops)
        sums = sums + stops.float() * _NEVER
        best = sums.topk(count)[1]
        self.running, self.origins = _rows(texts, best), _rows(origins, best)
        self.scores = sums.gather(1, best)
        self._look_ahead()
        if self._is_over(stops):
            return None
        last = self.length - 1
        return (
            self.running[:, :, last].flatten(),
            self.origins[:, :, last - self.prompt].flatten(),
        )

    def _take_ended(self, texts: Tensor, origins: Tensor, sums: Tensor, stops: Tensor) -> None:
        """Keep the K best of the texts that have ended, before and now."""
        among_best = torch.arange(self.candidates, device=sums.device) < self.count
        new = stops & among_best
        full = self.is_ended.all(-1, keepdim=True) & (self.early_stopping is True)
        scores = sums / ((self.length - self.prompt) ** self.length_penalty)
        for out in (full, ~self.improvable, ~new):
            scores = scores + out.float() * _NEVER
        merged = torch.cat([self.ended_scores, scores], 1)
        best = merged.topk(self.count)[1]
        self.ended_scores = merged.gather(1, best)
        self.ended = _rows(torch.cat([self.ended, texts], 1), best)
        self.ended_origins = _rows(torch.cat([self.ended_origins, origins], 1), best)
        self.is_ended = torch.cat([self.is_ended, new], 1).gather(1, best)

    def _look_ahead(self) -> None:
        """Note the prompts of which no running beam can come before the ended texts any more."""
        never = self.early_stopping == "never" and self.length_penalty > 0
        length = (self.columns if never else self.length) - self.prompt
        hoped = self.scores[:, :1] / (length**self.length_penalty)
        worst = self.ended_scores.min(1, keepdim=True).values.where(self.is_ended, _NEVER)
        self.improvable = self.improvable & (hoped > worst).any(-1, keepdim=True)

    def _is_over(self, stops: Tensor) -> bool:
        enough = self.is_ended.all() & (self.early_stopping is True)
        return bool(~self.improvable.any() | enough | stops.all())

    def best(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """The best texts of each prompt.

        Returns:
            (B·count, L) ids, (B·count,) scores, and (B·count, new) the row that each new token went
            on from, -1 behind the end.
        """
        origins = self.ended_origins[:, :count].flatten(0, 1)
        longest = int((origins >= 0).sum(1).max())
        texts = self.ended[:, :count, : self.prompt + longest].flatten(0, 1)
        return texts, self.ended_scores[:, :count].flatten(), origins[:, :longest]


def _rows(values: Tensor, index: Tensor) -> Tensor:
    """Of (B, K, …) the beams at (B, C): (B, C, …)."""
    return values.gather(1, index[:, :, None].expand(-1, -1, values.shape[-1]))
