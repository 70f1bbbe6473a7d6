"""What one forward pass is run with beside its batch: what it collects, and by which layers.

Shapes: B sequences, T packed tokens, H hidden, N heads, S tokens of the longest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from bertolt.data.batch import PackedBatch, PaddedLayout
from bertolt.models.attention import AttentionLayout
from bertolt.models.layer_attention import (
    AttentionMaps,
    CrossAttention,
    LayerAttention,
    PaddedAttention,
    seen_within,
    show,
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
class HiddenStates:
    """The hidden states that a pass collects, as the user gets them and as tensors of the graph.

    Attributes:
        num_tokens: without the filler.
        padded: where they are laid out; None: nowhere.
        tensors: (B, L, H), or (num_tokens, H), before the first layer and after each.
    """

    num_tokens: int
    padded: PaddedLayout | None
    tensors: list[Tensor] = field(default_factory=list, repr=False)

    def keep(self, hidden: Tensor) -> Tensor:
        """Keep (T, H) without its filler; the same (T, H), made of what is kept."""
        rows, count = hidden.shape[0], self.num_tokens
        shown = hidden.narrow(0, 0, count)
        shown = shown if self.padded is None else self.padded.unpack(shown)
        self.tensors.append(shown)
        if not shown.requires_grad:
            return hidden
        if self.padded is not None:
            return self.padded.pack(shown)
        return torch.cat([shown, hidden.narrow(0, count, rows - count)])


@dataclass
class ForwardPass:
    """What every head passes on to the backbone.

    Attributes:
        hidden_states, attentions: what to collect; None where nobody asks for it.
        encoder: layers that answer in place of the model's own; they collect nothing.
        padded: where the tokens of a padded batch were; None for a packed one.
        labelled_only: with labels, a head over the vocabulary reads the labelled tokens alone.
        outputs: what has been laid out already, by the names of the output.
    """

    hidden_states: HiddenStates | None = None
    attentions: AttentionMaps | None = None
    encoder: EncoderLayers | None = None
    padded: PaddedLayout | None = None
    labelled_only: bool = True
    outputs: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @property
    def collects(self) -> bool:
        """Whether there is something to collect."""
        return self.hidden_states is not None or self.attentions is not None

    def hand_out(
        self, name: str, packed: Tensor, rows: Tensor | None = None, filler: float = 0.0
    ) -> Tensor:
        """Lay (T, …) out as the field `name` of the output, so that the loss is made of that.

        Returns:
            The tokens, or those of `rows`, to go on with: (T or num_tokens, …) or (R, …).
        """
        if self.padded is None:
            return packed if rows is None else packed.index_select(0, rows)
        self.outputs[name] = self.padded.unpack(packed, filler)
        where = self.padded.where if rows is None else self.padded.where[rows]
        return self.outputs[name].flatten(0, 1).index_select(0, where)

    def call(self, module: nn.Module, *rows: Tensor) -> Tensor:
        """Call a part of a head on all tokens; its hooks see (B, L, …) of a padded batch."""
        return show(module, self.padded, *rows)

    def attend(
        self, batch: PackedBatch, *, causal: bool, shown: PaddedLayout | None
    ) -> LayerAttention | None:
        """How tokens attend within their sequences; None: through the attention seam."""
        if self.attentions is None:
            return None
        allowed = seen_within(batch, causal=causal)
        return PaddedAttention(batch, batch, allowed, self.attentions, shown)

    def across(self, batch: PackedBatch) -> CrossAttention | None:
        """What else the tokens look at: nothing, but in a decoder."""
        return None
