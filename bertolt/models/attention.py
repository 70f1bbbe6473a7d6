"""The attention seam: one signature, several backends, the choice made once and explained.

Shapes: B sequences, T packed tokens (filler included), N heads, D head size; for groups see
`groups.py`.

`attention(q, k, v, layout)` takes and gives packed tensors (T, N, D). No token ever sees another
sequence's. Rows of filler tokens, behind the last sequence, come out as zeros or, from "varlen", as
what they find in each other; no loss may look at them. With `first_only` the queries are the first
token of each sequence alone, (B, N, D), and so is the result: all that the last layer has to
compute for a head that reads no other token.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bertolt.base.errors import UsageError
from bertolt.data.batch import PackedBatch
from bertolt.models import groups, varlen
from bertolt.models.dropout import dropout
from bertolt.models.groups import Group, Groups


@dataclass(frozen=True)
class AttentionLayout:
    """Where the sequences of a batch are while attention is computed; the same for every layer.

    Attributes:
        batch: whose tokens these are.
        causal: no token sees a later one.
    """

    batch: PackedBatch
    causal: bool = False
    _grouped: dict[int, Groups] = field(default_factory=dict, repr=False)

    def grouped(self, heads: int) -> Groups:
        """The slots of the length-grouped backend, for so many heads."""
        if heads not in self._grouped:
            compiling = torch.compiler.is_compiling()
            lay_out = groups.lay_out_uncompiled if compiling else groups.lay_out
            self._grouped[heads] = lay_out(self.batch, self.causal, heads)
        return self._grouped[heads]

    @functools.cached_property
    def starts(self) -> Tensor:
        """(B+1+F,) int32: `cu_seqlens`, and then the ends of F pieces of filler.

        None is longer than the longest sequence may be; the last ones may be empty.
        """
        ends, longest = self.batch.cu_seqlens, self.batch.max_seqlen
        pieces = -(-self.filler // longest)
        if not pieces:
            return ends
        more = torch.arange(1, pieces + 1, dtype=ends.dtype, device=ends.device) * longest
        return torch.cat([ends, (ends[-1] + more).clamp(max=self.batch.input_ids.shape[0])])

    @property
    def filler(self) -> int:
        """Rows behind the last sequence."""
        return self.batch.input_ids.shape[0] - self.batch.num_tokens

    @property
    def first_starts(self) -> Tensor:
        """(B+1+F,) int32, the same where each sequence has one query."""
        starts = self.starts
        return torch.arange(len(starts), dtype=starts.dtype, device=starts.device)


# q, k, v, layout, share dropped, whether q is the first tokens alone
Backend = Callable[[Tensor, Tensor, Tensor, AttentionLayout, float, bool], Tensor]


@dataclass(frozen=True)
class BackendChoice:
    """A backend's name, why it was taken, and whether the user asked for it."""

    name: str
    reason: str
    requested: bool = False


def choose_backend(
    device: torch.device,
    requested: str = "auto",
    *,
    head_size: int = 64,
    dtype: torch.dtype | None = None,
) -> BackendChoice:
    """Pick the attention backend for a model.

    Args:
        device: where it is.
        requested: the name of a backend, or "auto".
        head_size: D.
        dtype: the number format that its products will run in, if it is known.

    Raises:
        UsageError: `requested` is not the name of a backend, or one that cannot run here.
    """
    if requested not in ("auto", *BACKENDS):
        raise UsageError(
            f"there is no attention backend {requested!r}",
            fix=f"use one of {', '.join(['auto', *BACKENDS])}",
        )
    if requested in ("grouped", "reference"):
        return BackendChoice(requested, "as requested", requested=True)
    against = varlen.why_not(device, head_size, dtype)
    if requested == "varlen":
        if against:
            raise UsageError(against, place="attention backend 'varlen'", fix='use "auto"')
        return BackendChoice(requested, "as requested; fp32 goes in groups", requested=True)
    if device.type == "cpu":
        return BackendChoice("grouped", "matrix products over groups of similar length, for CPUs")
    if against:
        return BackendChoice("grouped", f"matrix products over groups: {against}")
    return BackendChoice("varlen", "flash attention without padding; fp32 goes in groups")


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layout: AttentionLayout,
    *,
    backend: str = "grouped",
    dropout_p: float = 0.0,
    first_only: bool = False,
) -> Tensor:
    """Scaled dot-product attention within each sequence of a packed batch.

    Args:
        q, k, v: (T, N, D), T packed tokens; with `first_only`, q is (B, N, D).
        layout: where the sequences are, from `prepare_layout`.
        backend: a name from `BACKENDS`. "varlen" leaves number formats to "grouped" that flash
            attention does not take.
        dropout_p: share of attention weights dropped; 0 outside of training.
        first_only: compute the first token of each sequence alone.

    Returns:
        (T, N, D), finite in the rows of filler tokens; with `first_only`, (B, N, D).
    """
    if backend == "varlen" and q.dtype not in varlen.DTYPES:
        backend = "grouped"
    return BACKENDS[backend](q, k, v, layout, dropout_p, first_only)


def attention_of(
    projected: Tensor, layout: AttentionLayout, *, first: Tensor | None = None
) -> Tensor:
    """The same without dropout and gradients, of projections that one product has made.

    Args:
        projected: (T, 3, N, D), query, key and value of each token; with `first` (T, 2, N, D), keys
            and values alone. Queries are divided by √D already.
        layout: where the sequences are.
        first: queries of the first tokens, (B, N, D).

    Returns:
        (T, N, D), or (B, N, D) with `first`.
    """
    if layout.batch.num_sequences == 1 and not layout.causal:
        return _alone(projected, layout.batch.num_tokens, first)
    parts, heads, size = projected.shape[1:]
    grouped = layout.grouped(heads)
    rows = projected.view(-1, size).index_select(0, grouped.joined(parts, heads))
    *query, key, value = rows.view(parts, -1, size).unbind(0)
    if first is not None:
        query = [first.index_select(0, grouped.sequence_order).flatten(0, 1)]
    mixed = _over_groups(query[0], key, value, grouped, heads, 0.0, first is not None, scale=1.0)
    if first is not None:
        return mixed.view(-1, heads, size).index_select(0, grouped.inverse_order)
    rows = mixed.index_select(0, grouped.scatter_index)
    # Filler would repeat a token: if that one overflows, so would every sequence with filler.
    rows[grouped.real_rows :] = 0
    return rows.view(-1, heads, size)


def _alone(projected: Tensor, num_tokens: int, first: Tensor | None) -> Tensor:
    """The same for a single sequence, in one call of the kernel that PyTorch has for it."""
    *query, key, value = (x.transpose(0, 1)[None] for x in projected.unbind(1))
    queries = query[0] if first is None else first.transpose(0, 1)[None]
    # Queries of filler rows are computed with the others: nobody reads what they find.
    mixed = F.scaled_dot_product_attention(
        queries, key.narrow(2, 0, num_tokens), value.narrow(2, 0, num_tokens), scale=1.0
    )
    return mixed[0].transpose(0, 1)


def prepare_layout(
    batch: PackedBatch, *, heads: int, causal: bool = False, backend: str = "grouped"
) -> AttentionLayout:
    """Lay the sequences of one batch out.

    Args:
        batch: on any device.
        heads: N.
        causal: no token sees a later one.
        backend: what it needs is made at once; what another one needs, when it asks.
    """
    layout = AttentionLayout(batch, causal)
    if backend == "grouped":
        layout.grouped(heads)
    elif backend == "varlen":
        _ = layout.starts
    return layout


def _reference(
    q: Tensor, k: Tensor, v: Tensor, layout: AttentionLayout, p: float, first_only: bool
) -> Tensor:
    """The readable backend, in plain tensor operations: one sequence after the other.

    The others are held equal to this one by the tests.
    """
    out: list[Tensor] = []
    starts = layout.batch.starts_on_host.tolist()
    both = torch.stack([k, v])
    for row, (start, stop) in enumerate(itertools.pairwise(starts)):
        length = stop - start
        # One sequence, heads first: (N, S, D). `narrow` and `unbind` copy nothing.
        query = (q.narrow(0, row, 1) if first_only else q.narrow(0, start, length)).transpose(0, 1)
        key, value = both.narrow(1, start, length).transpose(1, 2).unbind(0)
        scores = torch.matmul(query, key.transpose(-1, -2)) / math.sqrt(q.shape[-1])
        if layout.causal:
            later = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
            scores = scores.masked_fill(later.narrow(0, 0, query.shape[1]), -math.inf)
        weights = dropout(scores.softmax(dim=-1), p, training=p > 0)
        out.append(torch.matmul(weights, value).transpose(0, 1).to(q.dtype))
    if not first_only:
        out.append(q.new_zeros(q.shape[0] - starts[-1], *q.shape[1:]))
    return torch.cat(out)


class _Gather(torch.autograd.Function):
    """Rows by index whose backward is a gather as well, by the inverse index.

    `index_select`'s own backward adds row after row into zeros. Here every row that carries a
    gradient is taken exactly once, so the gradient can be gathered instead; rows past `real`
    (filler tokens) are zeroed in the direction that goes back to packed rows.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, index: Tensor, inverse: Tensor, real: int, to_rows: bool
    ) -> Tensor:
        ctx.inverse, ctx.real, ctx.to_rows = inverse, real, to_rows
        return _select(x, index, real if to_rows else None)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad = _select(grads[0], ctx.inverse, None if ctx.to_rows else ctx.real)
        return grad, None, None, None, None


def _select(x: Tensor, index: Tensor, real: int | None) -> Tensor:
    taken = x.index_select(0, index)
    if real is not None:
        taken[real:] = 0
    return taken


def _to_slots(x: Tensor, grouped: Groups) -> Tensor:
    """Packed rows (T, N, D) to slots (P·N, D)."""
    rows = x.reshape(-1, x.shape[-1])
    gathered: Tensor = _Gather.apply(  # type: ignore[no-untyped-call]
        rows, grouped.gather_index, grouped.scatter_index, grouped.real_rows, False
    )
    return gathered


def _to_rows(x: Tensor, grouped: Groups) -> Tensor:
    """Slots (P·N, D) to packed rows (T·N, D)."""
    gathered: Tensor = _Gather.apply(  # type: ignore[no-untyped-call]
        x, grouped.scatter_index, grouped.gather_index, grouped.real_rows, True
    )
    return gathered


def _grouped(
    q: Tensor, k: Tensor, v: Tensor, layout: AttentionLayout, p: float, first_only: bool
) -> Tensor:
    """Length-grouped matrix products: a few padded blocks, each one batched product."""
    heads, size = q.shape[1:]
    grouped = layout.grouped(heads)
    k, v = _to_slots(k, grouped), _to_slots(v, grouped)
    if first_only:
        q = q.index_select(0, grouped.sequence_order).flatten(0, 1)
    else:
        q = _to_slots(q, grouped)
    scale = 1.0 / math.sqrt(size)
    mixed = _over_groups(q, k, v, grouped, heads, p, first_only, scale=scale)
    if first_only:
        return mixed.view(-1, heads, size).index_select(0, grouped.inverse_order)
    return _to_rows(mixed, grouped).view(-1, heads, size)


def _over_groups(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    grouped: Groups,
    heads: int,
    p: float,
    first_only: bool,
    *,
    scale: float,
) -> Tensor:
    """Attention of every group, from slots (P·N, D) to slots; queries may be (B·N, D)."""
    size = k.shape[-1]
    slots = [group.size * heads * group.length for group in grouped.groups]
    rows = [group.size * heads for group in grouped.groups] if first_only else slots
    out: list[Tensor] = []
    # `split`, and not one `narrow` after the other: its backward is a single concatenation.
    for group, *blocks in zip(
        grouped.groups,
        torch.split(q, rows),
        torch.split(k, slots),
        torch.split(v, slots),
        strict=True,
    ):
        query, key, value = (block.view(group.size * heads, -1, size) for block in blocks)
        out.append(_attend_group(query, key, value, group, heads, p, scale).view(-1, size))
    return out[0] if len(out) == 1 else torch.cat(out)


def _attend_group(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    group: Group,
    heads: int,
    p: float,
    scale: float,
) -> Tensor:
    """Attention of one padded group; keys and values (G·N, L, D), queries as many or one each."""
    count = query.shape[1]
    if group.bias is None and scale == 1.0:
        scores = torch.bmm(query, key.transpose(1, 2))
        return torch.bmm(dropout(scores.softmax(dim=-1), p, training=p > 0), value)
    if group.bias is None:
        bias = query.new_zeros(()).expand(1, 1, group.length)
    elif group.bias.shape[0] == 1 and group.bias.shape[2] > 1:
        bias = group.bias.to(query.dtype)[0, :, :count]
    else:
        bias = group.bias.to(query.dtype).expand(-1, heads, -1, -1).reshape(-1, 1, group.length)
    scores = torch.baddbmm(
        bias.expand(query.shape[0], count, -1), query, key.transpose(1, 2), alpha=scale
    )
    return torch.bmm(dropout(scores.softmax(dim=-1), p, training=p > 0), value)


def _varlen(
    q: Tensor, k: Tensor, v: Tensor, layout: AttentionLayout, p: float, first_only: bool
) -> Tensor:
    """Flash attention over packed rows as they are; nothing is asked of the device.

    The kernel leaves rows that belong to no sequence undefined, in its gradients too, where they
    would spoil the weights. So the filler rows are sequences of their own: no loss looks at them,
    and their gradients come out as zeros.
    """
    if not first_only and varlen.takes_blocks(q, layout.batch, layout.causal):
        return varlen.flash_of_blocks(q, k, v, layout.batch.max_seqlen, p)
    count = q.shape[0]
    starts, longest = layout.starts, layout.batch.max_seqlen
    if first_only:
        ones = layout.first_starts
        q = F.pad(q, (0, 0, 0, 0, 0, len(ones) - 1 - count))  # and queries for the filler
        if layout.causal:  # a first token sees itself alone
            k, v = (x.index_select(0, starts[:-1]) for x in (k, v))
            starts, longest = ones, 1
        return varlen.flash(q, k, v, ones, starts, 1, longest, p, False).narrow(0, 0, count)
    return varlen.flash(q, k, v, starts, starts, longest, longest, p, layout.causal)


BACKENDS: dict[str, Backend] = {
    "grouped": _grouped,
    "reference": _reference,
    "varlen": _varlen,
}
