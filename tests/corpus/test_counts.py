"""Counts that add up in any order, and the sample of lines."""

from __future__ import annotations

import json
import random
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertolt.corpus.counts import CorpusCounts, LineSample, described, histogram
from bertolt.corpus.shards import Counts

lines = st.lists(st.sampled_from([str(number).encode() for number in range(30)]), max_size=60)


def sample_of(found: list[bytes], capacity: int) -> LineSample:
    sample = LineSample(capacity)
    sample.add(found)
    return sample


@given(lines)
def test_what_fits_is_counted_exactly(found: list[bytes]) -> None:
    sample = sample_of(found, 100)
    assert sample.lines == len(found)
    assert sample.repeated == pytest.approx(1 - len(set(found)) / len(found) if found else 0)


@given(parts=st.lists(lines, max_size=5), capacity=st.integers(1, 12))
def test_parts_in_any_order_give_the_sample_of_the_whole(
    parts: list[list[bytes]], capacity: int
) -> None:
    whole = sample_of([line for part in parts for line in part], capacity)
    assert len(whole.seen) <= capacity
    for order in (parts, parts[::-1]):
        merged = LineSample(capacity)
        for part in order:
            merged.merge(sample_of(part, capacity))
        assert (merged.level, merged.seen) == (whole.level, whole.seen)


def test_a_small_sample_estimates_the_share_of_a_large_corpus() -> None:
    choose = random.Random(0)
    found = [str(choose.randrange(60_000)).encode() for _ in range(100_000)]
    exact = 1 - len(set(found)) / len(found)
    sample = sample_of(found, 2048)
    assert 1000 < len(sample.seen) <= 2048
    assert sample.repeated == pytest.approx(exact, abs=0.02)


def test_counts_come_back_from_json_and_add_up() -> None:
    def counts_of(seed: int) -> CorpusCounts:
        return CorpusCounts(
            train=Counts(1, 2, 3 + seed),
            held_out=Counts(0, 1, 1),
            sources={seed: Counts(1, 2, 3), 7: Counts(1, 1, 1)},
            unknown=seed,
            long=1,
            longest=seed,
            sentences=histogram(np.array([1, 2, 3])),
            documents=histogram(np.array([6])),
            sample=sample_of([b"a", b"a", str(seed).encode()], 2048),
        )

    total = CorpusCounts()
    for seed in (1, 2):
        total.merge(CorpusCounts.from_dict(json.loads(json.dumps(asdict(counts_of(seed))))))
    assert total.train == Counts(2, 4, 9)
    assert total.all == Counts(2, 6, 11)
    assert total.of_source(7) == Counts(2, 2, 2)
    assert total.of_source(1) == Counts(1, 2, 3)
    assert total.of_source(99) == Counts()
    assert (total.unknown, total.long, total.longest) == (3, 2, 2)
    assert described(total.sentences) == {"1": 2, "2-3": 4}
    assert (total.sample.lines, total.sample.repeated) == (6, 0.5)


@given(st.lists(st.integers(1, 5000), max_size=40))
def test_every_length_is_in_its_bucket(lengths: list[int]) -> None:
    for bounds, count in described(histogram(np.array(lengths, np.int64))).items():
        low, _, high = bounds.partition("-")
        assert sum(int(low) <= length <= int(high or low) for length in lengths) == count
    assert sum(described(histogram(np.array(lengths, np.int64))).values()) == len(lengths)
