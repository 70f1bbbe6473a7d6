"""Connections that would hold a place for ever: slow heads and bodies, readers that do not read."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("starlette")

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from bertolt.serve import connections
from bertolt.serve.connections import bounded
from bertolt.serve.limits import Limits

LIMITS = Limits(body_seconds=0.2, head_bytes=8 << 10)
HEAD = b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 4\r\n\r\n"
GOOD = HEAD + b"good"
KINDS = ["h11", "httptools"]


def protocol(name: str) -> type[Any]:
    if name == "h11":
        return H11Protocol
    pytest.importorskip("httptools")
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    return HttpToolsProtocol


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers with as many bytes as the path says, in one part or in parts of a KiB; `/refused`
    does not wait for the body."""
    path = scope["path"].strip("/")
    body = path != "refused"
    while body and (await receive()).get("more_body"):
        pass
    size, _, parts = path.partition("/")
    number = int(size) if size.isdigit() else 2
    headers = [] if parts else [(b"content-length", b"%d" % number)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for _ in range(number >> 10 if parts else 0):
        await send({"type": "http.response.body", "body": b"x" * 1024, "more_body": True})
    await send({"type": "http.response.body", "body": b"" if parts else b"x" * number})


@contextmanager
def running(kind: type[Any]) -> Iterator[uvicorn.Server]:
    """A server with a protocol."""
    config = uvicorn.Config(
        app,
        http=kind,
        port=0,
        log_config=None,
        lifespan="off",
        timeout_keep_alive=30,
        h11_max_incomplete_event_size=LIMITS.head_bytes,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


@pytest.fixture(params=KINDS, scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[uvicorn.Server]:
    with running(bounded(LIMITS, protocol(request.param))) as server:
        yield server


@contextmanager
def connected(server: uvicorn.Server, buffer: int = 0) -> Iterator[socket.socket]:
    with socket.socket() as client:
        if buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        client.settimeout(5)
        client.connect(server.servers[0].sockets[0].getsockname())
        yield client


def answered(client: socket.socket) -> bytes:
    """Send a good request; the answer to it."""
    client.sendall(GOOD)
    told = client.recv(4096)
    while not told.rstrip().endswith((b"xx", b"0")):
        told += client.recv(4096)
    return told


def is_cut(client: socket.socket, part: bytes = b"", pause: float = 0.05) -> bool:
    """Whether the connection is closed soon, though the client goes on to send a part."""
    end = time.monotonic() + 3
    client.settimeout(pause)
    while time.monotonic() < end:
        try:
            if part:
                client.sendall(part)
            if not client.recv(4096):
                return True
        except TimeoutError:
            pass
        except OSError:
            return True
    return False


@pytest.mark.parametrize("kind", KINDS)
def test_who_sends_a_body_that_is_refused_reads_why_before_the_connection_closes(kind: str) -> None:
    head = b"POST /refused HTTP/1.1\r\nHost: here\r\nConnection: close\r\n"
    size = 16 << 20  # more than buffers take
    slow = replace(LIMITS, body_seconds=20.0)
    with running(bounded(slow, protocol(kind))) as server, connected(server) as client:
        client.sendall(head + b"Content-Length: %d\r\n\r\n" % size)
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
        client.sendall(b"x" * size)
        assert client.recv(4096) == b""


def test_who_goes_on_with_a_body_that_is_refused_is_cut(server: uvicorn.Server) -> None:
    head = b"POST /refused HTTP/1.1\r\nHost: here\r\nConnection: close\r\n"
    with connected(server) as client:
        client.sendall(head + b"Content-Length: 9999999\r\n\r\n")
        end = time.monotonic() + 3

        def go_on() -> None:
            while time.monotonic() < end:
                client.sendall(b"x")
                time.sleep(0.02)

        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            go_on()


@pytest.mark.parametrize("before", [0, 1, 2], ids=["the first", "the second", "the third"])
def test_a_head_that_dribbles_is_given_up(server: uvicorn.Server, before: int) -> None:
    with connected(server) as client:
        for _ in range(before):
            assert b"200" in answered(client)
        client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n")
        assert is_cut(client, b"A: b\r\n")


def test_who_says_nothing_is_given_up_and_who_pauses_between_requests_is_not(
    server: uvicorn.Server,
) -> None:
    with connected(server) as silent, connected(server) as good:
        for _ in range(3):
            assert b"200" in answered(good)
            time.sleep(0.15)
        assert is_cut(silent)
        assert b"200" in answered(good)


def test_a_body_that_goes_on_after_its_refusal_is_given_up(server: uvicorn.Server) -> None:
    with connected(server) as client:
        client.sendall(HEAD.replace(b"POST /", b"POST /refused").replace(b": 4", b": 400000"))
        assert b"200" in client.recv(4096)
        assert is_cut(client, b"x")


@pytest.mark.parametrize("name", KINDS)
def test_a_head_without_end_is_refused(name: str) -> None:
    limits = Limits(head_bytes=LIMITS.head_bytes)  # and not by its time, which is not over
    with running(bounded(limits, protocol(name))) as server:
        for before in range(2):
            with connected(server) as client:
                for _ in range(before):
                    answered(client)
                client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n")
                told, size = b"", 0
                with suppress(ConnectionError):
                    while not told and size < 1 << 20:
                        client.sendall(line := b"A: " + b"b" * 1000 + b"\r\n")
                        size += len(line)
                        time.sleep(0.001)
                        client.setblocking(False)
                        with suppress(BlockingIOError):
                            told = client.recv(4096)
                        client.settimeout(5)
                assert told.startswith(b"HTTP/1.1 400") or size < 1 << 20
                assert size < 200_000


def test_a_head_that_is_too_large_is_refused_whole(server: uvicorn.Server) -> None:
    lines = 3000 if hasattr(server.config.http, "on_url") else 60_000  # h11 looks after a read
    with connected(server) as client, suppress(ConnectionError):
        client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n" + b"A: bcd\r\n" * lines + b"\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 400")
        assert is_cut(client)


@pytest.mark.parametrize("path", [b"/8000000", b"/8000000/parts"])
def test_who_takes_no_answer_is_cut_and_who_takes_it_slowly_is_not(
    server: uvicorn.Server, path: bytes
) -> None:
    get = b"GET " + path + b" HTTP/1.1\r\nHost: here\r\n\r\n"
    with connected(server, 4096) as deaf, connected(server, 64 << 10) as slow:
        deaf.sendall(get)
        slow.sendall(get)
        size, end = 0, time.monotonic() + 0.8
        connections = server.server_state.connections
        while time.monotonic() < end or (len(connections) > 1 and size < 6_000_000):
            size += len(slow.recv(16 << 10))
            time.sleep(0.005)
        assert len(connections) == 1  # the deaf one is gone
        while size < 8_000_000:
            part = slow.recv(1 << 20)
            assert part
            size += len(part)


@pytest.mark.parametrize("name", KINDS)
def test_the_head_and_the_body_of_an_answer_leave_at_once(name: str) -> None:
    writes: list[bytes] = []

    class Watched:
        def __init__(self, transport: Any) -> None:
            self._transport = transport

        def __getattr__(self, name: str) -> Any:
            return getattr(self._transport, name)

        def write(self, data: bytes) -> None:
            writes.append(bytes(data))
            self._transport.write(data)

    kind: type[Any] = bounded(LIMITS, protocol(name))

    class Watching(kind):  # type: ignore[misc]
        def connection_made(self, transport: Any) -> None:
            super().connection_made(Watched(transport))

    with running(Watching) as server, connected(server) as client:
        for number in range(1, 3):
            answered(client)
            assert len(writes) == number
        assert all(each.startswith(b"HTTP/1.1 200") and each.endswith(b"xx") for each in writes)


def test_what_is_written_alone_waits_for_nothing(server: uvicorn.Server) -> None:
    expecting = HEAD.replace(b"Host", b"Expect: 100-continue\r\nHost")
    with connected(server) as client:
        client.sendall(expecting)
        assert client.recv(4096).startswith(b"HTTP/1.1 100")
        client.sendall(b"good")
        told = client.recv(4096)
        while not told.endswith(b"xx"):
            told += client.recv(4096)
        assert told.startswith(b"HTTP/1.1 200")


def test_a_pipelined_request_is_answered(server: uvicorn.Server) -> None:
    with connected(server) as client:
        client.sendall(GOOD * 3)
        told = b""
        while told.count(b"200 OK") < 3:
            part = client.recv(4096)
            assert part
            told += part


def test_what_the_kernel_holds_is_left_out_where_it_does_not_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "termios", None)  # as on Windows
    assert connections._unsent(SimpleNamespace(get_write_buffer_size=lambda: 7)) == 7  # type: ignore[arg-type]
