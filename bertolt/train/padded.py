"""Results of evaluations by the padded door: whatever a model gives for each row, in its order.

Shapes: B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bertolt.base.distributed import World
from bertolt.base.errors import UsageError
from bertolt.data.batch import IGNORE_INDEX

_BATCH = 1 << 32  # more rows than a batch has


class PaddedResults:
    """Values of one kind, logits or labels, batch by batch, put into the order of the rows.

    Args:
        what: they are, for errors.
        filler: beyond the end of a row that is shorter than others.
    """

    def __init__(self, what: str, filler: float = IGNORE_INDEX) -> None:
        self._what, self._filler = what, filler
        self._single = True
        self._keys: list[int] = []
        self._columns: list[list[NDArray[Any]]] = []

    def add(self, number: int, rows: int, values: Any) -> None:
        """Add what there is for the rows of batch `number`: tensors (B, …), also several.

        Raises:
            UsageError: a value that is none for each row.
        """
        parts = list(_flat(values))
        for part in parts:
            if not part.dim() or part.shape[0] != rows:
                raise UsageError(
                    f"{self._what} of the shape {tuple(part.shape)} for {rows} rows",
                    place="prediction_step",
                    fix="give one for each row; ignore_keys leaves outputs out by name",
                )
        self._single = isinstance(values, Tensor)
        self._keys += [number * _BATCH + row for row in range(rows)]
        self._columns = self._columns or [[] for _ in parts]
        for column, part in zip(self._columns, parts, strict=True):
            part = part.detach().cpu()
            column += list((part.float() if part.dtype == torch.bfloat16 else part).numpy())

    def in_order(self, world: World) -> Any:
        """All values as an array (rows, …), or a tuple of several; None if there are none."""
        single = not world.any_true(not self._single)
        count = max(int(each) for each in world.gather(torch.tensor(len(self._columns))))
        columns = self._columns or [[] for _ in range(count)]
        order = np.argsort(
            [int(key) for key in _gathered(world, [np.array(k) for k in self._keys])]
        )
        arrays = []
        for column in columns:
            rows = _gathered(world, column)
            arrays.append(_joined([rows[place] for place in order], self._filler))
        if not arrays:
            return None
        return arrays[0] if single else tuple(arrays)


def _flat(values: Any) -> list[Tensor]:
    """The tensors of a structure, in its order."""
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, Mapping):
        values = list(values.values())
    if isinstance(values, Sequence):
        return [tensor for each in values for tensor in _flat(each)]
    return []


def _gathered(world: World, rows: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Arrays of all processes, of as many dimensions each."""
    if world.alone:
        return rows
    flat = torch.from_numpy(np.concatenate([row.ravel() for row in rows])) if rows else None
    shapes = torch.tensor([[row.size, *row.shape] for row in rows]) if rows else None
    everything = []
    for values, sizes in zip(world.gather(flat), world.gather(shapes), strict=True):
        parts = np.split(values.numpy(), np.cumsum(sizes[:, 0].numpy())[:-1])
        everything += [
            part.reshape(size) for part, size in zip(parts, sizes[:, 1:].tolist(), strict=True)
        ]
    return everything


def _joined(rows: Sequence[NDArray[Any]], filler: float) -> NDArray[Any]:
    """Rows as one array, the shorter ones filled up in every dimension."""
    shapes = {row.shape for row in rows}
    if len(shapes) == 1:
        return np.stack(rows)
    sizes = np.array(sorted(shapes)).max(axis=0)
    joined = np.full((len(rows), *sizes), filler, rows[0].dtype)
    for place, row in zip(joined, rows, strict=True):
        place[tuple(slice(size) for size in row.shape)] = row
    return joined
