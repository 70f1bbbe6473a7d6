"""BERT as a decoder: it writes a text word by word, and may look at an encoder's states.

Shapes: B sequences, L padded length, T packed tokens, H hidden, V vocabulary, S encoder length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from bertolt.base.errors import DataError, UsageError
from bertolt.data.batch import IGNORE_INDEX, PackedBatch, PaddedLayout
from bertolt.models.config import BertConfig
from bertolt.models.doors import FIRST_INPUTS, PaddedInputs, WhichLogits
from bertolt.models.evaluating import evaluating
from bertolt.models.forward_pass import ForwardPass
from bertolt.models.layer_attention import (
    AttentionMaps,
    CrossAttention,
    KeysValues,
    LayerAttention,
    PaddedAttention,
    Slots,
    seen_within,
)
from bertolt.models.losses import next_token_labels
from bertolt.models.outputs import CausalLMOutput, ModelOutput
from bertolt.models.word_heads import LanguageModel, Words
from bertolt.models.writing import Writer, Writing


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
        self.source: EncoderStates | None = None
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
        """Put packed keys and values (T, N, D) behind a layer's own: (B, N, K, D) in all.

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

    def reorder(self, order: Tensor) -> None:
        """Go on with the sequences at (B,), which look at the same encoder states as those before.

        Beams do: they change places among those of one prompt, whose tokens are as many.
        """
        self.lengths, self.positions = self.lengths[order], self.positions[order]
        for blocks in self._blocks.values():
            blocks[:] = [block.index_select(0, order) for block in blocks]

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
class CachedAttend(PaddedAttention):
    """Attention within each sequence, its earlier tokens included, which `cache` remembers."""

    cache: KeyValueCache = field(kw_only=True)

    def blocks(self, layer: int, k: Tensor, v: Tensor) -> KeysValues:
        """Keys and values (B, N, K, D), the new ones (T, N, D) behind the earlier ones."""
        return self.cache.extend(layer, self.keys, k, v, self.allowed.shape[-1])


@dataclass
class EncoderAttention(PaddedAttention):
    """Attention across: each token of sequence b sees all of sequence b of `keys`.

    Attributes:
        remembered: by layer, keys and values that need no projection any more; None: none is kept.
    """

    remembered: dict[int, KeysValues] | None = field(kw_only=True)

    def keys_values(self, layer: int, project: Callable[[], KeysValues]) -> KeysValues:
        """Keys and values of `keys`, projected once where they are remembered."""
        if self.remembered is None:
            return project()
        if layer not in self.remembered:
            self.remembered[layer] = project()
        return self.remembered[layer]


@dataclass(frozen=True)
class EncoderStates:
    """What a decoder looks at: an encoder's hidden states (T, H) and the batch that they are of.

    Attributes:
        hidden, batch: see above.
        padded: where the user's (B, S) has its tokens.
    """

    hidden: Tensor
    batch: PackedBatch
    padded: PaddedLayout


@dataclass
class DecoderPass(ForwardPass):
    """A forward pass that knows more than its new tokens.

    Attributes:
        cross_attentions: to collect maps in, one a layer.
        cache: earlier tokens.
        source: an encoder's.
    """

    cross_attentions: AttentionMaps | None = None
    cache: KeyValueCache | None = None
    source: EncoderStates | None = None

    def attend(
        self, batch: PackedBatch, *, causal: bool, shown: PaddedLayout | None
    ) -> LayerAttention | None:
        """Within each sequence, behind what the cache remembers of it."""
        if self.cache is None:
            return super().attend(batch, causal=causal, shown=shown)
        allowed = seen_within(batch, causal=causal, before=self.cache.lengths)
        return CachedAttend(batch, batch, allowed, self.attentions, shown, cache=self.cache)

    def across(self, batch: PackedBatch) -> CrossAttention | None:
        """To the source, if there is one."""
        if self.source is None:
            return None
        keys = self.source.batch
        column = torch.arange(keys.max_seqlen, device=keys.cu_seqlens.device)
        allowed = (column < keys.lengths[:, None])[:, None, None, :]
        remembered = None if self.cache is None else self.cache.cross
        attend = EncoderAttention(
            batch, keys, allowed, self.cross_attentions, remembered=remembered
        )
        return CrossAttention(self.source.hidden, attend)


class CausalLM(LanguageModel):
    """Which word comes next: no token sees a later one, whatever the config says of `is_decoder`.

    With `config.add_cross_attention`, each layer also looks at `encoder_hidden_states`.
    """

    targets = frozenset({"labels"})
    call_order = (
        *FIRST_INPUTS,
        "encoder_hidden_states",
        "encoder_attention_mask",
        "labels",
        "past_key_values",
        "use_cache",
    )

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config.changed(is_decoder=True))

    def forward(
        self,
        batch: PackedBatch | Tensor | None = None,
        *more: Any,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        past_key_values: KeyValueCache | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        logits: WhichLogits | None = None,
        forward_pass: ForwardPass | None = None,
        **inputs: Unpack[PaddedInputs],
    ) -> Any:
        """As `PreTrainedModel.forward`, and what a decoder knows beside its new tokens.

        Args:
            batch, more: as there.
            encoder_hidden_states: (B, S, H); with a cache, the states it began with or None.
            encoder_attention_mask: (B, S).
            past_key_values: earlier tokens, from an output; it is extended in place.
            use_cache: return the cache.
            output_hidden_states, output_attentions, return_dict, logits, forward_pass: as there.
            inputs: as there. With a cache, `attention_mask` may span the earlier tokens too,
                (B, past + L), and positions go on from them. `labels` are the tokens themselves,
                (B, L) or (T,); the loss compares each with the logits of the token before it.

        Raises:
            UsageError: as there; encoder states for a model without cross-attention; a cache of
                another model, of other sequences or of other encoder states.
            DataError: as there; encoder states or a mask that do not fit.
        """
        own = {
            "encoder_hidden_states": encoder_hidden_states,
            "encoder_attention_mask": encoder_attention_mask,
            "past_key_values": past_key_values,
            "use_cache": use_cache,
        }
        given = {name: value for name, value in own.items() if value is not None}
        named: Any = self.by_place(more, {**inputs, **given})
        hidden, encoder_mask, cache, use_cache = (named.pop(name, None) for name in own)
        if cache is not None:
            self._require_own_cache(cache)
            new = batch if isinstance(batch, Tensor) else named.get("input_ids")
            mask = named.get("attention_mask")
            if isinstance(new, Tensor) and isinstance(mask, Tensor):
                named["attention_mask"], named["position_ids"] = self._new_part(
                    cache, new, mask, named.get("position_ids")
                )
        packed, padded = self.enter(self.inputs_of(batch, **named))
        if use_cache and cache is None:
            cache = KeyValueCache(packed.num_sequences, self.device)
        if cache is not None:
            self._require_no_recomputing()
            placed = named.get("position_ids") is not None
            packed = _behind(cache, packed, given_positions=placed)
            self._require_positions(int(packed.position_ids[: packed.num_tokens].max()) + 1)
        source = self._source(hidden, encoder_mask, packed, cache)
        asked = self.forward_pass(packed, padded, output_hidden_states, output_attentions, logits)
        decoding = DecoderPass(**vars(asked), cache=cache, source=source)
        if (maps := decoding.attentions) is not None:
            slots = None if source is None else Slots.of(source.batch, source.padded)
            decoding.cross_attentions = AttentionMaps(maps.queries, slots)
            if cache is not None and cache.shape is not None:
                maps.keys = None  # keys that the cache had are no columns of this batch
        output = self.leave(self.run(packed, decoding), packed, decoding)
        return output if self.names_fields(return_dict) else output.to_tuple()

    def run(self, batch: PackedBatch, forward_pass: ForwardPass) -> CausalLMOutput:
        """`logits` (num_tokens, V), or of tokens with a labelled successor alone; labels (T,)."""
        hidden, cache = self._read(batch, forward_pass)
        words = Words(hidden[: batch.num_tokens], None)
        if (labels := self.labels_for(batch)) is not None:
            labelled = (labels != IGNORE_INDEX).nonzero().squeeze(1)
            words = Words(words.states, labels[labelled], labelled)
            if forward_pass.labelled_only:
                words = Words(hidden.index_select(0, labelled), labels[labelled])
        logits = self.predict_words(words, forward_pass)
        terms = self.loss_of_words(words, logits, forward_pass)
        return CausalLMOutput(loss_terms=terms, logits=logits, past_key_values=cache)

    def _read(
        self, batch: PackedBatch, forward_pass: ForwardPass
    ) -> tuple[Tensor, KeyValueCache | None]:
        """The hidden states of new tokens (T, H), and the cache that remembers them too by now."""
        hidden = self.base_model.encode(batch, forward_pass)
        cache = forward_pass.cache if isinstance(forward_pass, DecoderPass) else None
        if cache is not None:
            cache.advance(batch)
        return hidden, cache

    def labels_for(self, batch: PackedBatch) -> Tensor | None:
        """Each token's successor: (T,)."""
        return None if batch.labels is None else next_token_labels(batch.labels, batch)

    def leave(
        self, output: ModelOutput, batch: PackedBatch, forward_pass: ForwardPass
    ) -> ModelOutput:
        """As every model, with the maps of cross-attention."""
        assert isinstance(output, CausalLMOutput)
        maps = forward_pass.cross_attentions if isinstance(forward_pass, DecoderPass) else None
        if maps is not None and maps.tensors:
            output.cross_attentions = tuple(maps.tensors)
        return super().leave(output, batch, forward_pass)

    def _new_part(
        self, cache: KeyValueCache, input_ids: Tensor, mask: Tensor, position_ids: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Of a mask (B, past + L) the new columns, and the positions that go on from the old ones.

        A mask of the new tokens alone, or of a wrong shape, is given back as it is.
        """
        past = mask.shape[-1] - input_ids.shape[-1] if mask.dim() == input_ids.dim() == 2 else 0
        if past <= 0:
            return mask, position_ids
        old = mask[:, :past].bool()
        if not torch.equal(old.sum(dim=1), cache.lengths):
            raise DataError(
                f"the first {past} columns of attention_mask are not of the tokens in the cache",
                fix="give the mask of all tokens read so far and of the new ones, or of the new "
                "alone",
            )
        if position_ids is None:
            # As if read at once: padding between the last old token and the new ones counts.
            gap = old.flip(1).int().argmax(dim=1)
            steps = torch.arange(input_ids.shape[1], device=input_ids.device)
            places = (cache.positions + gap)[:, None] + steps
            position_ids = places + self.config.position_offset
        return mask[:, past:], position_ids

    def _require_own_cache(self, cache: object) -> None:
        """Refuse what is no cache, or remembers keys of another shape."""
        config = self.config
        heads = config.num_attention_heads
        shape = (config.num_hidden_layers, heads, config.hidden_size // heads)
        if not isinstance(cache, KeyValueCache):
            problem = f"past_key_values are a {type(cache).__name__}, and no KeyValueCache"
        elif cache.shape not in (None, shape):
            problem = (
                f"the cache is of another model: its layers, heads and head size are "
                f"{cache.shape}, and this model's {shape}"
            )
        else:
            return
        raise UsageError(problem, fix="give past_key_values of an output of this model")

    def _require_no_recomputing(self) -> None:
        encoder = self.base_model.encoder
        if encoder.gradient_checkpointing and encoder.training and torch.is_grad_enabled():
            raise UsageError(
                "gradient checkpointing computes layers again, and a cache would then hold their "
                "tokens twice",
                fix="leave use_cache and past_key_values out while training",
            )

    def _require_positions(self, needed: int) -> None:
        limit = self.config.max_tokens
        if needed > limit:
            raise UsageError(
                f"{needed} positions are more than the position table of {limit}",
                fix="write fewer new tokens, or shorten the prompt",
            )

    def _source(
        self,
        hidden: Tensor | None,
        mask: Tensor | None,
        batch: PackedBatch,
        cache: KeyValueCache | None,
    ) -> EncoderStates | None:
        """What to look at across: what is given, or what the cache began with."""
        if hidden is None:
            if mask is not None:
                raise UsageError(
                    "encoder_attention_mask was given without encoder_hidden_states",
                    fix="give both, or none behind a cache: it remembers them",
                )
            return None if cache is None else cache.source
        if not self.config.add_cross_attention:
            raise UsageError(
                "encoder_hidden_states were given, and the model has no cross-attention",
                fix="build it with add_cross_attention=True",
            )
        mask = self._encoder_mask(hidden, mask, batch.num_sequences)
        packed, padded = PackedBatch.from_padded(mask.long(), mask)
        table = self.base_model.embeddings.word_embeddings.weight
        # Without filler rows: nobody computes on all of them at once.
        states = hidden.to(table.dtype).flatten(0, 1).index_select(0, padded.where)
        source = EncoderStates(states, packed, padded)
        if cache is None:
            return source
        if cache.shape is None:
            cache.source = source
        elif cache.source is None or not _same(cache.source, source):
            raise UsageError(
                "the cache began with other encoder_hidden_states",
                fix="leave them out: the cache remembers them; or begin without past_key_values",
            )
        return cache.source

    def _encoder_mask(self, hidden: Tensor, mask: Tensor | None, size: int) -> Tensor:
        """(B, S) True where the encoder has a token, for states that fit."""
        shape = tuple(hidden.shape)
        width = self.config.hidden_size
        if len(shape) != 3 or shape[0] != size or shape[1] == 0 or shape[2] != width:
            raise DataError(
                f"encoder_hidden_states have the shape {shape}, and ({size}, S, {width}) is needed",
                fix="give the last_hidden_state of a padded batch of as many sequences, from an "
                "encoder of the same width",
            )
        if mask is None:
            return torch.ones(shape[:2], dtype=torch.bool, device=hidden.device)
        if mask.shape != shape[:2]:
            raise DataError(
                f"encoder_attention_mask has the shape {tuple(mask.shape)}, and {shape[:2]} is "
                "needed",
                fix="give the attention_mask that the encoder was given",
            )
        real = mask.bool()
        if not bool(real.any(dim=1).all()):
            row = int((~real.any(dim=1)).nonzero()[0])
            raise DataError(
                f"row {row} of encoder_attention_mask has no token", fix="leave the row out"
            )
        return real

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        token_type_ids: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        **options: Any,
    ) -> Any:
        """Go on with each prompt, one token at a time, in evaluation mode (restored afterwards).

        Args:
            input_ids, attention_mask, token_type_ids: (B, L), padded on either side.
            encoder_hidden_states, encoder_attention_mask: as in `forward`.
            options: as `Writing` has them: how much to write, how to choose, what not to write,
                where to end, and what to return.

        Returns:
            (B, L + new) ids: the prompts as they came, then what was written; with several texts of
            each prompt (B times as many, L + new), those of a prompt one after another; a
            `GenerationOutput` on request.

        Raises:
            UsageError: settings that cannot be or that there are not, or more tokens than the model
                has positions.
            DataError: prompts that are no tensor (B, L), or do not fit the model.
            CheckpointError: the head is not trained: the checkpoint lacked it.
            BertoltError: logits that are not finite.
        """
        input_ids = options.pop("inputs", None) if input_ids is None else input_ids
        asked = Writing.of(options)
        self.require_trained("writing text")
        prompts = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
        }
        batch, _ = self.enter(self.inputs_of(None, **prompts))
        prompts = {name: _each(value, asked.repeats) for name, value in prompts.items()}
        if asked.repeats > 1:
            batch, _ = self.enter(self.inputs_of(None, **prompts))
        ids, mask = prompts["input_ids"], prompts["attention_mask"]
        assert ids is not None
        cache = KeyValueCache(batch.num_sequences, self.device)
        states = _each(encoder_hidden_states, asked.repeats)
        source = self._source(states, _each(encoder_attention_mask, asked.repeats), batch, cache)
        writer = Writer(
            _Reader(self, batch, DecoderPass(cache=cache, source=source), cache),
            asked,
            ids,
            torch.zeros_like(ids, dtype=torch.bool) if mask is None else ~mask.bool(),
            self.config.vocab_size,
            self.config.pad_token_id,
        )
        self._require_positions(int(batch.position_ids[: batch.num_tokens].max()) + writer.budget)
        with evaluating(self):
            written = writer.write()
        return written if asked.return_dict_in_generate else written.sequences

    def next_logits(self, batch: PackedBatch, forward_pass: ForwardPass) -> Tensor:
        """(B, V) logits of the token behind each sequence."""
        hidden, _ = self._read(batch, forward_pass)
        last = hidden.index_select(0, batch.cu_seqlens[1:].long() - 1)
        logits: Tensor = self.words_head(last)
        return logits.float()


@dataclass
class _Reader:
    """Reads prompts, then one token for each row after another."""

    model: CausalLM
    batch: PackedBatch
    forward_pass: DecoderPass
    cache: KeyValueCache

    def __call__(self, token: Tensor | None, order: Tensor | None) -> Tensor:
        """(R, V) logits of the next token of each row, of rows that `order` (R,) picks first."""
        if order is not None:
            self.cache.reorder(order)
        if token is not None:
            self.batch = _one_each(token, self.batch, self.cache)
        return self.model.next_logits(self.batch, self.forward_pass)


def _behind(cache: KeyValueCache, batch: PackedBatch, *, given_positions: bool) -> PackedBatch:
    """The batch with positions that go on from the cache."""
    if cache.lengths.numel() != batch.num_sequences:
        raise UsageError(
            f"the cache is of {cache.lengths.numel()} sequences, and the batch has "
            f"{batch.num_sequences}",
            fix="go on with the batch that the cache was made with",
        )
    if given_positions:
        return batch
    position_ids = batch.position_ids.clone()
    position_ids[: batch.num_tokens] += cache.positions[batch.sequence]
    return replace(batch, position_ids=position_ids)


def _each(rows: Tensor | None, count: int) -> Tensor | None:
    """Each row (B, …) so many times, one after another: (B·count, …)."""
    return rows if rows is None or count == 1 else rows.repeat_interleave(count, dim=0)


def _same(one: EncoderStates, other: EncoderStates) -> bool:
    """Whether both show a decoder the same."""
    return torch.equal(one.batch.cu_seqlens, other.batch.cu_seqlens) and torch.equal(
        one.hidden, other.hidden
    )


def _one_each(token: Tensor, batch: PackedBatch, cache: KeyValueCache) -> PackedBatch:
    """A packed batch of one new token (B,) for each sequence of `batch`, in its last segment.

    Nothing in here has to be waited for on a GPU.
    """
    size = token.numel()
    last = batch.cu_seqlens[1:].long() - 1
    return PackedBatch(
        input_ids=F.pad(token, (0, 1)),
        token_type_ids=F.pad(batch.token_type_ids[last], (0, 1)),
        position_ids=F.pad(cache.positions, (0, 1)),
        cu_seqlens=torch.arange(size + 1, dtype=torch.int32, device=token.device),
        max_seqlen=1,
        num_tokens=size,
    )


AutoModelForCausalLM = CausalLM
"""The decoder as the folder's family has it."""
