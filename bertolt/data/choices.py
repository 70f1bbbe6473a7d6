"""Choices of a question: in which columns they stand, and how they are read.

A row's choices are a list of texts, or {"text": [...], "label": [...]} where the file has a name
for each, as "A"; "start" beside them is what each of them goes on from, such as the question on a
passage. They come from a column of lists, or from a column for each choice.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from bertolt.data.arrow import pa
from bertolt.data.cells import Cell, as_label, usable
from bertolt.data.table_file import BadRow, as_text, is_blank, is_empty, is_missing, unfit

LISTS = ("choices", "options", "endings", "candidates", "alternatives", "选项")
"""Columns that usually hold a list of choices."""
PASSAGES = ("article", "passage", "context", "paragraph", "story", "dialogue", "文章", "材料")
QUESTIONS = (
    *("question", "question_stem", "stem", "prompt", "query", "问题", "题目"),
    *("goal", "ctx", "premise", "sentence", "startphrase", "sent1", "text", "文本"),
)
_SURELY = 7  # the first of them are questions, and nothing else
"""What choices are offered for; on a passage, the question is what each choice goes on from."""
LABELS = (
    *("label", "answerkey", "answer_key", "answer", "correct_answer", "correct", "gold", "target"),
    *("cop", "答案", "标签"),
)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SERIES = re.compile(
    r"(?P<name>(?:ending|choice|option|answer|solution|sol|alternative|candidate|op|选项)[ _-]?|)"
    r"(?P<place>[0-9]|[a-h])",
    re.IGNORECASE,
)
_DIGITS = 9  # of a number that may be a place
_LIST_FIX = 'write lists as JSON, ["first", "second"], or a column for each choice'


class Choices(NamedTuple):
    """The choices of a row.

    Attributes:
        texts: of each.
        names: what the file calls each; None: it has no names.
        start: what each of them goes on from; empty: nothing.
    """

    texts: list[str]
    names: list[str] | None = None
    start: str = ""

    @property
    def whole(self) -> list[str]:
        """What the model reads of each."""
        return [f"{self.start} {text}" if self.start else text for text in self.texts]


def choices_of(value: Any) -> Choices:
    """The choices of a list, or of a mapping with `text`, and perhaps `label` and `start`.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(value, Mapping) and isinstance(value.get("text"), list | tuple):
        names = value.get("label")
        return Choices(list(value["text"]), names and list(names), value.get("start") or "")
    if isinstance(value, list | tuple):
        return Choices(list(value))
    raise TypeError(f"choices are a list of texts, and this is a {type(value).__name__}")


# ---- columns


def find_columns(
    columns: Sequence[str], first: Callable[[str], object], text: str | None = None
) -> dict[str, list[str]]:
    """The columns of a question, its choices, and the label if it has a usual name; else empty.

    Args:
        columns: all of the file.
        first: gives the first value of a column.
        text: the column of the questions, where it is known.
    """
    lower = {name.strip().lower(): name for name in columns}
    lists = [lower[name] for name in LISTS if name in lower and is_list(first(lower[name]))]
    choices = lists[:1] or series_in([name for name in columns if name != text])
    if not choices:
        return {}
    # Columns of single letters may be anything, but beside a question.
    bare = not lists and len(choices[0].strip()) == 1
    asked = QUESTIONS[:_SURELY] if bare else QUESTIONS
    question, passage = (_first_of(names, lower, choices) for names in (asked, PASSAGES))
    if text is not None:
        start = []
        text = None if bare and text.strip().lower() not in asked else text
    elif {"sent1", "sent2"} <= lower.keys():
        text, start = lower["sent1"], [lower["sent2"]]
    elif passage and question:
        text, start = passage, [question]
    else:
        text, start = question or passage, []
    if text is None:
        return {}
    label = _first_of(LABELS, lower, [text, *start, *choices])
    return {"text": [text], "text_pair": [*start, *choices], "label": [label] if label else []}


def _first_of(names: Sequence[str], lower: Mapping[str, str], taken: Sequence[str]) -> str | None:
    there = (lower[name] for name in names if name in lower)
    return next((name for name in there if name not in taken), None)


def series_in(columns: Sequence[str]) -> list[str]:
    """Columns that are called alike and counted through, as ending0, ending1 or A, B, C."""
    series: dict[str, dict[int, str]] = {}
    for column in columns:
        if match := _SERIES.fullmatch(column.strip()):
            place = match["place"].lower()
            kind = "number" if place.isdigit() else "letter"
            number = int(place) if place.isdigit() else ord(place) - ord("a")
            if match["name"] or kind == "letter":
                series.setdefault(f"{match['name'].lower()} {kind}", {})[number] = column
    for kind, places in series.items():
        first = min(places)
        known = first in ((0, 1) if kind.endswith("number") else (0,))
        if known and len(places) > 1 and max(places) - first == len(places) - 1:
            return [places[number] for number in sorted(places)]
    return []


def parted(columns: Sequence[str], values: Sequence[Sequence[object]]) -> tuple[int, bool]:
    """How many columns stand before the choices, and whether these are lists in one column.

    Args:
        columns: of the choices, perhaps behind what they go on from.
        values: their cells in some rows.
    """
    lists = any(row and is_list(row[-1]) for row in values)
    if lists or len(columns) == 1:
        return len(columns) - 1, True
    behind = [name for name in columns[1:] if _SERIES.fullmatch(name.strip())]
    odd_first = not _SERIES.fullmatch(columns[0].strip())
    return int(odd_first and len(behind) == len(columns) - 1 > 1), False


def is_list(value: object) -> bool:
    """Whether a cell holds a list or a record, or the JSON of one."""
    if isinstance(value, str):
        value = _read_json(value)
    return isinstance(value, list | tuple | Mapping)


def _read_json(text: str) -> object:
    if text.lstrip()[:1] not in ("[", "{"):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


# ---- cells


def choices_cell(columns: Sequence[str], values: Sequence[Sequence[object]]) -> Cell:
    """Two choices or more, in one column of lists or in a column for each.

    Args:
        columns: of the choices, perhaps behind what they go on from.
        values: their cells in some rows, to tell what they hold.
    """
    before, lists = parted(columns, values)
    names = lists and any(_has_names(row[-1]) for row in values if row)

    def read(cells: Sequence[object]) -> object | BadRow | None:
        start = as_text(cells[0]) if before else ""
        if before and (start is None or unfit(start) or is_blank(start)):
            return BadRow("empty text", f"the text in column {columns[0]!r} is empty")
        found = _in_list(cells[-1]) if lists else _in_cells(cells[before:], columns[before:])
        if isinstance(found, BadRow):
            return found
        bad = _fault(found, columns[-1] if lists else f"{columns[before]} to {columns[-1]}")
        texts = [as_label(text) or "" if not isinstance(text, str) else text for text in found[0]]
        label = None if found[1] is None else [as_label(name) for name in found[1]]
        if bad is not None:
            return bad
        if not names and not before:
            return texts
        return {"start": start or None, "text": texts, "label": label}

    def left(cells: Sequence[object]) -> object | None:
        start = usable(cells[0]) if before else None
        texts, label = _left_of(cells[-1] if lists else [*cells[before:]])
        while not lists and texts and not texts[-1]:  # the last ones may be missing
            texts.pop()
        if not names and not before:
            return texts or None
        return {"start": start, "text": texts, "label": label} if texts or start else None

    texts = pa.list_(pa.string())
    record = pa.struct([("start", pa.string()), ("text", texts), ("label", texts)])
    kind = record if names or before else texts
    return Cell(type=kind, read=read, what="list of choices", left=left)


_Found = tuple[Sequence[object], Sequence[object] | None]


def _has_names(value: object) -> bool:
    value = _read_json(value) if isinstance(value, str) else value
    inner = value[0] if isinstance(value, list | tuple) and value else value
    return isinstance(inner, Mapping)


def _in_list(value: object) -> _Found | BadRow:
    """The choices of one cell, and their names, unchecked."""
    value = _read_json(value) if isinstance(value, str) else value
    if is_empty(value):
        return BadRow("no choices", "there are no choices")
    if isinstance(value, Mapping):
        texts, names = value.get("text"), value.get("label")
        if not isinstance(texts, list | tuple) or not (
            names is None or (isinstance(names, list | tuple) and len(names) == len(texts))
        ):
            detail = f"choices are {_shown(value)}, and must have as many names as texts"
            return BadRow("broken choices", detail, 'write {"text": [...], "label": [...]}')
        return texts, names
    if not isinstance(value, list | tuple):
        return BadRow("choices that are no list", f"the choices are {_shown(value)}", _LIST_FIX)
    if value and all(isinstance(each, Mapping) for each in value):
        names = [each.get("label") for each in value]
        named = any(name is not None for name in names)
        return [each.get("text") for each in value], names if named else None
    return value, None


def _left_of(value: object) -> tuple[list[str | None], list[str | None] | None]:
    """The choices of a cell that cannot be used, and their names; what is no list is one."""
    found = _in_list(value)
    if isinstance(found, BadRow):
        found = ([] if is_empty(value) else [value], None)
    texts, label = found
    return list(map(_as_choice, texts)), list(map(_as_choice, label)) if label else None


def _as_choice(value: object) -> str | None:
    """A choice that cannot be used, as a text; None where it has none that can be written."""
    if not isinstance(value, str) and not is_missing(value):
        value = as_label(value) or json.dumps(value, ensure_ascii=False, default=str)
    return usable(value)


def _in_cells(cells: Sequence[object], columns: Sequence[str]) -> _Found | BadRow:
    """A choice from each column; the last ones may be missing."""
    count = max((n for n, cell in enumerate(cells, start=1) if not is_empty(cell)), default=0)
    for column, cell in zip(columns, cells[:count], strict=False):
        if is_empty(cell):
            return BadRow(
                "missing choice",
                f"column {column!r} is empty, and {columns[count - 1]!r} behind it is not",
                "let the choices that a row lacks be its last ones",
            )
    return cells[:count], None


def _fault(found: _Found, column: str) -> BadRow | None:
    """What is wrong with the choices of a row; None if nothing is."""
    texts, names = found
    for number, text in enumerate(texts, start=1):
        where = f"choice {number} of {len(texts)} in column {column!r}"
        if is_empty(text):
            return BadRow("empty choice", f"{where} is empty")
        if not isinstance(text, str | int | float) or isinstance(text, bool):
            return BadRow("choice that is no text", f"{where} is {_shown(text)}")
        if isinstance(text, str) != isinstance(texts[0], str):
            detail = f"{where} is {_shown(text)}, and the first one {_shown(texts[0])}"
            return BadRow("choices of different kinds", detail, "write all of them as texts")
        if isinstance(text, str) and (reason := unfit(text)):
            return BadRow(reason, f"a {reason} in {where}")
    if len(texts) < 2:
        count = "one choice" if len(texts) else "no choice"
        return BadRow("fewer than two choices", f"there is {count} in column {column!r}")
    if names is None:
        return None
    called = [as_label(name) for name in names]
    if not all(called) or max(Counter(called).values()) > 1:
        detail = f"the names of the choices in column {column!r} are {_shown(names)}"
        return BadRow("names of choices that name none", detail, "give each a name of its own")
    return None


# ---- labels

FORMS = {
    "names": "the name of a choice",
    "texts": "the text of a choice",
    "letters": "a letter, A for the first choice",
    "from 0": "a number, 0 for the first choice",
    "from 1": "a number, 1 for the first choice",
}
"""How a label may say which choice is right."""


def readings(label: str, choices: Choices) -> dict[str, int]:
    """The choice that a label may mean, counted from 0, by each of `FORMS` that it has."""
    count, label = len(choices.texts), label.strip()
    if choices.names is not None and label in choices.names:
        return {"names": choices.names.index(label)}
    found = {}
    texts = [text.strip() for text in choices.texts]
    if label in texts:
        found["texts"] = texts.index(label)
    if len(label) == 1 and label.upper() in LETTERS[:count]:
        found["letters"] = LETTERS.index(label.upper())
    if label.isascii() and label.isdigit() and len(label) <= _DIGITS:
        number = int(label)
        found |= {"from 0": number} if number < count else {}
        found |= {"from 1": number - 1} if 1 <= number <= count else {}
    return found


def label_fault(label: str, choices: Choices) -> BadRow | None:
    """Why a label says of no choice that it is right; None if it may."""
    found = readings(label, choices)
    count = len(choices.texts)
    if not found:
        if label.isdigit() or (len(label) == 1 and label.upper() in LETTERS):
            detail = f"the label is {_shown(label)}, and there are {count} choices"
            return BadRow("label beyond the choices", detail)
        shown = _shown(choices.texts if choices.names is None else choices.names)
        return BadRow("label in no choice", f"the label {_shown(label)} is none of {shown}")
    texts = [text.strip() for text in choices.texts]
    if all(texts.count(texts[place]) > 1 for place in found.values()):
        detail = f"the right choice, {_shown(texts[min(found.values())])}, stands there twice"
        return BadRow("right choice twice", detail, "let each choice stand once")
    return None


def _shown(value: object) -> str:
    words = repr(value)
    return words if len(words) <= 60 else words[:59] + "…"
