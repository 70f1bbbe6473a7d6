"""The server as a process: its port, its signals, and the end that loses no request."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette

from bertolt.serve.app import Server
from bertolt.serve.connections import bounded
from bertolt.serve.log import Log

_KEEP_ALIVE = 30  # seconds
_LOGGERS = ("uvicorn.error", "asyncio")
_TURN = 0.0005
"""Seconds after which a thread that reads a file lets one that answers go on. A pass asks for that
many times, and would wait ten times as long by Python's own 0.005."""
_LAST = 0.5  # seconds in which what ended just in time is written


def listen(
    server: Server,
    app: Starlette,
    listener: socket.socket,
    drain: float,
    hung_up: Callable[[], bool] = lambda: False,
) -> None:
    """Serve until SIGTERM or Ctrl-C, then answer what is there and go.

    Args:
        server: whose limits hold, and whose models take over new versions at each SIGHUP.
        app: of the server.
        listener: a socket that is bound.
        drain: seconds after SIGTERM in which requests are still taken, while `/ready` says no.
        hung_up: whether a SIGHUP came before.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(_TURN)
    try:
        with _logged(server.log):
            _Process(configured(server, app), server, drain, hung_up).run([listener])
    finally:
        sys.setswitchinterval(before)


@contextlib.contextmanager
def _logged(log: Log) -> Iterator[None]:
    """Put what uvicorn and asyncio warn of into the log, in its form."""
    handler, loggers = _Logged(log), [logging.getLogger(name) for name in _LOGGERS]
    before = [(each.handlers, each.propagate) for each in loggers]
    for each in loggers:
        each.handlers, each.propagate = [handler], False
    try:
        yield
    finally:
        for each, (handlers, propagate) in zip(loggers, before, strict=True):
            each.handlers, each.propagate = handlers, propagate


class _Logged(logging.Handler):
    """Gives warnings to a log: the first line of each, for what an error says may be a text."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one."""
        message = record.getMessage().partition("\n")[0]
        self._log("warning", logger=record.name, message=message)


def configured(server: Server, app: Starlette) -> uvicorn.Config:
    """How uvicorn serves the app of a server."""
    return uvicorn.Config(
        app,
        http=bounded(server.limits),
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE,
        h11_max_incomplete_event_size=server.limits.head_bytes,
        ws="none",
        lifespan="on",
    )


class _Process(uvicorn.Server):
    """One that says first that it goes, and ends by its signals without passing them on, so that
    the exit code is 0."""

    def __init__(
        self,
        config: uvicorn.Config,
        server: Server,
        drain: float,
        hung_up: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(config)
        self._server, self._drain, self._hung_up = server, drain, hung_up
        # The only one of Python's queues and locks that a signal handler may use.
        self._hangups: SimpleQueue[None] = SimpleQueue()
        # uvicorn's own limit would refuse without the app: /health too, and nobody would count it.
        server.open_connections = lambda: len(self.server_state.connections)
        self._closes: float | None = None
        self._told = False

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def again(number: int, frame: FrameType | None) -> None:
            self._hangups.put(None)

        threading.Thread(target=self._take_over, name="bertolt-takes-over", daemon=True).start()
        handlers: dict[int, Any] = {
            signal.SIGTERM: self.handle_exit,
            signal.SIGINT: self.handle_exit,
        }
        if hasattr(signal, "SIGHUP"):
            handlers[signal.SIGHUP] = again
        before = {number: signal.signal(number, each) for number, each in handlers.items()}
        if self._hung_up():
            self._hangups.put(None)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _take_over(self) -> None:
        """At each SIGHUP, or once for those that came meanwhile, take over new versions."""
        while True:
            self._hangups.get()
            while not self._hangups.empty():
                self._hangups.get()
            self._server.take_over()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Be ready no more. The port closes after the time to drain; at once by Ctrl-C, which comes
        from a person and not from a balancer, or by a second signal."""
        self._server.leave()
        if sig == signal.SIGTERM and self._closes is None:
            self._closes = time.monotonic() + self._drain
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Whether to close the port."""
        if self._server.leaving and not self._told:  # not in the handler: it may hold the log
            self._told = True
            seconds = 0 if self.should_exit else self._drain
            self._server.log("leaving", port_closes_in=seconds)
        drained = self._closes is not None and time.monotonic() >= self._closes
        return await super().on_tick(counter) or drained

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the port, and give what was taken the rest of the time that all of it has."""
        rest = self._server.seconds_left + _LAST
        self.config.timeout_graceful_shutdown = rest  # type: ignore[assignment]  # it may be a part
        await super().shutdown(sockets)
