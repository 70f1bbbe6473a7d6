"""Pairs of sentences, by the rule of the paper's code."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bertolt.base.errors import DataError
from bertolt.corpus.shards import Shard
from bertolt.data.batch import IGNORE_INDEX
from bertolt.pretrain.pairs import _shorten, pairs
from bertolt.pretrain.windows import Text
from tests.pretrain.corpora import any_shards, random_shards, shard


def document_of(text: Text, place: int) -> int:
    """The number of the document that a token is in."""
    return int(np.searchsorted(text.pieces[text.documents], place, side="right"))


@given(
    shards=any_shards(least_documents=2),
    room=st.integers(4, 50),
    seed=st.integers(0, 2**32),
    epoch=st.integers(0, 99),
)
def test_a_pair_is_two_runs_of_text(shards: list[Shard], room: int, seed: int, epoch: int) -> None:
    text = Text.cut(shards, room)
    assume(np.diff(text.documents).max() > 1)
    made = pairs(text, room, seed=seed, epoch=epoch)
    assert made.labels is not None
    assert made.counts.min() >= 1
    assert made.counts.sum(axis=0).max() <= room
    assert made.lengths.tolist() == (made.counts.sum(axis=0) + 3).tolist()
    for (first, second), (one, two), label in zip(
        made.starts.T, made.counts.T, made.labels, strict=True
    ):
        here, there = document_of(text, first), document_of(text, second)
        assert document_of(text, first + one - 1) == here
        assert document_of(text, second + two - 1) == there
        assert (here == there) == (label == 0)
        assert label in (0, 1, IGNORE_INDEX)
        if label == 0:
            assert second >= first + one
    again = pairs(text, room, seed=seed, epoch=epoch)
    assert (again.starts == made.starts).all()
    assert (again.labels == made.labels).all()


@given(documents=st.lists(st.integers(1, 40), min_size=2, max_size=9), room=st.integers(4, 50))
def test_nothing_is_passed_over(documents: list[int], room: int) -> None:
    """Where sentences are single tokens, so that none is cut, each is used once, but as another's.

    A text is used as a first part, or as a second one that follows it.
    """
    text = Text.cut([shard([[[7]] * count for count in [2, *documents]])], room)
    made = pairs(text, room, seed=0, epoch=0)
    assert made.labels is not None
    used = np.zeros(text.num_tokens, dtype=int)
    for starts, counts, label in zip(made.starts.T, made.counts.T, made.labels, strict=True):
        for start, count in list(zip(starts, counts, strict=True))[: 2 if label == 0 else 1]:
            used[start : start + count] += 1
    assert (used == 1).all()


def one_by_one(documents: list[list[int]], room: int, seed: int) -> list[tuple[int, int, int]]:
    """The rule once more, sentence after sentence: tokens of both parts, and the label."""
    draw = random.Random(seed)
    made = []
    for number, document in enumerate(documents):
        place = 0
        while place < len(document):
            wanted = draw.randint(2, room) if draw.random() < 0.1 else room
            stop = place
            while stop < len(document) and sum(document[place:stop]) < wanted:
                stop += 1
            middle = place + (draw.randint(1, stop - place - 1) if stop - place > 1 else 1)
            first, label = sum(document[place:middle]), 0
            second = sum(document[middle:stop])
            if stop - place == 1 or draw.random() < 0.5:
                other = draw.choice([n for n in range(len(documents)) if n != number])
                begin = draw.randrange(len(documents[other]))
                second, label, stop = 0, 1 if stop - place > 1 else IGNORE_INDEX, middle
                for sentence in documents[other][begin:]:
                    second += sentence
                    if second >= wanted - first:
                        break
            while first + second > room:
                first, second = (first - 1, second) if first > second else (first, second - 1)
            made.append((first, second, label))
            place = stop
    return made


@pytest.mark.parametrize("sentences", [(1, 4), (30, 60)])
def test_shares_and_lengths_are_those_of_the_rule(sentences: tuple[int, int]) -> None:
    shards = random_shards(900, sentences=sentences, tokens=12.0, shards=1)
    text = Text.cut(shards, 125)
    made = [pairs(text, 125, seed=0, epoch=epoch) for epoch in range(3)]
    found = np.concatenate([np.stack([*each.counts, each.labels]) for each in made], axis=1)
    bounds = shards[0].document_starts
    documents = [
        np.diff(shards[0].sentence_starts)[begin:end].tolist() for begin, end in pairwise(bounds)
    ]
    wanted = np.array([row for seed in range(3) for row in one_by_one(documents, 125, seed)]).T
    assert found.shape[1] == pytest.approx(wanted.shape[1], rel=0.03)
    assert found[:2].mean(axis=1) == pytest.approx(wanted[:2].mean(axis=1), rel=0.05)
    assert found[:2].std(axis=1) == pytest.approx(wanted[:2].std(axis=1), rel=0.06)
    for label in (0, 1, IGNORE_INDEX):
        share = np.mean(wanted[2] == label)
        assert np.mean(found[2] == label) == pytest.approx(share, abs=0.03)
    assert np.mean(found[2][found[2] != IGNORE_INDEX]) == pytest.approx(0.5, abs=0.03)
    total, expected = found[:2].sum(axis=0), wanted[:2].sum(axis=0)
    assert np.mean(total < 97) == pytest.approx(np.mean(expected < 97), abs=0.02)
    if sentences[0] == 30:
        assert 0.07 < np.mean(total < 97) < 0.2  # one in ten, and the ends of documents


def test_another_epoch_has_other_pairs() -> None:
    text = Text.cut(random_shards(100, sentences=(5, 20)), 125)
    one, other = (pairs(text, 125, seed=0, epoch=epoch) for epoch in (0, 1))
    shared = set(map(tuple, one.starts.T.tolist())) & set(map(tuple, other.starts.T.tolist()))
    assert len(shared) < 0.4 * len(one)


def test_lone_sentences_are_followed_by_others_and_have_no_label() -> None:
    text = Text.cut([shard([[[number] * 5] for number in range(49)] + [[[50], [51]]])], 125)
    made = pairs(text, 125, seed=0, epoch=0)
    assert made.labels is not None
    assert made.labels[:49].tolist() == [IGNORE_INDEX] * 49
    assert (made.starts[0][:49] != made.starts[1][:49]).all()


def test_documents_of_one_sentence_have_nothing_to_follow() -> None:
    with pytest.raises(DataError, match="every document is one sentence"):
        pairs(Text.cut([shard([[[1, 2]], [[3]]])], 10), 10, seed=0, epoch=0)


def test_long_documents_are_gone_through_by_several() -> None:
    text = Text.cut([shard([[[1, 2, 3]] * 5000, [[4, 5, 6]] * 10])], 13)
    made = pairs(text, 13, seed=0, epoch=0)
    assert (np.diff(made.starts[0]) > 0).all()
    assert made.starts[0].max() > 3 * 5000 - 20


@given(
    counts=st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=20),
    room=st.integers(3, 60),
)
def test_too_much_is_taken_as_the_papers_code_does(
    counts: list[tuple[int, int]], room: int
) -> None:
    table = np.array(counts).T
    starts, left = _shorten(np.full_like(table, 100), table, room, np.random.default_rng(0))
    for (one, two), kept in zip(counts, left.T.tolist(), strict=True):
        first, second = list(range(one)), list(range(two))
        while len(first) + len(second) > room:
            longer = first if len(first) > len(second) else second
            longer.pop(0 if random.random() < 0.5 else -1)
        assert kept == [len(first), len(second)]
    assert (starts >= 100).all()
    assert (starts + left <= 100 + table).all()


def test_tokens_are_taken_from_both_ends() -> None:
    table = np.full((2, 1000), 100)
    starts, left = _shorten(np.zeros_like(table), table, 120, np.random.default_rng(0))
    assert (left == 60).all()
    assert abs(starts.mean() - 20) < 0.5
    assert starts.std() == pytest.approx(np.sqrt(10), rel=0.1)


def test_one_document_has_no_other() -> None:
    with pytest.raises(DataError, match="the corpus has only one"):
        pairs(Text.cut([shard([[[1, 2], [3]]])], 10), 10, seed=0, epoch=0)
