"""Names that people take for one, for several, or for no name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertolt.data.spelling import (
    alike,
    are_comma_numbers,
    differences,
    joined,
    looks_empty,
    odd_outside,
    odd_prefixes,
    quoted,
)


@pytest.mark.parametrize(
    ("one", "other", "what"),
    [
        ("Pos", "pos", "case"),
        ("True", "TRUE", "case"),
        ("very good", "very  good", "spaces"),
        ("very good", "very\u00a0good", "spaces"),
        ("pos", "pos\u200b", "invisible characters"),
        ("pos", "\ufeffpos", "invisible characters"),
        ("caf\u00e9", "cafe\u0301", "Unicode form"),
        ("pos", "\uff50\uff4f\uff53", "Unicode form"),
        ("0", "0.0", "number format"),
        ("1", "01", "number format"),
        ("-0", "0", "number format"),
        ("Straße", "STRASSE", "case"),
    ],
)
def test_names_that_differ_in_one_thing(one: str, other: str, what: str) -> None:
    assert alike([one, "else", other]) == [[one, other]]
    assert differences([one, other]) == [what]


def test_names_may_differ_in_several_things() -> None:
    assert alike(["\uff30os\u200b", "pos"])
    assert differences(["\uff30os\u200b", "pos"]) == [
        "invisible characters",
        "Unicode form",
        "case",
    ]


def test_other_names_are_not_alike() -> None:
    assert alike(["1", "2", "a", "b", "1.5", "-1", "e", "é", "neg", "negative"]) == []


@given(st.lists(st.text(max_size=6), unique=True, max_size=6))
def test_each_group_differs_in_something(names: list[str]) -> None:
    for group in alike(names):
        assert differences(group), group


@pytest.mark.parametrize("name", ["NA", "n/a", "None", "null", "NaN", "-", " - ", "—", "?", "无"])
def test_what_stands_for_a_gap(name: str) -> None:
    assert looks_empty(name)


@pytest.mark.parametrize("name", ["0", "no", "neutral", "other", "-1", "nano"])
def test_what_is_a_name(name: str) -> None:
    assert not looks_empty(name)


@pytest.mark.parametrize(
    ("names", "separator", "several"),
    [
        (["a;b", "c"], ";", ["a;b"]),
        (["a|b", "c|d"], "|", ["a|b", "c|d"]),
        (["negative,long", "negative"], ",", ["negative,long"]),
        (["a, b", "c, b"], ",", ["a, b", "c, b"]),
        (["1,2,3", "1"], ",", ["1,2,3"]),
        (["Paris, Texas", "Reno, Nevada"], "", []),
        (["a;", ";)"], "", []),
        (["1,5", "2,5", "3"], "", []),
    ],
)
def test_several_labels_in_one(names: list[str], separator: str, several: list[str]) -> None:
    assert joined(names) == (separator, several)


def test_numbers_with_a_decimal_comma() -> None:
    assert are_comma_numbers(["1,5", "2", "2.5"])
    assert not are_comma_numbers(["1,5", "x"])
    assert not are_comma_numbers(["1", "2"])


def test_tags_in_another_spelling() -> None:
    assert odd_prefixes(["b-per", "o", "i-per"]) == ["b-per", "i-per"]
    assert odd_prefixes(["PER-B", "PER-I", "O"]) == ["PER-B", "PER-I"]
    assert odd_prefixes(["B-PER", "I-PER", "O"]) == []
    assert odd_prefixes(["NN", "VB", "O"]) == []
    assert [odd_outside(tags) for tags in (["0", "X"], ["O", "o"], ["X"])] == ["0", "", ""]


def test_a_quoted_name_is_one_line_of_what_can_be_seen() -> None:
    assert quoted("a\nb\x1b[31m") == r"'a\nb\x1b[31m'"
    assert quoted("a\u200b\u00a0") == r"'a\u200b\xa0'"
    assert quoted("cafe\u0301") == r"'cafe\u0301'"
    assert quoted("好评") == "'好评'"
    assert len(quoted("x" * 200)) == 42
