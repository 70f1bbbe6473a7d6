"""Answers as a table of Excel, row by row; what Excel cannot hold is refused."""

from __future__ import annotations

import datetime
import re
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from bertolt.base.errors import DataError, UsageError
from bertolt.base.files import temporary_errors
from bertolt.commands.questions import Question
from bertolt.commands.writers import Format, Writer, rounded
from bertolt.tasks.predictor import Prediction, Predictor

ROWS, COLUMNS, CHARACTERS = 1 << 20, 1 << 14, 32_767
"""The most that a sheet and a cell hold."""
_EXACT = 10**15  # from here on Excel rounds whole numbers
# What XML cannot hold, a line end that it would change, and what looks like the escape of such.
_ESCAPED = re.compile("[\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")


def require_excel() -> None:
    """Refuse tables of Excel where the package for them is not installed.

    Raises:
        UsageError: it is not.
    """
    try:
        import openpyxl  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"tables of Excel need the package openpyxl ({error})",
            fix="pip install 'bertolt[excel]', or let --out end in .csv",
        ) from error


class Excel(Writer):
    """One sheet: the column names, and a row for each answer. Texts are never formulas."""

    def __init__(self, path: Path, predictor: Predictor, form: Format) -> None:
        from openpyxl import Workbook
        from openpyxl.cell import WriteOnlyCell

        super().__init__(predictor, form)
        self.path = path
        self.book = Workbook(write_only=True)
        self.sheet = self.book.create_sheet("answers")
        self.rows = 0
        self._new_cell = WriteOnlyCell

    @classmethod
    @contextmanager
    def to(cls, path: Path, predictor: Predictor, form: Format) -> Iterator[Self]:
        """A writer to a file; where it does not come to its end, nothing is left open."""
        writer = cls(path, predictor, form)
        try:
            yield writer
        finally:
            if not writer.sheet.closed:
                writer.sheet.close()

    def write(self, question: Question, prediction: Prediction | None) -> None:
        """Write a row, and the names before the first one.

        Raises:
            DataError: Excel cannot hold it.
        """
        cells = self.cells(question, prediction)
        place = question.place or f"row {question.row}"
        if not self.rows:
            self._append(cells, place)
        self._append([rounded(cell) for cell in cells.values()], place)

    def end(self) -> None:
        """Write the names if there was no answer, and the file."""
        if not self.rows:
            self._append(["row", *self.columns], str(self.path))
        from openpyxl.writer.excel import ExcelWriter

        # As `save` does, which leaves the package open where the disk is full.
        self.book.properties.modified = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
        with zipfile.ZipFile(self.path, "w", zipfile.ZIP_DEFLATED) as package:
            ExcelWriter(self.book, package).write_data()

    def _append(self, cells: Iterable[Any], place: str) -> None:
        row = [self._cell(cell, place) for cell in cells]
        if self.rows == ROWS or len(row) > COLUMNS:
            raise DataError(
                f"a sheet of Excel holds {ROWS:,} rows and {COLUMNS:,} columns, and there are more",
                place=place,
                fix="let --out end in .csv or .parquet",
            )
        self.rows += 1
        with temporary_errors("the rows of the sheet"):
            self.sheet.append(row)

    def _cell(self, value: Any, place: str) -> Any:
        """A cell; whole numbers that Excel would round are texts."""
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= _EXACT:
            value = str(value)
        if not isinstance(value, str):
            return value
        text = _ESCAPED.sub(lambda match: f"_x{ord(match[0]):04X}_", value)
        if len(text) > CHARACTERS:
            raise DataError(
                f"a cell of Excel holds {CHARACTERS:,} characters, and this one has {len(text):,}",
                place=place,
                fix="let --out end in .csv or .parquet",
            )
        cell = self._new_cell(self.sheet, text)
        cell.data_type = "s"  # a text, also where it begins with = or reads like an error
        return cell
