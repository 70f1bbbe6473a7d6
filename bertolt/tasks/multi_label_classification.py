"""Any number of labels for each text: a threshold for each label decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bertolt.base.errors import DataError
from bertolt.data.cells import as_flag, flags_cell, labels_cell, text_cell
from bertolt.data.encode import EncodedTexts
from bertolt.data.load import Cells, Sample, Table
from bertolt.data.table_file import is_missing
from bertolt.metrics import MultiLabelCounts, best_thresholds
from bertolt.models import heads
from bertolt.models.config import BertConfig
from bertolt.tasks import page
from bertolt.tasks.base import Answer, Example, Output, Primary, Reading, Scorer, Task, register
from bertolt.tasks.labels import label_counts, names_of, rarest
from bertolt.tasks.table import interval_words, score_table, shown

SEVERAL = "multi_label_classification"
NO_LABEL = "no label"


@register
@dataclass(frozen=True)
class MultiLabelClassification(Task):
    """Which labels a text has.

    Attributes:
        labels: names, in the order of the model's outputs.
        thresholds: of each label; it is given where its probability is that or more.
        usual: the most frequent set of the training rows, to compare with.
        separator: between the labels of one cell, if they are written so.
    """

    name: ClassVar[str] = "multi-label-classification"
    primary: ClassVar[Primary] = Primary(name="f1_micro", title="Micro F1")
    head: ClassVar[Any] = heads.SequenceClassification
    worst: ClassVar[tuple[str, str]] = (
        "Worst answers",
        "Held-out rows with the most labels wrong, by how sure the model was of them.",
    )

    labels: tuple[str, ...]
    thresholds: tuple[float, ...]
    usual: tuple[str, ...] | None = None
    separator: str | None = None

    @classmethod
    def recognise(cls, sample: Sample, reading: Reading) -> str:
        """Lists of labels, a separator that is named, or several columns of 0 and 1."""
        columns, rows = sample.columns.get("label", []), sample.values.get("label", [])
        if reading.label_separator is not None:
            return "--label-separator parts the labels of a cell"
        if len(columns) > 1 and rows:
            marks = [value for row in rows for value in row if str(value).strip()]
            flags = all(is_missing(value) or as_flag(value) is not None for value in marks)
            return f"{len(columns)} columns of 0 and 1" if flags else ""
        values = [row[0] for row in rows if not is_missing(row[0])]
        texts = [row[0] for row in sample.values.get("text", [])]
        lists = bool(values) and all(_is_list_of_names(value) for value in values)
        return "lists of labels" if lists and all(isinstance(t, str) for t in texts) else ""

    @classmethod
    def cells(cls, sample: Sample, reading: Reading) -> Cells:
        """Texts, and labels in one cell or in a column each."""
        roles = sample.columns
        cells = {role: text_cell(roles[role], role) for role in roles if role != "label"}
        columns = roles.get("label", [])
        if len(columns) > 1:
            cells["label"] = flags_cell(columns)
        elif columns:
            cells["label"] = labels_cell(columns, reading.label_separator)
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
        )

    @classmethod
    def serves(cls, config: BertConfig) -> bool:
        """Declared as several labels at once."""
        return config.problem_type == SEVERAL

    @classmethod
    def strata(cls, table: Table) -> NDArray[np.int64]:
        """Rows by the rarest of their labels, so that training has one of each."""
        return rarest(table.labels)

    def config_changes(self) -> dict[str, Any]:
        """The labels, and that a text may have several."""
        return {"id2label": dict(enumerate(self.labels)), "problem_type": SEVERAL}

    def settings(self) -> dict[str, Any]:
        """Thresholds by name, the usual set, and how labels are parted."""
        thresholds = dict(zip(self.labels, self.thresholds, strict=True))
        usual = None if self.usual is None else list(self.usual)
        return {"thresholds": thresholds, "usual": usual, "label_separator": self.separator}

    def check(self, table: Table) -> None:
        """Refuse labels that training never had."""
        known = set(self.labels)
        for place, labels in enumerate(table.labels):
            if unknown := [name for name in labels if name not in known]:
                row = table.data["row"][place].as_py()
                raise DataError(
                    f"training had no label {unknown[0]!r}; it had {', '.join(self.labels[:20])}",
                    place=f"{table.path}, row {row}, column {table.label_column!r}",
                    fix="mend the labels, name the right column with --label, or train with such "
                    "rows",
                )

    def targets(self, table: Table, index: NDArray[np.int64], rows: EncodedTexts) -> NDArray[Any]:
        """(W, C) float32, 1 for each label of the row."""
        self.check(table)
        place = {name: number for number, name in enumerate(self.labels)}
        labels = table.labels
        flags = np.zeros((len(index), len(self.labels)), dtype=np.float32)
        for number, row in enumerate(index.tolist()):
            flags[number, [place[name] for name in labels[row]]] = 1.0
        return flags[rows.window_examples]

    def counts(self, table: Table, index: NDArray[np.int64]) -> str:
        """Rows of each label, and how many have none."""
        counts, none = self._counts(table, index)
        return label_counts([*self.labels, NO_LABEL], np.append(counts, none))

    def _counts(self, table: Table, index: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
        labels = table.labels
        sets = [labels[row] for row in index.tolist()]
        counter = Counter(name for names in sets for name in names)
        counts = np.array([counter[name] for name in self.labels], dtype=np.int64)
        return counts, sum(not names for names in sets)

    def activate(self, logits: Tensor) -> Tensor:
        """A probability for each label by itself."""
        return logits.sigmoid()

    def decode(self, output: Output, example: Example) -> Answer:
        """The labels above their thresholds, and the probability of each label."""
        shares = np.mean(output.windows, axis=0) if len(output.windows) > 1 else output.windows[0]
        probabilities = dict(zip(self.labels, map(float, shares), strict=True))
        given = [
            name
            for name, limit in zip(self.labels, self.thresholds, strict=True)
            if probabilities[name] >= limit
        ]
        return {"labels": given, "probabilities": probabilities}

    def scorer(self) -> MultiLabelScorer:
        """Counts of each label, and the probabilities that thresholds are chosen by."""
        return MultiLabelScorer(self)

    def tuned(self, scorer: Scorer) -> Self:
        """With the thresholds that give each label its best F1 on the rows that were scored."""
        assert isinstance(scorer, MultiLabelScorer)
        best = best_thresholds(scorer.shares(), scorer.truths())
        return replace(self, thresholds=tuple(map(float, best)))

    def describe_answer(self, answer: Answer) -> str:
        """The labels, with commas between them."""
        return ", ".join(answer["labels"]) or NO_LABEL

    def truth(self, example: Example) -> str:
        """The labels of the row."""
        return ", ".join(example["label"]) or NO_LABEL

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

    def explain(self, scorer: Scorer) -> dict[str, Any]:
        """The scores of each label with its threshold."""
        assert isinstance(scorer, MultiLabelScorer)
        baseline = scorer.baseline(self).values()
        usual = ", ".join(self.usual or ()) or NO_LABEL
        counts = scorer.counts_at(self)
        return page.several_labels(self.labels, self.thresholds, counts, baseline, usual)

    def data_blocks(
        self, table: Table, train: NDArray[np.int64], held_out: Table, index: NDArray[np.int64]
    ) -> list[dict[str, Any]]:
        """Rows of each label in both parts, and those without one."""
        parts = [
            np.append(*self._counts(part, rows))
            for part, rows in ((table, train), (held_out, index))
        ]
        return [page.label_rows([*self.labels, NO_LABEL], *parts)]


def _is_list_of_names(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(e, str | int) for e in value)


class MultiLabelScorer(Scorer):
    """Probabilities and true labels of every row: whatever the thresholds are, scores follow."""

    shown = ("f1_micro", "f1_macro")

    def __init__(self, task: MultiLabelClassification) -> None:
        self.task = task
        self._place = {name: number for number, name in enumerate(task.labels)}
        self._shares: list[NDArray[np.float64]] = []
        self._truths: list[NDArray[np.int64]] = []

    def add(self, answer: Answer, example: Example) -> float:
        """Wrong by the probabilities that were on the wrong side, added up."""
        shares = np.array([answer["probabilities"][name] for name in self.task.labels])
        true = np.zeros(len(self.task.labels), dtype=np.int64)
        true[[self._place[name] for name in example["label"]]] = 1
        self._shares.append(shares)
        self._truths.append(true)
        said = shares >= np.array(self.task.thresholds)
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
        return np.array(self._shares, dtype=np.float64).reshape(-1, len(self.task.labels))

    def truths(self) -> NDArray[np.int64]:
        """(N, C) ones and zeros."""
        return np.array(self._truths, dtype=np.int64).reshape(-1, len(self.task.labels))

    def counts_at(self, task: MultiLabelClassification) -> MultiLabelCounts:
        """The counts with the thresholds of a task."""
        counts = MultiLabelCounts(len(task.labels))
        counts.update(self.shares() >= np.array(task.thresholds), self.truths())
        return counts

    def baseline(self, task: MultiLabelClassification) -> MultiLabelCounts:
        """The counts of always giving the usual set; without one the most frequent of these."""
        truths = self.truths()
        usual = Counter(map(tuple, truths.tolist())).most_common(1)[0][0]
        if task.usual is not None:
            usual = tuple(int(name in task.usual) for name in task.labels)
        counts = MultiLabelCounts(len(task.labels))
        counts.update(np.tile(np.array(usual), (len(truths), 1)), truths)
        return counts

    def values(self) -> dict[str, Any]:
        """F1 over all, labels and rows, exact sets, and each label by name with its threshold."""
        counts, baseline = self.counts_at(self.task), self.baseline(self.task)
        named = zip(self.task.labels, self.task.thresholds, counts.per_label(), strict=True)
        return {
            **counts.values(),
            **{f"{name}_interval": ends for name, ends in counts.intervals().items()},
            "baseline_f1_micro": baseline.values()["f1_micro"],
            "baseline_subset_accuracy": baseline.values()["subset_accuracy"],
            "rows": counts.total(),
            "per_class": {name: {**vars(score), "threshold": at} for name, at, score in named},
        }

    def lines(self, loss: float) -> Iterator[str]:
        """Micro F1 against the usual set, and a line for each label."""
        counts, baseline = self.counts_at(self.task), self.baseline(self.task).values()
        values, ends = counts.values(), counts.intervals()
        usual = ", ".join(self.task.usual or ()) or NO_LABEL
        yield (
            f"Micro F1 {interval_words(values['f1_micro'], ends['f1_micro'])} "
            f"on {counts.total():,} rows"
        )
        yield f"  against {baseline['f1_micro'] or 0:.4f} for always giving '{shown(usual)}'"
        yield (
            f"  macro F1 {values['f1_macro']:.4f}, F1 of rows {values['f1_samples']:.4f}, exact "
            f"sets {values['subset_accuracy']:.4f} (against {baseline['subset_accuracy']:.4f}), "
            f"loss {loss:.4f}"
        )
        yield ""
        yield from score_table("label", self.task.labels, counts.per_label())
