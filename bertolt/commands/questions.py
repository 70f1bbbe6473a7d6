"""What `bertolt predict` answers: texts of the command line, of standard input, or of a table."""

from __future__ import annotations

import heapq
import json
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import TextIOWrapper
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from bertolt.base.console import info
from bertolt.base.errors import DataError, UsageError
from bertolt.base.format import plural
from bertolt.commands.evaluate import trained_columns
from bertolt.commands.wording import options_called
from bertolt.data.cells import usable
from bertolt.data.choices import choices_of
from bertolt.data.describe import describe_table
from bertolt.data.encodings import AUTO
from bertolt.data.formats import TEXTS, ending
from bertolt.data.lines import LINE_LIMIT
from bertolt.data.load import ANSWERED_TOO, KEPT, OnBadRow, Table
from bertolt.data.table_file import is_blank
from bertolt.tasks.base import Task
from bertolt.tasks.predictor import Predictor
from bertolt.tasks.rows import Columns, read_for_task, require_pair

# In `predict`, `--text` is a text, and there is no column of labels to name.
_CALLED = {
    "--text-pair": "--pair-column",
    "whether --text and --label name the right columns": "whether --column names the right one",
    "--text": "--column",
}


_NO_PAIR = "line that is no pair"
_NO_CHOICES = "line without choices"
_UNPACKED_BY = {".gz": "gzip -dc", ".zst": "zstd -dc"}


class Question(NamedTuple):
    """What to answer, and its number: of the row, the line, or the --text it came from.

    Attributes:
        row: its number.
        text: a text, or words.
        pair: a second text, or choices, or None.
        kept: the user's own columns, as one JSON text.
        place: where it is from, for messages.
        reason: why there is no answer to it; empty: there is one.
    """

    row: int
    text: Any
    pair: Any = None
    kept: str | None = None
    place: str = ""
    reason: str = ""


class Questions(NamedTuple):
    """What to answer, one after the other.

    Attributes:
        rows: read as the answers need them, so an endless stream can be answered.
        unanswered: whether there are some without an answer; of a stream, whether there may be.
        pairs: whether each has two texts.
        total: how many there are, if that is known.
        roles: the columns that they are from, by role; of a stream, none.
    """

    rows: Iterator[Question]
    unanswered: bool
    pairs: bool
    total: int | None = None
    roles: Mapping[str, Sequence[str]] = {}


def typed_questions(
    texts: list[str], pairs: list[str] | None, predictor: Predictor, on_bad_row: OnBadRow
) -> Questions:
    """The texts of the command line.

    Raises:
        UsageError: single texts for a model of pairs, or pairs for one of single texts.
        DataError: a text is empty, or not in UTF-8.
    """
    if predictor.takes_pairs and not pairs and predictor.task.several_pairs:
        raise UsageError(
            "the model chooses between texts, and --text gives none to choose from",
            fix='give each choice too: --text "…" --pair "…" --pair "…"',
        )
    if predictor.takes_pairs and not pairs:
        raise UsageError(
            "the model answers pairs of texts, and --text gives one",
            fix='give the second one too: --text "…" --pair "…"',
        )
    if pairs and predictor.trained_on_pairs is False:
        raise UsageError(
            "the model answers single texts, and --pair gives a second one", fix="leave --pair out"
        )
    if predictor.task.several_pairs:
        if len(texts) > 1:
            raise UsageError(
                f"--text is given {len(texts)} times, and each --pair is a choice of one text",
                fix="give one --text with its choices, or a file",
            )
        pairs_of: Iterable[Any] = [list(pairs or ())]
    else:
        require_one_each(texts, pairs or texts)
        pairs_of = pairs or ()
    numbered = enumerate(zip_longest(texts, pairs_of), start=1)
    questions = (Question(row, text, pair) for row, (text, pair) in numbered)
    # Who types a text means to have it answered.
    strict: OnBadRow = "error" if on_bad_row == "answer" else on_bad_row
    rows = _usable(questions, "--text {}", strict, "give it in UTF-8", predictor.task)
    return Questions(rows, strict == "answer-all", bool(pairs))


def require_one_each(texts: Sequence[str], pairs: Sequence[str]) -> None:
    """Refuse texts and second texts of the command line that are not as many.

    Raises:
        UsageError: they are not.
    """
    if len(pairs) != len(texts):
        raise UsageError(
            f"--text is given {plural(len(texts), 'time')}, "
            f"and --pair {plural(len(pairs), 'time')}",
            fix="give each text its second one",
        )


def lines_of_input(encoding: str, predictor: Predictor, on_bad_row: OnBadRow) -> Questions:
    """The lines of standard input: a text each, or two with a tab between them, or a text and its
    choices.

    Raises:
        UsageError: there is no such encoding.
        DataError: a line is empty, in another encoding, or no pair where there must be one.
    """
    fix = "name its encoding, for instance --encoding gb18030"
    in_pairs = predictor.takes_pairs
    lines = _lines(encoding, in_pairs, predictor.task.several_pairs)
    rows = _usable(lines, "standard input, line {}", on_bad_row, fix, predictor.task)
    return Questions(rows, on_bad_row.startswith("answer"), in_pairs)


def _lines(encoding: str, in_pairs: bool, several: bool) -> Iterator[Question]:
    """Lines as they are; bytes that are not in the encoding become lone surrogates."""
    name = "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding
    if encoding == AUTO:
        raise UsageError(
            "standard input is read once, and cannot be looked into before",
            place=f"--encoding {AUTO}",
            fix="name its encoding, for instance --encoding gb18030",
        )
    assert isinstance(sys.stdin, TextIOWrapper)
    try:
        sys.stdin.reconfigure(encoding=name, errors="surrogateescape", newline=None)
    except LookupError as error:
        raise UsageError(
            f"there is no text encoding named {encoding!r}",
            place="--encoding",
            fix="use utf-8, utf-16, gb18030, latin-1 or another that Python knows",
        ) from error
    lines = iter(lambda: sys.stdin.readline(LINE_LIMIT + 1), "")
    row = 0
    for row, line in enumerate(lines, start=1):
        if len(line) > LINE_LIMIT:
            raise DataError(
                f"the line has more than {LINE_LIMIT:,} characters",
                place=f"standard input, line {row}",
                fix="break its lines; or is this no text at all?",
            )
        line = line.rstrip("\n")
        if not in_pairs:
            yield Question(row, line)
            continue
        parts = line.split("\t")
        if several and len(parts) > 2:
            yield Question(row, parts[0], parts[1:])
        elif several and line.strip():
            yield Question(row, line, str(len(parts) - 1), reason=_NO_CHOICES)
        elif len(parts) == 2 or not line.strip():
            yield Question(row, parts[0], parts[-1])
        else:
            yield Question(row, line, str(len(parts)), reason=_NO_PAIR)
    if not row:
        info("standard input is empty: there is nothing to answer")


def rows_of_table(
    model: str, files: Sequence[str], predictor: Predictor, columns: Columns
) -> Questions:
    """The rows of a table; of several, their own columns begin with the `file`.

    Raises:
        DataError: the file, a column or a row cannot be used; a file without columns has a command
            as its fix.
        UsageError: single texts for a model of pairs, or pairs for one of single texts.
    """
    _require_tables(model, files, predictor)
    with options_called(_CALLED):
        table, _ = read_for_task(
            list(map(Path, files)),
            columns,
            task=type(predictor.task),
            need_label=False,
            fault_of=predictor.task.question_fault,
            prefer=preferred_columns(predictor, columns),
        )
        describe_table(table, {"text": "--column", "text_pair": "--pair-column"})
        require_pair(table, predictor.trained_on_pairs)
    total = len(table) + len(table.unanswered)
    pairs = "text_pair" in table.roles
    return Questions(questions_in(table), bool(table.unanswered), pairs, total, table.roles)


def preferred_columns(predictor: Predictor, columns: Columns) -> dict[str, list[str]]:
    """The columns of training; who names one text alone means it, where one may be asked."""
    known = trained_columns(predictor)
    if columns.text is not None and columns.text_pair is None and predictor.task.free_pairs:
        return {role: names for role, names in known.items() if role != "text_pair"}
    return known


def _require_tables(model: str, files: Sequence[str], predictor: Predictor) -> None:
    """Refuse files of plain text, which only standard input takes."""
    plain = [file for file in files if ending(Path(file)) in set(TEXTS) - set(predictor.task.kinds)]
    if not plain or not all(map(os.path.isfile, files)):
        return
    words, packed = shlex.join(files), Path(plain[0]).suffix.lower()
    fix = f"bertolt predict {shlex.quote(model)} -"
    if packed in _UNPACKED_BY:
        fix = f"{_UNPACKED_BY[packed]} {words} | {fix}"
    else:
        fix = f"{fix} < {words}" if len(files) == 1 else f"cat {words} | {fix}"
    several = len(plain) < len(files)
    raise DataError(
        "a file of plain text has no columns",
        place=plain[0],
        fix="answer it by itself: standard input takes one text a line"
        if several
        else f"if there is one text a line: {fix}",
    )


def questions_in(table: Table) -> Iterator[Question]:
    """All rows in their order, those without an answer too."""
    answered = ((row["row"], row, row.get(KEPT), "") for row in table.examples())
    unanswered = ((n, each.texts, each.kept, each.reason) for n, each in table.unanswered.items())
    for number, texts, kept, reason in heapq.merge(answered, unanswered, key=lambda each: each[0]):
        if table.parts:
            kept = _with_file(table.origin(number)[0], kept)
        yield Question(
            table.origin(number)[1],
            texts["text"] or "",
            texts.get("text_pair"),
            kept,
            table.place(number),
            reason,
        )


def _with_file(name: str, kept: str | None) -> str:
    """The user's own columns behind the file of the row; one that is called so has another name."""
    columns = json.loads(kept) if kept else {}
    named = {"file": name}
    for column, value in columns.items():
        while column in named:
            column = f"kept_{column}"
        named[column] = value
    return json.dumps(named, ensure_ascii=False)


def _usable(
    questions: Iterable[Question], place: str, on_bad_row: OnBadRow, fix: str, task: Task
) -> Iterator[Question]:
    """Let the texts through that can be answered; refuse the others, or count and tell them.

    Args:
        questions: texts with their numbers.
        place: what to call the place of a text, with its number for {}.
        on_bad_row: whether to leave out texts that are empty or hold a NUL, or to pass on those
            that are empty, or all of them, with the reason.
        fix: what to do where bytes are not text.
        task: that is asked.
    """
    unused: dict[str, list[int]] = {}
    for question in questions:
        where = place.format(question.row)
        fault, reason, mend = _fault(question, task)
        empty = is_empty(reason)
        answers = on_bad_row == "answer-all" or (on_bad_row == "answer" and empty)
        if fault and not answers and on_bad_row != "drop":
            leave_out = "leave such texts out with --on-bad-row drop"
            more = "" if on_bad_row == "error" else ANSWERED_TOO
            raise DataError(fault, place=where, fix=f"{mend or leave_out}{more}")
        if fault:
            unused.setdefault(reason, []).append(question.row)
            if answers:
                pair = None if question.reason else question.pair  # or it is a count
                yield Question(
                    question.row, usable(question.text) or "", _left(pair), None, where, reason
                )
            continue
        for _, text in _texts_in(question):
            require_text(text, where, fix)
        yield question
    what = "dropped" if on_bad_row == "drop" else "no answer to"
    for reason, rows in unused.items():
        info(f"{what} {plural(len(rows), reason)} (first: {place.format(rows[0])})")


def _left(pair: str | list[str] | None) -> str | list[str | None] | None:
    """What there is of a second text, or of choices, that cannot be used."""
    return list(map(usable, pair)) if isinstance(pair, list) else usable(pair)


def is_empty(reason: str) -> bool:
    """Whether a text has no answer for it is empty; else it cannot be used."""
    return reason.startswith("empty ")


def _fault(question: Question, task: Task) -> tuple[str, str, str]:
    """What is wrong with a text, what such texts are counted as, and what to do; empty if nothing
    is."""
    if question.reason == _NO_PAIR:
        fault = f"the model answers pairs of texts, and the line has {question.pair}"
        return (
            fault,
            _NO_PAIR,
            "part the two texts by one tab, or give a file with a column for each",
        )
    if question.reason == _NO_CHOICES:
        count = plural(int(question.pair), "choice")
        fault = f"the model chooses between two texts or more, and the line has {count}"
        return fault, _NO_CHOICES, "part the text and each of its choices by a tab"
    for name, text in _texts_in(question):
        if "\0" in text:
            return f"a NUL byte at character {text.index(chr(0)) + 1} of the {name}", "NUL byte", ""
        if is_blank(text):
            return f"the {name} is empty", "empty text", ""
    pair = {} if question.pair is None else {"text_pair": question.pair}
    bad = task.question_fault({"text": question.text, **pair})
    return (bad.detail, bad.reason, bad.fix) if bad else ("", "", "")


def _texts_in(question: Question) -> Iterator[tuple[str, str]]:
    """The texts of a question, and what each is called."""
    for name, value in (("text", question.text), ("second text", question.pair)):
        if isinstance(value, str):
            yield name, value
        elif value is not None:
            for number, text in enumerate(choices_of(value).texts, start=1):
                yield f"choice {number}" if name == "second text" else name, text


def require_text(text: str, place: str, fix: str) -> None:
    """Refuse a text that is not valid Unicode.

    Raises:
        DataError: it cannot be written as UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        # Python keeps a byte that it cannot decode as a surrogate: 0xDC00 and the byte.
        code = ord(text[error.start])
        what = f"the byte 0x{code & 0xFF:02x}" if 0xDC80 <= code <= 0xDCFF else "half a character"
        raise DataError(
            f"{what} at character {error.start + 1} is no text", place=place, fix=fix
        ) from error
