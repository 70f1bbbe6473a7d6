"""A confusion matrix that is counted batch by batch, and everything read off it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertolt.base.errors import UsageError
from bertolt.metrics.arrays import paired_ids
from bertolt.metrics.counts import (
    ClassScore,
    Interval,
    State,
    Tally,
    mean_of,
    same_shape,
    wilson_interval,
)


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

    def state(self) -> State:
        """`counts`, (C, C) int64."""
        return {"counts": self.counts.copy()}

    def merge(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Add the counts of another matrix over the same classes."""
        self.counts += same_shape(state, "counts", self.counts.shape)

    def values(self) -> dict[str, float | None]:
        """accuracy, f1_macro, matthews_correlation; None when nothing was counted."""
        if not self.total():
            return dict.fromkeys(("accuracy", "f1_macro", "matthews_correlation"))
        return {
            "accuracy": self.accuracy(),
            "f1_macro": self.f1_macro(),
            "matthews_correlation": self.tally().matthews(),
        }

    def intervals(self) -> dict[str, Interval | None]:
        """95% Wilson interval of the accuracy."""
        return {"accuracy": self.accuracy_interval() if self.total() else None}

    def tally(self) -> Tally:
        """Right predictions, predictions and references of each class."""
        return Tally(self.counts.diagonal(), self.counts.sum(axis=0), self.counts.sum(axis=1))

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
        return mean_of([score.f1 for score in self.per_class() if score.f1 is not None]) or 0.0

    def per_class(self) -> list[ClassScore]:
        """One `ClassScore` for each class, by id."""
        return self.tally().class_scores()

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
