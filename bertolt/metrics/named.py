"""The metrics of `load_metric`: the Hugging Face names, options and keys over our counts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from bertolt.base.errors import UsageError
from bertolt.metrics.arrays import paired_ids, paired_reals
from bertolt.metrics.counts import ClassScore, Tally, divide
from bertolt.metrics.metric import Metric
from bertolt.metrics.regression import Moments, Reals, RegressionCounts, ranks, spearman
from bertolt.metrics.spans import SpanCounts
from bertolt.metrics.tags import spans_of

AVERAGES = ("binary", "micro", "macro", "weighted", None)
SHARES: dict[str | None, int | None] = {"true": 1, "pred": 0, "all": None}


class PairMetric(Metric):
    """Counts of (reference, prediction): they grow with the classes, not with the examples."""

    def _clear(self) -> None:
        self._pairs: Counter[tuple[int, int]] = Counter()

    def _add(self, predictions: Any, references: Any) -> int:
        guessed, true = paired_ids(predictions, references, self._place)
        self._pairs.update(zip(true.tolist(), guessed.tolist(), strict=True))
        return len(true)

    def _chosen(self, labels: Sequence[int] | None = None) -> list[int]:
        """The labels that take part: by default every id seen on either side, ascending."""
        if labels is not None:
            return [int(label) for label in labels]
        return sorted({label for pair in self._pairs for label in pair})

    def _tally(self, labels: Sequence[int] | None = None) -> Tally:
        return Tally.of(self._pairs, self._chosen(labels))

    def _check(self, what: str, value: str | None, choices: Sequence[str | None]) -> None:
        if value not in choices:
            raise UsageError(
                f"{what} is {value!r}",
                place=self._place,
                fix=f"choose one of {', '.join(map(repr, choices))}",
            )


class Accuracy(PairMetric):
    """Share of predictions that are right, or with `normalize=False` their number."""

    def _result(self, *, normalize: bool = True) -> dict[str, float]:
        hits = int(self._tally().hits.sum())
        return {self.name: hits / self._added if normalize else float(hits)}


class AveragedScore(PairMetric):
    """Precision, recall or F1, by `name`, averaged as scikit-learn does.

    Options of `compute`:
        average: "binary" scores `pos_label` alone; "micro" pools the counts of all labels;
            "macro" is the plain mean over labels; "weighted" weighs them by their references;
            None gives a list with one score for each label.
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
    ) -> dict[str, float | list[float]]:
        self._check("average", average, AVERAGES)
        tally = self._tally([self._positive(pos_label)] if average == "binary" else labels)
        tally = tally.pooled() if average == "micro" else tally
        scores = tally.scores(self.name, 0.0 if zero_division == "warn" else float(zero_division))
        if average is None:
            return {self.name: scores.tolist()}
        # Without a single reference the weights are all zero, and the mean is a plain one.
        weighted = average == "weighted" and tally.support.any()
        return {self.name: float(np.average(scores, weights=tally.support if weighted else None))}

    def _positive(self, pos_label: int) -> int:
        present = self._chosen()
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


class MatthewsCorrelation(PairMetric):
    """Correlation of two labellings, from -1 to 1; 0 when either has one class only."""

    def _result(self) -> dict[str, float]:
        return {self.name: self._tally().matthews()}


class ConfusionMatrixMetric(PairMetric):
    """Counts with references in rows and predictions in columns: a list of lists.

    Options of `compute`: `labels` selects and orders the classes; `normalize` divides by the sum
    of each row ("true"), of each column ("pred") or of the whole ("all").
    """

    def _result(
        self, *, labels: Sequence[int] | None = None, normalize: str | None = None
    ) -> dict[str, list[list[float]]]:
        chosen = self._chosen(labels)
        counts = np.array(
            [[self._pairs[true, guessed] for guessed in chosen] for true in chosen], dtype=np.int64
        )
        if normalize is None:
            return {self.name: counts.tolist()}
        self._check("normalize", normalize, [*SHARES, None])
        sums = np.broadcast_to(counts.sum(axis=SHARES[normalize], keepdims=True), counts.shape)
        return {self.name: divide(counts, sums, 0.0).tolist()}


class MomentMetric(Metric):
    """Keeps sums over (prediction, reference): a few numbers for any amount of data."""

    def _clear(self) -> None:
        self._moments = Moments()

    def _add(self, predictions: Any, references: Any) -> int:
        guessed, true = paired_reals(predictions, references, self._place)
        self._moments.update(guessed, true)
        return len(true)


class SquaredError(MomentMetric):
    """Mean squared error, or with `squared=False` its root."""

    def _result(self, *, squared: bool = True) -> dict[str, float]:
        mean = float(self._moments.mse()[0])
        return {self.name: mean if squared else math.sqrt(mean)}


class AbsoluteError(MomentMetric):
    """Mean absolute error."""

    def _result(self) -> dict[str, float]:
        return {self.name: float(self._moments.mae()[0])}


class Pearson(MomentMetric):
    """Linear correlation, from -1 to 1; NaN when either side is constant."""

    def _result(self) -> dict[str, float]:
        _needs_two(self._added, self._place)
        return {self.name: float(self._moments.pearson()[0])}


class RSquared(MomentMetric):
    """Share of the references' variance that the predictions explain; see `Moments.r2`."""

    def _result(self) -> dict[str, float]:
        _needs_two(self._added, self._place)
        return {self.name: float(self._moments.r2()[0])}


class ValueMetric(Metric):
    """Keeps every value, for ranks cannot be summed: 16 bytes an example."""

    def _clear(self) -> None:
        self._counts = RegressionCounts()

    def _add(self, predictions: Any, references: Any) -> int:
        guessed, true = paired_reals(predictions, references, self._place)
        self._counts.update(guessed, true)
        return len(true)

    def _values(self) -> tuple[Reals, Reals]:
        """All predictions and all references."""
        state = self._counts.state()
        return state["predicted"].ravel(), state["true"].ravel()


class Spearman(ValueMetric):
    """Correlation of ranks, ties sharing their mean rank; NaN when either side is constant."""

    def _result(self) -> dict[str, float]:
        _needs_two(self._added, self._place)
        return {self.name: spearman(*self._values())}


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
        above = float(ranks(scores)[positive].sum()) - positives * (positives + 1) / 2
        return {self.name: above / (positives * negatives)}


def _needs_two(count: int, place: str) -> None:
    if count < 2:
        raise UsageError(
            "one example has no variance", place=place, fix="add at least two examples"
        )


class SeqEval(Metric):
    """Precision, recall and F1 of whole entities, for each type and overall; tag accuracy.

    An entity counts as found when its type and both ends agree; `spans_of` says how tags are
    read. Predictions and references are lists of sentences, each a list of tags. A share of
    nothing is 0, as in conlleval.
    """

    def _clear(self) -> None:
        self._counts = SpanCounts()

    def _add(
        self, predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]
    ) -> int:
        if len(predictions) != len(references):
            raise UsageError(
                f"{len(predictions)} predictions and {len(references)} references",
                place=self._place,
                fix="give one prediction for each reference",
            )
        batch = SpanCounts()
        for row, (guessed, true) in enumerate(zip(predictions, references, strict=True)):
            self._check_sentence(row, guessed, true)
            spans = (spans_of(tags, "BIO") for tags in (guessed, true))
            batch.update(*spans, predicted_tags=guessed, true_tags=true)
        self._counts.merge(batch.state())
        return len(predictions)

    def _check_sentence(self, row: int, guessed: Sequence[str], true: Sequence[str]) -> None:
        if isinstance(guessed, str) or isinstance(true, str):
            raise UsageError(
                f"sentence {row} is a single string",
                place=self._place,
                fix="give a list of sentences, each a list of tags",
            )
        if len(guessed) != len(true):
            raise UsageError(
                f"sentence {row} has {len(guessed)} predicted tags and {len(true)} true ones",
                place=self._place,
                fix="give one tag for each word, on both sides",
            )

    def _result(self) -> dict[str, Any]:
        result: dict[str, Any] = {
            kind: {**_or_zero(score), "number": score.support}
            for kind, score in self._counts.per_type().items()
        }
        overall = _or_zero(self._counts.overall())
        result.update({f"overall_{key}": value for key, value in overall.items()})
        return {**result, "overall_accuracy": self._counts.values()["token_accuracy"] or 0.0}


def _or_zero(score: ClassScore) -> dict[str, float]:
    return {
        "precision": score.precision or 0.0,
        "recall": score.recall or 0.0,
        "f1": score.f1 or 0.0,
    }
