"""The scale of scores: its ends, and the cosines that scores stand for."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bertolt.base.errors import DataError, UsageError
from bertolt.data.cells import as_number

_GREATEST = (1, 5, 7, 10, 100)
"""Where scales that people use end; each may begin at 0, at 1, or at its opposite."""


class Scale(NamedTuple):
    """From the score of texts that have nothing in common to that of texts that mean the same."""

    low: float
    high: float

    def cosines(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N,) from 0 to 1; from -1 to 1 where the scale has scores below 0."""
        shares = (scores - self.low) / (self.high - self.low)
        return 2 * shares - 1 if self.low < 0 else shares

    def __str__(self) -> str:
        return f"from {self.low:g} to {self.high:g}"


def usual_scale(scores: NDArray[np.float64], place: str) -> Scale:
    """The shortest of the usual scales that has all of these scores.

    Raises:
        DataError: none has them.
    """
    if not len(scores):
        return Scale(0.0, 1.0)
    low, high = float(scores.min()), float(scores.max())
    greatest = next((each for each in _GREATEST if max(high, -low) <= each), None)
    if greatest is None:
        raise DataError(
            f"the scores go from {low:g} to {high:g}, which is no usual scale",
            place=place,
            fix=f"say where it begins and ends: --score-scale {min(low, 0):g},{high:g}",
        )
    whole = greatest in (5, 7, 10) and low >= 1 and bool((scores == np.round(scores)).all())
    least = -greatest if low < 0 else 1 if whole else 0
    return Scale(float(least), float(greatest))


def read_scale(text: str) -> Scale:
    """A scale as the user says it: "0,5".

    Raises:
        UsageError: it is none.
    """
    numbers = [as_number(part) for part in text.split(",")]
    if len(numbers) == 2 and None not in numbers:
        low, high = map(float, filter(lambda each: each is not None, numbers))  # type: ignore[arg-type]
        if low < high:
            return Scale(low, high)
    raise UsageError(
        f"it is {text!r}",
        place="--score-scale",
        fix="give the least and the greatest score, as --score-scale 0,5",
    )
