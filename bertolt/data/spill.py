"""Rows beyond what is held in memory: in a file without a name, which goes with the process.

What is read back is mapped: its pages are in memory while they are read, and may go at any time.
"""

from __future__ import annotations

import mmap
import tempfile
from array import array
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from bertolt.base.files import temporary_errors
from bertolt.data.arrow import pa

IN_MEMORY = 1 << 24
"""Bytes of the rows of a table, and of their tokens, that are held: 16 MiB each."""


class Batches:
    """Record batches that become one table, which is read from disk where they are many.

    Args:
        schema: of the batches.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._held: list[pa.RecordBatch] = []
        self._size = 0
        self._file: IO[bytes] | None = None
        self._writer: Any = None

    def __len__(self) -> int:
        """Bytes so far."""
        return self._size

    def add(self, batch: pa.RecordBatch) -> None:
        """Take in one more.

        Raises:
            DiskFullError: the temporary folder has no room for them.
        """
        self._size += batch.nbytes
        self._held.append(batch)
        if self._size > IN_MEMORY:
            self._write()

    def _write(self) -> None:
        with _told():
            if self._file is None:
                self._file = _nameless()
                self._writer = pa.ipc.new_file(self._file, self._schema)
            for batch in self._held:
                self._writer.write_batch(batch)
        self._held = []

    def table(self) -> pa.Table:
        """All of them.

        Raises:
            DiskFullError: as in `add`.
        """
        if self._file is None:
            return pa.Table.from_batches(self._held, self._schema)
        self._write()
        with _told():
            self._writer.close()
            content = _mapped(self._file)
        return pa.ipc.open_file(pa.py_buffer(content)).read_all()


class Numbers:
    """Numbers end to end, which become one array, read from disk where they are many.

    Args:
        code: of their type, as in `array.array`.
    """

    def __init__(self, code: str) -> None:
        self._held: array[Any] = array(code)
        self._written = 0
        self._file: IO[bytes] | None = None

    def __len__(self) -> int:
        return self._written + len(self._held)

    def extend(self, values: Iterable[float]) -> None:
        """Take in more.

        Raises:
            DiskFullError: the temporary folder has no room for them.
        """
        self._held.extend(values)
        if len(self._held) * self._held.itemsize > IN_MEMORY:
            self._write()

    def _write(self) -> None:
        with _told():
            self._file = self._file or _nameless()
            self._file.write(self._held)
        self._written += len(self._held)
        self._held = array(self._held.typecode)

    def whole(self) -> NDArray[Any]:
        """All of them, in memory or mapped; they may not be written to.

        Raises:
            DiskFullError: as in `extend`.
        """
        dtype = np.dtype(self._held.typecode)
        if not len(self):
            return np.zeros(0, dtype)
        if self._file is None:
            return np.frombuffer(self._held, dtype)
        self._write()
        with _told():
            return np.frombuffer(_mapped(self._file), dtype)


def _nameless() -> IO[bytes]:
    return tempfile.TemporaryFile(prefix="bertolt-")


def _mapped(file: IO[bytes]) -> mmap.mmap:
    file.flush()
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _told() -> AbstractContextManager[None]:
    return temporary_errors("rows for which memory is not used")
