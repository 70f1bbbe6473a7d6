"""A table in the body of a request, and the same with answers, streamed as they come.

The body is kept in a file without a name of the request's, which is gone before the first answer.
Rows are asked in small parts through the queue that everyone waits in, so a long file holds nobody
up for longer than a part takes.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from bertolt.base.errors import BertoltError
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
