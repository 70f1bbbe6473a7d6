"""Counts over real numbers: errors and correlations, by column."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bertolt.base.errors import UsageError
from bertolt.metrics.arrays import paired_columns
from bertolt.metrics.counts import Z95, Interval, State, mean_of, normal_interval

Reals = NDArray[np.float64]
_JOINED = 1024  # batches that are put together


class Moments:
    """Sums over pairs of predicted and true values, by column, merged batch by batch.

    Each batch is centred on its own mean before it is merged, so nothing cancels when the values
    are large beside their spread. Source of the merge: T. F. Chan, G. H. Golub, R. J. LeVeque,
    "Algorithms for computing the sample variance", The American Statistician 37 (1983), 242-247.
    """

    def __init__(self, columns: int = 1) -> None:
        self.count = 0
        self.absolute, self.squared = np.zeros((2, columns))  # sums of the errors
        self.means = np.zeros((2, columns))  # of the predicted, and of the true values
        self.spreads = np.zeros((3, columns))  # squares about the means; their products
        self._low = np.full((2, columns), np.inf)
        self._high = np.full((2, columns), -np.inf)

    def update(self, predicted: Reals, true: Reals) -> None:
        """Merge a batch of pairs, each (N, K), or (N,) for one column."""
        if not len(true):
            return
        both = np.stack([predicted, true]).reshape(2, len(true), -1)
        error = both[0] - both[1]
        self.absolute += np.abs(error).sum(axis=0)
        self.squared += (error**2).sum(axis=0)
        means = both.mean(axis=1)
        shift, total = means - self.means, self.count + len(true)
        weight = self.count * len(true) / total
        self.spreads += _products(both - means[:, None]).sum(axis=1)
        self.spreads += weight * _products(shift)
        self.means += shift * (len(true) / total)
        self.count = total
        self._low = np.minimum(self._low, both.min(axis=1))
        self._high = np.maximum(self._high, both.max(axis=1))

    def mae(self) -> Reals:
        """(K,) mean absolute errors."""
        return self.absolute / self.count

    def mse(self) -> Reals:
        """(K,) mean squared errors."""
        return self.squared / self.count

    def r2(self) -> Reals:
        """(K,) shares of the true values' variance that the predictions explain; 1 is perfect.

        Where the true values are constant it is 1 when every prediction is exact and 0 otherwise,
        as in scikit-learn. NaN with fewer than two examples.
        """
        exact = np.where(self.squared == 0, 1.0, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = np.where(self.constant()[1], exact, 1 - self.squared / self.spreads[1])
        return shares if self.count > 1 else np.full_like(shares, np.nan)

    def pearson(self) -> Reals:
        """(K,) linear correlations, from -1 to 1; NaN where either side is constant."""
        with np.errstate(divide="ignore", invalid="ignore"):
            r = self.spreads[2] / (np.sqrt(self.spreads[0]) * np.sqrt(self.spreads[1]))
        return np.where(self.constant().any(axis=0), np.nan, np.clip(r, -1, 1))

    def constant(self) -> NDArray[np.bool_]:
        """(2, K) where there is one value only, predicted or true; sums would leave rounding."""
        same: NDArray[np.bool_] = self._low == self._high
        return same


def _products(pair: Reals) -> Reals:
    """Of (2, ...): the squares of both, and their product."""
    first, second = pair
    return np.stack([first * first, second * second, first * second])


class Estimate(NamedTuple):
    """A score and its 95% interval; None where it is undefined."""

    value: float | None
    interval: Interval | None


class RegressionCounts:
    """Predicted and true values of `num_values` columns, and the scores that follow.

    Ranks cannot be summed, so every value is kept: 16 bytes for each of a column. Scores are
    computed over the examples in sorted order, so they are the same to the last bit whatever the
    order, the batches and the merging were.
    """

    def __init__(self, num_values: int = 1) -> None:
        if num_values < 1:
            raise UsageError(f"num_values is {num_values}", fix="give at least one value")
        self.num_values = num_values
        self._batches: list[Reals] = []
        self._joined = 0  # of them, each made of several

    def update(self, predicted: Any, true: Any) -> None:
        """Take in a batch: predicted and true values, each (N, K), or (N,) for one column.

        Raises:
            UsageError: another shape, or a value that is not finite; nothing is taken in then.
        """
        place = "RegressionCounts.update"
        pair = paired_columns(predicted, true, self.num_values, place)
        if len(pair[0]):
            self._batches.append(np.stack(pair))
        # An array for each row would take ten times the room of its numbers.
        small = self._batches[self._joined :]
        if len(small) >= _JOINED:
            self._batches[self._joined :] = [np.concatenate(small, axis=1)]
            self._joined += 1

    def state(self) -> State:
        """`predicted` and `true`, each (N, K) float64."""
        predicted, true = self._pairs()
        return {"predicted": predicted, "true": true}

    def merge(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take in the values of another set with as many columns."""
        self.update(state["predicted"], state["true"])

    def total(self) -> int:
        """Examples taken in so far."""
        return sum(batch.shape[1] for batch in self._batches)

    def per_column(self) -> list[dict[str, Estimate]]:
        """For each column its mae, rmse, r2, pearson and spearman, with their intervals.

        They are scikit-learn's and scipy's. Undefined are a correlation with a constant, an r2 or
        a correlation of one example, and all of no example.

        Intervals of mae, rmse and r2 are of normal theory for large samples (the delta method:
        A. W. van der Vaart, "Asymptotic Statistics", 1998, chapter 3): each is a function of
        means over examples. Those of the correlations are by Fisher's z (R. A. Fisher, "On the
        'probable error' of a coefficient of correlation deduced from a small sample", Metron 1
        (1921), 3-32), which needs four examples, for Spearman's with the standard error of
        D. G. Bonett, T. A. Wright, "Sample size requirements for estimating Pearson, Kendall and
        Spearman correlations", Psychometrika 65 (2000), 23-28.
        """
        pairs = self._pairs()
        return [_estimates(*pairs[:, :, column]) for column in range(self.num_values)]

    def values(self) -> dict[str, float | None]:
        """mae, rmse, r2, pearson and spearman: means over the columns.

        None where the score of any column is undefined.
        """
        return {name: _mean([e.value for e in row]) for name, row in self._by_name().items()}

    def intervals(self) -> dict[str, Interval | None]:
        """95% intervals of `values`: means of the columns' lower and of their upper ends.

        The standard error of a mean is at most the mean of the standard errors, however the
        columns depend on each other, so for several columns the intervals are wide enough.
        """
        intervals: dict[str, Interval | None] = {}
        for name, row in self._by_name().items():
            ends = [e.interval or (None, None) for e in row]
            low, high = _mean([end[0] for end in ends]), _mean([end[1] for end in ends])
            intervals[name] = None if low is None or high is None else (low, high)
        return intervals

    def baseline(self, means: Any) -> dict[str, float | None]:
        """`values` if the prediction were always `means`, (K,): the bar to pass.

        Its correlations are undefined. Take the means of the training data.
        """
        always = RegressionCounts(self.num_values)
        true = self._pairs()[1]
        answer = np.asarray(means, dtype=np.float64).reshape(self.num_values)
        always.update(np.broadcast_to(answer, true.shape), true)
        return always.values()

    def _by_name(self) -> dict[str, list[Estimate]]:
        columns = self.per_column()
        return {name: [column[name] for column in columns] for name in columns[0]}

    def _pairs(self) -> Reals:
        """(2, N, K): all predicted and true values, the examples in sorted order."""
        pairs = np.concatenate([np.empty((2, 0, self.num_values)), *self._batches], axis=1)
        order = np.lexsort(np.concatenate(pairs.transpose(0, 2, 1)))
        return pairs[:, order]


def _mean(numbers: list[float | None]) -> float | None:
    defined = [number for number in numbers if number is not None]
    return mean_of(defined) if len(defined) == len(numbers) else None


def _estimates(predicted: Reals, true: Reals) -> dict[str, Estimate]:
    """Every score of one column, from its values, each (N,)."""
    count = len(true)
    if not count:
        return dict.fromkeys(("mae", "rmse", "r2", "pearson", "spearman"), Estimate(None, None))
    moments = Moments()
    moments.update(predicted, true)
    mae, mse, r2, pearson = (
        float(x[0]) for x in (moments.mae(), moments.mse(), moments.r2(), moments.pearson())
    )
    rank, error = spearman(predicted, true), predicted - true
    low, high = normal_interval(mse, error**2) or (math.nan, math.nan)
    # How each example moves r2 = 1 - mean(error^2) / variance, to first order.
    spread = (true - true.mean()) ** 2
    variance = math.nan if moments.constant()[1, 0] else float(spread.mean())
    return {
        "mae": _estimate(mae, normal_interval(mae, np.abs(error)), least=0.0),
        "rmse": _estimate(math.sqrt(mse), (math.sqrt(max(low, 0.0)), math.sqrt(high)), least=0.0),
        "r2": _estimate(r2, normal_interval(r2, (error**2 - (1 - r2) * spread) / variance)),
        "pearson": _estimate(pearson, _fisher(pearson, count, 1.0)),
        "spearman": _estimate(rank, _fisher(rank, count, 1 + rank**2 / 2)),
    }


def _estimate(value: float, interval: Interval | None, least: float = -math.inf) -> Estimate:
    """With None for what is undefined, cut to what the score can be."""
    if math.isnan(value):
        return Estimate(None, None)
    low, high = interval or (math.nan, math.nan)
    return Estimate(value, None if math.isnan(low + high) else (max(low, least), high))


def _fisher(r: float, count: int, scale: float) -> Interval:
    """95% interval of a correlation, its z having the variance `scale` / (count - 3)."""
    if count < 4 or math.isnan(r):
        return math.nan, math.nan
    if abs(r) == 1.0:
        return r, r
    z, spread = math.atanh(r), Z95 * math.sqrt(scale / (count - 3))
    return math.tanh(z - spread), math.tanh(z + spread)


def spearman(predicted: Reals, true: Reals) -> float:
    """Correlation of the ranks of values, each (N,), ties sharing their mean rank; or NaN."""
    moments = Moments()
    moments.update(ranks(predicted), ranks(true))
    return float(moments.pearson()[0])


def ranks(values: Reals) -> Reals:
    """Ranks from 1, equal values sharing the mean of the ranks they span."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    shared: Reals = (last - (sizes - 1) / 2)[group]
    return shared
