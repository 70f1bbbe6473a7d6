"""Work in a thread that ends with it, and what one thread at a time may change."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")
_alone = threading.RLock()


def begun_in_a_thread(work: Callable[[], T]) -> Future[T]:
    """What a function will give, or raise, in a thread that the end of the process waits for no
    more than for its caller: a pool's threads are waited for, however long their work takes.

    It has the caller's context, so that its messages are told as the caller's are.
    """
    return _begun(work)[0]


def in_a_thread_of_its_own(work: Callable[[], T]) -> T:
    """What a function gives, or raises, in a thread that is over then.

    OpenMP keeps helpers for each thread that has computed, as long as that thread lives, and GNU's
    lets helpers wait awake only while all of them have a core. Those of a thread that loaded a
    model, and computes no more, would make each pass of another thread half as long again.

    Raises:
        Exception: what the function raises.
    """
    done, thread = _begun(work)
    thread.join()
    return done.result()


def _begun(work: Callable[[], T]) -> tuple[Future[T], threading.Thread]:
    done: Future[T] = Future()
    context = copy_context()
    done.set_running_or_notify_cancel()  # nobody can take it back, and so it can be told its end

    def run() -> None:
        try:
            result = context.run(work)
        except BaseException as error:  # noqa: BLE001 - whoever waits is told
            done.set_exception(error)
        else:
            done.set_result(result)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return done, thread


@contextlib.contextmanager
def ignored_warnings(message: str = "", kind: type[Warning] = Warning) -> Iterator[None]:
    """A block without some warnings, in which one thread at a time is.

    Python has one list of filters for all threads. Where blocks overlapped and ended out of order,
    it would be left as one of them had it. The same goes for all else that the block changes for
    the process and puts back, such as standard output.

    Args:
        message: what they begin with, as a regular expression.
        kind: what they are.
    """
    with _alone, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message, kind)
        yield
