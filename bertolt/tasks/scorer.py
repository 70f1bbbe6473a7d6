"""What counts the answers of a task, and tells how sure its scores and their differences are."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from bertolt.metrics.bootstrap import (
    PairedTest,
    RowSums,
    bootstrap_interval,
    by_group,
    mcnemar,
    paired_test,
    ratio,
)
from bertolt.metrics.counts import Interval

Reals = NDArray[np.float64]
Integers = NDArray[np.int64]
Example = Mapping[str, Any]
"""A row by role: `text`, `text_pair` where there are pairs, `label` where it is known, `row`."""
Answer = dict[str, Any]
"""What is told of an example, as JSON has it."""


class AmongAll(NamedTuple):
    """What rows add where that depends on all rows, as ranks do.

    Attributes:
        sums: (N, S) what each adds.
        asks: (N,) what each asks; rows that ask the same are one.
        said: (N,) what each was answered, in words.
        truth: what is best, in words.
        rows: a fingerprint of all rows, without which the sums are not to be compared.
    """

    sums: Reals
    asks: NDArray[np.int64]
    said: list[str]
    truth: str
    rows: str


class Scorer(abc.ABC):
    """Counts answers against what is true; parts merge, and all follows from the counts."""

    shown: tuple[str, ...] = ()
    """Values that are told after each evaluation while training."""
    errors: ClassVar[tuple[str, ...]] = ()
    """Those of them of which less is better."""
    of_nothing: ClassVar[float] = 1.0
    """The primary metric of a row with nothing to find in which nothing was given: it is right."""

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

    def part_of(self, whole: Self) -> None:  # noqa: B027 - rows add what they add, as a rule
        """Count as a part of all rows from here on: what depends on all rows, as ranks do, is that
        of `whole`."""

    def settle(self) -> None:  # noqa: B027 - a scorer may keep nothing but counts
        """Keep counts alone from here on: nothing will be tuned by these answers."""

    def row_sums(self, answer: Answer, example: Example) -> tuple[float, ...] | None:
        """(S,) what is kept of one row: what it adds to the sums that the primary metric is made
        of, or what `among_all`, or the functions of kept rows below, make that of.

        None: nothing. A scorer that keeps nothing of any row has neither intervals by resampling
        nor comparisons.
        """
        return None

    def among_all(self, kept: Reals) -> AmongAll | None:
        """What rows add where that depends on all rows that were counted, from what was kept of
        them, (N, S); None: they add what was kept."""
        return None

    def by_rows(self) -> RowSums | None:
        """The rows that were counted, by what each adds; None as above."""
        return None

    def score(self, sums: Reals) -> Reals:
        """(…) the primary metric of sums (…, S), NaN where it has no value."""
        return ratio(sums)

    def bootstrap(self) -> Interval | None:
        """95% interval of the primary metric by resampling rows; None where that tells nothing."""
        rows = self.by_rows()
        return None if rows is None else bootstrap_interval(rows, self.score)

    # ---- rows that were kept, (N, S), by themselves

    def score_of(self, rows: Reals) -> float:
        """The primary metric; NaN where it has no value."""
        return float(self.score(rows.sum(axis=0)))

    def ranks_of_each(self, rows: Reals) -> Reals | None:
        """(N, 2) the ranks of what each row was answered and of its truth, the greatest being 1,
        where the primary metric is of ranks; else None.

        Args:
            rows: (N, S) what is kept of each.
        """
        return None

    def score_of_each(self, rows: Reals) -> Reals:
        """(N,) the primary metric of each row alone, or its part of the metric of all."""
        return np.nan_to_num(self.score(rows), nan=self.of_nothing)

    # and where some of them depend on each other, with (N,) the number of the group of each

    def interval_of(self, rows: Reals, groups: Integers | None = None) -> Interval | None:
        """95% interval of the primary metric by resampling rows, as `bootstrap` has it, or whole
        groups of them."""
        return bootstrap_interval(RowSums.of(by_group(rows, groups)), self.score)

    def paired(self, first: Reals, other: Reals, groups: Integers | None = None) -> PairedTest:
        """Whether two ways of answering the same rows differ: `paired_test`, with the p-value of
        McNemar's exact test where rows are right or wrong and do not depend on each other."""
        test = paired_test(first, other, self.score, groups)
        if groups is not None:
            return test
        both = np.concatenate([first, other])
        right_or_wrong = both.shape[1] == 2 and np.isin(both, (0, 1)).all() and both[:, 1].all()
        if not right_or_wrong:
            return test
        gained = other[:, 0] - first[:, 0]
        p = mcnemar(int((gained > 0).sum()), int((gained < 0).sum()))
        return replace(test, p=p, by="mcnemar")

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
