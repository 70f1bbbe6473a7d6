"""Pairs for next sentence prediction, by the rule of BERT's own code, made anew for every epoch.

Devlin et al. 2018, appendix A.2, and `create_instances_from_document` of the code published with
it: sentences of a document are gathered until they fill a sequence (in one of ten cases a shorter
one), and parted at a random sentence. For one half of the pairs the second part stays; for the
other it comes from another document, and the sentences it stands in for begin the next pair. What
is too long loses tokens at random ends of its longer part.

Where there is only one sentence, nothing could have followed: the second part is from elsewhere,
and the pair has no label. That code labels it as any other; but then a corpus of short documents
has far more than half of its pairs from elsewhere, and they can be told by their length.

Here all documents go forward side by side, pair by pair, so an epoch of a million pairs takes about
a second. Shapes: A pieces of sentences, D documents, P pairs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bertolt.base.errors import DataError
from bertolt.data.batch import IGNORE_INDEX
from bertolt.pretrain.windows import Ints, Sequences, Text

SHORT_SHARE = 0.1
"""Of pairs that are made shorter on purpose, as the paper has it."""

_STRETCH = 1024  # pieces that one runner goes through: a document of a million need not hold all up


def pairs(text: Text, room: int, *, seed: int, epoch: int) -> Sequences:
    """The pairs of an epoch.

    Args:
        text: cut to pieces of at most `room` tokens.
        room: tokens of both parts together.
        seed, epoch: the pairs follow from these.

    Returns:
        Two spans each; label 0 where the second follows the first, 1 where it is from elsewhere,
        `IGNORE_INDEX` where it had to be.

    Raises:
        DataError: there is only one document, so no other can be taken; or none of them has two
            sentences, so nothing follows.
    """
    if len(text.documents) < 3:
        raise DataError(
            "next sentence prediction needs another document, and the corpus has only one",
            fix="use --objective mlm, or part the text into documents with blank lines",
        )
    if np.diff(text.documents).max() < 2:
        raise DataError(
            "next sentence prediction needs sentences that follow others, and every document is "
            "one sentence",
            fix="use --objective mlm, or part the text into longer documents",
        )
    drawn = np.random.default_rng((seed, epoch, 1))
    place, end, document = _runners(text)
    rounds = []
    while len(place):
        pair, place = _next_pairs(text, room, place, end, document, drawn)
        rounds.append(pair)
        going = place < end
        place, end, document = place[going], end[going], document[going]
    table = np.concatenate(rounds, axis=1)
    # Runners that start together stay together: in the order of the text, not of the rounds.
    table = table[:, np.argsort(table[0], kind="stable")]
    return Sequences(table[0:4:2], table[1:4:2].astype(np.int32), table[4].astype(np.int8))


def _runners(text: Text) -> tuple[Ints, Ints, Ints]:
    """Where runners start and end, and in which documents they are."""
    begins, ends = text.documents[:-1], text.documents[1:]
    count = -(-(ends - begins) // _STRETCH)
    document = np.repeat(np.arange(len(begins)), count)
    number = np.arange(len(document)) - np.repeat(np.cumsum(count) - count, count)
    place = begins[document] + _STRETCH * number
    return place, np.minimum(place + _STRETCH, ends[document]), document


def _next_pairs(
    text: Text, room: int, place: Ints, end: Ints, document: Ints, drawn: np.random.Generator
) -> tuple[Ints, Ints]:
    """One pair of each runner: (5, R) start and tokens of both parts and label; where to go on."""
    bounds = text.pieces
    short, size, cut, other = drawn.random((4, len(place)))
    wanted = np.where(short < SHORT_SHARE, 2 + (size * (room - 1)).astype(np.int64), room)
    stop = np.minimum(np.searchsorted(bounds, bounds[place] + wanted), end)
    count = stop - place
    middle = place + np.minimum(1 + (cut * (count - 1)).astype(np.int64), count)
    first = bounds[middle] - bounds[place]
    elsewhere = (count == 1) | (other < 0.5)
    begin, until = _from_elsewhere(text, wanted - first, document, drawn)
    begin, until = np.where(elsewhere, begin, middle), np.where(elsewhere, until, stop)
    second = bounds[until] - bounds[begin]
    starts, counts = _shorten(
        np.stack([bounds[place], bounds[begin]]), np.stack([first, second]), room, drawn
    )
    label = np.where(count == 1, IGNORE_INDEX, elsewhere)
    pair = np.stack([starts[0], counts[0], starts[1], counts[1], label])
    return pair, np.where(elsewhere, middle, stop)


def _from_elsewhere(
    text: Text, wanted: Ints, document: Ints, drawn: np.random.Generator
) -> tuple[Ints, Ints]:
    """Pieces from a random place of another document: as many as give the tokens, at least one."""
    which, where = drawn.random((2, len(document)))
    chosen = (which * (len(text.documents) - 2)).astype(np.int64)
    chosen += chosen >= document
    low, high = text.documents[chosen], text.documents[chosen + 1]
    begin = low + (where * (high - low)).astype(np.int64)
    until = np.searchsorted(text.pieces, text.pieces[begin] + np.maximum(wanted, 1))
    return begin, np.minimum(until, high)


def _shorten(
    starts: Ints, counts: Ints, room: int, drawn: np.random.Generator
) -> tuple[Ints, NDArray[np.int64]]:
    """Take tokens from the longer part, each from a random end, until both fit into `room`.

    Of parts as long as each other the second loses one.
    """
    excess = np.maximum(counts.sum(axis=0) - room, 0)
    apart = counts[0] - counts[1]
    level = np.minimum(np.abs(apart), excess)  # taken from the longer one until they are equal
    rest = excess - level
    lost = np.stack([np.where(apart > 0, level, 0), np.where(apart > 0, 0, level)])
    lost += np.stack([rest // 2, rest - rest // 2])
    front = np.zeros_like(lost)
    some = lost > 0
    front[some] = drawn.binomial(lost[some], 0.5)
    return starts + front, counts - lost
