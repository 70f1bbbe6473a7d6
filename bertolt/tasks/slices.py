"""Scores of parts of the rows: those of one value in a column, or of similar length."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertolt.base.errors import UsageError
from bertolt.base.format import columns as wide
from bertolt.base.format import padded, plural
from bertolt.data.arrow import pa
from bertolt.data.load import KEPT, Table
from bertolt.tasks.base import Answer, Example, Scorer, Task
from bertolt.tasks.row_answers import RowAnswers, resampled
from bertolt.tasks.table import ends_words, interval_words, shown

LENGTH = "length"
"""What parts rows by their tokens, in quarters, and is no column."""
MOST = 200
_SHOWN = 20
_NO_VALUE = "(empty)"


class Slices:
    """A scorer for each value of some columns.

    Args:
        task: of the rows.
        by: columns that the rows keep, or `LENGTH`.
        lengths: (N,) tokens of each row, or None where no slice is by length.
        group: a column that the rows keep, by whose values intervals are resampled.
    """

    def __init__(
        self,
        task: Task,
        by: Sequence[str],
        lengths: NDArray[np.int64] | None = None,
        group: str | None = None,
    ) -> None:
        self._task, self._lengths, self._group = task, lengths, group
        self._parts: dict[str, dict[str, tuple[Scorer, RowAnswers | None]]] = {n: {} for n in by}
        if lengths is None or not len(lengths):
            lengths = np.ones(1, np.int64)
        self._shortest, self._bounds = int(lengths.min()), _quarters(lengths)

    def add(self, number: int, answer: Answer, example: Example) -> None:
        """Count one answer in the slice of each column."""
        kept = json.loads(example[KEPT]) if example.get(KEPT) else {}
        for name, parts in self._parts.items():
            value = kept.get(name)
            if name == LENGTH and self._lengths is not None:
                value = self._length_words(int(self._lengths[number]))
            key = _key_of(value)
            if key not in parts:
                parts[key] = (
                    self._task.scorer(),
                    RowAnswers(self._task, self._group) if self._group else None,
                )
                parts[key][0].settle()
            scorer, answers = parts[key]
            scorer.add(answer, example)
            if answers is not None:
                answers.add(number, answer, example)

    def complete(self, whole: Scorer) -> None:
        """Take what depends on all rows, as ranks do, from the scorer that has counted all."""
        for parts in self._parts.values():
            for scorer, answers in parts.values():
                scorer.part_of(whole)
                if answers is not None:
                    answers.complete(scorer)

    def _length_words(self, tokens: int) -> str:
        place = int(np.searchsorted(self._bounds, tokens, side="left"))
        low, high = self._shortest, int(self._bounds[place])
        low = int(self._bounds[place - 1]) + 1 if place else low
        return f"{low:,} to {high:,} tokens" if low < high else f"{plural(low, 'token')}"

    def to_dict(self) -> dict[str, dict[str, dict[str, Any]]]:
        """The scores of each slice, by column and value, the largest slices first."""
        return {name: dict(self._ordered(name)) for name in self._parts}

    def _ordered(self, name: str) -> list[tuple[str, dict[str, Any]]]:
        scores = [(key, self._values(*part)) for key, part in self._parts[name].items()]
        if name == LENGTH:
            return sorted(scores, key=lambda each: int(each[0].split()[0].replace(",", "")))
        return sorted(scores, key=lambda each: (-each[1]["rows"], each[0]))

    def _values(self, scorer: Scorer, answers: RowAnswers | None) -> dict[str, Any]:
        """The scores of a slice, without the curves that only a page draws."""
        values = {name: each for name, each in scorer.values().items() if name != "calibration"}
        return {**values, f"{self._task.primary.name}_bootstrap": resampled(scorer, answers)}

    def lines(self) -> Iterator[str]:
        """A table for each column: the primary score of each value with both of its intervals."""
        primary = self._task.primary
        for name in self._parts:
            ordered = self._ordered(name)
            names = [shown(key) for key, _ in ordered[:_SHOWN]]
            width = max(map(wide, [name, *names]), default=0)
            header = f"by {self._group}" if self._group else "resampled"
            yield ""
            yield f"{padded(name, width)}  {primary.title + ' (95%)':<28}  {header:<20}  rows"
            for key, (_, values) in zip(names, ordered, strict=False):
                ends = values.get(f"{primary.name}_interval")
                score = interval_words(values[primary.name], ends)
                resampled = ends_words(values[f"{primary.name}_bootstrap"])
                yield f"{padded(key, width)}  {score:<28}  {resampled:<20}  {values['rows']:,}"
            if len(ordered) > len(names):
                yield f"… and {plural(len(ordered) - len(names), 'more value')}"


def require_few_values(table: Table, index: NDArray[np.int64], by: Sequence[str]) -> None:
    """Refuse columns that have so many values in these rows that they part nothing.

    Raises:
        UsageError: of the first such column.
    """
    values: dict[str, set[str]] = {name: set() for name in by if name != LENGTH}
    for kept in table.data[KEPT].take(pa.array(index)).to_pylist() if values else ():
        row = json.loads(kept) if kept else {}
        for name, distinct in values.items():
            distinct.add(_key_of(row.get(name)))
            if len(distinct) > MOST:
                raise UsageError(
                    f"the column {name!r} has more than {MOST} values",
                    place="--by",
                    fix="name a column that has fewer, such as a source or a category",
                )


def _key_of(value: Any) -> str:
    """What the slice of a value is called."""
    return _NO_VALUE if value is None or value == "" else str(value)


def _quarters(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The longest of each quarter of the rows, each bound once."""
    return np.unique(
        np.quantile(lengths, [0.25, 0.5, 0.75, 1.0], method="inverted_cdf").astype(np.int64)
    )
