"""Scores of parts of the rows."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from bertolt.base.errors import UsageError
from bertolt.tasks.slices import LENGTH, MOST, Slices
from bertolt.tasks.text_classification import TextClassification

TASK = TextClassification(("bad", "good"), "good")


def row(said: str, true: str, **kept: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    shares = {name: float(name == said) for name in TASK.labels}
    answer = {"label": said, "probability": 1.0, "probabilities": shares}
    return answer, {"text": "x", "label": true, "kept": json.dumps(kept)}


def test_each_value_has_the_scores_of_its_own_rows() -> None:
    slices = Slices(TASK, ["source"])
    for number, source in enumerate(["web", "web", "paper", None, ""]):
        said = "good" if source == "paper" else "bad"
        slices.add(number, *row(said, "good", source=source))
    values = slices.to_dict()["source"]
    assert list(values) == ["(empty)", "web", "paper"], "the largest first, then by name"
    assert [each["rows"] for each in values.values()] == [2, 2, 1]
    assert (values["paper"]["accuracy"], values["web"]["accuracy"]) == (1.0, 0.0)
    assert [line.split()[0] for line in slices.lines() if line] == [
        "source",
        "(empty)",
        "web",
        "paper",
    ]


def test_quarters_by_length_hold_every_row_once_and_stand_in_order() -> None:
    lengths = np.array([3, 900, 5, 7, 7, 7, 40, 1200])
    slices = Slices(TASK, [LENGTH], lengths)
    for number in range(len(lengths)):
        slices.add(number, *row("good", "good"))
    values = slices.to_dict()[LENGTH]
    assert list(values) == [
        "3 to 5 tokens",
        "6 to 7 tokens",
        "8 to 40 tokens",
        "41 to 1,200 tokens",
    ]
    assert [each["rows"] for each in values.values()] == [2, 3, 1, 2]


def test_a_column_of_keys_is_refused() -> None:
    slices = Slices(TASK, ["id"])
    for number in range(MOST):
        slices.add(number, *row("good", "good", id=number))
    with pytest.raises(UsageError, match=f"'id' has more than {MOST} values"):
        slices.add(MOST, *row("good", "good", id=MOST))


def test_many_values_are_cut_in_the_terminal_alone() -> None:
    slices = Slices(TASK, ["id"])
    for number in range(30):
        slices.add(number, *row("good", "good", id=number))
    assert len(slices.to_dict()["id"]) == 30
    assert [*slices.lines()][-1] == "… and 10 more values"


def test_rows_of_one_length_are_one_part() -> None:
    slices = Slices(TASK, [LENGTH], np.array([18, 18]))
    slices.add(0, *row("good", "good"))
    assert list(slices.to_dict()[LENGTH]) == ["18 tokens"]
