"""Texts and pairs that are longer than the limit, in windows or without their middles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from bertolt.base.errors import DataError
from bertolt.base.format import plural
from bertolt.data.encode import EncodedExample, EncodedTexts, Window
from bertolt.data.long import OVERLAPS, Long, LongTexts, head_and_tail, shared, stretches
from bertolt.tokenization.batch_encoding import PairFrame
from bertolt.tokenization.rows import kept_lengths


def long_texts(
    rows: Iterable[Sequence[int]], limit: int, long: LongTexts
) -> Iterator[EncodedExample]:
    """Texts in windows, or without their middles.

    Args:
        rows: the whole ids of each text, with a special token before and behind them.
        limit: most tokens of a window, with those two.
        long: "window" or "head-tail".
    """
    room = limit - 2
    for row in rows:
        start, body, end = row[0], row[1:-1], row[-1]
        if len(body) <= room:
            yield EncodedExample([Window(row)], len(row))
        elif long.how == "head-tail":
            kept = head_and_tail(body, room)
            yield EncodedExample([Window([start, *kept, end])], len(row), (len(body) - room,))
        else:
            parts = stretches(len(body), room, shared(room, long.stride, room // OVERLAPS))
            yield EncodedExample([Window([start, *body[part], end]) for part in parts], len(row))


def long_pairs(
    firsts: Iterable[Sequence[int]],
    seconds: Iterable[Sequence[int]],
    frame: PairFrame,
    limit: int,
    long: LongTexts,
) -> Iterator[EncodedExample]:
    """Pairs in windows, of which each holds the shorter text whole; or without their middles.

    The shorter one takes half of the room at most; what it loses by that is counted.

    Args:
        firsts, seconds: the whole ids of each text, with a special token before and behind them.
        frame: the special tokens of a pair.
        limit: most tokens of a window.
        long: "window" or "head-tail".
    """
    room = limit - len(frame)
    for one, other in zip(firsts, seconds, strict=True):
        pair = list(one[1:-1]), list(other[1:-1])
        counts = [len(text) for text in pair]
        if sum(counts) <= room:
            windows = [_framed(frame, *pair)]
        elif long.how == "head-tail":
            keeps = kept_lengths(counts[0], counts[1], room, "longest_first")
            pair = head_and_tail(pair[0], keeps[0]), head_and_tail(pair[1], keeps[1])
            windows = [_framed(frame, *pair)]
        else:
            turned = counts[0] > counts[1]
            whole, parted = pair[::-1] if turned else pair
            whole = whole[: max(1, room // 2)]
            stretch = max(1, room - len(whole))
            overlap = shared(stretch, long.stride, stretch // OVERLAPS)
            parts = [parted[part] for part in stretches(len(parted), stretch, overlap)]
            windows = [_framed(frame, *((p, whole) if turned else (whole, p))) for p in parts]
            pair = (parted, whole) if turned else (whole, parted)
        cut = counts[0] - len(pair[0]), counts[1] - len(pair[1])
        yield EncodedExample(windows, len(frame) + sum(counts), cut)


def _framed(frame: PairFrame, first: list[int], second: list[int]) -> Window:
    return Window(*frame.around(first, second))


class TooLongError(DataError):
    """A text that is longer than the limit, where longer ones are refused.

    Attributes:
        role: of the text, where an example has several that are encoded each by itself.
    """

    role: str | None = None


def beyond_limit(rows: EncodedTexts) -> NDArray[np.bool_]:
    """(N,) whether an example has a text that is longer than the limit.

    Args:
        rows: as the task encodes them.
    """
    lost = np.zeros(rows.examples, bool) if rows.cut is None else rows.cut.any(axis=1)
    longer: NDArray[np.bool_] = lost | rows.parted
    return longer


def too_long(
    rows: EncodedTexts,
    number: int,
    place: str,
    longs: Sequence[Long],
    more: int = 0,
    *,
    longer: str = "",
) -> TooLongError:
    """What to raise for a text that is too long.

    Args:
        rows: the examples.
        number: of the one.
        place: where it is.
        longs: what the task can do with longer texts.
        more: others that are too long too.
        longer: which of its texts are longer, with their tokens, where it has several.
    """
    others = (
        f"; so {'is' if more == 1 else 'are'} {plural(more, 'more row', 'more rows')}"
        if more
        else ""
    )
    longer = longer or f"it has {int(rows.full_lengths[number]):,}"
    window = "--long window reads all of it; " if "window" in longs else ""
    return TooLongError(
        f"it is longer than the limit of {rows.max_length:,} tokens: {longer}{others}",
        place=place,
        fix=f"{window}--long truncate cuts it",
    )
