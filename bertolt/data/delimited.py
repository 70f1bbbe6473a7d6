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
from bertolt.data.columns import rows_of_title
from bertolt.data.lines import LINE_LIMIT, Seen, empty_file, require_plain, text_lines
from bertolt.data.table_file import (
    AS_FOUND,
    MEND,
    BadRow,
    Layout,
    Row,
    TableFile,
    nothing_below,
    numbered_columns,
    require_distinct,
    title_fix,
)

FIELD_LIMIT = LINE_LIMIT  # characters in one CSV cell; a longer one is a quote left open
_SEPARATORS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}
_ANNOUNCED = re.compile('\ufeff?sep=([^\r\n"\0])\r?\n?', re.IGNORECASE)  # Excel reads such a line
HEADER_LIMIT = 1 << 22  # characters in the line of column names
_NAMES_LIMIT = 1 << 12  # and in one that is looked at below a title


def open_csv(path: Path, encoding: str, seen: Seen = None, layout: Layout = AS_FOUND) -> TableFile:
    """A file of cells with commas between them, or with what parts its header instead."""
    return _csv_source(path, encoding, ",", layout)


def open_tsv(path: Path, encoding: str, seen: Seen = None, layout: Layout = AS_FOUND) -> TableFile:
    """A file of cells with tabs between them, or with what parts its header instead."""
    return _csv_source(path, encoding, "\t", layout)


def layout_of(
    separator: str | None, no_header: bool, sheet: str | None, skip_rows: int = 0
) -> Layout:
    """A layout, as the user writes it.

    Raises:
        UsageError: the separator cannot part cells, or fewer than no rows are to be skipped.
    """
    if skip_rows < 0:
        raise UsageError(f"--skip-rows is {skip_rows}", fix="give 0 or more")
    known = None if separator is None else separator_of(separator)
    return Layout(separator=known, header=not no_header, sheet=sheet, skip=skip_rows)


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
    """How lines become cells; without `quoted`, a quote is a character like another. So many lines
    `above` the table are no rows: a title, or what announces the separator."""

    delimiter: str
    quoted: bool = True
    above: int = 0

    def lines(self, path: Path, encoding: str) -> Iterator[str]:
        """The lines of a file; empty ones in place of those above the table."""
        lines = text_lines(path, encoding)
        return itertools.chain(["\n"] * self.above, itertools.islice(lines, self.above, None))

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
    first, announced = _first_line(path, encoding, layout)
    delimiter, why = layout.separator or announced or _delimiter(first, usual), "the header has it"
    if layout.separator:
        why = "--sep says so"
    elif announced:
        why = "the first line says so"
    elif not layout.header:
        why = "the first line has it"
    notes = {} if delimiter == usual else {"delimiter": f"{delimiter!r}, for {why}"}
    style = _Style(delimiter, above=layout.skip + (announced is not None))
    if delimiter == "\t" and (usual == "\t" or layout.separator):
        quoted, words = _QuoteScan(first).decide(style.lines(path, encoding))
        style = style._replace(quoted=quoted)
        notes |= {"quotes": words} if words else {}
    records = _csv_records(path, encoding, style)
    line, header = next((line, cells) for line, cells in records if cells)
    if isinstance(header, BadRow):
        raise DataError(header.detail, place=f"{path}, line {line}", fix="mend the header")
    columns = (
        require_distinct([name.strip() for name in header], path)
        if layout.header
        else numbered_columns(len(header))
    )
    title = rows_of_title(header, _below(path, encoding, line, usual)) if layout.header else 0
    rows = partial(_csv_rows, path, encoding, style, columns, layout.header, title)
    return TableFile(columns=columns, rows=rows, found=notes, title=title)


def _first_line(path: Path, encoding: str, layout: Layout) -> tuple[str, str | None]:
    """The first line of the table; and the separator that the line above it announces, or None."""
    lines = text_lines(path, encoding, limit=HEADER_LIMIT)
    first = next(itertools.islice(lines, layout.skip, None), "")
    announced = match.group(1) if (match := _ANNOUNCED.fullmatch(first)) else None
    if announced or not first.strip("\r\n"):
        first = next((line for line in lines if line.strip("\r\n")), "")
    if not first:
        raise nothing_below(path, layout.skip) if layout.skip else empty_file(path)
    require_plain(first, path, "the header")
    return first, announced


def _below(
    path: Path, encoding: str, header: int, usual: str
) -> Iterator[tuple[int, Sequence[str]]]:
    """The lines below the header as cells, each by what parts it, with their numbers."""
    for number, line in enumerate(text_lines(path, encoding), start=1):
        if number > header and len(line) <= _NAMES_LIMIT and (text := line.strip("\r\n")):
            yield number, next(csv.reader([text], delimiter=_delimiter(text, usual)), [])


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
    """Records with the line each begins on, the header first; those of empty lines are empty."""
    reader = style.reader(style.lines(path, encoding))
    while True:
        start = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield start, _broken_quotes(error, path, start, reader.line_num)
            continue
        if start > style.above:
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
    title: int,
    names: Sequence[str],
) -> Iterator[Row]:
    picked = [columns.index(name) for name in names]
    width = len(columns)
    records = itertools.dropwhile(lambda record: not record[1], _csv_records(path, encoding, style))
    for line, fields in _rows_among(itertools.islice(records, int(header), None), width):
        if isinstance(fields, BadRow):
            yield line, fields
        elif len(fields) != width:
            first = "the header" if header else "the first row"
            detail = f"{plural(len(fields), 'cell')} where {first} has {width}"
            yield line, BadRow("ragged row", detail, title_fix(title, MEND))
        else:
            yield line, tuple([fields[index] for index in picked])


def _rows_among(
    records: Iterable[tuple[int, list[str] | BadRow]], width: int
) -> Iterator[tuple[int, list[str] | BadRow]]:
    """The rows of a table. Empty lines are none, nor are lines of white space where rows have
    several cells; but in a table of one column, an empty line above another row is an empty cell.
    """
    empty = 0  # lines without a row under them yet
    for line, fields in records:
        white = len(fields) == 1 < width and not isinstance(fields, BadRow) and fields[0].isspace()
        if not fields or white:
            empty += width == 1
            continue
        yield from ((number, [""]) for number in range(line - empty, line))
        empty = 0
        yield line, fields
