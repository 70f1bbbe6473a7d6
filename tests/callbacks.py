"""Callbacks that do something after a step: what a user, a scheduler or a fault would do."""

from __future__ import annotations

import signal
from collections.abc import Callable

from bertolt.train.loop import Callback
from bertolt.train.step import StepLog


class At(Callback):
    """Calls `act` after a step."""

    def __init__(self, step: int, act: Callable[[], object]) -> None:
        self.step, self.act = step, act

    def on_step(self, log: StepLog, total_steps: int) -> None:
        if log.step == self.step:
            self.act()


class Killed(BaseException):
    """Stands for SIGKILL: nothing that the run does comes after it."""


def kill() -> None:
    raise Killed


def press() -> None:
    """Ctrl-C."""
    signal.raise_signal(signal.SIGINT)


def terminate() -> None:
    """What a scheduler sends before it kills."""
    signal.raise_signal(signal.SIGTERM)
