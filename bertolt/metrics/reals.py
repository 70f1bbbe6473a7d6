"""Metrics over real numbers: errors, correlations, and the area under the ROC curve."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertolt.base.errors import UsageError
from bertolt.metrics.arrays import paired_reals
from bertolt.metrics.metric import Metric

Reals = NDArray[np.float64]


class SquaredError(Metric):
    """Mean squared error, or with `squared=False` its root. Keeps one sum."""

    def _clear(self) -> None:
        self._sum = 0.0

    def _add(self, predictions: Any, references: Any) -> int:
        guessed, true = paired_reals(predictions, references, self._place)
        self._sum += float(np.sum((guessed - true) ** 2))
        return len(true)

    def _result(self, *, squared: bool = True) -> dict[str, float]:
        mean = self._sum / self._added
        return {self.name: mean if squared else math.sqrt(mean)}


class AbsoluteError(Metric):
    """Mean absolute error. Keeps one sum."""

    def _clear(self) -> None:
        self._sum = 0.0

    def _add(self, predictions: Any, references: Any) -> int:
        guessed, true = paired_reals(predictions, references, self._place)
        self._sum += float(np.sum(np.abs(guessed - true)))
        return len(true)

    def _result(self) -> dict[str, float]:
        return {self.name: self._sum / self._added}


class Moments:
    """Means, squared deviations and co-deviation of pairs (x, y), merged batch by batch.

    Each batch is centred on its own mean before it is merged, so nothing cancels when the values
    are large beside their spread. Source of the merge: T. F. Chan, G. H. Golub, R. J. LeVeque,
    "Algorithms for computing the sample variance", The American Statistician 37 (1983), 242-247.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean_x = self.mean_y = 0.0
        self.xx = self.yy = self.xy = 0.0
        self._low = np.full(2, np.inf)
        self._high = np.full(2, -np.inf)

    def update(self, x: Reals, y: Reals) -> None:
        """Merge a batch of pairs, each (B,)."""
        if not len(x):
            return
        mean_x, mean_y = float(x.mean()), float(y.mean())
        dx, dy = x - mean_x, y - mean_y
        total = self.count + len(x)
        shift_x, shift_y = mean_x - self.mean_x, mean_y - self.mean_y
        weight = self.count * len(x) / total
        self.xx += float(dx @ dx) + shift_x * shift_x * weight
        self.yy += float(dy @ dy) + shift_y * shift_y * weight
        self.xy += float(dx @ dy) + shift_x * shift_y * weight
        self.mean_x += shift_x * len(x) / total
        self.mean_y += shift_y * len(x) / total
        self.count = total
        self._low = np.minimum(self._low, (x.min(), y.min()))
        self._high = np.maximum(self._high, (x.max(), y.max()))

    def constant(self) -> tuple[bool, bool]:
        """Whether x, and whether y, has one value only; sums would leave rounding behind."""
        x, y = self._low == self._high
        return bool(x), bool(y)

    def correlation(self) -> float:
        """Pearson's r; NaN when x or y is constant, for then it is undefined."""
        if any(self.constant()):
            return math.nan
        r = self.xy / (math.sqrt(self.xx) * math.sqrt(self.yy))
        return max(-1.0, min(1.0, r))


class MomentMetric(Metric):
    """Keeps the moments of (reference, prediction): a few numbers for any amount of data."""

    def _clear(self) -> None:
        self._moments = Moments()

    def _add(self, predictions: Any, references: Any) -> int:
        guessed, true = paired_reals(predictions, references, self._place)
        self._moments.update(true, guessed)
        return len(true)


class Pearson(MomentMetric):
    """Linear correlation, from -1 to 1; NaN when either side is constant."""

    def _result(self) -> dict[str, float]:
        _needs_two(self._added, self._place)
        return {self.name: self._moments.correlation()}


class RSquared(MomentMetric):
    """Share of the references' variance that the predictions explain; 1 is perfect.

    For constant references it is 1 when every prediction is exact and 0 otherwise, as in
    scikit-learn.
    """

    def _clear(self) -> None:
        super()._clear()
        self._residual = 0.0

    def _add(self, predictions: Any, references: Any) -> int:
        guessed, true = paired_reals(predictions, references, self._place)
        self._residual += float(np.sum((guessed - true) ** 2))
        return super()._add(guessed, true)

    def _result(self) -> dict[str, float]:
        _needs_two(self._added, self._place)
        if self._moments.constant()[0]:
            return {self.name: float(self._residual == 0.0)}
        return {self.name: 1.0 - self._residual / self._moments.xx}


class ValueMetric(Metric):
    """Keeps every value, for ranks cannot be summed: 16 bytes an example."""

    def _clear(self) -> None:
        self._batches: list[tuple[Reals, Reals]] = []

    def _add(self, predictions: Any, references: Any) -> int:
        batch = paired_reals(predictions, references, self._place)
        self._batches.append(batch)
        return len(batch[0])

    def _values(self) -> tuple[Reals, Reals]:
        """All predictions and all references."""
        predictions, references = zip(*self._batches, strict=True)
        return np.concatenate(predictions), np.concatenate(references)


class Spearman(ValueMetric):
    """Correlation of ranks, ties sharing their mean rank; NaN when either side is constant."""

    def _result(self) -> dict[str, float]:
        _needs_two(self._added, self._place)
        moments = Moments()
        moments.update(*(_ranks(values) for values in self._values()))
        return {self.name: moments.correlation()}


class RocAuc(ValueMetric):
    """Chance that a positive example scores above a negative one, ties counting a half.

    The predictions are scores, not class ids; the references have two values, of which the
    greater is positive. Computed from rank sums, which equals the trapezoidal area: J. A. Hanley,
    B. J. McNeil, "The meaning and use of the area under a receiver operating characteristic (ROC)
    curve", Radiology 143 (1982), 29-36.
    """

    def _result(self) -> dict[str, float]:
        scores, references = self._values()
        classes = np.unique(references)
        if len(classes) != 2:
            raise UsageError(
                f"the references have {len(classes)} class(es), and the curve needs 2",
                place=self._place,
                fix="evaluate on data that holds both classes, and no third",
            )
        positive = references == classes[1]
        positives, negatives = int(positive.sum()), int((~positive).sum())
        above = float(_ranks(scores)[positive].sum()) - positives * (positives + 1) / 2
        return {self.name: above / (positives * negatives)}


def _ranks(values: Reals) -> Reals:
    """Ranks from 1, equal values sharing the mean of the ranks they span."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    ranks: Reals = (last - (sizes - 1) / 2)[group]
    return ranks


def _needs_two(count: int, place: str) -> None:
    if count < 2:
        raise UsageError(
            "one example has no variance", place=place, fix="add at least two examples"
        )
