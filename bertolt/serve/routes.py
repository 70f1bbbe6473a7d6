"""A route that says of a request that it is the one: the router of older Starlettes does not."""

from __future__ import annotations

from starlette import routing
from starlette.types import Receive, Scope, Send


class Route(routing.Route):
    """A route by which its requests are counted and logged, also those by another method."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whose `scope["route"]` is this one."""
        scope["route"] = self
        await super().handle(scope, receive, send)
