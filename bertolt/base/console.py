"""The terminal: messages for people, how far a long job is, Ctrl-C and SIGTERM.

All of it goes to standard error, so that standard output holds results alone.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

from bertolt.base.format import clean, duration, visible
from bertolt.base.process import TERMINATED

# Between two looks of a status line: in a log, and on a terminal.
_SECONDS_LOGGED, _SECONDS_DRAWN = 10.0, 0.2
_ERASE = "\r\x1b[K"


@dataclass
class _Voice:
    """Whether this process speaks: of several that make one run, the first does.

    `foot` is what stands at the foot of the terminal, below all messages, `prefix` what each status
    line begins with, and `worded` puts messages into the words of the command.
    """

    silent: bool = False
    may_report_error: Callable[[], bool] = lambda: True
    failed: bool = False
    foot: str = ""
    prefix: str = ""
    worded: Callable[[str], str] = lambda message: message


_voice = _Voice()


def set_output_role(*, silent: bool, may_report_error: Callable[[], bool]) -> None:
    """Let this process be one of several.

    Args:
        silent: say nothing, since another process says it.
        may_report_error: asked before an error is told: whether no other process has told it.
    """
    _voice.silent, _voice.may_report_error = silent, may_report_error


@contextlib.contextmanager
def hushed(quiet: bool = True) -> Iterator[None]:
    """Say nothing in the block, where `quiet` is true."""
    before = _voice.silent
    _voice.silent = before or quiet
    try:
        yield
    finally:
        _voice.silent = before


def info(message: str) -> None:
    """Write one message and a line end."""
    if not _voice.silent:
        _write_above(_voice.worded(message))


@contextlib.contextmanager
def reworded(words: Callable[[str], str]) -> Iterator[None]:
    """Let each message of the block be told as `words` puts it."""
    before = _voice.worded
    _voice.worded = lambda message: before(words(message))
    try:
        yield
    finally:
        _voice.worded = before


def tell_caution(claim: str, detail: str) -> None:
    """Write something to be wary of in one line, whatever labels and texts it quotes."""
    info(f"Caution: {clean(claim)}. {clean(detail)}")


def report_error(message: str) -> None:
    """Say why the run ends, unless another process has: a silent one too."""
    _voice.failed = True
    if _voice.may_report_error():
        _write_above(message)


def has_failed() -> bool:
    """Whether this process ends because of an error."""
    return _voice.failed


def _write_above(message: str) -> None:
    """Write a line, above the one at the foot if there is one."""
    _write(f"{_ERASE * bool(_voice.foot)}{visible(message)}\n{_voice.foot}")


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


class StatusLine:
    """How far a long job is: a line at the foot of a terminal, or in a log a line now and then.

    Attributes:
        drawn: whether it is on a terminal, where messages go above it.
        start: the moment when the job began.
    """

    def __init__(self) -> None:
        self.drawn = sys.stderr.isatty() and not _voice.silent
        self.start = self._last = time.monotonic()

    def due(self, *, force: bool = False) -> bool:
        """Whether it is time to show the next words, as it is in any case with `force`."""
        now, pause = time.monotonic(), _SECONDS_DRAWN if self.drawn else _SECONDS_LOGGED
        if now - self._last < pause and not force:
            return False
        self._last = now
        return True

    def show(self, text: str, bar: str = "") -> None:
        """Put these words in place of the last ones; `bar` behind them where there is room."""
        text = _voice.prefix + text
        if not self.drawn:
            info(text)
            return
        room = shutil.get_terminal_size().columns - 1
        _voice.foot = text + bar if len(text + bar) <= room else text[:room]
        _write(_ERASE + _voice.foot)

    def end(self, *, keep: bool = False) -> None:
        """Take the line away, or leave it where it is."""
        if self.drawn:
            _write("\n" * bool(_voice.foot) if keep else _ERASE)
            _voice.foot = ""


@contextlib.contextmanager
def status_prefix(words: str) -> Iterator[None]:
    """Let each status line inside begin with these words, as "run 2/5, "."""
    _voice.prefix = words
    try:
        yield
    finally:
        _voice.prefix = ""


_FEW = 10
"""Of what is counted: fewer say nothing of the others, as the first answer, which waits for all of
its batch."""


class Show(Protocol):
    """What `counting` gives: to be called with what is done."""

    def __call__(self, done: int, share: float | None = None) -> None:
        """Draw the line, if it is time to.

        Args:
            done: how many so far.
            share: of the whole work, from 0 to 1, where that is known and the total is not.
        """


@contextlib.contextmanager
def counting(
    what: str, total: int | None = None, unit: str = "", before: int = 0
) -> Iterator[Show]:
    """A function to call with the number done: a `StatusLine` that counts up, gone at the end.

    Args:
        what: is being done, as in "Tokenising".
        total: how many there are, if that is known.
        unit: what is counted, as in "tokens".
        before: how many of them were done when it began.
    """
    line = StatusLine()
    unit = unit and f" {unit}"

    def show(done: int, share: float | None = None) -> None:
        now = done - before
        if now <= 0 or not line.due():
            return
        seconds = time.monotonic() - line.start
        text = f"{what}: {done:,}{unit}"
        if total is not None and now < min(_FEW, total / 100):
            line.show(f"{text} of {total:,}")
            return
        if total is not None:
            text += f" of {total:,}, {duration((total - done) * seconds / now)} left"
        elif share:
            text += f", {duration(seconds * (1 - share) / share)} left"
        line.show(f"{text}, {now / seconds:,.0f}{unit}/s")

    try:
        yield show
    finally:
        line.end()


@contextlib.contextmanager
def held_interrupts(*, terminate: bool = False) -> Iterator[Callable[[], signal.Signals | None]]:
    """Let a first Ctrl-C wait; the function that is given tells which signal there was, if any.

    A second one is not held. Outside the main thread, where none arrives, nothing changes.

    Args:
        terminate: let SIGTERM wait in the same way: what a scheduler sends before it kills.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    received: signal.Signals | None = None
    held = [signal.SIGINT, signal.SIGTERM] if terminate else [signal.SIGINT]
    previous = {number: signal.getsignal(number) for number in held}

    def release() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def note(number: int, frame: Any) -> None:
        nonlocal received
        received = signal.Signals(number)
        release()

    for number in held:
        signal.signal(number, note)
    try:
        yield lambda: received
    finally:
        release()


class Stopped(Exception):
    """SIGTERM came while something was under way that can be done again later."""


_asked: ContextVar[Callable[[], signal.Signals | None] | None] = ContextVar("asked", default=None)


@contextlib.contextmanager
def stoppable(asked: Callable[[], signal.Signals | None]) -> Iterator[None]:
    """Let what is called inside, and looks for it, end early at SIGTERM by raising `Stopped`.

    Args:
        asked: tells which signal there was, as `held_interrupts` gives it.
    """
    before = _asked.set(asked)
    try:
        yield
    finally:
        _asked.reset(before)


def stop_asked() -> Callable[[], signal.Signals | None] | None:
    """What tells whether to stop; None where nothing may be stopped, as in another thread."""
    return _asked.get()


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM leave the block as an exit does, so that nothing is left half done.

    Raises:
        SystemExit: when the signal comes and is not held.
    """

    def leave(number: int, frame: Any) -> None:
        raise SystemExit(TERMINATED)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
