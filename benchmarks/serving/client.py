"""The load: clients that wait for their answers, or requests that are sent when they are due.

It runs in a process of its own, reads what to do from standard input and prints what came of it:

    python -m benchmarks.serving.client < job.json
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import httptools
import uvloop

from benchmarks.serving.servers import SERVERS

PATIENCE = 60.0  # seconds until a request counts as lost


@dataclass(frozen=True, kw_only=True)
class Load:
    """What to send.

    Attributes:
        server: the name of it.
        port: on which it listens.
        texts: one a request, in turn.
        seconds: for so long.
        clients: that wait for their answers; 0: an open loop.
        rate: requests a second of an open loop, at random moments.
        begin: number of the first text.
    """

    server: str
    port: int
    texts: list[str]
    seconds: float
    clients: int = 0
    rate: float = 0.0
    begin: int = 0


class Connection(asyncio.Protocol):
    """One connection that is kept alive, with one request at a time."""

    def __init__(self) -> None:
        self._answered: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: Any = None
        self._last = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._begin()

    def _begin(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        answered, status = self._answered, self._parser.get_status_code()
        # "Connection: close": the end of the stream may come a moment later.
        self._last = not self._parser.should_keep_alive()
        if answered is not None and not answered.done():
            answered.set_result((status, b"".join(self._body)))
        self._begin()

    def connection_lost(self, error: Exception | None) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(error or ConnectionResetError("closed"))

    @property
    def open(self) -> bool:
        there = self._transport is not None and not self._transport.is_closing()
        return there and not self._last

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a request; status and body of its answer.

        Raises:
            OSError: the connection is closed.
            TimeoutError: there was no answer.
        """
        if not self.open:
            raise ConnectionResetError("closed")
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await asyncio.wait_for(self._answered, PATIENCE)

    def close(self) -> None:
        self._transport.close()


async def connect(port: int) -> Connection:
    """A new connection to a port of this machine."""
    _, made = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
    return made


@dataclass
class Sent:
    """One request: its text, when it was due and answered, its status, 0 if it was lost."""

    text: int
    due: float
    end: float
    status: int
    body: bytes


class Sender:
    """Sends texts in turn and keeps what came."""

    def __init__(self, load: Load) -> None:
        server = SERVERS[load.server]
        self.load = load
        self.requests = [server.request(text, load.port) for text in load.texts]
        self.sent: list[Sent] = []
        self._next = load.begin

    def turn(self) -> int:
        self._next += 1
        return (self._next - 1) % len(self.requests)

    async def send(self, connection: Connection, text: int, due: float) -> Connection:
        """One request; the connection, or a new one where it was lost."""
        try:
            status, body = await connection.ask(self.requests[text])
        except (OSError, TimeoutError):
            status, body = 0, b""
        self.sent.append(Sent(text, due, time.perf_counter(), status, body))
        if connection.open and status:
            return connection
        connection.close()
        return await connect(self.load.port)

    async def closed(self) -> None:
        """Clients that wait for each answer before they send the next request."""
        end = time.perf_counter() + self.load.seconds

        async def client() -> None:
            connection = await connect(self.load.port)
            while (now := time.perf_counter()) < end:
                connection = await self.send(connection, self.turn(), now)
            connection.close()

        await asyncio.gather(*(client() for _ in range(self.load.clients)))

    async def opened(self) -> None:
        """Requests at random moments, whatever came of those before."""
        free: list[Connection] = []
        tasks: set[asyncio.Task[None]] = set()

        async def one(text: int, due: float) -> None:
            connection = free.pop() if free else await connect(self.load.port)
            free.append(await self.send(connection, text, due))

        for due in self._moments():
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            task = asyncio.create_task(one(self.turn(), due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in free:
            connection.close()

    def _moments(self) -> Iterator[float]:
        chance = random.Random(self.load.begin)
        due = begin = time.perf_counter()
        while (due := due + chance.expovariate(self.load.rate)) < begin + self.load.seconds:
            yield due


def percentile(values: list[float], share: float) -> float:
    """The value that so many are not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def outcome(sender: Sender) -> dict[str, Any]:
    """Rate, latencies and what went wrong; the labels that were given to each text."""
    good = [each for each in sender.sent if each.status == 200]
    label = SERVERS[sender.load.server].label
    latencies = [1000 * (each.end - each.due) for each in good]
    begin = min((each.due for each in sender.sent), default=0.0)
    seconds = max((each.end for each in sender.sent), default=1.0) - begin
    statuses = [each.status for each in sender.sent]
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "requests": len(sender.sent),
        "seconds": seconds,
        "requests_per_second": len(good) / seconds,
        "p50_ms": statistics.median(latencies) if latencies else None,
        "p99_ms": percentile(latencies, 0.99) if latencies else None,
        "mean_ms": statistics.fmean(latencies) if latencies else None,
        "statuses": {str(each): statuses.count(each) for each in sorted(set(statuses))},
        "client_cpu_seconds": usage.ru_utime + usage.ru_stime,
        "labels": [[each.text, label(json.loads(each.body))] for each in good],
    }


async def run(load: Load) -> dict[str, Any]:
    """One load from beginning to end."""
    sender = Sender(load)
    await (sender.closed() if load.clients else sender.opened())
    return outcome(sender)


def describe(load: Load) -> dict[str, Any]:
    """The load as plain values."""
    return asdict(load)


if __name__ == "__main__":
    print(json.dumps(uvloop.run(run(Load(**json.load(sys.stdin))))))
