"""Which rows make which batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertolt.data.sampler import BatchSampler, batches_by_tokens

STRATEGIES = ("random", "sequential", "group_by_length")


@st.composite
def samplers(draw: st.DrawFn) -> BatchSampler:
    rows = draw(st.integers(0, 300))
    lengths = np.random.default_rng(draw(st.integers(0, 99))).integers(1, 200, rows)
    return BatchSampler(
        num_rows=rows,
        batch_size=draw(st.integers(1, 40)),
        seed=draw(st.integers(0, 2**32)),
        strategy=draw(st.sampled_from(STRATEGIES)),
        lengths=lengths,
    )


def batches(sampler: BatchSampler, epoch: int = 0, start: int = 0) -> list[list[int]]:
    return [batch.tolist() for batch in sampler.epoch(epoch, start)]


@given(sampler=samplers(), epoch=st.integers(0, 1000))
def test_an_epoch_has_every_row_once_in_full_batches_but_the_last(
    sampler: BatchSampler, epoch: int
) -> None:
    made = batches(sampler, epoch)
    assert sorted(row for batch in made for row in batch) == list(range(sampler.num_rows))
    assert len(made) == sampler.num_batches
    assert all(len(batch) == sampler.batch_size for batch in made[:-1])
    assert all(made)


@given(sampler=samplers(), epoch=st.integers(0, 1000), data=st.data())
def test_an_epoch_can_be_taken_up_at_any_batch(
    sampler: BatchSampler, epoch: int, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, sampler.num_batches))
    assert batches(sampler, epoch, start) == batches(sampler, epoch)[start:]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_order_is_a_function_of_seed_and_epoch_alone(strategy: Any) -> None:
    def make(seed: int) -> BatchSampler:
        lengths = np.arange(400) % 37
        return BatchSampler(
            num_rows=400, batch_size=8, seed=seed, strategy=strategy, lengths=lengths
        )

    one = make(1)
    later = batches(one, 5)
    assert batches(one, 0) == batches(make(1), 0)
    np.random.seed(0)
    assert batches(one, 5) == later
    changes = strategy != "sequential"
    assert (batches(one, 0) != batches(one, 1)) == changes
    assert (batches(one, 0) != batches(make(2), 0)) == changes


def test_sequential_keeps_the_order() -> None:
    sampler = BatchSampler(num_rows=7, batch_size=3, strategy="sequential")
    assert batches(sampler) == [[0, 1, 2], [3, 4, 5], [6]]


@pytest.mark.parametrize(("rows", "batch_size"), [(64, 8), (640, 32), (5000, 32)])
def test_grouping_by_length_spares_filler_and_still_mixes(rows: int, batch_size: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 256, rows)

    def filler(strategy: Any) -> float:
        sampler = BatchSampler(
            num_rows=rows, batch_size=batch_size, strategy=strategy, lengths=lengths
        )
        padded = sum(lengths[b].max() * len(b) for b in sampler.epoch(0))
        return 1 - lengths.sum() / padded

    assert filler("group_by_length") < 0.75 * filler("random")
    grouped = BatchSampler(
        num_rows=rows, batch_size=batch_size, strategy="group_by_length", lengths=lengths
    )
    # Short and long batches take turns: the order of batches says nothing about the length.
    means = [float(lengths[batch].mean()) for batch in grouped.epoch(0)]
    assert means != sorted(means)
    assert means != sorted(means, reverse=True)
    first = {frozenset(batch) for batch in batches(grouped, 0)}
    second = {frozenset(batch) for batch in batches(grouped, 1)}
    assert first != second


# ---- batches by tokens ----


@given(
    lengths=st.lists(st.integers(1, 300), max_size=200),
    budget=st.integers(1, 1000),
    window=st.integers(1, 250),
)
def test_batches_by_tokens_cover_every_row_once_within_the_budget(
    lengths: list[int], budget: int, window: int
) -> None:
    made = [rows.tolist() for rows in batches_by_tokens(np.array(lengths, int), budget, window)]
    assert sorted(row for rows in made for row in rows) == list(range(len(lengths)))
    for rows in made:
        assert rows
        assert len(rows) == 1 or sum(lengths[row] for row in rows) <= budget
        assert len({row // window for row in rows}) == 1, "results run out of order too far"


def test_batches_by_tokens_put_like_lengths_together() -> None:
    lengths = np.array([9, 1, 10, 2, 9, 1])
    made = [rows.tolist() for rows in batches_by_tokens(lengths, 19)]
    assert made == [[2, 0], [4, 3, 1, 5]]


def test_batches_are_filled_as_far_as_the_budget_goes() -> None:
    made = list(batches_by_tokens(np.full(100, 10), 100))
    assert [len(rows) for rows in made] == [10] * 10
