"""Any number of labels for each text: a threshold for each label decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bertolt.base.errors import DataError, UsageError, nearest
from bertolt.data.arrow import numbers_by_name, pa
from bertolt.data.cells import as_flag, flags_cell, labels_cell
from bertolt.data.encode import EncodedTexts
from bertolt.data.load import Cells, Sample, Table
from bertolt.data.table_file import is_missing, listing
from bertolt.metrics import best_thresholds
from bertolt.metrics.calibration import heated_each
from bertolt.models import heads
from bertolt.models.config import BertConfig
from bertolt.models.losses import BinaryCriterion
from bertolt.tasks import page
from bertolt.tasks.base import Answer, Example, Output, Primary, Reading, Scorer, register
from bertolt.tasks.criterion import LossChoices, criterion_of_sets
from bertolt.tasks.doubts import SetDoubts
from bertolt.tasks.labels import LabelledTask, names_of, rarest, rows_of_each
from bertolt.tasks.schema import SHARE, Schema, of_each, one_of, record, several
from bertolt.tasks.scorers.calibration import PLAIN, Heat
from bertolt.tasks.scorers.label_sets import NO_LABEL, LabelSetScorer
from bertolt.tasks.texts import LONG_TEXTS, text_cells

SEVERAL = "multi_label_classification"


@register
@dataclass(frozen=True)
class MultiLabelClassification(LabelledTask):
    """Which labels a text has.

    Attributes:
        labels: names, in the order of the model's outputs.
        thresholds: of each label; it is given where its probability is that or more.
        usual: the most frequent set of the training rows, to compare with.
        separator: between the labels of one cell, if they are written so.
        heat: the temperature of the probabilities.
        calibrates: whether it is to be fitted on held-out rows.
    """

    name: ClassVar[str] = "multi-label-classification"
    primary: ClassVar[Primary] = Primary(name="f1_micro", title="Micro F1")
    head: ClassVar[Any] = heads.SequenceClassification
    longs = LONG_TEXTS
    worst: ClassVar[tuple[str, str]] = (
        "Worst answers",
        "Held-out rows with the most labels wrong, by how sure the model was of them.",
    )

    labels: tuple[str, ...]
    thresholds: tuple[float, ...]
    usual: tuple[str, ...] | None = None
    separator: str | None = None
    heat: Heat = PLAIN
    calibrates: bool = field(default=False, compare=False)

    @classmethod
    def recognise(cls, sample: Sample, reading: Reading) -> str:
        """Lists of labels, a separator that is named, or several columns of 0 and 1."""
        columns, rows = sample.columns.get("label", []), sample.values.get("label", [])
        if reading.label_separator is not None:
            return "--label-separator parts the labels of a cell"
        if len(columns) > 1 and rows:
            return f"{len(columns)} columns of 0 and 1" if _are_flags(rows) else ""
        values = [row[0] for row in rows if not is_missing(row[0])]
        texts = [row[0] for row in sample.values.get("text", [])]
        lists = bool(values) and all(_is_list_of_names(value) for value in values)
        return "lists of labels" if lists and all(isinstance(t, str) for t in texts) else ""

    @classmethod
    def cells(cls, sample: Sample, reading: Reading) -> Cells:
        """Texts, and labels in one cell, or a column of 0 and 1 for each."""
        columns, separator = sample.columns.get("label", []), reading.label_separator
        cells = text_cells(sample)
        if len(columns) > 1 and separator is not None:
            raise UsageError(
                f"it parts the labels of one cell, and there are the columns {listing(columns)}",
                place="--label-separator",
                fix="leave --label-separator out, or name one column with --label",
            )
        rows = sample.values.get("label", [])
        if len(columns) > 1 or (columns and separator is None and _are_flags(rows)):
            cells["label"] = flags_cell(columns)
        elif columns:
            cells["label"] = labels_cell(columns, separator)
        return cells

    @classmethod
    def infer(cls, table: Table, train: NDArray[np.int64], reading: Reading) -> Self:
        """Labels in the order of their columns, or by spelling."""
        sets = table.labels_at(train)
        names = {name for labels in sets for name in labels}
        place = f"{table.path}, column {table.label_column!r}"
        if not names:
            raise DataError(
                f"no row of {len(sets)} has a label: nothing to tell apart",
                place=place,
                fix="name the label column with --label",
            )
        columns = table.roles["label"]
        ordered = columns if len(columns) > 1 else sorted(names)
        usual = Counter(tuple(sorted(labels)) for labels in sets).most_common(1)[0][0]
        return cls(tuple(ordered), (0.5,) * len(ordered), usual, reading.label_separator)

    @classmethod
    def restore(cls, config: BertConfig, settings: Mapping[str, Any]) -> Self:
        """Thresholds as the contract keeps them; a half without one."""
        names = names_of(config)
        thresholds = settings.get("thresholds") or dict.fromkeys(names, 0.5)
        if sorted(thresholds) != sorted(names) or not all(
            isinstance(each, int | float) and 0 <= each <= 1 for each in thresholds.values()
        ):
            raise ValueError(f"thresholds are {thresholds!r}, and must be one a label, from 0 to 1")
        usual, separator = settings.get("usual"), settings.get("label_separator")
        if separator is not None and not (isinstance(separator, str) and separator):
            raise ValueError(f"label_separator is {separator!r}, and must be a text")
        if usual is not None and not (isinstance(usual, list) and set(usual) <= set(names)):
            raise ValueError(f"usual is {usual!r}, and must be a list of its labels")
        return cls(
            names,
            tuple(float(thresholds[name]) for name in names),
            None if usual is None else tuple(usual),
            separator,
            Heat.restore(settings),
        )

    @classmethod
    def serves(cls, config: BertConfig) -> bool:
        """Declared as several labels at once."""
        return config.problem_type == SEVERAL

    @classmethod
    def strata(cls, table: Table) -> NDArray[np.int64]:
        """Rows by the rarest of their labels."""
        return rarest(table.labels)

    @classmethod
    def needed(cls, table: Table) -> list[NDArray[np.int64]]:
        """The rows of each label, which may be the rarest of none."""
        return rows_of_each(table.labels)

    def config_changes(self) -> dict[str, Any]:
        """The labels, and that a text may have several."""
        return {"id2label": dict(enumerate(self.labels)), "problem_type": SEVERAL}

    def settings(self) -> dict[str, Any]:
        """Thresholds by name, the usual set, and how labels are parted."""
        thresholds = dict(zip(self.labels, self.thresholds, strict=True))
        usual = None if self.usual is None else list(self.usual)
        settings = {"thresholds": thresholds, "usual": usual, "label_separator": self.separator}
        return settings | self.heat.settings()

    @property
    def reading(self) -> Reading:
        """The separator between labels, if there was one."""
        return Reading(label_separator=self.separator)

    def check(self, table: Table) -> None:
        """Refuse labels that training never had."""
        known = set(self.labels)
        for number, labels in enumerate(table.each_label()):
            if unknown := [name for name in labels if name not in known]:
                near = nearest(unknown[0], list(self.labels))
                raise DataError(
                    f"training had no label {unknown[0]!r}; it had {', '.join(self.labels[:20])}",
                    place=f"{table.place_at(number)}, column {table.label_column!r}",
                    fix=f"perhaps {near!r} is meant; " * bool(near) + "mend the labels, name "
                    "the right column with --label, or train with such rows",
                )

    def targets(self, table: Table, index: NDArray[np.int64], rows: EncodedTexts) -> NDArray[Any]:
        """(N, C) float32, 1 for each label of the row."""
        self.check(table)
        column = {name: number for number, name in enumerate(self.labels)}
        flags = np.zeros((len(index), len(self.labels)), dtype=np.float32)
        for number, labels in enumerate(table.each_label(index)):
            flags[number, [column[name] for name in labels]] = 1.0
        return flags

    def criterion(self, choices: LossChoices, targets: NDArray[Any]) -> BinaryCriterion | None:
        """Weights of labels, focus and smoothing."""
        return criterion_of_sets(choices, self.labels, targets)

    def count_labels(
        self, table: Table, index: NDArray[np.int64]
    ) -> tuple[list[str], NDArray[np.int64]]:
        """Rows of each label, and rows without one."""
        counter, empty = Counter[str](), 0
        for names in table.each_label(index):
            counter.update(names)
            empty += not names
        counts = [counter[name] for name in self.labels]
        return [*self.labels, NO_LABEL], np.array([*counts, empty], dtype=np.int64)

    def activate(self, logits: Tensor) -> Tensor:
        """A probability for each label by itself."""
        return logits.sigmoid()

    def decode(self, output: Output, example: Example) -> Answer:
        """The labels above their thresholds, and the probability of each label."""
        shares = heated_each(output.windows[0], self.heat.temperature)
        probabilities = dict(zip(self.labels, map(float, shares), strict=True))
        limits = zip(self.labels, self.thresholds, strict=True)
        labels = [name for name, limit in limits if probabilities[name] >= limit]
        return {"labels": labels, "probabilities": probabilities}

    def doubts(self) -> SetDoubts:
        """Confident learning, label by label."""
        return SetDoubts(self.labels)

    def scorer(self) -> LabelSetScorer:
        """Counts of each label, and the probabilities that thresholds are chosen by."""
        return LabelSetScorer(self.labels, self.thresholds, self.heat)

    @property
    def tuning(self) -> str:
        """The thresholds, and the temperature if it is asked for."""
        return "thresholds and the temperature" if self.calibrates else "thresholds"

    @property
    def chosen(self) -> str:
        """The thresholds, and the temperature if one was fitted."""
        return self.tuning if self.heat.fitted else "thresholds"

    def to_calibrate(self) -> Self:
        """One temperature for the probabilities of all labels."""
        return replace(self, calibrates=True)

    def tuned(self, scorer: Scorer) -> Self:
        """With the thresholds of the best micro F1 on the rows that were scored."""
        assert isinstance(scorer, LabelSetScorer)
        shares, truths = scorer.shares(), scorer.truths()
        if not np.isfinite(shares).all():  # a run that goes astray; it is told by its loss
            return self
        best, heat = best_thresholds(shares, truths), PLAIN
        if self.calibrates:
            each = np.stack([shares.ravel(), 1 - shares.ravel()], axis=1)
            heat = Heat.fit(each, 1 - truths.ravel(), len(truths))
            # Moved as the probabilities are, they give each row the labels that it had.
            best = heated_each(best, heat.temperature)
        return replace(self, thresholds=tuple(map(float, best)), heat=heat)

    def describe_answer(self, answer: Answer) -> str:
        """The labels, with commas between them."""
        return ", ".join(answer["labels"]) or NO_LABEL

    def truth(self, example: Example) -> str:
        """The labels of the row."""
        return ", ".join(example["label"]) or NO_LABEL

    def meant(self, example: Example) -> frozenset[str]:
        """The labels in any order."""
        return frozenset(example["label"])

    def answer_types(self) -> dict[str, pa.DataType]:
        """Names, and the share of each label."""
        return {
            "labels": pa.list_(pa.string()),
            "probabilities": numbers_by_name(self.labels),
        }

    def answer_schema(self) -> Schema:
        """Some of the labels, and a probability for each."""
        labels = several(one_of(self.labels))
        return record({"labels": labels, "probabilities": of_each(self.labels, SHARE)})

    def flat_names(self) -> list[str]:
        """The labels in one cell, and the probability of each."""
        return ["labels", *(f"p({name})" for name in self.labels)]

    def flat(self, answer: Answer) -> list[Any]:
        """The same of an answer."""
        shares = answer["probabilities"]
        labels = (self.separator or ";").join(answer["labels"])
        return [labels, *(shares[name] for name in self.labels)]

    def answer_blocks(self, answer: Answer, example: Example) -> list[dict[str, Any]]:
        """The probability of each label with the threshold from which it is given."""
        thresholds = dict(zip(self.labels, self.thresholds, strict=True))
        return [page.probabilities(answer["probabilities"], thresholds)]


def _are_flags(rows: Sequence[tuple[object, ...]]) -> bool:
    """Whether some cells hold 0 or 1, and no cell holds anything else."""
    cells = [value for row in rows for value in row if str(value).strip()]
    known = [value for value in cells if not is_missing(value)]
    return bool(known) and all(as_flag(value) is not None for value in known)


def _is_list_of_names(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(e, str | int) for e in value)
