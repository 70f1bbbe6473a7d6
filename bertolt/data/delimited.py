"""CSV and TSV files: a header with the names of the columns, and rows of cells.

In CSV a cell that begins with a quote is quoted. In TSV nobody agrees: spreadsheets quote cells
that hold tabs, quotes or line ends; benchmarks quote nothing, and their texts may begin with a
quote. So a file of tabs is looked through first, and what was decided is told.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from bertolt.base.errors import DataError, UsageError
from bertolt.base.format import plural
from bertolt.data.lines import LINE_LIMIT, Seen, empty_file, require_plain, text_lines
from bertolt.data.table_file import (
    AS_FOUND,
    BadRow,
    Layout,
    Row,
    TableFile,
    numbered_columns,
    require_distinct,
)

FIELD_LIMIT = LINE_LIMIT  # characters in one CSV cell; a longer one is a quote left open
_SEPARATORS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}
_ANNOUNCED = re.compile('\ufeff?sep=([^\r\n"\0])\r?\n?', re.IGNORECASE)  # Excel reads such a line
HEADER_LIMIT = 1 << 22  # characters in the line of column names


def open_csv(path: Path, encoding: str, seen: Seen = None, layout: Layout = AS_FOUND) -> TableFile:
    """A file of cells with commas between them, or with what parts its header instead."""
    return _csv_source(path, encoding, ",", layout)


def open_tsv(path: Path, encoding: str, seen: Seen = None, layout: Layout = AS_FOUND) -> TableFile:
    """A file of cells with tabs between them, or with what parts its header instead."""
    return _csv_source(path, encoding, "\t", layout)


def layout_of(separator: str | None, no_header: bool, sheet: str | None) -> Layout:
    """A layout, as the user writes it.

    Raises:
        UsageError: the separator cannot part cells.
    """
    known = None if separator is None else separator_of(separator)
    return Layout(separator=known, header=not no_header, sheet=sheet)


def separator_of(name: str) -> str:
    """What parts cells, as the user writes it: one character, or "tab", "comma" and the like.

    Raises:
        UsageError: it cannot part cells.
    """
    separator = _SEPARATORS.get(name.lower(), name)
    if len(separator) != 1 or separator in '"\r\n\0':
        raise UsageError(
            f"{name!r} cannot part cells",
            place="--sep",
            fix=f'give one character, as --sep ";", or one of {", ".join(_SEPARATORS)}',
        )
    return separator


class _Style(NamedTuple):
    """How lines become cells; without `quoted`, a quote is a character like another. With
    `announced`, the first line says what parts cells, and is none of them."""

    delimiter: str
    quoted: bool = True
    announced: bool = False

    def lines(self, path: Path, encoding: str) -> Iterator[str]:
        """The lines of a file; an empty one in place of what announces the separator."""
        lines = text_lines(path, encoding)
        return (
            itertools.chain(["\n"], itertools.islice(lines, 1, None)) if self.announced else lines
        )

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


def _csv_source(path: Path, encoding: str, usual: str, layout: Layout) -> TableFile:
    lines = text_lines(path, encoding, limit=HEADER_LIMIT)
    first = next(lines, "")
    announced = match.group(1) if (match := _ANNOUNCED.fullmatch(first)) else None
    if announced or not first.strip("\r\n"):
        first = next((line for line in lines if line.strip("\r\n")), "")
    if not first:
        raise empty_file(path)
    require_plain(first, path, "the header")
    delimiter, why = layout.separator or announced or _delimiter(first, usual), "the header has it"
    if layout.separator:
        why = "--sep says so"
    elif announced:
        why = "the first line says so"
    elif not layout.header:
        why = "the first line has it"
    notes = {} if delimiter == usual else {"delimiter": f"{delimiter!r}, for {why}"}
    style = _Style(delimiter, announced=announced is not None)
    if delimiter == "\t" and (usual == "\t" or layout.separator):
        quoted, words = _QuoteScan(first).decide(style.lines(path, encoding))
        style = style._replace(quoted=quoted)
        notes |= {"quotes": words} if words else {}
    line, header = next(_csv_records(path, encoding, style))
    if isinstance(header, BadRow):
        raise DataError(header.detail, place=f"{path}, line {line}", fix="mend the header")
    columns = (
        require_distinct([name.strip() for name in header], path)
        if layout.header
        else numbered_columns(len(header))
    )
    rows = partial(_csv_rows, path, encoding, style, columns, layout.header)
    return TableFile(columns=columns, rows=rows, found=notes)


def _delimiter(header: str, usual: str) -> str:
    """The usual one of the kind; another if only that one parts the header."""
    for delimiter in (usual, ",", ";", "\t", "|"):
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
    reader = style.reader(style.lines(path, encoding))
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
    path: Path,
    encoding: str,
    style: _Style,
    columns: list[str],
    header: bool,
    names: Sequence[str],
) -> Iterator[Row]:
    picked = [columns.index(name) for name in names]
    width = len(columns)
    for line, fields in itertools.islice(_csv_records(path, encoding, style), int(header), None):
        if isinstance(fields, BadRow):
            yield line, fields
        elif len(fields) != width:
            first = "the header" if header else "the first row"
            detail = f"{plural(len(fields), 'cell')} where {first} has {width}"
            yield line, BadRow("ragged row", detail)
        else:
            yield line, tuple([fields[index] for index in picked])
