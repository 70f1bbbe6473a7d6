"""Scores of one label a row: a confusion matrix, against always giving one label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertolt.base.format import interval, percent, plural
from bertolt.metrics import ConfusionMatrix, RowSums, wilson_interval
from bertolt.metrics.calibration import heated
from bertolt.tasks import page
from bertolt.tasks.base import Answer, Example, Scorer
from bertolt.tasks.scorers.calibration import PLAIN, Calibration, Heat
from bertolt.tasks.scorers.unmeasured import Unmeasured
from bertolt.tasks.table import score_table, shown


class ClassScorer(Scorer):
    """A confusion matrix, against always giving one label; and what probabilities are worth.

    Args:
        labels: names, in the order of the model's outputs.
        heat: the temperature of the probabilities, and on how many rows it was fitted.
        keep: the probabilities of every row, to fit a temperature by, until `settle`.

    Attributes:
        confusion: counts, and all that follows from them.
        calibration: how probable the given labels are, and how often they are right; and the same
            of the probabilities at temperature 1, where theirs is another.
    """

    shown = ("accuracy", "f1_macro")

    def __init__(self, labels: tuple[str, ...], heat: Heat = PLAIN, *, keep: bool = False) -> None:
        self.labels = labels
        self.confusion = ConfusionMatrix(len(labels))
        self.calibration = Calibration(heat)
        self._class = {name: index for index, name in enumerate(labels)}
        self._rows: list[NDArray[np.float64]] | None = [] if keep else None

    def add(self, answer: Answer, example: Example) -> float:
        """Wrong by the probability of the label that was given."""
        said, true = self._class[answer["label"]], self._class[example["label"]]
        self.confusion.counts[true, said] += 1
        share = float(answer["probability"])
        self.calibration.after.add(share, said == true)
        if self.calibration.heat.fitted or self._rows is not None:
            shares = np.array([answer["probabilities"][name] for name in self.labels])
            if self._rows is not None:
                self._rows.append(np.append(shares, true))
            if self.calibration.heat.fitted:
                plain = heated(shares, 1 / self.calibration.heat.temperature)
                self.calibration.before.add(float(plain[said]), said == true)
        return 0.0 if said == true else share

    def settle(self) -> None:
        """Keep no probabilities."""
        self._rows = None

    def rows(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """(N, C) probabilities and (N,) true classes of the rows that were kept."""
        rows = np.array(self._rows or (), np.float64).reshape(-1, len(self.labels) + 1)
        return rows[:, :-1], rows[:, -1].astype(np.int64)

    def state(self) -> dict[str, NDArray[Any]]:
        """The counts, and (N, C + 1) the rows that are kept: probabilities and the true class."""
        kept = {} if self._rows is None else {"rows": np.column_stack(self.rows())}
        return {"counts": self.confusion.counts, **self.calibration.state(), **kept}

    def merge(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Add counts, and put other rows behind these."""
        self.confusion.counts += state["counts"]
        self.calibration.merge(state)
        if self._rows is not None:
            self._rows += list(state["rows"])

    def row_sums(self, answer: Answer, example: Example) -> tuple[float, ...]:
        """Whether the row is right, and 1."""
        return float(answer["label"] == example["label"]), 1.0

    def by_rows(self) -> RowSums:
        """How many rows are right, and how many are wrong."""
        right = int(np.trace(self.confusion.counts))
        return RowSums.of([[1.0, 1.0], [0.0, 1.0]], [right, self.confusion.total() - right])

    def majority_class(self) -> int:
        """The label to compare with: the most frequent one of these rows."""
        return int(self.confusion.counts.sum(axis=1).argmax())

    def baseline(self) -> tuple[float, tuple[float, float]]:
        """Accuracy of always answering that label, and its 95% interval."""
        rows = int(self.confusion.counts[self.majority_class()].sum())
        total = self.confusion.total()
        return rows / total, wilson_interval(rows, total)

    def _unmeasured(self) -> Unmeasured:
        return Unmeasured.of(self.labels, self.confusion.per_class())

    def values(self) -> dict[str, Any]:
        """Accuracy, macro F1, each label by name, and the counts."""
        values = self.confusion.to_dict()
        return {
            "accuracy": values["accuracy"],
            "accuracy_interval": values["accuracy_interval"],
            "f1_macro": values["f1_macro"],
            "baseline_accuracy": self.baseline()[0],
            "rows": values["total"],
            "per_class": dict(zip(self.labels, values["per_class"], strict=True)),
            "confusion": values["counts"],
            **self._unmeasured().values(),
            **self.calibration.values(),
        }

    def lines(self, loss: float) -> Iterator[str]:
        """Accuracy against the most frequent label, and a line for each label."""
        low, high = self.confusion.accuracy_interval()
        always = f"always answering '{shown(self.labels[self.majority_class()])}'"
        yield (
            f"Accuracy {self.confusion.accuracy():.4f} on {self.confusion.total():,} "
            f"row{'s' * (self.confusion.total() != 1)} (95% interval {low:.4f}-{high:.4f})"
        )
        yield f"  against {self.baseline()[0]:.4f} for {always}"
        yield f"  macro F1 {self.confusion.f1_macro():.4f}, loss {loss:.4f}"
        yield from self._unmeasured().lines()
        yield from self.calibration.lines()
        yield ""
        yield from score_table("label", self.labels, self.confusion.per_class())

    def explain(self) -> dict[str, Any]:
        """Accuracy, confusions, and the scores of each label."""
        confusion, labels, scores = self.confusion, self.labels, self.confusion.per_class()
        accuracy = page.measure(confusion.accuracy(), confusion.accuracy_interval())
        value, ends = self.baseline()
        guess = {"name": "guessing the majority label", "mark": "always the majority label"}
        majority = shown(labels[self.majority_class()])
        blocks = [
            page.confusion_block(labels, confusion.counts),
            page.score_block(labels, scores, lead=page.LABELS_LEAD),
        ]
        if len(labels) <= page.SIDE_BY_SIDE:
            blocks = [{"kind": "row", "widths": [2, 3], "blocks": blocks}]
        blocks += self.calibration.blocks("Share of answers that are right", "answers")
        averaged = sum(score.f1 is not None for score in scores)
        note = f"mean over {plural(averaged, 'label')}"
        line = {"name": "majority label", "value": value}
        return page.part(
            page.headline(
                "Accuracy",
                accuracy,
                confusion.total(),
                guess | page.measure(value, ends),
                alike=page.alike(
                    dict(zip(labels, confusion.counts.sum(axis=0).tolist(), strict=True)),
                    confusion.total(),
                ),
            ),
            tiles=[
                page.share("Macro F1", confusion.f1_macro(), note),
                *self.calibration.tiles(),
            ],
            curves=[page.curve("accuracy", "Accuracy", accuracy, line)],
            blocks=blocks,
            cautions=[
                *page.no_better(
                    "guessing the majority label",
                    confusion.accuracy(),
                    value,
                    f"Always guessing “{majority}” gives {percent(value)} ({interval(*ends)}).",
                    surely=ends[1],
                ),
                *page.label_cautions(labels, scores),
                *self._unmeasured().cautions(),
            ],
            calm=["every label was predicted"],
        )
