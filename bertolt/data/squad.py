"""Files of questions as SQuAD nests them: articles, their paragraphs, and questions on each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def is_nested(records: list[dict[str, Any]]) -> bool:
    """Whether these records are articles, which hold the questions further inside."""
    return bool(records) and all(isinstance(each.get("paragraphs"), list) for each in records)


def questions_of(articles: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A record for each question: `id`, `title`, `question`, `context` and `answers`.

    Raises:
        ValueError: a part has another shape; says which, in words.
    """
    return [
        question
        for number, article in enumerate(articles, start=1)
        for question in _of_article(article, f"article {number}")
    ]


def _of_article(article: Mapping[str, Any], place: str) -> Iterator[dict[str, Any]]:
    for number, paragraph in enumerate(article["paragraphs"], start=1):
        where = f"{place}, paragraph {number}"
        context, questions = _parts(paragraph, where, {"context": str, "qas": list})
        for position, each in enumerate(questions, start=1):
            (question,) = _parts(each, f"{where}, question {position}", {"question": str})
            # An impossible question may carry answers that only look right, under another name.
            answers = [] if each.get("is_impossible") is True else each.get("answers", [])
            yield {
                "id": each.get("id"),
                "title": article.get("title"),
                "question": question,
                "context": context,
                "answers": answers,
            }


def _parts(value: object, where: str, kinds: Mapping[str, type]) -> list[Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} is no object")
    for name, kind in kinds.items():
        if not isinstance(value.get(name), kind):
            words = "text" if kind is str else "list"
            raise ValueError(f"{where} has no {words} called {name!r}")
    return [value[name] for name in kinds]
