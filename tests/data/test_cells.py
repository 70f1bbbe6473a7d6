"""What becomes of the cells of a row, role by role."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest

from bertolt.data.cells import (
    Cell,
    as_number,
    flags_cell,
    label_cell,
    labels_cell,
    numbers_cell,
    spans_cell,
    tags_cell,
    text_cell,
    words_cell,
)
from bertolt.data.table_file import BadRow

ONE = ["x"]


def reason(cell: Cell, *values: object) -> str | None:
    read = cell.read(values)
    return read.reason if isinstance(read, BadRow) else None


@pytest.mark.parametrize(
    ("value", "labels"),
    [
        (["a", "b", "a"], ["a", "b"]),
        ("a; b;;", ["a", "b"]),
        ("", []),
        (None, []),
        (math.nan, []),
        ([], []),
        ([1, 2.0, " c "], ["1", "2", "c"]),
        (3, ["3"]),
    ],
)
def test_several_labels(value: Any, labels: list[str]) -> None:
    assert labels_cell(ONE, ";").read([value]) == labels


def test_without_a_separator_a_text_is_one_label() -> None:
    assert labels_cell(ONE, None).read(["a;b"]) == ["a;b"]


def test_labels_that_are_no_names_end_the_reading() -> None:
    assert labels_cell(ONE, None).read([[{"a": 1}]]) is None
    assert label_cell(ONE).read([["a"]]) is None


@pytest.mark.parametrize("value", [0, 0.0, "0", " 0 ", "false", False])
def test_flags(value: Any) -> None:
    cell = flags_cell(["a", "b", "c"])
    assert cell.read([1, value, "TRUE"]) == ["a", "c"]


@pytest.mark.parametrize("value", [2, "x", None, "", 0.5])
def test_what_is_neither_0_nor_1_leaves_the_row_out_and_is_named(value: Any) -> None:
    read = flags_cell(["a", "b"]).read([1, value])
    assert isinstance(read, BadRow)
    assert read.reason == "label neither 0 nor 1"
    assert "column 'b'" in read.detail


def test_numbers_as_they_are_written() -> None:
    assert numbers_cell(["a", "b"]).read(["-1.5e2", 7]) == [-150.0, 7.0]


@pytest.mark.parametrize(
    "value", ["+2", " 2 ", "2.", "2e0", "0.2E+1", ".2e1", 2, 2.0, "0000002.000000"]
)
def test_every_usual_spelling_of_a_number(value: Any) -> None:
    assert numbers_cell(ONE).read([value]) == [2.0]


def test_a_decimal_comma_is_told_with_the_number_that_is_meant() -> None:
    read = numbers_cell(ONE).read([" -1,5 "])
    assert isinstance(read, BadRow)
    assert read.reason == "number with a comma"
    assert "-1.5" in read.detail
    assert "with a point, as -1.5" in read.fix


@pytest.mark.parametrize("value", ["1,5,0", "x", math.inf, "nan", True, [1], 10**400])
def test_no_number(value: Any) -> None:
    assert reason(numbers_cell(ONE), value) == "label that is no number"


# Python's float reads all of these, and hardly another program does.
@pytest.mark.parametrize("value", ["1_000", "1_0.5", "１２", "١٢", "१", "1e1_0"])
@pytest.mark.parametrize("sign", ["", "-"])
def test_what_python_alone_reads_as_a_number_is_none(value: str, sign: str) -> None:
    assert reason(numbers_cell(ONE), sign + value) == "label that is no number"
    assert label_cell(ONE).read([sign + value]) == sign + value


NOT_FINITE = ["infinity", "-inf", "Infinity", "NaN", "+nan", "1e999"]


@pytest.mark.parametrize("value", [*NOT_FINITE, "0x10", "1e", ".", "+", "--1", "1 0", "e5", "½"])
def test_what_is_no_finite_number(value: str) -> None:
    assert reason(numbers_cell(ONE), value) == "label that is no number"


@pytest.mark.parametrize("value", ["", " ", None, math.nan])
def test_an_empty_number(value: Any) -> None:
    assert reason(numbers_cell(ONE), value) == "empty label"


def test_words_and_tags() -> None:
    assert words_cell(ONE).read([["a", "b"]]) == ["a", "b"]
    assert words_cell(ONE).read(["a b"]) is None
    assert words_cell(ONE).read([["a", 1]]) is None
    assert reason(words_cell(ONE), []) == "empty text"
    assert reason(words_cell(ONE), ["nu\0l"]) == "NUL byte"
    assert tags_cell(ONE).read([[1, "B-X "]]) == ["1", "B-X"]
    assert tags_cell(ONE).read(["O"]) is None
    assert reason(tags_cell(ONE), ["O", ""]) == "empty tag"
    for missing in (None, "", " ", math.nan):  # as a record that lacks the key
        assert reason(words_cell(ONE), missing) == "empty text"
        assert reason(tags_cell(ONE), missing) == "empty label"


@pytest.mark.parametrize("value", ["\u200b", "\ufeff\u200d", " \u2060\u00ad ", "\x07", "\u3000"])
def test_characters_without_width_are_no_text(value: str) -> None:
    assert reason(text_cell(ONE), value) == "empty text"
    assert reason(label_cell(ONE), value) == "empty label"
    assert reason(numbers_cell(ONE), value) == "empty label"
    assert reason(words_cell(ONE), [value, value]) == "empty text"
    assert labels_cell(ONE, ";").read([f"a;{value}"]) == ["a"]


def test_characters_without_width_stay_in_a_text() -> None:
    text = "a\u200db\ufeff"
    assert text_cell(ONE).read([text]) == text
    assert words_cell(ONE).read([["a", "\u200b"]]) == ["a", "\u200b"]


SPAN = {"start": 0, "end": 2, "label": "A"}


def test_spans() -> None:
    assert spans_cell(ONE).read([[SPAN | {"text": "ab"}]]) == [SPAN]
    assert spans_cell(ONE).read([None]) == []
    assert spans_cell(ONE).read(["0-2"]) is None


@pytest.mark.parametrize(
    "change",
    [
        {"start": 2},
        {"start": -1},
        {"end": 2.0},
        {"start": True},
        {"label": ""},
        {"label": None},
        {"label": "\ud800"},
    ],
)
def test_a_broken_span(change: dict[str, Any]) -> None:
    read = spans_cell(ONE).read([[SPAN, SPAN | change]])
    assert isinstance(read, BadRow)
    assert read.reason == "broken span"
    assert "span 2 of 2 in column 'x'" in read.detail
    assert reason(spans_cell(ONE), [5]) == "broken span"


def test_a_text_keeps_its_spaces_and_a_label_does_not() -> None:
    assert text_cell(ONE).read([" a "]) == " a "
    assert label_cell(ONE).read([" a "]) == "a"
    assert label_cell(ONE).read([1.0]) == "1"
    assert reason(text_cell(ONE), " ") == "empty text"


def test_labels_of_spans_are_read_as_labels_are() -> None:
    read = spans_cell(ONE).read
    assert read([[SPAN | {"label": " A "}]]) == [SPAN]
    fault = read([[SPAN | {"label": "O"}]])
    assert isinstance(fault, BadRow)
    assert "in no span" in fault.detail


def test_a_long_row_of_digits_is_told_at_once() -> None:
    """A pattern that tries each of its digits as the last one before the point takes hours."""
    start = time.process_time()
    assert as_number("9" * 1_000_000 + "x") is None
    assert time.process_time() - start < 5
