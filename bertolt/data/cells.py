"""From the cells of one row to the value of one role: a text, a label, labels, numbers, tags.

A `Cell` reads the cells of the columns that play a role. What comes out is plain, and goes to an
Arrow column of the cell's type; a `BadRow` leaves the row out, and `None` means values of a kind
that no such column has, which ends the reading.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bertolt.base.checks import are_texts
from bertolt.data.arrow import pa
from bertolt.data.table_file import BadRow, as_text, is_blank, is_empty, is_missing, unfit

_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")
_DECIMAL = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """How the value of a role is read.

    Attributes:
        type: of its Arrow column.
        read: the cells of the role's columns to a value, a `BadRow`, or None for a wrong type.
        what: such a value is called, for messages: "text", "name or number".
        lists: what to do where a value is a list, for messages; empty where nobody knows.
        left: what there is of cells that cannot be used, of the same type; None: nothing.
    """

    type: pa.DataType
    read: Callable[[Sequence[object]], object | BadRow | None]
    what: str
    lists: str = ""
    left: Callable[[Sequence[object]], object | None] = lambda values: usable(values[0])


def usable(value: object) -> str | None:
    """A text that can be written, whatever it says; None for anything else."""
    return value if isinstance(value, str) and not unfit(value) else None


def text_cell(columns: Sequence[str], role: str = "text") -> Cell:
    """One text as it stands; an empty one leaves the row out."""

    name = "second text" if role == "text_pair" else role

    def read(values: Sequence[object]) -> object | BadRow | None:
        return _filled(as_text(values[0]), name, columns[0])

    return Cell(type=pa.string(), read=read, what="text")


def label_cell(columns: Sequence[str]) -> Cell:
    """One label, without spaces around it: 1, 1.0 and " 1 " are all "1"."""

    def read(values: Sequence[object]) -> object | BadRow | None:
        return _filled(as_label(values[0]), "label", columns[0])

    return Cell(type=pa.string(), read=read, what="name or number")


def labels_cell(columns: Sequence[str], separator: str | None) -> Cell:
    """Several labels in one cell: a list, or a text parted by `separator`, or none."""

    def read(values: Sequence[object]) -> object | BadRow | None:
        value = values[0]
        if isinstance(value, str):
            value = value.split(separator) if separator else [value]
        if is_missing(value):
            value = []
        if not isinstance(value, list | tuple):
            value = [value]
        names = [as_label(each) for each in value]
        if any(name is None for name in names):
            return None
        filled = [name for name in names if name and not is_blank(name)]
        return _fit_all(list(dict.fromkeys(filled)), columns[0])

    return Cell(type=pa.list_(pa.string()), read=read, what="list of names")


def flags_cell(columns: Sequence[str]) -> Cell:
    """Several columns of 0 and 1: the names of those that hold a 1."""

    def read(values: Sequence[object]) -> object | BadRow | None:
        if len(columns) > 1 and all(map(is_empty, values)):
            return []  # as an empty cell of a list: none of the labels
        marks = [as_flag(value) for value in values]
        for column, mark, value in zip(columns, marks, values, strict=True):
            if mark is None:
                return BadRow("label neither 0 nor 1", f"column {column!r} holds {_shown(value)}")
        return [column for column, mark in zip(columns, marks, strict=True) if mark]

    return Cell(type=pa.list_(pa.string()), read=read, what="0 or 1")


def numbers_cell(columns: Sequence[str]) -> Cell:
    """One number from each column; a row that lacks one, or has an infinite one, is left out."""

    def read(values: Sequence[object]) -> object | BadRow | None:
        numbers = [as_number(value) for value in values]
        for column, number, value in zip(columns, numbers, values, strict=True):
            if number is None:
                reason = "empty label" if is_empty(value) else "label that is no number"
                detail = f"column {column!r} holds {_shown(value)}"
                if isinstance(value, str) and is_comma_number(value):
                    reason = "number with a comma"
                    written = value.strip().replace(",", ".")
                    fix = f"write its numbers with a point, as {written}, or export it with points"
                    return BadRow(reason, f"{detail}, and numbers are written as {written}", fix)
                return BadRow(reason, detail)
        return numbers

    return Cell(type=pa.list_(pa.float64()), read=read, what="number")


def words_cell(columns: Sequence[str]) -> Cell:
    """A list of words; a row without one is left out."""

    def read(values: Sequence[object]) -> object | BadRow | None:
        words = [] if is_empty(values[0]) else values[0]
        if not isinstance(words, list | tuple) or not are_texts(words):
            return None
        if all(map(is_blank, words)):
            return BadRow("empty text", f"the text in column {columns[0]!r} has no words")
        return _fit_all(list(words), columns[0])

    def left(values: Sequence[object]) -> object | None:
        words = values[0] if isinstance(values[0], list | tuple) else ()
        return [word for word in map(usable, words) if word is not None]

    return Cell(type=pa.list_(pa.string()), read=read, what="list of words", left=left)


def tags_cell(columns: Sequence[str]) -> Cell:
    """A list of tags, one for each word."""

    def read(values: Sequence[object]) -> object | BadRow | None:
        tags = values[0]
        if is_empty(tags):
            return BadRow("empty label", f"the label in column {columns[0]!r} is empty")
        if not isinstance(tags, list | tuple):
            return None
        names = [as_label(tag) for tag in tags]
        if any(name is None for name in names):
            return None
        if any(not name for name in names):
            detail = f"tag {names.index('') + 1} of {len(names)} in column {columns[0]!r} is empty"
            return BadRow("empty tag", detail)
        return _fit_all([str(name) for name in names], columns[0])

    return Cell(type=pa.list_(pa.string()), read=read, what="list of tags")


def spans_cell(columns: Sequence[str]) -> Cell:
    """Marked parts of a text: a list of {"start", "end", "label"}, in characters, end excluded."""

    def read(values: Sequence[object]) -> object | BadRow | None:
        spans = [] if is_missing(values[0]) else values[0]
        if not isinstance(spans, list | tuple):
            return None
        checked = []
        for number, span in enumerate(spans, start=1):
            fault = _span_fault(span)
            if fault:
                detail = f"span {number} of {len(spans)} in column {columns[0]!r} {fault}"
                return BadRow("broken span", detail)
            checked.append(
                {"start": span["start"], "end": span["end"], "label": span["label"].strip()}
            )
        return checked

    span = pa.struct([("start", pa.int64()), ("end", pa.int64()), ("label", pa.string())])
    return Cell(type=pa.list_(span), read=read, what="list of spans")


def answers_cell(columns: Sequence[str]) -> Cell:
    """Answers that stand in another text, each with its first character, or None if nobody said it.

    One text or several, {"text", "answer_start"} or several, or one that holds a list of each, as
    the `datasets` library has them. No answer is an empty list, an empty cell or a missing value.
    """

    def read(values: Sequence[object]) -> object | BadRow | None:
        answers = []
        for number, (text, start) in enumerate(_answers_in(values[0]), start=1):
            where = f"answer {number} in column {columns[0]!r}"
            if not isinstance(text, str) or is_blank(text):
                return BadRow("broken answer", f"{where} has {_shown(text)} in the place of a text")
            if reason := unfit(text):
                return _unfit(reason, columns[0])
            if start is not None and (not isinstance(start, int) or isinstance(start, bool)):
                detail = f"{where} begins at {_shown(start)}, and must begin at a whole number"
                return BadRow("broken answer", detail)
            answers.append({"text": text, "start": start})
        return answers

    answer = pa.struct([("text", pa.string()), ("start", pa.int64())])
    return Cell(type=pa.list_(answer), read=read, what="text or list of answers")


def _answers_in(value: object) -> list[tuple[object, object]]:
    """The text and the first character of each answer in a cell, unchecked."""
    if is_empty(value):
        return []
    if isinstance(value, Mapping):
        text = value.get("text")
        start = next((value[name] for name in ("answer_start", "start") if name in value), None)
        if not isinstance(text, list | tuple):
            return [(text, start)]
        starts = list(start) if isinstance(start, list | tuple) else [start] * len(text)
        # Either may be longer; what has no partner is broken, and told so.
        starts += ["missing"] * (len(text) - len(starts))
        return list(zip([*text, *[None] * (len(starts) - len(text))], starts, strict=True))
    if isinstance(value, list | tuple):
        return [answer for each in value for answer in _answers_in(each)]
    return [(value, None)]


def as_label(value: object) -> str | None:
    """A label as a text: 1, 1.0 and " 1 " are all "1"; empty if missing; None for the rest."""
    if isinstance(value, str):
        return value.strip()
    if is_missing(value):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, (bool, int, float)) else None


def as_number(value: object) -> float | None:
    """A finite number, or a text that every program reads as the same one; None for the rest.

    Python alone reads 1_000, and digits of other scripts, as numbers.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and not _DECIMAL.fullmatch(value.strip()):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def is_comma_number(text: str) -> bool:
    """Whether a text is a number but for a comma where its point would be."""
    return bool(_COMMA.fullmatch(text.strip()))


def as_flag(value: object) -> bool | None:
    """0, 1, true or false in any of their spellings; None for anything else."""
    name = str(value).strip().lower()
    if name in ("1", "1.0", "true"):
        return True
    return False if name in ("0", "0.0", "false") else None


def _span_fault(span: object) -> str:
    """What is wrong with a marked part, in words; empty if nothing is."""
    if not isinstance(span, Mapping):
        return f"is {_shown(span)}, and must have a start, an end and a label"
    start, end, label = (span.get(name) for name in ("start", "end", "label"))
    if not all(isinstance(each, int) and not isinstance(each, bool) for each in (start, end)):
        return f"goes from {_shown(start)} to {_shown(end)}, and both must be whole numbers"
    if not isinstance(label, str) or is_blank(label) or unfit(label):
        return f"has the label {_shown(label)}, and must have a name"
    if label.strip() == "O":
        return "has the label 'O', which stands for what is in no span"
    assert isinstance(start, int)
    assert isinstance(end, int)
    return "" if 0 <= start < end else f"goes from {start} to {end}, which holds no character"


def _filled(value: str | None, role: str, column: str) -> object | BadRow | None:
    if value is None:
        return None
    if reason := unfit(value):
        return _unfit(reason, column)
    if is_blank(value):
        return BadRow(f"empty {role}", f"the {role} in column {column!r} is empty")
    return value


def _fit_all(values: list[str], column: str) -> list[str] | BadRow:
    reason = next(filter(None, map(unfit, values)), "")
    return _unfit(reason, column) if reason else values


def _unfit(reason: str, column: str) -> BadRow:
    return BadRow(reason, f"a {reason} in column {column!r}")


def _shown(value: object) -> str:
    words = repr(value)
    return words if len(words) <= 40 else words[:39] + "…"
