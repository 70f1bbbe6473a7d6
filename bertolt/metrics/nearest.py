"""Exact search among vectors, and how high the right ones rank: products in blocks.

Memory beside the vectors is bounded: at most `_BLOCK` cosines are there at a time.

Shapes: Q queries, M candidates, P right pairs of both, H numbers of a vector.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Reals = NDArray[np.floating[Any]]
Integers = NDArray[np.int64]
_BLOCK = 1 << 23  # cosines: 32 MiB
_CACHED = 1 << 20  # cosines of a block that is gone through several times: a cache holds them
_QUERIES = 1024
_LOG2_E = 1.0 / math.log(2.0)
_SAME = 1e-6  # cosines that are closer may be of equal vectors, rounded otherwise


def cosine_of(first: Any, second: Any) -> float:
    """The cosine of two vectors (H,); 0 where one of them has no length."""
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / lengths if lengths else 0.0


class Ranks(NamedTuple):
    """Where right candidates stand among all.

    Attributes:
        ranks: (P,) from 1; a candidate with the same cosine counts before.
        surprise: (P,) minus the log probability of the right one among all candidates.
    """

    ranks: Integers
    surprise: NDArray[np.float64]


def unit(vectors: Reals) -> NDArray[np.float32]:
    """Vectors (N, H) brought to length 1; zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: NDArray[np.float32] = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return units


class Units:
    """Vectors (N, H) brought to length 1 as they are read, so that only a part is in memory."""

    def __init__(self, vectors: Reals) -> None:
        self._vectors = vectors

    def __len__(self) -> int:
        return len(self._vectors)

    def __getitem__(self, part: slice | Integers) -> NDArray[np.float32]:
        return unit(self._vectors[part])


def rank_right(
    queries: Reals | Units, candidates: Reals | Units, right: Integers, scale: float = 20.0
) -> Ranks:
    """How many candidates are as near to a query as its right ones, or nearer.

    Args:
        queries, candidates: (Q, H) and (M, H) of length 1.
        right: (P, 2) query and candidate of each right pair.
        scale: of cosines in the probability.
    """
    order = np.argsort(right[:, 0], kind="stable")
    ranks = np.zeros(len(right), np.int64)
    surprise = np.zeros(len(right))
    for start in range(0, len(queries), _QUERIES):
        end = min(start + _QUERIES, len(queries))
        first, last = np.searchsorted(right[order, 0], [start, end])
        pairs = order[first:last]
        if not len(pairs):
            continue
        asked, answers = right[pairs, 0] - start, right[pairs, 1]
        own = np.einsum("ph,ph->p", queries[right[pairs, 0]], candidates[answers])
        nearer = np.zeros(len(pairs), np.int64)
        mass = np.zeros(end - start)
        bound = own - _SAME
        for begin, cosines in _products(queries[start:end], candidates, _CACHED):
            nearer += _reaching(cosines, asked, bound)
            here = (answers >= begin) & (answers < begin + cosines.shape[1])
            if here.any():
                itself = cosines[asked[here], answers[here] - begin].cpu().numpy()
                nearer[here] -= itself >= bound[here]
            # The shift by the largest cosine there can be keeps the sum finite; powers of 2 are
            # had in half of the time of those of e.
            mass += cosines.sub_(1.0).mul_(scale * _LOG2_E).exp2_().sum(1).cpu().numpy()
        ranks[pairs] = nearer + 1
        surprise[pairs] = np.log(mass[asked]) + scale * (1.0 - own.astype(np.float64))
    return Ranks(ranks, surprise)


def _reaching(cosines: Tensor, rows: Integers, bound: Reals) -> Integers:
    """(P,) how many cosines of some rows reach a bound each; a few rows at a time."""
    counts = []
    for start in range(0, len(rows), _QUERIES):
        some, least = rows[start : start + _QUERIES], bound[start : start + _QUERIES]
        each = np.array_equal(some, np.arange(len(cosines)))  # one right candidate of each query
        chosen = cosines if each else cosines[torch.from_numpy(some).to(cosines.device)]
        reached = chosen >= torch.from_numpy(least).to(cosines.device)[:, None]
        counts.append(np.count_nonzero(reached.cpu().numpy(), axis=1))
    return np.concatenate(counts)


def nearest(
    queries: Reals,
    candidates: Reals | Units,
    most: int,
    progress: Callable[[int], None] | None = None,
) -> tuple[NDArray[np.float32], Integers]:
    """The nearest candidates of each query: (Q, most) cosines, and their numbers, best first.

    Of equal cosines the candidate that comes first is taken first.

    Args:
        queries, candidates: (Q, H) and (M, H) of length 1.
        most: how many; fewer where there are no more candidates.
        progress: called with the queries done.
    """
    most = min(most, len(candidates))
    cosines = np.zeros((len(queries), most), np.float32)
    numbers = np.zeros((len(queries), most), np.int64)
    for start in range(0, len(queries), _QUERIES):
        part = slice(start, min(start + _QUERIES, len(queries)))
        best = torch.zeros((part.stop - start, 0), dtype=torch.int64)
        for begin, block in _products(queries[part], candidates, _BLOCK):
            keys = _keys(block, begin).topk(min(most, block.shape[1]), dim=1).values.cpu()
            keys = torch.cat([best, keys], dim=1)
            best = keys.topk(min(most, keys.shape[1]), dim=1).values
        cosines[part], numbers[part] = _unkeyed(best)
        if progress is not None:
            progress(part.stop)
    return cosines, numbers


_LOW = (1 << 32) - 1


def _keys(cosines: Tensor, begin: int) -> Tensor:
    """(Q, R) int64 in the order of the cosines, and of equal ones the first number highest."""
    bits = cosines.contiguous().view(torch.int32)
    bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    numbers = torch.arange(begin, begin + cosines.shape[1], device=cosines.device)
    return (bits.long() << 32) + (_LOW - numbers)


def _unkeyed(keys: Tensor) -> tuple[NDArray[np.float32], Integers]:
    """The cosines and the numbers of keys."""
    bits = (keys >> 32).int()
    bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return bits.view(torch.float32).numpy(), (_LOW - (keys & _LOW)).numpy()


def _products(queries: Reals, candidates: Reals | Units, most: int) -> Iterator[tuple[int, Tensor]]:
    """Cosines of some queries with block after block of candidates, and its first number."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = max(1, most // max(1, len(queries)))
    ours = torch.from_numpy(np.array(queries, np.float32)).to(device)
    for begin in range(0, len(candidates), rows):
        block = np.array(candidates[begin : begin + rows], np.float32)
        yield begin, ours @ torch.from_numpy(block).to(device).T
