"""A table in the body of a request, and the same with answers, streamed as they come.

The body is kept in a file without a name of the request's, which is gone before the first answer.
Rows are asked in small parts through the queue that everyone waits in, so that a long file holds
nobody up for longer than a part takes, and waits itself where the queue is full.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from bertolt.base.errors import BertoltError
from bertolt.serve.app import Server
from bertolt.serve.arriving import GONE, read, until_gone
from bertolt.serve.errors import RefusedError
from bertolt.serve.models import ServedModel
from bertolt.serve.openapi import Files as Described
from bertolt.serve.queue import Ask, Result
from bertolt.serve.routes import Route
from bertolt.tasks.base import Example
from bertolt.tasks.predictor import Predictor

ENDINGS = {
    "text/csv": ".csv",
    "text/tab-separated-values": ".tsv",
    "application/json": ".json",
    "application/jsonl": ".jsonl",
    "application/x-ndjson": ".jsonl",
}
"""What a body may be, and how files of such text end."""
PART = 64
"""Rows that are asked at a time."""
MOST = 4
"""Files that are answered at a time."""
_PAUSE = 0.25  # seconds before a part is offered again to a queue that was full


Watch = Callable[[int], None]
"""Called by who reads with the rows so far; raises `ForNobodyError` once nobody waits for them."""


class ForNobodyError(Exception):
    """Ends the reading of a file; `why` is what its request is told. No `BertoltError`, for it is
    no fault of the file, and nobody puts it into the words of a command."""

    def __init__(self, why: RefusedError) -> None:
        super().__init__(str(why))
        self.why = why


class FileAnswers(Protocol):
    """A file whose rows are answered part by part; `commands/file_answers.py` has it."""

    rows: int
    pairs: bool

    def parts(self, size: int) -> Iterator[list[Example]]:
        """The examples of the next so many rows."""

    def text(self, answers: Sequence[Result]) -> str:
        """The rows of that part with their answers."""

    def end(self) -> str:
        """What stands behind the last row."""


class Open(Protocol):
    """Reads a file for a predictor, by the parameters of a request.

    Attributes:
        parameters: the schema of each.
    """

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What may be said of a file."""

    def __call__(
        self,
        predictor: Predictor,
        path: Path,
        parameters: Mapping[str, str],
        characters: int,
        watch: Watch,
        /,
    ) -> FileAnswers:
        """The rows of a file, each with so many characters at most; `watch` may end the reading."""


def file_routes(server: Server, open_file: Open) -> list[Route]:
    """The route that answers a file of rows.

    Args:
        server: that answers.
        open_file: reads a file.
    """
    files = Files(server, open_file)
    server.files = Described(parameters=open_file.parameters, kinds=tuple(ENDINGS))
    return [Route("/v1/files/{model}", files.answer, methods=["POST"])]


class _Told(StreamingResponse):
    """A response that says when it is over, however it ends."""

    over: Callable[[], None]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.over()


class Files:
    """Answers files with the models of a server.

    Args:
        server: whose models answer, in its queue and within its limits.
        open_file: reads one.
    """

    def __init__(self, server: Server, open_file: Open) -> None:
        self._server, self._models, self._limits = server, server.models, server.limits
        self._open, self._busy = open_file, 0
        self._reading = asyncio.Semaphore(1)  # who reads holds the interpreter, and others up

    async def answer(self, request: Request) -> Response:
        """The file in the body with its answers.

        Raises:
            RefusedError: no such model or kind of file, or too much, or too slow.
            BertoltError: the file, a column or a row cannot be used, or a parameter.
        """
        served = self._models.named(request.path_params["model"])
        request.scope["model"] = served.name
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in ENDINGS:
            raise RefusedError(
                415, f"{kind[:80] or 'a body of no type'!r} is no table", fix=_KINDS, param="body"
            )
        if self._busy >= MOST:
            raise RefusedError(
                503, f"{MOST} files are being answered", fix="send it later", retry_after=5
            )
        self._busy += 1
        try:
            file = await self._read(request, served, ENDINGS[kind])
        except BaseException:
            self._over()
            raise
        headers = {
            "X-Rows": str(file.rows),
            "Content-Disposition": f'attachment; filename="answers{ENDINGS[kind]}"',
        }
        told = _Told(self._stream(file, served), media_type=kind, headers=headers)
        told.over = self._over
        return told

    def _over(self) -> None:
        self._busy -= 1

    async def _read(self, request: Request, served: ServedModel, ending: str) -> FileAnswers:
        """The rows of the body; what holds it meanwhile is gone afterwards."""
        try:
            with tempfile.TemporaryDirectory(prefix="bertolt-file-") as folder:
                path = Path(folder, f"body{ending}")
                with path.open("wb") as target:
                    await read(request, self._limits.file_bytes, self._limits, target.write)
                parameters, most = _parameters(request), self._limits.characters
                async with self._wanted(request) as watch, self._reading:
                    watch(0)
                    return await run_in_threadpool(
                        self._open, served.predictor, path, parameters, most, watch
                    )
        except ForNobodyError as error:
            raise error.why from error
        except OSError as error:
            if isinstance(error, BertoltError):
                raise
            raise RefusedError(
                507,
                f"the file cannot be kept while it is answered: {error.strerror}",
                fix="send it later, or in smaller parts",
            ) from error

    @asynccontextmanager
    async def _wanted(self, request: Request) -> AsyncIterator[Watch]:
        """What ends the reading of a file, a thread that nothing else stops, when its client is
        gone, or when the server has no more time before its end."""
        gone = asyncio.get_running_loop().create_task(until_gone(request))

        def watch(rows: int) -> None:
            if gone.done():
                raise ForNobodyError(RefusedError(GONE, "the client is gone"))
            if self._server.leaving and self._server.seconds_left <= 0:
                end = "the server ends before the file is read"
                raise ForNobodyError(RefusedError(504, end, fix="send it to another one"))

        try:
            yield watch
        finally:
            gone.cancel()

    async def _stream(self, file: FileAnswers, served: ServedModel) -> AsyncIterator[str]:
        """The file with its answers, part by part."""
        predictor = served.asked_in(file.pairs)
        for examples in file.parts(PART):
            results = await self._ask(served, predictor, examples) if examples else []
            yield file.text(results)
        yield file.end()

    async def _ask(
        self, served: ServedModel, predictor: Predictor, examples: list[Example]
    ) -> Sequence[Result]:
        while True:
            ask = Ask(served, predictor, examples, self._server.deadline())
            try:
                self._server.queue.put(ask)
            except RefusedError as error:
                if error.code != "queue_full":
                    raise
                await asyncio.sleep(_PAUSE)
                continue
            try:
                return await asyncio.wrap_future(ask.done)
            except asyncio.CancelledError:
                ask.cancel()
                raise


def _parameters(request: Request) -> dict[str, str]:
    """What a request says of its file.

    Raises:
        RefusedError: one thing twice, as nobody knows which one is meant.
    """
    given = request.query_params.multi_items()
    for name, count in Counter(name for name, _ in given).items():
        if count > 1:
            raise RefusedError(
                400,
                f"the parameter {name[:80]!r} is there {count} times",
                fix="send it once",
                param=f"?{name[:80]}=",
            )
    return dict(given)


_KINDS = f"send it as one of {', '.join(ENDINGS)} in the header Content-Type"
