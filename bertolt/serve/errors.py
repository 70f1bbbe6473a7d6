"""Why a request is refused: the status, and the problem with its fix as JSON."""

from __future__ import annotations

from typing import Any

from bertolt.base.errors import BertoltError
from bertolt.data.parted import TooLongError
from bertolt.tasks.base import NotFiniteError

TYPES = {
    400: "invalid_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "too_slow",
    409: "conflict",
    413: "too_large",
    415: "unsupported_media_type",
    421: "misdirected",
    422: "unanswerable",
    429: "too_many_requests",
    500: "server_error",
    503: "unavailable",
    504: "too_late",
    507: "no_space",
}


class RefusedError(BertoltError):
    """A request that is not answered.

    Args:
        status: of HTTP.
        problem, fix: as of every error.
        param: the part of the request.
        code: for programs, where the status does not say it.
        retry_after: seconds until it may be asked again.
    """

    def __init__(
        self,
        status: int,
        problem: str,
        *,
        fix: str = "",
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(problem, fix=fix, place=param or "")
        self.status, self.param, self.code = status, param, code
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        """What the answer says beside its body."""
        headers = {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(max(1, round(self.retry_after)))
        return headers


def in_request(error: BertoltError, param: str) -> RefusedError:
    """The error of an example as its request is told: by the part of the request, with a fix that
    is for the client and names no option of the server but to those who start it."""
    if isinstance(error, RefusedError):
        return error
    fix, code = error.fix, None
    if isinstance(error, TooLongError):
        code = "text_too_long"
        way = "window reads all of it" if "--long window" in fix else "truncate cuts it"
        fix = f"send it in parts; where the server is started with --long, {way}"
    elif isinstance(error, NotFiniteError):
        fix = "ask another model, or its owner to train it again"
    return RefusedError(422, error.problem, fix=fix, param=param, code=code)


def as_json(error: BertoltError) -> dict[str, Any]:
    """The body of an answer that refuses."""
    status = status_of(error)
    param = error.param if isinstance(error, RefusedError) else error.place or None
    code = error.code if isinstance(error, RefusedError) else None
    return {
        "message": error.problem,
        "type": TYPES.get(status, "server_error"),
        "code": code,
        "param": param,
        "fix": error.fix,
    }


def status_of(error: BertoltError) -> int:
    """The status of HTTP that says it best: an example alone cannot be answered with others'."""
    return error.status if isinstance(error, RefusedError) else 422
