"""What is done with texts that are longer than a window. Light, for the options of commands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Long = Literal["error", "truncate", "head-tail", "window"]
LONGS: tuple[Long, ...] = get_args(Long)
POOLED = "mean of logits"
"""How the windows of a text answer together. The mean of logits is for probabilities what their
geometric mean is, scaled to 1; it is of one kind for labels, several labels and numbers, and every
loss of a head applies to it as to the logits of a short text. It can be added up window by window.
"""
AVERAGED = "mean of vectors"
"""The same for vectors, before they are normalized: of all tokens of the windows where tokens are
averaged, so that a longer window weighs more; of the windows where their first tokens are taken."""
HEAD = 128 / 510
"""Share of a cut text that its first tokens have. Source: C. Sun et al., "How to fine-tune BERT for
text classification?", 2019, who keep the first 128 and the last 382 of 510."""
OVERLAPS = 8
"""Windows of a text share an eighth of what they hold of it, unless the user says otherwise."""


@dataclass(frozen=True, kw_only=True)
class LongTexts:
    """What is done with a text that is longer than the limit.

    Attributes:
        how: "error" refuses it, "truncate" cuts its end, "head-tail" its middle; "window" reads all
            of it, in windows.
        stride: tokens that a window repeats of the one before it; None: as the task does.
    """

    how: Long
    stride: int | None = None

    @property
    def lost(self) -> str:
        """What a text that is cut loses, in words."""
        parts = {"head-tail": "the middle", "window": "a part that every window repeats"}
        return parts.get(self.how, "the end")

    def words(self, limit: int) -> str:
        """The same for people."""
        if self.how == "window":
            shared = "" if self.stride is None else f", each with {self.stride} of the one before"
            return f"read in windows of {limit} tokens{shared}"
        ends = {"error": "refused", "truncate": "cut at their end"}
        return ends.get(self.how, "cut in their middle")


def most_stride(room: int) -> int:
    """Most tokens that two windows may share of `room` in each: each brings a quarter of new ones.

    Fewer would read a text more than four times.
    """
    return room - max(1, room // 4)


def stretches(count: int, room: int, overlap: int) -> Iterator[slice]:
    """Windows of `room` tokens over `count` of them, as tokenizers part them with a stride."""
    for start in range(0, max(1, count), room - overlap):
        yield slice(start, start + room)
        if start + room >= count:
            return


def shared(room: int, stride: int | None, usual: int) -> int:
    """Tokens that two windows of `room` share: `stride` if that leaves new ones, else `usual`."""
    return usual if stride is None else min(stride, most_stride(room))


def head_and_tail(ids: Sequence[int], keep: int) -> list[int]:
    """The first and the last of some tokens, `keep` of them."""
    if len(ids) <= keep:
        return list(ids)
    first = round(keep * HEAD)
    return [*ids[:first], *ids[len(ids) - (keep - first) :]]
