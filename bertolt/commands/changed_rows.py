"""Rows that one run answers otherwise than another: the largest changes, or one after the other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertolt.base.files import write_atomically
from bertolt.data.load import Table
from bertolt.report import plain
from bertolt.report.blocks import MOST_MISTAKES
from bertolt.tasks.base import Scorer, Task
from bertolt.tasks.row_answers import DIGITS, KeptRows, RowAnswer, digest

MOST_LISTED = MOST_MISTAKES
"""Rows that are listed in memory, better ones and worse ones each."""
_BATCH = 1024

Text = tuple[str, str | None]


@dataclass(frozen=True, kw_only=True)
class Change:
    """A row that one run answers better than the other.

    Attributes:
        row: its number in the table.
        gain: by how much the primary metric of this row alone is better, below 0 if it is worse.
        before, after: what the first and the other run said, with its rank among the rows where the
            primary metric is of ranks.
        truth: what is true, likewise.
        text: of the row, and the second text of a pair; None where the file is not as it was.
    """

    row: int
    gain: float
    before: str
    after: str
    truth: str
    text: Text | None

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain values."""
        first, second = self.text or (None, None)
        return {**asdict(self), "text": first, "text_pair": second}


class Texts:
    """Texts of rows, read when they are asked for.

    Args:
        task: that shows them.
        table: of the rows; None: there are no texts.
    """

    def __init__(self, task: Task, table: Table | None) -> None:
        self._task, self._table = task, table
        numbers = np.empty(0, np.int64) if table is None else table.data["row"].to_numpy()
        self._order = np.argsort(numbers, kind="stable")
        self._numbers = numbers[self._order]

    def of(self, rows: Sequence[RowAnswer]) -> list[Text | None]:
        """The texts of answers; None where the row is gone, or is another one."""
        texts: list[Text | None] = [None] * len(rows)
        if self._table is None or not len(self._numbers):
            return texts
        wanted = np.array([row.row for row in rows], np.int64)
        at = np.searchsorted(self._numbers, wanted).clip(max=len(self._numbers) - 1)
        there = np.flatnonzero(self._numbers[at] == wanted)
        examples = self._table.examples(self._order[at[there]].tolist())
        for slot, example in zip(there.tolist(), examples, strict=True):
            if digest(example) == rows[slot].digest[:DIGITS]:
                texts[slot] = self._task.page_texts(example)
        return texts


@dataclass(frozen=True, kw_only=True, eq=False)
class ChangedRows:
    """The rows that another run answers better or worse than the first, N of them being shared.

    Attributes:
        first, other: answers of both.
        places: (N,) of the shared rows in each of these.
        gains: (N,) by how much each row is better.
        ranks: (N, 2) of each run, of what was answered and of what is true, where the metric is of
            ranks.
        texts: of the rows.
    """

    first: KeptRows
    other: KeptRows
    places: tuple[NDArray[np.int64], NDArray[np.int64]]
    gains: NDArray[np.float64]
    ranks: tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]
    texts: Texts

    @classmethod
    def of(
        cls,
        kept: tuple[KeptRows, KeptRows],
        places: tuple[NDArray[np.int64], NDArray[np.int64]],
        scorer: Scorer,
        greater: bool,
        texts: Texts,
    ) -> ChangedRows:
        """Of two runs, by the scores of each row alone; `greater` where more of these is better."""
        sums = [each.sums[at] for each, at in zip(kept, places, strict=True)]
        before, after = map(scorer.score_of_each, sums)
        first, other = map(scorer.ranks_of_each, sums)
        gains = (after - before) * (1 if greater else -1)
        return cls(
            first=kept[0],
            other=kept[1],
            places=places,
            gains=gains,
            ranks=(first, other),
            texts=texts,
        )

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """The shared rows that changed, the largest changes first."""
        order: NDArray[np.int64] = np.argsort(-np.abs(self.gains), kind="stable")
        return order[: int((self.gains != 0).sum())]

    def largest(self) -> list[Change]:
        """The first `MOST_LISTED` that are better, and as many that are worse, in their order."""
        better, worse = (self.order[self.gains[self.order] * way > 0] for way in (1, -1))
        chosen = np.isin(self.order, [*better[:MOST_LISTED], *worse[:MOST_LISTED]])
        return list(self.changes(self.order[chosen]))

    def changes(self, rows: NDArray[np.int64] | None = None) -> Iterator[Change]:
        """All of them, or of these shared rows, a few in memory at a time."""
        rows = self.order if rows is None else rows
        for start in range(0, len(rows), _BATCH):
            part = rows[start : start + _BATCH].tolist()
            first = self.first.at(self.places[0][part].tolist())
            other = self.other.at(self.places[1][part].tolist())
            texts = self.texts.of(first)
            for each in zip(part, first, other, texts, strict=True):
                yield self._change(*each)

    def _change(self, place: int, first: RowAnswer, other: RowAnswer, text: Text | None) -> Change:
        ranked, ranked_after = self.ranks
        of_all = "" if ranked is None else f" of {len(self.gains):,}"
        return Change(
            row=first.row,
            gain=float(self.gains[place]),
            before=first.said + _rank_words(ranked, place, 0),
            after=other.said + _rank_words(ranked_after, place, 0),
            truth=first.truth + _rank_words(ranked, place, 1) + of_all,
            text=text,
        )


def _rank_words(ranks: NDArray[np.float64] | None, place: int, column: int) -> str:
    """The rank of a row, behind what it is the rank of; rows of equal values share theirs."""
    if ranks is None:
        return ""
    return f", rank {ranks[place, column]:,.1f}".removesuffix(".0")


def write_changes(runs: Sequence[tuple[str, ChangedRows]], path: Path, *, replace: bool) -> int:
    """Write every changed row as a JSON line, run by run; how many there are.

    Raises:
        BertoltError: the file cannot be written there.
    """
    count = 0

    def write(to: Path) -> None:
        nonlocal count
        with to.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            for run, changed in runs:
                for change in changed.changes():
                    line = json.dumps(plain({"run": run, **change.to_dict()}), ensure_ascii=False)
                    file.write(f"{line}\n")
                    count += 1

    write_atomically(path, write, replace=replace)
    return count
