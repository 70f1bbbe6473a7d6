"""Requests that no server should be given: each kind is a coroutine that goes on until it is told.

Each takes a port and a `Tally`, and counts what came back by its status; 0 is a connection that the
server closed, which is a fair answer to most of this.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import struct
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

from benchmarks.serving.client import Load, Sender, connect
from benchmarks.session import ROOT

PATH = "/v1/text-classification"
DEEP = "[" * 20000
CHOICES: list[Callable[[random.Random], bytes]] = [
    lambda chance: chance.randbytes(chance.randrange(0, 4000)),
    lambda chance: b'{"model": "reviews", "input": ' + chance.randbytes(30),
    lambda chance: b"",
    lambda chance: DEEP.encode(),
    lambda chance: ('{"input": ' + DEEP).encode(),
    lambda chance: b'{"input": NaN}',
    lambda chance: b'{"input": 1e999}',
    lambda chance: b'{"input": "\\ud800 half a pair"}',
    lambda chance: b'{"input": "a NUL \\u0000 inside"}',
    lambda chance: b'{"input": "\xff\xfe not UTF-8"}',
    lambda chance: b'{"input": "one", "input": ["two"]}',
    lambda chance: json.dumps({"input": []}).encode(),
    lambda chance: json.dumps({"input": [[[]]]}).encode(),
    lambda chance: json.dumps({"input": ["text", None, 3]}).encode(),
    lambda chance: json.dumps({"input": {"text": {"text": "text"}}}).encode(),
    lambda chance: json.dumps({"input": {"question": "of another task"}}).encode(),
    lambda chance: json.dumps({"model": "../../etc/passwd", "input": "text"}).encode(),
    lambda chance: json.dumps({"model": 7, "input": "text"}).encode(),
    lambda chance: json.dumps({"input": "text", "unknown": True}).encode(),
    lambda chance: json.dumps({"input": ""}).encode(),
    lambda chance: json.dumps({"input": " \n\t"}).encode(),
    lambda chance: json.dumps({"input": "long " * chance.randrange(1, 60000)}).encode(),
    lambda chance: json.dumps({"input": ["many"] * chance.randrange(2000, 20000)}).encode(),
    lambda chance: json.dumps(chance.choice([None, True, 3, "text", []])).encode(),
]
HEADS = ("application/json", "text/plain", "multipart/form-data", "application/json; charset=utf-7")
PLACES = (
    "/v1/nothing",
    "/v1/models/../../x",
    "/metrics",
    "/v1/text-classification",
    "/%00",
    "/v1//x",
)


class Tally:
    """What came back, by kind of request and status.

    Attributes:
        statuses: counts by kind.
        going: false once all have to end.
    """

    def __init__(self) -> None:
        self.statuses: dict[str, Counter[int]] = {}
        self.going = True

    def add(self, kind: str, status: int) -> None:
        self.statuses.setdefault(kind, Counter())[status] += 1

    async def pause(self, seconds: float) -> None:
        """Wait, but not beyond the end."""
        end = asyncio.get_running_loop().time() + seconds
        while self.going and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(min(0.2, seconds))


def request(
    body: bytes,
    kind: str = HEADS[0],
    path: str = PATH,
    method: str = "POST",
    head: str = "",
) -> bytes:
    """A request as bytes of HTTP; `head` has further lines."""
    first = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\n{head}"
    return f"{first}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def _once(port: int, sent: bytes, tally: Tally, kind: str) -> None:
    status = 0
    with contextlib.suppress(OSError, TimeoutError):
        connection = await connect(port)
        try:
            status, _ = await connection.ask(sent)
        finally:
            connection.close()
    tally.add(kind, status)


async def fuzzed_bodies(port: int, tally: Tally, seed: int) -> None:
    """Bodies that are no question."""
    chance = random.Random(seed)
    while tally.going:
        body = chance.choice(CHOICES)(chance)
        await _once(port, request(body, chance.choice(HEADS)), tally, "fuzzed body")
        await asyncio.sleep(0.05)


async def fuzzed_heads(port: int, tally: Tally, seed: int) -> None:
    """Requests that are no HTTP, or ask for what is not there."""
    chance = random.Random(seed)
    while tally.going:
        sent = chance.choice(
            [
                chance.randbytes(200) + b"\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 5000 + b"\r\n",
                b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
                b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
                b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                request(
                    b"{}", path=chance.choice(PLACES), method=chance.choice(["GET", "PUT", "X"])
                ),
            ]
        )
        await _once(port, sent, tally, "fuzzed head")
        await asyncio.sleep(0.1)


async def slow(port: int, tally: Tally, seed: int) -> None:
    """A client that sends a byte now and then."""
    good = request(json.dumps({"input": "a slow but fine text"}).encode())
    while tally.going:
        status = 0
        with contextlib.suppress(OSError, TimeoutError, RuntimeError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for byte in good:
                if not tally.going or reader.at_eof() or writer.is_closing():
                    break
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.25)
            with contextlib.suppress(TimeoutError):
                line = await asyncio.wait_for(reader.readline(), 5)
                status = int(line.split()[1]) if line else 0
            writer.close()
        tally.add("slow client", status)


async def half_open(port: int, tally: Tally, seed: int) -> None:
    """Connections with half a request or none, left open for a while and then reset."""
    chance = random.Random(seed)
    half = request(b'{"input": "half"}')[:-5]
    while tally.going:
        held = []
        for _ in range(25):
            with contextlib.suppress(OSError, RuntimeError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(chance.choice([b"", b"POST /v1", half]))
                held.append(writer)
        await tally.pause(15)
        for writer in held:
            kept: Any = writer.get_extra_info("socket")
            with contextlib.suppress(OSError, RuntimeError):
                # Closing then resets the connection, and says no goodbye.
                kept.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.close()
            tally.add("half-open", 0)


async def deaf(port: int, tally: Tally, seed: int) -> None:
    """Clients that ask for much and read nothing of it."""
    many = request(json.dumps({"input": ["a text that is asked for"] * 200}).encode())
    while tally.going:
        with contextlib.suppress(OSError, RuntimeError):
            _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(many * 3)
            await tally.pause(10)
            writer.transport.abort()
            tally.add("deaf client", 0)


async def killed(port: int, tally: Tally, seed: int) -> None:
    """Whole processes of clients that are killed in the middle of their requests."""
    chance = random.Random(seed)
    while tally.going:
        load = Load(server="bertolt", port=port, texts=["to be killed"] * 8, seconds=60, clients=16)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.serving.client"),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            env=dict(os.environ),
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(load.__dict__).encode())
        process.stdin.close()
        await tally.pause(chance.uniform(2, 5))
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        await process.wait()
        tally.add("killed clients", 0)
        await tally.pause(10)


async def flood(port: int, tally: Tally, requests: int, texts: list[str]) -> None:
    """So many requests at once, each on a connection of its own as far as files allow."""
    load = Load(server="bertolt", port=port, texts=texts, seconds=0)
    sender = Sender(load)
    gate = asyncio.Semaphore(4000)

    async def one(number: int) -> None:
        async with gate:
            await _once(port, sender.requests[number % len(texts)], tally, "flood")

    await asyncio.gather(*(one(number) for number in range(requests)))
