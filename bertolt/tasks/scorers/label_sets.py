"""Scores of any number of labels a row: whatever the thresholds are, they follow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertolt.base.format import percent, plural
from bertolt.metrics import MultiLabelCounts
from bertolt.tasks import page
from bertolt.tasks.base import Answer, Example, Scorer
from bertolt.tasks.table import interval_words, score_table, shown

NO_LABEL = "no label"


class LabelSetScorer(Scorer):
    """Probabilities and true labels of every row.

    Args:
        labels: names, in the order of the model's outputs.
        thresholds: of each label.
    """

    shown = ("f1_micro", "f1_macro")

    def __init__(self, labels: Sequence[str], thresholds: Sequence[float]) -> None:
        self.labels, self.thresholds = labels, thresholds
        self._column = {name: number for number, name in enumerate(labels)}
        self._shares: list[NDArray[np.float64]] = []
        self._truths: list[NDArray[np.int64]] = []

    def add(self, answer: Answer, example: Example) -> float:
        """Wrong by the probabilities that were on the wrong side, added up."""
        shares = np.array([answer["probabilities"][name] for name in self.labels])
        true = np.zeros(len(self.labels), dtype=np.int64)
        true[[self._column[name] for name in example["label"]]] = 1
        self._shares.append(shares)
        self._truths.append(true)
        said = shares >= np.array(self.thresholds)
        return float(np.abs(shares - true)[said != true.astype(bool)].sum())

    def state(self) -> dict[str, NDArray[Any]]:
        """Probabilities and true labels, (N, C) each."""
        return {"shares": self.shares(), "truths": self.truths()}

    def merge(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Put other rows behind these."""
        self._shares += list(state["shares"])
        self._truths += list(state["truths"])

    def shares(self) -> NDArray[np.float64]:
        """(N, C) probabilities."""
        return np.array(self._shares, dtype=np.float64).reshape(-1, len(self.labels))

    def truths(self) -> NDArray[np.int64]:
        """(N, C) ones and zeros."""
        return np.array(self._truths, dtype=np.int64).reshape(-1, len(self.labels))

    def counts(self) -> MultiLabelCounts:
        """The counts that follow from the thresholds."""
        counts = MultiLabelCounts(len(self.labels))
        counts.update(self.shares() >= np.array(self.thresholds), self.truths())
        return counts

    def baseline(self) -> dict[str, float]:
        """The best micro F1, and the best share of exact sets, of giving one set to all rows."""
        truths = self.truths()
        usual = Counter(map(tuple, truths.tolist())).most_common(1)
        exact = usual[0][1] / len(truths) if usual else 0.0
        hits, size = int(truths[:, self._best_set()].sum()), len(self._best_set()) * len(truths)
        return {"f1_micro": 2 * hits / max(size + truths.sum(), 1), "subset_accuracy": exact}

    def _best_set(self) -> list[int]:
        """The labels that have the best micro F1 when all rows are given them.

        2·hits / (given + true) is the highest for some of the most frequent labels, for of two
        sets of one size that of the more frequent labels has more hits.
        """
        counts = self.truths().sum(axis=0)
        order = np.argsort(-counts, kind="stable")
        given = np.arange(1, len(counts) + 1) * len(self._truths)
        scores = 2 * counts[order].cumsum() / np.maximum(given + counts.sum(), 1)
        return sorted(order[: int(scores.argmax()) + 1].tolist())

    def values(self) -> dict[str, Any]:
        """F1 over all, labels and rows, exact sets, and each label by name with its threshold."""
        counts, baseline = self.counts(), self.baseline()
        named = zip(self.labels, self.thresholds, counts.per_label(), strict=True)
        return {
            **counts.values(),
            **{f"{name}_interval": ends for name, ends in counts.intervals().items()},
            "baseline_f1_micro": baseline["f1_micro"],
            "baseline_subset_accuracy": baseline["subset_accuracy"],
            "rows": counts.total(),
            "per_class": {name: {**vars(score), "threshold": at} for name, at, score in named},
        }

    def lines(self, loss: float) -> Iterator[str]:
        """Micro F1 against one set for all rows, and a line for each label."""
        counts, baseline = self.counts(), self.baseline()
        values, ends = counts.values(), counts.intervals()
        yield (
            f"Micro F1 {interval_words(values['f1_micro'], ends['f1_micro'])} "
            f"on {plural(counts.total(), 'row')}"
        )
        yield f"  against {baseline['f1_micro']:.4f} for always giving '{self._best_words()}'"
        yield (
            f"  macro F1 {values['f1_macro']:.4f}, F1 of rows {values['f1_samples']:.4f}, exact "
            f"sets {values['subset_accuracy']:.4f} ({baseline['subset_accuracy']:.4f} for always "
            f"giving the most frequent set), loss {loss:.4f}"
        )
        yield ""
        yield from score_table("label", self.labels, counts.per_label())

    def explain(self) -> dict[str, Any]:
        """Micro F1, and each label with its threshold."""
        counts, baseline = self.counts(), self.baseline()
        values, ends, scores = counts.values(), counts.intervals(), counts.per_label()
        f1 = page.measure(values["f1_micro"], ends["f1_micro"])
        guess = {"name": "always giving the same labels", "mark": "always the same labels"}
        always = f"Always giving “{self._best_words()}” gives"
        exact = f"{percent(baseline['subset_accuracy'])} for the most frequent set"
        lead = (
            f"{page.LABELS_LEAD} The thresholds were chosen on these rows, which flatters them "
            "a little."
        )
        return page.part(
            page.headline(
                "Micro F1", f1, counts.total(), guess | page.measure(baseline["f1_micro"])
            ),
            tiles=[
                page.share("Macro F1", values["f1_macro"]),
                page.share("F1 of rows", values["f1_samples"]),
                page.share("Exact sets", values["subset_accuracy"], exact),
            ],
            curves=[page.curve("f1_micro", "Micro F1", f1)],
            blocks=[
                page.score_block(
                    self.labels, scores, lead=lead, more={"Threshold": self.thresholds}
                )
            ],
            cautions=[
                *page.no_better(
                    "guessing",
                    values["f1_micro"],
                    baseline["f1_micro"],
                    f"{always} {percent(baseline['f1_micro'])}.",
                ),
                *page.label_cautions(self.labels, scores),
            ],
            calm=["every label was predicted"],
        )

    def _best_words(self) -> str:
        return shown(", ".join(self.labels[column] for column in self._best_set()))
