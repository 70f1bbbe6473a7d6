"""How the layers of one forward pass attend: through the seam, or in padded blocks.

`PackedAttention` is the fast way, through the attention seam. `PaddedAttention` computes the same
in padded blocks and in plain operations, for what the seam has no need to know: attention maps on
request, and what a decoder looks at beside its new tokens.

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


class LayerAttention(Protocol):
    """What a layer needs to know of attention."""

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


@dataclass
class PaddedAttention:
    """Attention in padded blocks (B, N, S, D), in plain operations whose weights can be collected.

    Attributes:
        queries: the packed tokens that ask.
        keys: the packed tokens that are looked at; the same batch for self-attention.
        allowed: (B, 1, S or 1, K) True where a query sees a key.
        maps: a list to collect (B, N, S, K) attention weights in, one a layer.
    """

    queries: PackedBatch
    keys: PackedBatch
    allowed: Tensor
    maps: list[Tensor] | None = field(default=None, repr=False)

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
        weights = scores.masked_fill(~self.allowed, -math.inf).softmax(dim=-1)
        if self.maps is not None:
            self.maps.append(_without_filler(weights, self.queries))
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
