"""One label of several for each text, or for each pair of texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bertolt.base.errors import DataError
from bertolt.base.few import softmax
from bertolt.data.arrow import numbers_by_name, pa
from bertolt.data.cells import as_number, is_comma_number, label_cell
from bertolt.data.encode import EncodedTexts
from bertolt.data.labels import LabelMap, encode_labels, label_map
from bertolt.data.load import Cells, Sample, Table
from bertolt.metrics.calibration import heated
from bertolt.models import heads
from bertolt.models.config import BertConfig
from bertolt.models.losses import Criterion
from bertolt.tasks import page
from bertolt.tasks.base import Answer, Example, Output, Primary, Reading, Scorer, register
from bertolt.tasks.criterion import LossChoices, criterion_of
from bertolt.tasks.doubts import ClassDoubts
from bertolt.tasks.labels import LabelledTask, names_of, require_one_label
from bertolt.tasks.schema import SHARE, Schema, of_each, one_of, record
from bertolt.tasks.scorers.calibration import PLAIN, Heat
from bertolt.tasks.scorers.classes import ClassScorer
from bertolt.tasks.texts import LONG_TEXTS, text_cells

SINGLE = "single_label_classification"


@register
@dataclass(frozen=True)
class TextClassification(LabelledTask):
    """Which label a text has.

    Attributes:
        labels: names, in the order of the model's outputs.
        majority: the most frequent label of the training rows; None where nobody kept it.
        heat: the temperature of the probabilities.
        calibrates: whether it is to be fitted on held-out rows.
    """

    name: ClassVar[str] = "text-classification"
    primary: ClassVar[Primary] = Primary(name="accuracy", title="Accuracy")
    head: ClassVar[Any] = heads.SequenceClassification
    longs = LONG_TEXTS

    labels: tuple[str, ...]
    majority: str | None = None
    heat: Heat = PLAIN
    calibrates: bool = field(default=False, compare=False)

    @classmethod
    def recognise(cls, sample: Sample, reading: Reading) -> str:
        """Never for sure: it is what is left when no other task is."""
        return ""

    @classmethod
    def cells(cls, sample: Sample, reading: Reading) -> Cells:
        """Texts as they stand, and one label."""
        require_one_label(sample, reading, cls.name)
        columns = sample.columns.get("label")
        return text_cells(sample) | ({"label": label_cell(columns)} if columns else {})

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
            raise ValueError(f"the most frequent label, {majority!r}, is not among its labels")
        return cls(names, majority, Heat.restore(settings))

    @classmethod
    def serves(cls, config: BertConfig) -> bool:
        """One label of several, declared or as several outputs are read."""
        several = config.num_labels > 1
        return config.problem_type == SINGLE or (config.problem_type is None and several)

    @classmethod
    def strata(cls, table: Table) -> NDArray[np.int64]:
        """Rows by label; a column that is no label is refused before it is split."""
        labels, place = table.labels, f"{table.path}, column {table.label_column!r}"
        try:
            return label_map(labels, place=place).encode(labels)
        except DataError as error:
            commas = sum(map(is_comma_number, labels))
            if 2 * (sum(as_number(label) is not None for label in labels) + commas) <= len(labels):
                raise
            fix = f"{error.fix}, or learn numbers with --task regression"
            if commas:
                fix += ", once they are written with a point (2.5 for 2,5)"
            raise DataError(error.problem, place=error.place, fix=fix) from error

    def config_changes(self) -> dict[str, Any]:
        """The labels, and that each text has one."""
        return {"id2label": dict(enumerate(self.labels)), "problem_type": SINGLE}

    def settings(self) -> dict[str, Any]:
        """The most frequent label of the training rows, for whoever asks what they were; and the
        temperature of the probabilities, if one was fitted."""
        return {"majority": self.majority, **self.heat.settings()}

    def check(self, table: Table) -> None:
        """Refuse labels that training never had."""
        encode_labels(table, LabelMap(self.labels))

    def targets(self, table: Table, index: NDArray[np.int64], rows: EncodedTexts) -> NDArray[Any]:
        """(N,) class of each row."""
        return encode_labels(table, LabelMap(self.labels))[index]

    def criterion(self, choices: LossChoices, targets: NDArray[Any]) -> Criterion | None:
        """Weights of labels, focus and smoothing."""
        return criterion_of(choices, self.labels, targets)

    def count_labels(
        self, table: Table, index: NDArray[np.int64]
    ) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        """Rows of each label."""
        classes = encode_labels(table, LabelMap(self.labels))[index]
        return self.labels, np.bincount(classes, minlength=len(self.labels))

    def activate(self, logits: Tensor) -> Tensor:
        """Probabilities that add up to 1."""
        return softmax(logits)

    def decode(self, output: Output, example: Example) -> Answer:
        """The most probable label, its probability, and the probabilities of all labels."""
        shares = output.windows[0]
        best = int(shares.argmax())  # before rounding by a temperature could move it
        shares = heated(shares, self.heat.temperature)
        return {
            "label": self.labels[best],
            "probability": float(shares[best]),
            "probabilities": dict(zip(self.labels, map(float, shares), strict=True)),
        }

    def doubts(self) -> ClassDoubts:
        """Confident learning."""
        return ClassDoubts(self.labels)

    def scorer(self) -> ClassScorer:
        """A confusion matrix."""
        return ClassScorer(self.labels, self.heat, keep=self.calibrates)

    @property
    def tuning(self) -> str:
        """The temperature, if it is asked for."""
        return "temperature" if self.calibrates else ""

    @property
    def chosen(self) -> str:
        """The temperature, if one was fitted."""
        return self.tuning if self.heat.fitted else ""

    def to_calibrate(self) -> Self:
        """Probabilities of labels that add up to 1 have one."""
        return replace(self, calibrates=True)

    def tuned(self, scorer: Scorer) -> Self:
        """With the temperature of the least negative log-likelihood on the rows that were scored,
        or without one where the best is beyond all that is sensible."""
        assert isinstance(scorer, ClassScorer)
        shares, classes = scorer.rows()
        return replace(self, heat=Heat.fit(shares, classes, len(classes)))

    def describe_answer(self, answer: Answer) -> str:
        """The label."""
        return str(answer["label"])

    def truth(self, example: Example) -> str:
        """The label of the row."""
        return str(example["label"])

    def answer_types(self) -> dict[str, pa.DataType]:
        """A name, its share, and the share of each label."""
        return {
            "label": pa.string(),
            "probability": pa.float64(),
            "probabilities": numbers_by_name(self.labels),
        }

    def answer_schema(self) -> Schema:
        """One of the labels, and a probability for each."""
        shares = of_each(self.labels, SHARE)
        return record({"label": one_of(self.labels), "probability": SHARE, "probabilities": shares})

    def flat_names(self) -> list[str]:
        """The label, its probability, and the probability of each label."""
        return ["label", "probability", *(f"p({name})" for name in self.labels)]

    def flat(self, answer: Answer) -> list[Any]:
        """The same of an answer."""
        shares = answer["probabilities"]
        return [answer["label"], answer["probability"], *(shares[name] for name in self.labels)]

    def answer_blocks(self, answer: Answer, example: Example) -> list[dict[str, Any]]:
        """The probability of each label."""
        return [page.probabilities(answer["probabilities"])]
