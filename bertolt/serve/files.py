"""A table in the body of a request, and the same with answers, streamed as they come.

The body is kept in a file without a name of the request's, which is gone before the first answer.
Rows are asked in small parts through the queue that everyone waits in, so a long file holds nobody
up for longer than a part takes.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from bertolt.base.errors import BertoltError
from bertolt.serve.app import Server
from bertolt.serve.errors import RefusedError
from bertolt.serve.models import ServedModel
from bertolt.tasks.base import Example
from bertolt.tasks.predictor import Prediction, Predictor

ENDINGS = {
    "text/csv": ".csv",
    "text/tab-separated-values": ".tsv",
    "application/json": ".json",
    "application/jsonl": ".jsonl",
    "application/x-ndjson": ".jsonl",
    "application/x-jsonlines": ".jsonl",
}
"""What a body may be, and how files of such text end."""
PART = 64
"""Rows that are asked at a time."""

Answered = Sequence[Prediction | BertoltError]
Ask = Callable[[list[Example]], Awaitable[Answered]]
"""Answers examples in their order; an error in the place of an answer that there is not."""


class FileAnswers(Protocol):
    """A file whose rows are answered part by part; `commands/file_answers.py` has it."""

    rows: int

    def parts(self, size: int) -> Iterator[list[Example]]:
        """The examples of the next so many rows."""

    def text(self, answers: Answered) -> str:
        """The rows of that part with their answers."""

    def end(self) -> str:
        """What stands behind the last row."""


Open = Callable[[Predictor, Path, Mapping[str, str]], FileAnswers]
"""Reads a file for a predictor, by the parameters of a request."""


def file_routes(server: Server, open_file: Open) -> list[Route]:
    """The route that answers a file of rows.

    Args:
        server: that answers.
        open_file: reads a file.
    """

    async def answer_file(request: Request) -> Response:
        model = server.models.named(request.path_params["model"])
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if kind not in ENDINGS:
            raise RefusedError(
                415, "the type of the file is not known", fix=f"send {', '.join(ENDINGS)}"
            )
        body = await server.body(request, server.limits.file_bytes)
        read = (open_file, model.predictor, body, ENDINGS[kind], dict(request.query_params))
        file = await asyncio.to_thread(read_body, *read)
        parts = stream(file, partial(_ask, server, request, model))
        return StreamingResponse(parts, media_type=kind, headers={"X-Rows": str(file.rows)})

    return [Route("/v1/files/{model}", answer_file, methods=["POST"])]


async def _ask(
    server: Server, request: Request, model: ServedModel, examples: list[Example]
) -> Answered:
    """Answer a part; where the queue is full, the file waits and does not fail."""
    while True:
        try:
            return (await server.ask(request, model, examples))[0]
        except RefusedError as error:
            if error.status != 503 or server.leaving:
                raise
            await asyncio.sleep(error.retry_after or 1)


def read_body(
    open_file: Open, predictor: Predictor, body: bytes, ending: str, parameters: Mapping[str, str]
) -> FileAnswers:
    """Read the rows of a body; the file that holds it meanwhile is gone afterwards.

    Raises:
        BertoltError: the file, a column or a row cannot be used, or a parameter.
    """
    with tempfile.TemporaryDirectory(prefix="bertolt-file-") as folder:
        path = Path(folder, f"body{ending}")
        path.write_bytes(body)
        return open_file(predictor, path, parameters)


async def stream(file: FileAnswers, ask: Ask) -> AsyncIterator[str]:
    """The file with its answers, part by part.

    Raises:
        BertoltError: what `ask` raises for more than one example.
    """
    for examples in file.parts(PART):
        yield file.text(await ask(examples) if examples else [])
    yield file.end()
