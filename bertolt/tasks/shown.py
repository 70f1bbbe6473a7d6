"""Which tokens of windows belong to a text and were not shown by the window before.

Windows overlap, and repeat the question or the shorter text of a pair whole; choices repeat their
question. Who counts words counts each of them once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bertolt.data.encode import EncodedTexts

Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]


def new_tokens(
    rows: EncodedTexts, places: Integers, start: int, stop: int, segment: int, special: Mask
) -> Mask:
    """(T,) whether tokens of the windows from `start` to `stop` are of one text of their examples
    and no window before shows them.

    Of a text that repeats itself, windows may be alike further than they overlap; such tokens
    count as shown before.

    Args:
        rows: the examples.
        places: which of the documents of its example each window is of.
        start, stop: the windows.
        segment: 0 for the first text of an example, 1 for the second.
        special: (V,) whether a token is none of a text.
    """
    first = max(start - 1, 0)  # the first one may go on with a window before
    ends = rows.offsets[first : stop + 1]
    ids = rows.ids[ends[0] : ends[-1]]
    of_text = ~special[ids]
    document = places[first:stop]
    if rows.segments is not None:
        of_text &= rows.segments[ends[0] : ends[-1]] == segment
    elif rows.several_documents:
        of_text &= np.repeat(document == segment, np.diff(ends))  # each has windows of its own
    new = of_text.copy()
    bounds = ends - ends[0]
    for window in (np.flatnonzero(np.diff(rows.window_examples[first:stop]) == 0) + 1).tolist():
        before, now = (
            np.flatnonzero(of_text[bounds[each] : bounds[each + 1]]) + bounds[each]
            for each in (window - 1, window)
        )
        apart = document[window] != document[window - 1]
        if apart and segment:
            continue  # another choice, however alike
        new[now[: _shown(ids[before], ids[now], apart=bool(apart))]] = False
    return new[bounds[start - first] :]


def _shown(before: NDArray[np.int32], now: NDArray[np.int32], *, apart: bool) -> int:
    """How many of the first tokens of a window are the last ones of the window before.

    Args:
        before, now: tokens of a text in both.
        apart: they are of two documents, which share all of the text or nothing.
    """
    if np.array_equal(before, now):
        return len(now)
    if apart or not len(now):
        return 0
    for place in np.flatnonzero(before == now[0]).tolist():
        if np.array_equal(before[place:], now[: len(before) - place]):
            return len(before) - int(place)
    return 0
