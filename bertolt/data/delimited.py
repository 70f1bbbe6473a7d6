"""CSV and TSV files: a header with the names of the columns, and rows of cells.

In CSV a cell that begins with a quote is quoted. In TSV nobody agrees: spreadsheets quote cells
that hold tabs, quotes or line ends; benchmarks quote nothing, and their texts may begin with a
quote. So a file of tabs is looked through first, and what was decided is told.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from bertolt.base.errors import DataError
from bertolt.base.format import plural
from bertolt.data.lines import LINE_LIMIT, Seen, empty_file, text_lines
from bertolt.data.table_file import BadRow, Row, TableFile, require_distinct

FIELD_LIMIT = LINE_LIMIT  # characters in one CSV cell; a longer one is a quote left open
HEADER_LIMIT = 1 << 22  # characters in the line of column names


def open_csv(path: Path, encoding: str, seen: Seen = None) -> TableFile:
    """A file of cells with commas between them, or with what parts its header instead."""
    return _csv_source(path, encoding, ",")


def open_tsv(path: Path, encoding: str, seen: Seen = None) -> TableFile:
    """A file of cells with tabs between them, or with what parts its header instead."""
    return _csv_source(path, encoding, "\t")


class _Style(NamedTuple):
    """How lines become cells; without `quoted`, a quote is a character like another."""

    delimiter: str
    quoted: bool = True

    def reader(self, lines: Iterable[str]) -> Any:
        """A reader of the `csv` module."""
        # The limit is the whole process's: only ever raise it.
        csv.field_size_limit(max(csv.field_size_limit(), FIELD_LIMIT))
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quoting=csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE,
            strict=True,
        )


def _csv_source(path: Path, encoding: str, usual: str) -> TableFile:
    lines = text_lines(path, encoding, limit=HEADER_LIMIT)
    first = next((line for line in lines if line.strip("\r\n")), "")
    if not first:
        raise empty_file(path)
    if "\0" in first:
        raise DataError(
            "the header holds a NUL byte, so this is no plain text in that encoding",
            place=str(path),
            fix="save it as UTF-8, or name its encoding, for instance --encoding utf-16-le",
        )
    delimiter = _delimiter(first, usual)
    notes = {} if delimiter == usual else {"delimiter": f"{delimiter!r}, for the header has it"}
    style = _Style(delimiter)
    if usual == delimiter == "\t":
        quoted, words = _QuoteScan(first).decide(text_lines(path, encoding))
        style = _Style(delimiter, quoted)
        notes |= {"quotes": words} if words else {}
    line, header = next(_csv_records(path, encoding, style))
    if isinstance(header, BadRow):
        raise DataError(header.detail, place=f"{path}, line {line}", fix="mend the header")
    columns = require_distinct([name.strip() for name in header], path)
    rows = partial(_csv_rows, path, encoding, style, columns)
    return TableFile(columns=columns, rows=rows, found=notes)


def _delimiter(header: str, usual: str) -> str:
    """The usual one of the kind; another if only that one parts the header."""
    for delimiter in (usual, ",", ";", "\t"):
        if len(next(csv.reader([header], delimiter=delimiter))) > 1:
            return delimiter
    return usual


class _LiteralQuoteError(Exception):
    """A quote that opens a cell and does not quote it."""


class _QuoteScan:
    """Looks through the lines of a TSV file for what its quotes are.

    Quotes are literal if a cell that begins with one would have to end in another line, or goes on
    behind its end, while each line has as many tabs as the header. They quote cells if the header
    begins with one, or a quoted cell holds a tab, a line end or a doubled quote. The first such
    line decides for the file; without one they quote, as in CSV.
    """

    def __init__(self, header: str) -> None:
        self._tabs = header.count("\t")
        self._quoted: bool | None = True if header.startswith('"') or '\t"' in header else None
        # The record under way: its first line and its number, how many lines there are, whether all
        # of them fit the header, and whether a cell begins with a quote.
        self._first, self._start, self._lines = "", 0, 0
        self._fits, self._begins = True, False

    def decide(self, lines: Iterable[str]) -> tuple[bool, str]:
        """Whether quotes mark cells; and that in words, empty where no cell begins with one."""
        reader = _Style("\t").reader(self._watched(lines))
        seen = False
        long: list[int] = []  # where cells begin that run over several lines
        while True:
            self._lines, self._fits = 0, True
            try:
                cells = next(reader)
            except StopIteration:
                break
            except (_LiteralQuoteError, csv.Error):
                if self._quoted is None and self._fits:
                    begins = f"for the cell that line {self._start} begins with one"
                    return False, f"part of the text, {begins} does not end with it"
                continue
            seen = seen or self._begins
            if self._lines > 1:
                long.append(self._start)
            if self._quoted is None and len(cells) == self._tabs + 1:
                self._quoted = self._needs_quotes(cells) or None
        return True, _quoted_words(seen, long)

    def _watched(self, lines: Iterable[str]) -> Iterator[str]:
        """The lines that matter: those with a quote, and those that a cell runs on over."""
        for number, line in enumerate(lines, start=1):
            if not self._lines:
                if '"' not in line:
                    continue
                self._first, self._start = line, number
                self._begins = line.startswith('"') or '\t"' in line
            self._lines += 1
            self._fits = self._fits and line.count("\t") == self._tabs
            if self._quoted is None and self._lines == 2 and self._fits:
                raise _LiteralQuoteError
            yield line

    def _needs_quotes(self, cells: Sequence[str]) -> bool:
        """Whether a record of the right width has a cell that must be a quoted one."""
        if self._lines > 1 or any("\t" in cell for cell in cells):
            return True
        written = self._first.split("\t")  # as many, for none has a tab in it
        return any('"' in cell and raw[0] == '"' for cell, raw in zip(cells, written, strict=True))


def _quoted_words(seen: bool, long: Sequence[int]) -> str:
    if long:
        several = f"{plural(len(long), 'row')} {'runs' if len(long) == 1 else 'run'}"
        return f"around cells, of which {several} over several lines (first: line {long[0]})"
    return "around cells, and taken off" if seen else ""


def _csv_records(
    path: Path, encoding: str, style: _Style
) -> Iterator[tuple[int, list[str] | BadRow]]:
    """Records with the line each begins on, the header first. Empty lines are no records, nor
    are lines of white space beside rows of several cells."""
    reader = style.reader(text_lines(path, encoding))
    width = 1
    while True:
        start = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield start, _broken_quotes(error, path, start, reader.line_num)
            continue
        if fields and not (len(fields) == 1 < width and fields[0].isspace()):
            width = max(width, len(fields))
            yield start, fields


def _broken_quotes(error: csv.Error, path: Path, start: int, line: int) -> BadRow:
    """A bad row if one line holds all of it; else nobody knows where the next row begins."""
    left_open = "unexpected end" in str(error) or "field larger" in str(error)
    if not left_open and line == start:
        return BadRow("broken quotes", f"the quotes do not match: {error}")
    until = "never closed" if left_open else f"closed in the middle of line {line}"
    raise DataError(
        f"a quote that opens in this line is {until}",
        place=f"{path}, line {start}",
        fix='close it; inside a quoted cell, write a quote twice ("")',
    )


def _csv_rows(
    path: Path, encoding: str, style: _Style, columns: list[str], names: Sequence[str]
) -> Iterator[Row]:
    picked = [columns.index(name) for name in names]
    width = len(columns)
    for line, fields in itertools.islice(_csv_records(path, encoding, style), 1, None):
        if isinstance(fields, BadRow):
            yield line, fields
        elif len(fields) != width:
            detail = f"{len(fields)} cell{'s' * (len(fields) != 1)} where the header has {width}"
            yield line, BadRow("ragged row", detail)
        else:
            yield line, tuple([fields[index] for index in picked])
