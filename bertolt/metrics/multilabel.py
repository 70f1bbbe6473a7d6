"""Counts where an example has any number of labels, and the thresholds that decide on them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from bertolt.base.errors import UsageError
from bertolt.metrics.arrays import as_flags, paired_columns
from bertolt.metrics.counts import (
    ClassScore,
    Interval,
    State,
    Tally,
    mean_of,
    same_shape,
    wilson_interval,
)


class MultiLabelCounts:
    """Counts of predicted and true labels, any number of `num_labels` for each example.

    All of them are whole numbers, so the scores do not depend on order, batches or merging.
    """

    def __init__(self, num_labels: int) -> None:
        if num_labels < 1:
            raise UsageError(f"num_labels is {num_labels}", fix="give at least one label")
        self.num_labels = num_labels
        # Right predictions, predictions and references of each label.
        self._labels: NDArray[np.int64] = np.zeros((3, num_labels), dtype=np.int64)
        # How many examples have so many right labels, and so many predicted and true ones
        # together. The F1 of an example follows from the two, so no rounded sum is kept.
        self._examples: Counter[tuple[int, int]] = Counter()

    def update(self, predicted: Any, true: Any) -> None:
        """Count a batch: predicted and true labels, each (N, C) of booleans or of 0 and 1.

        Raises:
            UsageError: another shape, or other values; nothing is counted then.
        """
        place = "MultiLabelCounts.update"
        grids = paired_columns(predicted, true, self.num_labels, place)
        guessed, flags = (as_flags(grid, "labels", place) for grid in grids)
        hits = guessed & flags
        self._labels += np.stack([x.sum(axis=0) for x in (hits, guessed, flags)])
        right, sizes = hits.sum(axis=1), guessed.sum(axis=1) + flags.sum(axis=1)
        self._examples.update(zip(right.tolist(), sizes.tolist(), strict=True))

    def state(self) -> State:
        """`labels`, (3, C): right, predicted and true; `examples`, (M, 3): the distinct pairs of
        right labels and of predicted and true ones, each with its number of examples."""
        rows = [(*pair, count) for pair, count in sorted(self._examples.items())]
        examples = np.array(rows, dtype=np.int64).reshape(-1, 3)
        return {"labels": self._labels.copy(), "examples": examples}

    def merge(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Add the counts of another set over the same labels."""
        self._labels += same_shape(state, "labels", self._labels.shape)
        for right, size, count in state["examples"].tolist():
            self._examples[right, size] += count

    def total(self) -> int:
        """Examples counted so far."""
        return self._examples.total()

    def tally(self) -> Tally:
        """Right predictions, predictions and references of each label."""
        return Tally(*self._labels)

    def per_label(self) -> list[ClassScore]:
        """One `ClassScore` for each label; there a share of nothing is None."""
        return self.tally().class_scores()

    def overall(self) -> ClassScore:
        """Precision, recall and F1 of all labels pooled, with their intervals."""
        return self.tally().pooled().class_scores()[0]

    def values(self) -> dict[str, float | None]:
        """f1_micro, f1_macro, f1_samples, precision_micro, recall_micro, subset_accuracy.

        They are scikit-learn's, with `zero_division=0`: a label that is neither predicted nor
        true anywhere counts 0 in f1_macro, and an example for which no label is predicted and
        none is true counts 0 in f1_samples, but as right in subset_accuracy. A precision without
        predictions and a recall without true labels are None; so is all before the first update.
        """
        names = ("f1_micro", "f1_macro", "f1_samples", "precision_micro", "recall_micro")
        total, overall = self.total(), self.overall()
        if not total:
            return dict.fromkeys((*names, "subset_accuracy"))
        macro = mean_of(self.tally().scores("f1").tolist())
        pairs = self._examples.items()
        samples = math.fsum(2 * n * right / size for (right, size), n in pairs if size) / total
        scores = (overall.f1 or 0.0, macro, samples, overall.precision, overall.recall)
        return {**dict(zip(names, scores, strict=True)), "subset_accuracy": self._exact() / total}

    def intervals(self) -> dict[str, Interval | None]:
        """95% intervals: Wilson's for proportions, and for f1_micro as in `ClassScore`."""
        overall, total = self.overall(), self.total()
        return {
            "f1_micro": overall.f1_interval,
            "precision_micro": overall.precision_interval,
            "recall_micro": overall.recall_interval,
            "subset_accuracy": wilson_interval(self._exact(), total) if total else None,
        }

    def _exact(self) -> int:
        # As many predicted and true ones as twice the right ones: all of either are right.
        return sum(n for (right, size), n in self._examples.items() if size == 2 * right)


def best_thresholds(probabilities: Any, true: Any) -> NDArray[np.float64]:
    """(C,) the thresholds with the highest micro F1 of all labels together on these examples.

    A label is predicted where its probability is at least its threshold. Every set of examples
    that a threshold can choose is tried, the empty one too: a label that cannot be told apart is
    not given to every example, as it would be for the best F1 of its own. The threshold lies in
    the middle between the lowest probability that it takes in and the next below (or 0), or at 0.5
    where that lies between them. Of equally good ones the nearest to 0.5 is taken; a label that is
    never true has 0.5.

    The ratio 2·hits / (predicted + true) is the highest where no threshold can raise
    2·hits - ratio·predicted (Dinkelbach, 1967), which each label does by itself.

    Args:
        probabilities: (N, C), from 0 to 1.
        true: (N, C) booleans, or 0 and 1.

    Raises:
        UsageError: another shape, or other values.
    """
    scores, flags = paired_columns(probabilities, true, None, "best_thresholds")
    truth, place = as_flags(flags, "true labels", "best_thresholds"), "best_thresholds"
    if scores.size and not 0 <= scores.min() <= scores.max() <= 1:
        raise UsageError(
            f"probabilities go from {scores.min()} to {scores.max()}",
            place=place,
            fix="give probabilities from 0 to 1; for logits, their sigmoid",
        )
    columns = zip(scores.T, truth.T, strict=True)
    labels = [_Cuts.of(column, flags) for column, flags in columns]
    # A micro F1 of 0 asks for hits alone; from there it only rises, until no label can raise it.
    ratio = 0.0
    while True:
        best = [(cuts, cuts.best(ratio)) for cuts in labels]
        hits = sum(int(cuts.hits[cut]) for cuts, cut in best)
        taken = sum(int(cuts.taken[cut]) for cuts, cut in best)
        raised = 2 * hits / max(taken + int(truth.sum()), 1)
        if raised <= ratio:
            return np.array([cuts.thresholds[cut] for cuts, cut in best])
        ratio = raised


class _Cuts(NamedTuple):
    """What the thresholds of one label can choose: how many examples, and how many hits."""

    thresholds: NDArray[np.float64]
    taken: NDArray[np.int64]
    hits: NDArray[np.int64]

    @classmethod
    def of(cls, scores: NDArray[np.float64], true: NDArray[np.bool_]) -> Self:
        """From no example to all of them; only 0.5 for a label that is never true."""
        if not true.any():
            return cls(np.array([0.5]), np.array([(scores >= 0.5).sum()]), np.array([0]))
        order = np.argsort(-scores, kind="stable")
        ordered, hits = scores[order], np.cumsum(true[order], dtype=np.int64)
        # Equal probabilities are taken in together: only the last of each can be the end.
        last = np.flatnonzero(np.append(np.diff(ordered) < 0, True))
        upper = ordered[last]
        lower = np.append(upper[1:], 0.0)
        middle = (upper + lower) / 2
        thresholds = np.where(middle > lower, middle, upper)
        thresholds[(lower < 0.5) & (upper >= 0.5)] = 0.5
        taken, hits = last + 1, hits[last]
        if ordered[0] < 1:
            above = max((ordered[0] + 1) / 2, float(np.nextafter(ordered[0], 1)))
            above = 0.5 if ordered[0] < 0.5 else above
            thresholds = np.append(thresholds, above)
            taken, hits = np.append(taken, 0), np.append(hits, 0)
        return cls(thresholds, taken, hits)

    def best(self, ratio: float) -> int:
        """The cut with the highest 2·hits - ratio·taken, of equals the nearest to 0.5."""
        gains = 2 * self.hits - ratio * self.taken
        equals = np.flatnonzero(gains >= gains.max() - 1e-9)
        return int(equals[np.argmin(np.abs(self.thresholds[equals] - 0.5))])
