"""The body of a request as it arrives: not too much, and not too slowly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.requests import ClientDisconnect, Request

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
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise RefusedError(
                        413,
                        f"a body may have {most:,} bytes",
                        fix="send it in parts",
                        param="body",
                    )
                take(part)
                patience.reschedule(begun + limits.body_seconds + size / limits.slowest)
    except TimeoutError as error:
        raise RefusedError(408, "the body came too slowly", fix="send it at once") from error
    except ClientDisconnect as error:
        raise RefusedError(GONE, "the client is gone") from error
