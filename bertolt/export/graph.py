"""A model as a graph takes it: padded tensors in, the outputs of its head out.

The head runs as it always does. What it stands on is replaced: a batch whose sequences all have the
padded length, and layers that keep padding out of attention by the mask.

Shapes: B sequences, L padded length, T = B·L tokens, H hidden, N heads, D head size, M places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bertolt.base.errors import UsageError
from bertolt.data.batch import PackedBatch
from bertolt.models.attention import AttentionLayout
from bertolt.models.bert import Backbone, BertLayer
from bertolt.models.forward_pass import ForwardPass, OutputRows
from bertolt.models.frozen import freeze
from bertolt.models.pretrained import PreTrainedModel

EXAMPLE = (2, 8)
"""B and L of the tensors that a graph is traced with; both are free afterwards."""


@dataclass(frozen=True, kw_only=True)
class GraphBatch(PackedBatch):
    """A padded batch as a packed one: every sequence has L tokens, of which `mask` has the real.

    Attributes:
        mask: (B, L) 1 where there is a token.
    """

    mask: Tensor

    @classmethod
    def of(cls, input_ids: Tensor, mask: Tensor, token_type_ids: Tensor | None) -> GraphBatch:
        """Of (B, L) tensors."""
        size, length = input_ids.shape
        column = torch.arange(length, device=input_ids.device)
        types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        return cls(
            input_ids=input_ids.flatten(),
            token_type_ids=types.flatten(),
            position_ids=column.expand(size, length).flatten(),
            cu_seqlens=torch.arange(size + 1, dtype=torch.int32) * length,
            max_seqlen=length,
            num_tokens=size * length,
            mask=mask,
        )

    @property
    def first_rows(self) -> Tensor:
        """(B,) int64 row of the first token of each sequence."""
        size, length = self.mask.shape
        return torch.arange(size) * length

    def token_means(self, values: Tensor) -> Tensor:
        """(T, H) values of tokens as (B, H) means over the real ones."""
        # Laid out before it is multiplied, a length of 1 would be a case of its own.
        real = values * self.mask.to(values.dtype).flatten()[:, None]
        sums = real.view(*self.mask.shape, values.shape[-1]).sum(1)
        return sums / self.mask.sum(1, keepdim=True)


class PaddedLayers:
    """The layers of an encoder over a `GraphBatch`, in operations that graphs have."""

    def __init__(self, base: Backbone) -> None:
        self.layers = [layer for layer in base.encoder.layer if isinstance(layer, BertLayer)]

    def __call__(
        self, hidden: Tensor, layout: AttentionLayout, only: OutputRows | None = None
    ) -> Tensor:
        """(T, H) to (T, H), or to the (R, H) of the rows that are needed."""
        batch = layout.batch
        assert isinstance(batch, GraphBatch)
        padded = hidden.view(*batch.mask.shape, -1)
        seen = batch.mask[:, None, None, :] != 0
        for layer in self.layers[:-1]:
            padded = _layer(layer, padded, padded, seen)
        last = self.layers[-1]
        if only is not None and only.first_tokens:
            return _layer(last, padded[:, :1], padded, seen).flatten(0, 1)
        rows = _layer(last, padded, padded, seen).flatten(0, 1)
        return rows if only is None else rows.index_select(0, only.rows)


def _layer(layer: BertLayer, queries: Tensor, hidden: Tensor, seen: Tensor) -> Tensor:
    """What a layer makes of its queries (B, Q, H), which look at (B, L, H) where `seen` says so."""
    own = layer.attention.self

    def heads(x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], own.num_heads, -1).transpose(1, 2)

    mixed = F.scaled_dot_product_attention(
        heads(own.query(queries)), heads(own.key(hidden)), heads(own.value(hidden)), attn_mask=seen
    )
    mixed = layer.attention.output(mixed.transpose(1, 2).flatten(2), queries)
    out: Tensor = layer.output(layer.intermediate(mixed), mixed)
    return out


class Graph(nn.Module):
    """A model that is called with padded tensors alone, to be exported.

    Args:
        model: in fp32 on the CPU.

    Attributes:
        inputs: names of what it takes, in their order.
        outputs: names of what it gives.

    Raises:
        UsageError: it is customised in a way that a graph would not show, or a decoder.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        if against := freeze(model, "fp32").why_not:
            raise UsageError(
                f"a graph of this model would not answer as it does: {against}",
                place=type(model).__name__,
                fix="export the model as Bertolt saves it, without hooks and layers of its own",
            )
        self.model = model.eval()
        segments = ("token_type_ids",) if model.config.type_vocab_size > 1 else ()
        places = ("places",) if model.reads_places else ()
        self.inputs = ("input_ids", "attention_mask", *segments, *places)
        with torch.no_grad():
            self.outputs = tuple(self(**self.example()))

    @property
    def size(self) -> int:
        """Bytes of the weights."""
        return sum(each.numel() * each.element_size() for each in self.model.parameters())

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        places: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The outputs of the head by name: (B, …), or (B, L, …) for tokens, or (M, V) for places.

        Args:
            input_ids, attention_mask, token_type_ids: (B, L) int64.
            places: (M,) int64 places of tokens, counted row by row in (B, L).
        """
        batch = GraphBatch.of(input_ids, attention_mask, token_type_ids)
        layers = ForwardPass(encoder=PaddedLayers(self.model.base_model))
        packed, _ = self.model.enter(batch)
        fields = self.model.graph_fields(packed, layers, places)
        per_token = self.model.logits_per_token and places is None
        return {
            name: self._laid_out(value, attention_mask) if per_token else value
            for name, value in fields.items()
        }

    def _laid_out(self, value: Tensor, mask: Tensor) -> Tensor:
        """(T, …) as (B, L, …), at the padding as a padded call of the model has it."""
        filler = torch.finfo(value.dtype).min if self.model.answers_with_ends else 0.0
        laid_out = value.view(*mask.shape, *value.shape[1:])
        real = (mask != 0).view(*mask.shape, *[1] * (value.dim() - 1))
        return torch.where(real, laid_out, filler)

    def example(self, size: int = EXAMPLE[0], length: int = EXAMPLE[1]) -> dict[str, Tensor]:
        """Inputs of this shape, by name; the last token of the first sequence is padding."""
        ids = torch.full((size, length), min(5, self.model.config.vocab_size - 1))
        mask = torch.ones_like(ids)
        mask[0, -1] = 0
        given = {
            "input_ids": ids,
            "attention_mask": mask,
            "token_type_ids": torch.zeros_like(ids),
            "places": torch.arange(1, 4),
        }
        return {name: given[name] for name in self.inputs}

    def shapes(self) -> dict[str, Any]:
        """The free dimensions of each input, as `torch.export` takes them."""
        size = torch.export.Dim("batch", min=1, max=1 << 20)
        length = torch.export.Dim("length", min=1, max=self.model.config.max_tokens)
        free = {name: {0: size, 1: length} for name in self.inputs}
        if "places" in free:
            free["places"] = {0: torch.export.Dim("places", min=1, max=1 << 30)}
        return free

    def program(self) -> torch.export.ExportedProgram:
        """The graph as PyTorch traces it, of any B and L."""
        with torch.no_grad():
            return torch.export.export(
                self, (), self.example(), dynamic_shapes=self.shapes(), strict=False
            )
