"""Labels: the names of outputs, how often each occurs, and how columns of them may be named."""

from __future__ import annotations

import abc
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertolt.base.errors import CheckpointError, UsageError
from bertolt.data.describe import shown
from bertolt.data.load import Sample, Table
from bertolt.data.table_file import listing
from bertolt.models.config import BertConfig
from bertolt.tasks import page
from bertolt.tasks.base import Reading, Task

SHOWN_COUNTS = 12


class LabelledTask(Task):
    """A task whose rows have labels that can be counted."""

    @abc.abstractmethod
    def count_labels(
        self, table: Table, index: NDArray[np.int64]
    ) -> tuple[Sequence[str], NDArray[np.int64]]:
        """Labels, and (C,) how often each occurs in the rows at `index`."""

    def counts(self, table: Table, index: NDArray[np.int64]) -> str:
        """How often each label occurs."""
        return label_counts(*self.count_labels(table, index))

    def data_blocks(
        self, table: Table, train: NDArray[np.int64], held_out: Table, index: NDArray[np.int64]
    ) -> list[dict[str, Any]]:
        """How often each label occurs in both parts."""
        labels, train_counts = self.count_labels(table, train)
        return [page.label_rows(labels, train_counts, self.count_labels(held_out, index)[1])]


def names_of(config: BertConfig) -> tuple[str, ...]:
    """The names of a model's outputs, in their order.

    Raises:
        CheckpointError: two outputs have one name, so that an answer could not tell them apart.
    """
    names = tuple(config.id2label[index] for index in range(config.num_labels))
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise CheckpointError(
            f"several of its labels are called {twice[0]!r}",
            place="config.json, id2label",
            fix="give each of them a name of its own there, such as "
            f"{twice[0]!r} and {twice[0] + ' 2'!r}",
        )
    return names


def rarest(sets: Sequence[Iterable[str]]) -> NDArray[np.int64]:
    """(N,) rows with several names each, grouped by the rarest; those without one are a group."""
    counts = Counter(name for names in sets for name in names)
    groups = [min(names, key=lambda name: (counts[name], name), default="") for names in sets]
    return np.unique(np.array(groups, dtype=object), return_inverse=True)[1]


def rows_of_each(sets: Iterable[Iterable[str]]) -> list[NDArray[np.int64]]:
    """The rows with each name, ascending, by the spelling of the names."""
    rows: dict[str, list[int]] = {}
    for row, names in enumerate(sets):
        for name in set(names):
            rows.setdefault(name, []).append(row)
    return [np.array(rows[name], dtype=np.int64) for name in sorted(rows)]


def require_one_label(sample: Sample, reading: Reading, task: str) -> None:
    """Refuse several columns of labels, and several labels in a cell, for a task that reads one.

    Raises:
        UsageError: there are several columns, or a separator.
    """
    columns = sample.columns.get("label", [])
    if len(columns) > 1:
        raise UsageError(
            f"{task} reads one column of labels, and there are {listing(columns)}",
            place="--label",
            fix="name one of them; several labels a row are learned from 0 and 1 in each column: "
            "bertolt finetune FILE --task multi-label-classification",
        )
    require_no_separator(reading, task)


def require_no_separator(reading: Reading, task: str) -> None:
    """Refuse a separator of labels for a task that has one label a cell.

    Raises:
        UsageError: there is one.
    """
    if reading.label_separator is not None:
        raise UsageError(
            f"{task} reads a cell as it stands, and a separator parts several labels",
            place="--label-separator",
            fix="leave --label-separator out",
        )


def label_counts(labels: Sequence[str], counts: NDArray[np.int64]) -> str:
    """How often each label occurs, or the most and the least frequent of many."""
    if len(labels) <= SHOWN_COUNTS:
        pairs = zip(labels, counts.tolist(), strict=True)
        return ", ".join(f"{count:,} {shown(name)}" for name, count in pairs)
    order = np.argsort(-counts, kind="stable")
    most, least = order[0], order[-1]
    return (
        f"{len(labels)} labels, from {counts[most]:,} {shown(labels[most])} "
        f"down to {counts[least]:,} {shown(labels[least])}"
    )
