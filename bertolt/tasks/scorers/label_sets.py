"""Scores of any number of labels a row: whatever the thresholds are, they follow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertolt.base.format import percent, plural
from bertolt.metrics import MultiLabelCounts, RowSums
from bertolt.metrics.calibration import heated_each
from bertolt.tasks import page
from bertolt.tasks.base import Answer, Example, Scorer
from bertolt.tasks.scorers.calibration import PLAIN, Calibration, Heat
from bertolt.tasks.scorers.unmeasured import Unmeasured
from bertolt.tasks.table import interval_words, score_table, shown

NO_LABEL = "no label"
_TOGETHER = 512  # rows that are counted at a time


class LabelSetScorer(Scorer):
    """Counts of labels by their thresholds; until `settle`, probabilities of every row too.

    Args:
        labels: names, in the order of the model's outputs.
        thresholds: of each label.
        heat: the temperature of the probabilities, and on how many rows it was fitted.
    """

    shown = ("f1_micro", "f1_macro")

    def __init__(
        self, labels: Sequence[str], thresholds: Sequence[float], heat: Heat = PLAIN
    ) -> None:
        self.labels, self.thresholds = labels, thresholds
        self._column = {name: number for number, name in enumerate(labels)}
        self._counts = MultiLabelCounts(len(labels))
        self._sets: Counter[bytes] = Counter()  # of true labels, a byte each
        self._calibration = Calibration(heat)
        # Rows that wait to be counted together, and those that were.
        self._waiting: list[tuple[NDArray[np.float64], NDArray[np.int64]]] = []
        self._kept: list[tuple[NDArray[np.float64], NDArray[np.bool_]]] | None = []

    def add(self, answer: Answer, example: Example) -> float:
        """Wrong by the probabilities that were on the wrong side, added up."""
        shares = np.array([answer["probabilities"][name] for name in self.labels])
        true = np.zeros(len(self.labels), dtype=np.int64)
        true[[self._column[name] for name in example["label"]]] = 1
        self._waiting.append((shares, true))
        if len(self._waiting) >= _TOGETHER:
            self._count()
        said = shares >= np.array(self.thresholds)
        return float(np.abs(shares - true)[said != true.astype(bool)].sum())

    def _count(self) -> None:
        """Count the rows that wait."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            shares, truths = (np.array(each) for each in zip(*waiting, strict=True))
            self._take(shares, truths.astype(bool))

    def _take(self, shares: NDArray[np.float64], truths: NDArray[np.bool_]) -> None:
        """Count (N, C) probabilities and true labels."""
        self._counts.update(shares >= np.array(self.thresholds), truths)
        self._sets.update(row.tobytes() for row in truths)
        heat = self._calibration.heat
        finite = np.isfinite(shares)  # a run that goes astray may answer with others
        self._calibration.after.update(shares[finite], truths[finite])
        if heat.fitted:
            plain = heated_each(shares[finite], 1 / heat.temperature)
            self._calibration.before.update(plain, truths[finite])
        if self._kept is not None:
            self._kept.append((shares, truths))

    def settle(self) -> None:
        """Keep counts alone: those of labels, and of the sets of labels that rows have."""
        self._count()
        self._kept = None

    def state(self) -> dict[str, NDArray[Any]]:
        """Probabilities and true labels, (N, C) each, where they are kept; or counts, the last of
        (M, C + 1) the distinct sets of true labels with their number of rows."""
        if self._kept is not None:
            return {"shares": self.shares(), "truths": self.truths()}
        counts = self.counts()
        sets = [[*labels, number] for labels, number in sorted(self._sets.items())]
        return {
            **counts.state(),
            **self._calibration.state(),
            "sets": np.array(sets, np.int64).reshape(-1, len(self.labels) + 1),
        }

    def merge(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Put other rows behind these, or add their counts."""
        self._count()
        if "shares" in state:
            self._take(state["shares"], state["truths"].astype(bool))
            return
        self._counts.merge(state)
        self._calibration.merge(state)
        for *labels, number in state["sets"].tolist():
            self._sets[bytes(labels)] += number

    def shares(self) -> NDArray[np.float64]:
        """(N, C) probabilities of the rows that are kept."""
        return self._of_kept(0).astype(np.float64)

    def truths(self) -> NDArray[np.int64]:
        """(N, C) ones and zeros of the rows that are kept."""
        return self._of_kept(1).astype(np.int64)

    def _of_kept(self, which: int) -> NDArray[Any]:
        self._count()
        parts = [part[which] for part in self._kept or ()]
        return np.concatenate([np.empty((0, len(self.labels))), *parts])

    def counts(self) -> MultiLabelCounts:
        """The counts that follow from the thresholds."""
        self._count()
        return self._counts

    def calibration(self) -> Calibration:
        """How probable labels are, and how often they are there, over all labels."""
        self._count()
        return self._calibration

    def row_sums(self, answer: Answer, example: Example) -> tuple[float, ...]:
        """Twice the right labels, and the given and the true ones together."""
        said, true = set(answer["labels"]), set(example["label"])
        return 2.0 * len(said & true), float(len(said) + len(true))

    def by_rows(self) -> RowSums:
        """How many rows have so many right labels, and so many given and true ones."""
        right, size, count = self.counts().state()["examples"].T
        return RowSums.of(np.column_stack([2 * right, size]), count)

    def score(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Micro F1, 0 where no label is given and none is true in all rows together."""
        return np.nan_to_num(super().score(sums))

    def score_of_each(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N,) F1 of each row alone; a row that has no label and was given none is right."""
        return np.nan_to_num(super().score(rows), nan=self.of_nothing)

    def baseline(self) -> dict[str, float]:
        """The best micro F1, and the best share of exact sets, of giving one set to all rows."""
        total, support = self.counts().total(), self.counts().tally().support
        exact = max(self._sets.values()) / total if total else 0.0
        best = self._best_set()
        hits, size = int(support[best].sum()), len(best) * total
        return {"f1_micro": 2 * hits / max(size + support.sum(), 1), "subset_accuracy": exact}

    def _best_set(self) -> list[int]:
        """The labels that have the best micro F1 when all rows are given them.

        2·hits / (given + true) is the highest for some of the most frequent labels, for of two
        sets of one size that of the more frequent labels has more hits.
        """
        counts = self.counts().tally().support
        order = np.argsort(-counts, kind="stable")
        given = np.arange(1, len(counts) + 1) * self.counts().total()
        scores = 2 * counts[order].cumsum() / np.maximum(given + counts.sum(), 1)
        return sorted(order[: int(scores.argmax()) + 1].tolist())

    def _unmeasured(self) -> Unmeasured:
        return Unmeasured.of(self.labels, self.counts().per_label(), counts_silent=True)

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
            **self._unmeasured().values(),
            **self.calibration().values(),
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
        yield from self._unmeasured().lines()
        yield from self.calibration().lines()
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
        return page.part(
            page.headline(
                "Micro F1", f1, counts.total(), guess | page.measure(baseline["f1_micro"])
            ),
            tiles=[
                page.share("Macro F1", values["f1_macro"]),
                page.share("F1 of rows", values["f1_samples"]),
                page.share("Exact sets", values["subset_accuracy"], exact),
                *self.calibration().tiles(),
            ],
            curves=[page.curve("f1_micro", "Micro F1", f1)],
            blocks=[
                page.score_block(
                    self.labels,
                    scores,
                    lead=page.LABELS_LEAD,
                    more={"Threshold": self.thresholds},
                ),
                *self.calibration().blocks("Share of labels that are there", "labels"),
            ],
            cautions=[
                *page.no_better(
                    "guessing",
                    values["f1_micro"],
                    baseline["f1_micro"],
                    f"{always} {percent(baseline['f1_micro'])}.",
                ),
                *page.label_cautions(self.labels, scores),
                *self._unmeasured().cautions(),
            ],
            calm=["every label was predicted"],
        )

    def _best_words(self) -> str:
        return shown(", ".join(self.labels[column] for column in self._best_set()))
