"""A confusion matrix that is counted batch by batch, and everything read off it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertolt.base.errors import UsageError
from bertolt.metrics.arrays import paired_ids

Interval = tuple[float, float]


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
    """

    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    predicted: int
    precision_interval: Interval | None
    recall_interval: Interval | None


class ConfusionMatrix:
    """Counts of (reference, prediction) pairs over `num_labels` classes.

    Memory is C x C whatever the number of examples, and the result does not depend on their
    order or on how they are batched. `counts` from several processes may be summed.

    Attributes:
        num_labels: C, the number of classes.
        counts: (C, C) int64; rows are references, columns predictions.
    """

    def __init__(self, num_labels: int) -> None:
        if num_labels < 1:
            raise UsageError(f"num_labels is {num_labels}", fix="give at least one class")
        self.num_labels = num_labels
        self.counts: NDArray[np.int64] = np.zeros((num_labels, num_labels), dtype=np.int64)

    def update(self, predictions: Any, references: Any) -> None:
        """Count a batch of class ids: lists, arrays or tensors of one shape.

        Raises:
            UsageError: shapes differ, or an id is not in 0..C-1; nothing is counted then.
        """
        place = "ConfusionMatrix.update"
        guessed, true = paired_ids(predictions, references, place)
        self._check_range(guessed, "predictions", place)
        self._check_range(true, "references", place)
        np.add.at(self.counts, (true, guessed), 1)

    def _check_range(self, ids: NDArray[np.int64], what: str, place: str) -> None:
        outside = np.flatnonzero((ids < 0) | (ids >= self.num_labels))
        if outside.size:
            raise UsageError(
                f"{what}[{outside[0]}] is {ids[outside[0]]}, outside 0..{self.num_labels - 1}",
                place=place,
                fix="use the label map of the training data; leave out ignored positions (-100)",
            )

    def total(self) -> int:
        """Examples counted so far."""
        return int(self.counts.sum())

    def accuracy(self) -> float:
        """Share of predictions that are right. Raises UsageError when nothing was counted."""
        return int(np.trace(self.counts)) / self._some()

    def accuracy_interval(self) -> Interval:
        """95% Wilson interval of the accuracy."""
        return wilson_interval(int(np.trace(self.counts)), self._some())

    def majority_accuracy(self) -> float:
        """Accuracy of always answering the references' most frequent class: the bar to pass."""
        return int(self.counts.sum(axis=1).max()) / self._some()

    def f1_macro(self) -> float:
        """Mean F1 over the classes that occur in the references or in the predictions.

        A class without one right answer counts 0; a class that occurs nowhere counts not at all.
        It is scikit-learn's `f1_score(average="macro", zero_division=0)` with its default labels.
        """
        self._some()
        scores = [score.f1 for score in self.per_class() if score.f1 is not None]
        return math.fsum(scores) / len(scores)

    def per_class(self) -> list[ClassScore]:
        """One `ClassScore` for each class, by id."""
        support, predicted = self.counts.sum(axis=1), self.counts.sum(axis=0)
        return [
            _class_score(int(self.counts[i, i]), int(support[i]), int(predicted[i]))
            for i in range(self.num_labels)
        ]

    def to_dict(self) -> dict[str, Any]:
        """All of the above as plain values for JSON; what is undefined is None."""
        return {
            "total": self.total(),
            "accuracy": self.accuracy(),
            "accuracy_interval": list(self.accuracy_interval()),
            "majority_accuracy": self.majority_accuracy(),
            "f1_macro": self.f1_macro(),
            "per_class": [asdict(score) for score in self.per_class()],
            "counts": self.counts.tolist(),
        }

    def _some(self) -> int:
        total = self.total()
        if total == 0:
            raise UsageError(
                "the confusion matrix is empty", fix="call update(predictions, references) first"
            )
        return total


def _class_score(hits: int, support: int, predicted: int) -> ClassScore:
    return ClassScore(
        precision=hits / predicted if predicted else None,
        recall=hits / support if support else None,
        f1=2 * hits / (support + predicted) if support + predicted else None,
        support=support,
        predicted=predicted,
        precision_interval=wilson_interval(hits, predicted) if predicted else None,
        recall_interval=wilson_interval(hits, support) if support else None,
    )
