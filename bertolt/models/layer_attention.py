"""How the layers of one forward pass attend: through the seam, or in padded blocks.

`PackedAttention` is the fast way, through the attention seam. `PaddedAttention` computes the same
in padded blocks and in plain operations, for what the seam has no need to know: attention maps on
request, what a decoder looks at beside its new tokens, and layers that are called by themselves.

Shapes: B sequences, T packed tokens, L padded length, H hidden, N heads, D head size, S queries and
K keys of the longest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bertolt.base.errors import DataError, UsageError
from bertolt.data.batch import PackedBatch, PaddedLayout
from bertolt.models.attention import AttentionLayout, attention
from bertolt.models.customised import is_watched
from bertolt.models.dropout import dropout

KeysValues = tuple[Tensor, Tensor]


class LayerAttention(Protocol):
    """What a layer needs to know of attention.

    Attributes:
        padded: how parts are called, so that what hooks see is (B, L, …); None: on packed rows.
    """

    @property
    def padded(self) -> PaddedLayout | None:
        """See the class."""

    def keys_values(self, layer: int, project: Callable[[], KeysValues]) -> KeysValues:
        """Keys and values (T, N, D) of a layer: projected now, or remembered."""

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, *, layer: int, dropout_p: float, first_only: bool
    ) -> Tensor:
        """Mix: (T, N, D), or (B, N, D) with `first_only`; filler rows come out finite."""


@dataclass(frozen=True)
class PackedAttention:
    """Attention within each sequence, through the seam."""

    layout: AttentionLayout
    backend: str
    padded: PaddedLayout | None = None

    def keys_values(self, layer: int, project: Callable[[], KeysValues]) -> KeysValues:
        """Keys and values of the tokens themselves."""
        return project()

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, *, layer: int, dropout_p: float, first_only: bool
    ) -> Tensor:
        """Mix tokens of the same sequence."""
        return attention(
            q, k, v, self.layout, backend=self.backend, dropout_p=dropout_p, first_only=first_only
        )


@dataclass(frozen=True)
class Slots:
    """Where the tokens of each sequence are, in a padded batch and in a block without gaps.

    Attributes:
        block: (B, L) the slot of each column; S at the padding.
        columns: (B, S) the column of each slot; L behind the end of a sequence.
    """

    block: Tensor
    columns: Tensor

    @classmethod
    def of(cls, batch: PackedBatch, padded: PaddedLayout) -> Slots | None:
        """Those of a batch that came padded; None where both places are the same."""
        size, length, longest = padded.size, padded.length, batch.max_seqlen
        column = padded.where % length
        if length == longest and torch.equal(column, batch.column):
            return None
        block = batch.sequence.new_full((size, length), longest)
        columns = batch.sequence.new_full((size, longest), length)
        block[batch.sequence, column] = batch.column
        columns[batch.sequence, batch.column] = column
        return cls(block, columns)


@dataclass
class AttentionMaps:
    """The attention maps that a pass collects, as the user gets them and as tensors of the graph.

    Attributes:
        queries, keys: where columns are that the user gave; None: as in the blocks.
        tensors: (B, N, L or S, L or K), one a layer.
    """

    queries: Slots | None = None
    keys: Slots | None = None
    tensors: list[Tensor] = field(default_factory=list, repr=False)

    def keep(self, weights: Tensor) -> Tensor:
        """Keep (B, N, S, K) laid out; the same weights, made of what is kept."""
        dimensions = [(2, self.queries), (3, self.keys)]
        shown = weights
        for dim, slots in dimensions:
            shown = shown if slots is None else _moved(shown, slots.block, dim)
        self.tensors.append(shown)
        if not shown.requires_grad:
            return weights
        back = shown
        for dim, slots in dimensions:
            back = back if slots is None else _moved(back, slots.columns, dim)
        return back


def _moved(block: Tensor, places: Tensor, dim: int) -> Tensor:
    """(B, N, ·, ·) whose dimension `dim` is read at the places (B, ·); zeros where it has none."""
    room = F.pad(block, (0, 1) if dim == 3 else (0, 0, 0, 1))
    index = places[:, None, None, :] if dim == 3 else places[:, None, :, None]
    shape = list(room.shape)
    shape[dim] = places.shape[1]
    return room.gather(dim, index.expand(shape))


@dataclass
class PaddedAttention:
    """Attention in padded blocks (B, N, S, D), in plain operations whose weights can be collected.

    Attributes:
        queries: the packed tokens that ask.
        keys: the packed tokens that are looked at; the same batch for self-attention.
        allowed: (B, 1, S or 1, K) True where a query sees a key, or floats to be added to scores.
        maps: to collect attention weights in, one a layer.
        padded: as of `LayerAttention`.
    """

    queries: PackedBatch
    keys: PackedBatch
    allowed: Tensor
    maps: AttentionMaps | None = field(default=None, repr=False)
    padded: PaddedLayout | None = field(default=None, repr=False)

    def keys_values(self, layer: int, project: Callable[[], KeysValues]) -> KeysValues:
        """Keys and values of `keys`."""
        return project()

    def blocks(self, layer: int, k: Tensor, v: Tensor) -> KeysValues:
        """Keys and values (B, N, K, D) to look at, from the packed ones (T, N, D)."""
        return pad(k, self.keys), pad(v, self.keys)

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, *, layer: int, dropout_p: float, first_only: bool
    ) -> Tensor:
        """Mix: (T, N, D); `first_only` is not for this way."""
        assert not first_only, "padded attention computes every token"
        query = pad(q, self.queries)
        key, value = self.blocks(layer, k, v)
        scores = torch.matmul(query, key.transpose(-1, -2)) / math.sqrt(q.shape[-1])
        if self.allowed.is_floating_point():
            weights = (scores + self.allowed).softmax(dim=-1)
        else:
            weights = scores.masked_fill(~self.allowed, -math.inf).softmax(dim=-1)
        if self.maps is not None:
            weights = self.maps.keep(_without_filler(weights, self.queries))
        mixed = torch.matmul(dropout(weights, dropout_p, training=dropout_p > 0), value)
        return unpad(mixed, self.queries, q.shape[0]).to(q.dtype)


def seen_within(batch: PackedBatch, *, causal: bool, before: Tensor | None = None) -> Tensor:
    """(B, 1, S or 1, K) True where a token sees another one of its sequence.

    With `causal` it sees what came before and itself; `before` are (B,) tokens read earlier.
    """
    lengths = batch.lengths.long()
    before = torch.zeros_like(lengths) if before is None else before
    total = before + lengths
    key = torch.arange(int(total.max()), device=lengths.device)
    allowed = (key < total[:, None])[:, None, None, :]
    if causal:
        query = torch.arange(batch.max_seqlen, device=lengths.device)
        now = before[:, None, None] + query[:, None]
        allowed = allowed & (key <= now)[:, None]
    return allowed


@dataclass(frozen=True)
class CrossAttention:
    """Hidden states (T, H) of other tokens, and how the tokens of this pass attend to them."""

    hidden: Tensor
    attend: PaddedAttention


def of_pass(attend: LayerAttention | Tensor | None) -> LayerAttention:
    """How a forward pass attends, which packed rows cannot do without.

    Raises:
        UsageError: a part was called by itself with something else than (B, L, H).
    """
    if attend is None or isinstance(attend, Tensor):
        raise UsageError(
            "a layer that is called by itself takes hidden states (B, L, H)",
            fix="for a single text, hidden[None]",
        )
    return attend


def enter(
    hidden: Tensor, attend: LayerAttention | Tensor | None, *, causal: bool
) -> tuple[Tensor, LayerAttention]:
    """The rows (T, H) of a part that is called with (B, L, H), and how they attend.

    Args:
        hidden: (B, L, H).
        attend: how a forward pass attends; or the mask of a call by itself: (B, L) with 1 where
            there is a token, (B, 1, 1 or L, L) with True where a query sees a key, floats of that
            shape to be added to the scores, or None.
        causal: without a mask, or with one of tokens, no token sees a later one.

    Raises:
        DataError: a mask of another shape.
    """
    if attend is not None and not isinstance(attend, Tensor):
        assert attend.padded is not None, "a pass on packed rows"
        return attend.padded.pack(hidden), attend
    size, length = hidden.shape[:2]
    batch, padded = PackedBatch.from_padded(
        torch.zeros(size, length, dtype=torch.long, device=hidden.device)
    )
    allowed = _allowed(attend, batch, length, causal)
    return padded.pack(hidden), PaddedAttention(batch, batch, allowed, AttentionMaps(), padded)


def _allowed(mask: Tensor | None, batch: PackedBatch, length: int, causal: bool) -> Tensor:
    """What a query may look at, by the mask that a layer was called with."""
    size = batch.num_sequences
    if mask is not None and mask.dim() == 4 and mask.shape in _broadcast(size, length):
        return mask if mask.is_floating_point() else mask.bool()
    allowed = seen_within(batch, causal=causal)
    if mask is None:
        return allowed
    if mask.shape != (size, length):
        raise DataError(
            f"the mask has the shape {tuple(mask.shape)}, and ({size}, {length}) is needed",
            fix=f"give the attention_mask as the tokenizer made it, or ({size}, 1, 1, {length})",
        )
    return allowed & mask.bool()[:, None, None, :]


def _broadcast(size: int, length: int) -> list[tuple[int, ...]]:
    """Shapes of masks over heads and pairs of tokens."""
    return [(b, 1, q, length) for b in (1, size) for q in (1, length)]


def show(module: nn.Module, padded: PaddedLayout | None, *rows: Tensor) -> Tensor:
    """Call a module that goes by rows (R, ·); its hooks see (B, L, ·) where a pass is shown."""
    out: Tensor
    if padded is None or not is_watched(module):
        out = module(*rows)
        return out
    out = module(*map(padded.unpack, rows))
    return padded.pack(out, len(rows[0]))


def pad(packed: Tensor, batch: PackedBatch) -> Tensor:
    """Packed (T, N, D) as (B, N, S, D), zeros behind the end of each sequence."""
    block = packed.new_zeros(batch.num_sequences, batch.max_seqlen, *packed.shape[1:])
    block = block.index_put((batch.sequence, batch.column), packed[: batch.num_tokens])
    return block.transpose(1, 2)


def unpad(block: Tensor, batch: PackedBatch, rows: int) -> Tensor:
    """(B, N, S, D) as packed (rows, N, D), zeros in the filler rows."""
    packed = block.transpose(1, 2)[batch.sequence, batch.column]
    filler = packed.new_zeros(rows - batch.num_tokens, *packed.shape[1:])
    return torch.cat([packed, filler])


def _without_filler(weights: Tensor, batch: PackedBatch) -> Tensor:
    """(B, N, S, K) with zeros where the query is behind the end of its sequence."""
    query = torch.arange(weights.shape[2], device=weights.device)
    behind = query >= batch.lengths[:, None]
    return weights.masked_fill(behind[:, None, :, None], 0.0)
