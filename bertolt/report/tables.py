"""The confusion matrix laid out for the page, and what of long tables is worth showing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bertolt.base.format import is_number
from bertolt.report.record import ClassScore

MATRIX_LIMIT = 40


@dataclass(frozen=True)
class Cell:
    """A count, its share of the true label's rows, and whether it is a right prediction."""

    count: int
    share: float
    right: bool


@dataclass(frozen=True)
class Row:
    """The rows of one true label: a cell a shown label, then what went to the labels left out."""

    name: str
    total: int
    cells: list[Cell]
    others: Cell


@dataclass(frozen=True)
class Matrix:
    """What the page shows of a confusion matrix; `left_out` counts the labels without a row."""

    columns: list[str]
    rows: list[Row]
    left_out: int


@dataclass(frozen=True)
class Confusion:
    """`count` rows of `true` were taken for `predicted`, `share` of all rows of `true`."""

    true: str
    predicted: str
    count: int
    share: float


def matrix(
    names: Sequence[str], counts: Sequence[Sequence[int]], limit: int = MATRIX_LIMIT
) -> Matrix:
    """Lay out (C, C) counts; beyond `limit` labels only those with the most wrong rows are kept."""
    wrong = [sum(row) - row[i] for i, row in enumerate(counts)]
    kept = sorted(sorted(range(len(names)), key=lambda i: (-wrong[i], i))[:limit])
    rows = []
    for i in kept:
        total = sum(counts[i])
        cells = [Cell(counts[i][j], counts[i][j] / max(total, 1), i == j) for j in kept]
        rest = total - sum(cell.count for cell in cells)
        rows.append(Row(names[i], total, cells, Cell(rest, rest / max(total, 1), False)))
    return Matrix([names[i] for i in kept], rows, len(names) - len(kept))


def weakest(classes: Sequence[ClassScore], most: int) -> list[ClassScore]:
    """All classes, or the `most` with the lowest F1 when there are more, in their own order."""

    def rank(index: int) -> float:
        f1 = classes[index].f1.value
        return f1 if is_number(f1) else -1.0

    kept = sorted(sorted(range(len(classes)), key=rank)[:most])
    return [classes[index] for index in kept]


def confusions(
    names: Sequence[str], counts: Sequence[Sequence[int]], most: int = 12
) -> list[Confusion]:
    """The pairs of labels that are confused most often, largest first."""
    pairs = [
        Confusion(names[i], names[j], count, count / sum(row))
        for i, row in enumerate(counts)
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(pairs, key=lambda pair: -pair.count)[:most]
