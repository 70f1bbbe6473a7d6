"""Two threads whose blocks overlap, where the one that began first is over first."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

Block = Callable[[], AbstractContextManager[object]]
_PATIENCE = 60.0  # seconds that a thread waits for another one


@contextlib.contextmanager
def overlapping(
    first: Block, second: Block, *, stay: float = _PATIENCE
) -> Iterator[Callable[[Callable[[], None]], None]]:
    """Two blocks, each in a thread of its own: the first is over, the second is not.

    Args:
        first: makes the block that begins first.
        second: the other.
        stay: seconds that the first waits for the second, which may not come in before it is over.

    Yields:
        What lets something be done inside the second, at the end.
    """
    first_in, second_in, first_out, told = (threading.Event() for _ in range(4))
    tasks: list[Callable[[], None]] = []

    def run_first() -> None:
        with first():
            first_in.set()
            second_in.wait(stay)
        first_out.set()

    def run_second() -> None:
        first_in.wait(_PATIENCE)
        with second():
            second_in.set()
            told.wait(_PATIENCE)
            for task in tasks:
                task()

    threads = [threading.Thread(target=run) for run in (run_first, run_second)]
    for thread in threads:
        thread.start()
    assert first_out.wait(_PATIENCE)
    yield tasks.append
    told.set()
    for thread in threads:
        thread.join()
