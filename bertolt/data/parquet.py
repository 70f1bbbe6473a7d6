"""Parquet files, in batches of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bertolt.base.errors import DataError
from bertolt.data.arrow import pa, pq
from bertolt.data.lines import Seen
from bertolt.data.table_file import Row, TableFile, require_distinct

PARQUET_BATCH = 8192  # rows of a Parquet file in memory at a time,
PARQUET_BYTES = 1 << 25  # or fewer, if they are long: about so many bytes


def open_parquet(path: Path, encoding: str = "", seen: Seen = None) -> TableFile:
    """The columns of its schema; it has an encoding of its own."""
    with _parquet(path) as file:
        columns = require_distinct(list(file.schema_arrow.names), path)
    return TableFile(columns=columns, rows=partial(_parquet_rows, path))


@contextmanager
def _parquet(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"the Parquet file is damaged, or is none ({error})",
            place=str(path),
            fix="write or fetch the file again",
        ) from error


def _parquet_rows(path: Path, names: Sequence[str]) -> Iterator[Row]:
    with _parquet(path) as file:
        for batch in file.iter_batches(_batch_rows(file), columns=list(names)):
            for values in zip(*(batch.column(name).to_pylist() for name in names), strict=True):
                yield None, values


def _batch_rows(file: pq.ParquetFile) -> int:
    groups = [file.metadata.row_group(index) for index in range(file.num_row_groups)]
    size: int = max(1, sum(group.total_byte_size for group in groups))
    return max(1, min(PARQUET_BATCH, PARQUET_BYTES * int(file.metadata.num_rows) // size))
