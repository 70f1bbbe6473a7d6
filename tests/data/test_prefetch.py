"""Batches made in the background, and what a batch knows without asking a GPU."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bertolt import BertForSequenceClassification, PackedBatch
from bertolt.base import console
from bertolt.base.errors import DataError
from bertolt.data import prefetch
from bertolt.data.batch import IGNORE_INDEX
from bertolt.data.prefetch import prefetch_batches, prefetched, read_ahead
from bertolt.models.precision import PrecisionChoice
from bertolt.train.loop import fit

META = torch.device("meta")
token_labels = st.lists(
    st.lists(st.sampled_from([IGNORE_INDEX, 0, 7]), min_size=1, max_size=30),
    min_size=1,
    max_size=6,
)


def threads() -> int:
    return sum(thread.name.startswith("batches") for thread in threading.enumerate())


def batch_of(labels: list[list[int]]) -> PackedBatch:
    return PackedBatch.from_sequences([[5] * len(row) for row in labels], token_labels=labels)


# ---- in the background ----


@given(items=st.lists(st.integers()), depth=st.integers(1, 4))
def test_items_come_as_they_would_have_come(items: list[int], depth: int) -> None:
    with read_ahead(iter(items), depth) as ahead:
        assert list(ahead) == items
    assert threads() == 0


def test_what_the_other_thread_tells_has_the_words_that_hold_here(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def telling() -> Iterator[int]:
        console.info("reading")
        yield 1

    def double(number: int) -> int:
        console.info("changing")
        return 2 * number

    with console.reworded(str.upper):
        with read_ahead(telling()) as ahead:
            assert list(ahead) == [1]
        with prefetched(double, iter([1])) as ahead:
            assert list(ahead) == [2]
    assert capsys.readouterr().err == "READING\nCHANGING\n"


def test_items_are_made_in_one_other_thread_and_no_further_ahead_than_asked() -> None:
    makers: list[int] = []
    prepared: list[int] = []

    def endless() -> Iterator[int]:
        for number in itertools.count():
            makers.append(threading.get_ident())
            yield number

    def initializer() -> None:
        prepared.append(threading.get_ident())

    with read_ahead(endless(), depth=3, initializer=initializer) as ahead:
        assert [next(ahead) for _ in range(5)] == list(range(5))
    assert 5 <= len(makers) <= 5 + 3
    assert set(makers) == set(prepared)
    assert len(prepared) == 1
    assert threading.get_ident() not in makers
    assert threads() == 0


def test_an_error_comes_where_its_item_would_have_come() -> None:
    def broken() -> Iterator[int]:
        yield 1
        yield 2
        raise DataError("row 3 is empty", fix="leave it out")

    with read_ahead(broken(), depth=3) as ahead:
        assert [next(ahead), next(ahead)] == [1, 2]
        with pytest.raises(DataError, match="row 3"):
            next(ahead)
    assert threads() == 0


def test_an_error_in_the_middle_of_the_use_ends_the_thread() -> None:
    def interrupted() -> None:
        with read_ahead(itertools.count()) as ahead:
            next(ahead)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert threads() == 0


# ---- one ahead ----


@given(items=st.lists(st.integers()))
def test_results_come_as_those_of_map(items: list[int]) -> None:
    with prefetched(str, iter(items)) as results:
        assert list(results) == [str(item) for item in items]


def test_items_are_read_here_and_changed_elsewhere_one_ahead() -> None:
    """A database cursor, for instance, may be read in one thread alone."""
    here, read, changed = threading.get_ident(), [], []

    def source() -> Iterator[int]:
        for number in itertools.count():
            assert threading.get_ident() == here
            read.append(number)
            yield number

    def change(number: int) -> int:
        assert threading.get_ident() != here
        changed.append(number)
        return -number

    with prefetched(change, source()) as results:
        for number in range(4):
            assert next(results) == -number
            assert read == list(range(number + 2))
    assert changed[:4] == list(range(4))
    assert set(changed) <= set(read)
    assert threads() == 0


def test_the_next_is_changed_while_the_one_before_is_used() -> None:
    second = threading.Event()

    def change(number: int) -> int:
        if number == 1:
            second.set()
        return number

    with prefetched(change, iter([0, 1])) as results:
        assert next(results) == 0
        assert second.wait(10)


@pytest.mark.parametrize("where", ["read", "changed"])
def test_a_fault_comes_after_what_was_before_it(where: str) -> None:
    def source() -> Iterator[int]:
        yield 1
        yield 2
        if where == "read":
            raise DataError("line 3 is empty", fix="leave it out")
        yield 3

    def change(number: int) -> int:
        if number == 3:
            raise DataError("line 3 is empty", fix="leave it out")
        return number

    with prefetched(change, source()) as results:
        assert [next(results), next(results)] == [1, 2]
        with pytest.raises(DataError, match="line 3"):
            next(results)


def test_an_interrupt_in_the_reading_is_not_held_back() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt

    with prefetched(str, source()) as results, pytest.raises(KeyboardInterrupt):
        next(results)


# ---- for a model ----


def test_a_cpu_is_fed_as_it_was() -> None:
    steps: Any = iter([[batch_of([[1]])]])
    with prefetch_batches(steps, torch.device("cpu")) as same:
        assert same is steps
    assert threads() == 0


def test_a_gpu_is_fed_pinned_batches_from_a_thread_of_its_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    devices: list[Any] = []
    monkeypatch.setattr(torch.cuda, "set_device", devices.append)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor.clone())
    device = torch.device("cuda", 1)
    wanted = [[batch_of([[1, IGNORE_INDEX], [4]])], [batch_of([[2]]), batch_of([[3, 3]])]]
    with prefetch_batches(iter(wanted), device) as steps:
        found = list(steps)
    assert devices == [device]
    assert [len(step) for step in found] == [1, 2]
    for have, want in zip(itertools.chain(*found), itertools.chain(*wanted), strict=True):
        assert have is not want
        assert torch.equal(have.input_ids, want.input_ids)
        assert torch.equal(have.labelled_rows, want.labelled_rows)


def test_a_run_reads_no_further_than_its_last_step(
    tiny_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ahead of the GPU, but not past the end: data that ends with the last step is enough."""
    monkeypatch.setattr(
        "bertolt.train.loop.prefetch_batches",
        lambda steps, device: read_ahead(iter(steps), depth=4),
    )
    made: list[int] = []

    def source() -> Iterator[list[PackedBatch]]:
        for number in range(3):
            made.append(number)
            yield [PackedBatch.from_sequences([[2, 5, 3]], labels=torch.tensor([0]))]
        raise DataError("the data is at its end", fix="read less")

    model = BertForSequenceClassification(tiny_config())
    history = fit(
        model,
        source(),
        torch.optim.SGD(model.parameters(), lr=0.1),
        None,
        total_steps=3,
        max_grad_norm=1.0,
        precision=PrecisionChoice("fp32", "for the test"),
    )
    assert len(history.steps) == 3
    assert made == [0, 1, 2]
    assert threads() == 0
    assert prefetch.DEPTH > 0


# ---- what the host knows ----


@given(labels=token_labels)
def test_a_batch_made_on_the_host_need_not_ask_its_device(labels: list[list[int]]) -> None:
    """The meta device has no numbers to ask for."""
    here = batch_of(labels)
    flat = [label for row in labels for label in row]
    wanted = [row for row, label in enumerate(flat) if label != IGNORE_INDEX]
    assert here.labelled_rows is not None
    assert here.labelled_rows.tolist() == wanted
    there = here.to(META)
    assert there.labelled_rows is not None
    assert there.labelled_rows.is_meta
    assert there.labelled_rows.shape == (len(wanted),)
    assert torch.equal(there.starts_on_host, here.cu_seqlens)
    assert torch.equal(there.to(META).starts_on_host, here.cu_seqlens)


def test_what_a_batch_knew_of_its_labels_goes_with_them() -> None:
    batch = batch_of([[1, 2, IGNORE_INDEX]]).to(META)
    counted = replace(batch, loss_counts={"labels": 9})
    assert counted.labelled_rows is batch.labelled_rows
    assert counted.starts_on_host is batch.starts_on_host
    other = torch.full(batch.input_ids.shape, IGNORE_INDEX)
    other[1] = 4
    changed = replace(batch, labels=other)
    assert changed.labelled_rows is not None
    assert changed.labelled_rows.tolist() == [1]
    starts = torch.tensor([0, 1], dtype=torch.int32)
    assert torch.equal(replace(batch, cu_seqlens=starts).starts_on_host, starts)


def test_only_labels_of_tokens_have_rows() -> None:
    assert PackedBatch.from_sequences([[5]]).labelled_rows is None
    labelled = PackedBatch.from_sequences([[5], [6, 7]], labels=torch.tensor([0, 1]))
    assert labelled.labelled_rows is None
    assert labelled.to(META).labelled_rows is None


def test_a_batch_that_is_there_already_is_not_copied() -> None:
    batch = batch_of([[1]])
    assert batch.to("cpu") is batch
    assert batch.to(META).to(META) is not batch
