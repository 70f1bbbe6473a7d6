"""Intervals and tests by resampling rows."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bertolt.metrics.bootstrap import (
    RowSums,
    bootstrap_interval,
    by_group,
    holm,
    mcnemar,
    paired_ranks,
    paired_test,
    ratio,
    spearman_interval,
)


def rmse(sums: Any) -> Any:
    return np.sqrt(np.maximum(sums[..., 0] / sums[..., 1], 0))


def clustered(generator: Any, rows: int) -> Any:
    """Rows of 1 to 20 spans, which are right with a chance of the row's own."""
    sizes = generator.integers(1, 21, rows)
    return np.stack([generator.binomial(sizes, generator.beta(4, 1, rows)), sizes], axis=1)


def test_equal_rows_are_counted_and_their_order_does_not_matter() -> None:
    generator = np.random.default_rng(0)
    values = clustered(generator, 300)
    rows, other = RowSums.of(values), RowSums.of(values[generator.permutation(300)])
    assert len(rows.counts) < 200
    np.testing.assert_array_equal(rows.total(), values.sum(axis=0))
    assert bootstrap_interval(rows, ratio) == bootstrap_interval(other, ratio)
    merged = RowSums.of(
        np.concatenate([rows.sums, values]), np.concatenate([rows.counts, np.ones(300)])
    )
    assert merged.counts.tolist() == (2 * rows.counts).tolist()


def test_the_interval_is_that_of_scipy() -> None:
    values = np.random.default_rng(1).normal(3, 2, 80) ** 2
    low, high = bootstrap_interval(
        RowSums.of(np.column_stack([values, np.ones(80)])), rmse, resamples=20_000
    ) or (0, 0)
    expected = stats.bootstrap(
        (values,), lambda x, axis: np.sqrt(x.mean(axis=axis)), n_resamples=20_000, method="BCa",
        random_state=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    assert (low, high) == pytest.approx(tuple(expected), abs=0.03)


def test_many_different_rows_are_resampled_in_groups() -> None:
    values = np.column_stack([np.random.default_rng(2).exponential(1, 20_000), np.ones(20_000)])
    rows = RowSums.of(values)
    assert len(rows.grouped().counts) == 1024
    np.testing.assert_allclose(rows.grouped().total(), rows.total())
    low, high = bootstrap_interval(rows, ratio) or (0, 0)
    assert (high - low) / 2 == pytest.approx(1.96 / math.sqrt(20_000), rel=0.1)
    assert bootstrap_interval(rows, ratio) == bootstrap_interval(
        RowSums.of(values[np.random.default_rng(3).permutation(20_000)]), ratio
    )


@pytest.mark.parametrize("sums", [[[1, 1]], [[1, 1]] * 9, [[0, 0]] * 9, np.empty((0, 2))])
def test_where_all_resamples_are_alike_there_is_no_interval(sums: Any) -> None:
    assert bootstrap_interval(RowSums.of(np.reshape(sums, (-1, 2))), ratio) is None


@pytest.mark.parametrize(("rows", "values"), [(300, 1000), (300, 4), (20_000, 1000)])
def test_a_rank_correlation_has_an_interval(rows: int, values: int) -> None:
    generator = np.random.default_rng(6)
    true = generator.integers(0, values, rows).astype(float)
    said = true / values + generator.normal(0, 0.3, rows)
    value = stats.spearmanr(said, true).statistic
    low, high = spearman_interval(said, true) or (0, 0)
    assert low < value < high
    # Normal theory, which is close where the correlation is not.
    error = math.sqrt((1 + value**2 / 2) / (rows - 3))
    usual = np.tanh(np.arctanh(value) + np.array([-1.96, 1.96]) * error)
    assert high - low == pytest.approx(usual[1] - usual[0], rel=0.3)
    order = generator.permutation(rows)
    assert spearman_interval(said[order], true[order]) == (low, high)


def test_a_constant_has_no_rank_correlation() -> None:
    assert spearman_interval(np.ones(9), np.arange(9.0)) is None
    assert spearman_interval(np.ones(1), np.ones(1)) is None


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["accuracy", "f1 of spans", "rmse"])
def test_it_covers_the_true_value_in_95_of_100_samples(kind: str) -> None:
    generator = np.random.default_rng(4)
    covered, samples = 0, 300
    for _ in range(samples):
        if kind == "accuracy":
            values = np.column_stack([generator.random(80) < 0.8, np.ones(80)])
        elif kind == "rmse":
            values = np.column_stack([generator.normal(0, 1, 80) ** 2, np.ones(80)])
        else:
            values = clustered(generator, 80)
        score = rmse if kind == "rmse" else ratio
        low, high = bootstrap_interval(RowSums.of(values), score, resamples=600) or (0, 0)
        covered += low <= (1.0 if kind == "rmse" else 0.8) <= high
    # The standard error of the share is 1.3%.
    assert 0.905 <= covered / samples <= 0.985


@pytest.mark.parametrize(("fixed", "broken"), [(0, 0), (9, 1), (3, 3), (0, 5), (700, 640)])
def test_mcnemar_is_the_binomial_test(fixed: int, broken: int) -> None:
    expected = 1.0
    if fixed + broken:
        expected = stats.binomtest(fixed, fixed + broken).pvalue
    assert mcnemar(fixed, broken) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(broken, fixed) == mcnemar(fixed, broken)


def test_groups_count_as_single_rows_where_their_rows_are_alike() -> None:
    """20 users of 30 rows that are right or wrong together say as much as 20 rows."""
    generator = np.random.default_rng(3)
    right = np.stack([generator.random(20) < 0.8, np.ones(20)], axis=1).astype(np.float64)
    other = np.stack([generator.random(20) < 0.6, np.ones(20)], axis=1).astype(np.float64)
    mixed = generator.permutation(600)
    groups = np.repeat(np.arange(20), 30)[mixed]
    by_user = by_group(right[groups], groups)
    interval = bootstrap_interval(RowSums.of(by_user), ratio)
    assert interval == pytest.approx(bootstrap_interval(RowSums.of(right), ratio))
    wide, narrow = interval, bootstrap_interval(RowSums.of(right[groups]), ratio)
    assert wide is not None
    assert narrow is not None
    assert np.diff(wide) > 4 * np.diff(narrow)
    few = paired_test(right, other, ratio)
    assert paired_test(right[groups], other[groups], ratio, groups).p == few.p
    assert paired_test(right[groups], other[groups], ratio).p < few.p


def test_groups_of_a_rank_correlation() -> None:
    generator = np.random.default_rng(4)
    first = generator.normal(size=25)
    second, true = first + generator.normal(size=(2, 25))
    groups = np.repeat(np.arange(25), 4)
    alone = spearman_interval(first, true)
    whole = spearman_interval(first[groups], true[groups], groups)
    assert whole == pytest.approx(alone, abs=0.02)
    mixed = generator.permutation(100)
    again = spearman_interval(first[groups][mixed], true[groups][mixed], groups[mixed])
    assert again == pytest.approx(whole)
    few = paired_ranks(first, second, true)
    many = paired_ranks(first[groups], second[groups], true[groups], groups)
    assert many.p == pytest.approx(few.p, abs=0.02)
    assert many.difference == pytest.approx(few.difference)


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_shuffles_agree_with_mcnemar_where_rows_are_right_or_wrong() -> None:
    first, second = np.zeros(200), np.zeros(200)
    first[:120], second[:100], second[150:185] = 1, 1, 1
    ones = np.ones(200)
    test = paired_test(np.column_stack([first, ones]), np.column_stack([second, ones]), ratio)
    assert test.difference == pytest.approx(15 / 200)
    assert test.p == pytest.approx(mcnemar(35, 20), abs=0.02)
    low, high = test.interval or (0, 0)
    assert low < 0.075 < high


def test_shuffles_find_nothing_between_equal_answers() -> None:
    values = clustered(np.random.default_rng(5), 50)
    test = paired_test(values, values, ratio)
    assert (test.difference, test.interval, test.p) == (0.0, None, 1.0)


def two_orders(rows: int, seed: int, apart: float = 0.4) -> Any:
    """True values with ties, and two ways to follow them on scales of their own; the first does it
    worse."""
    generator = np.random.default_rng(seed)
    true = generator.integers(0, 6, rows).astype(float)
    noise = generator.normal(0, 1, (3, rows))
    first = true + 2 * noise[0] + (2 + apart) * noise[1]
    return first, np.exp(true + 2 * noise[0] + (2 - apart) * noise[2]), true


def test_exchanged_ranks_are_those_of_all_ways_to_exchange_them() -> None:
    """By each of the 1,024 ways to exchange ten rows, with scipy's ranks."""
    first, second, true = two_orders(10, 8, apart=1.8)
    one, other, last = (stats.rankdata(values) for values in (first, second, true))

    def gap(swapped: Any) -> float:
        pair = np.where(swapped, other, one), np.where(swapped, one, other)
        before, after = (np.corrcoef(ranks, last)[0, 1] for ranks in pair)
        return float(after - before)

    ways = (np.arange(1024)[:, None] >> np.arange(10)) & 1 == 1
    gaps = np.abs([gap(way) for way in ways])
    test = paired_ranks(first, second, true)
    expected = stats.spearmanr(second, true).statistic - stats.spearmanr(first, true).statistic
    assert test.difference == pytest.approx(expected, abs=1e-12)
    share = (gaps >= abs(expected) - 1e-9).mean()
    assert 0.02 < share < 0.5
    assert test.p == pytest.approx(share, abs=0.015)
    assert test.by == "ranks"
    back = paired_ranks(second, first, true)
    assert back.difference == pytest.approx(-expected, abs=1e-12)
    assert back.p == pytest.approx(share, abs=0.015)


def test_the_difference_of_two_correlations_has_an_interval() -> None:
    first, second, true = two_orders(120, 9)
    generator = np.random.default_rng(10)
    differences = []
    for _ in range(1000):
        drawn = generator.integers(0, 120, 120)
        one, other = (
            stats.spearmanr(each[drawn], true[drawn]).statistic for each in (first, second)
        )
        differences.append(other - one)
    test = paired_ranks(first, second, true, shuffles=99)
    assert test.interval == pytest.approx(tuple(np.quantile(differences, [0.025, 0.975])), abs=0.03)
    order = generator.permutation(120)
    again = paired_ranks(first[order], second[order], true[order], shuffles=99)
    assert (again.interval, again.p) == (test.interval, test.p)


def test_many_rows_are_exchanged_in_groups_and_in_little_memory() -> None:
    peaks = []
    for rows in (50_000, 100_000):
        orders = two_orders(rows, 11, apart=0.02)
        tracemalloc.start()
        test = paired_ranks(*orders, shuffles=999)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        low, high = test.interval or (0, 0)
        assert low < test.difference < high
        # By normal theory of what the interval says: about as sure.
        usual = 2 * stats.norm.sf(abs(test.difference) / ((high - low) / 3.92))
        assert test.p == pytest.approx(usual, abs=0.1)
    assert (peaks[1] - peaks[0]) / 50_000 < 1500, "bytes a row"


def test_orders_that_are_equal_or_constant_are_not_told_apart() -> None:
    first, _, true = two_orders(40, 12)
    test = paired_ranks(first, np.exp(first), true)
    assert (test.difference, test.interval, test.p) == (0.0, None, 1.0)
    test = paired_ranks(first, np.ones(40), true)
    assert math.isnan(test.difference)
    assert test.p == 1.0


def test_scores_without_a_value_are_not_told_apart() -> None:
    nothing = np.zeros((5, 2))
    test = paired_test(nothing, nothing, ratio)
    assert math.isnan(test.difference)
    assert test.p == 1.0
