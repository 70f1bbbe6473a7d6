"""Marked parts of a text, such as names: a tag for each word, read as spans of characters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bertolt.base.console import info
from bertolt.base.errors import DataError, UsageError
from bertolt.base.format import plural
from bertolt.data.batch import IGNORE_INDEX
from bertolt.data.cells import spans_cell, tags_cell, text_cell, words_cell
from bertolt.data.conll import open_conll
from bertolt.data.encode import EncodedExample, EncodedTexts
from bertolt.data.formats import TAGGED, Open
from bertolt.data.load import Cells, Sample, Table
from bertolt.data.table_file import BadRow, is_missing
from bertolt.metrics import SpanCounts
from bertolt.metrics.tags import breaks, scheme_of, spans_of
from bertolt.models import heads
from bertolt.models.config import BertConfig
from bertolt.tasks import page
from bertolt.tasks.base import Answer, Example, Output, Primary, Reading, Scorer, Task, register
from bertolt.tasks.labels import label_counts, names_of, rarest, require_one_column
from bertolt.tasks.marks import (
    BIO,
    OUTSIDE,
    PLAIN,
    WORDS,
    Mark,
    join_words,
    marks_of,
    read_spans,
    text_of,
    unit_labels,
    windows_of,
    word_places,
)
from bertolt.tasks.table import interval_words, score_table
from bertolt.tokenization import BertTokenizer


@register
@dataclass(frozen=True)
class TokenClassification(Task):
    """Which parts of a text are of which kind.

    Attributes:
        labels: names, in the order of the model's outputs: O, and B- and I- of each kind; or plain
            tags.
        scheme: how they are read; see `read_spans`.
    """

    name: ClassVar[str] = "token-classification"
    primary: ClassVar[Primary] = Primary(name="f1", title="F1 of spans")
    head: ClassVar[Any] = heads.TokenClassification
    worst: ClassVar[tuple[str, str]] = (
        "Worst answers",
        "Held-out texts with the most spans wrong or missed. Look for wrong tags first.",
    )
    kinds: ClassVar[Mapping[str, Open]] = {".txt": open_conll}

    labels: tuple[str, ...]
    scheme: str = BIO

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
        spans = [span for value in labels if isinstance(value, list | tuple) for span in value]
        return "texts with marked spans" if spans and _are_spans(spans) else ""

    @classmethod
    def cells(cls, sample: Sample, reading: Reading) -> Cells:
        """A text or words, and spans or tags."""
        require_one_column(sample, cls.name)
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
        text, label = example["text"], example.get("label")
        if label is None:
            return None
        if not isinstance(text, str):
            if len(text) == len(label):
                return None
            detail = f"there are {plural(len(text), 'word')} and {plural(len(label), 'tag')}"
            return BadRow("words and tags of different number", detail)
        end = 0
        for span in sorted(label, key=lambda span: (span["start"], span["end"])):
            where = f"the span from {span['start']} to {span['end']}"
            if span["end"] > len(text):
                detail = f"{where} ends beyond the text, which has {len(text)} characters"
                return BadRow("span outside of its text", detail)
            if span["start"] < end:
                return BadRow("overlapping spans", f"{where} overlaps the one before it")
            end = span["end"]
        return None

    @classmethod
    def infer(cls, table: Table, train: NDArray[np.int64], reading: Reading) -> Self:
        """Kinds in the order of their spelling; says which scheme the tags are in."""
        values = table.labels_at(train)
        scheme = _scheme(table, values)
        if scheme == "spans":
            kinds = sorted({span["label"] for spans in values for span in spans})
        else:
            kinds = sorted({kind for tags in values for *_, kind in spans_of(tags, scheme)})
            _tell_scheme(table, scheme)
        if scheme == "plain":
            labels = sorted(
                {tag for tags in values for tag in tags}, key=lambda t: (t != OUTSIDE, t)
            )
        else:
            labels = [OUTSIDE, *(f"{prefix}-{kind}" for kind in kinds for prefix in "BI")]
        if len(labels) < 2:
            raise DataError(
                f"no row of {len(values)} has a part of any kind: nothing to learn",
                place=f"{table.path}, column {table.label_column!r}",
                fix="name the column of the tags with --label",
            )
        return cls(tuple(labels), _read_as(labels))

    @classmethod
    def restore(cls, config: BertConfig, settings: Mapping[str, Any]) -> Self:
        """Labels as the config names them; prefixes are seen."""
        names = names_of(config)
        return cls(names, _read_as(names))

    @classmethod
    def serves(cls, config: BertConfig) -> bool:
        """Any model with this head."""
        return True

    @classmethod
    def strata(cls, table: Table) -> NDArray[np.int64]:
        """Rows by the rarest of their kinds."""
        return rarest([_kinds_in(labels) for labels in table.labels])

    def config_changes(self) -> dict[str, Any]:
        """The labels."""
        return {"id2label": dict(enumerate(self.labels)), "problem_type": None}

    def settings(self) -> dict[str, Any]:
        """How the labels are written."""
        return {"scheme": self.scheme}

    def check(self, table: Table) -> None:
        """Refuse tags in another scheme, and kinds that training never had."""
        known = set(map(_kind_of(self.scheme), self.labels))
        for example in table.examples():
            where = f"{table.path}, row {example['row']}, column {table.label_column!r}"
            try:
                marks = marks_of(example, self.scheme)
            except (UsageError, DataError) as error:
                raise DataError(error.problem, place=where, fix=error.fix) from error
            if unknown := [mark.kind for mark in marks if mark.kind not in known]:
                kinds = ", ".join(sorted(known - {OUTSIDE, ""})[:20])
                raise DataError(
                    f"training had nothing of the kind {unknown[0]!r}; it had {kinds}",
                    place=where,
                    fix="mend the tags, name their column with --label, or train with such rows",
                )

    def targets(self, table: Table, index: NDArray[np.int64], rows: EncodedTexts) -> NDArray[Any]:
        """(T,) label of each token that answers for a word; the others are ignored."""
        assert rows.places is not None
        number = {name: label for label, name in enumerate(self.labels)}
        targets = np.full(len(rows.ids), IGNORE_INDEX, dtype=np.int64)
        firsts = np.searchsorted(rows.window_examples, np.arange(len(index) + 1))
        for example, first, last in zip(
            table.examples(index.tolist()), firsts[:-1], firsts[1:], strict=True
        ):
            tokens = np.arange(rows.offsets[first], rows.offsets[last])
            tokens = tokens[rows.places[tokens, 0] >= 0]
            marks = marks_of(example, self.scheme)
            labels = unit_labels(rows.places[tokens].tolist(), marks, self.scheme)
            targets[tokens] = [number.get(label, IGNORE_INDEX) for label in labels]
        return targets

    def counts(self, table: Table, index: NDArray[np.int64]) -> str:
        """Spans of each kind."""
        kinds, counts = self._counts(table, index)
        return label_counts(kinds, counts)

    def _counts(
        self, table: Table, index: NDArray[np.int64]
    ) -> tuple[list[str], NDArray[np.int64]]:
        examples = table.examples(index.tolist())
        counter = Counter(m.kind for e in examples for m in marks_of(e, self.scheme))
        kinds = [kind for kind in dict.fromkeys(map(_kind_of(self.scheme), self.labels)) if kind]
        kinds = [kind for kind in kinds if kind != OUTSIDE]
        return kinds, np.array([counter[kind] for kind in kinds], dtype=np.int64)

    @property
    def encoding(self) -> str:
        """Words with their characters, in windows with context on both sides."""
        return "words in windows"

    def encode(
        self, examples: Sequence[Example], tokenizer: BertTokenizer, limit: int
    ) -> Iterable[EncodedExample]:
        """Longer texts run in windows; each word is answered where it has most context."""
        texts = [text_of(example) for example in examples]
        for words in tokenizer.encode_words(texts):
            yield windows_of(words, tokenizer.cls_token_id, tokenizer.sep_token_id, limit)

    def activate(self, logits: Tensor) -> Tensor:
        """Probabilities of each token's labels."""
        return logits.softmax(-1)

    def decode(self, output: Output, example: Example) -> Answer:
        """The spans, from left to right, with their characters in the text."""
        words = word_places(output.windows, output.places, example)
        best = [int(word.shares.argmax()) for word in words]
        tags = [self.labels[label] for label in best]
        sure = [float(word.shares[label]) for word, label in zip(words, best, strict=True)]
        text = text_of(example)
        spans = [
            {
                "start": words[first].start,
                "end": words[last - 1].end,
                "label": kind,
                "text": text[words[first].start : words[last - 1].end],
                "probability": float(np.mean(sure[first:last])),
            }
            for first, last, kind in read_spans(tags, self.scheme)
        ]
        places = [[word.start, word.end, tag] for word, tag in zip(words, tags, strict=True)]
        return {"spans": spans, "words": places}

    def public(self, answer: Answer) -> Answer:
        """The spans; the tags of words are for files in the CoNLL format."""
        return {"spans": answer["spans"]}

    def scorer(self) -> TagScorer:
        """Counts of spans that are exactly right."""
        return TagScorer(self.scheme)

    def describe_answer(self, answer: Answer) -> str:
        """The spans with their kinds."""
        return ", ".join(f"{s['text']} ({s['label']})" for s in answer["spans"]) or "nothing"

    def truth(self, example: Example) -> str:
        """The true spans with their kinds."""
        text, marks = text_of(example), marks_of(example, self.scheme)
        return ", ".join(f"{text[m.start : m.end]} ({m.kind})" for m in marks) or "nothing"

    def tagged(self, answer: Answer, example: Example) -> Iterator[tuple[str, str]]:
        """Each word with its tag; a word of a list that the tokenizer drops is outside."""
        text = text_of(example)
        tags = {(start, end): tag for start, end, tag in answer["words"]}
        words = list(tags) if isinstance(example["text"], str) else join_words(example["text"])[1]
        for start, end in words:
            yield text[start:end], tags.get((start, end), self.labels[0])

    def shown_text(self, example: Example) -> str:
        """Words joined to a text."""
        return text_of(example)

    def marks(self, answer: Answer, example: Example) -> list[dict[str, Any]]:
        """Spans that are right, those that are wrong, and true ones that were missed."""
        said = {(s["start"], s["end"], s["label"]) for s in answer["spans"]}
        true = set(map(tuple, marks_of(example, self.scheme)))
        kinds: dict[str, set[Any]] = {
            "right": said & true,
            "wrong": said - true,
            "missed": true - said,
        }
        return [
            {"start": start, "end": end, "label": label, "kind": kind}
            for kind, spans in kinds.items()
            for start, end, label in sorted(spans)
        ]

    def flat_names(self) -> list[str]:
        """The spans in one cell."""
        return ["spans"]

    def flat(self, answer: Answer) -> list[Any]:
        """The same of an answer."""
        return ["; ".join(f"{s['start']}-{s['end']} {s['label']}" for s in answer["spans"])]

    def answer_blocks(self, answer: Answer, example: Example) -> list[dict[str, Any]]:
        """The text with its spans marked, and how sure each is."""
        return page.marked_text(text_of(example), answer["spans"])

    def explain(self, scorer: Scorer) -> dict[str, Any]:
        """The scores of each kind, and which are taken for which."""
        assert isinstance(scorer, TagScorer)
        return page.spans(scorer.counts, scorer.rows)

    def data_blocks(
        self, table: Table, train: NDArray[np.int64], held_out: Table, index: NDArray[np.int64]
    ) -> list[dict[str, Any]]:
        """Spans of each kind in both parts."""
        (kinds, first), (_, second) = self._counts(table, train), self._counts(held_out, index)
        return [page.label_rows(kinds, first, second)]


_PREFIXES = ("B-", "I-", "E-", "S-", "L-", "U-", "M-")


def _kind(tag: str) -> str:
    """The kind of a tag, whatever its prefix; empty for none."""
    return "" if tag == OUTSIDE else tag[2:] if tag[:2] in _PREFIXES else tag


def _kinds_in(labels: Sequence[Any]) -> set[str]:
    """The kinds of a row's spans or tags."""
    names = (_kind(each) if isinstance(each, str) else each["label"] for each in labels)
    return set(names) - {""}


def _kind_of(scheme: str) -> Any:
    return _kind if scheme == BIO else str


def _read_as(labels: Sequence[str]) -> str:
    """How labels are read: with prefixes, with an `O` between spans, or a kind for every word."""
    if all(label == OUTSIDE or label[:2] in _PREFIXES for label in labels):
        return BIO
    return PLAIN if OUTSIDE in labels else WORDS


def _are_spans(values: Sequence[Any]) -> bool:
    return all(isinstance(v, Mapping) and {"start", "end", "label"} <= v.keys() for v in values)


def _scheme(table: Table, values: list[Any]) -> str:
    """How the labels are written: as spans, or in which scheme of tags."""
    if any(isinstance(value, Mapping) for labels in values for value in labels[:1]):
        return "spans"
    if isinstance(next(iter(table.texts), ""), str):
        return "spans"
    try:
        return scheme_of(values)
    except DataError as error:
        place = f"{table.path}, column {table.label_column!r}"
        raise DataError(error.problem, place=place, fix=error.fix) from error


def _tell_scheme(table: Table, scheme: str) -> None:
    """Say in which scheme the tags are, and where they break it."""
    names = {"plain": "plain tags, one for each word"}
    info(f"Tags: {names.get(scheme, scheme)}")
    broken = [
        (int(row), position)
        for row, tags in zip(table.data["row"].to_pylist(), table.labels, strict=True)
        for position in breaks(tags, scheme)
    ]
    if broken:
        row, position = broken[0]
        info(
            f"Caution: {plural(len(broken), 'tag')} break{'s' * (len(broken) == 1)} the scheme "
            f"(the first: row {row}, word {position + 1}); each begins a span"
        )


class TagScorer(Scorer):
    """Spans with the right ends and the right kind.

    Attributes:
        counts: by kind, and which kinds are taken for which.
        rows: that were counted.
    """

    shown = ("f1", "precision", "recall")

    def __init__(self, scheme: str) -> None:
        self.counts = SpanCounts()
        self.rows = 0
        self._scheme = scheme

    def add(self, answer: Answer, example: Example) -> float:
        """Wrong by the number of spans that are on one side alone."""
        true = [(m.start, m.end, m.kind) for m in marks_of(example, self._scheme)]
        said = [(s["start"], s["end"], s["label"]) for s in answer["spans"]]
        words = [(start, end) for start, end, _ in answer["words"]]
        self.rows += 1
        marks = [Mark(*span) for span in true]
        self.counts.update(
            said,
            true,
            predicted_tags=[tag for _, _, tag in answer["words"]],
            true_tags=unit_labels(words, marks, self._scheme),
        )
        return float(len(set(said) ^ set(true)))

    def state(self) -> dict[str, NDArray[Any]]:
        """The counts."""
        return self.counts.state() | {"rows": np.array([self.rows])}

    def merge(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Add counts."""
        self.counts.merge(state)
        self.rows += int(state["rows"][0])

    def values(self) -> dict[str, Any]:
        """Precision, recall and F1 of spans, of all and of each kind."""
        values = self.counts.values()
        return {
            **values,
            "accuracy": values["token_accuracy"],
            "rows": self.rows,
            **{f"{name}_interval": ends for name, ends in self.counts.intervals().items()},
            "per_type": {kind: vars(score) for kind, score in self.counts.per_type().items()},
            "confused": [
                {"label": true, "taken_for": said, "count": count}
                for (true, said), count in sorted(self.counts.confused().items())
            ],
            "missed": self.counts.missed(),
            "spurious": self.counts.spurious(),
        }

    def lines(self, loss: float) -> Iterator[str]:
        """F1 of all spans, and a line for each kind."""
        values, ends = self.counts.values(), self.counts.intervals()
        score = self.counts.overall()
        yield (
            f"F1 of spans {interval_words(values['f1'], ends['f1'])}: {score.support:,} are there, "
            f"{score.predicted:,} were given"
        )
        yield f"  precision {interval_words(values['precision'], ends['precision'])}"
        yield f"  recall {interval_words(values['recall'], ends['recall'])}"
        yield (
            f"  macro F1 {interval_words(values['f1_macro'], None)}, words with the right tag "
            f"{interval_words(values['token_accuracy'], None)}, loss {loss:.4f}"
        )
        yield ""
        types = self.counts.per_type()
        yield from score_table("kind", list(types), list(types.values()), unit="spans")
        for (true, said), count in sorted(self.counts.confused().items()):
            yield f"{true} taken for {said}: {count:,}"
