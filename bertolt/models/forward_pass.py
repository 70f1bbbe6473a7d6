"""What one forward pass is run with beside its batch: what it collects, and by which layers.

Shapes: B sequences, T packed tokens, H hidden, N heads, S tokens of the longest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from bertolt.data.batch import PackedBatch
from bertolt.models.attention import AttentionLayout
from bertolt.models.layer_attention import (
    CrossAttention,
    LayerAttention,
    PaddedAttention,
    seen_within,
)


class OutputRows(NamedTuple):
    """The rows of the last hidden states that a head reads: the last layer computes no others.

    Attributes:
        rows: (R,) their places among T tokens.
        first_tokens: they are the first token of each sequence, and R is B.
    """

    rows: Tensor
    first_tokens: bool = False


class EncoderLayers(Protocol):
    """The layers of an encoder in another form, as `bertolt.models.frozen` builds them."""

    def __call__(
        self, hidden: Tensor, layout: AttentionLayout, only: OutputRows | None = None
    ) -> Tensor:
        """As `BertEncoder`: (T, H) to (T, H), or to (R, H)."""


@dataclass
class ForwardPass:
    """What every head passes on to the backbone.

    The lists collect one tensor a layer; they are None where nobody asks for them.

    Attributes:
        hidden_states: (T, H) before the first layer and after each.
        attentions: (B, N, S, S).
        encoder: layers that answer in place of the model's own; they collect nothing.
    """

    hidden_states: list[Tensor] | None = None
    attentions: list[Tensor] | None = None
    encoder: EncoderLayers | None = None

    @property
    def collects(self) -> bool:
        """Whether there is something to collect."""
        return self.hidden_states is not None or self.attentions is not None

    def attend(self, batch: PackedBatch, *, causal: bool) -> LayerAttention | None:
        """How tokens attend within their sequences; None: through the attention seam."""
        if self.attentions is None:
            return None
        return PaddedAttention(batch, batch, seen_within(batch, causal=causal), self.attentions)

    def across(self, batch: PackedBatch) -> CrossAttention | None:
        """What else the tokens look at: nothing, but in a decoder."""
        return None
