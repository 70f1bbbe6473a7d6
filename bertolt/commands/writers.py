"""How answers are written: what all writers share, and one writer for each format of text."""

from __future__ import annotations

import abc
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

from bertolt.base.console import info
from bertolt.base.errors import DataError
from bertolt.base.format import visible_json
from bertolt.commands.predict_options import Style
from bertolt.commands.questions import Question
from bertolt.data.cells import as_number
from bertolt.tasks.predictor import Prediction, Predictor

_READ = ("tokens_cut", "windows")
"""What was lost of a text, and where texts are read in windows, their number."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """In which form answers are written.

    Attributes:
        style: the format.
        packing: ".gz" or ".zst" for a file that is packed, else empty.
        bom: begin CSV and TSV with a byte order mark, by which Excel knows UTF-8.
        safe: put a quote mark before texts in CSV and TSV that a spreadsheet takes for a formula.
        reasons: tables have a column for the reason why there is no answer, empty where there is.
        texts: the texts are written by their roles; else the user's own columns have them.
    """

    style: Style
    packing: str = ""
    bom: bool = False
    safe: bool = False
    reasons: bool = False
    texts: bool = True


class Writer(abc.ABC):
    """Writes answers in their order.

    Args:
        predictor: whose answers they are.
        form: how they are written.

    Attributes:
        parts: of an answer as JSON has it.
        columns: of an answer in a table, behind the row and the user's own ones.
        state: names of the attributes that change while answers are written, in plain values.
    """

    state: tuple[str, ...] = ("names",)

    def __init__(self, predictor: Predictor, form: Format) -> None:
        self.form = form
        self.task = predictor.task
        self.pairs = predictor.takes_pairs
        self.windows = predictor.long.how == "window"
        # Once, and not for each of millions of rows.
        self.parts = (*self.task.answer_types(), *_READ[: 1 + self.windows])
        self.columns = self._columns()
        self.names: dict[str, str] | None = None  # of the user's own columns, as they are written

    @abc.abstractmethod
    def write(self, question: Question, prediction: Prediction | None) -> None:
        """Write one answer; None where there is no answer to the question."""

    def flush(self) -> None:  # noqa: B027 - a file has nobody who waits for it
        """Let who waits for an answer see it."""

    @abc.abstractmethod
    def end(self) -> None:
        """Write what stands behind the last answer, or instead of it."""

    def mark(self) -> dict[str, Any]:
        """Bring all answers so far into the file; what another writer goes on with behind them."""
        self.flush()
        return {name: getattr(self, name) for name in self.state}

    def go_on(self, state: Mapping[str, Any]) -> None:
        """Go on behind the answers of another writer, whose `mark` this is."""
        for name in self.state:
            setattr(self, name, state[name])

    def record(self, question: Question, prediction: Prediction | None) -> dict[str, Any]:
        """An answer as JSON has it: the row, the user's own columns, the text, and the answer.

        Where there is no answer, its parts are null, and the reason stands behind them.
        """
        nothing = dict.fromkeys(self.parts) | {"reason": question.reason}
        answer = self._told(prediction.answer) if prediction else nothing
        values: dict[str, Any] = {"row": question.row}
        texts = ("text", "text_pair") if self.form.texts else ()
        values |= self._own_columns(question, {"row", *texts, *_READ, *nothing, *answer})
        if texts:
            values["text"] = self.task.shown_text({"text": question.text})
        if texts and question.pair is not None:
            values["text_pair"] = question.pair
        values |= answer
        if prediction and prediction.tokens_cut:
            values["tokens_cut"] = prediction.tokens_cut
        if prediction and self.windows and prediction.parted:
            values["windows"] = prediction.windows
        return values

    def _told(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """What is told of an answer, its numbers rounded but for those of a vector."""
        public = self.task.public(dict(answer))
        exact = ("vector",) if self.task.vectors else ()
        return {name: v if name in exact else rounded(v) for name, v in public.items()}

    def cells(self, question: Question, prediction: Prediction | None) -> dict[str, Any]:
        """The same as plain values by column: texts, numbers and truth values; None for what there
        is no answer to."""
        names = self.columns
        kept = self._own_columns(question, {"row", *names})
        answer: list[Any] = []
        if self.form.texts:
            answer.append(self.task.shown_text({"text": question.text}))
            answer += [question.pair] if self.pairs else []
        if prediction:
            windows = prediction.windows if prediction.parted else 1
            read = [prediction.tokens_cut, windows][: 1 + self.windows]
            answer += [*self.task.flat(prediction.answer), *read]
        answer += [None] * (len(names) - len(answer))
        if self.form.reasons and question.reason:
            answer[-1] = question.reason
        return {
            "row": question.row,
            **{name: _as_cell(value) for name, value in kept.items()},
            **{name: _as_cell(value) for name, value in zip(names, answer, strict=True)},
        }

    def _columns(self) -> list[str]:
        """The columns of a table of answers, behind the row and the user's own ones."""
        texts = ["text", "text_pair"][: 1 + self.pairs] if self.form.texts else []
        reason = ["reason"] if self.form.reasons else []
        read = _READ[: 1 + self.windows]
        names = renamed(self.task.flat_names(), {"row", *texts, *read, *reason}, "answer_")
        return [*texts, *names.values(), *read, *reason]

    def _own_columns(self, question: Question, taken: Collection[str]) -> dict[str, Any]:
        """The user's own columns, by names that are not `taken`; the first time it says which."""
        columns = {} if question.kept is None else json.loads(question.kept)
        if self.names is None:
            self.names = renamed(columns, taken)
            for name, called in self.names.items():
                if name != called:
                    info(f"the column {name!r} is written as {called!r}: answers have a {name!r}")
        return {self.names[name]: value for name, value in columns.items()}


def renamed(
    columns: Iterable[str], taken: Collection[str], prefix: str = "kept_"
) -> dict[str, str]:
    """A name for each column that is neither taken nor another's: with `prefix` in front."""
    columns = list(columns)
    used, names = {*taken, *columns}, {}
    for name in columns:
        called = name
        while called in taken or (called != name and called in used):
            called = f"{prefix}{called}"
        used.add(called)
        names[name] = called
    return names


def rounded(value: Any) -> Any:
    """Numbers to six digits behind the point; small ones, which would be 0, to six that count."""
    if isinstance(value, float):
        return round(value, 6) if abs(value) >= _SMALL else float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: rounded(inner) for name, inner in value.items()}
    return [rounded(inner) for inner in value] if isinstance(value, list) else value


def _as_decimal(value: float) -> str:
    """A number as `rounded`, with six digits behind the point where it is of a usual size."""
    usual = not value or _SMALL <= abs(value) < _LARGE
    return f"{value:.6f}" if usual else f"{value:.9g}"


_SMALL, _LARGE = 1e-3, 1e9


def as_json(value: Any) -> str:
    """A value as one line of JSON."""
    return visible_json(json.dumps(value, ensure_ascii=False, allow_nan=False))


def _as_cell(value: Any) -> Any:
    """A value as a cell: lists and records, as the spans of a text, as JSON."""
    return as_json(rounded(value)) if isinstance(value, list | dict) else value


class TextWriter(Writer):
    """A writer of a text format.

    Args:
        target: to write to.
        predictor: whose answers they are.
        form: how they are written.
    """

    def __init__(self, target: TextIO, predictor: Predictor, form: Format) -> None:
        super().__init__(predictor, form)
        self.target = target

    def flush(self) -> None:
        """Write what is gathered."""
        self.target.flush()

    def end(self) -> None:
        """Write what is gathered."""
        self.target.flush()


class JsonLines(TextWriter):
    """An object a line."""

    def write(self, question: Question, prediction: Prediction | None) -> None:
        """Write a line."""
        self.target.write(as_json(self.record(question, prediction)) + "\n")


class Json(TextWriter):
    """An array of objects, each on a line of its own."""

    state = ("names", "before")
    before = "["

    def write(self, question: Question, prediction: Prediction | None) -> None:
        """Write an object, behind what parts it from the one before."""
        self.target.write(f"{self.before}\n{as_json(self.record(question, prediction))}")
        self.before = ","

    def end(self) -> None:
        """Close the array."""
        self.target.write("[]\n" if self.before == "[" else "\n]\n")
        super().end()


class Delimited(TextWriter):
    """Cells with commas or tabs between them, below one line of column names."""

    state = ("names", "begun")

    def __init__(self, target: TextIO, predictor: Predictor, form: Format) -> None:
        super().__init__(target, predictor, form)
        self.parted_by = "\t" if form.style == "tsv" else ","
        self.begun = False

    def write(self, question: Question, prediction: Prediction | None) -> None:
        """Write a row, and the names before the first one."""
        cells = self.cells(question, prediction)
        self._begin(cells)
        self._write_line(cells.values())

    def end(self) -> None:
        """Write the names if there was no answer."""
        self._begin(["row", *self.columns])
        super().end()

    def _begin(self, names: Iterable[str]) -> None:
        if self.begun:
            return
        self.begun = True
        self.target.write("\ufeff" if self.form.bom else "")
        # A file of tabs whose names are quoted is one whose cells are, whatever is in them.
        self._write_line(names, quoted=self.form.style == "tsv")

    def _write_line(self, cells: Iterable[Any], quoted: bool = False) -> None:
        words = self.parted_by.join(self._written(cell, quoted) for cell in cells)
        self.target.write(f"{words}\n")

    def _written(self, cell: Any, quoted: bool) -> str:
        """A cell as it stands in the file; the `csv` module of old leaves a lone \\r as it is."""
        text = _as_decimal(cell) if isinstance(cell, float) else "" if cell is None else str(cell)
        if self.form.safe and isinstance(cell, str) and _is_formula(cell):
            text = f"'{text}"
        if quoted or any(character in text for character in f'"\n\r{self.parted_by}'):
            return '"' + text.replace('"', '""') + '"'
        return text


def _is_formula(text: str) -> bool:
    """Whether a spreadsheet could take a text for a formula; a number such as -5 is none."""
    return text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) and as_number(text) is None


class Conll(TextWriter):
    """A word a line with its tag, and an empty line behind each text."""

    def write(self, question: Question, prediction: Prediction | None) -> None:
        """Write the words of one text.

        Raises:
            DataError: a word or a tag that such a file cannot hold.
        """
        answer = prediction.answer if prediction else None
        for word, tag in self.task.tagged(answer, {"text": question.text}) if answer else ():
            fault = _fault_in_conll(word, tag)
            if fault:
                raise DataError(
                    f"{fault}, which a CoNLL file cannot hold",
                    place=question.place or f"row {question.row}",
                    fix="add --format jsonl",
                )
            self.target.write(f"{word}\t{tag}\n")
        self.target.write("\n")


def _fault_in_conll(word: str, tag: str) -> str:
    """Why a line of a word and its tag would be read as something else; empty if it would not."""
    for what, text in (("word", word), ("tag", tag)):
        if not text.strip() or re.search(r"[\t\n\r]", text):
            return f"the {what} {text!r} is empty or has a tab or a line break in it"
    if re.match(r"-DOCSTART-|# .* = |\ufeff", f"{word}\t{tag}"):
        return f"the word {word!r} reads like the head of a document, a comment or a mark"
    return ""


_TEXTS: dict[Style, type[TextWriter]] = {
    "jsonl": JsonLines,
    "json": Json,
    "csv": Delimited,
    "tsv": Delimited,
    "conll": Conll,
}


def text_writer(target: TextIO, predictor: Predictor, form: Format) -> TextWriter:
    """A writer of a text format to a stream."""
    return _TEXTS[form.style](target, predictor, form)
