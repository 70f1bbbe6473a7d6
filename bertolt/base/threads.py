"""Work in a thread that ends with it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")


def in_a_thread_of_its_own(work: Callable[[], T]) -> T:
    """What a function gives, or raises, in a thread that is over then.

    OpenMP keeps helpers for each thread that has computed, as long as that thread lives, and GNU's
    lets helpers wait awake only while all of them have a core. Those of a thread that loaded a
    model, and computes no more, would make each pass of another thread half as long again. It has
    the caller's context, so that its messages are told as the caller's are.

    Raises:
        Exception: what the function raises.
    """
    done: Future[T] = Future()
    context = copy_context()

    def run() -> None:
        try:
            done.set_result(context.run(work))
        except BaseException as error:  # noqa: BLE001 - whoever waits is told
            done.set_exception(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join()
    return done.result()
