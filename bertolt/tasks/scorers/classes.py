"""Scores of one label a row: a confusion matrix, against always giving one label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from numpy.typing import NDArray

from bertolt.base.format import interval, percent, plural
from bertolt.metrics import ConfusionMatrix, wilson_interval
from bertolt.tasks import page
from bertolt.tasks.base import Answer, Example, Scorer
from bertolt.tasks.table import score_table, shown


class ClassScorer(Scorer):
    """A confusion matrix, against always giving one label.

    Attributes:
        confusion: counts, and all that follows from them.
    """

    shown = ("accuracy", "f1_macro")

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.labels = labels
        self.confusion = ConfusionMatrix(len(labels))
        self._class = {name: index for index, name in enumerate(labels)}

    def add(self, answer: Answer, example: Example) -> float:
        """Wrong by the probability of the label that was given."""
        said, true = self._class[answer["label"]], self._class[example["label"]]
        self.confusion.counts[true, said] += 1
        return 0.0 if said == true else float(answer["probability"])

    def state(self) -> dict[str, NDArray[Any]]:
        """The counts."""
        return {"counts": self.confusion.counts}

    def merge(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Add counts."""
        self.confusion.counts += state["counts"]

    def majority_class(self) -> int:
        """The label to compare with: the most frequent one of these rows."""
        return int(self.confusion.counts.sum(axis=1).argmax())

    def baseline(self) -> tuple[float, tuple[float, float]]:
        """Accuracy of always answering that label, and its 95% interval."""
        rows = int(self.confusion.counts[self.majority_class()].sum())
        total = self.confusion.total()
        return rows / total, wilson_interval(rows, total)

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
        note = f"mean over {plural(len(labels), 'label')}"
        line = {"name": "majority label", "value": value}
        return page.part(
            page.headline(
                "Accuracy", accuracy, confusion.total(), guess | page.measure(value, ends)
            ),
            tiles=[page.share("Macro F1", confusion.f1_macro(), note)],
            curves=[page.curve("accuracy", "Accuracy", accuracy, line)],
            blocks=blocks,
            cautions=[
                *page.no_better(
                    "guessing the majority label",
                    confusion.accuracy(),
                    ends[1],
                    f"Always guessing “{majority}” gives {percent(value)} ({interval(*ends)}).",
                ),
                *page.label_cautions(labels, scores),
            ],
            calm=["every label was predicted"],
        )
