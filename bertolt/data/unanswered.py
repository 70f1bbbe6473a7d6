"""Rows of a table that have no answer, as those without a text: in memory or, where they are many,
on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple

from bertolt.data.arrow import as_utf8, pa
from bertolt.data.spill import Batches

_ROWS, _CHARACTERS = 2048, 1 << 20  # that are gathered before they become Arrow's


class Unanswered(NamedTuple):
    """A row without a text, or with one half of a pair; or that is broken otherwise.

    Attributes:
        reason: that it is counted under.
        texts: what there is of its texts, by role; of each the type is that of other rows.
        kept: the user's own columns, as one JSON text.
    """

    reason: str
    texts: dict[str, object]
    kept: str | None


class UnansweredRows:
    """Such rows by their numbers, in the order of the file. Once they are read, none is added."""

    def __init__(self) -> None:
        self._count = self._characters = 0
        self._gathered: list[tuple[int, str, str, str | None]] = []
        self._batches: Batches | None = None
        self._table: pa.Table | None = None

    def __len__(self) -> int:
        return self._count

    def add(self, number: int, row: Unanswered) -> None:
        """Take in one more.

        Raises:
            DiskFullError: the temporary folder has no room for them.
        """
        texts = as_utf8(json.dumps(row.texts, ensure_ascii=False))
        self._gathered.append((number, as_utf8(row.reason), texts, row.kept))
        self._count += 1
        self._characters += len(texts) + len(row.kept or "")
        if len(self._gathered) >= _ROWS or self._characters >= _CHARACTERS:
            self._flush()

    def _flush(self) -> None:
        schema = pa.schema(
            [("row", pa.int64()), *((name, pa.string()) for name in ("reason", "texts", "kept"))]
        )
        self._batches = self._batches or Batches(schema)
        columns = zip(zip(*self._gathered, strict=True), schema, strict=True)
        arrays = [pa.array(values, field.type) for values, field in columns]
        self._batches.add(pa.RecordBatch.from_arrays(arrays, schema=schema))
        self._gathered, self._characters = [], 0

    def items(self) -> Iterator[tuple[int, Unanswered]]:
        """The number of each, and the row."""
        if not self._count:
            return
        if self._table is None:
            if self._gathered:
                self._flush()
            assert self._batches is not None
            self._table = self._batches.table()
        for batch in self._table.to_batches(max_chunksize=_ROWS):
            for row in batch.to_pylist():
                texts = json.loads(row["texts"])
                yield row["row"], Unanswered(row["reason"], texts, row["kept"])
