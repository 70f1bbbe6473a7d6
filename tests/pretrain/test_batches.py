"""Batches by their numbers: layout, masks, and that nothing but the number decides them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch

from bertolt import BertTokenizer, PackedBatch
from bertolt.base.errors import DataError, UsageError
from bertolt.data.batch import IGNORE_INDEX, TARGETS, padded_rows
from bertolt.pretrain.batches import MASK_MULTIPLE, Batches
from tests.pretrain.corpora import random_shards, shard

Make = Callable[..., Batches]
OBJECTIVES = ("mlm", "mlm+nsp")


def unmasked(batch: PackedBatch) -> list[list[int]]:
    """The ids of each sequence as they were."""
    assert batch.labels is not None
    ids = torch.where(batch.labels == IGNORE_INDEX, batch.input_ids, batch.labels).tolist()
    return [ids[begin:end] for begin, end in pairwise(batch.cu_seqlens.tolist())]


def same(one: PackedBatch, other: PackedBatch) -> bool:
    names = ("input_ids", "token_type_ids", "position_ids", "cu_seqlens", *TARGETS)
    both = [(getattr(one, name), getattr(other, name)) for name in names]
    return all(a is b is None or torch.equal(a, b) for a, b in both)


def test_an_epoch_of_segments_has_every_token_once(batches: Make) -> None:
    shards = random_shards(120)
    made = batches(shards)
    seen = Counter[tuple[int, ...]]()
    found = 0
    for number in range(made.per_epoch):
        for ids in unmasked(made.batch(number, 0.15)):
            assert (ids[0], ids[-1]) == (2, 3)
            assert len(ids) <= 64
            seen[tuple(ids[1:-1])] += 1
            found += len(ids) - 2
    assert found == sum(len(part.tokens) for part in shards)
    counted = np.zeros(97, dtype=int)
    for ids, times in seen.items():
        np.add.at(counted, list(ids), times)
    assert counted.tolist() == made.count_tokens().tolist()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_batch_is_laid_out_as_a_tokenizer_would(
    batches: Make, objective: str, tiny_tokenizer: BertTokenizer
) -> None:
    batch = batches(objective=objective).batch(3, 0.15)
    types = batch.token_type_ids.tolist()
    positions = batch.position_ids.tolist()
    for (begin, end), ids in zip(pairwise(batch.cu_seqlens.tolist()), unmasked(batch), strict=True):
        assert positions[begin:end] == list(range(end - begin))
        first = ids.index(3) + 1
        parts = [ids[1 : first - 1]] if objective == "mlm" else [ids[1 : first - 1], ids[first:-1]]
        assert tiny_tokenizer.build_inputs_with_special_tokens(*parts) == ids
        assert types[begin:end] == [0] * first + [1] * (end - begin - first)
    total = batch.num_tokens
    assert total == batch.cu_seqlens[-1] < len(types)
    assert len(types) == padded_rows(total)
    assert batch.max_seqlen == max(batch.lengths.tolist())
    assert batch.labels is not None
    assert set(batch.labels[total:].tolist()) == {IGNORE_INDEX}
    assert set(batch.input_ids[total:].tolist()) == {0}
    assert (batch.next_sentence_label is None) == (objective == "mlm")


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_batch_found_at_once_is_the_one_reached_in_order(batches: Make, objective: str) -> None:
    walked, jumping = (batches(objective=objective) for _ in range(2))
    numbers = range(3 * walked.per_epoch)
    made = {number: walked.batch(number, 0.2) for number in numbers}
    for number in (len(numbers) - 1, walked.per_epoch + 2, 0, 1, walked.per_epoch - 1):
        assert same(jumping.batch(number, 0.2), made[number])
    assert not same(made[0], made[walked.per_epoch])


def test_pairs_carry_their_labels(batches: Make) -> None:
    """A document here is one word again and again, so the label can be seen."""
    texts = [shard([[[word] * 9] * 8 for word in range(10, 90)])]
    made = batches(texts, objective="mlm+nsp")
    labels = []
    for number in range(made.per_epoch):
        batch = made.batch(number, 0.15)
        assert batch.next_sentence_label is not None
        for ids, label in zip(unmasked(batch), batch.next_sentence_label.tolist(), strict=True):
            words = set(ids) - {2, 3}
            assert len(words) == (1 if label == 0 else 2)
            labels += [label] if label != IGNORE_INDEX else []
    assert np.mean(labels) == pytest.approx(0.5, abs=0.1)


def test_masks_are_80_10_10_and_differ_from_epoch_to_epoch(batches: Make) -> None:
    made = batches()
    count = made.per_epoch
    fates = Counter[str]()
    hidden: list[set[tuple[int, ...]]] = []
    for epoch in range(8):
        hidden.append(set())
        for number in range(count):
            batch = made.batch(epoch * count + number, 0.2)
            assert batch.labels is not None
            chosen = batch.labels != IGNORE_INDEX
            was, is_now = batch.labels[chosen], batch.input_ids[chosen]
            fates["mask"] += int((is_now == 4).sum())
            fates["same"] += int((is_now == was).sum())
            fates["other"] += int(((is_now != 4) & (is_now != was)).sum())
            assert was.min() >= 5
            assert is_now[is_now != 4].min() >= 5
            hidden[-1].add(tuple(chosen.nonzero()[:, 0].tolist()))
    total = sum(fates.values())
    assert total > 2000
    assert fates["mask"] / total == pytest.approx(0.8, abs=0.02)
    assert fates["other"] / total == pytest.approx(0.1, abs=0.02)
    assert len(set.union(*hidden)) == 8 * count


@pytest.mark.parametrize("share", [0.05, 0.15, 0.4, 1.0])
def test_as_many_are_masked_as_was_said(batches: Make, share: float) -> None:
    batch = batches(random_shards(400), rows=4096).batch(0, share)
    assert batch.labels is not None
    masked = int((batch.labels != IGNORE_INDEX).sum())
    free = batch.num_tokens - 2 * batch.num_sequences
    assert masked == pytest.approx(share * free, rel=0.03)
    if masked > 640:
        assert masked % MASK_MULTIPLE == 0 or share == 1


def test_a_text_of_unknown_words_alone_has_nothing_to_mask(batches: Make) -> None:
    batch = batches([shard([[[1] * 30] * 4])]).batch(0, 0.2)
    assert batch.labels is not None
    assert set(batch.labels.tolist()) == {IGNORE_INDEX}


def test_every_place_of_a_sequence_is_masked_as_often(batches: Make) -> None:
    made = batches([shard([[[7] * 62]] * 64)], rows=8192)
    times = np.zeros(64)
    for number in range(200):
        batch = made.batch(number, 0.25)
        assert batch.labels is not None
        chosen = (batch.labels != IGNORE_INDEX)[: batch.num_tokens].view(-1, 64)
        times += chosen.sum(0).numpy()
    assert times[0] == times[-1] == 0
    assert times[1:-1] / (200 * 64) == pytest.approx(np.full(62, 0.25), abs=0.02)


def test_whole_words_are_masked_whole(batches: Make, tiny_tokenizer: BertTokenizer) -> None:
    pieces = tiny_tokenizer.convert_tokens_to_ids(["film", "a", "##b", "##c", "cast", "##d"])
    made = batches([shard([[pieces * 5]] * 60)], whole_words=True)
    total = 0
    for number in range(made.per_epoch):
        batch = made.batch(number, 0.2)
        assert batch.labels is not None
        chosen = (batch.labels != IGNORE_INDEX)[: batch.num_tokens].view(-1, 32)[:, 1:-1]
        film, a, b, c, cast, d = chosen.reshape(-1, 6).unbind(1)
        assert torch.equal(a, b)
        assert torch.equal(b, c)
        assert torch.equal(cast, d)
        assert film.any()
        assert not torch.equal(a, cast)
        masked = int(chosen.sum())
        assert 0.2 * chosen.numel() - 3 <= masked <= 0.2 * chosen.numel() + 0.5
        total += masked
    assert total > 200


def test_numbers_that_plans_and_logs_need(batches: Make) -> None:
    made = batches()
    lengths = np.concatenate(
        [made.batch(number, 0.1).lengths.numpy() for number in range(made.per_epoch)]
    ).astype(float)
    assert made.tokens == pytest.approx(lengths.sum() / made.per_epoch)
    assert made.attended == pytest.approx((lengths**2).sum() / lengths.sum())
    assert made.maskable.tolist() == [False] * 5 + [True] * 92
    assert made.left_out == 0


def test_building_a_batch_takes_about_a_millisecond(tiny_tokenizer: BertTokenizer) -> None:
    """Nothing slow between steps: held loosely, for machines that are busy."""
    made = Batches(
        random_shards(2000, sentences=(5, 30)), tiny_tokenizer, max_length=128, rows=4096
    )
    taken = []
    for number in range(50):
        start = time.perf_counter()
        made.batch(number, 0.2)
        taken.append(time.perf_counter() - start)
    assert np.median(taken) < 0.01


def test_what_cannot_be_batched_is_refused(
    batches: Make, tiny_tokenizer: BertTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="only one"):
        batches([shard([[[7, 8], [9]]])], objective="mlm+nsp")
    with pytest.raises(UsageError, match="--batch-tokens is 100"):
        batches(rows=100)
    monkeypatch.setitem(tiny_tokenizer.special_tokens_map, "mask_token", "")
    with pytest.raises(UsageError, match="no mask_token"):
        batches()
