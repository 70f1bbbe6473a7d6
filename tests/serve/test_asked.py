"""Examples as they stand in a request: which are refused, where, and why."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("starlette")

from bertolt.base.errors import DataError
from bertolt.serve import openapi
from bertolt.serve.asked import examples_of
from bertolt.serve.errors import RefusedError
from bertolt.serve.limits import Limits
from bertolt.tasks.multiple_choice import MultipleChoice
from bertolt.tasks.question_answering import QuestionAnswering
from bertolt.tasks.token_classification import TokenClassification


@pytest.mark.parametrize(
    ("task", "item", "place", "message"),
    [
        (MultipleChoice(), {"choices": ["a"]}, "choices", "choices has 1 text, and takes 2 at"),
        (MultipleChoice(), {"choices": []}, "choices", "choices has 0 texts, and takes 2 at least"),
        (MultipleChoice(), {"choices": ["a", 3]}, "choices", "choices[1] is a number"),
        (MultipleChoice(), {"choices": "a"}, "choices", "choices is a text"),
        (TokenClassification(()), {"text": []}, "text", "text has 0 texts, and takes 1 at least"),
        (TokenClassification(()), {"text": ["a", None]}, "text", "text[1] is null"),
        (TokenClassification(()), {"text": 3}, "text", "text is a number"),
    ],
)
def test_a_list_that_does_not_fit_is_told_why(
    task: Any, item: dict[str, Any], place: str, message: str
) -> None:
    predictor: Any = SimpleNamespace(task=task, trained_on_pairs=task.needs_pair)
    with pytest.raises(RefusedError) as refused:
        examples_of(predictor, [item], Limits())
    assert refused.value.problem.startswith(message)
    assert refused.value.param == f"input[0].{place}"


@pytest.mark.parametrize(
    ("task", "item", "place", "message"),
    [
        (MultipleChoice(), {"text": "a", "choices": ["b", " "]}, ".choices[1]", "choices[1] is"),
        (MultipleChoice(), {"text": "", "choices": ["b", "c"]}, ".text", "text is empty"),
        (TokenClassification(()), {"text": ["", "\u200b"]}, "", "the text is empty"),
        (QuestionAnswering(), {"question": "a", "context": ""}, ".context", "context is empty"),
        (QuestionAnswering(), {"question": " ", "context": "a"}, ".question", "question is empty"),
    ],
)
def test_of_an_example_it_is_said_which_part_is_empty(
    task: Any, item: dict[str, Any], place: str, message: str
) -> None:
    predictor: Any = SimpleNamespace(task=task, trained_on_pairs=task.needs_pair)
    for asked, where in (([item], "input[0]"), (item, "input")):
        (refused,) = examples_of(predictor, asked, Limits())
        assert isinstance(refused, DataError)
        assert refused.problem.startswith(message)
        assert refused.place == f"{where}{place}"
    form = openapi._shown(task.request_schema(task.needs_pair))["properties"].get("choices", {})
    assert "pattern" in form.get("items", {"pattern": ""})  # who reads the description knows it


def test_of_the_words_of_a_text_some_may_be_empty() -> None:
    predictor: Any = SimpleNamespace(task=TokenClassification(()), trained_on_pairs=False)
    assert examples_of(predictor, {"text": ["a", ""]}, Limits()) == [{"text": ["a", ""]}]
