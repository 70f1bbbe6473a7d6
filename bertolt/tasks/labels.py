"""What tasks with names for their outputs share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from bertolt.base.errors import UsageError
from bertolt.data.describe import shown
from bertolt.data.load import Sample
from bertolt.data.table_file import listing
from bertolt.models.config import BertConfig

SHOWN_COUNTS = 12


def names_of(config: BertConfig) -> tuple[str, ...]:
    """The names of a model's outputs, in their order.

    Raises:
        ValueError: two outputs have one name, so that an answer could not tell them apart.
    """
    names = tuple(config.id2label[index] for index in range(config.num_labels))
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"several of its labels are called {twice[0]!r}")
    return names


def rarest(sets: Sequence[Iterable[str]]) -> NDArray[np.int64]:
    """(N,) rows with several names each, grouped by the rarest of them; "" for none."""
    counts = Counter(name for names in sets for name in names)
    chosen = [min(names, key=lambda name: (counts[name], name), default="") for names in sets]
    return np.unique(np.array(chosen, dtype=object), return_inverse=True)[1]


def require_one_column(sample: Sample, task: str) -> None:
    """Refuse several columns of labels for a task that reads one.

    Raises:
        UsageError: there are several.
    """
    columns = sample.columns.get("label", [])
    if len(columns) > 1:
        raise UsageError(
            f"{task} reads one column of labels, and there are {listing(columns)}",
            place="--label",
            fix="name one of them; for several labels a row, write 0 and 1 in each column and "
            "add --task multi-label-classification",
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
