"""Tables of Excel (.xlsx): the cells of one sheet, as Excel writes them into a CSV file.

Whole numbers are written without a point, dates as 2026-01-31, truth values as TRUE and FALSE. Of
a formula its last value is read. The file is a ZIP of XML files, which is looked into for how much
would come out of it before anything does.
"""

from __future__ import annotations

import datetime
import itertools
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bertolt.base.errors import DataError, UsageError, nearest
from bertolt.base.format import plural
from bertolt.data.columns import rows_of_title
from bertolt.data.lines import (
    CHUNK,
    Seen,
    empty_file,
    os_errors,
    unpacked_limit,
    unpacks_too_large,
)
from bertolt.data.table_file import (
    AS_FOUND,
    MEND,
    BadRow,
    Layout,
    Row,
    TableFile,
    listing,
    nothing_below,
    numbered_columns,
    require_distinct,
    title_fix,
)

if TYPE_CHECKING:
    from openpyxl import Workbook

_OLE = b"\xd0\xcf\x11\xe0"  # how .xls files and packages with a password begin
_MOST_ROWS = 1 << 20  # that a sheet can have
_MOST_NAMES = 1 << 8  # in a row that is looked at below a title
_ESCAPE = re.compile("_x([0-9A-Fa-f]{4})_")  # of a character that XML cannot hold
_MERGED = re.compile(rb'<mergeCell [^>]*ref="([A-Z0-9:]{1,40})"')


def open_excel(
    path: Path, encoding: str = "", seen: Seen = None, layout: Layout = AS_FOUND
) -> TableFile:
    """The first sheet, or the one that is named.

    Raises:
        DataError: it is damaged, protected by a password, another kind of file, far too large when
            unpacked, or without rows; or openpyxl, which reads it, is not installed.
        UsageError: there is no sheet of that name.
    """
    _require_package(path)
    formulas, merged = _look_through(path)
    with _workbook(path) as book:
        sheet, others = _choose_sheet(book, layout.sheet, path)
    records = _Records(path, sheet, formulas, layout.skip)
    filled = (record for record in records() if record.width)
    first = next(filled, None)
    if first is None:
        raise nothing_below(path, layout.skip) if layout.skip else empty_file(path)
    columns = _columns(first, layout, path)
    title = rows_of_title(columns, _below(filled)) if layout.header else 0
    found = {}
    if others:
        found["sheet"] = f"{sheet!r} is read, and not {listing(others)} (--sheet names one)"
    if merged:
        found["merged"] = (
            f"{plural(len(merged), 'range')} of merged cells in the file (first: {merged[0]}), "
            "where the first cell alone has the value"
        )
    return TableFile(
        columns=require_distinct(columns, path),
        rows=partial(_rows, records, columns, layout.header, title),
        found=found,
        part=f"sheet {sheet!r}",
        title=title,
    )


def _require_package(path: Path) -> None:
    """Refuse what is no ZIP file of Excel, or would be far too large when unpacked."""
    with path.open("rb") as file:
        begin = file.read(4)
        if begin == _OLE:
            # Names in such a file are in UTF-16.
            locked = any("EncryptedPackage".encode("utf-16-le") in part for part in _parts(file))
            what, fix = (
                ("it is protected by a password", "save it without one in Excel")
                if locked
                else ("it is a workbook of the old kind, .xls", "save it as .xlsx in Excel")
            )
            raise DataError(what, place=str(path), fix=f"{fix}, or export the sheet as CSV")
    with _errors(path), zipfile.ZipFile(path) as package:
        size = sum(entry.file_size for entry in package.infolist())
    if size > unpacked_limit(path.stat().st_size):
        raise unpacks_too_large(path, "export the sheet as CSV")


def _parts(file: Any) -> Iterator[bytes]:
    """A file in pieces that overlap, so that no short name is cut."""
    before = b""
    while chunk := file.read(CHUNK):
        yield before + chunk
        before = chunk[-64:]


def _look_through(path: Path) -> tuple[bool, list[str]]:
    """Whether any sheet has formulas, and the ranges of merged cells in all of them."""
    formulas, merged = False, dict[str, None]()
    with _errors(path), zipfile.ZipFile(path) as package:
        for name in package.namelist():
            if name.startswith("xl/worksheets/") and name.endswith(".xml"):
                with package.open(name) as file:
                    for part in _parts(file):
                        formulas = formulas or b"<f>" in part or b"<f " in part
                        merged |= dict.fromkeys(match.decode() for match in _MERGED.findall(part))
    return formulas, list(merged)


@contextmanager
def _workbook(path: Path, *, values: bool = True) -> Iterator[Workbook]:
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise DataError(
            "tables of Excel are read by openpyxl, which is not installed",
            place=str(path),
            fix="pip install 'bertolt[excel]', or save the sheet as CSV",
        ) from error
    # It warns of rules of forms that it leaves out; a value that it cannot read is an error cell.
    warnings.filterwarnings("ignore", module="openpyxl")
    with _errors(path), path.open("rb") as file:
        book = load_workbook(file, read_only=True, data_only=values, keep_links=False)
        try:
            yield book
        finally:
            book.close()


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Whatever a damaged file makes its reader raise, as an error of ours."""
    try:
        yield
    except (DataError, UsageError, MemoryError):
        raise
    except OSError as error:
        if error.errno is None:  # the reader's own
            raise _damaged(path, error) from error
        with os_errors(path):
            raise
    except Exception as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        f"the Excel file is damaged, or is none ({str(error)[:200] or type(error).__name__})",
        place=str(path),
        fix="save it anew in Excel, or export the sheet as CSV",
    )


def _choose_sheet(book: Workbook, name: str | None, path: Path) -> tuple[str, list[str]]:
    """The sheet to read, and the other ones where nobody named it."""
    names = [sheet.title for sheet in book.worksheets]
    if name is None:
        # What nobody sees in Excel is a list for its forms, or what was there before.
        names.sort(key=lambda each: book[each].sheet_state != "visible")
        if not names:
            raise DataError(
                "it has no sheet with cells", place=str(path), fix="give a file with a table in it"
            )
        return names[0], names[1:]
    if name not in names:
        near = nearest(name, names)
        raise UsageError(
            f"there is no sheet {name!r}; there are {listing(names)}",
            place=f"--sheet {name}, {path}",
            fix=f"--sheet {near!r}, perhaps" if near else "name one of them",
        )
    return name, []


class _Record(NamedTuple):
    """A row of a sheet.

    Attributes:
        number: in the sheet, from 1.
        cells: as they are in the file.
        formulas: the same row with its formulas in place of their values, where there are any.
        width: cells up to the last one with something in it.
    """

    number: int
    cells: Sequence[Any]
    formulas: Sequence[Any]
    width: int

    def value(self, index: int) -> str | BadRow:
        """A cell as a text; an empty one is an empty text."""
        if index >= self.width:
            return ""
        cell = self.cells[index]
        return _fault(cell, self._formula(index), self.number) or _as_text(cell.value)

    def _formula(self, index: int) -> object:
        return self.formulas[index].value if index < len(self.formulas) else None

    @classmethod
    def of(cls, number: int, cells: Sequence[Any], formulas: Sequence[Any]) -> _Record:
        """A row, with its width."""
        record = cls(number, cells, formulas, len(cells))
        last = next((at for at in reversed(range(len(cells))) if record.value(at)), -1)
        return record._replace(width=last + 1)


class _Records:
    """All rows of a sheet behind those that are skipped, each time it is called.

    A sheet may have a million empty rows behind them, which are gone through once.
    """

    def __init__(self, path: Path, sheet: str, formulas: bool, skip: int) -> None:
        self._path = path
        self._sheet = sheet
        self._formulas = formulas
        self._skip = skip
        self._last: int | None = None  # of the rows with something in them, once all were read

    def __call__(self) -> Iterator[_Record]:
        last = 0
        with _workbook(self._path) as book, ExitStack() as stack:
            lines = enumerate(self._cells(book), start=1)
            written = None
            if self._formulas:
                other = stack.enter_context(_workbook(self._path, values=False))
                written = self._cells(other)
            for record in _behind(lines, written, self._skip):
                last = record.number if record.width else last
                yield record
        self._last = last

    def _cells(self, book: Workbook) -> Iterator[tuple[Any, ...]]:
        sheet = book[self._sheet]
        sheet.reset_dimensions()  # what the file says of its size need not be so
        return iter(sheet.iter_rows(max_row=self._last))


def _behind(
    lines: Iterator[tuple[int, tuple[Any, ...]]],
    formulas: Iterator[tuple[Any, ...]] | None,
    skip: int,
) -> Iterator[_Record]:
    for number, cells in lines:
        written = next(formulas, ()) if formulas is not None else ()
        if number > _MOST_ROWS:
            raise ValueError(f"a row has a number above {_MOST_ROWS:,}")
        if number > skip:
            yield _Record.of(number, cells, written)


def _below(records: Iterator[_Record]) -> Iterator[tuple[int, list[str | BadRow]]]:
    """The rows as texts, with their numbers."""
    for record in records:
        if record.width <= _MOST_NAMES:
            yield record.number, [record.value(index) for index in range(record.width)]


def _fault(cell: Any, formula: object, number: int) -> BadRow | None:
    """What is wrong with a cell; of a formula nobody has reckoned out there is no value."""
    if cell.value is None and isinstance(formula, str) and formula.startswith("="):
        return BadRow(
            "formula without a value",
            f"cell {cell.column_letter}{number} has the formula {formula[:40]} and no value: "
            "open and save the file in Excel",
        )
    if cell.value is not None and cell.data_type == "e":
        return BadRow("cell with an error", f"cell {cell.column_letter}{number} is {cell.value}")
    return None


def _as_text(value: Any) -> str:
    """A cell as Excel would write it into a CSV file, with dates as ISO has them."""
    if value is None:
        return ""
    if isinstance(value, str):
        return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), value)
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, datetime.datetime):
        midnight = value.time() == datetime.time()
        return value.date().isoformat() if midnight else value.isoformat(" ")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value)


def _columns(first: _Record, layout: Layout, path: Path) -> list[str]:
    if not layout.header:
        return numbered_columns(first.width)
    names = [first.value(index) for index in range(first.width)]
    for name in names:
        if isinstance(name, BadRow):
            raise DataError(name.detail, place=f"{path}, the header", fix="write the name itself")
    return [str(name).strip() for name in names]


def _rows(
    records: Callable[[], Iterator[_Record]],
    columns: Sequence[str],
    header: bool,
    title: int,
    names: Sequence[str],
) -> Iterator[Row]:
    """The rows of a table; empty ones are none, but where it has one column, above another one."""
    picked = [columns.index(name) for name in names]
    below = itertools.dropwhile(lambda record: not record.width, records())
    empty = 0  # rows without one under them yet
    for record in itertools.islice(below, int(header), None):
        if not record.width:
            empty += len(columns) == 1
            continue
        number = record.number
        yield from ((each, ("",) * len(picked)) for each in range(number - empty, number))
        empty = 0
        if record.width > len(columns):
            detail = f"{record.width} cells where the header has {len(columns)}"
            yield number, BadRow("ragged row", detail, title_fix(title, MEND))
            continue
        values = tuple([record.value(at) for at in picked])
        yield number, next((value for value in values if isinstance(value, BadRow)), values)
