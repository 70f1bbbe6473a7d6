"""What is told of several runs while they are made, one after the other in one process."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from bertolt.base.console import info, status_prefix
from bertolt.base.distributed import join
from bertolt.base.errors import UsageError
from bertolt.base.format import duration
from bertolt.commands.finetune.planned import Planned
from bertolt.commands.finetune.spread import values_words


def require_one_process(option: str) -> None:
    """Refuse several runs where torchrun has started several processes.

    Args:
        option: that asks for the runs.

    Raises:
        UsageError: it has.
    """
    if not join().alone:
        raise UsageError(
            f"{option} makes its runs in one process, and torchrun has started several",
            place=option,
            fix="start it without torchrun",
        )


class Turns:
    """Which run is under way, and about how long the others take."""

    def __init__(self) -> None:
        self._seconds: list[float] = []
        self._start = 0.0

    @contextlib.contextmanager
    def turn(self, run: Planned, done: int, total: int) -> Iterator[None]:
        """Tell of a run, and let each status line inside say which it is.

        Args:
            run: the next one.
            done: how many are done before it.
            total: how many there are.
        """
        left = ""
        if self._seconds:
            mean = sum(self._seconds) / len(self._seconds)
            left = f"; about {duration(mean * (total - done))} left for all"
        settings = {name: each for name, each in run.values.items() if name in run.changes}
        words = f" ({values_words(settings)})" if len(settings) else ""
        info(f"\nRun {done + 1} of {total}: {run.title}{words}{left}")
        self._start = time.monotonic()
        with status_prefix(f"run {done + 1}/{total}, "):
            yield

    def count(self) -> None:
        """Go by the run under way in what is said of the time that is left: it came to its end."""
        self._seconds.append(time.monotonic() - self._start)
