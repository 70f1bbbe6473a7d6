"""Texts that nearly repeat each other: what is proposed, and that it is exact."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertolt.data.near import ALIKE, comparable, components, near_pairs, similarity_of


def shingles(text: str) -> set[str]:
    """Runs of five characters, or of two from a Chinese one on, as strings."""
    text = comparable(text)
    runs = ((text[i:], 2 if "\u2e80" <= text[i] <= "\u9fff" else 5) for i in range(len(text)))
    whole = {rest[:run] for rest, run in runs if len(rest) >= run}
    return whole | {text[: 2 if text[0] > "\u2e80" else 5]}


def by_sets(one: set[str], other: set[str]) -> float:
    """The same similarity, of sets of strings."""
    return len(one & other) / len(one | other)


WORDS = st.text("ab 电影好", min_size=1).filter(lambda text: bool(text.strip()))


@given(WORDS, WORDS)
def test_similarity_is_that_of_the_sets(one: str, other: str) -> None:
    assert similarity_of(one, other) == pytest.approx(by_sets(shingles(one), shingles(other)))
    assert similarity_of(one, one.upper() + "  ") == 1


def found(*roles: Sequence[str]) -> set[tuple[int, ...]]:
    def of(texts: Sequence[str]) -> list[str]:
        return [comparable(text) for text in texts]

    whole = [of(texts) for texts in roles]
    near = near_pairs(
        len(whole[0]), [lambda at, t=texts: [t[i] for i in at.tolist()] for texts in whole]
    )
    assert (near.similarity >= ALIKE).all()
    assert (near.pairs[:, 0] < near.pairs[:, 1]).all()
    return set(map(tuple, near.pairs.tolist()))


@pytest.mark.parametrize("letters", ["abcdefghij ", "的一是不了在人有我他这中大来上个国到说们"])
def test_all_pairs_that_all_comparisons_find(letters: str) -> None:
    choose = random.Random(0)
    texts = ["".join(choose.choices(letters, k=choose.randrange(20, 90))) for _ in range(120)]
    for text in texts[:80]:
        changed = list(text)
        for _ in range(1 + len(text) // 40):
            changed[choose.randrange(len(text))] = choose.choice(letters)
        texts.append("".join(changed))
    sets = [shingles(text) for text in texts]
    pairs = combinations(range(len(texts)), 2)
    alike = {(a, b) for a, b in pairs if by_sets(sets[a], sets[b]) >= ALIKE}
    assert len(alike) > 10
    assert found(texts) == alike


def test_what_case_spaces_and_width_change_is_alike() -> None:
    texts = [
        "A fine film, it is",
        "a fine  FILM, it is",
        "ａ fine film, it is",
        "no such film here",
    ]
    assert found(texts) == {(0, 1), (0, 2), (1, 2)}


def test_both_halves_of_a_pair_count() -> None:
    context = (
        "The film was shown in the old town for the first time in the year of its making. " * 3
    )
    questions = [
        "Where was the film shown at first?",
        "Where was the film shown at first ?",
        "Why?",
    ]
    assert found(questions, [context] * 3) == {(0, 1)}
    assert found(questions[:2], [context, "Quite another text"]) == set()


def test_many_alike_texts_are_linked_and_are_no_square() -> None:
    texts = [f"the same long sentence about a film that everybody knows {n}" for n in range(500)]
    near = near_pairs(500, [lambda at: [texts[i] for i in at.tolist()]])
    assert len(near.pairs) < 500 * 32
    assert (components(500, near.pairs) == 0).all()


def test_short_texts_and_no_text() -> None:
    assert found(["a", "b", "a b", "好", "a"]) == {(0, 4)}
    assert found([]) == set()


def test_components_go_over_any_number_of_links() -> None:
    chain = np.array([[4, 5], [3, 4], [2, 3], [7, 8]])
    assert components(9, chain).tolist() == [0, 1, 2, 2, 2, 2, 6, 7, 7]
    assert components(3, np.zeros((0, 2), np.int64)).tolist() == [0, 1, 2]


def test_links_are_the_same_however_few_texts_are_sorted_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draw = random.Random(0)
    texts = ["".join(draw.choices("ab", k=12)) for _ in range(300)]
    roles = [lambda at: [texts[i] for i in at.tolist()]]
    whole = near_pairs(len(texts), roles, 0.5)
    monkeypatch.setattr("bertolt.data.near._SORTED", 16)

    parted = near_pairs(len(texts), roles, 0.5)

    assert len(whole.pairs) > 100
    assert np.array_equal(parted.pairs, whole.pairs)
