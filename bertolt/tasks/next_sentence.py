"""Pairs of texts of which the second follows the first in its document, or does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from bertolt.base.errors import UsageError
from bertolt.data.arrow import pa
from bertolt.data.cells import Cell, as_label
from bertolt.data.load import Cells, Sample, Table
from bertolt.data.table_file import BadRow
from bertolt.models.config import BertConfig
from bertolt.models.families.bert import BertForNextSentencePrediction
from bertolt.tasks.base import Reading, register
from bertolt.tasks.labels import require_one_label
from bertolt.tasks.scorers.calibration import Heat
from bertolt.tasks.text_classification import TextClassification
from bertolt.tasks.texts import text_cells

LABELS = ("is_next", "not_next")
"""In the order of pretraining, and so of the peer: class 0 for a second text that follows."""
_NAMES = {
    **dict.fromkeys(("is_next", "isnext", "next", "true", "yes", "是"), LABELS[0]),
    **dict.fromkeys(("not_next", "notnext", "random", "false", "no", "否"), LABELS[1]),
}
_CLASSES = {"0": LABELS[0], "1": LABELS[1]}
_TRUTHS = {"1": LABELS[0], "0": LABELS[1]}
_QUESTIONS = ("is_next", "isnext", "is_next_sentence", "follows")
"""Columns that ask whether the second text follows, so that 1 is yes."""
_OWN = (*_QUESTIONS, "next_sentence_label")


@register
@dataclass(frozen=True)
class NextSentencePrediction(TextClassification):
    """Whether the second text of a pair follows the first."""

    name: ClassVar[str] = "next-sentence-prediction"
    head: ClassVar[Any] = BertForNextSentencePrediction
    needs_pair: ClassVar[bool] = True

    labels: tuple[str, ...] = LABELS

    @classmethod
    def recognise(cls, sample: Sample, reading: Reading) -> str:
        """Pairs with a label of that name, or of such names."""
        columns = sample.columns.get("label", [])
        if "text_pair" not in sample.columns or len(columns) != 1:
            return ""
        names = {_plain(as_label(row[0])) for row in sample.values["label"]} - {""}
        cell = _label_cell(columns)
        known = not any(isinstance(cell.read([name]), BadRow) for name in names)
        own = _plain(columns[0]) in _OWN or not names.isdisjoint(("is_next", "isnext"))
        return "pairs, and whether the second text is the next one" if known and own else ""

    @classmethod
    def cells(cls, sample: Sample, reading: Reading) -> Cells:
        """A pair of texts, and whether they follow each other."""
        require_one_label(sample, reading, cls.name)
        if "text_pair" not in sample.columns:
            raise UsageError(
                f"{cls.name} needs pairs, and the text of {sample.columns['text'][0]!r} is all "
                "there is",
                place="--text, --text-pair",
                fix="name both: --text first --text-pair second",
            )
        columns = sample.columns.get("label")
        return text_cells(sample) | ({"label": _label_cell(columns)} if columns else {})

    @classmethod
    def infer(cls, table: Table, train: NDArray[np.int64], reading: Reading) -> Self:
        """The two labels; the more frequent one of training is kept."""
        return cls(majority=super().infer(table, train, reading).majority)

    @classmethod
    def restore(cls, config: BertConfig, settings: Mapping[str, Any]) -> Self:
        """The two labels, whatever the config calls its outputs."""
        majority = settings.get("majority")
        if majority is not None and majority not in LABELS:
            raise ValueError(f"the most frequent label, {majority!r}, is none of its labels")
        return cls(majority=majority, heat=Heat.restore(settings))

    @classmethod
    def serves(cls, config: BertConfig) -> bool:
        """Any model with this head."""
        return True

    def config_changes(self) -> dict[str, Any]:
        """The names of the two classes."""
        return {"id2label": dict(enumerate(LABELS)), "problem_type": None}


def _label_cell(columns: Sequence[str]) -> Cell:
    """One label in any of its spellings; numbers are classes, or truths where the column asks."""
    numbers = _TRUTHS if _plain(columns[0]) in _QUESTIONS else _CLASSES

    def read(values: Sequence[object]) -> object | BadRow | None:
        label = as_label(values[0])
        if label is None:
            return None
        if not label:
            return BadRow("empty label", f"the label in column {columns[0]!r} is empty")
        name = (_NAMES | numbers).get(_plain(label))
        if name is not None:
            return name
        detail = f"the label in column {columns[0]!r} is {label[:40]!r}, which is neither"
        return BadRow("label that is neither", detail, f"write {' or '.join(LABELS)}, or 0 or 1")

    return Cell(type=pa.string(), read=read, what="name or number")


def _plain(name: str | None) -> str:
    return (name or "").strip().lower().replace(" ", "_").replace("-", "_")
