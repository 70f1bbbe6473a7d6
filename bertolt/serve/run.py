"""The server as a process: its port, its signals, and the end that loses no request."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from bertolt.serve.limits import Limits

_KEEP_ALIVE = 30  # seconds


def listen(
    app: Starlette, listener: socket.socket, limits: Limits, reload: Callable[[], None]
) -> None:
    """Serve until SIGTERM or Ctrl-C, then answer what is there and go.

    Args:
        app: that answers.
        listener: a socket that is bound.
        limits: of connections, and of the time that the end may take.
        reload: called in a thread of its own at each SIGHUP.
    """
    config = uvicorn.Config(
        app,
        http=_patient(limits.body_seconds),
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        limit_concurrency=limits.connections,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=int(limits.seconds) + 1,
        h11_max_incomplete_event_size=64 << 10,
        ws="none",
        lifespan="on",
    )
    _Server(config, reload).run([listener])


class _Server(uvicorn.Server):
    """One that ends by its signals without passing them on, so that the exit code is 0."""

    def __init__(self, config: uvicorn.Config, reload: Callable[[], None]) -> None:
        super().__init__(config)
        self._reload = reload

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def again(number: int, frame: FrameType | None) -> None:
            threading.Thread(target=self._reload, daemon=True).start()

        handlers: dict[int, Any] = {
            signal.SIGTERM: self.handle_exit,
            signal.SIGINT: self.handle_exit,
        }
        if hasattr(signal, "SIGHUP"):
            handlers[signal.SIGHUP] = again
        before = {number: signal.signal(number, each) for number, each in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _patient(seconds: float) -> type[asyncio.Protocol]:
    """A protocol that closes a connection on which no request has come in so many seconds."""

    class Patient(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._hurry = self.loop.call_later(seconds, self._give_up)

        def connection_lost(self, exc: Exception | None) -> None:
            self._hurry.cancel()
            super().connection_lost(exc)

        def _give_up(self) -> None:
            if self.cycle is None and not self.transport.is_closing():
                self.transport.close()

    return Patient
