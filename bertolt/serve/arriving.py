"""The body of a request as it arrives: not too much, and not too slowly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.requests import Request

from bertolt.serve.errors import RefusedError
from bertolt.serve.limits import Limits

GONE = 499  # nobody reads it; logs know it by this number


async def read(
    request: Request, most: int, limits: Limits, take: Callable[[bytes], object]
) -> None:
    """Read the body of a request.

    Args:
        request: whose body has not been read.
        most: bytes.
        limits: `body_seconds` and `slowest` count.
        take: called with each part.

    Raises:
        RefusedError: it is too large or too slow, or the client is gone.
    """
    size, begun = 0, asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(limits.body_seconds) as patience:
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise RefusedError(GONE, "the client is gone")
                size += len(part := message.get("body", b""))
                if size > most:
                    raise RefusedError(
                        413,
                        f"a body may have {most:,} bytes",
                        fix="send it in parts",
                        param="body",
                    )
                take(part)
                if not message.get("more_body", False):
                    return
                patience.reschedule(begun + limits.body_seconds + size / limits.slowest)
    except TimeoutError as error:
        raise RefusedError(408, "the body came too slowly", fix="send it at once") from error
