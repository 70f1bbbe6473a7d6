"""The attention seam: one signature, several backends, the choice made once and explained.

Shapes: B sequences, T packed tokens (filler included), N heads, D head size, and for one group of
sequences of similar length G sequences by L slots; P slots over all groups.

`attention(q, k, v, layout)` takes and gives packed tensors (T, N, D). No token ever sees another
sequence's. Rows of filler tokens, behind the last sequence, come out as zeros.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bertolt.errors import UsageError
from bertolt.model.dropout import dropout

# Padded attention lengths are multiples of this, so that kernels meet few distinct shapes.
LENGTH_MULTIPLE = 8
# What starting one more group costs, in slots of the attention matrix: measured, see `_cut_groups`.
GROUP_COST = 12_000


@dataclass(frozen=True)
class Group:
    """Sequences of similar length, laid side by side in G by L slots."""

    size: int
    length: int
    bias: Tensor | None
    """(G, 1, 1, L): 0 where a key is real, -inf where it is filler; None if all are real."""


@dataclass(frozen=True)
class AttentionLayout:
    """Which packed token sits where while attention is computed; the same for every layer.

    Attributes:
        cu_seqlens: (B+1,) int32, where each sequence starts, and the end of the last.
        max_seqlen: the longest sequence.
        groups: the padded groups of the length-grouped backend, in slot order.
        slots: (P,) packed row of each slot; filler slots take the last row, which is filler too
            and so never carries a gradient.
        rows: (T,) slot of each packed row; filler rows take slot 0 and are zeroed after.
        num_tokens: rows that hold a token of a sequence; the rest, at least one, are filler.
    """

    cu_seqlens: Tensor
    max_seqlen: int
    groups: tuple[Group, ...]
    slots: Tensor
    rows: Tensor
    num_tokens: int


Backend = Callable[[Tensor, Tensor, Tensor, AttentionLayout, float], Tensor]


@dataclass(frozen=True)
class BackendChoice:
    """A backend's name and why it was taken."""

    name: str
    reason: str


def choose_backend(device: torch.device, requested: str = "auto") -> BackendChoice:
    """Pick the attention backend for a device.

    Raises:
        UsageError: `requested` is not the name of a backend.
    """
    if requested != "auto":
        if requested not in BACKENDS:
            raise UsageError(
                f"there is no attention backend {requested!r}",
                fix=f"use one of {', '.join(['auto', *BACKENDS])}",
            )
        return BackendChoice(requested, "as requested")
    if device.type == "cpu":
        return BackendChoice("grouped", "matrix products over groups of similar length, for CPUs")
    return BackendChoice(
        "grouped", f"works on {device.type}; no variable-length kernel is wired in yet"
    )


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layout: AttentionLayout,
    *,
    backend: str = "grouped",
    dropout_p: float = 0.0,
) -> Tensor:
    """Scaled dot-product attention within each sequence of a packed batch.

    Args:
        q, k, v: (T, N, D), T packed tokens.
        layout: where the sequences are, from `prepare_layout`.
        backend: a name from `BACKENDS`.
        dropout_p: share of attention weights dropped; 0 outside of training.

    Returns:
        (T, N, D); zeros in the rows of filler tokens.
    """
    return BACKENDS[backend](q, k, v, layout, dropout_p)


def prepare_layout(cu_seqlens: Tensor, max_seqlen: int, num_rows: int) -> AttentionLayout:
    """Lay the sequences of one batch out for every backend.

    Args:
        cu_seqlens: (B+1,) int32 starts, on any device.
        max_seqlen: the longest sequence.
        num_rows: T, filler included.
    """
    device = cu_seqlens.device
    starts = cu_seqlens.cpu().long()
    lengths = starts.diff()
    order = torch.argsort(lengths, descending=True, stable=True)
    groups: list[Group] = []
    slots: list[Tensor] = []
    rows = torch.zeros(num_rows, dtype=torch.long)
    offset = 0
    for begin, end in _cut_groups(tuple(lengths[order].tolist())):
        members = order[begin:end]
        length = _round_up(int(lengths[members[0]]), LENGTH_MULTIPLE)
        column = torch.arange(length)
        real = column < lengths[members, None]
        index = torch.where(real, starts[members, None] + column, num_rows - 1)
        rows[index[real]] = (torch.arange(index.numel()).view_as(index) + offset)[real]
        slots.append(index.flatten())
        groups.append(Group(end - begin, length, _key_bias(real, device)))
        offset += index.numel()
    return AttentionLayout(
        cu_seqlens=cu_seqlens,
        max_seqlen=max_seqlen,
        groups=tuple(groups),
        slots=torch.cat(slots).to(device),
        rows=rows.to(device),
        num_tokens=int(starts[-1]),
    )


def _key_bias(real: Tensor, device: torch.device) -> Tensor | None:
    if bool(real.all()):
        return None
    bias = torch.zeros(real.shape).masked_fill_(~real, -math.inf)
    return bias[:, None, None, :].to(device)


def _round_up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


@functools.lru_cache(maxsize=256)
def _cut_groups(lengths: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Cut lengths, longest first, into the groups that cost least.

    A group of G sequences costs G·L² slots of attention and a fixed `GROUP_COST`. One group a
    distinct length would be many small calls; one group in all would be mostly padding where the
    tail of lengths is long. Dynamic programming over the cuts finds the best of both.
    """
    count = len(lengths)
    padded = [_round_up(max(length, 1), LENGTH_MULTIPLE) ** 2 for length in lengths]
    # A cut inside a run of equal padded lengths never pays.
    edges = [0, *(i for i in range(1, count) if padded[i] != padded[i - 1]), count]
    best: list[float] = [0.0] + [math.inf] * (len(edges) - 1)
    back = [0] * len(edges)
    for end in range(1, len(edges)):
        for begin in range(end):
            size = edges[end] - edges[begin]
            cost = best[begin] + GROUP_COST + size * padded[edges[begin]]
            if cost < best[end]:
                best[end], back[end] = cost, begin
    cuts: list[tuple[int, int]] = []
    end = len(edges) - 1
    while end:
        cuts.append((edges[back[end]], edges[end]))
        end = back[end]
    return tuple(reversed(cuts))


def _reference(q: Tensor, k: Tensor, v: Tensor, layout: AttentionLayout, p: float) -> Tensor:
    """The readable backend, in plain tensor operations: one sequence after the other.

    The others are held equal to this one by the tests.
    """
    out = torch.zeros_like(q)
    starts = layout.cu_seqlens.tolist()
    for start, stop in zip(starts[:-1], starts[1:], strict=True):
        # (3, N, S, D): the three tensors of one sequence, sharing memory with their source.
        heads = torch.stack([x.narrow(0, start, stop - start).transpose(0, 1) for x in (q, k, v)])
        query, key, value = heads.unbind(0)
        scores = torch.matmul(query, key.transpose(-1, -2)) / math.sqrt(q.shape[-1])
        weights = dropout(scores.softmax(dim=-1), p, training=p > 0)
        out = torch.cat(
            [out[:start], torch.matmul(weights, value).transpose(0, 1).to(q.dtype), out[stop:]]
        )
    return out


class _Gather(torch.autograd.Function):
    """Rows by index whose backward is a gather as well, by the inverse index.

    `index_select`'s own backward adds row after row into zeros. Here every row that carries a
    gradient is taken exactly once, so the gradient can be gathered instead; rows past `real`
    (filler tokens) are zeroed in the direction that goes back to packed rows.
    """

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any, x: Tensor, index: Tensor, inverse: Tensor, real: int, to_rows: bool
    ) -> Tensor:
        ctx.inverse, ctx.real, ctx.to_rows = inverse, real, to_rows
        return _select(x, index, real if to_rows else None)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        grad = _select(grads[0], ctx.inverse, None if ctx.to_rows else ctx.real)
        return grad, None, None, None, None


def _select(x: Tensor, index: Tensor, real: int | None) -> Tensor:
    taken = x.index_select(0, index)
    if real is not None:
        taken[real:] = 0
    return taken


def _to_slots(x: Tensor, layout: AttentionLayout) -> Tensor:
    """Packed rows (T, H) to slots (P, H)."""
    gathered: Tensor = _Gather.apply(x, layout.slots, layout.rows, layout.num_tokens, False)  # type: ignore[no-untyped-call]
    return gathered


def _to_rows(x: Tensor, layout: AttentionLayout) -> Tensor:
    """Slots (P, H) to packed rows (T, H)."""
    gathered: Tensor = _Gather.apply(x, layout.rows, layout.slots, layout.num_tokens, True)  # type: ignore[no-untyped-call]
    return gathered


def _grouped(q: Tensor, k: Tensor, v: Tensor, layout: AttentionLayout, p: float) -> Tensor:
    """Length-grouped matrix products: a few padded blocks, each one batched product."""
    heads, size = q.shape[1:]
    q, k, v = (_to_slots(x.flatten(1), layout) for x in (q, k, v))
    out: list[Tensor] = []
    offset = 0
    for group in layout.groups:
        block = group.size * group.length
        query, key, value = (
            x.narrow(0, offset, block)
            .view(group.size, group.length, heads, size)
            .transpose(1, 2)
            .reshape(group.size * heads, group.length, size)
            for x in (q, k, v)
        )
        mixed = _attend_group(query, key, value, group, heads, p)
        mixed = mixed.view(group.size, heads, group.length, size).transpose(1, 2)
        out.append(mixed.reshape(block, heads * size))
        offset += block
    packed = out[0] if len(out) == 1 else torch.cat(out)
    return _to_rows(packed, layout).view(-1, heads, size)


def _attend_group(
    query: Tensor, key: Tensor, value: Tensor, group: Group, heads: int, p: float
) -> Tensor:
    """Attention of one padded group; all of shape (G·N, L, D)."""
    if group.bias is None:
        bias = query.new_zeros(()).expand(query.shape[0], 1, group.length)
    else:
        bias = group.bias.to(query.dtype).expand(-1, heads, -1, -1).reshape(-1, 1, group.length)
    scores = torch.baddbmm(
        bias.expand(-1, group.length, -1),
        query,
        key.transpose(1, 2),
        alpha=1.0 / math.sqrt(query.shape[-1]),
    )
    return torch.bmm(dropout(scores.softmax(dim=-1), p, training=p > 0), value)


BACKENDS: dict[str, Backend] = {"grouped": _grouped, "reference": _reference}
