"""Spans ↔ tags: marked parts of a text, and the labels of words that say where they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bertolt.base.console import info
from bertolt.base.errors import DataError, UsageError, nearest
from bertolt.base.format import plural, shorten
from bertolt.data.load import Table
from bertolt.data.table_file import BadRow
from bertolt.metrics.tags import is_prefixed, scheme_of, spans_of
from bertolt.tasks import page
from bertolt.tasks.base import Example
from bertolt.tasks.words import join_words, text_of, words_of

OUTSIDE = "O"
BIO, PLAIN, WORDS = "BIO", "plain", "words"
"""How the labels of a model are read; see `read_spans`."""
_NAMED = 3  # spans that a caution names
_LETTERS = frozenset("BIESLUM")
_PREFIXES = tuple(f"{letter}-" for letter in "BIESLUM")


class Mark(NamedTuple):
    """A part of a text from character `start` to before `end`, and its kind."""

    start: int
    end: int
    kind: str


# ---- what tags say


def kind_of(tag: str, scheme: str = BIO) -> str:
    """The kind that a tag names; empty for O where tags have prefixes."""
    if scheme != BIO:
        return tag
    return "" if tag == OUTSIDE else tag[2:] if tag[:2] in _PREFIXES else tag


def kinds_in(labels: Sequence[Any]) -> set[str]:
    """The kinds of a row's spans or tags."""
    names = (kind_of(each) if isinstance(each, str) else each["label"] for each in labels)
    return set(names) - {""}


def read_as(labels: Sequence[str]) -> str:
    """How labels are read: with prefixes, with an `O` between spans, or a kind for every word.

    A prefix alone is a prefix too where all labels have one: B, I and O are one kind without a
    name, as seqeval reads them.
    """
    if all(each == OUTSIDE or each in _LETTERS or each[:2] in _PREFIXES for each in labels):
        return BIO
    return PLAIN if OUTSIDE in labels else WORDS


def with_kinds(labels: Sequence[str], scheme: str) -> tuple[str, ...]:
    """The same labels, with the kind "_" behind a prefix that stands alone."""
    return tuple(
        f"{label}-_" if scheme == BIO and label != OUTSIDE and label in _LETTERS else label
        for label in labels
    )


def read_spans(tags: Sequence[str], scheme: str) -> list[tuple[int, int, str]]:
    """Spans (first word, last word + 1, kind) of a sequence of tags.

    "BIO" stands for all schemes with prefixes, which are read alike; in "plain" equal neighbours
    are one span; in "words" each word is a span, as with parts of speech.

    Raises:
        UsageError: a tag of another scheme.
    """
    if scheme == WORDS:
        return [(word, word + 1, tag) for word, tag in enumerate(tags)]
    return spans_of(tags, scheme)


def are_spans(values: Sequence[Any]) -> bool:
    """Whether all values are marked parts: a start, an end and a label each."""
    return all(isinstance(v, Mapping) and {"start", "end", "label"} <= v.keys() for v in values)


# ---- between marks and labels


def marks_of(example: Example, scheme: str) -> list[Mark]:
    """The true spans of an example, by character, from left to right.

    Raises:
        UsageError: a tag in another scheme.
    """
    label = example["label"]
    if isinstance(example["text"], str):
        return sorted(Mark(span["start"], span["end"], span["label"]) for span in label)
    _, places = join_words(example["text"])
    return [
        Mark(places[first][0], places[last - 1][1], kind)
        for first, last, kind in read_spans(label, scheme)
        if places[first][0] < places[last - 1][1]
    ]


def unit_labels(places: Sequence[Sequence[int]], marks: Sequence[Mark], scheme: str) -> list[str]:
    """The label of each place (start, end), given the marks; both from left to right.

    The first place that a mark touches begins it.
    """
    labels = []
    number, begun = 0, False
    for start, end in places:
        while number < len(marks) and marks[number].end <= start:
            number, begun = number + 1, False
        if number == len(marks) or marks[number].start >= end:
            labels.append(OUTSIDE)
            continue
        kind = marks[number].kind
        labels.append(f"{'I' if begun else 'B'}-{kind}" if scheme == BIO else kind)
        begun = True
    return labels


def lost_marks(example: Example, places: NDArray[np.int32], scheme: str) -> list[Mark]:
    """The true spans of an example that no answer can have.

    Args:
        example: a text, or words.
        places: (U, 2) characters of the units that are answered.
        scheme: of the labels.
    """
    marks = marks_of(example, scheme)
    labels = np.array(unit_labels(places.tolist(), marks, scheme), dtype=object)
    words = words_of([labels], [places], example)
    answered = {
        Mark(words[first].start, words[last - 1].end, kind)
        for first, last, kind in read_spans([str(word.shares) for word in words], scheme)
    }
    return [mark for mark in marks if mark not in answered]


def lost_caution(table: Table, lost: Sequence[tuple[Example, Mark]], scheme: str) -> dict[str, str]:
    """A caution that counts the spans that no answer can have, and names the first few."""
    named = [
        f"{table.row_words(example['row'])}, "
        f"{shorten(text_of(example)[mark.start : mark.end], 30)!r} "
        f"from {mark.start} to {mark.end}"
        for example, mark in lost[:_NAMED]
    ]
    touch = ", or touch another span of their kind" if scheme == PLAIN else ""
    reason = f"Their ends lie inside a unit of the tokenizer, as a word is{touch}"
    end = "; …" if len(lost) > _NAMED else "."
    claim = f"{plural(len(lost), 'span')} cannot be answered exactly"
    return page.caution(claim, f"{reason}: {'; '.join(named)}{end}")


def judged_marks(answered: set[Mark], true: set[Mark]) -> list[dict[str, Any]]:
    """Spans to draw over a text: `start`, `end`, `label`, and whether they are right as `kind`."""
    judged = {"right": answered & true, "wrong": answered - true, "missed": true - answered}
    return [
        {"start": mark.start, "end": mark.end, "label": mark.kind, "kind": kind}
        for kind, marks in judged.items()
        for mark in sorted(marks)
    ]


# ---- rows and tables


def row_fault(example: Example) -> BadRow | None:
    """Why the tags or spans of a row do not fit its words or its text; None if they do."""
    text, label = example["text"], example.get("label")
    if label is None:
        return None
    if not isinstance(text, str):
        if len(text) == len(label):
            return None
        detail = f"{plural(len(text), 'word')} and {plural(len(label), 'tag')} do not pair"
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


def require_known(table: Table, kinds: Sequence[str], scheme: str) -> None:
    """Refuse tags in another scheme, and kinds that are not among these.

    Raises:
        DataError: with the first such row.
    """
    for example in table.examples():
        where = f"{table.place(example['row'])}, column {table.label_column!r}"
        try:
            marks = marks_of(example, scheme)
        except (UsageError, DataError) as error:
            raise DataError(error.problem, place=where, fix=error.fix) from error
        unknown = next((mark.kind for mark in marks if mark.kind not in kinds), None)
        if unknown is not None:
            near = nearest(unknown, list(kinds))
            raise DataError(
                f"training had nothing of the kind {unknown!r}; it had "
                f"{', '.join(sorted(kinds)[:20])}",
                place=where,
                fix=f"perhaps {near!r} is meant; " * bool(near)
                + "mend the tags, name their column with --label, or train with such rows",
            )


def labels_in(table: Table, values: Sequence[Any]) -> list[str]:
    """The labels that a model needs for the tags or spans of some rows; says how they are written.

    Raises:
        DataError: some of the tags have prefixes and others do not.
    """
    if _holds_spans(table, values):
        return _prefixed({span["label"] for spans in values for span in spans})
    try:
        scheme = scheme_of(values)
    except DataError as error:
        place = f"{table.path}, column {table.label_column!r}"
        problem = f"{error.problem}; {_rows_of_both(table)}"
        raise DataError(problem, place=place, fix=error.fix) from error
    info(f"Tags: {'plain tags, one for each word' if scheme == PLAIN else scheme}")
    if scheme == PLAIN:
        names = {tag for tags in values for tag in tags}
        return sorted(names, key=lambda tag: (tag != OUTSIDE, tag))
    return _prefixed({kind for tags in values for *_, kind in spans_of(tags, scheme)})


def _rows_of_both(table: Table) -> str:
    """How many tags lack a prefix, and where the first ones with and without it stand."""
    first: dict[bool, str] = {}
    counts = {True: 0, False: 0}
    for example in table.examples():
        for word, tag in enumerate(example["label"], start=1):
            if tag != OUTSIDE:
                has = is_prefixed(tag)
                counts[has] += 1
                if has not in first:
                    first[has] = f"{table.row_words(example['row'])}, word {word}"
    return (
        f"{counts[False]:,} of {sum(counts.values()):,} lack one; the first with one at "
        f"{first.get(True)}; the first without at {first.get(False)}"
    )


def labels_of_words(labels: Sequence[str], values: Sequence[Any], scheme: str) -> tuple[str, ...]:
    """Those of `labels` that words of lists had, with O; empty if words, or units, may have any.

    A word has several units, and those after its first have I- even where no second word has it.
    """
    tagged = [tags for tags in values if tags]
    if scheme != BIO or not all(isinstance(tags[0], str) for tags in tagged):
        return ()
    of_words = {OUTSIDE}
    for tags in tagged:
        for first, last, kind in spans_of(tags, scheme):
            of_words |= {f"B-{kind}", f"I-{kind}"} if last - first > 1 else {f"B-{kind}"}
    return tuple(filter(of_words.__contains__, labels)) if of_words < set(labels) else ()


def _holds_spans(table: Table, values: Sequence[Any]) -> bool:
    if any(isinstance(value, Mapping) for labels in values for value in labels[:1]):
        return True
    return isinstance(next(iter(table.data["text"].slice(0, 1).to_pylist()), ""), str)


def _prefixed(kinds: set[str]) -> list[str]:
    """O, and B- and I- of each kind, by spelling."""
    return [OUTSIDE, *(f"{prefix}-{kind}" for kind in sorted(kinds) for prefix in "BI")]
