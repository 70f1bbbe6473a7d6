"""What a file of rows is to its readers: `TableFile`, its rows, and cells that cannot be used.

A row's number is its place among the records of the file, from 1, whatever kind the file is: the
header, empty lines and comments are no records, and broken rows are. Where a table of cells has one
column alone, an empty line above another row is a record with an empty cell. A reader gives every
record once, in order, and whoever reads it counts. With each comes the line on which it begins, for
messages, where such files have lines that a person can look up. A row that is broken by itself
comes back as a `BadRow`; damage that makes the rows after it doubtful raises `DataError`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from unicodedata import category

from bertolt.base.errors import DataError

_MOST_REASONS = 30  # by which rows that are left out are counted


MEND = "mend the row"


class BadRow(NamedTuple):
    """A row that cannot be used.

    Attributes:
        reason: it is counted under.
        detail: what is wrong with it.
        fix: what to do about such rows.
    """

    reason: str
    detail: str
    fix: str = MEND


Row = tuple[int | None, tuple[object, ...] | BadRow]
"""The line on which a record begins, the header being line 1, or None; and its cells."""
Rows = Callable[[Sequence[str]], Iterator[Row]]


@dataclass(frozen=True, kw_only=True)
class TableFile:
    """A file that can be read: its columns in order, and `rows(names)` to read some of them.

    `found` has what else was seen of the file, in words; `usual` the column that plays a role in
    every file of this kind, and why; `part` names what of the file is read, where that is not all;
    `title` counts the rows above what could be the column names, where a title may stand there.
    """

    columns: list[str]
    rows: Rows
    found: dict[str, str] = field(default_factory=dict)
    usual: dict[str, tuple[str, str]] = field(default_factory=dict)
    part: str = ""
    title: int = 0


class Layout(NamedTuple):
    """How a table of cells is laid out, where the user says so.

    Attributes:
        separator: between cells; None: found.
        header: whether the first row has the names of the columns.
        sheet: of a workbook; None: the first.
        skip: rows above the table, such as a title.
    """

    separator: str | None = None
    header: bool = True
    sheet: str | None = None
    skip: int = 0


AS_FOUND = Layout()
"""The layout where the user says nothing."""


def numbered_columns(count: int) -> list[str]:
    """Names for the columns of a table without a header: column1, column2, …"""
    return [f"column{number}" for number in range(1, count + 1)]


def title_fix(rows: int, otherwise: str) -> str:
    """A fix, behind what to do where so many rows of a title may stand above the column names."""
    if not rows:
        return otherwise
    return f"if a title stands above the column names, add --skip-rows {rows}; else {otherwise}"


def nothing_below(path: Path, rows: int) -> DataError:
    """The error for a table of which all is skipped."""
    return DataError(
        f"there is nothing below the first {rows:,} rows",
        place=f"--skip-rows {rows}, {path}",
        fix="skip only the rows above the column names",
    )


def counted_reason(reason: str, known: Collection[str]) -> str:
    """The reason that a row is counted under: beyond so many different ones, all are one."""
    return reason if reason in known or len(known) < _MOST_REASONS else "other reasons"


def row_words(row: int, line: int | None) -> str:
    """A row for messages, with its line where that has another number: "row 41 (line 42)"."""
    return f"row {row}" if line in (None, row) else f"row {row} (line {line})"


def listing(names: Sequence[str], limit: int = 20) -> str:
    """Names for a message: quoted, each cut to 40 characters, `limit` of them at most."""
    shown = [repr(name if len(name) <= 40 else f"{name[:39]}…") for name in names[:limit]]
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")


def as_text(value: object) -> str | None:
    """A text as it stands; empty if missing; None for what is no text."""
    if isinstance(value, str):
        return value
    return "" if is_missing(value) else None


def is_missing(value: object) -> bool:
    """Whether a cell is null or not a number."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def is_blank(text: str) -> bool:
    """Whether a text shows nothing: only white space, control and zero-width characters."""
    return all(each.isspace() or category(each) in ("Cc", "Cf") for each in text)


def is_empty(value: object) -> bool:
    """Whether a cell says nothing: it is missing, or a text that shows nothing, as in CSV."""
    return is_missing(value) or (isinstance(value, str) and is_blank(value))


def unfit(text: str) -> str:
    """Why a text cannot be used whatever it says, in two words; empty if it can."""
    if "\0" in text:
        return "NUL byte"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:  # JSON can write half a surrogate pair: "\ud800"
            return "lone surrogate"
    return ""


def require_distinct(columns: list[str], path: Path) -> list[str]:
    """The columns, where no two have one name; several may have none.

    Raises:
        DataError: two columns have one name.
    """
    twice = sorted(name for name, count in Counter(columns).items() if name and count > 1)
    if twice:
        raise DataError(
            f"several columns have the same name: {listing(twice)}",
            place=str(path),
            fix="give each column a name of its own",
        )
    return columns
