"""The BERT backbone, whole: embeddings, self-attention, layer, encoder, pooler, `Backbone`.

Everything runs on packed rows, so nothing is spent on padding. Modules and parameters have the
names of the published checkpoints, so `state_dict` keys need no translation. What a family does
otherwise with these modules is in its file under `bertolt.models.families`.

Shapes: B sequences, T packed tokens (filler included), L padded length, H hidden, N heads,
D head size, V vocabulary. Architecture: Devlin et al., 2018, arXiv:1810.04805.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from bertolt.base.errors import DataError
from bertolt.base.format import plural
from bertolt.data.batch import PackedBatch
from bertolt.models import fused
from bertolt.models.attention import AttentionLayout
from bertolt.models.config import BertConfig
from bertolt.models.customised import is_plain
from bertolt.models.dropout import Dropout, dropout_add
from bertolt.models.forward_pass import ForwardPass, OutputRows
from bertolt.models.layer_attention import (
    CrossAttention,
    LayerAttention,
    PackedAttention,
)
from bertolt.models.outputs import BackboneOutput
from bertolt.models.pretrained import PreTrainedModel


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU by its approximation with tanh, as the first BERT had it; (T, ...) to (T, ...)."""
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
}


class BertEmbeddings(nn.Module):
    """Word, position and segment embeddings, summed, normalised and dropped out."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.word_embeddings = nn.Embedding(
            config.vocab_size, width, padding_idx=config.pad_token_id
        )
        self.position_offset = config.position_offset
        # The rows before the first token's are for padding.
        padding = config.position_offset - 1 if config.position_offset else None
        self.position_embeddings = nn.Embedding(
            config.max_position_embeddings, width, padding_idx=padding
        )
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width)
        self.LayerNorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, batch: PackedBatch) -> Tensor:
        """Embed T tokens: (T, H).

        Raises:
            DataError: an id that its table has no row for.
        """
        try:
            summed = (
                self.word_embeddings(batch.input_ids)
                + self.position_embeddings(self._positions(batch))
                + self.token_type_embeddings(batch.token_type_ids)
            )
        except IndexError as error:
            raise self._out_of_range(batch) from error
        hidden = self.LayerNorm(summed)
        if torch.is_autocast_enabled(hidden.device.type):
            # The residual stream follows the precision of the products: half the memory traffic.
            hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
        dropped: Tensor = self.dropout(hidden)
        return dropped

    def _positions(self, batch: PackedBatch) -> Tensor:
        """Rows of the position table: (T,)."""
        ids, offset = batch.position_ids, self.position_offset
        return ids + offset if offset else ids

    def _out_of_range(self, batch: PackedBatch) -> DataError:
        found = [
            f"{name} go from {int(ids.min())} to {int(ids.max())} and the table has "
            f"{plural(table.num_embeddings, 'row')}"
            for name, ids, table in (
                ("input_ids", batch.input_ids, self.word_embeddings),
                ("position_ids", self._positions(batch), self.position_embeddings),
                ("token_type_ids", batch.token_type_ids, self.token_type_embeddings),
            )
            if int(ids.max()) >= table.num_embeddings or int(ids.min()) < 0
        ]
        return DataError("; ".join(found), fix="use the tokenizer that belongs to this model")


class BertSelfAttention(nn.Module):
    """The three projections, and attention within each sequence (or across to an encoder's)."""

    def __init__(self, config: BertConfig, layer: int) -> None:
        super().__init__()
        width = config.hidden_size
        self.layer = layer
        self.num_heads = config.num_attention_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.dropout_p = config.attention_probs_dropout_prob

    def forward(
        self, queries: Tensor, source: Tensor, attend: LayerAttention, first_only: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Mix what `queries` (T, H) find in `source`: (T, H); and the queries, to be used on.

        With `first_only`, the queries are the first tokens, (B, H), and so is the result.
        """
        modules = (self.query, self.key, self.value)
        if queries is source and fused.takes_products(queries, *modules):
            queries, *projected = fused.products(queries, *modules)
            q, *both = map(self._heads, projected)
            k, v = attend.keys_values(self.layer, lambda: (both[0], both[1]))
        else:
            q = self._heads(self.query(queries))
            k, v = attend.keys_values(
                self.layer, lambda: (self._heads(self.key(source)), self._heads(self.value(source)))
            )
        mixed = attend(
            q,
            k,
            v,
            layer=self.layer,
            dropout_p=self.dropout_p if self.training else 0.0,
            first_only=first_only,
        )
        return mixed.flatten(1), queries

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], self.num_heads, -1)


class BertSelfOutput(nn.Module):
    """Projection, dropout, residual and layer norm behind attention or the feed-forward part."""

    def __init__(self, config: BertConfig, width_in: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width_in, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, hidden: Tensor, residual: Tensor) -> Tensor:
        """(T, width_in) and the (T, H) it is added to: (T, H)."""
        dense, drop, norm = self.dense, self.dropout, self.LayerNorm
        plain = is_plain(drop, Dropout)
        if plain and fused.takes_norm(residual, norm) and fused.takes_products(hidden, dense):
            _, found = fused.products(hidden, dense, biased=False)
            return fused.dropout_add_norm(
                found, residual, norm, drop.p, drop.training, bias=dense.bias
            )
        found = dense(hidden)
        if plain:
            summed = dropout_add(found, residual, drop.p, drop.training)
        else:
            summed = drop(found) + residual
        normed: Tensor = norm(summed)
        # The residual stream stays in the format of the products, whatever the norm came out in.
        return normed.to(found.dtype)


class BertAttention(nn.Module):
    """Attention and its output."""

    def __init__(self, config: BertConfig, layer: int) -> None:
        super().__init__()
        self.self = BertSelfAttention(config, layer)
        self.output = BertSelfOutput(config, config.hidden_size)

    def forward(
        self,
        queries: Tensor,
        source: Tensor,
        attend: LayerAttention,
        only: OutputRows | None = None,
    ) -> Tensor:
        """Queries (T, H), which are added again to what they found in the source: (T, H).

        Given R rows, theirs: (R, H).
        """
        if only is not None and only.first_tokens:
            first = queries.index_select(0, only.rows)
            found, residual = self.self(first, source, attend, first_only=True)
        else:
            found, residual = self.self(queries, source, attend)
            if only is not None:
                found, residual = (x.index_select(0, only.rows) for x in (found, residual))
        mixed: Tensor = self.output(found, residual)
        return mixed


class BertIntermediate(nn.Module):
    """The widening half of the feed-forward part."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACTIVATIONS[config.hidden_act]

    def forward(self, hidden: Tensor) -> Tensor:
        """(T, H) to (T, intermediate_size)."""
        return self.activation(self.dense(hidden))


def _branch(intermediate: nn.Module, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """What the widening half makes of `hidden`, and `hidden`, to be used on."""
    if isinstance(intermediate, BertIntermediate) and is_plain(intermediate, BertIntermediate):
        dense, gelu = intermediate.dense, intermediate.activation is F.gelu
        if gelu and dense.bias is not None and fused.takes_products(hidden, dense):
            hidden, wide = fused.products(hidden, dense, biased=False)
            return fused.biased_gelu(wide, dense.bias), hidden
    return intermediate(hidden), hidden


class BertLayer(nn.Module):
    """One transformer layer, normalised after each residual sum."""

    is_block = True
    """It is split as a whole where a model is split over processes."""

    def __init__(self, config: BertConfig, layer: int) -> None:
        super().__init__()
        self.attention = BertAttention(config, layer)
        if config.add_cross_attention:
            self.crossattention = BertAttention(config, layer)
        self.intermediate = BertIntermediate(config)
        self.output = BertSelfOutput(config, config.intermediate_size)

    def forward(
        self,
        hidden: Tensor,
        attend: LayerAttention,
        only: OutputRows | None = None,
        across: CrossAttention | None = None,
    ) -> Tensor:
        """(T, H) to (T, H), or to the (R, H) of the rows that are needed."""
        mixed = self.attention(hidden, hidden, attend, only)
        if across is not None:
            mixed = self.crossattention(mixed, across.hidden, across.attend)
        out: Tensor = self.output(*_branch(self.intermediate, mixed))
        return out


class BertEncoder(nn.Module):
    """The stack of layers.

    Attributes:
        gradient_checkpointing: while training, keep only what goes into each layer and compute its
            inside again in the backward pass.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        count = config.num_hidden_layers
        self.layer = nn.ModuleList(BertLayer(config, number) for number in range(count))
        self.gradient_checkpointing = False

    def forward(
        self,
        hidden: Tensor,
        attend: LayerAttention,
        only: OutputRows | None = None,
        across: CrossAttention | None = None,
        states: list[Tensor] | None = None,
    ) -> Tensor:
        """(T, H) to (T, H), or to the (R, H) of the rows that a head needs.

        For a head that reads masked or first tokens alone, most of the last layer is never needed.
        `states` collects what goes into each layer, and what comes out of the last.
        """
        last = len(self.layer) - 1
        for number, layer in enumerate(self.layer):
            if states is not None:
                states.append(hidden)
            inputs = (hidden, attend, only if number == last else None, across)
            if self.gradient_checkpointing and self.training:
                hidden = checkpoint(layer, *inputs, use_reentrant=False)
            else:
                hidden = layer(*inputs)
        if states is not None:
            states.append(hidden)
        return hidden


class BertPooler(nn.Module):
    """The first token of each sequence, through one more layer."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, first: Tensor) -> Tensor:
        """First tokens (B, H) to (B, H)."""
        return torch.tanh(self.dense(first))


class Backbone(PreTrainedModel):
    """The encoder without a head; with `config.is_decoder`, no token sees a later one.

    Args:
        config: its shape.
        add_pooling_layer: build the pooler; without it `pooler_output` is None.
    """

    def __init__(self, config: BertConfig, add_pooling_layer: bool = True) -> None:
        super().__init__(config)
        self.embeddings = BertEmbeddings(config)
        self.encoder = BertEncoder(config)
        self.pooler = BertPooler(config) if add_pooling_layer else None
        self.init_weights()

    def run(self, batch: PackedBatch, forward_pass: ForwardPass) -> BackboneOutput:
        """Encode a packed batch: `last_hidden_state` (num_tokens, H), `pooler_output` (B, H)."""
        hidden = self.encode(batch, forward_pass)
        pooled = None
        if self.pooler is not None:
            pooled = self.pooler(hidden.index_select(0, batch.first_rows))
        # Filler rows stay inside: a loss over them would lead gradients astray.
        hidden = hidden.narrow(0, 0, batch.num_tokens)
        return BackboneOutput(last_hidden_state=hidden, pooler_output=pooled)

    def encode(
        self, batch: PackedBatch, forward_pass: ForwardPass, only: OutputRows | None = None
    ) -> Tensor:
        """The hidden states of a packed batch: (T, H), or (R, H) of the rows that are needed."""
        embedded = self.embeddings(batch)
        if forward_pass.encoder is not None:
            return forward_pass.encoder(embedded, AttentionLayout(batch), only)
        attend = forward_pass.attend(batch, causal=self.config.is_decoder)
        if attend is None:
            attend = PackedAttention(self.prepare_layout(batch), self.attention_backend.name)
        # Whoever collects, or looks across, wants every token of the last layer.
        across = forward_pass.across(batch)
        early = None if forward_pass.collects or across is not None else only
        states = forward_pass.hidden_states
        hidden: Tensor = self.encoder(embedded, attend, only=early, across=across, states=states)
        if only is not None and early is None:
            hidden = hidden.index_select(0, only.rows)
        return hidden

    def pool_first(self, batch: PackedBatch, forward_pass: ForwardPass) -> Tensor:
        """The pooled first tokens: (B, H). The same numbers as `run`'s, for less work."""
        assert self.pooler is not None, "built without a pooler"
        pooled: Tensor = self.pooler(self.encode_first(batch, forward_pass))
        return pooled

    def encode_first(self, batch: PackedBatch, forward_pass: ForwardPass) -> Tensor:
        """The hidden states of the first tokens: (B, H)."""
        return self.encode(batch, forward_pass, OutputRows(batch.first_rows, first_tokens=True))


AutoModel = Backbone
"""The encoder of whichever family a folder is of."""
