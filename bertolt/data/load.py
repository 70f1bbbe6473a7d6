"""Rows from a file, with an exact account of those that were left out.

    table = read_table("reviews.csv")           # columns found by their names
    table.data                                  # a pyarrow.Table: row, text, label
    table.dropped                               # {"empty text": [17, 203], ...}

Values are taken as they stand: "NA", "null" and "01" stay what they are, and a text keeps its
spaces. The kinds of files are in `formats.py`, the choice of columns in `columns.py`, and what
becomes of a cell in `cells.py`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import stat
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bertolt.base.console import counting, info
from bertolt.base.errors import DataError
from bertolt.base.format import plural
from bertolt.data.arrow import as_utf8, pa
from bertolt.data.cells import Cell, label_cell, text_cell
from bertolt.data.columns import FLAGS, SAMPLE, by_number, choose_columns
from bertolt.data.formats import Open, ending, open_source
from bertolt.data.several import Part, joined, open_parts, require_columns
from bertolt.data.spill import Batches
from bertolt.data.table_file import (
    AS_FOUND,
    MEND,
    BadRow,
    Layout,
    TableFile,
    counted_reason,
    listing,
    row_words,
)
from bertolt.data.unanswered import Unanswered, UnansweredRows

OnBadRow = Literal["drop", "error", "answer", "answer-all"]
"""Leave out and count; raise; keep apart where the text is empty, and raise for all else; or keep
apart whatever is wrong."""

BATCH_ROWS = 10_000  # rows, and characters, that are gathered before they go to Arrow
BATCH_CHARACTERS = 1 << 24
_NAMED = 3  # files by whose names a table of several is called
EVERY = "\0every"
"""Keeps every column, under its own name; no column is called so."""
ANSWERED_TOO = ", or give them an empty answer too with --on-bad-row answer-all"
"""How the fix for a row goes on where rows may have an empty answer."""
EXAMPLES = 2048  # rows that become Python values at a time
KEPT = "kept"
"""The Arrow column of the user's own columns, as one JSON text a row."""


class Sample(NamedTuple):
    """The chosen columns of a file and the first of their rows, to tell what they hold.

    Attributes:
        ending: of the file's name, that says its kind.
        columns: by role.
        values: the cells of each row, by role; broken rows are left out.
        total: rows that were looked at.
    """

    ending: str
    columns: dict[str, list[str]]
    values: dict[str, list[tuple[object, ...]]]


Cells = Mapping[str, Cell]
ChooseCells = Callable[[Sample], Cells]
CheckRow = Callable[[Mapping[str, Any]], BadRow | None]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows that can be used, and the account of all that were read.

    Attributes:
        path: the file, as it was named.
        data: on Arrow, in memory or, where they are many, mapped from disk: `row` (int64, its
            place among the records of the file, from 1), `text` (as it stands), and `text_pair`
            and `label` where there are such columns.
        roles: the columns of each role, in the order text, text_pair, label.
        columns: all columns of the file.
        found: what was found and not named, with the reason: roles, and `delimiter`, `quotes` and
            `sentences` where there is something to say of them.
        rows_read: the rows of the file: those in `data` and all that were dropped.
        dropped: the reason, and the numbers of the rows that were left out for it. Each row is
            counted once, for the first reason that holds.
        lines: the line on which row 1, 2, … begins, the dropped ones included; empty where files
            of this kind have no lines.
        parts: where several files are read as one table, the name of each and how many rows are
            before it; rows are counted over all of them.
        unanswered: rows without a text, or all that cannot be used, by their numbers, where they
            were asked for; they are among the dropped ones too.
    """

    path: str
    data: pa.Table
    roles: dict[str, list[str]]
    columns: list[str]
    found: dict[str, str]
    rows_read: int
    dropped: dict[str, list[int]]
    lines: Sequence[int] = ()
    parts: Sequence[tuple[str, int]] = ()
    unanswered: UnansweredRows = field(default_factory=UnansweredRows)

    def __len__(self) -> int:
        return int(self.data.num_rows)

    def row_words(self, row: int) -> str:
        """A row by its number, for messages: "row 41 (line 42)", of several "b.csv, row 3"."""
        name, number = self.origin(row)
        words = row_words(number, (self.lines[row - 1] or None) if self.lines else None)
        return f"{name}, {words}" if self.parts else words

    def place(self, row: int) -> str:
        """The same behind the name of the file."""
        return self.row_words(row) if self.parts else f"{self.path}, {self.row_words(row)}"

    def origin(self, row: int) -> tuple[str, int]:
        """The file of a row, by its number in the table, and its number in that file."""
        if not self.parts:
            return self.path, row
        name, before = self.parts[bisect_left(self.parts, row, key=lambda part: part[1]) - 1]
        return name, row - before

    def place_at(self, index: int) -> str:
        """The same of the row at a place of `data`, from 0."""
        return self.place(self.data["row"][index].as_py())

    @property
    def text_column(self) -> str:
        """The column of the texts."""
        return self.roles["text"][0]

    @property
    def label_column(self) -> str | None:
        """The columns of the labels, with commas between them; None without labels."""
        return ",".join(self.roles["label"]) if "label" in self.roles else None

    @property
    def texts(self) -> list[Any]:
        """The texts, in order."""
        return list(self.data["text"].to_pylist())

    @property
    def labels(self) -> list[Any]:
        """The labels, in order; none without a label column."""
        return self.data["label"].to_pylist() if "label" in self.roles else []

    def each_label(self, index: NDArray[np.int64] | None = None) -> Iterator[Any]:
        """The labels of all rows, or of those at these places, in slices: many are never together
        in memory as Python has them."""
        column, count = self.data["label"], len(self) if index is None else len(index)
        for start in range(0, count, EXAMPLES):
            part = (
                column.slice(start, EXAMPLES)
                if index is None
                else column.take(pa.array(index[start : start + EXAMPLES]))
            )
            yield from part.to_pylist()

    def labels_at(self, index: NDArray[np.int64]) -> list[Any]:
        """The labels of the rows at these places."""
        return list(self.data["label"].take(pa.array(index)).to_pylist())

    def examples(self, index: Sequence[int] | None = None) -> Iterator[dict[str, Any]]:
        """The rows as plain values by role, all or those at the places of `index`, in its order."""
        places = range(len(self)) if index is None else index
        for start in range(0, len(places), EXAMPLES):
            part = places[start : start + EXAMPLES]
            data = (
                self.data.slice(part.start, len(part))
                if isinstance(part, range)
                else self.data.take(pa.array(part))
            )
            yield from data.to_pylist()


def read_table(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    text: str | None = None,
    label: str | None = None,
    text_pair: str | None = None,
    need_label: bool = True,
    label_optional: bool = False,
    pair_names: Sequence[tuple[str, str]] = (),
    prefer: Mapping[str, Sequence[str]] | None = None,
    encoding: str = "utf-8",
    on_bad_row: OnBadRow = "drop",
    cells: ChooseCells | None = None,
    check_row: CheckRow | None = None,
    kinds: Mapping[str, Open] | None = None,
    keep: Sequence[str] = (),
    layout: Layout = AS_FOUND,
    watch: Callable[[int], None] | None = None,
) -> Table:
    """Read texts, and labels if they are needed or named, from a file or several.

    CSV, TSV, JSON (an array of objects, or an object that holds one list), JSON lines, Parquet and
    Excel, by the ending of the name; the text kinds also as gzip or zstd; a ZIP of such files; a
    folder with a folder of .txt files for each class; and tagged words, one a line, in CoNLL files.
    Empty lines are no rows.

    Args:
        path: the file or folder, or several that have the same columns.
        text: the text column; found by its name, or as the only one it can be, if None.
        label: the label column, or several with commas between them; found in the same way if None
            and `need_label`.
        text_pair: the column of second texts; None: found where the names are those of a pair.
        need_label: whether each row must have a label. If not, labels are read only if named.
        label_optional: a label that is needed may be missing.
        pair_names: further names of columns with pairs of texts.
        prefer: columns of each role to take where they are there and nothing is named.
        encoding: of the text kinds.
        on_bad_row: what to do with a row that cannot be used (ragged, broken quotes or JSON, a NUL
            byte, half a surrogate pair, an empty text or label): leave it out and count it, or
            raise, or keep those without a text apart and raise for the others, or keep all apart.
        cells: how the cells of each role are read, given a sample; None: a text, and one label.
        check_row: says what is wrong with a row whose cells are fine each by itself.
        kinds: more endings of names, and how such files are opened.
        keep: more columns to keep with each row; "all" alone keeps all that have no role, and
            `EVERY` those too.
        layout: of a table of cells.
        watch: called now and then with the rows so far; an error of it ends the reading.

    Raises:
        DataError: the file, a column or a row cannot be used.
        UsageError: the encoding does not exist, one column is asked to be both, or a file is named
            twice or has no such layout.
    """
    paths = [Path(each) for each in ([path] if isinstance(path, str | os.PathLike) else path)]
    before = _on_disk(paths)
    opened = partial(open_source, encoding=encoding, kinds=kinds, layout=layout)
    parts = open_parts(paths, opened, encoding)
    source, where = joined(parts), Path(_name_of_all([part.name for part in parts]))
    choice = choose_columns(
        source,
        where,
        text=text,
        label=label,
        text_pair=text_pair,
        need_label=need_label,
        label_optional=label_optional,
        pair_names=pair_names,
        prefer=prefer or {},
    )
    sample = _sample(source, paths[0], choice.columns)
    kept = _kept_columns(keep, source.columns, choice.columns, where)
    rows = _RowCollector(where, choice.columns, (cells or _usual_cells)(sample), kept, on_bad_row)
    with counting("Reading", unit="rows") as show:
        for part in parts:
            require_columns(part, rows.columns, parts[0].name)
            rows.add_part(part, check_row, _all_of(show, watch))
    for file, state in _on_disk(paths).items():
        if before.get(file) != state:
            what = "rows may be missing; begin again once it is whole"
            info(f"{file} changed while it was read: {what}")
    return rows.table(source.columns, choice.found)


def _on_disk(paths: Sequence[Path]) -> dict[Path, tuple[int, int]]:
    """Size and time of each plain file: another program may write it while it is read."""
    states = {}
    for path in paths:
        with contextlib.suppress(OSError, ValueError):  # what cannot be read is told by who reads
            state = path.stat()
            if stat.S_ISREG(state.st_mode):
                states[path] = state.st_size, state.st_mtime_ns
    return states


def _all_of(*calls: Callable[[int], None] | None) -> Callable[[int], None]:
    """One call in place of several; None: there is none."""

    def call(count: int) -> None:
        for each in calls:
            if each is not None:
                each(count)

    return call


def table_of(
    rows: Sequence[Sequence[object]],
    roles: Mapping[str, Sequence[str]],
    name: str,
    cells: ChooseCells,
    check_row: CheckRow | None = None,
) -> Table:
    """Rows that are in memory as a table; each of them has to be usable.

    Args:
        rows: the cells of the columns of `roles`, in their order.
        roles: the columns of each role.
        name: what errors call the rows.
        cells: how the cells of each role are read, given a sample.
        check_row: says what is wrong with a row whose cells are fine each by itself.

    Raises:
        DataError: a row cannot be used, or there is none.
    """
    columns = [column for each in roles.values() for column in each]
    source = TableFile(columns=columns, rows=lambda _: ((None, tuple(row)) for row in rows))
    sample = _sample(source, Path(name), roles)
    collected = _RowCollector(Path(name), roles, cells(sample), (), "error")
    collected.add_part(Part(name, source), check_row)
    return collected.table(columns, dict.fromkeys(roles, "as given"))


def _name_of_all(names: Sequence[str]) -> str:
    """The name of one file, or of several."""
    between = "; " if any(", " in name for name in names) else ", "
    return between.join(names) if len(names) <= _NAMED else f"{names[0]} and {len(names) - 1} more"


def _usual_cells(sample: Sample) -> Cells:
    """A text or two, and one label."""
    roles = sample.columns
    cells = {role: text_cell(roles[role], role) for role in roles if role != "label"}
    return cells | ({"label": label_cell(roles["label"])} if "label" in roles else {})


def _sample(source: TableFile, path: Path, roles: Mapping[str, Sequence[str]]) -> Sample:
    """The first rows of the chosen columns, as they are in the file."""
    names = [name for columns in roles.values() for name in columns]
    rows = [
        values
        for _, values in itertools.islice(source.rows(names), SAMPLE)
        if not isinstance(values, BadRow)
    ]
    values: dict[str, list[tuple[object, ...]]] = {}
    start = 0
    for role, columns in roles.items():
        values[role] = [row[start : start + len(columns)] for row in rows]
        start += len(columns)
    return Sample(ending(path), {role: list(names) for role, names in roles.items()}, values)


def _kept_columns(
    keep: Sequence[str], columns: Sequence[str], roles: Mapping[str, Sequence[str]], path: Path
) -> list[str]:
    if list(keep) == [EVERY]:
        return list(columns)
    taken = {name for role, names in roles.items() if role != "label" for name in names}
    if list(keep) == ["all"] and "all" not in columns:
        return [name for name in columns if name not in taken]
    keep = [by_number(name, columns) for name in keep]
    for name in keep:
        if name not in columns:
            raise DataError(
                f"there is no column {name!r} to keep; there are {listing(columns)}",
                place=str(path),
                fix="name some of them with --keep, with commas between them, or --keep all",
            )
    return list(dict.fromkeys(keep))


class _RowCollector:
    """Gathers good rows into Arrow batches, so that memory is bounded, and accounts for all rows.

    Attributes:
        columns: that are read: those of the roles, and those that are kept.
    """

    def __init__(
        self,
        path: Path,
        roles: Mapping[str, Sequence[str]],
        cells: Cells,
        kept: Sequence[str],
        on_bad_row: OnBadRow,
    ) -> None:
        self.path = path
        self.columns = [*(name for names in roles.values() for name in names), *kept]
        self.on_bad_row = on_bad_row
        self.rows_read = 0
        self.lines = array("q")
        self.parts: list[tuple[str, int]] = []  # names of files, and the rows before each
        self.dropped: dict[str, list[int]] = {}
        self.unanswered = UnansweredRows()
        self._roles = {role: list(names) for role, names in roles.items()}
        self._cells = cells
        self._kept = list(kept)
        self._example = ""  # what was wrong with the first row that was dropped
        self._fix = ""  # of the first one for which there is more to do than to mend it
        fields = [("row", pa.int64()), *((role, cells[role].type) for role in roles)]
        self._schema = pa.schema([*fields, *([(KEPT, pa.string())] if kept else [])])
        self._batches = Batches(self._schema)
        self._gathered: list[tuple[object, ...]] = []
        self._characters = 0

    def begin(self, name: str) -> None:
        """The rows behind this are of the file of that name."""
        if self.parts and self.parts[-1][1] == self.rows_read:
            self.parts.pop()  # without rows
        self.parts.append((name, self.rows_read))

    def add_part(
        self,
        part: Part,
        check: CheckRow | None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Add all rows of a part; `progress` is called with the rows so far, now and then."""
        self.begin(part.name)
        for number, (line, values) in enumerate(part.source.rows(self.columns)):
            if part.files:
                self.begin(part.files[number])
            self.add(line, values, check)
            if progress is not None and not self.rows_read % EXAMPLES:
                progress(self.rows_read)

    def add(
        self, line: int | None, values: tuple[object, ...] | BadRow, check: CheckRow | None = None
    ) -> None:
        self.rows_read += 1
        self.lines.append(line or 0)
        cells = values if isinstance(values, BadRow) else self._read(values)
        if check is not None and not isinstance(cells, BadRow):
            cells = check(dict(zip(self._roles, cells, strict=False))) or cells
        if isinstance(cells, BadRow):
            self._drop(cells, apart=self._keep_apart(cells, values))
            return
        self._gathered.append((self.rows_read, *cells))
        self._characters += sum(len(cell) for cell in cells if isinstance(cell, str | list))
        if len(self._gathered) >= BATCH_ROWS or self._characters >= BATCH_CHARACTERS:
            self._flush()

    def table(self, columns: Sequence[str], found: Mapping[str, str]) -> Table:
        """The rows with their account.

        Args:
            columns: all that there are.
            found: what was found and not named, with the reason.

        Raises:
            DataError: there is no row, or none that can be used.
        """
        return Table(
            path=str(self.path),
            data=self._data(),
            roles=self._roles,
            columns=list(columns),
            found=dict(found),
            rows_read=self.rows_read,
            dropped=self.dropped,
            lines=self.lines if any(self.lines) else (),
            parts=self.parts if len(self.parts) > 1 else (),
            unanswered=self.unanswered,
        )

    def _data(self) -> pa.Table:
        if self._gathered:
            self._flush()
        if not self.rows_read:
            raise DataError(
                "the file names its columns and has no rows",
                place=str(self.path),
                fix="give a file with rows in it",
            )
        if not self._batches and not self.unanswered:
            counts = ", ".join(f"{len(rows)} {reason}" for reason, rows in self.dropped.items())
            raise DataError(
                f"none of its {plural(self.rows_read, 'row')} can be used ({counts}); "
                f"{self._example}",
                place=str(self.path),
                fix=self._fix
                or "look at the rows, and whether --text and --label name the right columns",
            )
        return self._batches.table()

    def _flush(self) -> None:
        arrays = [
            pa.array(values, field.type)
            for values, field in zip(zip(*self._gathered, strict=True), self._schema, strict=True)
        ]
        self._batches.add(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        self._gathered, self._characters = [], 0

    def _row_words(self) -> str:
        """The row that is being read."""
        name, before = self.parts[-1]
        words = row_words(self.rows_read - before, self.lines[-1] or None)
        return f"{name}, {words}" if before else words

    def _place(self) -> str:
        name, before = self.parts[-1]
        return f"{name}, {row_words(self.rows_read - before, self.lines[-1] or None)}"

    def _keep_apart(self, bad: BadRow, values: tuple[object, ...] | BadRow) -> bool:
        """Keep a row for an empty answer, if it is to have one; of one that could not be read
        nothing is known."""
        empty = self.on_bad_row == "answer" and bad.reason.startswith("empty ")
        if not empty and self.on_bad_row != "answer-all":
            return False
        if isinstance(values, BadRow):
            values = (None,) * len(self.columns)
        cells, texts = iter(values), {}
        for role, columns in self._roles.items():
            texts[role] = self._cells[role].left([next(cells) for _ in columns])
        kept = dict(zip(self._kept, cells, strict=True))
        words = _as_json(kept) if self._kept else None
        self.unanswered.add(self.rows_read, Unanswered(bad.reason, texts, words))
        return True

    def _drop(self, bad: BadRow, *, apart: bool) -> None:
        if self.on_bad_row != "drop" and not apart:
            others = "" if self.on_bad_row == "error" else ANSWERED_TOO
            raise DataError(
                bad.detail,
                place=self._place(),
                fix=f"{bad.fix}, or leave such rows out with --on-bad-row drop" + others,
            )
        self._example = self._example or f"the first is {self._row_words()}: {bad.detail}"
        if not self._fix and bad.fix != MEND:
            self._fix = bad.fix
        reason = counted_reason(bad.reason, self.dropped)
        self.dropped.setdefault(reason, []).append(self.rows_read)

    def _read(self, values: tuple[object, ...]) -> list[object] | BadRow:
        cells: list[object] = []
        start = 0
        for role, columns in self._roles.items():
            values_of_role = values[start : start + len(columns)]
            start += len(columns)
            cell = self._cells[role].read(values_of_role)
            if cell is None:
                raise self._wrong_type(role, values_of_role)
            if isinstance(cell, BadRow):
                return cell
            cells.append(cell)
        if self._kept:
            words = _as_json(dict(zip(self._kept, values[start:], strict=True)))
            if words is None:
                names = listing(self._kept)
                return BadRow("nested cell", f"a value of {names} is nested too deeply")
            cells.append(words)
        return cells

    def _wrong_type(self, role: str, values: Iterable[object]) -> DataError:
        value, cell = next(iter(values)), self._cells[role]
        shown = repr(value)
        fix = f"choose another column with {FLAGS[role]}, or write each value as a {cell.what}"
        if cell.lists and isinstance(value, list | tuple):
            fix = f"{cell.lists}, or choose another column with {FLAGS[role]}"
        name = "second text" if role == "text_pair" else role
        return DataError(
            f"the {name} is no {cell.what} but "
            f"{shown if len(shown) <= 40 else shown[:39] + '…'} ({type(value).__name__})",
            place=f"{self._place()}, column {self._roles[role][0]!r}",
            fix=fix,
        )


def _as_json(values: Mapping[str, object]) -> str | None:
    """A row's own columns; what JSON cannot say, such as a date, as its text, and half a surrogate
    pair as its escape. None: a value is nested too deeply."""
    try:
        return as_utf8(json.dumps(_finite(values), ensure_ascii=False, default=str))
    except RecursionError:
        return None


def _finite(value: Any) -> Any:
    """A value without NaN and infinities, for which JSON has no word but null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value
