"""What counts the answers of a task, and tells how sure its scores and their differences are."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bertolt.metrics.bootstrap import RowSums, bootstrap_interval, ratio
from bertolt.metrics.counts import Interval

Example = Mapping[str, Any]
"""A row by role: `text`, `text_pair` where there are pairs, `label` where it is known, `row`."""
Answer = dict[str, Any]
"""What is told of an example, as JSON has it."""


class Scorer(abc.ABC):
    """Counts answers against what is true; parts merge, and all follows from the counts."""

    shown: tuple[str, ...] = ()
    """Values that are told after each evaluation while training."""
    errors: ClassVar[tuple[str, ...]] = ()
    """Those of them of which less is better."""

    @abc.abstractmethod
    def add(self, answer: Answer, example: Example) -> float:
        """Count one answer; how wrong it is, 0 for right, to keep the worst."""

    def loss(self) -> float | None:
        """The loss, where it is a function of all rows together; None: the mean of the model's."""
        return None

    @abc.abstractmethod
    def state(self) -> dict[str, NDArray[Any]]:
        """All that was counted, as arrays of int64, float64 or float32."""

    @abc.abstractmethod
    def merge(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Add what another scorer counted."""

    def settle(self) -> None:  # noqa: B027 - a scorer may keep nothing but counts
        """Keep counts alone from here on: nothing will be tuned by these answers."""

    def row_sums(self, answer: Answer, example: Example) -> tuple[float, ...] | None:
        """(S,) what one row adds to the sums that the primary metric is made of; None: it is not
        known, and so there are neither intervals by resampling nor comparisons."""
        return None

    def by_rows(self) -> RowSums | None:
        """The rows that were counted, by what each adds; None as above."""
        return None

    def score(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """(…) the primary metric of sums (…, S), NaN where it has no value."""
        return ratio(sums)

    def bootstrap(self) -> Interval | None:
        """95% interval of the primary metric by resampling rows; None where that tells nothing."""
        rows = self.by_rows()
        return None if rows is None else bootstrap_interval(rows, self.score)

    @abc.abstractmethod
    def values(self) -> dict[str, Any]:
        """Named values as they stand in `metrics.json`, the primary one among them."""

    @abc.abstractmethod
    def lines(self, loss: float) -> Iterator[str]:
        """The same for a terminal."""

    @abc.abstractmethod
    def explain(self) -> dict[str, Any]:
        """The same for the report: `headline`, `tiles`, `curves`, `blocks`, `cautions`, built with
        the builders of `page.py`."""
