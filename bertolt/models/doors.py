"""How every model is called: its two doors, and what it takes to learn from.

A packed batch goes through the model as it is; a padded one of (B, L) is packed on its way in, and
what comes out is laid out as it came.

Shapes: B sequences, T packed tokens, L padded length, H hidden, V vocabulary, M labelled tokens.
"""

from __future__ import annotations

import abc
import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypedDict, Unpack, get_args

import torch
from torch import Tensor

from bertolt.base.errors import DataError, KeywordError, UsageError, meant
from bertolt.checkpoint.loadable import Loadable
from bertolt.data.batch import TARGETS, PackedBatch, PaddedLayout
from bertolt.data.long import POOLED
from bertolt.models.config import BertConfig
from bertolt.models.forward_pass import EncoderLayers, ForwardPass, HiddenStates
from bertolt.models.layer_attention import AttentionMaps, Slots
from bertolt.models.losses import count_labels, mean_loss
from bertolt.models.outputs import ModelOutput
from bertolt.models.resize import follow_table

INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids", "inputs_embeds")
FIRST_INPUTS = INPUTS[1:]
"""What follows `input_ids` in the call of each model, before its targets."""
NOT_TAKEN = {
    "head_mask": "leave it out; to silence a head, zero its columns of attention.output.dense",
    "encoder_hidden_states": "build a decoder: BertLMHeadModel with add_cross_attention=True",
    "encoder_attention_mask": "build a decoder: BertLMHeadModel with add_cross_attention=True",
    "past_key_values": "build a decoder: BertLMHeadModel",
    "use_cache": "build a decoder: BertLMHeadModel",
    "cache_position": "leave it out: positions go on from the cache by themselves",
    "logits_to_keep": "cut the logits: out.logits[:, -n:]",
    "num_items_in_batch": "put loss_counts into a PackedBatch, as bertolt.train_step does",
}
"""Arguments of the peer's models, and what to write instead; None of them is as good as leaving
it out."""
WhichLogits = Literal["all", "labelled"]


class PaddedInputs(TypedDict, total=False):
    """The tensors of a padded call, and the targets that its loss compares with.

    Attributes:
        input_ids, attention_mask, token_type_ids: (B, L).
        position_ids: (B, L) rows of the position table; by default, each token's is its column's.
        inputs_embeds: (B, L, H) in place of `input_ids` and their rows of the word table.
        labels, next_sentence_label, start_positions, end_positions: as far as the model has such a
            target; see `PackedBatch`.
    """

    input_ids: Tensor | None
    attention_mask: Tensor | None
    token_type_ids: Tensor | None
    position_ids: Tensor | None
    inputs_embeds: Tensor | None
    labels: Tensor | None
    next_sentence_label: Tensor | None
    start_positions: Tensor | None
    end_positions: Tensor | None


class TwoDoors(Loadable):
    """A model by its two doors; `run` is what each kind of model does between them."""

    config: BertConfig

    def __init_subclass__(cls, **named: Any) -> None:
        """A class with a `forward` of its own learns from what is called like a target there."""
        super().__init_subclass__(**named)
        if "forward" in vars(cls) and not cls.targets:
            inputs = inspect.signature(vars(cls)["forward"]).parameters
            cls.targets = frozenset(inputs) & frozenset(TARGETS)

    targets: ClassVar[frozenset[str]] = frozenset()
    """Arguments of a call that the loss compares with."""
    outputs_have_names: ClassVar[bool] = False
    """Whether `id2label` of the config names what comes out."""
    labels_per_token: ClassVar[bool] = False
    """Whether `labels` has an entry for each token, (B, L) or (T,)."""
    logits_per_token: ClassVar[bool] = False
    """Whether `logits_of` gives an entry for each token."""
    logits_per_choice: ClassVar[bool] = False
    """Whether `logits_of` gives a row for each example, with a column for each of its sequences."""
    reads_documents: ClassVar[bool] = False
    """Whether sequences may be windows of one document, with one output together."""
    windows_answer: ClassVar[str] = POOLED
    """How they do, as the contract of a model keeps it."""
    answers_with_ends: ClassVar[bool] = False
    """Whether `logits_of` and `labels_for` have two last columns, an answer's start and its end."""
    replayable: ClassVar[bool] = False
    """Whether the loss of a batch goes by the shapes of its tensors, and asks nothing else of the
    host: then steps on a GPU can be captured."""
    reads_places: ClassVar[bool] = False
    """Whether a graph of it is told the tokens that it gives logits for."""
    graph_outputs: ClassVar[tuple[str, ...]] = ()
    """Which outputs of a graph of it an answer is made of; empty: nobody knows."""
    chooses_logits: ClassVar[bool] = False
    """Whether a call may ask for the logits of all tokens, or of the labelled ones alone."""
    call_order: ClassVar[tuple[str, ...]] = FIRST_INPUTS
    """What follows `input_ids` in a call without names, as in the peer's."""

    def forward(
        self,
        batch: PackedBatch | Tensor | None = None,
        *more: Tensor | None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        logits: WhichLogits | None = None,
        forward_pass: ForwardPass | None = None,
        **inputs: Unpack[PaddedInputs],
    ) -> Any:
        """Run the model on a packed batch, or on a padded one of shape (B, L).

        Args:
            batch: packed, with its targets; or `input_ids`.
            more: what follows `input_ids` where it is given by its place, see `call_order`.
            output_hidden_states, output_attentions: put them into the output too; None: as the
                config says.
            return_dict: False for a plain tuple.
            logits: of a head over the vocabulary that gets labels: "all", which a padded call gets
                without asking, (B, L, V) or (num_tokens, V); "labelled", which a packed call gets
                without asking, for the M labelled tokens alone, (M, V), in less time and memory.
            forward_pass: that a head around this model has begun.
            inputs: `input_ids`, `attention_mask`, `labels` and what else `PaddedInputs` has, for
                the padded door.

        Returns:
            The output of this class's `run`; for a padded batch, what there is for each token is
            laid out as (B, L, …), with zeros at the padding; logits of spans are the lowest there.
            Hidden states and attention maps are part of the graph that leads to the loss.

        Raises:
            UsageError: neither door or both, a target that this model does not have, or a text
                longer than the position table.
            DataError: ids or labels that do not fit the model.
        """
        if forward_pass is not None:
            assert isinstance(batch, PackedBatch)
            return self.leave(self.run(batch, forward_pass), batch, forward_pass)
        packed, padded = self.enter(self.inputs_of(batch, *more, **inputs))
        forward_pass = self.forward_pass(
            packed, padded, output_hidden_states, output_attentions, logits
        )
        output = self.leave(self.run(packed, forward_pass), packed, forward_pass)
        return output if self.names_fields(return_dict) else output.to_tuple()

    def names_fields(self, return_dict: bool | None) -> bool:
        """Whether a call returns an output and no tuple: as asked for, else as the config says."""
        return self.config.use_return_dict if return_dict is None else return_dict

    def answer(self, batch: PackedBatch, encoder: EncoderLayers) -> ModelOutput:
        """As a call with a packed batch; frozen layers stand in for the encoder's own.

        Args:
            batch: of B sequences, with or without targets.
            encoder: layers of this very model, from `bertolt.models.frozen`; for `inference_mode`.
        """
        packed, _ = self.enter(batch)
        forward_pass = ForwardPass(encoder=encoder)
        return self.leave(self.run(packed, forward_pass), packed, forward_pass)

    def forward_pass(
        self,
        batch: PackedBatch,
        padded: PaddedLayout | None,
        hidden_states: bool | None,
        attentions: bool | None,
        logits: WhichLogits | None,
    ) -> ForwardPass:
        """Collecting on its way what is asked for, else what the config says.

        Raises:
            UsageError: `logits` that this model does not choose between.
        """
        config = self.config
        states = config.output_hidden_states if hidden_states is None else hidden_states
        maps = config.output_attentions if attentions is None else attentions
        slots = Slots.of(batch, padded) if maps and padded is not None else None
        if logits is not None:
            self._require_choice(logits)
        return ForwardPass(
            hidden_states=HiddenStates(batch.num_tokens, padded) if states else None,
            attentions=AttentionMaps(slots, slots) if maps else None,
            padded=padded,
            labelled_only=logits == "labelled" or (logits is None and padded is None),
        )

    def _require_choice(self, logits: object) -> None:
        choices = get_args(WhichLogits)
        if not self.chooses_logits:
            problem, fix = f"{type(self).__name__} has no logits to choose from", "leave logits out"
        elif logits not in choices:
            problem, fix = f"logits is {logits!r}", f"use one of {', '.join(choices)}"
        else:
            return
        raise UsageError(problem, fix=fix)

    @abc.abstractmethod
    def run(self, batch: PackedBatch, forward_pass: ForwardPass) -> ModelOutput:
        """Outputs and loss of a packed batch; `forward_pass` collects what else was asked for."""

    def graph_fields(
        self, batch: PackedBatch, forward_pass: ForwardPass, places: Tensor | None
    ) -> dict[str, Tensor]:
        """What a graph of this model gives for a batch without targets, by the names it has there.

        Args:
            batch, forward_pass: as of `run`.
            places: (M,) rows of the tokens that are read, where the model `reads_places`.
        """
        return dict(self.run(batch, forward_pass))

    def answering_outputs(self, *, windows: bool) -> tuple[str, ...]:
        """The outputs of a graph that answers are made of; empty: nobody knows.

        Args:
            windows: whether texts beyond the limit are read in several.
        """
        return self.graph_outputs

    def read_graph(self, fields: Mapping[str, Tensor], batch: PackedBatch) -> ModelOutput:
        """The output, with its loss terms, of what a graph of this model gave.

        Args:
            fields: by name, as `graph_fields` has them, of tokens as (num_tokens, …).
            batch: that was answered, on the CPU.
        """
        return self.output_of(fields, batch)

    def output_of(self, fields: Mapping[str, Tensor], batch: PackedBatch) -> ModelOutput:
        """As `run`, of outputs that are there.

        Raises:
            UsageError: the model has no head.
        """
        raise UsageError(
            f"{type(self).__name__} has no head that answers", fix="take a model with a head"
        )

    def inputs_of(
        self,
        batch: PackedBatch | Tensor | None,
        /,
        *more: Tensor | None,
        **inputs: Unpack[PaddedInputs],
    ) -> PackedBatch | dict[str, Any]:
        """What a call brings, by one of the model's two doors.

        Returns:
            The packed batch, or the tensors of the padded one by name, without those that are None.

        Raises:
            UsageError: neither door or both, or a name that `PaddedInputs` does not have.
        """
        named = self.by_place(more, inputs)
        names = list(PaddedInputs.__annotations__)
        present = {name: value for name, value in named.items() if value is not None}
        for name in named:
            absent = name not in present and name in NOT_TAKEN
            if name not in names and not absent:
                usual = meant(name, names, f"it takes {', '.join(names)}")
                raise KeywordError(
                    f"{type(self).__name__} takes no {name!r}", fix=NOT_TAKEN.get(name, usual)
                )
        words = [name for name in ("input_ids", "inputs_embeds") if name in present]
        if isinstance(batch, PackedBatch) and "input_ids" not in present:
            for name in present:
                raise UsageError(
                    f"{name} was given beside a PackedBatch", fix="put it into the batch"
                )
            return batch
        if (batch is not None) + len(words) != 1:
            raise UsageError(
                f"{type(self).__name__} takes a PackedBatch or input_ids, one of the two"
                if "inputs_embeds" not in words
                else f"{type(self).__name__} takes input_ids or inputs_embeds, one of the two"
            )
        return present if batch is None else {"input_ids": batch, **present}

    def by_place(self, more: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
        """What a call brings behind `input_ids`, all by name.

        Raises:
            UsageError: more than the model takes, or one of them twice.
        """
        if len(more) > len(self.call_order):
            raise UsageError(
                f"{type(self).__name__} got {len(more) + 1} inputs, and takes "
                f"{len(self.call_order) + 1}",
                fix=f"their order is input_ids, {', '.join(self.call_order)}",
            )
        placed = dict(zip(self.call_order, more, strict=False))
        for name in placed.keys() & named.keys():
            raise UsageError(f"{name} was given by its place and by its name", fix="give it once")
        return {**placed, **named}

    def enter(
        self,
        inputs: PackedBatch | dict[str, Any],
        *,
        num_choices: int = 1,
        group_starts: Tensor | None = None,
    ) -> tuple[PackedBatch, PaddedLayout | None]:
        """Take a packed batch as it is, or pack a padded one.

        Args:
            inputs: the one, or the tensors of the other by name.
            num_choices, group_starts: of a padded batch, as `PackedBatch` has them.

        Raises:
            UsageError, DataError: as in `forward`.
        """
        follow_table(self)
        if isinstance(inputs, PackedBatch):
            batch, padded = inputs, None
        else:
            self._require_own(inputs.keys() - set(INPUTS))
            if "position_ids" in inputs and self.config.position_offset:
                # Given as rows of the table, and packed as places within each sequence.
                places = inputs["position_ids"] - self.config.position_offset
                inputs = {**inputs, "position_ids": places}
            self._require_width(inputs.get("inputs_embeds"))
            batch, padded = PackedBatch.from_padded(
                **inputs,
                labels_per_token=self.labels_per_token,
                num_choices=num_choices,
                group_starts=group_starts,
            )
        self.check_targets(batch)
        if batch.max_seqlen > self.config.max_tokens:
            raise UsageError(
                f"a text of {batch.max_seqlen} tokens is longer than the position table of "
                f"{self.config.max_tokens}",
                fix="truncate it: tokenizer(..., truncation=True)",
            )
        return batch, padded

    def _require_width(self, embeds: Tensor | None) -> None:
        width = self.config.hidden_size
        if embeds is not None and embeds.shape[-1:] != (width,):
            raise DataError(
                f"inputs_embeds have the shape {tuple(embeds.shape)}, and (B, L, {width}) is "
                "needed",
                fix="give what model.get_input_embeddings()(input_ids) gives",
            )

    def check_targets(self, batch: PackedBatch) -> None:
        """Refuse targets that this model does not have, or of another shape.

        Raises:
            UsageError: a target of another model.
            DataError: not one for each sequence, example or token.
        """
        given = {name: getattr(batch, name) for name in TARGETS}
        given = {name: value for name, value in given.items() if value is not None}
        if not self.targets:
            return  # an encoder without a head takes any batch, and leaves its labels alone
        self._require_own(given.keys())
        for name, value in given.items():
            whole = name == "labels" and self.labels_per_token
            rows, what = batch.num_examples, "example"
            if whole:
                rows, what = batch.input_ids.shape[0], "packed row"
            if value.dim() == 0 or value.shape[0] != rows or (whole and value.dim() != 1):
                raise DataError(
                    f"{name} have the shape {tuple(value.shape)}, and one for each {what} is "
                    f"needed: {rows:,}",
                    fix="labels of tokens: PackingCollator(token_labels=True)"
                    if self.labels_per_token
                    else "give each text its own",
                )

    def _require_own(self, names: Iterable[str]) -> None:
        if foreign := sorted(set(names) - self.targets):
            raise UsageError(
                f"{type(self).__name__} has no {foreign[0]} to learn from",
                fix=f"it takes {', '.join(sorted(self.targets)) or 'no targets at all'}",
            )

    def count_targets(self, batch: PackedBatch) -> dict[str, int]:
        """How many labels each term of the loss is a mean of."""
        labels = self.labels_for(batch)
        return {} if labels is None else {"labels": count_labels(labels)}

    def leave(
        self, output: ModelOutput, batch: PackedBatch, forward_pass: ForwardPass
    ) -> ModelOutput:
        """Put loss and what was collected into the output; lay all out as the batch came in."""
        if output.loss_terms:
            output.loss = mean_loss(output.loss_terms, batch.loss_counts)  # type: ignore[attr-defined]
        if output.loss_terms or not self.targets:
            # What an encoder gives, a class around it makes a loss of.
            self.has_learned |= self.training and torch.is_grad_enabled()
        states, maps = forward_pass.hidden_states, forward_pass.attentions
        output.hidden_states = None if states is None else tuple(states.tensors)
        output.attentions = None if maps is None else tuple(maps.tensors)
        padded = forward_pass.padded
        if padded is None or (forward_pass.labelled_only and self.labelled_only(batch)):
            return output
        for name in output.per_token:
            value = getattr(output, name)
            if name in forward_pass.outputs:
                setattr(output, name, forward_pass.outputs[name])
            elif value is not None:
                setattr(output, name, padded.unpack(value, output.at_padding(value.dtype)))
        return output

    def labelled_only(self, batch: PackedBatch) -> bool:
        """Whether there are outputs for the labelled tokens alone, by the packed door."""
        return False

    def logits_of(self, output: Any) -> Tensor:
        """What a prediction is made from: (B, …), or (num_tokens, …) for outputs of tokens."""
        logits: Tensor = output.logits
        return logits

    def labels_for(self, batch: PackedBatch) -> Tensor | None:
        """What these logits are compared with: (B, …), or (T,) for labels of tokens."""
        return batch.labels
