"""The metric of SQuAD: exact match and word F1 of answer texts."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from bertolt.base.errors import UsageError
from bertolt.metrics.metric import Metric


class Squad(Metric):
    """Exact match and word F1 of answers, in percent, each against its best reference.

    Predictions are `{"id": ..., "prediction_text": ...}` and references
    `{"id": ..., "answers": {"text": [...]}}`, matched by id within a batch. Source: P. Rajpurkar,
    J. Zhang, K. Lopyrev, P. Liang, "SQuAD: 100,000+ questions for machine comprehension of text",
    EMNLP 2016, and its evaluation for version 1.1.
    """

    def _clear(self) -> None:
        self._exact = 0
        self._f1 = 0.0

    def _add(
        self, predictions: Sequence[Mapping[str, Any]], references: Sequence[Mapping[str, Any]]
    ) -> int:
        answers = self._by_id(predictions, "predictions", "prediction_text")
        golds = self._by_id(references, "references", "answers")
        unmatched = answers.keys() ^ golds.keys()
        if unmatched:
            key = min(unmatched, key=str)
            lacking = "reference" if key in answers else "prediction"
            raise UsageError(
                f"id {key!r} has no {lacking}",
                place=self._place,
                fix="give each question's prediction and reference in the same batch",
            )
        scores = [self._score(key, str(answers[key]), golds[key]) for key in golds]
        self._exact += sum(exact for exact, _ in scores)
        self._f1 += sum(f1 for _, f1 in scores)
        return len(scores)

    def _by_id(self, rows: Sequence[Mapping[str, Any]], what: str, value: str) -> dict[str, Any]:
        by_id: dict[str, Any] = {}
        for number, row in enumerate(rows):
            if not isinstance(row, Mapping) or "id" not in row or value not in row:
                raise UsageError(
                    f"{what}[{number}] lacks 'id' or {value!r}",
                    place=self._place,
                    fix=f"give dictionaries with 'id' and {value!r}",
                )
            if row["id"] in by_id:
                raise UsageError(
                    f"{what} hold the id {row['id']!r} twice",
                    place=self._place,
                    fix="give each question once",
                )
            by_id[row["id"]] = row[value]
        return by_id

    def _score(self, key: str, answer: str, golds: Any) -> tuple[bool, float]:
        texts = [str(text) for text in (golds.get("text", []) if hasattr(golds, "get") else [])]
        if not texts:
            raise UsageError(
                f"id {key!r} has no answer to compare with",
                place=self._place,
                fix="leave unanswerable questions out, or give answers={'text': [...]}",
            )
        words = normalize_answer(answer).split()
        truths = [normalize_answer(text).split() for text in texts]
        return words in truths, max(_word_f1(words, truth) for truth in truths)

    def _result(self) -> dict[str, float]:
        return {
            "exact_match": 100.0 * self._exact / self._added,
            "f1": 100.0 * self._f1 / self._added,
        }


def normalize_answer(text: str) -> str:
    """Lower case, without ASCII punctuation and English articles, single spaces."""
    bare = text.lower().translate(_NO_PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _word_f1(words: list[str], truth: list[str]) -> float:
    common = (Counter(words) & Counter(truth)).total()
    return 2 * common / (len(words) + len(truth)) if common else 0.0
