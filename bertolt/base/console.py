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
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from bertolt.base.format import clean, duration, visible
from bertolt.base.process import TERMINATED

# Between two looks of a status line: in a log, and on a terminal.
_SECONDS_LOGGED, _SECONDS_DRAWN = 10.0, 0.2
_ERASE = "\r\x1b[K"


@dataclass
class _Role:
    """Whether this process speaks: of several that make one run, the first does."""

    silent: bool = False
    may_report_error: Callable[[], bool] = lambda: True
    failed: bool = False


@dataclass
class _Terminal:
    """Where messages of all threads go.

    `foot` is what stands at its foot, below all messages, and `taken` gets messages in its place,
    where a log has a form of its own.
    """

    foot: str = ""
    taken: Callable[[str], None] | None = None


_role = _Role()
_terminal = _Terminal()
# Of each thread and task its own: two runs at once may overlap, and end in any order. A thread that
# works for another one has to be started in a copy of its context (`contextvars.copy_context`).
_is_hushed: ContextVar[bool] = ContextVar("is_hushed", default=False)
_wording: ContextVar[Callable[[str], str]] = ContextVar("wording", default=lambda message: message)
_prefix: ContextVar[str] = ContextVar("prefix", default="")
V = TypeVar("V")


def set_output_role(*, silent: bool, may_report_error: Callable[[], bool]) -> None:
    """Let this process be one of several.

    Args:
        silent: say nothing, since another process says it.
        may_report_error: asked before an error is told: whether no other process has told it.
    """
    _role.silent, _role.may_report_error = silent, may_report_error


@contextlib.contextmanager
def _holding(variable: ContextVar[V], value: V) -> Iterator[None]:
    """Let a variable of this context have a value in the block, and then what it had before."""
    before = variable.set(value)
    try:
        yield
    finally:
        variable.reset(before)


def hushed(quiet: bool = True) -> AbstractContextManager[None]:
    """Say nothing in the block, where `quiet` is true; other threads go on speaking."""
    return _holding(_is_hushed, _is_hushed.get() or quiet)


def _is_silent() -> bool:
    return _role.silent or _is_hushed.get()


def info(message: str) -> None:
    """Write one message and a line end."""
    if not _is_silent():
        (_terminal.taken or _write_above)(_wording.get()(message))


@contextlib.contextmanager
def told_to(take: Callable[[str], None]) -> Iterator[None]:
    """Give each message of the block, of all threads, to `take` in place of the terminal; how far a
    long job is, nobody is told."""
    before, _terminal.taken = _terminal.taken, take
    try:
        yield
    finally:
        _terminal.taken = before


def reworded(words: Callable[[str], str]) -> AbstractContextManager[None]:
    """Let each message of the block be told as `words` puts it; those of other threads stay."""
    before = _wording.get()
    return _holding(_wording, lambda message: before(words(message)))


def tell_caution(claim: str, detail: str) -> None:
    """Write something to be wary of in one line, whatever labels and texts it quotes."""
    info(f"Caution: {clean(claim)}. {clean(detail)}")


def report_error(message: str) -> None:
    """Say why the run ends, unless another process has: a silent one too."""
    _role.failed = True
    if _role.may_report_error():
        _write_above(message)


def has_failed() -> bool:
    """Whether this process ends because of an error."""
    return _role.failed


def _write_above(message: str) -> None:
    """Write a line, above the one at the foot if there is one."""
    _write(f"{_ERASE * bool(_terminal.foot)}{visible(message)}\n{_terminal.foot}")


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
        self.drawn = sys.stderr.isatty() and not _is_silent() and _terminal.taken is None
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
        text = _prefix.get() + text
        if not self.drawn:
            if _terminal.taken is None:
                info(text)
            return
        room = shutil.get_terminal_size().columns - 1
        _terminal.foot = text + bar if len(text + bar) <= room else text[:room]
        _write(_ERASE + _terminal.foot)

    def end(self, *, keep: bool = False) -> None:
        """Take the line away, or leave it where it is."""
        if self.drawn:
            _write("\n" * bool(_terminal.foot) if keep else _ERASE)
            _terminal.foot = ""


def status_prefix(words: str) -> AbstractContextManager[None]:
    """Let each status line inside begin with these words, as "run 2/5, "."""
    return _holding(_prefix, words)


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


def stoppable(asked: Callable[[], signal.Signals | None]) -> AbstractContextManager[None]:
    """Let what is called inside, and looks for it, end early at SIGTERM by raising `Stopped`.

    Args:
        asked: tells which signal there was, as `held_interrupts` gives it.
    """
    return _holding(_asked, asked)


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
