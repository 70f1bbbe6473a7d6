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


def answer_scores(answer: str, golds: Sequence[str], *, chinese: bool) -> tuple[float, float]:
    """Exact match and F1 of one answer against the best of its references, from 0 to 1.

    An empty answer is right where there is no reference. Sources: P. Rajpurkar, R. Jia, P. Liang,
    "Know what you don't know: unanswerable questions for SQuAD", ACL 2018; Y. Cui et al., "A
    span-extraction dataset for Chinese machine reading comprehension", EMNLP 2019; and their
    evaluations. By that of CMRC, answers match exactly where they are equal without its marks and
    in small letters, and their F1 is of the longest run of parts, as `chinese_parts` has them.

    Args:
        answer: the text, or an empty one.
        golds: the references.
        chinese: whether to count as for CMRC and not as for SQuAD, whatever the references are.
    """
    if not golds:
        return (1.0, 1.0) if not answer else (0.0, 0.0)
    if chinese:
        said = chinese_parts(answer)
        same = _without_marks(answer) in map(_without_marks, golds)
        return float(same), max(_run_f1(said, chinese_parts(gold)) for gold in golds)
    words = normalize_answer(answer).split()
    truths = [normalize_answer(gold).split() for gold in golds]
    return float(words in truths), max(
        _word_f1(words, truth) if words and truth else float(words == truth) for truth in truths
    )


_LOOKED_AT = 2000  # characters of a text that tell its language
_HAN = re.compile(r"[\u4e00-\u9fa5]")
_LATIN = re.compile("[A-Za-z]+")
_MARKS = str.maketrans("", "", "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
# What word_tokenize of NLTK parts from words, in text that has none of the marks above.
_PARTED = r"""\.{2,}|[;@#$%&?!()\[\]{}<>"«»‘„\u2012-\u2015]|,(?!\d)|\.(?=[\])}>"'»\s]*$)
    |(?:n't|'(?:s|m|d|ll|re|ve)?)(?=[\s,.;@#$%&?!()\[\]{}<>"«»\u2012-\u2015]|$)|(?<!\w)'(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)"""
_PARTS = re.compile(rf"{_PARTED}|(?:(?!{_PARTED})\S)+", re.VERBOSE)


def is_chinese(text: str) -> bool:
    """Whether a text has at least as many Chinese characters as Latin words, where it begins."""
    begin = text[:_LOOKED_AT]
    return bool(_HAN.search(begin)) and len(_HAN.findall(begin)) >= len(_LATIN.findall(begin))


def chinese_parts(text: str) -> list[str]:
    """Chinese characters, and other words as `word_tokenize` of NLTK parts them; in small letters,
    without the marks that CMRC leaves out.

    Numbers stay whole with their points and commas. NLTK parts a stretch in four ways more: at the
    ends of English sentences within it, where a period stays with its word here; "cannot",
    "gonna" and the like in two; two single quotes; and it tells opening from closing double quotes.
    """
    spaced = _HAN.sub(r"\n\g<0>\n", _without_marks(text))
    return [part for stretch in spaced.split("\n") for part in _PARTS.findall(stretch)]


def _without_marks(text: str) -> str:
    """Small letters, without the marks that the evaluation of CMRC leaves out."""
    return text.lower().strip().translate(_MARKS)


def _run_f1(parts: list[str], truth: list[str]) -> float:
    """F1 of the longest run of parts that both have."""
    match = SequenceMatcher(None, parts, truth, autojunk=False).find_longest_match()
    return 2 * match.size / (len(parts) + len(truth)) if match.size else 0.0
