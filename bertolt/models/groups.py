"""Sequences of similar length side by side, for attention in matrix products.

Shapes: B sequences, T packed tokens (filler included), N heads, D head size, and for one group of
sequences of similar length G sequences by L slots; P slots over all groups.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bertolt.data.batch import PackedBatch

# A kernel is prepared once for each distinct shape, which takes as long as several products of the
# usual size. So lengths and sizes of groups are few: multiples that grow with the length, and:
GROUP_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
# What starting one more group costs, in slots of the attention matrix: measured, see `_cut_groups`.
GROUP_COST = 12_000
# Layouts of batches up to so many rows are kept: for one text after the other, of a few lengths,
# making them would take a tenth of the time.
SMALL_BATCH = 128


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

    Heads are apart in it: of each group come the slots of its first sequence and first head, those
    of the next head, and so on, which is what products over (G·N, L, D) need.

    Attributes:
        groups: the padded groups, in slot order.
        gather_index: (P·N,) row among the packed (T·N, D) of each slot; filler slots take the last
            row, which is filler too and so never carries a gradient.
        scatter_index: (T·N,) slot of each of these rows; filler rows take slot 0, zeroed after.
        real_rows: rows of tokens; the rest, at least N, are filler.
        sequence_order: (B,) sequences in the order of the groups.
        inverse_order: (B,) the inverse of `sequence_order`.
    """

    groups: tuple[Group, ...]
    gather_index: Tensor
    scatter_index: Tensor
    real_rows: int
    sequence_order: Tensor
    inverse_order: Tensor
    _joined: dict[int, Tensor] = field(default_factory=dict, repr=False)

    def joined(self, parts: int, heads: int) -> Tensor:
        """(parts·P·N,) rows of each part in turn among (T·parts·N, D), where each token has all."""
        if parts not in self._joined:
            token, head = self.gather_index // heads, self.gather_index % heads
            part = torch.arange(parts, device=self.gather_index.device)[:, None]
            self._joined[parts] = ((token * parts + part) * heads + head).flatten()
        return self._joined[parts]


def lay_out(batch: PackedBatch, causal: bool, heads: int) -> Groups:
    """Lay the sequences of a batch out in groups; `causal`: no token sees a later one."""
    starts, num_rows = batch.starts_on_host, batch.input_ids.shape[0]
    device = batch.cu_seqlens.device
    again = num_rows <= SMALL_BATCH and device.type == "cpu"
    make = _lay_out_again if again else _lay_out
    return make(tuple(starts.tolist()), num_rows, causal, heads, device)


def __getattr__(name: str) -> Any:
    """`lay_out_uncompiled`: a compiler, which has nothing to gain there, leaves it to the host.

    It is made when a compiler asks for it, since to make it PyTorch imports its compiler: a second
    of each start. (A compiler reads what a module has by asking for it, as here.)
    """
    if name != "lay_out_uncompiled":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = torch.compiler.disable(lay_out)  # type: ignore[no-untyped-call]
    return globals()[name]


def _lay_out(
    all_starts: tuple[int, ...], num_rows: int, causal: bool, heads: int, device: torch.device
) -> Groups:
    starts = torch.tensor(all_starts)
    lengths = starts.diff()
    order = torch.argsort(lengths, descending=True, stable=True)
    head = torch.arange(heads)[:, None]
    groups: list[Group] = []
    slots: list[Tensor] = []
    filled: list[Tensor] = []
    for begin, end in _cut_groups(tuple(lengths[order].tolist())):
        members = order[begin:end]
        length = padded_length(int(lengths[members[0]]))
        column = torch.arange(length)
        real = column < lengths[members, None]
        index = torch.where(real, starts[members, None] + column, num_rows - 1)
        slots.append((index[:, None] * heads + head).flatten())
        filled.append(real[:, None].expand(-1, heads, -1).flatten())
        bias = _causal_bias(length, device) if causal else _key_bias(real, device)
        groups.append(Group(end - begin, length, bias))
    slot = torch.cat(slots)
    where = torch.cat(filled).nonzero().squeeze(1)
    rows = torch.zeros(num_rows * heads, dtype=torch.long)
    rows[slot[where]] = where
    return Groups(
        groups=tuple(groups),
        gather_index=slot.to(device, non_blocking=True),
        scatter_index=rows.to(device, non_blocking=True),
        real_rows=all_starts[-1] * heads,
        sequence_order=order.to(device, non_blocking=True),
        inverse_order=torch.argsort(order).to(device, non_blocking=True),
    )


@functools.lru_cache(maxsize=64)
def _lay_out_again(
    all_starts: tuple[int, ...], num_rows: int, causal: bool, heads: int, device: torch.device
) -> Groups:
    # What an answer has made, a training step may use: tensors of the inference mode it may not.
    with torch.inference_mode(False):
        return _lay_out(all_starts, num_rows, causal, heads, device)


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


def padded_length(length: int) -> int:
    """The length rounded up, by an eighth or less where it is long."""
    multiple = 8
    while multiple * 16 < length:
        multiple *= 2
    return -(-max(length, 1) // multiple) * multiple


@functools.lru_cache(maxsize=256)
def _cut_groups(lengths: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Cut lengths, longest first, into the groups of `GROUP_SIZES` that cost least.

    A group of G sequences costs G·L² slots of attention and a fixed `GROUP_COST`. One group a
    distinct length would be many small calls; one group in all would be mostly padding where the
    tail of lengths is long. Dynamic programming over the cuts finds the best of both.
    """
    count = len(lengths)
    slots = [padded_length(length) ** 2 for length in lengths]
    best: list[float] = [0.0] + [math.inf] * count
    back = [0] * (count + 1)
    for begin in range(count):
        for size in GROUP_SIZES:
            end = begin + size
            if end > count:
                break
            cost = best[begin] + GROUP_COST + size * slots[begin]
            if cost < best[end]:
                best[end], back[end] = cost, begin
    cuts: list[tuple[int, int]] = []
    end = count
    while end:
        cuts.append((back[end], end))
        end = back[end]
    return tuple(reversed(cuts))
