"""CSV and TSV files: a header with the names of the columns, and rows of cells."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from bertolt.base.errors import DataError
from bertolt.data.lines import Seen, empty_file, text_lines
from bertolt.data.table_file import BadRow, Row, TableFile, require_distinct

FIELD_LIMIT = 1 << 28  # characters in one CSV cell; a longer one is a quote left open


def open_csv(path: Path, encoding: str, seen: Seen = None) -> TableFile:
    """A file of cells with commas between them, or with what parts its header instead."""
    return _csv_source(path, encoding, ",")


def open_tsv(path: Path, encoding: str, seen: Seen = None) -> TableFile:
    """A file of cells with tabs between them, or with what parts its header instead."""
    return _csv_source(path, encoding, "\t")


def _csv_source(path: Path, encoding: str, usual: str) -> TableFile:
    first = next((line for line in text_lines(path, encoding) if line.strip("\r\n")), "")
    if not first:
        raise empty_file(path)
    if "\0" in first:
        raise DataError(
            "the header holds a NUL byte, so this is no plain text in that encoding",
            place=str(path),
            fix="save it as UTF-8, or name its encoding, for instance --encoding utf-16-le",
        )
    delimiter = _delimiter(first, usual)
    row, header = next(_csv_records(path, encoding, delimiter))
    if isinstance(header, BadRow):
        raise DataError(header.detail, place=f"{path}, row {row}", fix="mend the header")
    columns = require_distinct([name.strip() for name in header], path)
    found = {} if delimiter == usual else {"delimiter": f"{delimiter!r}, for the header has it"}
    rows = partial(_csv_rows, path, encoding, delimiter, columns)
    return TableFile(columns=columns, rows=rows, found=found)


def _delimiter(header: str, usual: str) -> str:
    """The usual one of the kind; another if only that one parts the header."""
    for delimiter in (usual, ",", ";", "\t"):
        if len(next(csv.reader([header], delimiter=delimiter))) > 1:
            return delimiter
    return usual


def _csv_records(
    path: Path, encoding: str, delimiter: str
) -> Iterator[tuple[int, list[str] | BadRow]]:
    """Records with the line each begins on, the header first. Empty lines are no records."""
    # The limit is the whole process's: only ever raise it.
    csv.field_size_limit(max(csv.field_size_limit(), FIELD_LIMIT))
    reader = csv.reader(text_lines(path, encoding), delimiter=delimiter, strict=True)
    while True:
        row = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield row, _broken_quotes(error, path, row, reader.line_num)
            continue
        if fields:
            yield row, fields


def _broken_quotes(error: csv.Error, path: Path, row: int, line: int) -> BadRow:
    """A bad row if one line holds all of it; else nobody knows where the next row begins."""
    left_open = "unexpected end" in str(error) or "field larger" in str(error)
    if not left_open and line == row:
        return BadRow("broken quotes", f"the quotes do not match: {error}")
    until = "never closed" if left_open else f"closed in the middle of line {line}"
    raise DataError(
        f"a quote that opens in this row is {until}",
        place=f"{path}, row {row}",
        fix='close it; inside a quoted cell, write a quote twice ("")',
    )


def _csv_rows(
    path: Path, encoding: str, delimiter: str, columns: list[str], names: Sequence[str]
) -> Iterator[Row]:
    picked = [columns.index(name) for name in names]
    width = len(columns)
    for row, fields in itertools.islice(_csv_records(path, encoding, delimiter), 1, None):
        if isinstance(fields, BadRow):
            yield row, fields
        elif len(fields) != width:
            detail = f"{len(fields)} cell{'s' * (len(fields) != 1)} where the header has {width}"
            yield row, BadRow("ragged row", detail)
        else:
            yield row, tuple([fields[index] for index in picked])
