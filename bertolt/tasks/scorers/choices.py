"""Scores of choices: how many are right, against always taking one place, and against chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertolt.base.format import interval, percent, plural
from bertolt.data.choices import LETTERS
from bertolt.metrics import RowSums, wilson_interval
from bertolt.tasks import page
from bertolt.tasks.base import Answer, Example, Scorer

_CHOICES, _TRUE, _SAID, _COUNT = range(4)  # columns of the counts


class ChoiceScorer(Scorer):
    """How often the right choice was taken.

    Args:
        right: the place of the right choice of an example.

    Attributes:
        counts: of rows, by the number of their choices, the place of the right one, and the place
            of the one that was taken.
    """

    shown = ("accuracy",)

    def __init__(self, right: Callable[[Example], int]) -> None:
        self._right = right
        self.counts: Counter[tuple[int, int, int]] = Counter()

    def add(self, answer: Answer, example: Example) -> float:
        """Wrong by the probability of the choice that was taken."""
        true, said = self._right(example), int(answer["index"])
        self.counts[len(answer["probabilities"]), true, said] += 1
        return 0.0 if said == true else float(answer["probability"])

    def state(self) -> dict[str, NDArray[Any]]:
        """The counts, a row for each kind of them."""
        rows = [[*key, count] for key, count in sorted(self.counts.items())]
        return {"counts": np.array(rows, dtype=np.int64).reshape(-1, 4)}

    def merge(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Add counts."""
        for choices, true, said, count in state["counts"].tolist():
            self.counts[choices, true, said] += count

    def row_sums(self, answer: Answer, example: Example) -> tuple[float, ...]:
        """Whether the row is right, and 1."""
        return float(self._right(example) == answer["index"]), 1.0

    def by_rows(self) -> RowSums:
        """How many rows are right, and how many are wrong."""
        rows, right = self._rows()
        return RowSums.of([[1.0, 1.0], [0.0, 1.0]], [right, rows - right])

    def _rows(self, column: int | None = None, value: int = 0) -> tuple[int, int]:
        """Rows, and those of them that were answered right: all, or with a value in a column."""
        table = self.state()["counts"]
        table = table if column is None else table[table[:, column] == value]
        right = table[:, _TRUE] == table[:, _SAID]
        return int(table[:, _COUNT].sum()), int(table[right, _COUNT].sum())

    def _values_of(self, column: int) -> list[int]:
        return sorted({key[column] for key in self.counts})

    def accuracy(self) -> float:
        """Share of rows that were answered right."""
        rows, right = self._rows()
        return right / rows

    def accuracy_interval(self) -> tuple[float, float]:
        """Its 95% interval."""
        rows, right = self._rows()
        return wilson_interval(right, rows)

    def usual_place(self) -> int:
        """The place at which most right choices stand."""
        return max(self._values_of(_TRUE), key=lambda place: self._rows(_TRUE, place)[0])

    def baseline(self) -> tuple[float, tuple[float, float]]:
        """Accuracy of always taking that place, and its 95% interval."""
        rows, at_place = self._rows()[0], self._rows(_TRUE, self.usual_place())[0]
        return at_place / rows, wilson_interval(at_place, rows)

    def chance(self) -> float:
        """Accuracy of drawing a choice."""
        counts = [(count, self._rows(_CHOICES, count)[0]) for count in self._values_of(_CHOICES)]
        return sum(rows / count for count, rows in counts) / self._rows()[0]

    def values(self) -> dict[str, Any]:
        """Accuracy, what guessing gives, and the rows by the place of the right choice and by the
        number of their choices."""
        return {
            "accuracy": self.accuracy(),
            "accuracy_interval": list(self.accuracy_interval()),
            "baseline_accuracy": self.baseline()[0],
            "chance_accuracy": self.chance(),
            "rows": self._rows()[0],
            "per_place": self._by_place(),
            "per_number_of_choices": [
                {"choices": count, "rows": rows, "right": right}
                for count in self._values_of(_CHOICES)
                for rows, right in [self._rows(_CHOICES, count)]
            ],
        }

    def _by_place(self) -> list[dict[str, Any]]:
        places = range(max(self._values_of(_TRUE) + self._values_of(_SAID)) + 1)
        return [
            {
                "place": place,
                "rows": self._rows(_TRUE, place)[0],
                "right": self._rows(_TRUE, place)[1],
                "taken": self._rows(_SAID, place)[0],
            }
            for place in places
        ]

    def lines(self, loss: float) -> Iterator[str]:
        """Accuracy against guessing, and how often each place was right and taken."""
        low, high = self.accuracy_interval()
        yield (
            f"Accuracy {self.accuracy():.4f} on {plural(self._rows()[0], 'row')} "
            f"(95% interval {low:.4f}-{high:.4f})"
        )
        place = _place(self.usual_place())
        yield f"  against {self.baseline()[0]:.4f} for always taking choice {place}"
        yield f"  and {self.chance():.4f} by chance; loss {loss:.4f}"
        yield ""
        yield f"{'choice':>8}  {'right':>8}  {'taken':>8}  {'both':>8}"
        for each in self._by_place():
            numbers = (each["rows"], each["taken"], each["right"])
            yield f"{_place(each['place']):>8}  " + "  ".join(f"{each:>8,}" for each in numbers)

    def explain(self) -> dict[str, Any]:
        """Accuracy against guessing, by the place of the right choice and by how many there are."""
        accuracy = page.measure(self.accuracy(), self.accuracy_interval())
        value, ends = self.baseline()
        place = _place(self.usual_place())
        guess = {"name": f"always taking choice {place}", "mark": f"always choice {place}"}
        rows = [
            [_place(at), _measure(right, rows), rows, taken]
            for at, rows, right, taken in map(dict.values, self._by_place())
        ]
        kinds = {"Choice": "text", "Accuracy": "measure", "Right": "count", "Taken": "count"}
        blocks = [
            page.table("Rows by the place of the right choice", kinds, rows)
            | {"id": "places", "title": "Each place", "nav": "Places", "noun": "place"}
        ]
        counts = [(count, *self._rows(_CHOICES, count)) for count in self._values_of(_CHOICES)]
        if len(counts) > 1:
            kinds = {"Choices": "count", "Accuracy": "measure", "Chance": "share", "Rows": "count"}
            cells = [[n, _measure(right, rows), 1 / n, rows] for n, rows, right in counts]
            blocks.append(page.table("Rows by the number of their choices", kinds, cells))
        return page.part(
            page.headline("Accuracy", accuracy, self._rows()[0], guess | page.measure(value, ends)),
            tiles=[page.share("By chance", self.chance(), "drawing one of the choices")],
            curves=[
                page.curve(
                    "accuracy", "Accuracy", accuracy, {"name": f"choice {place}", "value": value}
                )
            ],
            blocks=blocks,
            cautions=page.no_better(
                "always taking the same choice",
                self.accuracy(),
                value,
                f"Always taking choice {place} gives {percent(value)} ({interval(*ends)}).",
                surely=ends[1],
            ),
        )


def _place(number: int) -> str:
    """A place as people call it."""
    return LETTERS[number] if number < len(LETTERS) else str(number + 1)


def _measure(right: int, rows: int) -> dict[str, float | None]:
    return page.measure(right / rows, wilson_interval(right, rows)) if rows else page.measure(None)
