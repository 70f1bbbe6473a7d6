"""Counts of spans that are exactly right, for each kind and over all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertolt.base.errors import UsageError
from bertolt.metrics.counts import (
    ClassScore,
    Interval,
    State,
    Tally,
    mean_of,
    wilson_interval,
)
from bertolt.metrics.tags import Span


class SpanCounts:
    """Counts of predicted and true spans, a span being right when both ends and the kind are.

    Spans are (start, end, kind). All counts are whole numbers by kind: the scores do not depend
    on order, on batches or on merging, and the kinds need not be known before.
    """

    def __init__(self) -> None:
        # Spans with the same ends by (true kind, predicted kind); None for a missing partner.
        self._pairs: Counter[tuple[str | None, str | None]] = Counter()
        self._tokens = self._right_tokens = 0

    def update(
        self,
        predicted_spans: Iterable[Span],
        true_spans: Iterable[Span],
        *,
        predicted_tags: Sequence[str] | None = None,
        true_tags: Sequence[str] | None = None,
    ) -> None:
        """Count one sentence; with its tags, also how many of them agree.

        Raises:
            UsageError: the two lists of tags differ in length, or only one is there; nothing is
                counted then.
        """
        guessed_tags, tags = (
            [] if tags is None else list(tags) for tags in (predicted_tags, true_tags)
        )
        if len(guessed_tags) != len(tags):
            raise UsageError(
                f"{len(guessed_tags)} predicted tags and {len(tags)} true ones",
                place="SpanCounts.update",
                fix="give one tag for each word, on both sides",
            )
        self._tokens += len(tags)
        self._right_tokens += sum(a == b for a, b in zip(guessed_tags, tags, strict=True))
        self._pairs.update(_partners(set(predicted_spans), set(true_spans)))

    def state(self) -> State:
        """`kinds`: their names as code points, each ended by 0; `pairs`, (K + 1, K + 1): counts by
        true kind in rows and predicted kind in columns, the first being no span; `tokens`, (2,):
        how many were right, and all."""
        names: list[str | None] = [None, *self.kinds()]
        pairs = [[self._pairs[true, guessed] for guessed in names] for true in names]
        letters = [ord(letter) for kind in self.kinds() for letter in f"{kind}\0"]
        return {
            "kinds": np.array(letters, dtype=np.int64),
            "pairs": np.array(pairs, dtype=np.int64),
            "tokens": np.array([self._right_tokens, self._tokens], dtype=np.int64),
        }

    def merge(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Add other counts, whatever their kinds."""
        text = "".join(map(chr, state["kinds"].tolist()))
        names: list[str | None] = [None, *text.split("\0")[:-1]]
        for row, column in np.argwhere(state["pairs"]).tolist():
            self._pairs[names[row], names[column]] += int(state["pairs"][row, column])
        right, total = state["tokens"].tolist()
        self._right_tokens += right
        self._tokens += total

    def kinds(self) -> list[str]:
        """Every kind that was predicted or true, sorted."""
        return sorted({kind for pair in self._pairs for kind in pair if kind is not None})

    def tally(self) -> Tally:
        """Right spans, predicted spans and true spans of each of `kinds`."""
        return Tally.of(self._pairs, self.kinds())

    def per_type(self) -> dict[str, ClassScore]:
        """The `ClassScore` of each kind."""
        return dict(zip(self.kinds(), self.tally().class_scores(), strict=True))

    def overall(self) -> ClassScore:
        """Precision, recall and F1 of all kinds pooled, with their intervals."""
        return self.tally().pooled().class_scores()[0]

    def confused(self) -> dict[tuple[str, str], int]:
        """How many spans have the right ends and another kind, by (true kind, predicted kind)."""
        return {
            (true, guessed): count
            for (true, guessed), count in self._pairs.items()
            if true is not None and guessed is not None and true != guessed
        }

    def missed(self) -> dict[str, int]:
        """True spans of each kind for which no span with the same ends was predicted."""
        return {kind: self._pairs[kind, None] for kind in self.kinds()}

    def spurious(self) -> dict[str, int]:
        """Predicted spans of each kind where no true one has the same ends."""
        return {kind: self._pairs[None, kind] for kind in self.kinds()}

    def values(self) -> dict[str, float | None]:
        """precision, recall and f1 of all spans, f1_macro over kinds, token_accuracy.

        f1_macro is over the kinds that are true or predicted somewhere. A share of nothing is
        None: a precision without a predicted span, a recall without a true one, an F1 without
        either, an accuracy without tags.
        """
        overall = self.overall()
        scores = [score.f1 for score in self.per_type().values() if score.f1 is not None]
        return {
            "precision": overall.precision,
            "recall": overall.recall,
            "f1": overall.f1,
            "f1_macro": mean_of(scores),
            "token_accuracy": self._right_tokens / self._tokens if self._tokens else None,
        }

    def intervals(self) -> dict[str, Interval | None]:
        """95% intervals of precision, recall and f1 as in `ClassScore`; Wilson's of the tokens."""
        overall, tokens = self.overall(), self._tokens
        return {
            "precision": overall.precision_interval,
            "recall": overall.recall_interval,
            "f1": overall.f1_interval,
            "token_accuracy": wilson_interval(self._right_tokens, tokens) if tokens else None,
        }


def _partners(guessed: set[Span], true: set[Span]) -> Counter[tuple[str | None, str | None]]:
    """Pairs of (true kind, predicted kind) with the same ends; None where a span has no partner."""
    pairs: Counter[tuple[str | None, str | None]] = Counter()
    for *_, kind in guessed & true:
        pairs[kind, kind] += 1
    open_spans: dict[tuple[int, int], list[str]] = {}
    for start, end, kind in sorted(guessed - true, reverse=True):
        open_spans.setdefault((start, end), []).append(kind)
    for start, end, kind in sorted(true - guessed):
        others = open_spans.get((start, end))
        pairs[kind, others.pop() if others else None] += 1
    pairs.update((None, kind) for others in open_spans.values() for kind in others)
    return pairs
