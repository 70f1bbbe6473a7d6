"""Files of questions as SQuAD nests them: articles, their paragraphs, and questions on each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

COLUMNS = ("id", "title", "question", "context", "answers")
"""Of the records that the articles of such a file give."""


def is_article(record: object) -> bool:
    """Whether a record holds questions further inside."""
    return isinstance(record, Mapping) and isinstance(record.get("paragraphs"), list)


def questions_of(article: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A record for each question, with the keys of `COLUMNS`.

    Raises:
        ValueError: a part has another shape; says which, in words.
    """
    for number, paragraph in enumerate(article["paragraphs"], start=1):
        where = f"paragraph {number}"
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
