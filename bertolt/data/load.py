"""Labelled text from a file, with an exact account of the rows that were left out.

    table = read_table("reviews.csv")           # columns found by their names
    table.dataset                               # a datasets.Dataset: row, text, label
    table.dropped                               # {"empty text": [17, 203], ...}

Values are taken as they stand: "NA", "null" and "01" stay what they are, and a text keeps its
spaces. The kinds of file are in `formats.py`, the choice of columns in `columns.py`, labels as
numbers in `labels.py`.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from bertolt.base.errors import DataError
from bertolt.data.columns import choose_columns
from bertolt.data.formats import BadRow, as_text, is_missing, open_source, unfit

if TYPE_CHECKING:
    import datasets

OnBadRow = Literal["drop", "error"]

BATCH_ROWS = 10_000  # rows, and characters, that are gathered before they go to Arrow
BATCH_CHARACTERS = 1 << 24


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows that can be used, and the account of all that were read.

    Attributes:
        path: the file, as it was named.
        dataset: in memory on Arrow: `row` (int64, the line on which the row begins in CSV, TSV and
            JSON lines, the record's number from 1 in JSON and Parquet), `text` (string, as it
            stands), and `label` (string, without spaces around it) where there is a label column.
        text_column: the column the texts are from.
        label_column: the column the labels are from, or None.
        columns: all columns of the file.
        found: what was found and not named, with the reason: `text`, `label`, `delimiter`.
        rows_read: the rows of the file: those in `dataset` and all that were dropped.
        dropped: the reason, and the numbers of the rows that were left out for it. Each row is
            counted once, for the first reason that holds.
    """

    path: str
    dataset: datasets.Dataset
    text_column: str
    label_column: str | None
    columns: list[str]
    found: dict[str, str]
    rows_read: int
    dropped: dict[str, list[int]]

    @property
    def texts(self) -> list[str]:
        """The texts, in order."""
        return list(self.dataset["text"][:])

    @property
    def labels(self) -> list[str]:
        """The labels, in order; none without a label column."""
        return [] if self.label_column is None else list(self.dataset["label"][:])


def read_table(
    path: str | os.PathLike[str],
    *,
    text: str | None = None,
    label: str | None = None,
    need_label: bool = True,
    prefer: Mapping[str, str] | None = None,
    encoding: str = "utf-8",
    on_bad_row: OnBadRow = "drop",
) -> Table:
    """Read texts, and labels if they are needed or named, from a file.

    CSV, TSV, JSON (an array of objects, or an object that holds one list), JSON lines and Parquet,
    by the ending of the name; the text kinds also as gzip or zstd. Empty lines are no rows.

    Args:
        path: the file.
        text: the text column; found by its name, or as the only one it can be, if None.
        label: the label column; found in the same way if None and `need_label`.
        need_label: whether each row must have a label. If not, labels are read only if named.
        prefer: "text" and "label" columns to take where they are there and nothing is named.
        encoding: of the text kinds.
        on_bad_row: what to do with a row that cannot be used (ragged, broken quotes or JSON, a NUL
            byte, half a surrogate pair, an empty text or label): leave it out and count it, or
            raise.

    Raises:
        DataError: the file, a column or a row cannot be used.
        UsageError: the encoding does not exist, or one column is asked to be both.
    """
    where = Path(path)
    source = open_source(where, encoding)
    choice = choose_columns(
        source, where, text=text, label=label, need_label=need_label, prefer=prefer or {}
    )
    columns = {"text": choice.text} | ({"label": choice.label} if choice.label is not None else {})
    account = _Account(where, columns, on_bad_row)
    for row, values in source.rows(list(columns.values())):
        account.add(row, values)
    return Table(
        path=str(path),
        dataset=account.dataset(),
        text_column=choice.text,
        label_column=choice.label,
        columns=source.columns,
        found=choice.found,
        rows_read=account.rows_read,
        dropped=account.dropped,
    )


class _Account:
    """Gathers good rows into Arrow batches, so that memory stays near their own size."""

    def __init__(self, path: Path, columns: dict[str, str], on_bad_row: OnBadRow) -> None:
        self.path = path
        self.columns = columns  # role to column, the text first
        self.on_bad_row = on_bad_row
        self.rows_read = 0
        self.dropped: dict[str, list[int]] = {}
        self._converters = [(role, _CONVERTERS[role]) for role in columns]
        self._example = ""  # what was wrong with the first row that was dropped
        self._schema = pa.schema([("row", pa.int64()), *((role, pa.string()) for role in columns)])
        self._batches: list[pa.RecordBatch] = []
        self._gathered: list[tuple[int, *tuple[str, ...]]] = []
        self._characters = 0

    def add(self, row: int, values: tuple[object, ...] | BadRow) -> None:
        self.rows_read += 1
        cells = values if isinstance(values, BadRow) else self._cells(row, values)
        if isinstance(cells, BadRow):
            self._drop(row, cells)
            return
        self._gathered.append((row, *cells))
        self._characters += len(cells[0])
        if len(self._gathered) >= BATCH_ROWS or self._characters >= BATCH_CHARACTERS:
            self._flush()

    def dataset(self) -> datasets.Dataset:
        import datasets  # here, since it takes a second, and not every command reads a table

        if self._gathered:
            self._flush()
        if not self.rows_read:
            raise DataError(
                "the file names its columns and has no rows",
                place=str(self.path),
                fix="give a file with rows in it",
            )
        if not self._batches:
            counts = ", ".join(f"{len(rows)} {reason}" for reason, rows in self.dropped.items())
            raise DataError(
                f"none of its {self.rows_read} rows can be used ({counts}); {self._example}",
                place=str(self.path),
                fix="look at the rows, and whether --text and --label name the right columns",
            )
        # Without a fingerprint given, `datasets` would hash every byte for a cache that a table in
        # memory does not have.
        table = pa.Table.from_batches(self._batches, self._schema)
        return datasets.Dataset(table, fingerprint=uuid.uuid4().hex[:16])

    def _flush(self) -> None:
        arrays = [
            pa.array(values, field.type)
            for values, field in zip(zip(*self._gathered, strict=True), self._schema, strict=True)
        ]
        self._batches.append(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        self._gathered, self._characters = [], 0

    def _drop(self, row: int, bad: BadRow) -> None:
        if self.on_bad_row == "error":
            raise DataError(
                bad.detail,
                place=f"{self.path}, row {row}",
                fix="mend the row, or leave such rows out with --on-bad-row drop",
            )
        self._example = self._example or f"the first is row {row}: {bad.detail}"
        self.dropped.setdefault(bad.reason, []).append(row)

    def _cells(self, row: int, values: tuple[object, ...]) -> list[str] | BadRow:
        cells = []
        for (role, convert), value in zip(self._converters, values, strict=True):
            cell = convert(value)
            if cell is None:
                raise self._wrong_type(role, row, value)
            if not cell or cell.isspace():
                return BadRow(
                    f"empty {role}", f"the {role} in column {self.columns[role]!r} is empty"
                )
            reason = unfit(cell)
            if reason:
                return BadRow(reason, f"a {reason} in column {self.columns[role]!r}")
            cells.append(cell)
        return cells

    def _wrong_type(self, role: str, row: int, value: object) -> DataError:
        shown = repr(value)
        return DataError(
            f"the {role} is no {'name or number' if role == 'label' else 'text'} but "
            f"{shown if len(shown) <= 40 else shown[:39] + '…'} ({type(value).__name__})",
            place=f"{self.path}, row {row}, column {self.columns[role]!r}",
            fix=f"choose another column with --{role}, or write such values as strings",
        )


def _as_label(value: object) -> str | None:
    """A label as a string: 1, 1.0 and " 1 " are all "1"; empty if missing; None for the rest."""
    if isinstance(value, str):
        return value.strip()
    if is_missing(value):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, (bool, int, float)) else None


_CONVERTERS = {"text": as_text, "label": _as_label}
