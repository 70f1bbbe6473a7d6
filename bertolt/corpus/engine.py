"""Where parts are tokenized: in this process, in several, or on a Ray cluster.

Each engine takes parts one by one and gives their results in the same order. A few more parts than
there are workers are on their way at a time, so memory does not grow with the corpus.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from multiprocessing.queues import SimpleQueue
from typing import Any

from bertolt.corpus.options import EngineName
from bertolt.corpus.parts import Part, Result, Setup, tokenize_part
from bertolt.errors import BertoltError, UsageError

Engine = Callable[[Iterable[Part], Setup, int | None], Generator[Result]]

_AHEAD = 1  # parts that wait beside those that are worked on
_THREADS = "TOKENIZERS_PARALLELISM"

# In a worker process: the settings of its run.
_setup: Setup | None = None


def engine(name: EngineName, workers: int | None) -> Engine:
    """The engine of that name; a single worker needs no process of its own."""
    if name == "ray":
        return on_ray
    return here if workers == 1 else in_processes


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def here(parts: Iterable[Part], setup: Setup, workers: int | None = None) -> Generator[Result]:
    """In this process, one after the other, on one thread."""
    for part in parts:
        with _one_thread():
            result = tokenize_part(part, setup)
        yield result


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    before = os.environ.get(_THREADS)
    os.environ[_THREADS] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_THREADS]
        else:
            os.environ[_THREADS] = before


def in_processes(parts: Iterable[Part], setup: Setup, workers: int | None) -> Generator[Result]:
    """In processes of this machine, started afresh, one thread each.

    They end with this process, however it ends, and at once when the iterator is closed.

    Raises:
        BertoltError: one of them was killed, or could not start.
    """
    workers = workers or cores()
    context = multiprocessing.get_context("spawn")
    ends, stop = context.Pipe(duplex=False)
    setups: SimpleQueue[Setup] = context.SimpleQueue()
    pool = ProcessPoolExecutor(
        workers, mp_context=context, initializer=_begin, initargs=(ends, setups)
    )
    threading.Thread(target=_hand_out, args=(setups, setup, workers), daemon=True).start()
    waiting: deque[Future[Result]] = deque()
    try:
        for part in parts:
            with _interrupts_blocked():
                waiting.append(pool.submit(_tokenize, part))
            if len(waiting) >= workers + _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise BertoltError(
            "a worker process was killed; it may have run out of memory",
            fix="run the same command again, perhaps with fewer --workers or a smaller"
            " --shard-size: what is done is kept; a script of your own has to make the call below"
            ' `if __name__ == "__main__":`, for each worker reads the script too',
        ) from error
    finally:
        stop.close()
        pool.shutdown(cancel_futures=True)
        ends.close()
        setups.close()


def _hand_out(setups: SimpleQueue[Setup], setup: Setup, workers: int) -> None:
    """Give every worker the settings, from a thread of its own.

    They are more than a pipe holds. Sent with a worker as it starts, they would be waited for
    without end where it dies before it has read them.
    """
    with contextlib.suppress(OSError):  # closed: nobody is left to read
        for _ in range(workers):
            setups.put(setup)


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Let processes that are started here inherit that Ctrl-C is not for them."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(ends: Connection, setups: SimpleQueue[Setup]) -> None:
    """Make a new process ready, and let it end when the other end of the pipe is closed."""
    global _setup
    threading.Thread(target=_end_with, args=(ends,), daemon=True).start()
    os.environ[_THREADS] = "false"
    _setup = setups.get()


def _end_with(ends: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        ends.recv()
    os._exit(1)


def _tokenize(part: Part) -> Result:
    assert _setup is not None
    return tokenize_part(part, _setup)


def on_ray(parts: Iterable[Part], setup: Setup, workers: int | None) -> Generator[Result]:
    """As tasks of one core each on the cluster that Ray finds (`RAY_ADDRESS`), else on a local one.

    Every machine needs the same versions of Bertolt and what it stands on; files are read and
    written by this process alone.

    Args:
        parts: to be tokenized.
        setup: the settings.
        workers: tasks at a time; None for as many as the cluster has cores.

    Raises:
        UsageError: Ray is not installed.
        BertoltError: a task failed, also when it was tried again.
    """
    ray = _ray()
    ours = not ray.is_initialized()
    if ours:
        _start_ray(ray, workers)
    try:
        workers = workers or int(ray.cluster_resources().get("CPU", 1))
        task = ray.remote(num_cpus=1)(_tokenize_with)
        shared = ray.put(setup)
        waiting: deque[Any] = deque()
        for part in parts:
            waiting.append(task.remote(part, shared))
            if len(waiting) >= workers + _AHEAD:
                yield ray.get(waiting.popleft())
        while waiting:
            yield ray.get(waiting.popleft())
    except ray.exceptions.RayError as error:
        raise BertoltError(
            f"Ray could not do a part ({error})",
            fix="look at the cluster, and run the same command again: what is done is kept",
        ) from error
    finally:
        if ours:
            ray.shutdown()


def _tokenize_with(part: Part, setup: Setup) -> Result:
    with _one_thread():
        return tokenize_part(part, setup)


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            "Ray is not installed", place="--engine ray", fix="pip install 'bertolt[ray]'"
        ) from error
    return ray


def _start_ray(ray: Any, workers: int | None) -> None:
    """Join the cluster that the environment names, or begin one on this machine."""
    size = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": workers or cores()}
    ray.init(include_dashboard=False, log_to_driver=False, **size)
