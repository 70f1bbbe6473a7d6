"""How one forward pass attends: within each sequence, over a cache of earlier tokens, or across.

`SelfAttend` is the fast way, through the attention seam. `PaddedAttend` computes the same in padded
blocks and in plain operations, for what the seam has no need to know: attention maps on request,
keys and values remembered from earlier tokens, and a decoder that looks at an encoder.

Shapes: B sequences, T packed tokens, N heads, D head size, S queries and K keys of the longest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from bertolt.data.batch import PackedBatch
from bertolt.models.attention import AttentionLayout, attention
from bertolt.models.dropout import dropout

KeysValues = tuple[Tensor, Tensor]


class Attend(Protocol):
    """What a layer needs to know of attention."""

    def keys_values(self, layer: int, project: Callable[[], KeysValues]) -> KeysValues:
        """Keys and values (T, N, D) of a layer: projected now, or remembered."""

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, *, layer: int, dropout_p: float, first_only: bool
    ) -> Tensor:
        """Mix: (T, N, D), or (B, N, D) with `first_only`; filler rows come out finite."""


@dataclass(frozen=True)
class SelfAttend:
    """Attention within each sequence, through the seam."""

    layout: AttentionLayout
    backend: str

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


class KeyValueCache:
    """Keys and values of the tokens that a decoder has read, so that none is computed twice.

    Attributes:
        lengths: (B,) int64 tokens remembered of each sequence.
        positions: (B,) int64 where each goes on: the position of its last token, and one more.
        source: what the decoder looks at across, the same from the first token to the last.
        cross: by layer, keys and values of the source.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self.lengths = torch.zeros(size, dtype=torch.long, device=device)
        self.positions = torch.zeros_like(self.lengths)
        self.source: Source | None = None
        self.cross: dict[int, KeysValues] = {}
        self._blocks: dict[int, list[Tensor]] = {}

    def get_seq_length(self) -> int:
        """Tokens of the longest remembered sequence."""
        return int(self.lengths.max())

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """Layers, heads and head size of what is remembered; None before the first token."""
        if not self._blocks:
            return None
        _, heads, _, head_size = self._blocks[0][0].shape
        return len(self._blocks), heads, head_size

    def extend(
        self, layer: int, batch: PackedBatch, k: Tensor, v: Tensor, needed: int
    ) -> KeysValues:
        """Put packed keys and values (T, N, D) behind those of a layer: (B, N, K, D) in all.

        `needed` is K, the tokens of the longest sequence with its new ones.
        """
        place = self.lengths[batch.sequence] + batch.column
        blocks = self._blocks.setdefault(layer, [])
        for number, new in enumerate((k, v)):
            if len(blocks) <= number:
                blocks.append(new.new_zeros(len(self.lengths), new.shape[1], 0, new.shape[2]))
            block = _widened(blocks[number], needed)
            block[batch.sequence, :, place] = new[: batch.num_tokens]
            blocks[number] = block
        return blocks[0][:, :, :needed], blocks[1][:, :, :needed]

    def advance(self, batch: PackedBatch) -> None:
        """Count the tokens of `batch` as read, after its last layer."""
        self.lengths = self.lengths + batch.lengths
        self.positions = batch.position_ids[batch.cu_seqlens[1:].long() - 1] + 1


def _widened(block: Tensor, needed: int) -> Tensor:
    """(B, N, K, D) with room for `needed` keys, twice as many where it has to grow."""
    room = block.shape[2]
    # A block that a backward pass will come back to is left as it is.
    if room >= needed and not block.requires_grad:
        return block
    width = room if room >= needed else max(needed, 2 * room)
    wider = block.new_zeros(*block.shape[:2], width, block.shape[3])
    wider[:, :, :room] = block
    return wider


@dataclass
class PaddedAttend:
    """Attention in padded blocks (B, N, S, D), in plain operations that can be watched.

    Attributes:
        queries: the packed tokens that ask.
        keys: the packed tokens that are looked at; the same batch for self-attention.
        allowed: (B, 1, S or 1, K) True where a query sees a key.
        cache: earlier tokens of a decoder, put before the keys.
        remembered: by layer, keys and values that need no projection any more.
        maps: a list to collect (B, N, S, K) attention weights in, one a layer.
    """

    queries: PackedBatch
    keys: PackedBatch
    allowed: Tensor
    cache: KeyValueCache | None = None
    remembered: dict[int, KeysValues] | None = None
    maps: list[Tensor] | None = field(default=None, repr=False)

    @classmethod
    def within(
        cls,
        batch: PackedBatch,
        *,
        causal: bool,
        cache: KeyValueCache | None = None,
        maps: list[Tensor] | None = None,
    ) -> PaddedAttend:
        """Each token sees its own sequence; with `causal`, what came before and itself."""
        lengths = batch.lengths.long()
        before = torch.zeros_like(lengths) if cache is None else cache.lengths
        total = before + lengths
        key = torch.arange(int(total.max()), device=lengths.device)
        allowed = (key < total[:, None])[:, None, None, :]
        if causal:
            query = torch.arange(batch.max_seqlen, device=lengths.device)
            now = before[:, None, None] + query[:, None]
            allowed = allowed & (key <= now)[:, None]
        return cls(batch, batch, allowed, cache=cache, maps=maps)

    @classmethod
    def across(
        cls,
        batch: PackedBatch,
        source: PackedBatch,
        *,
        cache: KeyValueCache | None = None,
        maps: list[Tensor] | None = None,
    ) -> PaddedAttend:
        """Each token of sequence b sees all of sequence b of `source`."""
        key = torch.arange(source.max_seqlen, device=source.cu_seqlens.device)
        allowed = (key < source.lengths[:, None])[:, None, None, :]
        remembered = None if cache is None else cache.cross
        return cls(batch, source, allowed, remembered=remembered, maps=maps)

    def keys_values(self, layer: int, project: Callable[[], KeysValues]) -> KeysValues:
        """Keys and values of `keys`, projected once where they are remembered."""
        if self.remembered is None:
            return project()
        if layer not in self.remembered:
            self.remembered[layer] = project()
        return self.remembered[layer]

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, *, layer: int, dropout_p: float, first_only: bool
    ) -> Tensor:
        """Mix: (T, N, D); `first_only` is not for this way."""
        assert not first_only, "padded attention computes every token"
        query = pad(q, self.queries)
        if self.cache is None:
            key, value = pad(k, self.keys), pad(v, self.keys)
        else:
            key, value = self.cache.extend(layer, self.keys, k, v, self.allowed.shape[-1])
        scores = torch.matmul(query, key.transpose(-1, -2)) / math.sqrt(q.shape[-1])
        weights = scores.masked_fill(~self.allowed, -math.inf).softmax(dim=-1)
        if self.maps is not None:
            self.maps.append(_without_filler(weights, self.queries))
        mixed = torch.matmul(dropout(weights, dropout_p, training=dropout_p > 0), value)
        return unpad(mixed, self.queries, q.shape[0]).to(q.dtype)


@dataclass(frozen=True)
class Source:
    """What a decoder looks at: an encoder's hidden states (T, H) and the batch that they are of."""

    hidden: Tensor
    batch: PackedBatch


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a decoder knows beside its new tokens.

    Attributes:
        cache: earlier tokens.
        source: an encoder's.
    """

    cache: KeyValueCache | None = None
    source: Source | None = None


@dataclass(frozen=True)
class Across:
    """An encoder's hidden states (T, H), and how a decoder's tokens attend to them."""

    hidden: Tensor
    attend: PaddedAttend


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
