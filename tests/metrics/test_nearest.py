"""Exact search and ranks in blocks are those of the whole product."""

from __future__ import annotations

import numpy as np
import pytest

from bertolt.metrics import nearest


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "_BLOCK", 37 * 20)
    monkeypatch.setattr(nearest, "_QUERIES", 20)


def units(count: int, seed: int) -> np.ndarray:
    return nearest.unit(np.random.default_rng(seed).normal(size=(count, 16)))


@pytest.mark.usefixtures("small_blocks")
def test_the_nearest_are_those_of_the_whole_product_and_the_first_of_equal_ones() -> None:
    queries, candidates = units(50, 0), units(300, 1)
    candidates[250] = candidates[5]
    queries[3] = -candidates[5]
    product = queries @ candidates.T
    cosines, numbers = nearest.nearest(queries, candidates, 10)
    order = np.argsort(-product.round(6), axis=1, kind="stable")[:, :10]
    assert np.allclose(cosines, np.take_along_axis(product, order, 1), atol=1e-6)
    assert np.take_along_axis(product, numbers, 1) == pytest.approx(cosines, abs=1e-6)
    (best,) = nearest.nearest(candidates[5:6], candidates, 2)[1].tolist()
    assert best == [5, 250]
    assert nearest.nearest(queries, candidates[:4], 10)[1].shape == (50, 4)


@pytest.mark.usefixtures("small_blocks")
def test_ranks_count_all_that_are_as_near() -> None:
    queries, candidates = units(50, 0), units(300, 1)
    candidates[299] = candidates[7]
    rng = np.random.default_rng(2)
    right = np.stack([np.repeat(np.arange(50), 2), rng.integers(0, 300, 100)], axis=1)
    right[0] = (0, 7)
    product = queries @ candidates.T
    ranks, surprise = nearest.rank_right(queries, candidates, right)
    expected = [(product[q] >= product[q, c] - 1e-6).sum() for q, c in right]
    assert ranks.tolist() == expected, "the copy of a right text counts before it"
    scores = 20 * product.astype(np.float64)
    log_sum = np.log(np.exp(scores).sum(axis=1))
    assert surprise == pytest.approx([log_sum[q] - scores[q, c] for q, c in right], abs=1e-4)
