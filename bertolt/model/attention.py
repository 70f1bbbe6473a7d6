"""The attention seam: one signature, several backends, the choice made once and explained.

Shapes: B sequences, T packed tokens (filler included), N heads, D head size, and for one group of
sequences of similar length G sequences by L slots; P slots over all groups.

`attention(q, k, v, layout)` takes and gives packed tensors (T, N, D). No token ever sees another
sequence's. Rows of filler tokens, behind the last sequence, come out as zeros, and no loss may look
at them. With `first_only` the queries are the first token of each sequence alone, (B, N, D), and so
is the result: all that the last layer has to compute for a head that reads no other token.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bertolt.data.batch import PackedBatch
from bertolt.errors import UsageError
from bertolt.model import varlen
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
    """(G, 1, 1, L): 0 where a key is real, -inf where it is filler; (1, 1, L, L) for causal
    attention; None if every token sees all of its sequence."""


@dataclass(frozen=True)
class Groups:
    """Which packed token sits in which slot of the length-grouped backend.

    Attributes:
        groups: the padded groups, in slot order.
        slots: (P,) packed row of each slot; filler slots take the last row, which is filler too
            and so never carries a gradient.
        rows: (T,) slot of each packed row; filler rows take slot 0 and are zeroed after.
        num_tokens: rows that hold a token of a sequence; the rest, at least one, are filler.
        order: (B,) sequences in the order of the groups.
        places: (B,) the inverse of `order`.
    """

    groups: tuple[Group, ...]
    slots: Tensor
    rows: Tensor
    num_tokens: int
    order: Tensor
    places: Tensor


@dataclass(frozen=True)
class AttentionLayout:
    """Where the sequences of a batch are while attention is computed; the same for every layer.

    Attributes:
        batch: whose tokens these are.
        causal: no token sees a later one.
    """

    batch: PackedBatch
    causal: bool = False

    @functools.cached_property
    def grouped(self) -> Groups:
        """The slots of the length-grouped backend."""
        groups: Groups = _lay_out_groups(self.batch, self.causal)
        return groups

    @functools.cached_property
    def starts(self) -> Tensor:
        """(B+2,) int32, `cu_seqlens` with the filler rows as one more sequence."""
        return F.pad(self.batch.cu_seqlens, (0, 1), value=self.batch.input_ids.shape[0])

    @property
    def first_starts(self) -> Tensor:
        """(B+2,) int32, the same where each sequence has one query."""
        starts = self.starts
        return torch.arange(len(starts), dtype=starts.dtype, device=starts.device)

    @property
    def longest(self) -> int:
        """Most rows of a sequence, the filler rows taken for one."""
        batch = self.batch
        return max(batch.max_seqlen, batch.input_ids.shape[0] - batch.num_tokens)


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
        (T, N, D), zeros in the rows of filler tokens; with `first_only`, (B, N, D).
    """
    if backend == "varlen" and q.dtype not in varlen.DTYPES:
        backend = "grouped"
    return BACKENDS[backend](q, k, v, layout, dropout_p, first_only)


def prepare_layout(
    batch: PackedBatch, *, causal: bool = False, backend: str = "grouped"
) -> AttentionLayout:
    """Lay the sequences of one batch out.

    Args:
        batch: on any device.
        causal: no token sees a later one.
        backend: what it needs is made at once; what another one needs, when it asks.
    """
    layout = AttentionLayout(batch, causal)
    if backend == "grouped":
        _ = layout.grouped
    elif backend == "varlen":
        _ = layout.starts
    return layout


# The host decides how to lay a batch out; a compiler has nothing to gain there.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def _lay_out_groups(batch: PackedBatch, causal: bool) -> Groups:
    device, num_rows = batch.cu_seqlens.device, batch.input_ids.shape[0]
    starts = batch.starts_on_host.long()
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
        bias = _causal_bias(length, device) if causal else _key_bias(real, device)
        groups.append(Group(end - begin, length, bias))
        offset += index.numel()
    return Groups(
        groups=tuple(groups),
        slots=torch.cat(slots).to(device, non_blocking=True),
        rows=rows.to(device, non_blocking=True),
        num_tokens=batch.num_tokens,
        order=order.to(device, non_blocking=True),
        places=torch.argsort(order).to(device, non_blocking=True),
    )


def _causal_bias(length: int, device: torch.device) -> Tensor:
    """-inf above the diagonal. Filler keys stand behind all real ones, so this hides them too."""
    later = torch.ones(length, length, dtype=torch.bool).triu(1)
    bias = torch.zeros(length, length).masked_fill_(later, -math.inf)
    return bias[None, None].to(device, non_blocking=True)


def _key_bias(real: Tensor, device: torch.device) -> Tensor | None:
    if bool(real.all()):
        return None
    bias = torch.zeros(real.shape).masked_fill_(~real, -math.inf)
    return bias[:, None, None, :].to(device, non_blocking=True)


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


def _to_slots(x: Tensor, layout: Groups) -> Tensor:
    """Packed rows (T, H) to slots (P, H)."""
    gathered: Tensor = _Gather.apply(x, layout.slots, layout.rows, layout.num_tokens, False)  # type: ignore[no-untyped-call]
    return gathered


def _to_rows(x: Tensor, layout: Groups) -> Tensor:
    """Slots (P, H) to packed rows (T, H)."""
    gathered: Tensor = _Gather.apply(x, layout.rows, layout.slots, layout.num_tokens, True)  # type: ignore[no-untyped-call]
    return gathered


def _grouped(
    q: Tensor, k: Tensor, v: Tensor, layout: AttentionLayout, p: float, first_only: bool
) -> Tensor:
    """Length-grouped matrix products: a few padded blocks, each one batched product."""
    heads, size = q.shape[1:]
    places = layout.grouped
    k, v = (_to_slots(x.flatten(1), places) for x in (k, v))
    q = (
        q.flatten(1).index_select(0, places.order)
        if first_only
        else _to_slots(q.flatten(1), places)
    )
    slots = [group.size * group.length for group in places.groups]
    rows = [group.size for group in places.groups] if first_only else slots
    out: list[Tensor] = []
    # `split`, and not one `narrow` after the other: its backward is a single concatenation.
    for group, *blocks in zip(
        places.groups,
        torch.split(q, rows),
        torch.split(k, slots),
        torch.split(v, slots),
        strict=True,
    ):
        query, key, value = (_heads_first(block, group.size, heads) for block in blocks)
        found = _attend_group(query, key, value, group, heads, p)
        found = found.view(group.size, heads, -1, size).transpose(1, 2)
        out.append(found.reshape(-1, heads * size))
    mixed = out[0] if len(out) == 1 else torch.cat(out)
    mixed = mixed.index_select(0, places.places) if first_only else _to_rows(mixed, places)
    return mixed.view(-1, heads, size)


def _heads_first(block: Tensor, size: int, heads: int) -> Tensor:
    """The slots of one group of G sequences, (G·L, H), as (G·N, L, D)."""
    apart = block.view(size, block.shape[0] // size, heads, -1).transpose(1, 2)
    return apart.reshape(size * heads, apart.shape[2], -1)


def _attend_group(
    query: Tensor, key: Tensor, value: Tensor, group: Group, heads: int, p: float
) -> Tensor:
    """Attention of one padded group; keys and values (G·N, L, D), queries as many or one each."""
    count = query.shape[1]
    if group.bias is None:
        bias = query.new_zeros(()).expand(1, 1, group.length)
    elif group.bias.shape[0] == 1:
        bias = group.bias.to(query.dtype)[0, :, :count]
    else:
        bias = group.bias.to(query.dtype).expand(-1, heads, -1, -1).reshape(-1, 1, group.length)
    scores = torch.baddbmm(
        bias.expand(query.shape[0], count, -1),
        query,
        key.transpose(1, 2),
        alpha=1.0 / math.sqrt(query.shape[-1]),
    )
    return torch.bmm(dropout(scores.softmax(dim=-1), p, training=p > 0), value)


def _varlen(
    q: Tensor, k: Tensor, v: Tensor, layout: AttentionLayout, p: float, first_only: bool
) -> Tensor:
    """Flash attention over packed rows as they are; nothing is asked of the device.

    The kernel leaves rows that belong to no sequence undefined, in its gradients too, where they
    would spoil the weights. So the filler rows are a sequence of their own: no loss looks at it,
    and its gradients come out as zeros.
    """
    count = q.shape[0]
    starts, longest = layout.starts, layout.longest
    if first_only:
        ones = layout.first_starts
        q = F.pad(q, (0, 0, 0, 0, 0, 1))  # one query for the filler
        if layout.causal:  # a first token sees itself alone
            k, v = (x.index_select(0, starts[:-1]) for x in (k, v))
            starts, longest = ones, 1
        return varlen.flash(q, k, v, ones, starts, 1, longest, p, False).narrow(0, 0, count)
    out = varlen.flash(q, k, v, starts, starts, longest, longest, p, layout.causal)
    # Behind autograd's back: the kernel keeps its result for the backward pass, and there these
    # rows meet gradients that are zero.
    out.data[layout.batch.num_tokens :].zero_()
    return out


BACKENDS: dict[str, Backend] = {
    "grouped": _grouped,
    "reference": _reference,
    "varlen": _varlen,
}
