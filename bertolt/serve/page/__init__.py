"""The page at `/`, and the API as it shows it at `/docs`: five files, which are read once; no name
from a request is opened."""

from __future__ import annotations

from functools import partial
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response

from bertolt.serve.routes import Route

_FILES = {
    "/": ("index.html", "text/html"),
    "/docs": ("index.html", "text/html"),
    "/static/style.css": ("style.css", "text/css"),
    "/static/words.js": ("words.js", "text/javascript"),
    "/static/docs.js": ("docs.js", "text/javascript"),
    "/static/page.js": ("page.js", "text/javascript"),
}
POLICY = "; ".join(
    [
        *("default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'"),
        *("img-src data:", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"),
    ]
)
"""What a browser lets the page do: fetch from this server, and nothing else."""
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def page_routes() -> list[Route]:
    """The routes of the page and of its style and script."""
    return [
        Route(path, partial(_file, text=_read(name), kind=kind), include_in_schema=False)
        for path, (name, kind) in _FILES.items()
    ]


def _read(name: str) -> bytes:
    return files(__name__).joinpath(name).read_bytes()


async def _file(request: Request, text: bytes, kind: str) -> Response:
    return Response(text, media_type=kind, headers=_HEADERS)
