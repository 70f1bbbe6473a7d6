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
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from typing import Any

from bertolt.base.errors import BertoltError, UsageError
from bertolt.corpus.options import EngineName
from bertolt.corpus.parts import Part, Result, Setup, tokenize_part

Engine = Callable[[Iterable[Part], Setup, int | None], Generator[Result]]

_AHEAD = 1  # parts that wait beside those that are worked on
_THREADS = "TOKENIZERS_PARALLELISM"


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

    A `ProcessPoolExecutor` is not used: that of Python 3.11.2 waits without end where a process
    dies while a part is on its way that is more than a pipe holds. Here each process has a pipe of
    its own, with nobody else at its other end, and a thread that asks it for one part at a time.

    Raises:
        BertoltError: one of them was killed, or could not start.
    """
    workers = workers or cores()
    context = multiprocessing.get_context("spawn")
    idle: SimpleQueue[_Worker] = SimpleQueue()
    team: list[_Worker] = []
    pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[Result]] = deque()
    try:
        for part in parts:
            if len(team) < workers:
                team.append(_Worker.start(context, setup))
                idle.put(team[-1])
            waiting.append(pool.submit(_ask, idle, part))
            if len(waiting) >= workers + _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
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
        pool.shutdown(cancel_futures=True)
        for worker in team:
            worker.process.join()
            worker.link.close()


class _LostError(Exception):
    """A worker process has ended."""


@dataclass
class _Worker:
    """A process that tokenizes, and the pipe to it.

    Attributes:
        process: that was started.
        link: parts go in, results come out.
        setup: the settings, until they have been sent.
    """

    process: BaseProcess
    link: Connection
    setup: Setup | None

    @classmethod
    def start(cls, context: SpawnContext, setup: Setup) -> _Worker:
        """Start a process. The other end of the pipe is its alone, so it breaks when that dies.

        The settings go over the pipe later: sent along with the start they would be waited for
        without end where the process dies before it has read them.
        """
        link, end = context.Pipe()
        process = context.Process(target=_work, args=(end,), daemon=True)
        with _interrupts_blocked():
            process.start()
        end.close()
        return cls(process, link, setup)

    def ask(self, part: Part) -> Result | Exception:
        """The result of a part, or what went wrong with it.

        Raises:
            _LostError: the process has ended.
        """
        try:
            if self.setup is not None:
                self.link.send(self.setup)
                self.setup = None
            self.link.send(part)
            found: Result | Exception = self.link.recv()
        except (EOFError, OSError) as error:
            raise _LostError from error
        return found


def _ask(idle: SimpleQueue[_Worker], part: Part) -> Result:
    """Have a part tokenized by a process that has nothing to do: there is one for each thread."""
    worker = idle.get()
    try:
        found = worker.ask(part)
    finally:
        idle.put(worker)  # one that is lost too: it says so to the next as well
    if isinstance(found, Exception):
        raise found
    return found


def _work(link: Connection) -> None:
    """Tokenize what comes, in a process of its own, for as long as its parent is there."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ[_THREADS] = "false"
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        setup: Setup = link.recv()
        while True:
            link.send(_tokenize(link.recv(), setup))


def _tokenize(part: Part, setup: Setup) -> Result | Exception:
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
