"""The metric of SQuAD: exact match and word F1 of answer texts, and that of CMRC for Chinese."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
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


def answer_scores(answer: str, golds: Sequence[str]) -> tuple[float, float]:
    """Exact match and F1 of one answer against the best of its references, from 0 to 1.

    An empty answer is right where there is no reference. References with Chinese characters are
    compared by characters. Sources: P. Rajpurkar, R. Jia, P. Liang, "Know what you don't know:
    unanswerable questions for SQuAD", ACL 2018; Y. Cui et al., "A span-extraction dataset for
    Chinese machine reading comprehension", EMNLP 2019; and their evaluations.

    Args:
        answer: the text, or an empty one.
        golds: the references.
    """
    if not golds:
        return (1.0, 1.0) if not answer else (0.0, 0.0)
    if any(map(_HAN.search, golds)):
        said = chinese_parts(answer)
        pairs = [(said, chinese_parts(gold)) for gold in golds]
        same = "".join(said) in {"".join(gold) for _, gold in pairs}
        return float(same), max(_run_f1(*pair) for pair in pairs)
    words = normalize_answer(answer).split()
    truths = [normalize_answer(gold).split() for gold in golds]
    return float(words in truths), max(
        _word_f1(words, truth) if words and truth else float(words == truth) for truth in truths
    )


_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
_PARTS = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]|[^\W\u3400-\u4dbf\u4e00-\u9fff]+|[^\w\s]")
_LEFT_OUT = frozenset("-:_*^/\\~`+=，。：？！“”；’《》……·、「」（）－～『』")


def chinese_parts(text: str) -> list[str]:
    """Chinese characters, and other words whole; in small letters, without punctuation."""
    kept = "".join(each for each in text.lower() if each not in _LEFT_OUT)
    return _PARTS.findall(kept)


def _run_f1(parts: list[str], truth: list[str]) -> float:
    """F1 of the longest run of parts that both have."""
    match = SequenceMatcher(None, parts, truth, autojunk=False).find_longest_match()
    return 2 * match.size / (len(parts) + len(truth)) if match.size else 0.0
