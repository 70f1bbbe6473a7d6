"""BERT as a decoder: it writes a text word by word, and may look at an encoder's states.

Shapes: B sequences, L padded length, T packed tokens, H hidden, V vocabulary, S encoder length.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bertolt.config import BertConfig
from bertolt.data.batch import PackedBatch, PaddedLayout
from bertolt.errors import DataError, UsageError
from bertolt.model.attend import Context, KeyValueCache, Source, Watched
from bertolt.model.bert import BertModel
from bertolt.model.heads import BertOnlyMLMHead, LanguageModel
from bertolt.model.losses import next_token_labels
from bertolt.model.outputs import CausalLMOutput, ModelOutput
from bertolt.model.sampling import Sampling


class BertLMHeadModel(LanguageModel):
    """Which word comes next: no token sees a later one, whatever the config says of `is_decoder`.

    With `config.add_cross_attention`, each layer also looks at `encoder_hidden_states`.
    """

    targets = frozenset({"labels"})

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config.changed(is_decoder=True))
        self.bert = BertModel(self.config, add_pooling_layer=False)
        self.cls = BertOnlyMLMHead(self.config)
        self.init_weights()

    def forward(
        self,
        batch: PackedBatch | Tensor | None = None,
        *,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        labels: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        past_key_values: KeyValueCache | None = None,
        use_cache: bool = False,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        return_dict: bool = True,
        **foreign: Any,
    ) -> Any:
        """As `PreTrainedModel.forward`, and what a decoder knows beside its new tokens.

        Args:
            batch, input_ids, attention_mask, token_type_ids, position_ids: as there. With a cache,
                the mask may span the earlier tokens too, and positions go on from them.
            labels: the tokens themselves, (B, L) or (T,); the loss compares each with the logits
                of the token before it.
            encoder_hidden_states: (B, S, H).
            encoder_attention_mask: (B, S).
            past_key_values: earlier tokens, from an output; it is extended in place.
            use_cache: return the cache.
            output_hidden_states, output_attentions, return_dict: as there.
            foreign: targets of other models, which are refused.

        Raises:
            UsageError: as there; or encoder states for a model without cross-attention.
        """
        if past_key_values is not None and attention_mask is not None:
            new = batch if isinstance(batch, Tensor) else input_ids
            if new is not None:
                attention_mask = attention_mask[:, -new.shape[1] :]
        if labels is not None:
            foreign["labels"] = labels
        packed, padded = self.enter(
            batch, input_ids, attention_mask, token_type_ids, position_ids, foreign
        )
        cache = past_key_values
        if use_cache and cache is None:
            cache = KeyValueCache(packed.num_sequences, self.device)
        if cache is not None:
            packed = self._behind(cache, packed, given_positions=position_ids is not None)
        source = self._source(encoder_hidden_states, encoder_attention_mask, packed)
        context = Context(cache=cache, source=source)
        watched = Watched.asked(hidden_states=output_hidden_states, attentions=output_attentions)
        output = self.leave(self.run(packed, watched, context), packed, padded, watched)
        return output if return_dict else output.to_tuple()

    def run(
        self, batch: PackedBatch, watched: Watched, context: Context | None = None
    ) -> CausalLMOutput:
        """`logits` (num_tokens, V); with labels (T,), those of tokens with a labelled successor."""
        hidden = self.bert.encode(batch, watched, context)
        logits, loss = self.predict_tokens(hidden, self.labels_for(batch), batch.num_tokens)
        cache = None if context is None else context.cache
        return CausalLMOutput(loss=loss, logits=logits, past_key_values=cache)

    def labels_for(self, batch: PackedBatch) -> Tensor | None:
        """Each token's successor: (T,)."""
        return None if batch.labels is None else next_token_labels(batch.labels, batch)

    def leave(
        self,
        output: ModelOutput,
        batch: PackedBatch,
        padded: PaddedLayout | None,
        watched: Watched,
    ) -> ModelOutput:
        """As every model, with the maps of cross-attention."""
        assert isinstance(output, CausalLMOutput)
        if watched.cross_attentions:
            maps = watched.cross_attentions
            output.cross_attentions = tuple(
                each if padded is None else padded.unpack_maps(each, keys=False) for each in maps
            )
        return super().leave(output, batch, padded, watched)

    def _behind(
        self, cache: KeyValueCache, batch: PackedBatch, *, given_positions: bool
    ) -> PackedBatch:
        """The batch with positions that go on from the cache."""
        if cache.lengths.numel() != batch.num_sequences:
            raise UsageError(
                f"the cache is of {cache.lengths.numel()} sequences, and the batch has "
                f"{batch.num_sequences}",
                fix="go on with the batch that the cache was made with",
            )
        self._require_positions(int((cache.lengths + batch.lengths).max()))
        if given_positions:
            return batch
        position_ids = batch.position_ids.clone()
        position_ids[: batch.num_tokens] += cache.lengths[batch.sequence]
        return replace(batch, position_ids=position_ids)

    def _require_positions(self, longest: int) -> None:
        limit = self.config.max_position_embeddings
        if longest > limit:
            raise UsageError(
                f"{longest} tokens in all are more than the position table of {limit}",
                fix="write fewer new tokens, or shorten the prompt",
            )

    def _source(
        self, hidden: Tensor | None, mask: Tensor | None, batch: PackedBatch
    ) -> Source | None:
        if hidden is None:
            return None
        if not self.config.add_cross_attention:
            raise UsageError(
                "encoder_hidden_states were given, and the model has no cross-attention",
                fix="build it with add_cross_attention=True",
            )
        if hidden.dim() != 3 or hidden.shape[0] != batch.num_sequences:
            raise DataError(
                f"encoder_hidden_states have the shape {tuple(hidden.shape)}, and "
                f"({batch.num_sequences}, S, {self.config.hidden_size}) is needed",
                fix="give the encoder's last_hidden_state of a padded batch of as many sequences",
            )
        ids = hidden.new_zeros(hidden.shape[:2], dtype=torch.long)
        packed, padded = PackedBatch.from_padded(ids, mask)
        return Source(hidden.flatten(0, 1).index_select(0, padded.where), packed)

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        token_type_ids: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        max_new_tokens: int | None = None,
        max_length: int | None = None,
        do_sample: bool = False,
        temperature: float = 1.0,
        top_k: int = 50,
        top_p: float = 1.0,
        eos_token_id: int | None = None,
        pad_token_id: int | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """Go on with each prompt, one token at a time.

        Args:
            input_ids, attention_mask, token_type_ids: (B, L), padded on either side.
            encoder_hidden_states, encoder_attention_mask: as in `forward`.
            max_new_tokens: tokens to add; None: 20, or up to `max_length`.
            max_length: columns of the result, prompt included.
            do_sample: draw each token, instead of taking the most probable one.
            temperature, top_k, top_p: how to draw, see `Sampling`.
            eos_token_id: a sequence ends with it; None: none does.
            pad_token_id: what follows an ended sequence; None: the config's.
            seed: of the draws; None: PyTorch's own random state.

        Returns:
            (B, L + new) ids: the prompts as they came, then what was written.

        Raises:
            UsageError: settings that cannot be, or more tokens than the model has positions.
        """
        sampling = Sampling(do_sample, temperature, top_k, top_p, seed, self.device)
        budget = self._budget(input_ids, max_new_tokens, max_length)
        batch, _ = self.enter(input_ids, None, attention_mask, token_type_ids, None, {})
        self._require_positions(batch.max_seqlen + budget - 1)
        source = self._source(encoder_hidden_states, encoder_attention_mask, batch)
        cache = KeyValueCache(batch.num_sequences, self.device)
        context = Context(cache=cache, source=source)
        filler = self.config.pad_token_id if pad_token_id is None else pad_token_id
        running = torch.ones(batch.num_sequences, dtype=torch.bool, device=self.device)
        written = [input_ids]
        for step in range(budget):
            if step:
                batch = self._behind(cache, _one_each(written[-1], batch), given_positions=False)
            token = sampling.choose(self._next_logits(batch, context)).where(running, filler)
            written.append(token[:, None])
            if eos_token_id is not None:
                running = running & (token != eos_token_id)
                if not running.any():
                    break
        return torch.cat(written, dim=1)

    def _budget(self, input_ids: Tensor, new: int | None, length: int | None) -> int:
        prompt = input_ids.shape[1]
        if new is not None and length is not None:
            raise UsageError("max_new_tokens and max_length were both given", fix="give one")
        budget = new if new is not None else 20 if length is None else length - prompt
        if budget < 1:
            raise UsageError(
                f"max_length {length} leaves no room behind a prompt of {prompt} tokens"
                if length is not None
                else f"max_new_tokens is {new}",
                fix="ask for at least one token",
            )
        return budget

    def _next_logits(self, batch: PackedBatch, context: Context) -> Tensor:
        """(B, V) logits of the token behind each sequence."""
        hidden = self.bert.encode(batch, Watched(), context)
        last = hidden.index_select(0, batch.cu_seqlens[1:].long() - 1)
        logits: Tensor = self.cls.predictions(last)
        return logits.float()


def _one_each(token: Tensor, batch: PackedBatch) -> PackedBatch:
    """A packed batch of one new token (B, 1) for each sequence of `batch`, in its last segment."""
    last = batch.cu_seqlens[1:].long() - 1
    new, _ = PackedBatch.from_padded(token, None, batch.token_type_ids[last, None])
    return new


AutoModelForCausalLM = BertLMHeadModel
"""The same class: every decoder here is a BERT."""
