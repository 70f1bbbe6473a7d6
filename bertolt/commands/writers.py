"""How answers are written: JSON lines, CSV, or tagged words as CoNLL has them."""

from __future__ import annotations

import abc
import csv
import json
from collections.abc import Collection, Iterable
from typing import Any, Literal, TextIO

from bertolt.base.console import info
from bertolt.base.errors import DataError
from bertolt.commands.questions import Question
from bertolt.tasks.predictor import Prediction, Predictor

Style = Literal["jsonl", "csv", "conll"]


class Writer(abc.ABC):
    """Writes answers in their order.

    Args:
        target: to write to.
        predictor: whose answers they are.
    """

    def __init__(self, target: TextIO, predictor: Predictor) -> None:
        self.target = target
        self.task = predictor.task
        self.pairs = predictor.takes_pairs
        self._names: dict[str, str] | None = None  # of the user's own columns, as they are written

    @abc.abstractmethod
    def write(self, question: Question, prediction: Prediction) -> None:
        """Write one answer."""

    def end(self) -> None:
        """Write what stands behind the last answer, or instead of it."""
        self.target.flush()

    def own_columns(self, question: Question, taken: Collection[str]) -> dict[str, Any]:
        """The user's own columns, by names that are not `taken`; the first time it says which."""
        columns = {} if question.kept is None else json.loads(question.kept)
        if self._names is None:
            self._names = renamed(columns, taken)
            for name, called in self._names.items():
                if name != called:
                    info(f"the column {name!r} is written as {called!r}: answers have a {name!r}")
        return {self._names[name]: value for name, value in columns.items()}


def renamed(columns: Iterable[str], taken: Collection[str]) -> dict[str, str]:
    """A name for each column that is neither taken nor another's: with `kept_` in front."""
    columns = list(columns)
    used, names = {*taken, *columns}, {}
    for name in columns:
        called = name
        while called in taken or (called != name and called in used):
            called = f"kept_{called}"
        used.add(called)
        names[name] = called
    return names


class JsonLines(Writer):
    """An object a line: the row, the user's own columns, the text, and the answer."""

    def write(self, question: Question, prediction: Prediction) -> None:
        """Write a line."""
        answer = _rounded(self.task.public(prediction.answer))
        values: dict[str, Any] = {"row": question.row}
        values |= self.own_columns(question, {"row", "text", "text_pair", "tokens_cut", *answer})
        values["text"] = self.task.shown_text({"text": question.text})
        if question.pair is not None:
            values["text_pair"] = question.pair
        values |= answer
        if prediction.tokens_cut:
            values["tokens_cut"] = prediction.tokens_cut
        self.target.write(json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n")


def _rounded(value: Any) -> Any:
    """Numbers to six digits behind the point; small ones, which would be 0, to six that count."""
    if isinstance(value, float):
        return round(value, 6) if abs(value) >= _SMALL else float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list) else value


def _as_decimal(value: float) -> str:
    """A number as `_rounded`, with six digits behind the point where it is of a usual size."""
    usual = not value or _SMALL <= abs(value) < _LARGE
    return f"{value:.6f}" if usual else f"{value:.9g}"


_SMALL, _LARGE = 1e-3, 1e9


class CsvRows(Writer):
    """The same as cells, below one line of column names."""

    def __init__(self, target: TextIO, predictor: Predictor) -> None:
        super().__init__(target, predictor)
        self.rows = csv.writer(target, lineterminator="\n")
        self.begun = False

    def write(self, question: Question, prediction: Prediction) -> None:
        """Write a row, and the names before the first one."""
        second = [question.pair] if self.pairs else []
        kept = self.own_columns(question, {"row", *self._answer_names()})
        self._begin(kept)
        text = self.task.shown_text({"text": question.text})
        cells = [
            _as_decimal(cell) if isinstance(cell, float) else cell
            for cell in self.task.flat(prediction.answer)
        ]
        self.rows.writerow([question.row, *map(_as_cell, kept.values()), text, *second, *cells])

    def end(self) -> None:
        """Write the names if there was no answer."""
        self._begin(())
        super().end()

    def _begin(self, columns: Iterable[str]) -> None:
        if not self.begun:
            self.rows.writerow(["row", *columns, *self._answer_names()])
            self.begun = True

    def _answer_names(self) -> list[str]:
        pair = ["text_pair"] if self.pairs else []
        return ["text", *pair, *self.task.flat_names()]


def _as_cell(value: Any) -> Any:
    """A value of the user's own as a cell; lists and records as JSON."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


class Conll(Writer):
    """A word a line with its tag, and an empty line behind each text."""

    def write(self, question: Question, prediction: Prediction) -> None:
        """Write the words of one text.

        Raises:
            DataError: a word that such a file cannot hold.
        """
        for word, tag in self.task.tagged(prediction.answer, {"text": question.text}):
            if not word.strip() or any(space in word for space in "\t\n\r"):
                raise DataError(
                    f"the word {word!r} is empty or has a tab or a line break in it, "
                    "which a CoNLL file cannot hold",
                    place=question.place or f"row {question.row}",
                    fix="add --format jsonl",
                )
            self.target.write(f"{word}\t{tag}\n")
        self.target.write("\n")


WRITERS: dict[Style, type[Writer]] = {"jsonl": JsonLines, "csv": CsvRows, "conll": Conll}
