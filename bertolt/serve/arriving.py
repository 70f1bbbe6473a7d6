"""The body of a request as it arrives: not too much, and not too slowly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.requests import Request

from bertolt.serve.errors import RefusedError
from bertolt.serve.limits import Limits

_SHOWN = 80  # characters of a header, in a message
_DIGITS = 19  # of a length, at most
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
        RefusedError: it is too large, or is said to be, or too slow, or packed, or the client is
            gone.
    """
    packed = request.headers.get("content-encoding", "identity")
    if packed.lower() != "identity":  # what comes out could be a thousand times as large
        raise RefusedError(
            415,
            f"the body is packed as {packed[:_SHOWN]!r}",
            fix="send it as it is, without Content-Encoding",
            param="Content-Encoding",
        )
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and (len(declared) > _DIGITS or int(declared) > most):
        raise _too_large(most)
    size, begun = 0, asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(limits.body_seconds) as patience:
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise RefusedError(GONE, "the client is gone")
                size += len(part := message.get("body", b""))
                if size > most:
                    raise _too_large(most)
                take(part)
                if not message.get("more_body", False):
                    return
                patience.reschedule(begun + limits.body_seconds + size / limits.slowest)
    except TimeoutError as error:
        raise RefusedError(408, "the body came too slowly", fix="send it at once") from error


def _too_large(most: int) -> RefusedError:
    return RefusedError(
        413, f"a body may have {most:,} bytes", fix="send it in parts", param="body"
    )


async def until_gone(request: Request) -> None:
    """Wait until the client of a request whose body has been read is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
