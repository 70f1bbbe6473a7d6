"""Items in lists of a bounded size: so many, and not too long together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def chunks(
    items: Iterable[T], count: int, characters: int, length: Callable[[T], int]
) -> Iterator[list[T]]:
    """Lists of the items in their order; none is read before the list before it was taken.

    Args:
        items: read once.
        count: of items in a list, at most.
        characters: with which a list is full; its last item may go beyond.
        length: the characters of an item.
    """
    chunk: list[T] = []
    held = 0
    for item in items:
        chunk.append(item)
        held += length(item)
        if len(chunk) >= count or held >= characters:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def characters_of(value: Any) -> int:
    """The characters of a text, or of all texts in a list, a tuple or a record."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return 0
    return sum(map(characters_of, value))
