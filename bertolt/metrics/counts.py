"""What all counts share: scores of labels, their intervals, and states that add up."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bertolt.base.errors import UsageError

Interval = tuple[float, float]
Ints = NDArray[np.int64]
State = dict[str, NDArray[Any]]
"""Arrays of int64 or float64 by name: all that a set of counts holds."""


class Counts(Protocol):
    """Counts taken batch by batch; the counts of parts, merged, are the counts of the whole."""

    def state(self) -> State:
        """A copy of all that was counted, to be sent and merged elsewhere."""

    def merge(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Add what another set of counts of the same kind and size has counted."""

    def values(self) -> dict[str, float | None]:
        """The scores by the names that the field has for them; what is undefined is None."""

    def intervals(self) -> dict[str, Interval | None]:
        """95% intervals of those scores that have one."""


Z95 = NormalDist().inv_cdf(0.975)
"""Standard errors on either side of a 95% interval."""


def normal_interval(
    value: float, terms: NDArray[np.float64], least: float = -math.inf, most: float = math.inf
) -> Interval | None:
    """95% interval of a score that errs as the mean of `terms` does, by their standard error, cut
    to what the score can be; None for fewer than 2."""
    if len(terms) < 2:
        return None
    spread = Z95 * float(terms.std(ddof=1)) / math.sqrt(len(terms))
    return max(least, value - spread), min(most, value + spread)


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Score interval for the proportion `successes / trials`, of at least one trial.

    It stays inside [0, 1] and keeps its coverage for few trials and for proportions near 0 and 1.
    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    Journal of the American Statistical Association 22 (1927), 209-212.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / trials
    scale = 1 + z * z / trials
    middle = (share + z * z / (2 * trials)) / scale
    spread = z / scale * math.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
    # The ends are exactly 0 and 1 at no and at all successes; rounding would miss them.
    low = 0.0 if successes == 0 else max(0.0, middle - spread)
    high = 1.0 if successes == trials else min(1.0, middle + spread)
    return low, high


@dataclass(frozen=True)
class ClassScore:
    """How one class fared. A share of nothing is None: it is undefined, which is not zero.

    Attributes:
        precision: share of the predictions of this class that are right; None if never predicted.
        recall: share of this class's examples that were found; None if it has no examples.
        f1: their harmonic mean; None if the class is neither predicted nor present.
        support: examples of this class.
        predicted: predictions of this class.
        precision_interval: 95% Wilson interval of the precision.
        recall_interval: 95% Wilson interval of the recall.
        f1_interval: 95% interval of the F1. F1 rises with the share J of right ones among all
            that are predicted or present, F1 = 2J / (1 + J); J is a proportion, and its Wilson
            interval is carried over. Source of the relation: D. J. Hand, P. Christen,
            N. Kirielle, "F*: an interpretable transformation of the F-measure", Machine Learning
            110 (2021), 451-456.
    """

    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    predicted: int
    precision_interval: Interval | None
    recall_interval: Interval | None
    f1_interval: Interval | None

    @classmethod
    def of(cls, hits: int, predicted: int, support: int) -> ClassScore:
        """The scores of a class with `hits` right ones among its predictions and its examples."""
        either = wilson_interval(hits, predicted + support - hits) if predicted + support else None
        return cls(
            precision=hits / predicted if predicted else None,
            recall=hits / support if support else None,
            f1=2 * hits / (support + predicted) if either else None,
            support=support,
            predicted=predicted,
            precision_interval=wilson_interval(hits, predicted) if predicted else None,
            recall_interval=wilson_interval(hits, support) if support else None,
            f1_interval=(_f1_of(either[0]), _f1_of(either[1])) if either else None,
        )


def _f1_of(jaccard: float) -> float:
    return 2 * jaccard / (1 + jaccard)


@dataclass(frozen=True)
class Tally:
    """Right predictions, all predictions and references of each label, each (C,) int64."""

    hits: Ints
    predicted: Ints
    support: Ints

    @classmethod
    def of(cls, pairs: Counter[tuple[Any, Any]], labels: Sequence[Any]) -> Tally:
        """The tally of `labels` in counts of (reference, prediction)."""
        predicted, support = Counter[Any](), Counter[Any]()
        for (true, guessed), count in pairs.items():
            support[true] += count
            predicted[guessed] += count
        rows = [(pairs[x, x], predicted[x], support[x]) for x in labels]
        return cls(*np.array(rows, dtype=np.int64).reshape(-1, 3).T)

    def pooled(self) -> Tally:
        """The sums over all labels, as one label: what micro averages are of."""
        return Tally(*(x.sum(keepdims=True) for x in (self.hits, self.predicted, self.support)))

    def class_scores(self) -> list[ClassScore]:
        """One `ClassScore` for each label."""
        rows = zip(self.hits, self.predicted, self.support, strict=True)
        return [ClassScore.of(*map(int, row)) for row in rows]

    def scores(self, name: str, undefined: float = 0.0) -> NDArray[np.float64]:
        """(C,) "precision", "recall" or "f1"; `undefined` where the denominator is 0."""
        top, bottom = {
            "precision": (self.hits, self.predicted),
            "recall": (self.hits, self.support),
            "f1": (2 * self.hits, self.predicted + self.support),
        }[name]
        return divide(top, bottom, undefined)

    def matthews(self) -> float:
        """Correlation of two labellings, from -1 to 1; 0 when either has one class only.

        Source: J. Gorodkin, "Comparing two K-category assignments by a K-category correlation
        coefficient", Computational Biology and Chemistry 28 (2004), 367-374.
        """
        # Python's integers: the products pass 2^63 for large data sets.
        predicted, support = self.predicted.tolist(), self.support.tolist()
        total = sum(support)
        common = sum(p * s for p, s in zip(predicted, support, strict=True))
        covariance = sum(self.hits.tolist()) * total - common
        spreads = [total**2 - sum(n * n for n in counts) for counts in (predicted, support)]
        scale = math.prod(math.sqrt(spread) for spread in spreads)
        return covariance / scale if scale else 0.0


def divide(top: Ints, bottom: Ints, undefined: float) -> NDArray[np.float64]:
    """`top / bottom`, and `undefined` where `bottom` is 0."""
    shares = np.full(top.shape, undefined, dtype=np.float64)
    np.divide(top, bottom, out=shares, where=bottom > 0)
    return shares


def same_shape(state: Mapping[str, NDArray[Any]], name: str, shape: tuple[int, ...]) -> Ints:
    """The array `name` of a state to be merged, which must have `shape`."""
    array = state[name]
    if array.shape != shape:
        raise UsageError(
            f"{name} of the state to merge has shape {array.shape}, not {shape}",
            fix="merge counts over as many labels",
        )
    return array


def mean_of(scores: list[float]) -> float | None:
    """The mean of the scores, whatever their order; None without scores."""
    return math.fsum(scores) / len(scores) if scores else None
