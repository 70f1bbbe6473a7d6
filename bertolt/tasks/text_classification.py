"""One label of several for each text, or for each pair of texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bertolt.data.cells import label_cell, text_cell
from bertolt.data.encode import EncodedTexts
from bertolt.data.labels import LabelMap, encode_labels, label_map
from bertolt.data.load import Cells, Sample, Table
from bertolt.metrics import ConfusionMatrix, wilson_interval
from bertolt.models import heads
from bertolt.models.config import BertConfig
from bertolt.tasks import page
from bertolt.tasks.base import Answer, Example, Output, Primary, Reading, Scorer, Task, register
from bertolt.tasks.labels import label_counts, names_of, require_one_column
from bertolt.tasks.table import score_table, shown

SINGLE = "single_label_classification"


@register
@dataclass(frozen=True)
class TextClassification(Task):
    """Which label a text has.

    Attributes:
        labels: names, in the order of the model's outputs.
        majority: the most frequent one of the training rows; None where nobody kept it.
    """

    name: ClassVar[str] = "text-classification"
    primary: ClassVar[Primary] = Primary(name="accuracy", title="Accuracy")
    head: ClassVar[Any] = heads.SequenceClassification

    labels: tuple[str, ...]
    majority: str | None = None

    @classmethod
    def recognise(cls, sample: Sample, reading: Reading) -> str:
        """Never for sure: it is what is left when no other task is."""
        return ""

    @classmethod
    def cells(cls, sample: Sample, reading: Reading) -> Cells:
        """Texts as they stand, and one label."""
        require_one_column(sample, cls.name)
        roles = sample.columns
        cells = {role: text_cell(roles[role], role) for role in roles if role != "label"}
        return cells | ({"label": label_cell(roles["label"])} if "label" in roles else {})

    @classmethod
    def infer(cls, table: Table, train: NDArray[np.int64], reading: Reading) -> Self:
        """Labels by value if all are numbers, else by spelling."""
        labels = table.labels_at(train) if len(train) else table.labels
        names = label_map(labels, place=f"{table.path}, column {table.label_column!r}").names
        counts = np.bincount(LabelMap(names).encode(labels), minlength=len(names))
        return cls(names, names[int(counts.argmax())])

    @classmethod
    def restore(cls, config: BertConfig, settings: Mapping[str, Any]) -> Self:
        """Labels as the config names them."""
        names = names_of(config)
        majority, before = settings.get("majority"), settings.get("labels")
        if before is not None and list(names) != before:
            raise ValueError(f"bertolt.json has the labels {before}, and config.json {list(names)}")
        if majority is not None and majority not in names:
            raise ValueError(f"the most frequent label, {majority!r}, is none of its labels")
        return cls(names, majority)

    @classmethod
    def serves(cls, config: BertConfig) -> bool:
        """One label of several, declared or as several outputs are read."""
        several = config.num_labels > 1
        return config.problem_type == SINGLE or (config.problem_type is None and several)

    @classmethod
    def strata(cls, table: Table) -> NDArray[np.int64]:
        """Rows by label; a column that is no label is refused before it is split."""
        labels = table.labels
        return label_map(labels, place=f"{table.path}, column {table.label_column!r}").encode(
            labels
        )

    def config_changes(self) -> dict[str, Any]:
        """The labels, and that each text has one."""
        return {"id2label": dict(enumerate(self.labels)), "problem_type": SINGLE}

    def settings(self) -> dict[str, Any]:
        """The label that is always guessed for comparison."""
        return {"majority": self.majority}

    def check(self, table: Table) -> None:
        """Refuse labels that training never had."""
        encode_labels(table, LabelMap(self.labels))

    def targets(self, table: Table, index: NDArray[np.int64], rows: EncodedTexts) -> NDArray[Any]:
        """(W,) class of each row."""
        return encode_labels(table, LabelMap(self.labels))[index][rows.window_examples]

    def counts(self, table: Table, index: NDArray[np.int64]) -> str:
        """Rows of each label."""
        return label_counts(self.labels, self._counts(table, index))

    def _counts(self, table: Table, index: NDArray[np.int64]) -> NDArray[np.int64]:
        classes = encode_labels(table, LabelMap(self.labels))[index]
        return np.bincount(classes, minlength=len(self.labels))

    def activate(self, logits: Tensor) -> Tensor:
        """Probabilities that add up to 1."""
        return logits.softmax(-1)

    def decode(self, output: Output, example: Example) -> Answer:
        """The most probable label, its probability, and those of all."""
        shares = np.mean(output.windows, axis=0) if len(output.windows) > 1 else output.windows[0]
        best = int(shares.argmax())
        probabilities = dict(zip(self.labels, map(float, shares), strict=True))
        return {
            "label": self.labels[best],
            "probability": float(shares[best]),
            "probabilities": probabilities,
        }

    def scorer(self) -> ClassificationScorer:
        """A confusion matrix."""
        return ClassificationScorer(self.labels, self.majority)

    def describe_answer(self, answer: Answer) -> str:
        """The label."""
        return str(answer["label"])

    def truth(self, example: Example) -> str:
        """The label of the row."""
        return str(example["label"])

    def flat_names(self) -> list[str]:
        """The label, its probability, and that of each label."""
        return ["label", "probability", *(f"p({name})" for name in self.labels)]

    def flat(self, answer: Answer) -> list[Any]:
        """The same of an answer."""
        shares = answer["probabilities"]
        return [answer["label"], answer["probability"], *(shares[name] for name in self.labels)]

    def answer_blocks(self, answer: Answer, example: Example) -> list[dict[str, Any]]:
        """The probability of each label."""
        return [page.probabilities(answer["probabilities"])]

    def explain(self, scorer: Scorer) -> dict[str, Any]:
        """Confusions, and the scores of each label."""
        assert isinstance(scorer, ClassificationScorer)
        value, ends = scorer.baseline()
        label = self.labels[scorer.majority_class()]
        baseline = {"label": label, "value": value, "ends": ends}
        return page.classification(self.labels, scorer.confusion, baseline)

    def data_blocks(
        self, table: Table, train: NDArray[np.int64], held_out: Table, index: NDArray[np.int64]
    ) -> list[dict[str, Any]]:
        """Rows of each label in both parts."""
        counts = [
            np.bincount(
                encode_labels(part, LabelMap(self.labels))[rows], minlength=len(self.labels)
            )
            for part, rows in ((table, train), (held_out, index))
        ]
        return [page.label_rows(self.labels, *counts)]


class ClassificationScorer(Scorer):
    """A confusion matrix, against always giving one label.

    Attributes:
        confusion: counts, and all that follows from them.
    """

    shown = ("accuracy", "f1_macro")

    def __init__(self, labels: tuple[str, ...], majority: str | None) -> None:
        self.labels = labels
        self.confusion = ConfusionMatrix(len(labels))
        self._majority = majority
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
        """The label to compare with; where nobody kept it, the most frequent one of these rows."""
        if self._majority is not None:
            return self._class[self._majority]
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
