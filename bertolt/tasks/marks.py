"""Words, units and marked spans of a text: what tagging is computed on.

A *word* is what has a tag: a word of a list, or of a plain text a unit. A *unit* is a token of the
tokenizer before it is cut into pieces (a word without its punctuation, a Chinese character); its
first piece answers for it. So a model that learned from words answers plain texts by the same
units.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bertolt.data.encode import EncodedExample, Window
from bertolt.metrics.tags import spans_of
from bertolt.tasks.base import Example
from bertolt.tokenization.batch_encoding import EncodedWords

OUTSIDE = "O"
BIO, PLAIN, WORDS = "BIO", "plain", "words"
"""How the labels of a model are read; see `read_spans`."""
_NOWHERE = (-1, -1)
_IDEOGRAPHS = (("\u3400", "\u4dbf"), ("\u4e00", "\u9fff"), ("\uf900", "\ufaff"))


class Mark(NamedTuple):
    """A part of a text from character `start` to before `end`, and its kind."""

    start: int
    end: int
    kind: str


class Word(NamedTuple):
    """A word with the probabilities (C,) of its labels."""

    start: int
    end: int
    shares: NDArray[Any]


def join_words(words: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """Words as a text with their characters in it: a space between two, but not inside Chinese."""
    text = ""
    places = []
    for word in words:
        if text and word and not _touch(text[-1], word[0]):
            text += " "
        places.append((len(text), len(text) + len(word)))
        text += word
    return text, places


def _touch(before: str, after: str) -> bool:
    """Whether two words need no space: both are Chinese, and the tokenizer parts them anyway."""
    if not (_is_han(before) and _is_han(after)) or unicodedata.category(after)[0] == "M":
        return False
    # Kana, and letters and digits of full width, are written alike and run on as one unit.
    return _stands_alone(before) or _stands_alone(after)


def _stands_alone(character: str) -> bool:
    """Whether a character is a unit whatever is beside it."""
    ideograph = any(low <= character <= high for low, high in _IDEOGRAPHS)
    return ideograph or unicodedata.category(character)[0] == "P"


def _is_han(character: str) -> bool:
    return "\u2e80" <= character <= "\u9fff" or "\uf900" <= character <= "\uffef"


def text_of(example: Example) -> str:
    """The text of an example; a list of words is joined."""
    text = example["text"]
    return text if isinstance(text, str) else join_words(text)[0]


def marks_of(example: Example, scheme: str) -> list[Mark]:
    """The true spans of an example, by character.

    Raises:
        UsageError: a tag in another scheme.
    """
    label = example["label"]
    if isinstance(example["text"], str):
        return sorted(Mark(span["start"], span["end"], span["label"]) for span in label)
    _, places = join_words(example["text"])
    return [
        Mark(places[first][0], places[last - 1][1], kind)
        for first, last, kind in read_spans(label, scheme)
        if places[first][0] < places[last - 1][1]
    ]


def read_spans(tags: Sequence[str], scheme: str) -> list[tuple[int, int, str]]:
    """Spans (first word, last word + 1, kind) of a sequence of tags.

    "BIO" stands for all schemes with prefixes, which are read alike; in "plain" equal neighbours
    are one span; in "words" each word is a span, as with parts of speech.

    Raises:
        UsageError: a tag of another scheme.
    """
    if scheme == WORDS:
        return [(place, place + 1, tag) for place, tag in enumerate(tags)]
    return spans_of(tags, scheme)


def unit_labels(places: Sequence[Sequence[int]], marks: Sequence[Mark], scheme: str) -> list[str]:
    """The label of each place (start, end), given the marks; both from left to right.

    The first place that a mark touches begins it.
    """
    labels = []
    number, begun = 0, False
    for start, end in places:
        while number < len(marks) and marks[number].end <= start:
            number, begun = number + 1, False
        if number == len(marks) or marks[number].start >= end:
            labels.append(OUTSIDE)
            continue
        kind = marks[number].kind
        labels.append(f"{'I' if begun else 'B'}-{kind}" if scheme == BIO else kind)
        begun = True
    return labels


def windows_of(words: EncodedWords, start_id: int, end_id: int, limit: int) -> EncodedExample:
    """A text in windows that overlap by half: each piece is answered with context on both sides.

    Args:
        words: pieces of the text, their characters and their units.
        start_id, end_id: special tokens around each window.
        limit: most tokens of a window, with them.
    """
    room, count = limit - 2, len(words.ids)
    places = _first_pieces(words)
    context = room // 4
    step = room - 2 * context
    windows = []
    for start in range(0, max(1, count), step):
        last = start + room >= count
        ids = words.ids[start : start + room]
        answers = range(start + context if start else 0, count if last else start + room - context)
        own = [places[i] if i in answers else _NOWHERE for i in range(start, start + len(ids))]
        windows.append(Window([start_id, *ids, end_id], None, [_NOWHERE, *own, _NOWHERE]))
        if last:
            break
    return EncodedExample(windows, count + 2)


def _first_pieces(words: EncodedWords) -> list[tuple[int, int]]:
    """For the first piece of each unit its characters, for the others none."""
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


def word_places(
    windows: Sequence[NDArray[Any]], places: Sequence[NDArray[np.int32]], example: Example
) -> list[Word]:
    """The words of an example with what the model gives for each, from left to right.

    A word of a list is answered by its first unit; one without a unit, such as a control character,
    is not in the list.
    """
    units = [
        Word(int(start), int(end), shares)
        for window, spots in zip(windows, places, strict=True)
        for (start, end), shares in zip(spots.tolist(), window, strict=True)
        if start >= 0
    ]
    if isinstance(example["text"], str):
        return units
    words, unit = [], 0
    for start, end in join_words(example["text"])[1]:
        while unit < len(units) and units[unit].end <= start:
            unit += 1
        if unit < len(units) and units[unit].start < end:
            words.append(Word(start, end, units[unit].shares))
    return words
