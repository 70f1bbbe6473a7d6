"""Labels in doubt: by the answers of models that have not seen their rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bertolt.base.errors import UsageError
from bertolt.tasks.doubts import ClassDoubts, Doubts, NumberDoubts, SetDoubts, trust_and_doubt
from bertolt.tasks.question_answering import QuestionAnswering
from bertolt.tasks.text_classification import TextClassification


def shares(**values: float) -> dict[str, Any]:
    return {"probabilities": values}


def ranked(doubts: Doubts, rows: list[tuple[dict[str, Any], Any]]) -> list[Any]:
    for place, (answer, label) in enumerate(rows):
        doubts.add(place, answer, label)
    return doubts.ranked()


def by_hand(given: np.ndarray, probabilities: np.ndarray) -> list[bool]:
    """The rule as the paper has it, row by row."""
    classes = range(probabilities.shape[1])
    means = [probabilities[given == j, j].mean() for j in classes]
    counted = []
    for label, row in zip(given, probabilities, strict=True):
        able = [j for j in classes if row[j] >= means[j]]
        counted.append(bool(able) and max(able, key=lambda j: row[j]) != label)
    return counted


def test_a_row_is_in_doubt_as_confident_learning_counts() -> None:
    random = np.random.default_rng(0)
    given = random.integers(0, 3, 300)
    probabilities = random.dirichlet([1, 1, 1], 300)
    trust, flagged = trust_and_doubt(given, probabilities)
    assert flagged.tolist() == by_hand(given, probabilities)
    assert trust.tolist() == probabilities[np.arange(300), given].tolist()


def test_the_least_trusted_label_comes_first() -> None:
    rows = [(shares(a=0.9, b=0.1), "a"), (shares(a=0.05, b=0.95), "a"), (shares(a=0.1, b=0.9), "b")]
    first, *others = ranked(ClassDoubts(("a", "b")), [*rows, (shares(a=0.6, b=0.4), "a")])
    assert (first.place, first.given, first.answer, first.flagged) == (1, "a", "b", True)
    assert first.trust == pytest.approx(0.05)
    assert [each.place for each in others] == [3, 0, 2]
    assert not any(each.flagged for each in others)


def test_a_label_that_a_model_never_had_has_no_probability() -> None:
    rows = [(shares(a=0.9, b=0.1), "a"), (shares(a=0.2, b=0.8), "b"), (shares(a=1.0, b=0.0), "c")]
    assert ranked(ClassDoubts(("a", "b", "c")), rows)[0].place == 2


def test_each_label_of_a_set_is_looked_at() -> None:
    usual = [(shares(a=0.9, b=0.1), ["a"]), (shares(a=0.1, b=0.8), ["b"])] * 4
    odd = [(shares(a=0.95, b=0.97), ["a"]), (shares(a=0.02, b=0.9), ["a", "b"])]
    first, second, *others = ranked(SetDoubts(("a", "b")), [*usual, *odd])
    assert (first.place, first.answer, first.given) == (9, "without a", "a, b")
    assert (second.place, second.answer, second.given) == (8, "with b", "a")
    assert not any(each.flagged for each in others)


def test_residuals_are_held_against_their_spread() -> None:
    random = np.random.default_rng(1)
    rows = [({"value": 2.0 + noise}, [2.0]) for noise in random.normal(0, 0.1, 200)]
    rows[17] = ({"value": 2.0}, [3.5])
    first, *others = ranked(NumberDoubts(("x",)), rows)
    assert (first.place, first.given, first.answer, first.flagged) == (17, "3.5", "2", True)
    assert first.trust == pytest.approx(-15, rel=0.3)
    assert sum(each.flagged for each in others) <= 2
    answer = {"values": {"x": 1.0, "y": 2.0}}
    several = [*[(answer, [1.0, 2.0])] * 4, (answer, [1.0, 9.0])]
    assert ranked(NumberDoubts(("x", "y")), several)[0].place == 4


def test_tasks_say_whether_they_can() -> None:
    assert isinstance(TextClassification(("a", "b")).doubts(), ClassDoubts)
    assert ClassDoubts(("a",)).ranked() == []
    with pytest.raises(UsageError, match="not looked for in question-answering"):
        QuestionAnswering().doubts()
