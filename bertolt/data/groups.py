"""Groups of rows that stay together, dealt to the parts of a split or to folds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bertolt.base.errors import DataError, UsageError
from bertolt.base.format import percent, plural
from bertolt.data.near import components
from bertolt.data.spelling import quoted
from bertolt.data.table_file import is_empty

if TYPE_CHECKING:
    from bertolt.data.load import Table

Integers = NDArray[np.int64]
NEVER = -1
"""The part of a row that always trains."""
_SHOWN = 6  # labels whose shares are told


def groups_by(table: Table, column: str) -> Integers:
    """(N,) rows that have one value in a column the table keeps; a row without one is alone.

    Raises:
        DataError: no two rows are parted by it, or no two stay together.
    """
    codes: dict[str, int] = {}
    groups = np.empty(len(table), np.int64)
    for place, kept in enumerate(table.data["kept"].to_pylist()):
        value = json.loads(kept)[column]
        # A number that begins the line stands for a row without a value.
        key = f"{place}" if is_empty(value) else f" {json.dumps(value)}"
        groups[place] = codes.setdefault(key, len(codes))
    if len(codes) < 2:
        raise DataError(
            f"all {plural(len(table), 'row')} have one value, and cannot be parted",
            place=f"{table.path}, column {column!r}",
            fix="name a column with more values with --group, or give a file of its own with "
            "--eval",
        )
    if len(codes) == len(table):
        raise DataError(
            f"each of {plural(len(table), 'row')} has a value of its own: no two stay together",
            place=f"{table.path}, column {column!r}",
            fix="leave --group out, or name the column whose values several rows share",
        )
    return groups


def joined_groups(one: Integers, other: Integers) -> Integers:
    """(N,) rows that stay together by either of two kinds of groups, over any number of steps."""
    rows = np.arange(len(one))
    links = []
    for groups in (one, other):
        _, first, members = np.unique(groups, return_index=True, return_inverse=True)
        links.append(np.stack([first[members], rows], axis=1))
    return components(len(rows), np.concatenate(links))


def dealt(strata: Integers, groups: Integers, shares: Sequence[float], seed: int) -> Integers:
    """(N,) the part of each row: groups whole, strata in the shares as well as that allows.

    The largest groups are dealt first, each to the part that is then nearest to its share of every
    stratum (the greedy rule of StratifiedGroupKFold in scikit-learn, for parts of any share).

    Args:
        strata: (N,) what is to be in the same share in each part.
        groups: (N,) what is not parted.
        shares: of the parts, which add up to 1.
        seed: of the order among groups of one size.

    Raises:
        UsageError: there are fewer groups than parts.
    """
    names, members = np.unique(groups, return_inverse=True)
    if len(names) < len(shares):
        raise UsageError(
            f"there are {plural(len(names), 'group')} for {len(shares)} parts",
            place="--group",
            fix="name a column with more values, or make fewer parts",
        )
    kinds, classes = np.unique(strata, return_inverse=True)
    order = np.argsort(members, kind="stable")
    ends = np.bincount(members, minlength=len(names)).cumsum()
    rows_of = np.split(classes[order], ends[:-1])
    shuffled = np.random.default_rng(seed).permutation(len(names))
    largest = shuffled[np.argsort(-np.diff(np.r_[0, ends])[shuffled], kind="stable")]
    weights = np.bincount(classes, minlength=len(kinds)).astype(np.float64) ** -2
    room = np.asarray(shares, np.float64)
    held = np.zeros((len(room), len(kinds)))
    part_of = np.empty(len(names), np.int64)
    for done, group in enumerate(largest.tolist()):
        some, counts = np.unique(rows_of[group], return_counts=True)
        cost = ((2 * held[:, some] + counts) * counts * weights[some]).sum(axis=1) / room
        empty = held.sum(axis=1) == 0
        if len(largest) - done <= empty.sum():
            cost[~empty] = np.inf  # the last groups go where there is nothing yet
        part_of[group] = part = int(cost.argmin())
        held[part, some] += counts
    return part_of[members]


def folds(strata: Integers, count: int, seed: int, groups: Integers | None = None) -> Integers:
    """(N,) the fold of each row, from 0: strata in equal shares, groups whole.

    Args:
        strata: (N,) what is to be in the same share in each fold.
        count: of the folds, 2 or more.
        seed: of the choice.
        groups: (N,) rows that stay together; None: each by itself.

    Raises:
        UsageError: there are fewer rows or groups than folds.
    """
    if groups is not None:
        return dealt(strata, groups, [1 / count] * count, seed)
    if len(strata) < count:
        raise UsageError(
            f"there are {plural(len(strata), 'row')} for {count} folds",
            place="--folds",
            fix="make fewer folds",
        )
    random = np.random.default_rng(seed)
    shuffled = random.permutation(len(strata))
    order = shuffled[np.argsort(strata[shuffled], kind="stable")]
    fold = np.empty(len(strata), np.int64)
    # Strata follow each other, so that sizes of folds differ by one row at most.
    fold[order] = np.arange(len(strata)) % count
    return fold


def rows_by(strata: Integers) -> list[Integers]:
    """The rows of each stratum, ascending, by its number."""
    order = np.argsort(strata, kind="stable")
    _, starts = np.unique(strata[order], return_index=True)
    return np.split(order, starts[1:])


def each_learned(
    part: Integers, needed: Iterable[Integers], groups: Integers | None = None
) -> Integers:
    """(N,) the part that holds each row out, so that the rest always has one row of each label.

    Where one part has all rows of a label, the smallest group with such a row is `NEVER` held out.

    Args:
        part: (N,) what holds each row out, or `NEVER`.
        needed: rows of each label, one of which has to train.
        groups: (N,) rows that stay together; None: each by itself.
    """
    part = part.copy()
    members = np.arange(len(part))
    if groups is not None:
        members = np.unique(groups, return_inverse=True)[1]
    sizes = np.bincount(members)
    for rows in needed:
        if len(np.unique(part[rows])) == 1 and part[rows[0]] != NEVER:
            owners = np.unique(members[rows])
            part[members == owners[sizes[owners].argmin()]] = NEVER
    return part


def shares_words(strata: Integers, held_out: Integers, names: Sequence[str]) -> str:
    """The share of each stratum that a part has, in words, where there are few of them.

    Args:
        strata: (N,) of all rows.
        held_out: places of the part.
        names: of the strata, in their order.
    """
    kinds, classes = np.unique(strata, return_inverse=True)
    if len(kinds) < 2:
        return ""
    here = np.bincount(classes[held_out], minlength=len(kinds))
    shares = here / np.bincount(classes, minlength=len(kinds))
    if len(kinds) > _SHOWN or len(names) != len(kinds):
        low, high = percent(shares.min(), 0), percent(shares.max(), 0)
        return f"of each label from {low} to {high}"
    pairs = zip(names, shares.tolist(), strict=True)
    return ", ".join(f"of {quoted(name)} {percent(share, 0)}" for name, share in pairs)
