"""Answers to a file that a server is sent: read and written as `bertolt predict` does it."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from bertolt.base.chunks import characters_of
from bertolt.base.errors import BertoltError, DataError, UsageError, meant
from bertolt.commands.outputs import format_of
from bertolt.commands.questions import Question, preferred_columns, questions_in
from bertolt.commands.wording import options_called
from bertolt.commands.writers import text_writer
from bertolt.data.arrow import as_utf8
from bertolt.data.cells import usable
from bertolt.data.delimited import layout_of
from bertolt.data.lines import is_packed
from bertolt.data.load import EVERY, OnBadRow
from bertolt.data.table_file import BadRow
from bertolt.tasks.base import Example
from bertolt.tasks.predictor import Prediction, Predictor
from bertolt.tasks.rows import Columns, read_for_task, require_pair

_ON_BAD_ROW: dict[str, OnBadRow] = {
    "answer": "answer",
    "answer-all": "answer-all",
    "drop": "drop",
    "error": "error",
}
_PARAMETERS: dict[str, dict[str, Any]] = {
    "text": {"type": "string"},
    "text_pair": {"type": "string"},
    "encoding": {"type": "string"},
    "sep": {"type": "string"},
    "header": {"enum": ["yes", "no"]},
    "skip_rows": {"type": "integer", "minimum": 0},
    "on_bad_row": {"enum": list(_ON_BAD_ROW)},
}
"""What a request may say of its file, and of which form."""
_CALLED: dict[str | re.Pattern[str], str] = {
    "--no-header": "?header=no",
    **{
        re.compile(rf"--{name.replace('_', '-')}(?![\w-])(?: (?=\w))?"): f"?{name}="
        for name in ("text_pair", "text", "encoding", "sep", "skip_rows", "on_bad_row")
    },
    re.compile(r"(?:unpack it, or )?let its name end in \.\w+"): (  # a body has no name
        "save it as CSV, TSV, JSON or JSON lines, as Excel can its sheets, and send that"
    ),
}
"""Words for commands in errors, as the names of options, and what a request has in their place."""


class FileAnswers:
    """The rows of a file, which are answered part by part, and their answers as text.

    Attributes:
        rows: of the file, those without an answer too.
        pairs: whether each row has two texts.
    """

    parameters: ClassVar[Mapping[str, Any]] = _PARAMETERS

    def __init__(
        self,
        predictor: Predictor,
        path: Path,
        parameters: Mapping[str, str],
        characters: int = sys.maxsize,
        watch: Callable[[int], None] | None = None,
    ) -> None:
        """Read a file.

        Args:
            predictor: that will answer it.
            path: of the file; the answers are of the kind that its ending names.
            parameters: what is said of it, by `_PARAMETERS`, or by the names that requests of the
                task have.
            characters: most of a row's texts.
            watch: called now and then with the rows so far; an error of it ends the reading.

        Raises:
            UsageError: there is no such parameter or value.
            DataError: the file, a column or a row cannot be used.
        """
        if is_packed(path):
            raise DataError("it is packed", place="the file", fix="send it as it is")
        roles, question_fault = predictor.task.request_roles, predictor.task.question_fault
        columns = _columns({roles.get(name, name): value for name, value in parameters.items()})
        with options_called({**_CALLED, str(path): "the file"}):
            table, _ = read_for_task(
                path,
                columns,
                task=type(predictor.task),
                need_label=False,
                fault_of=lambda row: _too_long(row, characters) or question_fault(row),
                prefer=preferred_columns(predictor, columns),
                watch=watch,
            )
            require_pair(table, predictor.trained_on_pairs)
        self.rows = len(table) + len(table.unanswered)
        self.pairs = "text_pair" in table.roles
        self._questions = questions_in(table)
        self._part: list[Question] = []
        self._target = io.StringIO()
        refuses = predictor.long.how == "error"
        # Texts go back in the columns that they came in.
        form = replace(format_of(path), reasons=bool(table.unanswered) or refuses, texts=False)
        self._asked = {name for names in table.roles.values() for name in names}
        self._writer = text_writer(self._target, predictor.asked_in(self.pairs), form)

    def parts(self, size: int) -> Iterator[list[Example]]:
        """The examples of the next so many rows; `text` has to follow before the part after it."""
        while part := list(islice(self._questions, size)):
            self._part = part
            yield [_example(question) for question in part if not question.reason]

    def text(self, answers: Sequence[Prediction | BertoltError]) -> str:
        """The rows of a part with their answers; of an error, with the reason for having none."""
        given = iter(answers)
        for question in self._part:
            answer = None if question.reason else next(given)
            if isinstance(answer, BertoltError):
                question, answer = question._replace(reason=answer.problem), None
            self._writer.write(self._with_sure_cells(question), answer)
        return self._taken()

    def _with_sure_cells(self, question: Question) -> Question:
        """A question without an answer, without the cells of its texts that cannot be written."""
        if not question.kept or not question.reason:
            return question
        kept = {
            name: None if name in self._asked and _is_broken(value) else value
            for name, value in json.loads(question.kept).items()
        }
        return question._replace(kept=json.dumps(kept, ensure_ascii=False))

    def end(self) -> str:
        """What stands behind the last row, or instead of it."""
        self._writer.end()
        return self._taken()

    def _taken(self) -> str:
        text = as_utf8(self._target.getvalue())  # the user's columns may hold half a surrogate pair
        self._target.seek(0)
        self._target.truncate()
        return text


def _is_broken(value: object) -> bool:
    return isinstance(value, str) and usable(value) is None


def _too_long(row: Example, most: int) -> BadRow | None:
    if (characters := characters_of(row)) <= most:
        return None
    detail = f"the text has {characters:,} characters, and {most:,} are taken"
    return BadRow("text too long", detail, "send it in parts")


def _example(question: Question) -> dict[str, Any]:
    pair = {} if question.pair is None else {"text_pair": question.pair}
    return {"text": question.text, **pair}


def _columns(parameters: Mapping[str, str]) -> Columns:
    for name in parameters:
        if name not in _PARAMETERS:
            fix = meant(name, list(_PARAMETERS), f"use {', '.join(_PARAMETERS)}")
            raise UsageError("there is no such parameter of a file", place=f"?{name}=", fix=fix)
    on_bad_row = parameters.get("on_bad_row", "answer")
    header, skip = parameters.get("header", "yes"), parameters.get("skip_rows", "0")
    _require(on_bad_row in _ON_BAD_ROW, "on_bad_row", on_bad_row, f"use {', '.join(_ON_BAD_ROW)}")
    _require(header in ("yes", "no"), "header", header, "use yes or no")
    _require(bool(re.fullmatch(r"[0-9]{1,9}", skip)), "skip_rows", skip, "give a whole number")
    with options_called(_CALLED):
        layout = layout_of(parameters.get("sep"), header == "no", None, int(skip))
    return Columns(
        text=parameters.get("text"),
        text_pair=parameters.get("text_pair"),
        encoding=parameters.get("encoding", "utf-8"),
        on_bad_row=_ON_BAD_ROW[on_bad_row],
        keep=(EVERY,),
        layout=layout,
    )


def _require(holds: bool, name: str, value: str, fix: str) -> None:
    if not holds:
        raise UsageError(f"{value!r} is no such value", place=f"?{name}=", fix=fix)
