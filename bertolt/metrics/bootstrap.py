"""Intervals and tests of a score by resampling rows, from counts of what rows add to it.

A score such as accuracy, an F1 or an RMSE is a function of sums over rows. So all that resampling
needs is how many rows add what: memory does not grow with the rows while they add few different
things, nothing is drawn while rows stream, and neither order, batches nor merging change a bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bertolt.metrics.counts import Z95, Interval

Reals = NDArray[np.float64]
Integers = NDArray[np.int64]
Score = Callable[[Reals], Reals]
"""Of sums (…, S) the scores (…)."""

RESAMPLES = 2000
RANK_RESAMPLES = 1000
SHUFFLES = 9999
MOST_KINDS = 1024
"""Rows that add more different things than that are resampled in as many groups."""
MOST_RANKED = 4096
"""Rows of which a rank correlation is resampled."""
_NORMAL = NormalDist()


@dataclass(frozen=True)
class RowSums:
    """Rows by what each adds to the sums that a score is a function of.

    Attributes:
        sums: (M, S) float64, what a row adds.
        counts: (M,) int64, how many rows add it.
    """

    sums: Reals
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, sums: object, counts: object | None = None) -> RowSums:
        """Of rows (N, S), each once if nothing else is said; in one order, equal ones together."""
        values = np.asarray(sums, dtype=np.float64)
        numbers = np.ones(len(values), np.int64) if counts is None else np.asarray(counts, np.int64)
        order = np.lexsort(values.T)
        values, numbers = values[order], numbers[order]
        first = np.ones(len(values), dtype=bool)
        first[1:] = (values[1:] != values[:-1]).any(axis=1)
        starts = np.flatnonzero(first)
        return cls(values[starts], np.add.reduceat(numbers, starts) if len(starts) else numbers)

    def total(self) -> Reals:
        """(S,) the sums over all rows."""
        total: Reals = self.counts @ self.sums
        return total

    def grouped(self, most: int = MOST_KINDS) -> RowSums:
        """At most `most` kinds: more are put into so many groups of rows, at random.

        Groups of rows that do not depend on each other are such rows themselves; the standard
        error that they give errs by about 1 / sqrt(2 · `most`), 2%.
        """
        if len(self.counts) <= most:
            return self
        rows = np.repeat(np.arange(len(self.counts)), self.counts)
        generator = np.random.Generator(np.random.Philox(len(rows)))
        group = np.empty(len(rows), dtype=np.int64)
        group[generator.permutation(len(rows))] = np.arange(len(rows)) % most
        parts = [np.bincount(group, weights=column[rows], minlength=most) for column in self.sums.T]
        return RowSums(np.stack(parts, axis=1), np.ones(most, dtype=np.int64))


def by_group(rows: Reals, groups: Integers | None) -> Reals:
    """(G, S) what groups of rows add, from what their rows (N, S) do; None: each row is one."""
    if groups is None:
        return rows
    count = int(groups.max(initial=-1)) + 1
    sums = [np.bincount(groups, weights=column, minlength=count) for column in rows.T]
    return np.stack(sums, axis=1) if sums else np.zeros((count, 0))


def bootstrap_interval(
    rows: RowSums, score: Score, *, resamples: int = RESAMPLES, seed: int = 0
) -> Interval | None:
    """95% interval of a score by resampling rows: bias-corrected and accelerated (BCa).

    It needs no more than that rows do not depend on each other; spans, labels and tokens of one row
    may. Where rows of one group may too, `by_group` gives what is resampled. The same rows give the
    same interval, whatever their order. Source: B. Efron, "Better bootstrap confidence intervals",
    Journal of the American Statistical Association 82 (1987), 171-185.

    Args:
        rows: what they add.
        score: of sums (…, S) the scores (…); NaN where there is none.
        resamples: how often as many rows are drawn as there are.
        seed: of the draws.

    Returns:
        The ends; None where resampling tells nothing: fewer than two rows, or all resamples have
        one score, as where every answer is right.
    """
    rows = rows.grouped()
    total = int(rows.counts.sum())
    if total < 2:
        return None
    generator = np.random.Generator(np.random.Philox(seed))
    drawn = generator.multinomial(total, rows.counts / total, size=resamples)
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = score(drawn @ rows.sums)
        estimate = float(score(rows.total()))
        left_out = score(rows.total() - rows.sums)  # the jackknife, a row of each kind
    scores = scores[np.isfinite(scores)]
    if not math.isfinite(estimate) or not len(scores) or scores.min() == scores.max():
        return None
    below = float((scores < estimate).mean() + (scores == estimate).mean() / 2)
    edge = 1 / (2 * len(scores))
    bias = _NORMAL.inv_cdf(min(max(below, edge), 1 - edge))
    shares = [_share(bias, _acceleration(left_out, rows.counts), z) for z in (-1, 1)]
    low, high = np.quantile(scores, shares)
    return float(low), float(high)


def _acceleration(left_out: Reals, counts: NDArray[np.int64]) -> float:
    """How the standard error changes with the score, by the jackknife."""
    known = np.isfinite(left_out)
    scores, weights = left_out[known], counts[known]
    if not weights.sum():
        return 0.0
    gaps = float(weights @ scores) / int(weights.sum()) - scores
    spread = float(weights @ gaps**2)
    return float(weights @ gaps**3) / (6 * spread**1.5) if spread > 0 else 0.0


def _share(bias: float, acceleration: float, side: int) -> float:
    """Which share of the resamples lies below an end."""
    z = bias + side * Z95
    return _NORMAL.cdf(bias + z / max(1 - acceleration * z, 0.1))


def spearman_interval(
    predicted: Reals,
    true: Reals,
    groups: Integers | None = None,
    *,
    resamples: int = RANK_RESAMPLES,
    seed: int = 0,
) -> Interval | None:
    """95% interval of a rank correlation by resampling rows: percentiles, as ranks are no sums.

    Of many rows `MOST_RANKED` are resampled, chosen at random, and what their correlations spread
    is made smaller by the root of their share. Source: P. J. Bickel, F. Götze, W. R. van Zwet,
    "Resampling fewer than n observations", Statistica Sinica 7 (1997), 1-31.

    Args:
        predicted, true: (N,) values.
        groups: (N,) numbers of groups from 0, which are resampled whole; None: each row is one.
        resamples: how often as many rows are drawn.
        seed: of the draws, and of the choice.

    Returns:
        The ends; None where resampling tells nothing.
    """
    return _rank_interval(np.stack([predicted, true]), groups, resamples, seed)


def _rank_interval(
    columns: Reals, groups: Integers | None, resamples: int, seed: int
) -> Interval | None:
    """The same of columns (2, N); of (3, N) the interval of what the second column's correlation
    with the third has more than the first one's."""
    order, most = np.lexsort(columns), len(columns) - 1.0
    columns = columns[:, order]
    units = np.arange(len(order)) if groups is None else _in_order(groups[order])
    sizes = np.bincount(units)
    count = len(sizes)
    if count < 2:
        return None
    generator = np.random.Generator(np.random.Philox(seed))
    mixed = generator.permutation(count)
    size = max(1, int(np.searchsorted(sizes[mixed].cumsum(), MOST_RANKED, side="right")))
    there = np.isin(units, mixed[:size])
    chosen, member = columns[:, there], np.unique(units[there], return_inverse=True)[1]
    drawn = generator.multinomial(size, np.full(size, 1 / size), size=resamples)
    parts = [
        _spearman(chosen, part[:, member])
        for part in np.array_split(drawn, max(1, resamples // 50))
    ]
    scores = np.concatenate(parts)
    scores = scores[np.isfinite(scores)]
    if not len(scores) or scores.min() == scores.max():
        return None
    (of_all,), (of_chosen,) = (
        _spearman(each, np.ones((1, each.shape[1]), np.int64)) for each in (columns, chosen)
    )
    low, high = of_all + (np.quantile(scores, [0.025, 0.975]) - of_chosen) * math.sqrt(size / count)
    return max(-most, float(low)), min(most, float(high))


def _in_order(groups: Integers) -> Integers:
    """The same groups, numbered from 0 in the order in which they appear."""
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    numbers: Integers = np.argsort(np.argsort(first))[member]
    return numbers


def _spearman(columns: Reals, counts: NDArray[np.int64]) -> Reals:
    """(B,) rank correlations with the last column, of columns (2, N) that stand there (B, N) times
    each, or of (3, N) the difference of two; NaN without."""
    total = counts.sum(axis=1, keepdims=True)
    ranks = [_ranks(values, counts) for values in columns]
    *others, last = (each - (counts * each).sum(axis=1, keepdims=True) / total for each in ranks)
    square = (counts * last * last).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        correlations: list[Reals] = [
            (counts * each * last).sum(axis=1)
            / np.sqrt((counts * each * each).sum(axis=1) * square)
            for each in others
        ]
    return correlations[0] if len(correlations) == 1 else correlations[1] - correlations[0]


def _ranks(values: Reals, counts: NDArray[np.int64]) -> Reals:
    """(B, N) ranks of values (N,) that stand there (B, N) times each, equal ones sharing theirs."""
    order = np.argsort(values, kind="stable")
    _, group = np.unique(values[order], return_inverse=True)
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    sizes = np.add.reduceat(counts[:, order], starts, axis=1)
    ranks = np.empty(counts.shape)
    ranks[:, order] = (sizes.cumsum(axis=1) - sizes / 2)[:, group]
    return ranks


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """Two ways of answering the same rows.

    Attributes:
        difference: the second score less the first.
        interval: 95% interval of it, by resampling rows; None where that tells nothing.
        p: how often as large a difference comes about if it makes none which of both answers a row.
        by: how p was found: by shuffling what rows add, by `mcnemar`, or by `paired_ranks`.
    """

    difference: float
    interval: Interval | None
    p: float
    by: Literal["shuffling", "mcnemar", "ranks"] = "shuffling"


def paired_test(
    first: Reals,
    second: Reals,
    score: Score,
    groups: Integers | None = None,
    *,
    shuffles: int = SHUFFLES,
    seed: int = 0,
) -> PairedTest:
    """Whether two ways of answering the same rows differ in a score.

    The p-value is that of approximate randomisation: in each shuffle the two answers of each row
    change places, or do not, with one chance each, those of a group all together. Source: A. Yeh,
    "More accurate tests for the statistical significance of result differences", COLING 2000.

    Args:
        first, second: (N, S) what each row adds.
        score: of sums (…, S) the scores (…).
        groups: (N,) numbers of groups from 0; None: each row is one.
        shuffles: how many.
        seed: of the shuffles.
    """
    both, gap = _both(first, second, score, groups)
    return PairedTest(
        difference=float(gap(both.total())),
        interval=bootstrap_interval(both, gap),
        p=_shuffled(both, gap, shuffles, seed),
    )


def _both(
    first: Reals, second: Reals, score: Score, groups: Integers | None
) -> tuple[RowSums, Score]:
    """Rows with what both ways add, and the difference of the scores as a function of the sums."""
    width = first.shape[1]

    def gap(sums: Reals) -> Reals:
        difference: Reals = score(sums[..., width:]) - score(sums[..., :width])
        return difference

    return RowSums.of(by_group(np.hstack([first, second]), groups)), gap


def _shuffled(both: RowSums, gap: Score, shuffles: int, seed: int) -> float:
    """How likely a difference of that size is where the halves of each row change places."""
    difference, width = float(gap(both.total())), both.sums.shape[1] // 2
    pairs = both.grouped()
    other = np.hstack([pairs.sums[:, width:], pairs.sums[:, :width]]) - pairs.sums
    moved = other.any(axis=1)
    generator = np.random.Generator(np.random.Philox(seed))
    swapped = generator.binomial(pairs.counts[moved], 0.5, size=(shuffles, int(moved.sum())))
    with np.errstate(divide="ignore", invalid="ignore"):
        gaps = np.abs(gap(pairs.total() + swapped @ other[moved]))
    # Sums that differ in their last digit alone are equal. A score without a value tells nothing.
    as_large = int((~(gaps < abs(difference) * (1 - 1e-9))).sum())
    return (1 + as_large) / (1 + shuffles)


def paired_ranks(
    first: Reals,
    second: Reals,
    true: Reals,
    groups: Integers | None = None,
    *,
    shuffles: int = SHUFFLES,
    seed: int = 0,
) -> PairedTest:
    """Whether two ways of ordering the same rows differ in their rank correlation with true values.

    Values of both ways become ranks among all rows, each way by itself, equal values sharing the
    mean of theirs; ranks are exchanged, and not values, as the two may be on other scales. In each
    shuffle the two ranks of each row change places, or do not, with one chance each, while the true
    value keeps its rank. What came to each way is correlated by Pearson's formula with the ranks of
    the true values, without ranking anew: where nothing has changed places it is Spearman's
    correlation. The p-value is the share of shuffles, the rows as they are among them, whose two
    correlations differ at least as much, in either direction. It is small where the ways differ in
    what is tested: that it is chance which of the two gave which rank of a row. More than
    `MOST_KINDS` rows change places in as many groups.

    The interval is by resampling rows as `spearman_interval` does, ranked anew in each resample.

    Args:
        first, second: (N,) values.
        true: (N,) values that they should follow.
        groups: (N,) numbers of groups from 0, whose rows change places together and are resampled
            together; None: each row is one.
        shuffles: how many.
        seed: of the shuffles, and of the resampling.
    """
    both, gap = _both(_rank_sums(first, true), _rank_sums(second, true), _correlation, groups)
    return PairedTest(
        difference=float(gap(both.total())),
        interval=_rank_interval(np.stack([first, second, true]), groups, RANK_RESAMPLES, seed),
        p=_shuffled(both, gap, shuffles, seed),
        by="ranks",
    )


def _rank_sums(values: Reals, true: Reals) -> Reals:
    """(N, 6) what rows add to the sums that make a correlation of ranks: 1, both ranks from -1/2 to
    1/2, their squares and their product."""
    once = np.ones((1, len(values)), np.int64)
    one, other = (_ranks(each, once)[0] / max(len(values), 1) - 0.5 for each in (values, true))
    return np.column_stack(
        [np.ones(len(values)), one, other, one * one, other * other, one * other]
    )


def _correlation(sums: Reals) -> Reals:
    """(…) Pearson's correlation of such sums (…, 6); NaN where one side does not vary."""
    count, one, other, ones, others, products = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = (ones - one * one / count) * (others - other * other / count)
        correlations: Reals = (products - one * other / count) / np.sqrt(spread)
    return correlations


def mcnemar(fixed: int, broken: int) -> float:
    """The exact two-sided p-value for rows that one of two ways answers right and the other wrong.

    Without a difference each such row is one or the other with one chance each. Source: Q. McNemar,
    "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12 (1947), 153-157, with the binomial distribution itself.
    """
    total, fewer = fixed + broken, min(fixed, broken)
    whole = math.lgamma(total + 1) - total * math.log(2)
    logs = (whole - math.lgamma(k + 1) - math.lgamma(total - k + 1) for k in range(fewer + 1))
    return min(1.0, 2 * math.fsum(map(math.exp, logs)))


def holm(values: Sequence[float]) -> list[float]:
    """p-values of several tests, corrected so that one of them is below 0.05 by chance in at most
    5 of 100 such sets.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal
    of Statistics 6 (1979), 65-70.
    """
    corrected = [0.0] * len(values)
    highest = 0.0
    for place, index in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        highest = max(highest, min(1.0, (len(values) - place) * values[index]))
        corrected[index] = highest
    return corrected


def ratio(sums: Reals) -> Reals:
    """(…) the first of the sums (…, 2) by the second; NaN where that is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        share: Reals = sums[..., 0] / sums[..., 1]
    return share
