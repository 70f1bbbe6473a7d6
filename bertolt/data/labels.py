"""Labels as numbers: which there are and in which order; splits that keep the share of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bertolt.base.errors import DataError, UsageError, nearest
from bertolt.base.format import plural
from bertolt.data.cells import as_number
from bertolt.data.groups import NEVER, dealt, each_learned, rows_by
from bertolt.data.spelling import quoted
from bertolt.data.table_file import listing

if TYPE_CHECKING:
    from bertolt.data.load import Table

Integers = npt.NDArray[np.int64]

MANY_LABELS = 50  # more than this, and more than half as many as rows, are no labels
MANY_ALL_DIFFERENT = 10  # nor are more than this that never come twice


@dataclass(frozen=True)
class LabelMap:
    """The label names in order; the class of a label is its place, from 0."""

    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def id2label(self) -> dict[int, str]:
        """Class to name."""
        return dict(enumerate(self.names))

    @cached_property
    def label2id(self) -> dict[str, int]:
        """Name to class."""
        return {name: index for index, name in enumerate(self.names)}

    def encode(self, labels: Sequence[str]) -> Integers:
        """The classes of some labels, shape (rows,). Raises KeyError for one it does not know."""
        return np.fromiter((self.label2id[label] for label in labels), np.int64, len(labels))


def label_map(labels: Iterable[str], *, place: str = "") -> LabelMap:
    """The labels of the training rows: by value if all are numbers (1, 2, 10), else by spelling.

    Args:
        labels: one for each training row.
        place: the file and the column, for messages.

    Raises:
        DataError: only one label, or so many that the column is no label.
    """
    counts = Counter(labels)
    total, different = counts.total(), len(counts)
    rows = plural(total, "row")
    fix = "name the label column with --label"
    if different < 2:
        only = f"only one label, {quoted(next(iter(counts)))}" if counts else "no label"
        raise DataError(
            f"there is {only}, in {rows}: nothing to tell apart",
            place=place,
            fix=fix,
        )
    nearly_unique = different > MANY_LABELS and 2 * different > total
    if nearly_unique or different == total > MANY_ALL_DIFFERENT:
        raise DataError(
            f"{different:,} different values in {rows}: this does not look like a label",
            place=place,
            fix=fix,
        )
    numbers = {name: as_number(name) for name in counts}
    if all(number is not None for number in numbers.values()):
        return LabelMap(tuple(sorted(counts, key=lambda name: (numbers[name], name))))
    return LabelMap(tuple(sorted(counts)))


def encode_labels(table: Table, labels: LabelMap) -> Integers:
    """The classes of a table's rows, shape (rows,).

    Raises:
        DataError: the table has no labels, or a row has one that is not among `labels`.
    """
    if table.label_column is None:
        raise DataError(
            f"it was read without labels; there are {listing(table.columns)}",
            place=table.path,
            fix="name the label column with --label",
        )
    known, unknown = labels.label2id, []
    classes = np.empty(len(table), np.int64)
    for index, value in enumerate(table.each_label()):
        classes[index] = known.get(value, -1)
        if value not in known:
            unknown.append(index)
    if unknown:
        value = table.data["label"][unknown[0]].as_py()
        raise _unknown_label(table, labels, value, unknown)
    return classes


def _unknown_label(table: Table, labels: LabelMap, value: str, unknown: list[int]) -> DataError:
    near = nearest(value, list(labels.names))
    others = f" ({plural(len(unknown), 'row')} have such labels)" if len(unknown) > 1 else ""
    return DataError(
        f"training had no label {quoted(str(value))}{others}; it had {listing(labels.names)}",
        place=f"{table.place_at(unknown[0])}, column {table.label_column!r}",
        fix=(f"perhaps {near!r} is meant; " if near else "")
        + "mend the labels, name the right column with --label, or train with such rows",
    )


def split_rows(
    labels: Integers, test_size: float, seed: int, groups: Integers | None = None
) -> tuple[Integers, Integers]:
    """Part rows into training and test rows, each label in the same proportion.

    The test part has `test_size` of all rows, rounded, and of each label the nearest number that
    adds up to that (largest remainders). A label never goes to the test part whole, so one that has
    a single row stays in training.

    Args:
        labels: the class of each row, shape (rows,).
        test_size: the share of the test part, between 0 and 1.
        seed: of the choice. The same labels, size and seed give the same parts.
        groups: shape (rows,), rows that stay together; None: each by itself. Labels are then in the
            same proportion as well as whole groups allow.

    Returns:
        The places of the training rows and of the test rows, each in ascending order.

    Raises:
        UsageError: the size is no share, or leaves one of the parts without rows.
    """
    rows = len(labels)
    if not 0 < test_size < 1:
        raise UsageError(
            f"it is {test_size}, not a share between 0 and 1",
            place="--test-size",
            fix="give a share, for instance --test-size 0.2",
        )
    if groups is not None:
        return _split_groups(labels, groups, test_size, seed)
    classes, members = np.unique(labels, return_inverse=True)
    counts = np.bincount(members, minlength=len(classes))
    total = round(rows * test_size)
    shares = _shares(counts, total)
    if not shares.sum() or total == rows:
        part = "test" if not shares.sum() else "training"
        raise UsageError(
            f"{test_size} of {plural(rows, 'row')} in {plural(len(classes), 'label')} leaves no "
            f"{part} rows",
            place="--test-size",
            fix="give a file of its own with --eval, or --test-size 0 to train on all rows",
        )
    random = np.random.default_rng(seed)
    is_test = np.zeros(rows, dtype=bool)
    for index, count in enumerate(shares):
        is_test[random.permutation(np.flatnonzero(members == index))[:count]] = True
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)


def _split_groups(
    labels: Integers, groups: Integers, test_size: float, seed: int
) -> tuple[Integers, Integers]:
    """The same with whole groups: as many as have about that share of the rows, at random where
    there is one label."""
    names, members = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise UsageError(
            f"all {plural(len(groups), 'row')} belong together, and cannot be parted",
            place="--test-size",
            fix="give a file of its own with --eval, or --test-size 0 to train on all rows",
        )
    if (labels != labels[0]).any():
        part = dealt(labels, groups, (1 - test_size, test_size), seed)
        part = each_learned(np.where(part == 1, 1, NEVER), rows_by(labels), groups)
        if (part == NEVER).all():
            raise UsageError(
                f"with {plural(len(names), 'group')} each label is learned only if all rows train",
                place="--group",
                fix="name a column with more values, or give a file of its own with --eval",
            )
        return np.flatnonzero(part == NEVER), np.flatnonzero(part != NEVER)
    order = np.random.default_rng(seed).permutation(len(names))
    sizes = np.bincount(members)[order].cumsum()
    count = int(np.abs(sizes - len(groups) * test_size).argmin()) + 1
    is_test = np.isin(members, order[: min(count, len(names) - 1)])
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)


def _shares(counts: Integers, total: int) -> Integers:
    """`total` rows dealt to classes in proportion to `counts`, one row of each held back."""
    shares, remainders = np.divmod(counts * total, max(int(counts.sum()), 1))
    largest_first = np.argsort(-remainders, kind="stable")
    shares[largest_first[: total - int(shares.sum())]] += 1
    held_back: Integers = np.minimum(shares, counts - 1)
    return held_back
