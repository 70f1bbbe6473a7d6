"""Which rows are held out in which of several runs, and which of them train in a sample."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bertolt.base.errors import UsageError
from bertolt.base.format import plural
from bertolt.data.groups import each_learned, folds, rows_by

Integers = npt.NDArray[np.int64]


def fold_rows(
    strata: Integers,
    count: int,
    seed: int,
    groups: Integers | None = None,
    needed: Sequence[Integers] = (),
) -> Integers:
    """The fold in which each row is held out, (N,), from 0; each stratum is dealt out evenly.

    No stratum and no label leaves training whole: where all of it would be in one fold, a row of
    it, with its group, is `NEVER` held out.

    Args:
        strata: (N,) what every fold has in the same share, such as labels.
        count: of the folds, 2 or more.
        seed: of the choice. The same strata, count and seed give the same folds.
        groups: (N,) rows that stay together; None: each by itself.
        needed: rows of each further label of which training has to have one.

    Raises:
        UsageError: there are fewer rows or groups than folds.
    """
    fold_of = folds(strata, count, seed, groups)
    return each_learned(fold_of, [*rows_by(strata), *needed], groups)


def sample_order(
    strata: Integers, seed: int, needed: Sequence[Integers] = ()
) -> tuple[Integers, int]:
    """Places of all rows, (N,), in an order of which each beginning has the strata in their shares;
    and how many come first.

    These are a row of each stratum and of each label, so that even a small sample knows all labels.
    """
    random = np.random.default_rng(seed)
    places = np.empty(len(strata), np.float64)
    for stratum in np.unique(strata):
        rows = random.permutation(np.flatnonzero(strata == stratum))
        places[rows] = (np.arange(len(rows)) + random.random()) / len(rows)
        places[rows[0]] = -1.0
    for rows in needed:
        if places[rows].min() >= 0:
            places[rows[places[rows].argmin()]] = -1.0
    order: Integers = np.argsort(places, kind="stable")
    return order, int((places < 0).sum())


def sample_rows(
    strata: Integers,
    count: int,
    seed: int,
    most: int | None = None,
    needed: Sequence[Integers] = (),
) -> Integers:
    """Places of `count` rows, ascending, with the strata in their shares; a larger sample of the
    same rows has all of a smaller one.

    Args:
        strata: (N,) of the rows to choose from.
        count: of the rows to choose.
        seed: of the choice.
        most: the largest of several samples, told when the first is drawn.
        needed: rows of each further label that the sample has to have.

    Raises:
        UsageError: there are fewer rows than that, or more labels.
    """
    order, least = sample_order(strata, seed, needed)
    largest = max(count, most or 0)
    if largest > len(strata):
        raise UsageError(
            f"{largest:,} rows are asked for, and {len(strata):,} train",
            place="--sample",
            fix=f"ask for {len(strata):,} at most",
        )
    if count < least:
        kinds = max(len(np.unique(strata)), len(needed))
        raise UsageError(
            f"{plural(count, 'row')} cannot have each of {kinds} labels",
            place="--sample",
            fix=f"ask for {least:,} and more"
            if most is None
            else f"name sizes of {least:,} and more: --sample {least},{max(largest, 2 * least)}",
        )
    rows: Integers = np.sort(order[:count])
    return rows
