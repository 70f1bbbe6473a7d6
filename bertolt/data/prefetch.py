"""Batches made ahead of the GPU that will use them, in a thread of their own."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from bertolt.data.batch import PackedBatch
from bertolt.randomness import host_random_state

T = TypeVar("T")

DEPTH = 2
"""Steps whose batches wait, made and pinned; more would only be older."""


def made_ahead(device: torch.device) -> bool:
    """Whether batches for this device are made in the background, ahead of their use."""
    return device.type == "cuda"


@contextlib.contextmanager
def feeding(
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
    if not made_ahead(device):
        yield steps
        return
    pinned = ([batch.pin_memory() for batch in step] for step in steps)
    with in_background(pinned, depth, prepare=lambda: torch.cuda.set_device(device)) as ahead:
        yield ahead


@contextlib.contextmanager
def in_background(
    items: Iterator[T], depth: int = DEPTH, prepare: Callable[[], object] | None = None
) -> Iterator[Iterator[T]]:
    """The same items in the same order, each made by one other thread up to `depth` ahead.

    What making an item raises is raised where that item would have come. At the end the thread
    finishes the item under way and stops.

    Args:
        items: read by the other thread alone.
        depth: items to be ahead.
        prepare: called once in that thread.
    """
    worker = ThreadPoolExecutor(1, thread_name_prefix="batches", initializer=prepare)
    try:
        yield _in_order(items, depth, worker)
    finally:
        worker.shutdown(cancel_futures=True)


def _in_order(items: Iterator[T], depth: int, worker: ThreadPoolExecutor) -> Iterator[T]:
    end = object()
    waiting = deque(worker.submit(next, items, end) for _ in range(depth))
    while True:
        item = waiting.popleft().result()
        if item is end:
            return
        waiting.append(worker.submit(next, items, end))
        yield item  # type: ignore[misc]


class Noted(Iterator[T]):
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
