"""Segments, and the batches that each epoch deals them to."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertolt.base.errors import UsageError
from bertolt.corpus.shards import Shard
from bertolt.pretrain.windows import WINDOW, Budget, Epoch, Sequences, Text, segments
from tests.pretrain.corpora import any_shards, random_shards, shard

rooms = st.integers(2, 50)


def spans(text: Text, sequences: Sequences) -> list[list[list[int]]]:
    """The tokens of every sequence, part by part."""
    return [
        [text.read(int(start), int(count)).tolist() for start, count in zip(*parts, strict=True)]
        for parts in zip(sequences.starts.T, sequences.counts.T, strict=True)
    ]


def documents_of(shards: list[Shard]) -> list[list[int]]:
    """The tokens of every document."""
    found = []
    for part in shards:
        bounds = part.sentence_starts[part.document_starts]
        found += [part.tokens[begin:end].tolist() for begin, end in pairwise(bounds)]
    return found


def sentences_of(shards: list[Shard]) -> set[int]:
    """The first token of every sentence, each token having an id of its own."""
    return {int(part.tokens[start]) for part in shards for start in part.sentence_starts[:-1]}


@given(shards=any_shards(), room=rooms)
def test_every_token_is_in_one_segment_of_its_document(shards: list[Shard], room: int) -> None:
    text = Text.cut(shards, room)
    made = [span for (span,) in spans(text, segments(text, room))]
    assert max(map(len, made)) <= room
    assert min(map(len, made)) > 0
    for document in documents_of(shards):
        within = [span for span in made if span[0] in document]
        assert [token for span in within for token in span] == document
    assert sum(map(len, made)) == sum(len(part.tokens) for part in shards)


@given(shards=any_shards(), room=rooms)
def test_a_segment_is_cut_between_sentences_unless_one_alone_is_too_long(
    shards: list[Shard], room: int
) -> None:
    """And it is as long as it can be: what follows in its document would not have fitted."""
    text = Text.cut(shards, room)
    made = [span for (span,) in spans(text, segments(text, room))]
    begins = sentences_of(shards)
    firsts = {document[0] for document in documents_of(shards)}
    ends = np.cumsum([0, *(len(part.tokens) for part in shards)])
    for span, following in pairwise(made):
        start = following[0]
        if start in firsts:
            continue
        sentence = [token for token in sorted(begins) if token <= start][-1]
        rest = min([token for token in [*begins, *ends.tolist()] if token > start])
        if start not in begins:
            assert (start - sentence) % room == 0
        assert len(span) + min(rest - start, room) > room


def test_known_segments() -> None:
    text = Text.cut([shard([[[1, 2], [3, 4, 5], [6]], [[7] * 7, [8]]]), shard([[[9]]])], 4)
    assert spans(text, segments(text, 4)) == [
        [[1, 2]],
        [[3, 4, 5, 6]],
        [[7, 7, 7, 7]],
        [[7, 7, 7, 8]],
        [[9]],
    ]
    assert segments(text, 4).lengths.tolist() == [4, 6, 6, 6, 3]


def test_a_document_without_text_and_an_empty_sentence_are_no_segment() -> None:
    text = Text.cut([shard([[], [[1], [], [2]], [[]]]), shard([[[3]]])], 4)
    assert spans(text, segments(text, 4)) == [[[1, 2]], [[3]]]


@given(
    seed=st.integers(0, 2**32),
    epoch=st.integers(0, 99),
    rows=st.sampled_from([256, 384, 1024]),
    count=st.integers(1, 900),
)
def test_an_epoch_has_every_sequence_once(seed: int, epoch: int, rows: int, count: int) -> None:
    lengths = np.random.default_rng(seed).integers(3, 129, count)
    budget = Budget(rows, 128)
    batches = budget.count_batches(lengths)
    made = Epoch(lengths, batches, budget, seed=seed, epoch=epoch)
    dealt = [made.batch(number) for number in range(batches)]
    assert sorted(np.concatenate(dealt).tolist()) == list(range(count))
    assert min(map(len, dealt)) > 0
    assert made.num_sequences == count
    # Any batch at once is the one that is reached in order.
    number = seed % batches
    again = Epoch(lengths, batches, budget, seed=seed, epoch=epoch)
    assert again.batch(number).tolist() == dealt[number].tolist()


def test_epochs_and_seeds_differ() -> None:
    lengths = np.full(500, 100)
    budget = Budget(4096, 128)
    batches = budget.count_batches(lengths)

    def first(seed: int, epoch: int) -> list[int]:
        return Epoch(lengths, batches, budget, seed=seed, epoch=epoch).batch(0).tolist()

    assert first(0, 0) == first(0, 0)
    assert len({tuple(first(*place)) for place in ((0, 0), (0, 1), (1, 0), (1, 1))}) == 4


@pytest.mark.parametrize(("longest", "rows"), [(128, 4096), (128, 1024), (512, 8192), (512, 16384)])
def test_batches_are_full_and_of_few_sizes(longest: int, rows: int) -> None:
    shards = random_shards(documents=3000, sentences=(1, 60), tokens=24.0)
    text = Text.cut(shards, longest - 2)
    lengths = segments(text, longest - 2).lengths
    budget = Budget(rows, longest)
    batches = budget.count_batches(lengths)
    made = Epoch(lengths, batches, budget, seed=0, epoch=0)
    tokens = np.array([lengths[made.batch(number)].sum() for number in range(batches)])
    slots = -(-(tokens + 1) // 128) * 128
    assert 1 - tokens.sum() / slots.sum() < 0.008
    assert np.mean(slots > rows) < 0.01
    assert len(np.unique(slots)) <= 3


def test_the_batches_of_a_window_are_of_one_kind() -> None:
    """Long and short sequences are spread, so that a batch is a sample and shapes repeat."""
    lengths = np.random.default_rng(0).integers(3, 129, 20_000)
    budget = Budget(4096, 128)
    batches = budget.count_batches(lengths)
    assert batches > 3 * WINDOW
    made = Epoch(lengths, batches, budget, seed=0, epoch=0)
    counts = [len(made.batch(number)) for number in range(WINDOW)]
    assert max(counts) - min(counts) <= 2
    middle = [np.median(lengths[made.batch(number)]) for number in range(WINDOW)]
    assert max(middle) - min(middle) < 10


def test_what_has_no_room_in_an_epoch_is_left_out_and_counted() -> None:
    lengths = np.full(1000, 100)
    budget = Budget(4096, 128)
    made = Epoch(lengths, 20, budget, seed=0, epoch=0)
    dealt = np.concatenate([made.batch(number) for number in range(20)])
    assert len(dealt) == made.num_sequences == len(set(dealt.tolist()))
    assert 20 * budget.aim - 200 < 100 * made.num_sequences <= 20 * budget.aim


def test_a_batch_has_room_for_two_sequences() -> None:
    with pytest.raises(UsageError, match=r"--batch-tokens is 255, .* up to 128 tokens") as found:
        Budget(255, 128)
    assert found.value.fix == "give 256 or more"


def test_tokens_are_counted() -> None:
    text = Text.cut([shard([[[1, 2, 2]]]), shard([[[2, 5]]])], 10)
    assert text.count_tokens(6).tolist() == [0, 1, 3, 0, 0, 1]


def test_millions_of_tokens_take_no_time() -> None:
    """The index is made without a step of Python for each sentence, even of one long document."""
    count = 400_000
    starts = np.arange(count + 1) * 30
    whole = Shard(
        tokens=np.zeros(30 * count, dtype=np.uint16),
        sentence_starts=starts,
        document_starts=np.array([0, count]),
        sources=np.zeros(1, dtype=np.int32),
    )
    text = Text.cut([whole], 126)
    made = segments(text, 126)
    assert len(made) == count // 4
    assert set(made.lengths.tolist()) == {122}
