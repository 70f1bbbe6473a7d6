"""Metrics over tag sequences and answer texts."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from bertolt.base.errors import UsageError
from bertolt.metrics.metric import Metric

# The letters of the BMES and BILOU schemes that mean the same as I, E and S.
_SYNONYMS = {"M": "I", "L": "E", "U": "S"}

Entity = tuple[str, int, int]


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities in one sentence of tags: (type, first position, last position).

    Tags are `O`, or a prefix with a type: `B-PER`. The rule is that of the CoNLL-2000 evaluation,
    which reads IOB1, IOB2, IOE and IOBES alike: a tag other than `O` opens an entity when the tag
    before it is `O` or closes one (`E`, `S`), when it is itself an opening one (`B`, `S`), or when
    the type changes; otherwise it carries the entity on. So a stray `I-PER` is an entity.
    Source: E. F. Tjong Kim Sang, S. Buchholz, "Introduction to the CoNLL-2000 shared task:
    chunking", CoNLL 2000.

    Raises:
        UsageError: a tag of another form.
    """
    found: list[Entity] = []
    previous = ("O", "")
    for position, tag in enumerate(tags):
        prefix, kind = _split_tag(tag)
        if prefix != "O":
            opens = previous[0] in "OES" or prefix in "BS" or kind != previous[1]
            first = position if opens else found.pop()[1]
            found.append((kind, first, position))
        previous = (prefix, kind)
    return found


def _split_tag(tag: str) -> tuple[str, str]:
    if tag == "O":
        return "O", ""
    prefix, _, kind = str(tag).partition("-")
    prefix = _SYNONYMS.get(prefix, prefix)
    if prefix not in ("B", "I", "E", "S"):
        raise UsageError(
            f"{tag!r} is not a tag",
            place="metric 'seqeval'",
            fix="write O, or one of B, I, E, S with a type, such as B-PER",
        )
    return prefix, kind or "_"


class SeqEval(Metric):
    """Precision, recall and F1 of whole entities, for each type and overall; tag accuracy.

    An entity counts as found when its type and both ends agree. Predictions and references are
    lists of sentences, each a list of tags. A share of nothing is 0, as in conlleval.
    """

    def _clear(self) -> None:
        self._hits, self._predicted, self._support = Counter[str](), Counter[str](), Counter[str]()
        self._tags = self._right_tags = 0

    def _add(
        self, predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]
    ) -> int:
        _same_length(predictions, references, self._place)
        pairs = [
            self._read(row, guessed, true)
            for row, (guessed, true) in enumerate(zip(predictions, references, strict=True))
        ]
        for guessed, true, tags, right in pairs:
            self._hits.update(kind for kind, _, _ in guessed & true)
            self._predicted.update(kind for kind, _, _ in guessed)
            self._support.update(kind for kind, _, _ in true)
            self._tags += tags
            self._right_tags += right
        return len(pairs)

    def _read(
        self, row: int, guessed: Sequence[str], true: Sequence[str]
    ) -> tuple[set[Entity], set[Entity], int, int]:
        """Entities of both sides, the number of tags, and how many of them agree."""
        if isinstance(guessed, str) or isinstance(true, str):
            raise UsageError(
                f"sentence {row} is a single string",
                place=self._place,
                fix="give a list of sentences, each a list of tags",
            )
        if len(guessed) != len(true):
            raise UsageError(
                f"sentence {row} has {len(guessed)} predicted tags and {len(true)} true ones",
                place=self._place,
                fix="give one tag for each word, on both sides",
            )
        right = sum(a == b for a, b in zip(guessed, true, strict=True))
        return set(entities(guessed)), set(entities(true)), len(true), right

    def _result(self) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for kind in sorted(self._support.keys() | self._predicted.keys()):
            support = self._support[kind]
            scores = _entity_scores(self._hits[kind], self._predicted[kind], support)
            result[kind] = {**scores, "number": support}
        overall = _entity_scores(self._hits.total(), self._predicted.total(), self._support.total())
        result.update({f"overall_{key}": value for key, value in overall.items()})
        result["overall_accuracy"] = self._right_tags / self._tags if self._tags else 0.0
        return result


def _entity_scores(hits: int, predicted: int, support: int) -> dict[str, float]:
    return {
        "precision": hits / predicted if predicted else 0.0,
        "recall": hits / support if support else 0.0,
        "f1": 2 * hits / (predicted + support) if predicted + support else 0.0,
    }


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
        found: dict[str, Any] = {}
        for number, row in enumerate(rows):
            if not isinstance(row, Mapping) or "id" not in row or value not in row:
                raise UsageError(
                    f"{what}[{number}] lacks 'id' or {value!r}",
                    place=self._place,
                    fix=f"give dictionaries with 'id' and {value!r}",
                )
            if row["id"] in found:
                raise UsageError(
                    f"{what} hold the id {row['id']!r} twice",
                    place=self._place,
                    fix="give each question once",
                )
            found[row["id"]] = row[value]
        return found

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


def _same_length(predictions: Sequence[Any], references: Sequence[Any], place: str) -> None:
    if len(predictions) != len(references):
        raise UsageError(
            f"{len(predictions)} predictions and {len(references)} references",
            place=place,
            fix="give one prediction for each reference",
        )
