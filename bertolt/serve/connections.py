"""Connections that hold nobody's place: a head that is too slow or too long, and a client that does
not take its answer, are cut. uvicorn bounds only the silence between two requests. What it writes
of an answer leaves at once, head and body together."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, cast

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from bertolt.serve.limits import Limits

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as _Protocol
else:
    _Protocol = object


def bounded(limits: Limits, kind: type[Any] = AutoHTTPProtocol) -> type[asyncio.Protocol]:
    """A protocol of uvicorn with limits on time and size.

    httptools, where it is installed, is the faster parser; h11 comes with uvicorn.

    Args:
        limits: `head_bytes`, `body_seconds` and `slowest` count.
        kind: the protocol, by httptools or by h11.
    """
    return type("Bounded", (_Bounded, kind), {"limits": limits})


class _InPairs:
    """A transport on which two writes in a row leave as one, as do the head and body of an answer.

    uvicorn writes them one after the other, and a transport sends each at once: that is two calls
    of the system, and a client that is woken twice. So the first waits for the second, or for the
    end of this turn of the loop.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        stays: Callable[[], bool],
    ) -> None:
        self._transport, self._loop, self._stays = transport, loop, stays
        self._first = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send it with what waits, or have it wait."""
        if self._first:
            data, self._first = self._first + data, b""
            self._transport.write(data)
        elif data:
            self._first = data
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        if self._first and not self._transport.is_closing():
            self.write(b"")

    def close(self) -> None:
        """Send what waits, and close, unless the protocol has the connection stay."""
        self._flush()
        if not self._stays():
            self._transport.close()

    def get_write_buffer_size(self) -> int:
        """Bytes that are not on their way."""
        return len(self._first) + self._transport.get_write_buffer_size()


class _Large(_Protocol):
    """Bounds the head of a request. Only h11 does that by itself, so that the bytes for httptools
    are counted here."""

    limits: ClassVar[Limits]

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._head, self._in_head = 0, False

    @property
    def _answering(self) -> bool:
        """Whether a request is under way."""
        return self.cycle is not None and not self.cycle.response_complete

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head and not self._answering:
            self._head += len(data)
            if self._head > self.limits.head_bytes and not self.transport.is_closing():
                self.send_400_response("The head of the request is too large.")

    def on_message_begin(self) -> None:  # httptools alone calls this and the next
        self._head, self._in_head = 0, True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self.limits.head_bytes:
            raise ValueError("too large")  # which the parser takes for a fault of the request
        super().on_headers_complete()


class _Bounded(_Large):
    """Bounds the time of a head, of the rest of a body that was refused, and of what is taken."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._late: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._unsent, self._resumed, self._answered = 0, False, False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast(Any, _InPairs(transport, self.loop, self._stays)))
        self._hurry()

    def connection_lost(self, exc: Exception | None) -> None:
        self._calm()
        if self._unread is not None:
            self._unread.cancel()
        super().connection_lost(exc)

    # ---- what the client sends

    def data_received(self, data: bytes) -> None:
        if self._answered:
            return
        super().data_received(data)
        if self._answering:
            self._calm()
        else:
            self._hurry()  # a head has begun, or a body goes on that was refused

    def _stays(self) -> bool:
        """Whether a connection that is to be closed stays for the rest of a refused body.

        What comes to a closed connection is answered by a reset, and a client that still sends
        would see that in place of why it is refused. Nothing of the rest is kept.
        """
        cycle = self.cycle
        if self._answered or cycle is None or self.transport.is_closing():
            return False
        self._answered = cycle.response_complete and cycle.more_body
        if self._answered:
            self.flow.resume_reading()
            if self.transport.can_write_eof():
                self.transport.write_eof()
            self._hurry()
        return self._answered

    def _hurry(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(self.limits.body_seconds, self._give_up)

    def _calm(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        if not self._answering:
            self.transport.close()

    # ---- what it takes

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        self._resumed = True
        super().resume_writing()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._watch()

    def _watch(self) -> None:
        if self._unread is None:
            self._unsent, self._resumed = _unsent(self.transport), False
            self._unread = self.loop.call_later(self.limits.body_seconds, self._look)

    def _look(self) -> None:
        """Cut a client that has taken too little since the last look."""
        self._unread = None
        if not self.transport.get_write_buffer_size():
            return
        taken = self._unsent - _unsent(self.transport)
        if self._resumed or taken >= self.limits.slowest * self.limits.body_seconds:
            self._watch()
        else:
            self.transport.abort()


def _unsent(transport: asyncio.Transport) -> int:
    """Bytes that the other side has not confirmed, those in the kernel's buffer too: that takes
    no more before a third of it is free again, which may be a MB. Windows does not tell them."""
    held = bytearray(4)
    with contextlib.suppress(ImportError, OSError):
        import fcntl
        import termios

        fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, held)
    return transport.get_write_buffer_size() + int.from_bytes(held, sys.byteorder)
