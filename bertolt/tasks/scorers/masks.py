"""Scores of hidden tokens: their loss and perplexity, and how often the first guesses are right."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertolt.base.format import number, plural
from bertolt.data.spill import Numbers
from bertolt.metrics import RowSums, wilson_interval
from bertolt.tasks import page
from bertolt.tasks.base import Answer, Example, Scorer
from bertolt.tasks.table import interval_words, score_words

FIRST = 5
"""Guesses among which the true token counts as named."""
_LARGEST = 700.0  # nats whose exponential is a number


class MaskScorer(Scorer):
    """Hidden tokens, and what the model makes of each.

    Args:
        share: of the tokens that were hidden.
        seed: that chose them.

    Attributes:
        hidden, first, five: hidden tokens, those named first, and those among the first five.
    """

    shown = ("perplexity", "accuracy", "top_5_accuracy")
    errors = ("perplexity",)
    of_nothing = 0.0  # the loss of a row in which no token was hidden

    def __init__(self, share: float, seed: int) -> None:
        self.share, self.seed = share, seed
        self._counts = np.zeros(4, dtype=np.int64)
        self._nats = 0.0
        self._rows = Numbers("d")  # the loss and the hidden tokens of each, to be resampled

    @property
    def hidden(self) -> int:
        """Hidden tokens."""
        return int(self._counts[1])

    def add(self, answer: Answer, example: Example) -> float:
        """Wrong by the mean loss of the tokens, where one of them was not named first."""
        ranks = [_rank(mask) for mask in answer["masks"]]
        nats = -math.fsum(mask["log_probability"] for mask in answer["masks"])
        first = ranks.count(0)
        self._counts += (1, len(ranks), first, sum(rank < FIRST for rank in ranks))
        self._nats += nats
        self._rows.extend((nats, len(ranks)))
        return 0.0 if first == len(ranks) else nats / len(ranks)

    def state(self) -> dict[str, NDArray[Any]]:
        """Counts, the sum of the losses in nats, and (N, 2) losses and hidden tokens of rows."""
        rows = self._rows.whole().reshape(-1, 2)
        return {"counts": self._counts, "nats": np.array([self._nats]), "rows": rows}

    def merge(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Add counts and losses."""
        self._counts = self._counts + state["counts"]
        self._nats += float(state["nats"][0])
        self._rows.extend(state["rows"].ravel())

    def row_sums(self, answer: Answer, example: Example) -> tuple[float, ...]:
        """The summed loss of the hidden tokens, and how many there are."""
        nats = -math.fsum(mask["log_probability"] for mask in answer["masks"])
        return nats, float(len(answer["masks"]))

    def by_rows(self) -> RowSums:
        """The same of each row."""
        return RowSums.of(self._rows.whole().reshape(-1, 2))

    def loss(self) -> float | None:
        """Mean loss of a hidden token in nats; None without one."""
        return self._nats / self.hidden if self.hidden else None

    def perplexity(self) -> float | None:
        """The exponential of it; None without a hidden token, or beyond all numbers."""
        loss = self.loss()
        return None if loss is None or not loss < _LARGEST else math.exp(loss)

    def accuracy(self, place: int) -> tuple[float | None, tuple[float, float] | None]:
        """Share of the tokens that were named first (2), or among the first five (3)."""
        right = int(self._counts[place])
        if not self.hidden:
            return None, None
        return right / self.hidden, wilson_interval(right, self.hidden)

    def values(self) -> dict[str, Any]:
        """Loss, perplexity and shares, and how the tokens were chosen."""
        (first, ends), (five, limits) = self.accuracy(2), self.accuracy(3)
        return {
            "loss": self.loss(),
            "perplexity": self.perplexity(),
            "accuracy": first,
            "accuracy_interval": ends,
            "top_5_accuracy": five,
            "top_5_accuracy_interval": limits,
            "hidden_tokens": self.hidden,
            "hidden_share": self.share,
            "hidden_seed": self.seed,
            "rows": int(self._counts[0]),
        }

    def lines(self, loss: float) -> Iterator[str]:
        """The same in words."""
        rows = plural(int(self._counts[0]), "row")
        how = f"{self.share:.0%} of the tokens, chosen by seed {self.seed}"
        if not self.hidden:
            yield f"n/a: of {rows} no token was hidden ({how})"
            return
        yield f"Loss {score_words(self.loss())} on {plural(self.hidden, 'hidden token')} of {rows}"
        yield f"  {how}; most become the mask, a tenth another token, a tenth stay"
        yield f"  perplexity {score_words(self.perplexity())}"
        yield f"  accuracy {interval_words(*self.accuracy(2))}"
        yield f"  among the first {FIRST} guesses {interval_words(*self.accuracy(3))}"

    def explain(self) -> dict[str, Any]:
        """Accuracy, with perplexity and the first five guesses beside it."""
        accuracy = page.measure(*self.accuracy(2))
        five = page.share(f"Among the first {FIRST}", self.accuracy(3)[0])
        loss = f"loss {number(self.loss())}"
        perplexity = {"label": "Perplexity", "value": self.perplexity(), "note": loss}
        return page.part(
            page.headline("Accuracy of hidden tokens", accuracy, int(self._counts[0]), None),
            tiles=[five, perplexity],
            curves=[page.curve("accuracy", "Accuracy", accuracy)],
        )


def _rank(mask: Mapping[str, Any]) -> int:
    """The place of the true token among the guesses, from 0."""
    ids = [guess["id"] for guess in mask["best"]]
    return ids.index(mask["truth"]) if mask["truth"] in ids else len(ids) + FIRST
