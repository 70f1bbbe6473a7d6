"""Rows of texts in several windows, of which an epoch reads some."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from bertolt.base.distributed import World
from bertolt.data.collate import PackingCollator
from bertolt.data.documents import SampledWindows
from bertolt.data.encode import EncodedExample, EncodedTexts, encode_examples
from bertolt.data.long import LongTexts
from bertolt.data.parted import long_texts
from bertolt.train.arguments import TrainingArguments
from bertolt.train.sources import RowBatches, RowLengths

LIMIT = 16


def documents(*lengths: int) -> EncodedTexts:
    rows = [[1, *range(10, 10 + length), 2] for length in lengths]

    def encode(chunk: list[Any]) -> list[EncodedExample]:
        return list(long_texts(chunk, LIMIT, LongTexts(how="window", stride=0)))

    encoded = encode_examples(encode, rows, LIMIT)
    joint = {"joint": True, "documents": True, "labels": np.arange(len(lengths))}
    return EncodedTexts(**{**vars(encoded), **joint})


def batches(rows: SampledWindows, texts: int, world: World) -> RowBatches:
    return RowBatches(
        data=rows,
        args=TrainingArguments(output_dir="x", num_train_epochs=2, seed=3),
        batch_rows=texts,
        collate=PackingCollator(),
        world=world,
        lengths=RowLengths(),
    )


def test_a_row_is_a_text_with_some_of_its_windows() -> None:
    rows = SampledWindows(documents(5, 140, 14), 3, seed=0)
    assert [len(rows[number]["input_ids"]) for number in range(3)] == [1, 3, 1]
    assert rows.texts_sampled == 1
    assert rows.lengths.tolist() == [7, 48, 16]
    starts = [ids[1] for ids in rows[1]["input_ids"]]
    assert starts == sorted(starts)
    assert rows[1]["labels"] == 1


def test_which_windows_follows_from_seed_and_epoch_and_each_has_its_turn() -> None:
    rows, again = (SampledWindows(documents(5, 140), 3, seed=7) for _ in range(2))
    seen: Counter[int] = Counter()
    for epoch in range(200):
        for each in (rows, again):
            each.set_epoch(epoch)
        chosen = [int(ids[1]) for ids in rows[1]["input_ids"]]
        assert chosen == [int(ids[1]) for ids in again[1]["input_ids"]]
        seen.update(chosen)
    assert len(seen) == 10, "every window of the text"
    assert min(seen.values()) > 30


@pytest.mark.parametrize("size", [1, 2, 3])
def test_memory_of_a_step_is_bounded_whatever_the_length(size: int) -> None:
    """Texts of up to 300,000 tokens: no batch has more windows than its texts, or of one text."""
    rows = SampledWindows(documents(300_000, *range(1, 400, 8), 10_000), 4, seed=0)
    worlds = [World(rank=rank, size=size) for rank in range(size)]
    steps = [list(zip(range(9), batches(rows, 6, w).after(0), strict=False)) for w in worlds]
    labels: list[list[int]] = [[] for _ in range(9)]
    for of_rank in steps:
        for number, step in of_rank:
            assert len(step) == len(steps[0][number][1]), "as many on every process"
            for batch in step:
                assert batch.num_tokens <= max(6 // size, 4) * LIMIT
                if not batch.is_placeholder:
                    assert batch.labels is not None
                    labels[number] += batch.labels.tolist()
    assert sorted(label for step in labels for label in step) == sorted(range(52)), "each once"
    assert all(len(step) == 6 for step in labels[:-1])


def test_a_run_that_goes_on_reads_what_it_would_have_read() -> None:
    rows = SampledWindows(documents(*[200] * 9), 2, seed=5)
    source = batches(rows, 2, World())
    whole = [step for _, step in zip(range(10), source.after(0), strict=False)]
    for start in (3, 5, 7):
        rest = [step for _, step in zip(range(10 - start), source.after(start), strict=False)]
        for before, after in zip(whole[start:], rest, strict=True):
            assert [b.input_ids.tolist() for b in before] == [b.input_ids.tolist() for b in after]
