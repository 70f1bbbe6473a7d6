"""What each held-out row was answered, whole: enough to compare runs without their models.

The texts are not kept: a digest tells whether two runs have answered the same row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from bertolt.base.errors import CheckpointError
from bertolt.base.files import write_atomically
from bertolt.data.arrow import as_utf8, pa, pc, pq
from bertolt.data.load import KEPT
from bertolt.data.spill import Batches
from bertolt.data.table_file import is_empty
from bertolt.metrics.counts import Interval
from bertolt.tasks.base import Answer, Example, Scorer, Task

ANSWERS = "answers.parquet"
"""The file beside `metrics.json`."""
DIGITS = 16
"""Digits of the digest of a row."""
_BATCH = 1024


class RowAnswer(NamedTuple):
    """One row.

    Attributes:
        row: its number in the table that was measured.
        digest: of its texts and of what is true of it; where what it adds depends on all rows, a
            fingerprint of them stands behind it.
        sums: what it adds to the sums of the primary metric, or what a scorer makes that of.
        said, truth: in words.
        group: a digest of the value that rows which depend on each other share; None: alone.
    """

    row: int
    digest: str
    sums: list[float]
    said: str
    truth: str
    group: str | None = None


class RowAnswers:
    """Answers of rows, to be kept: in memory, or on disk where they are many.

    Args:
        task: whose answers they are.
        group: a column that the rows keep, whose values say which of them depend on each other.
    """

    def __init__(self, task: Task, group: str | None = None) -> None:
        self._task, self._scorer, self._group = task, task.scorer(), group
        self._new: list[RowAnswer] = []
        self._batches = Batches(_schema())
        self._table: pa.Table | None = None

    def add(self, number: int, answer: Answer, example: Example) -> None:
        """Take in one answer; one of which the scorer keeps nothing is left out."""
        sums = self._scorer.row_sums(answer, example)
        if sums is None:
            return
        said, truth = self._task.describe_answer(answer), self._task.truth(example)
        self.put(
            RowAnswer(
                example["row"],
                digest(example),
                [float(each) for each in sums],
                as_utf8(said),
                as_utf8(truth),
                self._group_of(example),
            )
        )

    def _group_of(self, example: Example) -> str | None:
        if self._group is None or not example.get(KEPT):
            return None
        value = json.loads(example[KEPT]).get(self._group)
        return None if is_empty(value) else _digest_of(value)

    def put(self, row: RowAnswer) -> None:
        """Take in what is kept of a row."""
        self._new.append(row)
        self._table = None
        if len(self._new) == _BATCH:
            self._flush()

    def _flush(self) -> None:
        columns = list(map(list, zip(*self._new, strict=True))) or [[] for _ in _schema()]
        arrays = [
            pa.array(each, field.type) for each, field in zip(columns, _schema(), strict=True)
        ]
        self._batches.add(pa.record_batch(arrays, schema=_schema()))
        self._new = []

    @property
    def table(self) -> pa.Table:
        """All of them, whose columns are the attributes of `RowAnswer`; none is taken in after."""
        if self._table is None:
            self._flush()
            self._table = self._batches.table()
        return self._table

    @property
    def rows(self) -> list[RowAnswer]:
        """The same in memory."""
        return _listed(self.table)

    def complete(self, scorer: Scorer) -> None:
        """Put them in order; of rows that ask the same among all rows, one stays.

        Args:
            scorer: that has counted all rows.
        """
        table = self.table.take(pc.sort_indices(self.table["row"]))
        among = scorer.among_all(sums_of(table)) if len(table) else None
        if among is None:
            self._table = table
            return
        # Which of them stays must not depend on the order of a file: another may have another.
        digests = table["digest"].to_numpy().astype(f"S{DIGITS}")
        order = np.lexsort((digests, among.asks))
        first = np.sort(order[np.flatnonzero(np.diff(among.asks[order], prepend=-1))])
        sums = among.sums[first]
        columns = {
            "row": table["row"].take(first),
            "digest": [(each + among.rows.encode()).decode() for each in digests[first].tolist()],
            "sums": pa.ListArray.from_arrays(
                np.arange(len(sums) + 1, dtype=np.int32) * sums.shape[1], sums.ravel()
            ),
            "said": [among.said[place] for place in first.tolist()],
            "truth": [among.truth] * len(first),
            "group": table["group"].take(first),
        }
        self._table = pa.table(columns, schema=_schema())

    def write(self, path: Path) -> None:
        """Write them as Parquet, whole or not at all."""
        write_atomically(path, lambda to: pq.write_table(self.table, to, compression="zstd"))


def join_answers(parts: Sequence[Path], path: Path) -> None:
    """Write the answers of several files, each to other rows, as one; in the order of the rows.

    Raises:
        OSError, pa.ArrowException: a file cannot be read.
    """
    table = pa.concat_tables([pq.read_table(part, schema=_schema()) for part in parts])
    table = table.take(pc.sort_indices(table["row"]))
    write_atomically(path, lambda to: pq.write_table(table, to, compression="zstd"))


def sums_of(table: pa.Table) -> NDArray[np.float64]:
    """(N, S) what is kept of rows to make the primary metric of."""
    values: NDArray[np.float64] = pc.list_flatten(table["sums"]).to_numpy().reshape(len(table), -1)
    return values


def resampled(scorer: Scorer, answers: RowAnswers | None) -> Interval | None:
    """95% interval of the primary metric by resampling the groups that rows are of, or rows.

    Args:
        scorer: that has counted all rows.
        answers: of the same rows, with their groups; None: by rows.
    """
    groups = None if answers is None else group_numbers(answers.table["group"].to_pylist())
    if answers is None or groups is None:
        return scorer.bootstrap()
    return scorer.interval_of(sums_of(answers.table), groups)


def _schema() -> pa.Schema:
    return pa.schema(
        [
            ("row", pa.int64()),
            ("digest", pa.string()),
            ("sums", pa.list_(pa.float64())),
            # Whole answers of many rows are more than the 2 GiB of a column of `string`.
            ("said", pa.large_string()),
            ("truth", pa.large_string()),
            ("group", pa.string()),
        ]
    )


def digest(example: Example) -> str:
    """`DIGITS` hexadecimal digits of the texts of a row and of what is true of it."""
    parts = [example["text"], example.get("text_pair"), example.get("label")]
    return _digest_of(parts)


def _digest_of(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=DIGITS // 2).hexdigest()


def group_numbers(groups: Sequence[str | None]) -> NDArray[np.int64] | None:
    """(N,) the number of each row's group, from 0, a row without one being one; None where no two
    rows share theirs."""
    numbers: dict[str | int, int] = {}
    keys = (place if group is None else group for place, group in enumerate(groups))
    values = [numbers.setdefault(key, len(numbers)) for key in keys]
    return None if len(numbers) == len(values) else np.array(values, np.int64)


class KeptRows(Sequence[RowAnswer]):
    """Answers that were kept, in columns.

    Args:
        table: whose columns are the attributes of `RowAnswer`.

    Attributes:
        numbers: (N,) of the rows in the table that was measured.
        sums: (N, S) what each adds to the sums of the primary metric.
    """

    def __init__(self, table: pa.Table) -> None:
        self.table = table.combine_chunks()
        self.numbers: NDArray[np.int64] = self.table["row"].to_numpy()
        values = pc.list_flatten(self.table["sums"]).to_numpy()
        self.sums: NDArray[np.float64] = values.reshape(len(table), -1 if len(values) else 0)

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, place: int) -> RowAnswer: ...
    @overload
    def __getitem__(self, place: slice) -> list[RowAnswer]: ...
    def __getitem__(self, place: int | slice) -> RowAnswer | list[RowAnswer]:
        if isinstance(place, slice):
            return self.at(range(*place.indices(len(self))))
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        return self.at([place % len(self)])[0]

    def at(self, places: Sequence[int]) -> list[RowAnswer]:
        """The answers at some places, read at once."""
        return _listed(self.table.take(pa.array(places, pa.int64())))


def shared_places(parts: Sequence[KeptRows]) -> list[NDArray[np.int64]]:
    """(N,) where the rows that all parts have stand in each of them, in the order of the first.

    Of rows that are alike the first is that of the others, the second their second, and so on.
    """
    digests = pa.chunked_array([chunk for part in parts for chunk in part.table["digest"].chunks])
    codes = digests.combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    edges = np.cumsum([len(part) for part in parts])[:-1]
    keys = [each * (len(codes) + 1) + _times_before(each) for each in np.split(codes, edges)]
    there = np.logical_and.reduce([np.isin(keys[0], each, assume_unique=True) for each in keys])
    shared, places = keys[0][there], []
    for each in keys:
        order = np.argsort(each)
        places.append(order[np.searchsorted(each, shared, sorter=order)])
    return places


def _times_before(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) how often each code stands before."""
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    times = np.empty(len(codes), np.int64)
    times[order] = np.arange(len(codes)) - np.repeat(starts, np.diff([*starts, len(codes)]))
    return times


def read_answers(path: Path) -> KeptRows:
    """Answers that were kept.

    Raises:
        CheckpointError: the file cannot be read, or its rows are not whole.
    """
    try:
        table = pq.read_table(path, schema=_schema())  # a column that is not there has no values
        table.validate(full=True)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, f"it cannot be read ({error})") from error
    sums = pc.list_flatten(table["sums"])
    missing = any(table[name].null_count for name in table.column_names if name != "group")
    widths = len(pc.unique(pc.list_value_length(table["sums"])))
    if missing or widths > 1 or sums.null_count or not np.isfinite(sums.to_numpy()).all():
        raise _unreadable(path, "something of its rows is missing")
    return KeptRows(table)


def _unreadable(path: Path, problem: str) -> CheckpointError:
    fix = "fine-tune again with --overwrite, or name a file to compare on: --on FILE"
    return CheckpointError(problem, place=str(path), fix=fix)


def _listed(table: pa.Table) -> list[RowAnswer]:
    columns = (table[name].to_pylist() for name in RowAnswer._fields)
    return list(map(RowAnswer._make, zip(*columns, strict=True)))
