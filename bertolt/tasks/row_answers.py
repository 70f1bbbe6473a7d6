"""What each held-out row was answered, in a few bytes: enough to compare runs without their models.

The texts are not kept: a digest tells whether two runs have answered the same row.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bertolt.base.checks import is_real
from bertolt.base.errors import CheckpointError
from bertolt.base.files import write_atomically
from bertolt.base.format import shorten
from bertolt.data.arrow import as_utf8, pa, pq
from bertolt.tasks.base import Answer, Example, Scorer, Task

ANSWERS = "answers.parquet"
"""The file beside `metrics.json`."""
DIGITS = 16
"""Digits of the digest of a row."""
_SAID = 120  # characters of an answer that are kept


class RowAnswer(NamedTuple):
    """One row.

    Attributes:
        row: its number in the table that was measured.
        digest: of its texts and of what is true of it; where what it adds depends on all rows, a
            fingerprint of them stands behind it.
        sums: what it adds to the sums of the primary metric, or what a scorer makes that of.
        said, truth: in words, their beginnings.
    """

    row: int
    digest: str
    sums: list[float]
    said: str
    truth: str


class RowAnswers:
    """Answers of rows, to be kept.

    Attributes:
        rows: so far.
    """

    def __init__(self, task: Task) -> None:
        self._task, self._scorer = task, task.scorer()
        self.rows: list[RowAnswer] = []

    def add(self, number: int, answer: Answer, example: Example) -> None:
        """Take in one answer; one of which the scorer keeps nothing is left out."""
        sums = self._scorer.row_sums(answer, example)
        if sums is None:
            return
        said, truth = self._task.describe_answer(answer), self._task.truth(example)
        self.rows.append(
            RowAnswer(
                example["row"],
                digest(example),
                [float(each) for each in sums],
                shorten(said, _SAID),
                shorten(truth, _SAID),
            )
        )

    def complete(self, scorer: Scorer) -> None:
        """Put them in order; of rows that ask the same among all rows, one stays.

        Args:
            scorer: that has counted all rows.
        """
        self.rows.sort()
        among = scorer.among_all(np.array([row.sums for row in self.rows])) if self.rows else None
        if among is None:
            return
        # Which of them stays must not depend on the order of a file: another may have another.
        first: dict[int, int] = {}
        for place, asks in enumerate(among.asks.tolist()):
            here = first.setdefault(asks, place)
            if self.rows[place].digest < self.rows[here].digest:
                first[asks] = place
        self.rows = [
            self.rows[place]._replace(
                digest=self.rows[place].digest + among.rows,
                sums=among.sums[place].tolist(),
                said=among.said[place],
                truth=among.truth,
            )
            for place in sorted(first.values())
        ]

    def write(self, path: Path) -> None:
        """Write them as Parquet, whole or not at all."""
        columns = {name: [getattr(row, name) for row in self.rows] for name in RowAnswer._fields}
        for name in ("said", "truth"):
            columns[name] = list(map(as_utf8, columns[name]))
        table = pa.table(columns, schema=_schema())
        write_atomically(path, lambda to: pq.write_table(table, to, compression="zstd"))


def _schema() -> pa.Schema:
    return pa.schema(
        [
            ("row", pa.int64()),
            ("digest", pa.string()),
            ("sums", pa.list_(pa.float64())),
            ("said", pa.string()),
            ("truth", pa.string()),
        ]
    )


def digest(example: Example) -> str:
    """`DIGITS` hexadecimal digits of the texts of a row and of what is true of it."""
    parts = [example["text"], example.get("text_pair"), example.get("label")]
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=DIGITS // 2).hexdigest()


def read_answers(path: Path) -> list[RowAnswer]:
    """Answers that were kept.

    Raises:
        CheckpointError: the file cannot be read, or its rows are not whole.
    """
    try:
        table = pq.read_table(path, schema=_schema())  # a column that is not there has no values
        rows = [RowAnswer(**row) for row in table.to_pylist()]
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise _unreadable(path, f"it cannot be read ({error})") from error
    widths = {len(row.sums or ()) for row in rows}
    if len(widths) > 1 or any(None in row or not all(map(is_real, row.sums)) for row in rows):
        raise _unreadable(path, "something of its rows is missing")
    return rows


def _unreadable(path: Path, problem: str) -> CheckpointError:
    fix = "fine-tune again with --overwrite, or name a file to compare on: --on FILE"
    return CheckpointError(problem, place=str(path), fix=fix)


def by_key(rows: list[RowAnswer]) -> dict[tuple[str, int], RowAnswer]:
    """The same by digest, and which of several rows that are alike; in their order."""
    return dict(_keyed(rows))


def _keyed(rows: list[RowAnswer]) -> Iterator[tuple[tuple[str, int], RowAnswer]]:
    times: Counter[str] = Counter()
    for row in rows:
        yield (row.digest, times[row.digest]), row
        times[row.digest] += 1
