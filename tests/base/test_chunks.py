"""Lists of a bounded size: by count and by characters."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bertolt.base.chunks import characters_of, chunks


@pytest.mark.parametrize(
    ("count", "characters", "lists"),
    [
        (2, 100, [["aa", "b"], ["", "cccc"], ["d"]]),
        (9, 3, [["aa", "b"], ["", "cccc"], ["d"]]),
        (9, 1, [["aa"], ["b"], ["", "cccc"], ["d"]]),
        (9, 100, [["aa", "b", "", "cccc", "d"]]),
    ],
)
def test_chunks(count: int, characters: int, lists: list[list[str]]) -> None:
    items = ["aa", "b", "", "cccc", "d"]
    assert list(chunks(items, count, characters, len)) == lists
    assert list(chunks([], count, characters, len)) == []


def test_nothing_is_read_ahead() -> None:
    """Who types a text waits for its answer before the next."""

    def typed() -> Iterator[str]:
        yield "a"
        raise AssertionError

    assert next(chunks(typed(), 1, 100, len)) == ["a"]


@pytest.mark.parametrize(
    ("value", "characters"),
    [("abc", 3), (("ab", "c"), 3), ({"text": ["ab", "c"], "row": 7}, 3), (None, 0), ([], 0)],
)
def test_characters(value: object, characters: int) -> None:
    assert characters_of(value) == characters
