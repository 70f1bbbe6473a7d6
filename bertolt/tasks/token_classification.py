"""Marked parts of a text, such as names: a tag for each word, read as spans of characters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bertolt.base.checks import are_texts
from bertolt.base.errors import DataError
from bertolt.base.few import softmax
from bertolt.data.arrow import pa
from bertolt.data.batch import IGNORE_INDEX
from bertolt.data.cells import spans_cell, tags_cell, text_cell, words_cell
from bertolt.data.conll import open_conll
from bertolt.data.encode import EncodedExample, EncodedTexts
from bertolt.data.formats import TAGGED, Open
from bertolt.data.load import Cells, Sample, Table
from bertolt.data.long import LongTexts
from bertolt.data.table_file import BadRow, is_missing, listing
from bertolt.models import heads
from bertolt.models.config import BertConfig
from bertolt.models.losses import Criterion
from bertolt.tasks import page, spans
from bertolt.tasks.base import Answer, Example, Output, Primary, Reading, register
from bertolt.tasks.criterion import LossChoices, criterion_of
from bertolt.tasks.labels import LabelledTask, names_of, rarest, require_one_label, rows_of_each
from bertolt.tasks.schema import SHARE, TEXT, Schema, record, several, span
from bertolt.tasks.scorers.spans import SpanScorer
from bertolt.tasks.spans import BIO, OUTSIDE, Mark, marks_of, read_spans, unit_labels
from bertolt.tasks.windows import WINDOWS, answered_units, first_pieces, windows_of
from bertolt.tasks.words import join_words, text_of, units_of_words, words_of
from bertolt.tokenization import BertTokenizer


@register
@dataclass(frozen=True)
class TokenClassification(LabelledTask):
    """Which parts of a text are of which kind.

    Attributes:
        labels: names, in the order of the model's outputs: O, and B- and I- of each kind; or plain
            tags.
        scheme: how they are read; see `read_spans`.
        word_labels: labels that a word of a list is answered with, where not all of them are.
    """

    name: ClassVar[str] = "token-classification"
    primary: ClassVar[Primary] = Primary(name="f1", title="F1 of spans")
    head: ClassVar[Any] = heads.TokenClassification
    longs = ("window", "error", "truncate")
    why_not_long = "without its middle, words would be tagged beside others than they stand by"
    worst: ClassVar[tuple[str, str]] = (
        "Worst answers",
        "Held-out texts with the most spans wrong or missed. Look for wrong tags first.",
    )
    kinds: ClassVar[Mapping[str, Open]] = {".txt": open_conll}

    labels: tuple[str, ...]
    scheme: str = BIO
    word_labels: tuple[str, ...] = ()

    @classmethod
    def recognise(cls, sample: Sample, reading: Reading) -> str:
        """Files of tagged words; lists of words with lists of tags; texts with lists of spans."""
        if sample.ending in TAGGED:
            return "a file of words and their tags, one word a line"
        labels = [row[0] for row in sample.values.get("label", []) if not is_missing(row[0])]
        texts = [row[0] for row in sample.values.get("text", [])]
        if not labels or not texts or len(sample.columns["label"]) != 1:
            return ""
        if all(isinstance(value, list | tuple) for value in [*labels, *texts]):
            return "words with a tag each"
        parts = [part for value in labels if isinstance(value, list | tuple) for part in value]
        return "texts with marked spans" if parts and spans.are_spans(parts) else ""

    @classmethod
    def cells(cls, sample: Sample, reading: Reading) -> Cells:
        """A text or words, and spans or tags."""
        require_one_label(sample, reading, cls.name)
        roles = sample.columns
        first = next((row[0] for row in sample.values["text"] if not is_missing(row[0])), "")
        words = sample.ending in TAGGED or isinstance(first, list | tuple)
        cells = {"text": words_cell(roles["text"]) if words else text_cell(roles["text"])}
        if "label" in roles:
            labels = roles["label"]
            cells["label"] = tags_cell(labels) if words else spans_cell(labels)
        return cells

    @classmethod
    def check_row(cls, example: Example) -> BadRow | None:
        """As many tags as words; spans inside the text that do not overlap."""
        return spans.row_fault(example)

    @classmethod
    def infer(cls, table: Table, train: NDArray[np.int64], reading: Reading) -> Self:
        """Kinds in the order of their spelling; says which scheme the tags are in."""
        values = table.labels_at(train)
        labels = spans.labels_in(table, values)
        if len(labels) < 2:
            raise DataError(
                f"no row of {len(values)} has a part of any kind: nothing to learn",
                place=f"{table.path}, column {table.label_column!r}",
                fix="name the column of the tags with --label",
            )
        scheme = spans.read_as(labels)
        return cls(tuple(labels), scheme, spans.labels_of_words(labels, values, scheme))

    @classmethod
    def restore(cls, config: BertConfig, settings: Mapping[str, Any]) -> Self:
        """Labels as the config names them; prefixes are seen, and labels of words are kept."""
        names = names_of(config)
        scheme = spans.read_as(names)
        labels = spans.with_kinds(names, scheme)
        of_words = settings.get("word_labels", [])
        if not are_texts(of_words) or not set(of_words) <= set(labels):
            raise ValueError(f"word_labels are {of_words!r}, and must be some of {listing(labels)}")
        return cls(labels, scheme, tuple(of_words))

    @classmethod
    def serves(cls, config: BertConfig) -> bool:
        """Any model with this head."""
        return True

    @classmethod
    def strata(cls, table: Table) -> NDArray[np.int64]:
        """Rows by the rarest of their kinds."""
        return rarest([spans.kinds_in(labels) for labels in table.labels])

    @classmethod
    def needed(cls, table: Table) -> list[NDArray[np.int64]]:
        """The rows of each kind, which may be the rarest of none."""
        return rows_of_each(spans.kinds_in(labels) for labels in table.labels)

    def config_changes(self) -> dict[str, Any]:
        """The labels."""
        return {"id2label": dict(enumerate(self.labels)), "problem_type": None}

    def settings(self) -> dict[str, Any]:
        """The labels of words, where training had others for units alone."""
        return {"word_labels": list(self.word_labels)} if self.word_labels else {}

    def check(self, table: Table) -> None:
        """Refuse tags in another scheme, and kinds that training never had."""
        spans.require_known(table, self._kinds(), self.scheme)

    def targets(self, table: Table, index: NDArray[np.int64], rows: EncodedTexts) -> NDArray[Any]:
        """(T,) label of each token that answers for a word or is inside of one; the others are
        ignored.

        Where each word of a list has a tag, as a part of speech, the insides are ignored too: what
        would be learned of them is never answered, and a character inside of a word says another
        thing than the same character as a word.
        """
        number = {name: label for label, name in enumerate(self.labels)}
        targets = np.full(len(rows.ids), IGNORE_INDEX, dtype=np.int64)
        for example, tokens, places in answered_units(table, index, rows):
            units = places.tolist()
            labels = unit_labels(units, marks_of(example, self.scheme), self.scheme)
            codes = np.array([number.get(label, IGNORE_INDEX) for label in labels], np.int64)
            if self.scheme == spans.WORDS:
                inside = np.ones(len(codes), bool)
                inside[[unit for *_, unit in units_of_words(units, example)]] = False
                codes[inside] = IGNORE_INDEX
            targets[tokens] = codes
        return targets

    def criterion(self, choices: LossChoices, targets: NDArray[Any]) -> Criterion | None:
        """Weights of labels, focus and smoothing."""
        return criterion_of(choices, self.labels, targets)

    def cautions(
        self, table: Table, index: NDArray[np.int64], rows: EncodedTexts
    ) -> list[dict[str, str]]:
        """Spans whose ends no answer has, as the middle of a word."""
        lost = [
            (example, mark)
            for example, _, places in answered_units(table, index, rows)
            for mark in spans.lost_marks(example, places, self.scheme)
        ]
        return [spans.lost_caution(table, lost, self.scheme)] if lost else []

    def count_labels(
        self, table: Table, index: NDArray[np.int64]
    ) -> tuple[list[str], NDArray[np.int64]]:
        """Spans of each kind."""
        examples = table.examples(index.tolist())
        counter = Counter(m.kind for e in examples for m in marks_of(e, self.scheme))
        kinds = self._kinds()
        return kinds, np.array([counter[kind] for kind in kinds], dtype=np.int64)

    def _kinds(self) -> list[str]:
        """The kinds that the labels name, in their order."""
        names = dict.fromkeys(spans.kind_of(label, self.scheme) for label in self.labels)
        return [name for name in names if name and name != OUTSIDE]

    @property
    def encoding(self) -> str:
        """Words with their characters, in windows with context on both sides."""
        return "words in windows"

    def encode(
        self, examples: Sequence[Example], tokenizer: BertTokenizer, limit: int
    ) -> Iterable[EncodedExample]:
        """Longer texts run in windows; each word is answered where it has most context."""
        return self.encode_long(examples, tokenizer, limit, WINDOWS)

    def encode_long(
        self, examples: Sequence[Example], tokenizer: BertTokenizer, limit: int, long: LongTexts
    ) -> Iterable[EncodedExample]:
        """The same with another overlap, or the first window alone: no word behind it is tagged."""
        texts = [text_of(example) for example in examples]
        for words in tokenizer.encode_words(texts):
            ends = tokenizer.cls_token_id, tokenizer.sep_token_id
            yield windows_of(words.ids, first_pieces(words), *ends, limit, long)

    def activate(self, logits: Tensor) -> Tensor:
        """Probabilities of each token's labels."""
        return softmax(logits)

    def decode(self, output: Output, example: Example) -> Answer:
        """The spans, from left to right, with their characters in the text."""
        words = words_of(output.windows, output.places, example)
        # Units inside a word learn I-; a word itself keeps to what words had in training.
        of_words = self.word_labels if not isinstance(example["text"], str) else ()
        allowed = np.array([self.labels.index(label) for label in of_words or self.labels])
        best = [int(allowed[word.shares[allowed].argmax()]) for word in words]
        tags = [self.labels[label] for label in best]
        sure = [float(word.shares[label]) for word, label in zip(words, best, strict=True)]
        text = text_of(example)
        parts = [
            {
                "start": words[first].start,
                "end": words[last - 1].end,
                "label": kind,
                "text": text[words[first].start : words[last - 1].end],
                "probability": float(np.mean(sure[first:last])),
            }
            for first, last, kind in read_spans(tags, self.scheme)
        ]
        tagged = [[word.start, word.end, tag] for word, tag in zip(words, tags, strict=True)]
        return {"spans": parts, "words": tagged}

    def public(self, answer: Answer) -> Answer:
        """The spans; the tags of words are for files in the CoNLL format."""
        return {"spans": answer["spans"]}

    def scorer(self) -> SpanScorer:
        """Counts of spans that are exactly right."""
        return SpanScorer(self.scheme, self._kinds())

    def describe_answer(self, answer: Answer) -> str:
        """The spans with their kinds."""
        return ", ".join(f"{s['text']} ({s['label']})" for s in answer["spans"]) or "nothing"

    def truth(self, example: Example) -> str:
        """The true spans with their kinds."""
        text, marks = text_of(example), marks_of(example, self.scheme)
        return ", ".join(f"{text[m.start : m.end]} ({m.kind})" for m in marks) or "nothing"

    def meant(self, example: Example) -> tuple[Mark, ...]:
        """The true spans, in whichever scheme their tags are."""
        return tuple(marks_of(example, self.scheme))

    def tagged(self, answer: Answer, example: Example) -> Iterator[tuple[str, str]]:
        """Each word with its tag; a word of a list that the tokenizer drops is outside."""
        text, outside = text_of(example), OUTSIDE if OUTSIDE in self.labels else self.labels[0]
        tags = {(start, end): tag for start, end, tag in answer["words"]}
        words = list(tags) if isinstance(example["text"], str) else join_words(example["text"])[1]
        for start, end in words:
            tag = tags.get((start, end), outside)
            yield text[start:end], tag.removesuffix("-_") if self.scheme == BIO else tag

    def shown_text(self, example: Example) -> str:
        """Words joined to a text."""
        return text_of(example)

    def marks(self, answer: Answer, example: Example) -> list[dict[str, Any]]:
        """Spans that are right, those that are wrong, and true ones that were missed."""
        answered = {Mark(s["start"], s["end"], s["label"]) for s in answer["spans"]}
        return spans.judged_marks(answered, set(marks_of(example, self.scheme)))

    def answer_types(self) -> dict[str, pa.DataType]:
        """The spans, as records."""
        parts = [("start", pa.int64()), ("end", pa.int64()), ("label", pa.string())]
        span = pa.struct([*parts, ("text", pa.string()), ("probability", pa.float64())])
        return {"spans": pa.list_(span)}

    def request_schema(self, pairs: bool | None) -> Schema:
        """A text, or its words."""
        return record({"text": {"anyOf": [TEXT, several(TEXT, minItems=1)]}})

    def answer_schema(self) -> Schema:
        """Spans, by characters of the text."""
        return record({"spans": several(span("label", "text", probability=SHARE))})

    def flat_names(self) -> list[str]:
        """The spans in one cell."""
        return ["spans"]

    def flat(self, answer: Answer) -> list[Any]:
        """The same of an answer."""
        return [answer["spans"]]

    def answer_blocks(self, answer: Answer, example: Example) -> list[dict[str, Any]]:
        """The text with its spans marked, and how sure each is."""
        return page.marked_text(text_of(example), answer["spans"])
