"""Metrics over class ids. They keep one count for each (reference, prediction) pair seen."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertolt.base.errors import UsageError
from bertolt.metrics.arrays import paired_ids
from bertolt.metrics.metric import Metric

AVERAGES = ("binary", "micro", "macro", "weighted", None)


class CountingMetric(Metric):
    """Holds pair counts: memory grows with the classes, not with the examples."""

    def _clear(self) -> None:
        self._pairs: Counter[tuple[int, int]] = Counter()

    def _add(self, predictions: Any, references: Any) -> int:
        guessed, true = paired_ids(predictions, references, self._place)
        self._pairs.update(zip(true.tolist(), guessed.tolist(), strict=True))
        return len(true)

    def _labels(self) -> list[int]:
        """Every id among the references or the predictions, ascending."""
        return sorted({label for pair in self._pairs for label in pair})

    def _hits(self) -> int:
        return sum(count for (true, guessed), count in self._pairs.items() if true == guessed)

    def _per_label(self) -> tuple[Counter[int], Counter[int], Counter[int]]:
        """Right predictions, all predictions and references of each label."""
        hits, predicted, support = Counter[int](), Counter[int](), Counter[int]()
        for (true, guessed), count in self._pairs.items():
            hits[true] += count if true == guessed else 0
            predicted[guessed] += count
            support[true] += count
        return hits, predicted, support


class Accuracy(CountingMetric):
    """Share of predictions that are right, or with `normalize=False` their number."""

    def _result(self, *, normalize: bool = True) -> dict[str, float]:
        hits = self._hits()
        return {self.name: hits / self._added if normalize else float(hits)}


class AveragedScore(CountingMetric):
    """Precision, recall or F1, by `name`, averaged as scikit-learn does.

    Options of `compute`:
        average: "binary" scores `pos_label` alone; "micro" pools the counts of all labels;
            "macro" is the plain mean over labels; "weighted" weighs them by their references;
            None gives an array with one score for each label.
        pos_label: the label that "binary" scores.
        labels: which labels take part, and their order; by default all that occur, ascending.
        zero_division: the score of a label whose denominator is 0: 0 ("warn" is the same) or 1.
    """

    def _result(
        self,
        *,
        labels: Sequence[int] | None = None,
        pos_label: int = 1,
        average: str | None = "binary",
        zero_division: float | str = 0.0,
    ) -> dict[str, float | NDArray[np.float64]]:
        self._check_average(average)
        if average == "binary":
            chosen = [self._positive(pos_label)]
        else:
            chosen = self._labels() if labels is None else [int(label) for label in labels]
        hits, predicted, support = (
            np.array([counts[label] for label in chosen], dtype=np.int64)
            for counts in self._per_label()
        )
        if average == "micro":
            hits, predicted, support = (x.sum(keepdims=True) for x in (hits, predicted, support))
        undefined = 0.0 if zero_division == "warn" else float(zero_division)
        scores = _divide(*self._fraction(hits, predicted, support), undefined)
        if average is None:
            return {self.name: scores}
        # Without a single reference the weights are all zero, and the mean is a plain one.
        weights = support if average == "weighted" and support.any() else None
        return {self.name: float(np.average(scores, weights=weights))}

    def _fraction(
        self, hits: NDArray[np.int64], predicted: NDArray[np.int64], support: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Numerator and denominator of this score."""
        if self.name == "precision":
            return hits, predicted
        if self.name == "recall":
            return hits, support
        return 2 * hits, predicted + support

    def _check_average(self, average: str | None) -> None:
        if average not in AVERAGES:
            choices = ", ".join(repr(choice) for choice in AVERAGES)
            raise UsageError(
                f"average is {average!r}", place=self._place, fix=f"choose one of {choices}"
            )

    def _positive(self, pos_label: int) -> int:
        present = self._labels()
        if len(present) > 2:
            raise UsageError(
                f"average='binary' needs two classes, and there are {len(present)}",
                place=self._place,
                fix="give average='macro', 'micro', 'weighted' or None",
            )
        if len(present) == 2 and pos_label not in present:
            raise UsageError(
                f"pos_label={pos_label} is none of the labels {present}",
                place=self._place,
                fix=f"give pos_label={present[1]}",
            )
        return pos_label


def _divide(
    numerator: NDArray[np.int64], denominator: NDArray[np.int64], undefined: float
) -> NDArray[np.float64]:
    scores = np.full(numerator.shape, undefined, dtype=np.float64)
    np.divide(numerator, denominator, out=scores, where=denominator > 0)
    return scores


class MatthewsCorrelation(CountingMetric):
    """Correlation of two labellings, from -1 to 1; 0 when either has one class only.

    Source: J. Gorodkin, "Comparing two K-category assignments by a K-category correlation
    coefficient", Computational Biology and Chemistry 28 (2004), 367-374.
    """

    def _result(self) -> dict[str, float]:
        # Python's integers: the products pass 2^63 for large data sets.
        _, predicted, support = self._per_label()
        total = self._added
        covariance = self._hits() * total - sum(predicted[i] * support[i] for i in support)
        spread_true = total**2 - sum(n * n for n in support.values())
        spread_guessed = total**2 - sum(n * n for n in predicted.values())
        scale = math.sqrt(spread_true) * math.sqrt(spread_guessed)
        return {self.name: covariance / scale if scale else 0.0}


class ConfusionMatrixMetric(CountingMetric):
    """Counts with references in rows and predictions in columns, as an array.

    Options of `compute`: `labels` selects and orders the classes; `normalize` divides by the sum
    of each row ("true"), of each column ("pred") or of the whole ("all").
    """

    def _result(
        self, *, labels: Sequence[int] | None = None, normalize: str | None = None
    ) -> dict[str, NDArray[Any]]:
        chosen = self._labels() if labels is None else [int(label) for label in labels]
        counts = np.array(
            [[self._pairs[true, guessed] for guessed in chosen] for true in chosen], dtype=np.int64
        )
        if normalize is None:
            return {self.name: counts}
        axes: dict[str, int | None] = {"true": 1, "pred": 0, "all": None}
        if normalize not in axes:
            raise UsageError(
                f"normalize is {normalize!r}",
                place=self._place,
                fix="choose 'true', 'pred', 'all' or None",
            )
        sums = np.broadcast_to(counts.sum(axis=axes[normalize], keepdims=True), counts.shape)
        return {self.name: _divide(counts, sums, 0.0)}
