"""Numbers as people read them."""

from __future__ import annotations

import json

import pytest

from bertolt.base.format import columns, duration, padded, visible_json


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0.0 s"),
        (9.44, "9.4 s"),
        (41.6, "42 s"),
        (59.6, "1 min 00 s"),
        (190, "3 min 10 s"),
        (3599.7, "1 h 00 min"),
        (7530, "2 h 05 min"),
        (None, "n/a"),
    ],
)
def test_seconds_are_told_as_people_say_them(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("text", "width"), [("", 0), ("café", 4), ("cafe\u0301", 4), ("人名", 4), ("Ａ1", 3)]
)
def test_wide_characters_take_two_columns_and_marks_no_column(text: str, width: int) -> None:
    assert columns(text) == width
    assert padded(text, 6) == text + " " * (6 - width)


def test_json_on_a_terminal_moves_nothing_and_says_the_same() -> None:
    value = ["\x9b31m\u202e\u2066\x1b", "人名 é\x7f"]
    text = visible_json(json.dumps(value, ensure_ascii=False))
    assert json.loads(text) == value
    assert "\\u009b31m\\u202e\\u2066\\u001b" in text
    assert "人名 é" in text
