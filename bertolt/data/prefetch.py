"""Batches and tokens made ahead of the GPU that will use them, in a thread of their own."""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor

from bertolt.base.randomness import host_random_state
from bertolt.data.batch import PackedBatch

S = TypeVar("S")
T = TypeVar("T")

DEPTH = 2
"""Steps whose batches wait, made and pinned; more would only be older."""
# What reading gives once there is nothing left.
_END: Any = object()


def uses_background(device: torch.device) -> bool:
    """Whether batches for this device are made in the background, ahead of their use."""
    return device.type == "cuda"


@contextlib.contextmanager
def prefetch_batches(
    steps: Iterator[Sequence[PackedBatch]], device: torch.device, depth: int = DEPTH
) -> Iterator[Iterator[Sequence[PackedBatch]]]:
    """The batches of each step, on a GPU made in the background while it works on earlier ones.

    They are then in pinned memory, so that copies to the GPU hold nothing up. On a CPU, where a
    second thread would only take time from the first, `steps` comes back as it is.

    Args:
        steps: the batches of each step.
        device: where the model is.
        depth: steps to be ahead; `steps` is read so much further than is used.
    """
    if not uses_background(device):
        yield steps
        return
    pinned = ([batch.pin_memory() for batch in step] for step in steps)
    with read_ahead(pinned, depth, initializer=lambda: torch.cuda.set_device(device)) as ahead:
        yield ahead


@contextlib.contextmanager
def read_ahead(
    items: Iterator[T], depth: int = DEPTH, initializer: Callable[[], object] | None = None
) -> Iterator[Iterator[T]]:
    """The same items in the same order, each made by one other thread up to `depth` ahead.

    What making an item raises is raised where that item would have come. At the end the thread
    finishes the item under way and stops.

    Args:
        items: read by the other thread alone.
        depth: items to be ahead.
        initializer: called once in that thread.
    """
    with _pipeline(itertools.repeat(partial(next, items, _END)), depth, initializer) as ahead:
        yield ahead


@contextlib.contextmanager
def prefetched(
    change: Callable[[S], T], items: Iterator[S], initializer: Callable[[], object] | None = None
) -> Iterator[Iterator[T]]:
    """`map(change, items)`, each result made by one other thread while the one before is used.

    The items are read in this thread, since not every source may be read in another, and since one
    that keeps its reader waiting could then not be left. What reading or changing an item raises is
    raised where its result would have come. At the end the thread finishes the item under way.

    Args:
        change: made in the other thread.
        items: read one further than results are taken.
        initializer: called once in the other thread.
    """
    with _pipeline(_changes(change, items), 1, initializer) as ahead:
        yield ahead


def _changes(change: Callable[[S], T], items: Iterator[S]) -> Iterator[Callable[[], T]]:
    """For each item what makes its result; for a fault in the reading, what raises it."""
    try:
        for item in items:
            yield partial(change, item)
    except Exception as error:  # noqa: BLE001 - raised in its turn, after what was read before
        yield partial(_raise, error)


def _raise(error: Exception) -> NoReturn:
    raise error


@contextlib.contextmanager
def _pipeline(
    calls: Iterator[Callable[[], T]], depth: int, initializer: Callable[[], object] | None
) -> Iterator[Iterator[T]]:
    """Results of the calls, which this thread reads and one other makes up to `depth` ahead.

    The other has the context of this one, so that its messages are told as this one's are.
    """
    context = copy_context()
    worker = ThreadPoolExecutor(1, thread_name_prefix="batches", initializer=initializer)
    try:
        yield _in_order((partial(context.run, call) for call in calls), depth, worker)
    finally:
        worker.shutdown(cancel_futures=True)


def _in_order(
    calls: Iterator[Callable[[], T]], depth: int, worker: ThreadPoolExecutor
) -> Iterator[T]:
    waiting: deque[Future[T]] = deque()
    for call in calls:
        waiting.append(worker.submit(call))
        if len(waiting) > depth:
            result = waiting.popleft().result()
            if result is _END:
                return
            yield result
    for future in waiting:
        yield future.result()


class ToHost:
    """Tensors on their way from a GPU, which goes on meanwhile, as the host does.

    Args:
        tensors: sent off behind what the GPU has been given so far; on a CPU they stay.
    """

    def __init__(self, *tensors: Tensor) -> None:
        self._there: torch.cuda.Event | None = None
        self._host = list(tensors)
        if tensors and tensors[0].is_cuda:
            self._host = [
                torch.empty(each.shape, dtype=each.dtype, pin_memory=True) for each in tensors
            ]
            for ours, theirs in zip(self._host, tensors, strict=True):
                ours.copy_(theirs, non_blocking=True)
            self._there = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._there.record(torch.cuda.current_stream(tensors[0].device))

    def wait(self) -> list[Tensor]:
        """The tensors on the CPU, once they are there."""
        if self._there is not None:
            self._there.synchronize()
        return self._host


class RandomStateLog(Iterator[T]):
    """The same items, with a note of the random state that each left behind when it was made.

    Items that are made ahead may draw from generators outside the GPU, whose state is then that of
    a later item than the one in use.

    Args:
        items: as they are to be made.
        depth: how far ahead of their use they are made; so many notes are kept.
    """

    def __init__(self, items: Iterator[T], depth: int = DEPTH) -> None:
        self._items = items
        self._made = 0
        self._notes: deque[tuple[int, dict[str, Tensor]]] = deque(maxlen=depth + 1)

    def __next__(self) -> T:
        item = next(self._items)
        self._made += 1
        self._notes.append((self._made, host_random_state()))
        return item

    def after(self, number: int) -> dict[str, Tensor]:
        """The state that item `number`, counted from 1, left: that in use, or one made ahead."""
        return dict(self._notes)[number]
