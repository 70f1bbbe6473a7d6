"""Vectors as one array in a file of numpy: a row for each text, float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Self

import numpy as np

from bertolt.base.console import info
from bertolt.base.errors import UsageError
from bertolt.base.files import opened_at
from bertolt.base.format import plural
from bertolt.commands.questions import Question
from bertolt.commands.writers import Format, Writer
from bertolt.tasks.predictor import Prediction, Predictor

_HEAD = 128  # bytes before the numbers


class Vectors(Writer):
    """An array (N, H) of the vectors of texts, or (N,) of the cosines of pairs.

    A text without an answer has NaN in all its numbers.
    """

    state = ("names", "rows", "missing")

    def __init__(self, target: IO[bytes], predictor: Predictor, form: Format) -> None:
        super().__init__(predictor, form)
        if not self.task.vectors:
            raise UsageError(
                f"answers of {self.task.name} are no vectors",
                place="--format npy",
                fix="let --out end in .jsonl or .parquet",
            )
        self.target = target
        self.width = 0 if self.pairs else predictor.model.config.hidden_size
        self.rows, self.missing = 0, 0
        if not target.tell():
            target.write(bytes(_HEAD))

    @classmethod
    @contextmanager
    def to(cls, path: Path, predictor: Predictor, form: Format, size: int = 0) -> Iterator[Self]:
        """A writer to a file, behind the bytes that are there already."""
        with opened_at(path, size) as target:
            yield cls(target, predictor, form)

    def flush(self) -> None:
        """Write what is gathered."""
        self.target.flush()

    def write(self, question: Question, prediction: Prediction | None) -> None:
        """Write the numbers of one answer."""
        values = np.full(self.width or 1, np.nan, "<f4")
        if prediction is None:
            self.missing += 1
        else:
            values[:] = next(iter(self.task.public(prediction.answer).values()))
        self.target.write(values.tobytes())
        self.rows += 1

    def end(self) -> None:
        """Write the shape into the head, as the format has it: numpy.lib.format, version 1.0."""
        shape = (self.rows, self.width) if self.width else (self.rows,)
        words = repr({"descr": "<f4", "fortran_order": False, "shape": shape})
        start = b"\x93NUMPY\x01\x00" + (_HEAD - 10).to_bytes(2, "little")
        self.target.seek(0)
        self.target.write(start + words.encode().ljust(_HEAD - 11) + b"\n")
        if self.missing:
            info(f"{plural(self.missing, 'text')} without an answer: their numbers are NaN")
