"""The heads over the vocabulary: words at masked places, and what families make of them.

Shapes: B sequences, T packed tokens, H hidden, V vocabulary, M labelled tokens.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from bertolt.data.batch import PackedBatch, padded_rows
from bertolt.models.config import BertConfig
from bertolt.models.doors import FIRST_INPUTS
from bertolt.models.forward_pass import ForwardPass, OutputRows
from bertolt.models.heads import Head
from bertolt.models.losses import LossTerm, token_loss
from bertolt.models.outputs import TokenOutput


class Words(NamedTuple):
    """What a head over the vocabulary reads.

    Attributes:
        states: (M, H) of the labelled tokens, or (num_tokens, H) of all.
        labels: (M,) of the labelled tokens; None: there are none.
        labelled: (M,) rows of `states` that have the labels; None: all.
    """

    states: Tensor
    labels: Tensor | None
    labelled: Tensor | None = None


class LanguageModel(Head):
    """A head over the vocabulary: its ties, and a decoder that reads labelled tokens alone.

    A family says how its head is built and found, and names the parameters of the decoder's weight
    and bias in `_tied_weights_keys`.
    """

    labels_per_token = True
    logits_per_token = True
    chooses_logits = True
    reads_places = True
    graph_outputs = ("logits",)
    words_name: ClassVar[str] = "logits"
    """Of the output's field that has the logits over the vocabulary."""

    def __init__(self, config: BertConfig, *, pooler: bool = False) -> None:
        super().__init__(config)
        self.add_backbone(pooler=pooler)
        self.add_words_head()
        self.init_weights()

    @abc.abstractmethod
    def add_words_head(self) -> None:
        """Build what leads from hidden states to the vocabulary."""

    @property
    @abc.abstractmethod
    def words_head(self) -> Any:
        """The module from hidden states (…, H) to logits (…, V)."""

    @abc.abstractmethod
    def get_output_embeddings(self) -> nn.Linear:
        """The layer from hidden states to the vocabulary."""

    def tied_weights(self) -> dict[str, str]:
        """The decoder's bias has two names in any case, its weight is tied by the config."""
        tied = self._tied_weights_keys
        if self.config.tie_word_embeddings:
            return dict(tied)
        return {key: source for key, source in tied.items() if "word_embeddings" not in source}

    def labelled_only(self, batch: PackedBatch) -> bool:
        """With labels, there are logits for the labelled tokens alone."""
        return batch.labels is not None

    def encode_words(
        self, batch: PackedBatch, forward_pass: ForwardPass, *beside: Tensor
    ) -> tuple[Words, list[Tensor]]:
        """The hidden states that the heads read; the last layer computes no others.

        Args:
            batch: of B sequences.
            forward_pass: to be passed on.
            beside: (R,) more rows that are read.

        Returns:
            The words, and the (R, H) of `beside`.
        """
        labelled = batch.labelled_rows
        labels = None if labelled is None else batch.labels[labelled]  # type: ignore[index]
        if labelled is None or not forward_pass.labelled_only:
            hidden = self.base_model.encode(batch, forward_pass)
            others = [hidden.index_select(0, each) for each in beside]
            return Words(hidden[: batch.num_tokens], labels, labelled), others
        counts = [len(labelled), *map(len, beside)]
        rows = torch.cat([labelled, *beside])
        # Their number differs from batch to batch, and kernels want few shapes.
        rows = nn.functional.pad(rows, (0, padded_rows(len(rows)) - len(rows)))
        hidden = self.base_model.encode(batch, forward_pass, only=OutputRows(rows))
        words, *others = torch.split(hidden[: sum(counts)], counts)
        return Words(words, labels), others

    def graph_fields(
        self, batch: PackedBatch, forward_pass: ForwardPass, places: Tensor | None
    ) -> dict[str, Tensor]:
        """`logits` (M, V) of the tokens at `places`: those of all would fill the memory."""
        assert places is not None
        states = self.base_model.encode(batch, forward_pass, OutputRows(places))
        return {"logits": self.words_head(states)}

    def output_of(self, fields: Mapping[str, Tensor], batch: PackedBatch) -> TokenOutput:
        """As `run`, of logits (M, V) of the labelled tokens, or of all, that are there."""
        logits, labelled, terms = fields["logits"].float(), batch.labelled_rows, {}
        if labelled is not None and batch.labels is not None:
            terms = {"labels": token_loss(logits, batch.labels[labelled])}
        return TokenOutput(loss_terms=terms, logits=logits)

    def predict_words(self, words: Words, forward_pass: ForwardPass) -> Tensor:
        """Logits over the vocabulary, (M, V) or (num_tokens, V)."""
        if forward_pass.labelled_only and words.labels is not None:
            logits: Tensor = self.words_head(words.states)
            return logits
        return forward_pass.call(self.words_head, words.states)

    def loss_of_words(
        self, words: Words, logits: Tensor, forward_pass: ForwardPass
    ) -> dict[str, LossTerm]:
        """The loss of the labelled words; none without labels."""
        if words.labels is None:
            return {}
        if words.labelled is not None:
            logits = forward_pass.hand_out(self.words_name, logits, words.labelled)
        return {"labels": token_loss(logits, words.labels)}


class MaskedLM(LanguageModel):
    """Which word stood at a masked place."""

    targets = frozenset({"labels"})
    replayable = True
    # The peer has the states of an encoder before the labels; they are refused by their name.
    call_order = (*FIRST_INPUTS, "encoder_hidden_states", "encoder_attention_mask", "labels")

    def run(self, batch: PackedBatch, forward_pass: ForwardPass) -> TokenOutput:
        """`logits` (num_tokens, V), or of the labelled tokens alone (M, V); labels (T,)."""
        words, _ = self.encode_words(batch, forward_pass)
        logits = self.predict_words(words, forward_pass)
        terms = self.loss_of_words(words, logits, forward_pass)
        return TokenOutput(loss_terms=terms, logits=logits)


# Opened or built, it gives the class that the family of the folder or config has for the head.
AutoModelForMaskedLM = MaskedLM
