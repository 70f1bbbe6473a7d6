"""What changes the scores of the next token before one is chosen: repetition, bans, lengths.

Each takes what has been read and written so far, ids (R, L) with padding on the left, and scores
(R, V), and gives other scores. R rows are prompts, or their beams; V is the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bertolt.base.errors import UsageError

Change = Callable[[Tensor, Tensor], Tensor]
"""From ids (R, L) and scores (R, V) to scores (R, V)."""


class Repeated:
    """Scores of tokens that are there already, made less by a factor.

    Source: Keskar et al., 2019, arXiv:1909.05858.

    Args:
        penalty: above 1 repetition is avoided, below 1 it is sought.
        padding: (R, P) where the prompts have no token.
    """

    def __init__(self, penalty: float, padding: Tensor) -> None:
        self.penalty, self.padding = penalty, padding

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        """The changed scores."""
        spare = scores.shape[-1]
        seen = ids.clone()
        seen[:, : self.padding.shape[1]].masked_fill_(self.padding, spare)
        wide = F.pad(scores, (0, 1))
        of_seen = wide.gather(1, seen)
        less = torch.where(of_seen < 0, of_seen * self.penalty, of_seen / self.penalty)
        return wide.scatter(1, seen, less)[:, :spare]


class RepeatedRuns:
    """No run of `size` tokens is written that is there already.

    Args:
        size: tokens of a run.
        padding: (R, P) where the prompts have no token.
    """

    def __init__(self, size: int, padding: Tensor) -> None:
        self.size, self.padding = size, padding

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        """The changed scores."""
        length, spare = ids.shape[1], scores.shape[-1]
        if length < self.size:
            return scores
        real = ids.clone()
        real[:, : self.padding.shape[1]].masked_fill_(self.padding, -1)
        runs = real.unfold(1, self.size, 1)
        begun = real[:, length + 1 - self.size :]
        again = (runs[..., :-1] == begun[:, None]).all(-1) & (runs[..., -1] >= 0)
        banned = torch.zeros(len(ids), spare + 1, dtype=torch.bool, device=scores.device)
        banned.scatter_(1, runs[..., -1].where(again, spare), True)
        return scores.masked_fill(banned[:, :spare], -math.inf)


class BannedWords:
    """Words of one token or several that are never written; their last token is not chosen.

    Args:
        words: ids of each.
    """

    def __init__(self, words: Sequence[Sequence[int]], device: torch.device) -> None:
        self.words = [torch.tensor(list(word), device=device) for word in words]

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        """The changed scores."""
        scores = scores.clone()
        for word in self.words:
            begun = len(word) - 1
            if begun > ids.shape[1]:
                continue
            rows = (ids[:, ids.shape[1] - begun :] == word[:-1]).all(1)
            last = scores[:, word[-1]]
            scores[:, word[-1]] = last.masked_fill(rows, -math.inf)
        return scores


class Shortest:
    """No end before a text has `length` columns, prompt included.

    Args:
        length: in tokens.
        ends: (E,) ids that end a text.
    """

    def __init__(self, length: int, ends: Tensor) -> None:
        self.length, self.ends = length, ends

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        """The changed scores."""
        if ids.shape[1] >= self.length:
            return scores
        return scores.index_fill(1, self.ends, -math.inf)


class Given:
    """A change of the user's own, whose result is looked at.

    Args:
        function: from ids (R, L) and scores (R, V) to scores.
    """

    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        """The changed scores.

        Raises:
            UsageError: it gave something else.
        """
        changed = self.function(ids, scores)
        if not isinstance(changed, Tensor) or changed.shape != scores.shape:
            got = tuple(changed.shape) if isinstance(changed, Tensor) else type(changed).__name__
            raise UsageError(
                f"a logits processor gave {got}, and scores {tuple(scores.shape)} are needed",
                fix="let it return the scores, changed or not",
            )
        return changed
