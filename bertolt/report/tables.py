"""Matrices and tables of the facts laid out for the page: which rows it shows, and how."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bertolt.base.format import ABSENT, is_number, number, percent, plural, shorten
from bertolt.report.shown import ends, shown, within

MATRIX_LIMIT = 40


@dataclass(frozen=True)
class Cell:
    """A count, its share of the true label's rows, and whether these were predicted right."""

    count: int
    share: float
    right: bool


@dataclass(frozen=True)
class Row:
    """The rows of one true label: a cell for each label shown, and one for all others."""

    name: str
    cells: list[Cell]
    others: Cell


@dataclass(frozen=True)
class Matrix:
    """What the page shows of a confusion matrix; `left_out` counts the labels without a column."""

    columns: list[str]
    rows: list[Row]
    left_out: int

    @property
    def chosen(self) -> str:
        """Which labels are shown, if not all of them."""
        if not self.left_out:
            return ""
        return (
            f"Shown are the {len(self.columns)} labels with the most mistakes; what was taken for "
            f"one of the {plural(self.left_out, 'label')} left out stands under “others”."
        )


def matrix(
    names: Sequence[str], counts: Sequence[Sequence[int]], limit: int = MATRIX_LIMIT
) -> Matrix:
    """Lay out (C, C) counts.

    Beyond `limit` labels those are shown that most mistakes are about: rows of the label that were
    taken for another one, and rows of others that were taken for it.
    """
    columns = zip(*counts, strict=True)
    totals = [sum(row) + sum(column) for row, column in zip(counts, columns, strict=True)]
    wrong = [total - 2 * counts[i][i] for i, total in enumerate(totals)]
    labels = sorted(sorted(range(len(names)), key=lambda i: (-wrong[i], i))[:limit])
    rows = []
    for i in labels:
        total = sum(counts[i])
        cells = [Cell(counts[i][j], counts[i][j] / max(total, 1), i == j) for j in labels]
        rest = total - sum(cell.count for cell in cells)
        rows.append(Row(names[i], cells, Cell(rest, rest / max(total, 1), False)))
    return Matrix([names[i] for i in labels], rows, len(names) - len(labels))


@dataclass(frozen=True)
class Shown:
    """What a cell of a table shows.

    Attributes:
        kind: text, or one of numbers: count, share, number, measure, bar.
        text: the words or the number; "n/a" where there is none.
        whole: a text in full, for a reader who points at what was cut.
        at: length of a bar, or place of a measure on its scale, as a share; empty for other kinds.
        ends: the interval of a measure, in words.
        span: its two ends on the scale.
        colour: of a bar.
    """

    kind: str
    text: str
    whole: str = ""
    at: str = ""
    ends: str = ""
    span: tuple[str, str] = ("", "")
    colour: str = "plain"


@dataclass(frozen=True)
class Table:
    """What the page shows of a table: `chosen` says which rows, `more` how many are left out."""

    columns: list[Mapping[str, Any]]
    rows: list[list[Shown]]
    chosen: str
    more: str


def table(block: Mapping[str, Any]) -> Table:
    """Lay out a table of the facts.

    Beyond `most` rows the first are shown, or, with `weakest`, those with the lowest values of
    that column, in the order of the block.
    """
    columns, rows, noun = block["columns"], block["rows"], block.get("noun", "row")
    most, by = block.get("most") or len(rows), block.get("weakest")
    chosen = more = ""
    if len(rows) > most and by is not None:
        order = sorted(range(len(rows)), key=lambda i: _rank(rows[i][by]))[:most]
        rows = [rows[i] for i in sorted(order)]
        lowest = f"with the lowest {columns[by]['name']}"
        chosen = f"Shown are the {most} {noun}s {lowest}, of {len(block['rows'])}."
    elif len(rows) > most:
        more = f"{plural(len(rows) - most, f'more {noun}')} not shown."
        rows = rows[:most]
    longest = _longest(block)
    cells = [
        [_cell(column, value, longest) for column, value in zip(columns, row, strict=True)]
        for row in rows
    ]
    return Table(columns, cells, chosen, more)


def _rank(value: Any) -> float:
    """Where a row stands by a value; those that have none are the weakest."""
    number = value.get("value") if isinstance(value, Mapping) else value
    return number if is_number(number) else -math.inf


def _longest(block: Mapping[str, Any]) -> float:
    """The number that the longest bar of counts stands for: all such columns share one scale."""
    bars = [
        i
        for i, column in enumerate(block["columns"])
        if column["kind"] == "bar" and column.get("format") != "percent"
    ]
    values = [float(row[i]) for row in block["rows"] for i in bars if is_number(row[i])]
    return max([1.0, *values])


def _cell(column: Mapping[str, Any], value: Any, longest: float) -> Shown:
    kind = column["kind"]
    if kind == "text":
        return Shown(kind, shorten(str(value), 200), whole=str(value))
    if kind == "share":
        return Shown(kind, percent(value))
    if kind == "measure":
        return _measure(value if isinstance(value, Mapping) else {"value": value})
    if kind == "bar":
        format = column.get("format", "count")
        at = within(value, 0.0, 1.0 if format == "percent" else longest) if is_number(value) else ""
        return Shown(kind, shown(value, format), at=at, colour=_colour(column))
    return Shown(kind, number(value))


def _measure(measure: Mapping[str, Any]) -> Shown:
    value = measure.get("value")
    if not is_number(value):
        return Shown("measure", ABSENT)
    low, high = (each if is_number(each := measure.get(end)) else value for end in ("low", "high"))
    return Shown(
        "measure",
        percent(value),
        at=within(value),
        ends=ends(measure, "percent"),
        span=(within(low), within(high)),
    )


def _colour(column: Mapping[str, Any]) -> str:
    colour = column.get("colour", "plain")
    return colour if colour in ("plain", "accent", "trouble") else "plain"
