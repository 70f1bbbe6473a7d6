"""Windows of tagged texts: a long text runs in several, and each of its units is answered once.

A *unit* is a token of the tokenizer before it is cut into pieces (a word without its punctuation, a
Chinese character); its first piece answers for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertolt.data.encode import EncodedExample, EncodedTexts, Window
from bertolt.data.load import Table
from bertolt.data.long import LongTexts, shared, stretches
from bertolt.tokenization.batch_encoding import EncodedWords

WINDOWS = LongTexts(how="window")
_NOWHERE = (-1, -1)


def windows_of(
    pieces: Sequence[int],
    places: Sequence[tuple[int, int]],
    start_id: int,
    end_id: int,
    limit: int,
    long: LongTexts = WINDOWS,
) -> EncodedExample:
    """A text in windows that overlap by half: each piece is answered with context on both sides.

    Args:
        pieces: tokens of the text.
        places: the characters that each of them answers for, or nowhere.
        start_id, end_id: special tokens around each window.
        limit: most tokens of a window, with them.
        long: "truncate" for the first of them alone, or another overlap.
    """
    room, count = limit - 2, len(pieces)
    overlap = shared(room, long.stride, room // 4 * 2)
    before = overlap // 2  # of an odd overlap, the window before answers the odd token
    cuts = long.how == "truncate"
    windows: list[Window] = []
    for part in stretches(count, room, overlap):
        start, last = part.start, part.stop >= count or cuts
        ids = pieces[part]
        answers = range(
            start + before if start else 0,
            min(part.stop, count) if last else part.stop - (overlap - before),
        )
        answered = [
            places[piece] if piece in answers else _NOWHERE
            for piece in range(start, start + len(ids))
        ]
        windows.append(Window([start_id, *ids, end_id], None, [_NOWHERE, *answered, _NOWHERE]))
        if last:
            break
    return EncodedExample(windows, count + 2, (max(0, count - room) if cuts else 0,))


def first_pieces(words: EncodedWords) -> list[tuple[int, int]]:
    """The characters of each unit, at its first piece; nowhere for the other pieces."""
    places = [_NOWHERE] * len(words.ids)
    first = 0
    for piece, (unit, offsets) in enumerate(zip(words.words, words.offsets, strict=True)):
        if unit is None:
            continue
        if piece == 0 or unit != words.words[piece - 1]:
            first = piece
            places[first] = (offsets[0], offsets[1])
        else:
            places[first] = (places[first][0], max(places[first][1], offsets[1]))
    return places


def answered_units(
    table: Table, index: NDArray[np.int64], rows: EncodedTexts
) -> Iterator[tuple[dict[str, Any], NDArray[np.int64], NDArray[np.int32]]]:
    """Each row at `index`, its tokens that answer for a unit, and (U, 2) the characters of those.

    Args:
        table, index: the rows.
        rows: the same, encoded.
    """
    assert rows.places is not None
    firsts = rows.firsts
    for example, first, last in zip(
        table.examples(index.tolist()), firsts[:-1], firsts[1:], strict=True
    ):
        tokens = np.arange(rows.offsets[first], rows.offsets[last])
        tokens = tokens[rows.places[tokens, 0] >= 0]
        yield example, tokens, rows.places[tokens]
