"""Parquet files, in batches of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bertolt.base.errors import DataError
from bertolt.data.arrow import pa, pc, pq
from bertolt.data.lines import Seen, os_errors, unpacked_limit, unpacks_too_large
from bertolt.data.table_file import Row, TableFile, require_distinct

PARQUET_BATCH = 8192  # rows of a Parquet file in memory at a time,
PARQUET_BYTES = 1 << 25  # or fewer, if they are long: about so many bytes


def open_parquet(path: Path, encoding: str = "", seen: Seen = None) -> TableFile:
    """The columns of its schema; it has an encoding of its own."""
    with _parquet(path) as file:
        _require_bounded(file, path)
        columns = require_distinct(list(file.schema_arrow.names), path)
    return TableFile(columns=columns, rows=partial(_parquet_rows, path))


@contextmanager
def _parquet(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        # A name that is no UTF-8 is none that Arrow opens.
        with path.open("rb") as raw, pq.ParquetFile(raw) as file:
            texts = [field.name for field in file.schema_arrow if pa.types.is_string(field.type)]
        # One long value that a page names a million times stays one value.
        with path.open("rb") as raw, pq.ParquetFile(raw, read_dictionary=texts) as file:
            yield file
    except MemoryError:  # Arrow's own too
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if getattr(error, "errno", None) is not None:  # the system's
            with os_errors(path):
                raise
        raise DataError(
            f"the Parquet file is damaged, or is none ({error})",
            place=str(path),
            fix="write or fetch the file again",
        ) from error


def _require_bounded(file: pq.ParquetFile, path: Path) -> None:
    """Refuse pages out of which far more would come than the file has; they are unpacked whole."""
    size = sum(
        file.metadata.row_group(index).total_byte_size for index in range(file.num_row_groups)
    )
    if size > unpacked_limit(path.stat().st_size):
        raise unpacks_too_large(path, "write it as CSV or JSON lines")


def _parquet_rows(path: Path, names: Sequence[str]) -> Iterator[Row]:
    characters, most = 0, unpacked_limit(path.stat().st_size)
    with _parquet(path) as file:
        for batch in file.iter_batches(_batch_rows(file), columns=list(names)):
            for part in _short_parts(batch):
                for values in zip(*(part.column(name).to_pylist() for name in names), strict=True):
                    characters += sum(len(value) for value in values if isinstance(value, str))
                    if characters > most:
                        raise unpacks_too_large(path, "write it as CSV or JSON lines")
                    yield None, values


def _short_parts(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Parts of a batch whose texts, each written out, have about `PARQUET_BYTES` at most."""
    longest = 1
    for column in batch.columns:
        if pa.types.is_dictionary(column.type) and len(column.dictionary):
            longest = max(longest, pc.max(pc.binary_length(column.dictionary)).as_py() or 1)
    rows = max(1, PARQUET_BYTES // longest)
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


def _batch_rows(file: pq.ParquetFile) -> int:
    groups = [file.metadata.row_group(index) for index in range(file.num_row_groups)]
    size: int = max(1, sum(group.total_byte_size for group in groups))
    return max(1, min(PARQUET_BATCH, PARQUET_BYTES * int(file.metadata.num_rows) // size))
