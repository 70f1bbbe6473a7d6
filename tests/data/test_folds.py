"""Folds and samples: strata in their shares, groups whole, nothing held out twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertolt.base.errors import UsageError
from bertolt.data.folds import fold_rows, sample_rows
from bertolt.data.groups import NEVER


@given(st.lists(st.integers(0, 3), min_size=6, max_size=60), st.integers(2, 5), st.booleans())
def test_each_row_is_held_out_once_and_each_label_always_trains(
    labels: list[int], count: int, grouped: bool
) -> None:
    strata = np.array(labels)
    groups = np.arange(len(strata)) // 2 if grouped else None
    if grouped and len(np.unique(groups)) < count:
        return
    folds = fold_rows(strata, count, 0, groups)
    assert set(np.unique(folds)) <= {NEVER, *range(count)}
    for fold in range(count):
        assert set(strata[folds != fold]) == set(labels)
    if groups is None:
        sizes = np.bincount(folds[folds != NEVER], minlength=count)
        assert sizes.max() - sizes.min() <= 1 + (folds == NEVER).sum()
    else:
        assert all(len(set(folds[groups == group])) == 1 for group in np.unique(groups))


@given(st.lists(st.sets(st.integers(0, 4)), min_size=6, max_size=40), st.integers(0, 9))
def test_a_label_that_is_nowhere_the_rarest_always_trains(sets: list[set[int]], seed: int) -> None:
    needed = [np.flatnonzero([label in each for each in sets]) for label in range(5)]
    needed = [rows for rows in needed if len(rows)]
    strata = np.zeros(len(sets), np.int64)
    folds = fold_rows(strata, 3, seed, needed=needed)
    for fold in range(3):
        assert all((folds[rows] != fold).any() for rows in needed)
    single = sum(len(rows) == 1 for rows in needed)
    assert (folds == NEVER).sum() <= max(single, len(needed))
    sample = sample_rows(strata, min(len(sets), 1 + len(needed)), seed, needed=needed)
    assert all(np.isin(rows, sample).any() for rows in needed)


@given(st.lists(st.integers(0, 2), min_size=4, max_size=80), st.integers(0, 9))
def test_a_sample_has_each_label_and_is_part_of_a_larger_one(labels: list[int], seed: int) -> None:
    strata = np.array(labels)
    small, large = len(set(labels)), len(labels) - 1
    if large < small:
        return
    first, second = sample_rows(strata, small, seed), sample_rows(strata, large, seed)
    assert set(strata[first]) == set(labels)
    assert set(first) <= set(second)
    assert list(second) == sorted(second)
    half = sample_rows(strata, max(small, len(labels) // 2), seed)
    for label in set(labels):
        share = (strata[half] == label).sum() / len(half)
        assert abs(share - (strata == label).mean()) <= 3 / len(half)


def test_what_cannot_be_dealt_is_refused() -> None:
    labels = np.array([0, 1, 0, 1])
    with pytest.raises(UsageError, match="there are 4 rows for 5 folds"):
        fold_rows(labels, 5, 0)
    with pytest.raises(UsageError, match="there are 2 groups for 3 parts"):
        fold_rows(labels, 3, 0, np.array([0, 0, 1, 1]))
    with pytest.raises(UsageError, match="9 rows are asked for, and 4 train"):
        sample_rows(labels, 2, 0, most=9)
    with pytest.raises(UsageError, match="1 row cannot have each of 2 labels"):
        sample_rows(labels, 1, 0)
