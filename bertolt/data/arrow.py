"""`pyarrow` as `pa`, imported when something of it is first used.

Who answers one text needs no tables: their library would take a tenth of the memory.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
else:

    class _Lazy:
        """Stands for a module under its name."""

        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, attribute: str) -> Any:
            return getattr(importlib.import_module(self._name), attribute)

    pa, pc, pq = _Lazy("pyarrow"), _Lazy("pyarrow.compute"), _Lazy("pyarrow.parquet")

__all__ = ["as_utf8", "numbers_by_name", "pa", "pc", "pq"]


def as_utf8(text: str) -> str:
    """A text with half surrogate pairs as their escapes: Arrow holds UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def numbers_by_name(names: Iterable[str]) -> pa.DataType:
    """The type of a record with a number of each name."""
    return pa.struct([(as_utf8(name), pa.float64()) for name in names])
