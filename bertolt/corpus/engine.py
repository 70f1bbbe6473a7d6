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
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from typing import Any, NamedTuple

from bertolt.base.cluster import cluster
from bertolt.base.errors import BertoltError
from bertolt.base.machine import cores
from bertolt.corpus.options import EngineName
from bertolt.corpus.parts import Result, Setup, ShardJob, tokenize_part

Engine = Callable[[Iterable[ShardJob], Setup, int | None], Generator[Result]]

_AHEAD = 1  # parts that wait beside those that are worked on
_THREADS = "TOKENIZERS_PARALLELISM"
_changing = threading.Lock()
_before: list[str | None] = []
"""What the variable was, once for each block that is under way."""


def engine(name: EngineName, workers: int | None) -> Engine:
    """The engine of that name; a single worker needs no process of its own."""
    if name == "ray":
        return on_ray
    return here if workers == 1 else in_processes


def _in_order(
    parts: Iterable[ShardJob],
    begin: Callable[[ShardJob], Any],
    finish: Callable[[Any], Result],
    ahead: int,
) -> Generator[Result]:
    """The results in the order of their parts, of which at most `ahead` are begun at a time."""
    waiting: deque[Any] = deque()
    for part in parts:
        waiting.append(begin(part))
        if len(waiting) >= ahead:
            yield finish(waiting.popleft())
    while waiting:
        yield finish(waiting.popleft())


def here(parts: Iterable[ShardJob], setup: Setup, workers: int | None = None) -> Generator[Result]:
    """In this process, one after the other, on one thread."""
    for part in parts:
        with _one_thread():
            result = tokenize_part(part, setup)
        yield result


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """The variable inside; the last of several threads in here puts back what it was."""
    with _changing:
        _before.append(_before[0] if _before else os.environ.get(_THREADS))
        os.environ[_THREADS] = "false"
    try:
        yield
    finally:
        with _changing:
            before = _before.pop()
            if not _before:
                del os.environ[_THREADS]
                if before is not None:
                    os.environ[_THREADS] = before


class _Worker(NamedTuple):
    """A process that tokenizes, and the pipe to it, at whose other end is nobody else."""

    process: BaseProcess
    link: Connection


class _LostError(Exception):
    """A worker process has ended."""


def in_processes(parts: Iterable[ShardJob], setup: Setup, workers: int | None) -> Generator[Result]:
    """In processes of this machine, started afresh, one thread each.

    They end with this process, however it ends, and at once when the iterator is closed.

    A `ProcessPoolExecutor` is not used: its workers share a pipe for their results, of which it
    keeps both ends open, so it waits without end where one dies in the middle of a result. Here
    each process has a pipe of its own, and a thread that asks it for one part at a time.

    Raises:
        BertoltError: one of them was killed, or could not start.
    """
    count = workers or cores()
    team: list[_Worker] = []
    idle: SimpleQueue[_Worker] = SimpleQueue()
    threads = ThreadPoolExecutor(count)

    def begin(part: ShardJob) -> Future[Result]:
        if len(team) < count:
            team.append(_start_worker())
            idle.put(team[-1])
        return threads.submit(_ask, idle, part, setup)

    try:
        yield from _in_order(parts, begin, Future.result, count + _AHEAD)
    except _LostError as error:
        raise BertoltError(
            "a worker process was killed; it may have run out of memory",
            fix="run the same command again, perhaps with fewer --workers or a smaller"
            " --shard-size: what is done is kept; a script of your own has to make the call below"
            ' `if __name__ == "__main__":`, for each worker reads the script too',
        ) from error
    finally:
        for worker in team:
            worker.process.kill()  # which ends what its thread waits for
        threads.shutdown(cancel_futures=True)
        for worker in team:
            worker.process.join()
            worker.link.close()


def _start_worker() -> _Worker:
    """Start a process that has the other end of the pipe alone, so it breaks when that dies.

    All it needs goes over the pipe later: sent along with the start it would be waited for without
    end where the process dies before it has read it.
    """
    context = multiprocessing.get_context("spawn")
    link, end = context.Pipe()
    process = context.Process(target=_work, args=(end,), daemon=True)
    with _interrupts_blocked():
        process.start()
    end.close()
    return _Worker(process, link)


def _ask(idle: SimpleQueue[_Worker], part: ShardJob, setup: Setup) -> Result:
    """Have a part tokenized by a process that has nothing to do: there is one for each thread."""
    worker = idle.get()
    try:
        worker.link.send((part, setup))
        answer: Result | Exception = worker.link.recv()
    except (EOFError, OSError) as error:
        raise _LostError from error
    finally:
        idle.put(worker)  # one that is lost too: it says so to the next as well
    if isinstance(answer, Exception):
        raise answer
    return answer


def _work(link: Connection) -> None:
    """Tokenize what comes, in a process of its own, for as long as its parent is there."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ[_THREADS] = "false"
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        while True:
            link.send(_tokenize(*link.recv()))


def _tokenize(part: ShardJob, setup: Setup) -> Result | Exception:
    try:
        return tokenize_part(part, setup)
    except Exception as error:  # noqa: BLE001  raised again where the part came from
        error.add_note(f"in a worker process:\n{traceback.format_exc()}")
        return error


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Let processes that are started here inherit that Ctrl-C is not for them."""
    if sys.platform == "win32":
        yield
        return
    # Python's own helper process comes with the first that is started, and what starts it lets
    # interrupts through again: so it comes before.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def on_ray(parts: Iterable[ShardJob], setup: Setup, workers: int | None) -> Generator[Result]:
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
    with cluster(workers) as (ray, most):
        task = ray.remote(num_cpus=1)(_tokenize_with)
        shared = ray.put(setup)
        yield from _in_order(parts, lambda part: task.remote(part, shared), ray.get, most + _AHEAD)


def _tokenize_with(part: ShardJob, setup: Setup) -> Result:
    with _one_thread():
        return tokenize_part(part, setup)
