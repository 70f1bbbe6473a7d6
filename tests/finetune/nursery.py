"""Runs `bertolt` again and again in new processes, and kills them where it is told to.

A process that has imported everything once forks each of them, so that a run takes a second. Each
line of its standard input is a list: the words of the command, the file for what it says, and where
to kill it; each line of its standard output is how that process ended.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def counted(allowed: int) -> Callable[[], None]:
    """A function that kills the process when it is called once more than that."""
    left = allowed

    def count() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            kill()

    return count


def after_steps(number: int) -> None:
    """Kill right after a step, before anything is made of it."""
    from bertolt.train import loop

    train_step, count = loop.train_step, counted(number)

    def step(*given: Any, **named: Any) -> Any:
        log = train_step(*given, **named)
        count()
        return log

    loop.train_step = step


def at_any_time(milliseconds: int) -> None:
    """Kill that long after the first step has begun, wherever the run is by then."""
    from bertolt.train import loop

    train_step = loop.train_step

    def step(*given: Any, **named: Any) -> Any:
        loop.train_step = train_step
        threading.Timer(milliseconds / 1000, kill).start()
        return train_step(*given, **named)

    loop.train_step = step


def in_evaluation(number: int) -> None:
    """Kill after so many evaluated batches."""
    from bertolt import evaluation

    predict_batches, count = evaluation.predict_batches, counted(number)

    def batches(*given: Any, **named: Any) -> Iterator[Any]:
        for batch in predict_batches(*given, **named):
            count()
            yield batch

    evaluation.predict_batches = batches


def at_file(name: str) -> Callable[[int], None]:
    """Kill before so many-th operation on a file or folder with this in its name."""

    def install(number: int) -> None:
        count = counted(number)

        def watch(event: str, given: tuple[Any, ...]) -> None:
            if event in ("open", "os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.chmod"):
                path = os.fsdecode(given[0]) if isinstance(given[0], str | os.PathLike) else ""
                if name in path:
                    count()

        sys.addaudithook(watch)

    return install


PLACES: dict[str, Callable[[int], None]] = {
    "after a step": after_steps,
    "at any time": at_any_time,
    "in an evaluation": in_evaluation,
    "in a save": at_file("checkpoint-"),
    "in the result": at_file(".out."),
}


def main() -> None:
    import matplotlib.figure  # noqa: F401

    import bertolt.finetune
    from bertolt.cli import main as bertolt

    for line in sys.stdin:
        words, said, place, number = json.loads(line)
        child = os.fork()
        if child == 0:
            with open(said, "a", buffering=1) as log:  # noqa: PTH123
                sys.stderr = sys.stdout = log
                if place:
                    PLACES[place](number)
                try:
                    bertolt(words)
                except SystemExit as end:
                    log.flush()
                    os._exit(int(end.code or 0))
                except BaseException:  # noqa: BLE001
                    import traceback

                    traceback.print_exc()
                os._exit(99)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
