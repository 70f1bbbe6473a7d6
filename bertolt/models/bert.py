"""The BERT backbone, whole: embeddings, self-attention, layer, encoder, pooler, `Backbone`.

Everything runs on packed rows, so nothing is spent on padding. Modules and parameters have the
names of the published checkpoints, so `state_dict` keys need no translation. What a family does
otherwise with these modules is in its file under `bertolt.models.families`.

Shapes: B sequences, T packed tokens (filler included), L padded length, H hidden, N heads,
D head size, V vocabulary. Architecture: Devlin et al., 2018, arXiv:1810.04805.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from bertolt.base.errors import OutOfRangeError, UsageError
from bertolt.base.format import plural
from bertolt.base.torch_private import is_customised
from bertolt.data.batch import PackedBatch, PaddedLayout
from bertolt.models import fused
from bertolt.models.attention import AttentionLayout
from bertolt.models.config import BertConfig
from bertolt.models.customised import is_plain, is_watched
from bertolt.models.dropout import Dropout, dropout_add
from bertolt.models.forward_pass import ForwardPass, HiddenStates, OutputRows
from bertolt.models.layer_attention import (
    CrossAttention,
    LayerAttention,
    PackedAttention,
    PaddedAttention,
    enter,
    of_pass,
    show,
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

    def forward(
        self,
        input_ids: PackedBatch | Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> Tensor:
        """Embed a packed batch, (T, H), or padded tensors, (B, L, H).

        Args:
            input_ids: a packed batch, with all that follows; or (B, L) ids.
            token_type_ids: (B, L); None: zeros.
            position_ids: (B, L) or (1, L) rows of the position table; None: one after the other,
                in families whose positions begin behind the padding's row counted without `[PAD]`.
            inputs_embeds: (B, L, H) in place of the words' rows.

        Raises:
            DataError: an id that its table has no row for.
        """
        if isinstance(input_ids, PackedBatch):
            batch, offset = input_ids, self.position_offset
            places = batch.position_ids + offset if offset else batch.position_ids
            return self._embed(batch.input_ids, places, batch.token_type_ids, batch.inputs_embeds)
        given = inputs_embeds if input_ids is None else input_ids
        if given is None:
            raise UsageError("embeddings take input_ids or inputs_embeds, one of the two")
        ids = torch.zeros(given.shape[:2], dtype=torch.long, device=given.device)
        ids = ids if input_ids is None else input_ids
        types = torch.zeros_like(ids) if token_type_ids is None else token_type_ids
        if position_ids is None:
            position_ids = self._usual_positions(ids, counts_padding=input_ids is None)
        return self._embed(ids, position_ids, types, inputs_embeds)

    def _usual_positions(self, ids: Tensor, *, counts_padding: bool) -> Tensor:
        """Rows of the position table: (1, L), or (B, L) where the padding has a row of its own."""
        if not self.position_offset or counts_padding:
            steps = torch.arange(ids.shape[1], device=ids.device)
            return (steps + self.position_offset)[None]
        padding = self.position_offset - 1
        real = ids != padding
        return real.cumsum(1) * real + padding

    def _embed(self, ids: Tensor, places: Tensor, types: Tensor, words: Tensor | None) -> Tensor:
        """The sum of the three, normalised and dropped out."""
        try:
            words = self.word_embeddings(ids) if words is None else words
            summed = words + self.position_embeddings(places) + self.token_type_embeddings(types)
        except IndexError as error:
            raise self._out_of_range(ids, places, types) from error
        hidden = self.LayerNorm(summed)
        if torch.is_autocast_enabled(hidden.device.type):
            # The residual stream follows the precision of the products: half the memory traffic.
            hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
        dropped: Tensor = self.dropout(hidden)
        return dropped

    def _out_of_range(self, ids: Tensor, places: Tensor, types: Tensor) -> OutOfRangeError:
        outside = [
            f"{name} go from {int(ids.min())} to {int(ids.max())} and the table has "
            f"{plural(table.num_embeddings, 'row')}"
            for name, ids, table in (
                ("input_ids", ids, self.word_embeddings),
                ("position_ids", places, self.position_embeddings),
                ("token_type_ids", types, self.token_type_embeddings),
            )
            if int(ids.max()) >= table.num_embeddings or int(ids.min()) < 0
        ]
        fix = "use the tokenizer that belongs to this model"
        return OutOfRangeError("; ".join(outside), fix=fix)


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
        self.is_causal = config.is_decoder

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: LayerAttention | Tensor | None = None,
        *,
        source: Tensor | None = None,
        first_only: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Mix what the queries find in `source`: (T, H); and the queries, to be used on.

        Args:
            hidden_states: the queries, (T, H), or with `first_only` the first tokens, (B, H). Or
                (B, L, H): then so is the result, and beside it are attention maps or None.
            attention_mask: how they attend; for (B, L, H) the mask of a call by itself, see
                `bertolt.models.layer_attention.enter`.
            source: (T, H) to look at; None: the queries.
            first_only: compute the first token of each sequence alone.
        """
        if hidden_states.dim() == 3:
            rows, attend = enter(hidden_states, attention_mask, causal=self.is_causal)
            mixed, _ = self.forward(rows, attend, source=source)
            return _laid_out(mixed, attend), _maps(attend)
        queries, attend = hidden_states, of_pass(attention_mask)
        source = queries if source is None else source
        modules = (self.query, self.key, self.value)
        if queries is source and fused.takes_products(queries, *modules):
            queries, *projected = fused.products(queries, *modules)
            q, *both = map(self._heads, projected)
            k, v = attend.keys_values(self.layer, lambda: (both[0], both[1]))
        else:
            q = self._heads(show(self.query, attend.padded, queries))
            # Of another batch than the queries, a source is laid out otherwise.
            shown = attend.padded if source is queries else None
            k, v = attend.keys_values(
                self.layer,
                lambda: (
                    self._heads(show(self.key, shown, source)),
                    self._heads(show(self.value, shown, source)),
                ),
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

    def forward(self, hidden_states: Tensor, input_tensor: Tensor) -> Tensor:
        """(T, width_in) and the (T, H) it is added to: (T, H); (B, L, ·) to (B, L, H)."""
        hidden, residual = hidden_states, input_tensor
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
        hidden_states: Tensor,
        attention_mask: LayerAttention | Tensor | None = None,
        *,
        source: Tensor | None = None,
        only: OutputRows | None = None,
    ) -> Any:
        """Add to the queries what they find in the source: (T, H).

        Args:
            hidden_states: the queries, (T, H). Or (B, L, H): then the result is a pair, as that of
                `BertSelfAttention`.
            attention_mask, source: as there.
            only: the R rows that are needed, to get (R, H).
        """
        if hidden_states.dim() == 3:
            rows, attend = enter(hidden_states, attention_mask, causal=self.self.is_causal)
            return _laid_out(self.forward(rows, attend, source=source), attend), _maps(attend)
        queries, attend = hidden_states, of_pass(attention_mask)
        if only is not None and only.first_tokens:
            first = queries.index_select(0, only.rows)
            mixed, residual = self.self(first, attend, source=queries, first_only=True)
        elif attend.padded is not None and is_customised(self.self):
            shown, _ = self.self(attend.padded.unpack(queries), attend, source=source)
            mixed, residual = attend.padded.pack(shown), queries
        else:
            mixed, residual = self.self(queries, attend, source=source)
        if only is not None and not only.first_tokens:
            mixed, residual = (x.index_select(0, only.rows) for x in (mixed, residual))
        return show(self.output, attend.padded, mixed, residual)


class BertIntermediate(nn.Module):
    """The widening half of the feed-forward part."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACTIVATIONS[config.hidden_act]

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(T, H) to (T, intermediate_size); (B, L, ·) as well."""
        return self.activation(self.dense(hidden_states))


def _branch(
    intermediate: nn.Module, hidden: Tensor, padded: PaddedLayout | None
) -> tuple[Tensor, Tensor]:
    """What the widening half makes of `hidden`, and `hidden`, to be used on."""
    if isinstance(intermediate, BertIntermediate) and is_plain(intermediate, BertIntermediate):
        dense, gelu = intermediate.dense, intermediate.activation is F.gelu
        if gelu and dense.bias is not None and fused.takes_products(hidden, dense):
            hidden, wide = fused.products(hidden, dense, biased=False)
            return fused.biased_gelu(wide, dense.bias), hidden
    return show(intermediate, padded, hidden), hidden


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
        hidden_states: Tensor,
        attention_mask: LayerAttention | Tensor | None = None,
        *,
        only: OutputRows | None = None,
        across: CrossAttention | None = None,
    ) -> Tensor:
        """(T, H) to (T, H), or to the (R, H) of the rows that are needed.

        Args:
            hidden_states: (T, H). Or (B, L, H), and so is the result.
            attention_mask: as of `BertSelfAttention`.
            only: the R rows.
            across: what else the tokens look at.
        """
        if hidden_states.dim() == 3:
            causal = self.attention.self.is_causal
            rows, attend = enter(hidden_states, attention_mask, causal=causal)
            return _laid_out(self.forward(rows, attend, only=only, across=across), attend)
        attend = of_pass(attention_mask)
        shown = attend.padded
        if shown is not None and is_customised(self.attention):
            mixed = shown.pack(self.attention(shown.unpack(hidden_states), attend)[0])
        else:
            mixed = self.attention(hidden_states, attend, only=only)
        if across is not None:
            mixed = self.crossattention(mixed, across.attend, source=across.hidden)
        wide, mixed = _branch(self.intermediate, mixed, shown)
        return show(self.output, shown, wide, mixed)


def _laid_out(rows: Tensor, attend: LayerAttention) -> Tensor:
    """(T, H) as (B, L, H), for a part that was called so."""
    assert attend.padded is not None
    return attend.padded.unpack(rows)


def _maps(attend: LayerAttention) -> Tensor | None:
    """The attention maps of the layer that has just attended, if they are collected."""
    maps = attend.maps if isinstance(attend, PaddedAttention) else None
    return maps.tensors[-1] if maps is not None else None


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
        self.is_causal = config.is_decoder

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: LayerAttention | Tensor | None = None,
        *,
        only: OutputRows | None = None,
        across: CrossAttention | None = None,
        states: HiddenStates | None = None,
    ) -> Any:
        """(T, H) to (T, H), or to the (R, H) of the rows that a head needs.

        For a head that reads masked or first tokens alone, most of the last layer is never needed.

        Args:
            hidden_states: (T, H). Or (B, L, H), for a `BackboneOutput` of that shape.
            attention_mask: as of `BertSelfAttention`.
            only: the R rows.
            across: what else the tokens look at.
            states: collects what goes into each layer, and what comes out of the last.
        """
        if hidden_states.dim() == 3:
            hidden, attend = enter(hidden_states, attention_mask, causal=self.is_causal)
            hidden = self.forward(hidden, attend, across=across, states=states)
            return BackboneOutput(last_hidden_state=_laid_out(hidden, attend))
        hidden, attend = hidden_states, of_pass(attention_mask)
        last = len(self.layer) - 1
        for number, layer in enumerate(self.layer):
            if states is not None:
                hidden = states.keep(hidden)
            rows = only if number == last else None
            hidden = self._through(layer, hidden, attend, only=rows, across=across)
        return hidden if states is None else states.keep(hidden)

    def _through(
        self, layer: nn.Module, hidden: Tensor, attend: LayerAttention, **how: Any
    ) -> Tensor:
        """(T, H) through a layer, whose hooks see (B, L, H) where the pass is shown."""
        shown = attend.padded if attend.padded is not None and is_customised(layer) else None
        hidden = hidden if shown is None else shown.unpack(hidden)
        if self.gradient_checkpointing and self.training:
            hidden = checkpoint(layer, hidden, attend, use_reentrant=False, **how)
        else:
            hidden = layer(hidden, attend, **how)
        return hidden if shown is None else shown.pack(hidden)


class BertPooler(nn.Module):
    """The first token of each sequence, through one more layer."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """First tokens (B, H) to (B, H); of (B, L, H), the first column is read."""
        first = hidden_states[:, 0] if hidden_states.dim() == 3 else hidden_states
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
        hidden = self._encode(batch, forward_pass, None)
        pooled = None
        if self.pooler is not None:
            first = forward_pass.hand_out("last_hidden_state", hidden, batch.first_rows)
            pooled = self.pooler(first)
        # Filler rows stay inside: a loss over them would lead gradients astray.
        hidden = hidden.narrow(0, 0, batch.num_tokens)
        return BackboneOutput(last_hidden_state=hidden, pooler_output=pooled)

    def logits_of(self, output: Any) -> Tensor:
        """The last hidden states (num_tokens, H); the logits of a subclass that gives some."""
        logits = getattr(output, "logits", None)
        states: Tensor = output.last_hidden_state if logits is None else logits
        return states

    def encode(
        self, batch: PackedBatch, forward_pass: ForwardPass, only: OutputRows | None = None
    ) -> Tensor:
        """The hidden states of a packed batch: (T, H), or (R, H) of the rows that are needed."""
        if not is_customised(self):
            return self._encode(batch, forward_pass, only)
        states = self(batch, forward_pass=forward_pass).last_hidden_state
        padded, filler = forward_pass.padded, len(batch.input_ids) - batch.num_tokens
        hidden = F.pad(states, (0, 0, 0, filler)) if padded is None else padded.pack(states)
        return hidden if only is None else hidden.index_select(0, only.rows)

    def _encode(
        self, batch: PackedBatch, forward_pass: ForwardPass, only: OutputRows | None
    ) -> Tensor:
        if forward_pass.encoder is not None:
            return forward_pass.encoder(self.embeddings(batch), AttentionLayout(batch), only)
        # Hooks in a padded pass see what they would see if nothing were packed.
        padded = forward_pass.padded
        shown = None
        if padded is not None and not torch.compiler.is_compiling():
            shown = padded if is_watched(self.embeddings) or is_watched(self.encoder) else None
        embedded = self._embed(batch, shown)
        attend = forward_pass.attend(batch, causal=self.config.is_decoder, shown=shown)
        if attend is None:
            layout = self.prepare_layout(batch)
            attend = PackedAttention(layout, self.attention_backend.name, shown)
        across = forward_pass.across(batch)
        # Whoever collects, looks across or watches it wants every token of the last layer.
        whole = forward_pass.collects or across is not None
        if shown is not None and only is not None:
            last = self.encoder.layer[-1]
            whole = whole or is_customised(self.encoder) or is_watched(last)
        hidden = self._through_layers(
            embedded,
            attend,
            only=None if whole else only,
            across=across,
            states=forward_pass.hidden_states,
        )
        return hidden.index_select(0, only.rows) if whole and only is not None else hidden

    def _through_layers(self, embedded: Tensor, attend: LayerAttention, **how: Any) -> Tensor:
        """(T, H) through the encoder, whose hooks see (B, L, H) where the pass is shown."""
        hidden: Tensor
        if attend.padded is None or not is_customised(self.encoder):
            hidden = self.encoder(embedded, attend, **how)
            return hidden
        output = self.encoder(attend.padded.unpack(embedded), attend, **how)
        return attend.padded.pack(output.last_hidden_state)

    def _embed(self, batch: PackedBatch, shown: PaddedLayout | None) -> Tensor:
        """The tokens as they come to the first layer, (T, H)."""
        hidden: Tensor
        if shown is None or not is_watched(self.embeddings):
            hidden = self.embeddings(batch)
            return hidden
        offset, embeds = self.config.position_offset, batch.inputs_embeds
        hidden = self.embeddings(
            shown.unpack(batch.input_ids, self.config.pad_token_id) if embeds is None else None,
            token_type_ids=shown.unpack(batch.token_type_ids),
            # The row of the padding, where it has one.
            position_ids=shown.unpack(batch.position_ids, -1 if offset else 0) + offset,
            inputs_embeds=None if embeds is None else shown.unpack(embeds),
        )
        return shown.pack(hidden)

    def pool_first(self, batch: PackedBatch, forward_pass: ForwardPass) -> Tensor:
        """The pooled first tokens: (B, H). The same numbers as `run`'s, for less work."""
        assert self.pooler is not None, "built without a pooler"
        pooled: Tensor
        if is_customised(self):
            pooled = self(batch, forward_pass=forward_pass).pooler_output
        else:
            pooled = self.pooler(self.encode_first(batch, forward_pass))
        return pooled

    def encode_first(self, batch: PackedBatch, forward_pass: ForwardPass) -> Tensor:
        """The hidden states of the first tokens: (B, H)."""
        return self.encode(batch, forward_pass, OutputRows(batch.first_rows, first_tokens=True))


AutoModel = Backbone
"""The encoder of whichever family a folder is of."""
