"""Words of a text: what has a tag.

A *word* is a word of a list, or of a plain text a unit of the tokenizer. So a model that learned
from words answers plain texts by units.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bertolt.tasks.base import Example

_IDEOGRAPHS = (("\u3400", "\u4dbf"), ("\u4e00", "\u9fff"), ("\uf900", "\ufaff"))


class Word(NamedTuple):
    """A word with what the model gives for it: the probabilities (C,) of its labels."""

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


def words_of(
    windows: Sequence[NDArray[Any]], places: Sequence[NDArray[np.int32]], example: Example
) -> list[Word]:
    """The words of an example with what the model gives for each, from left to right.

    A word of a list is answered by its first unit; one without a unit, such as a control character,
    is not in the list.

    Args:
        windows: (L, …) what there is for each token of each window.
        places: (L, 2) the characters that the tokens answer for.
        example: a text, or words.
    """
    units = [
        Word(int(start), int(end), shares)
        for window, spots in zip(windows, places, strict=True)
        for (start, end), shares in zip(spots.tolist(), window, strict=True)
        if start >= 0
    ]
    spots = [(unit.start, unit.end) for unit in units]
    answered = units_of_words(spots, example)
    return [Word(start, end, units[unit].shares) for start, end, unit in answered]


def units_of_words(
    units: Sequence[tuple[int, int]], example: Example
) -> Iterator[tuple[int, int, int]]:
    """Each word of an example that has a unit: its characters, from start to end, and the number of
    the unit that answers it, which is its first one.

    Args:
        units: characters of each, from left to right.
        example: a text, whose words are its units, or words.
    """
    if isinstance(example["text"], str):
        yield from ((start, end, number) for number, (start, end) in enumerate(units))
        return
    unit = 0
    for start, end in join_words(example["text"])[1]:
        while unit < len(units) and units[unit][1] <= start:
            unit += 1
        if unit < len(units) and units[unit][0] < end:
            yield start, end, unit
