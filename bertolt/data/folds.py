"""Which rows are held out in which of several runs, and which of them train in a sample."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bertolt.base.errors import UsageError
from bertolt.base.format import plural
from bertolt.data.groups import folds

Integers = npt.NDArray[np.int64]

NEVER = -1
"""The fold of a row that always trains."""


def fold_rows(strata: Integers, count: int, seed: int, groups: Integers | None = None) -> Integers:
    """The fold in which each row is held out, (N,), from 0; each stratum is dealt out evenly.

    A stratum never leaves training whole: where all of it would be in one fold, a row of it, or its
    largest group, is `NEVER` held out.

    Args:
        strata: (N,) what every fold has in the same share, such as labels.
        count: of the folds, 2 or more.
        seed: of the choice. The same strata, count and seed give the same folds.
        groups: (N,) rows that stay together; None: each by itself.

    Raises:
        UsageError: there are fewer rows or groups than folds.
    """
    fold_of = folds(strata, count, seed, groups)
    members = np.arange(len(strata))
    if groups is not None:
        members = np.unique(groups, return_inverse=True)[1]
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        if len(np.unique(fold_of[rows])) == 1:
            owners = np.bincount(members[rows], minlength=members.max() + 1)
            fold_of[members == int(owners.argmax())] = NEVER
    return fold_of


def sample_order(strata: Integers, seed: int) -> Integers:
    """Places of all rows, (N,), in an order of which each beginning has the strata in their shares.

    First comes a row of each stratum, so that even a small sample knows all labels.
    """
    random = np.random.default_rng(seed)
    places = np.empty(len(strata), np.float64)
    for stratum in np.unique(strata):
        rows = random.permutation(np.flatnonzero(strata == stratum))
        places[rows] = (np.arange(len(rows)) + random.random()) / len(rows)
        places[rows[0]] = -1.0
    order: Integers = np.argsort(places, kind="stable")
    return order


def sample_rows(strata: Integers, count: int, seed: int, most: int | None = None) -> Integers:
    """Places of `count` rows, ascending, with the strata in their shares; a larger sample of the
    same rows has all of a smaller one.

    Args:
        strata: (N,) of the rows to choose from.
        count: of the rows to choose.
        seed: of the choice.
        most: the largest of several samples, told when the first is drawn.

    Raises:
        UsageError: there are fewer rows than that, or more labels.
    """
    kinds, largest = len(np.unique(strata)), max(count, most or 0)
    if largest > len(strata):
        raise UsageError(
            f"{largest:,} rows are asked for, and {len(strata):,} train",
            place="--sample",
            fix=f"ask for {len(strata):,} at most",
        )
    if count < kinds:
        raise UsageError(
            f"{plural(count, 'row')} cannot have each of {kinds} labels",
            place="--sample",
            fix=f"ask for {kinds:,} and more",
        )
    rows: Integers = np.sort(sample_order(strata, seed)[:count])
    return rows
