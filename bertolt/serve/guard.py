"""What stands before every route: who asks, how often, and what each answer's header says."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bertolt.serve.clients import Keys, Rate
from bertolt.serve.errors import RefusedError, as_json
from bertolt.serve.hosts import Hosts
from bertolt.serve.log import Log, in_log
from bertolt.serve.metrics import Metrics

_OPEN = ("/", "/docs", "/health", "/ready")
_ADMIN = ("/load", "/unload")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""What every answer says, unless a route says it otherwise."""
_PAIRS = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]


class Guarded(Protocol):
    """A server as its guard knows it."""

    keys: Keys | None
    hosts: Hosts | None
    rate: Rate | None
    metrics: Metrics
    log: Log
    unanswered: int

    @property
    def leaving(self) -> bool:
        """Whether its port closes soon."""

    @property
    def crowded(self) -> bool:
        """Whether more connections are open than it takes requests of."""


class Guard:
    """Refuses who may not ask, counts and logs each request, and adds headers.

    Args:
        app: what answers.
        server: whose keys and rate hold, without keys anybody may ask and nobody may load; and
            whose metrics and log are told.
    """

    def __init__(self, app: ASGIApp, server: Guarded) -> None:
        self.app, self.server = app, server
        self.keys, self.rate = server.keys, server.rate
        self.metrics, self.log = server.metrics, server.log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        number = os.urandom(6).hex()
        started, status, whole = time.monotonic(), 0, False

        async def answer(message: Message) -> None:
            nonlocal status, whole
            if message["type"] == "http.response.start":
                status = message["status"]
                # So that no next request meets a closed connection, and another has its place.
                last = self.server.leaving or self.server.crowded
                message = {
                    **message,
                    "headers": _with_ours(message.get("headers", ()), number, last=last),
                }
            else:
                whole = not message.get("more_body", False)
            try:
                await send(message)
            except RuntimeError as error:
                # A client that is gone may be known to the transport before it is told to us.
                if "closed" not in str(error):
                    raise

        try:
            self._admit(scope)
        except RefusedError as error:
            refused = JSONResponse({"error": as_json(error)}, error.status, error.headers)
            await refused(scope, receive, answer)
        else:
            await self._answer(scope, receive, answer, lambda: status > 0)
        finally:
            broken = status > 0 and not whole
            self._tell(scope, number, status, time.monotonic() - started, broken=broken)

    async def _answer(
        self, scope: Scope, receive: Receive, answer: Send, begun: Callable[[], bool]
    ) -> None:
        """Answer; where that goes wrong before an answer has begun, say so."""
        try:
            await self.app(scope, receive, answer)
        except asyncio.CancelledError:  # the end of the server came first
            self.server.unanswered += 1
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the client is told
            self.log("error", **in_log(error))
            if not begun():
                told = RefusedError(500, "the server made a mistake", fix="ask again")
                await JSONResponse({"error": as_json(told)}, 500)(scope, receive, answer)
            elif self.server.leaving:  # as it would be, had its answer not begun
                self.server.unanswered += 1

    def _admit(self, scope: Scope) -> None:
        path = scope["path"]  # as it is routed; a url has the header Host in it
        if self.server.hosts is not None and path != "/health":
            self.server.hosts.require(Headers(scope=scope).getlist("host"))
        if path in _OPEN or path.startswith("/static/"):
            return
        if self.server.crowded:
            raise RefusedError(
                503, "too many connections are open", fix="ask again later", retry_after=1
            )
        changes = scope["method"] == "POST"  # the routes take nothing else, and say so themselves
        admin = changes and path.startswith("/v1/models/") and path.endswith(_ADMIN)
        host = scope["client"][0] if scope.get("client") else ""
        if self.keys is None:
            self._take(host)
            allowed = not admin
        else:
            try:
                client = self.keys.client(Headers(scope=scope).get("authorization"))
            except RefusedError:
                self._take(host)  # who guesses keys waits too
                raise
            self._take(client.digest)  # a header writes one key in many ways
            allowed = client.rules or not admin
        if not allowed:
            raise RefusedError(
                403,
                "only a key of an administrator may load and unload",
                fix='write "admin KEY" into the file of --keys, and send that key',
            )

    def _take(self, client: str) -> None:
        if self.rate is not None:
            self.rate.take(client)

    def _tell(
        self, scope: Scope, number: str, status: int, seconds: float, *, broken: bool
    ) -> None:
        route = getattr(scope.get("route"), "path", "other")
        task = scope.get("path_params", {}).get("task")
        model = scope.get("model", "")
        self.metrics.requests.labels(route, model, "broken" if broken else str(status)).inc()
        self.metrics.stages["all"].observe(seconds)
        if route in _OPEN or route.startswith("/static/"):
            return
        told = {"task": task} if task and model else {}
        told |= {"model": model} if model else {}
        told |= {"broken": True} if broken else {}  # the answer began, and did not come to its end
        self.log(
            "request",
            id=number,
            method=scope["method"],
            route=route,
            status=status,
            ms=round(1000 * seconds, 2),
            **told,
        )


def _with_ours(
    given: Iterable[tuple[bytes, bytes]], number: str, *, last: bool
) -> list[tuple[bytes, bytes]]:
    """The header of an answer, as a route gives it in small letters, with what every answer says.

    Args:
        given: by the route.
        number: of the request.
        last: whether the connection closes behind it.
    """
    headers = [pair for pair in given if not (last and pair[0] == b"connection")]
    said = {name for name, _ in headers}
    headers.append((b"x-request-id", number.encode()))
    headers.extend(pair for pair in _PAIRS if pair[0] not in said)
    if last:
        headers.append((b"connection", b"close"))
    return headers
