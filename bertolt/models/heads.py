"""The heads: what stands on the backbone for each task.

Each `run` takes a packed batch; `PreTrainedModel.forward` is the door before it. A head's loss is
there when the batch has what it compares with.

Shapes: B sequences, T packed tokens, H hidden, V vocabulary, C classes, M labelled tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bertolt.base.errors import DataError, UsageError
from bertolt.data.batch import PackedBatch, PaddedLayout, padded_rows
from bertolt.models.bert import ACTIVATIONS, BertModel
from bertolt.models.config import BertConfig
from bertolt.models.dropout import Dropout
from bertolt.models.forward_pass import ForwardPass, OutputRows
from bertolt.models.losses import (
    LossTerm,
    count_labels,
    inside,
    problem_type,
    sequence_loss,
    span_loss,
    token_loss,
)
from bertolt.models.outputs import (
    BertForPreTrainingOutput,
    MaskedLMOutput,
    MultipleChoiceModelOutput,
    NextSentencePredictorOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from bertolt.models.pretrained import INPUTS, PaddedInputs, PreTrainedModel


def _classifier_dropout(config: BertConfig) -> Dropout:
    share = config.classifier_dropout
    return Dropout(config.hidden_dropout_prob if share is None else share)


class BertForSequenceClassification(PreTrainedModel):
    """One label (or several, or numbers) for each text, from its pooled first token."""

    base_model_prefix = "bert"
    targets = frozenset({"labels"})
    replayable = True

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.bert = BertModel(config)
        self.dropout = _classifier_dropout(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.init_weights()

    def run(self, batch: PackedBatch, forward_pass: ForwardPass) -> SequenceClassifierOutput:
        """`logits` (B, C); labels (B,), (B, C) as the declared problem type needs them.

        Raises:
            DataError: labels that the declared problem type does not fit.
        """
        pooled = self.bert.pool_first(batch, forward_pass)
        logits = self.classifier(self.dropout(pooled)).float()
        terms = {}
        if batch.labels is not None:
            terms["labels"] = sequence_loss(logits, batch.labels, problem_type(self.config))
        return SequenceClassifierOutput(loss_terms=terms, logits=logits)

    def count_targets(self, batch: PackedBatch) -> dict[str, int]:
        """Numbers all count; of classes, those that are not ignored."""
        if problem_type(self.config) == "single_label_classification" or batch.labels is None:
            return super().count_targets(batch)
        return {"labels": batch.num_sequences}


class BertForTokenClassification(PreTrainedModel):
    """One label for each token."""

    base_model_prefix = "bert"
    targets = frozenset({"labels"})
    replayable = True
    labels_per_token = True
    logits_per_token = True

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.bert = BertModel(config, add_pooling_layer=False)
        self.dropout = _classifier_dropout(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.init_weights()

    def run(self, batch: PackedBatch, forward_pass: ForwardPass) -> TokenClassifierOutput:
        """`logits` (num_tokens, C); labels (T,)."""
        hidden = self.bert.encode(batch, forward_pass)
        logits = self.classifier(self.dropout(hidden)).float()
        terms = {} if batch.labels is None else {"labels": token_loss(logits, batch.labels)}
        return TokenClassifierOutput(loss_terms=terms, logits=logits[: batch.num_tokens])


class BertForQuestionAnswering(PreTrainedModel):
    """Where in its sequence an answer begins and ends."""

    base_model_prefix = "bert"
    targets = frozenset({"start_positions", "end_positions"})
    logits_per_token = True

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.bert = BertModel(config, add_pooling_layer=False)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.init_weights()

    def run(self, batch: PackedBatch, forward_pass: ForwardPass) -> QuestionAnsweringModelOutput:
        """`start_logits` and `end_logits` (num_tokens,).

        The loss compares each end with the other tokens of its own sequence; padding never takes
        part in it.
        """
        hidden = self.bert.encode(batch, forward_pass)
        ends = self.qa_outputs(hidden).float()[: batch.num_tokens]
        start, end = ends.unbind(-1)
        terms = {}
        if batch.start_positions is not None and batch.end_positions is not None:
            terms["start_positions"] = span_loss(start, batch.start_positions, batch).scaled(0.5)
            terms["end_positions"] = span_loss(end, batch.end_positions, batch).scaled(0.5)
        return QuestionAnsweringModelOutput(loss_terms=terms, start_logits=start, end_logits=end)

    def count_targets(self, batch: PackedBatch) -> dict[str, int]:
        """Each end by itself."""
        ends = {"start_positions": batch.start_positions, "end_positions": batch.end_positions}
        return {
            name: count_labels(inside(places, batch))
            for name, places in ends.items()
            if places is not None
        }

    def check_targets(self, batch: PackedBatch) -> None:
        """As every model, and the two ends come together."""
        super().check_targets(batch)
        if (batch.start_positions is None) != (batch.end_positions is None):
            raise UsageError(
                "one end of the answers was given, and not the other",
                fix="give start_positions and end_positions, or neither",
            )

    def logits_of(self, output: Any) -> Tensor:
        """Both ends: (num_tokens, 2)."""
        return torch.stack([output.start_logits, output.end_logits], dim=-1)

    def labels_for(self, batch: PackedBatch) -> Tensor | None:
        """Both places: (B, 2)."""
        if batch.start_positions is None or batch.end_positions is None:
            return None
        return torch.stack([batch.start_positions, batch.end_positions], dim=-1)


class BertForMultipleChoice(PreTrainedModel):
    """Which of several sequences is the right one."""

    base_model_prefix = "bert"
    targets = frozenset({"labels"})
    replayable = True

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.bert = BertModel(config)
        self.dropout = _classifier_dropout(config)
        self.classifier = nn.Linear(config.hidden_size, 1)
        self.init_weights()

    def enter(
        self, inputs: PackedBatch | PaddedInputs, *, num_choices: int = 1
    ) -> tuple[PackedBatch, PaddedLayout | None]:
        """As every model, and a padded batch has one more dimension: (B, choices, L)."""
        if isinstance(inputs, PackedBatch):
            return super().enter(inputs)
        tensors = {name: inputs[name] for name in INPUTS if name in inputs}
        for name, value in tensors.items():
            if not isinstance(value, Tensor) or value.dim() != 3:
                found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise DataError(
                    f"{name}: {found}, and a tensor of (B, choices, L) is needed",
                    fix="stack the choices of each example in the second dimension",
                )
        flat = {name: value.flatten(0, 1) for name, value in tensors.items()}
        return super().enter({**inputs, **flat}, num_choices=inputs["input_ids"].shape[1])

    def run(self, batch: PackedBatch, forward_pass: ForwardPass) -> MultipleChoiceModelOutput:
        """`logits` (B / num_choices, num_choices); labels (B / num_choices,).

        Raises:
            DataError: the sequences are not a whole number of examples.
        """
        if batch.num_choices < 2 or batch.num_sequences % batch.num_choices:
            raise DataError(
                f"{batch.num_sequences} sequences are no examples of {batch.num_choices} choices",
                fix="give every example the same number of choices, two or more: rows of lists, or "
                "num_choices of the batch",
            )
        pooled = self.bert.pool_first(batch, forward_pass)
        logits = self.classifier(self.dropout(pooled)).float().view(-1, batch.num_choices)
        terms = {} if batch.labels is None else {"labels": token_loss(logits, batch.labels)}
        return MultipleChoiceModelOutput(loss_terms=terms, logits=logits)


class BertForNextSentencePrediction(PreTrainedModel):
    """Whether the second segment follows the first: class 0 for yes."""

    base_model_prefix = "bert"
    targets = frozenset({"labels"})
    replayable = True

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.bert = BertModel(config)
        self.cls = BertOnlyNSPHead(config)
        self.init_weights()

    def run(self, batch: PackedBatch, forward_pass: ForwardPass) -> NextSentencePredictorOutput:
        """`logits` (B, 2); labels (B,)."""
        logits = self.cls.seq_relationship(self.bert.pool_first(batch, forward_pass)).float()
        terms = {} if batch.labels is None else {"labels": token_loss(logits, batch.labels)}
        return NextSentencePredictorOutput(loss_terms=terms, logits=logits)


class BertPredictionHeadTransform(nn.Module):
    """The layer between the last hidden state and the vocabulary."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACTIVATIONS[config.hidden_act]
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden: Tensor) -> Tensor:
        """(M, H) to (M, H)."""
        normed: Tensor = self.LayerNorm(self.activation(self.dense(hidden)))
        return normed


class BertLMPredictionHead(nn.Module):
    """Hidden states to the vocabulary; `bias` and `decoder.bias` are one parameter."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.transform = BertPredictionHeadTransform(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        self.bias = self.decoder.bias

    def forward(self, hidden: Tensor) -> Tensor:
        """(M, H) to (M, V)."""
        logits: Tensor = self.decoder(self.transform(hidden))
        return logits


class BertOnlyMLMHead(nn.Module):
    """The head of masked language modelling and of the decoder."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.predictions = BertLMPredictionHead(config)


class BertOnlyNSPHead(nn.Module):
    """The head of next sentence prediction."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.seq_relationship = nn.Linear(config.hidden_size, 2)


class BertPreTrainingHeads(nn.Module):
    """Both heads of pretraining."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.predictions = BertLMPredictionHead(config)
        self.seq_relationship = nn.Linear(config.hidden_size, 2)


class LanguageModel(PreTrainedModel):
    """What the heads over the vocabulary share: ties, and a decoder for labelled tokens alone."""

    base_model_prefix = "bert"
    labels_per_token = True
    logits_per_token = True
    _tied_weights_keys: ClassVar[Mapping[str, str]] = {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }

    bert: BertModel
    cls: Any

    def tied_weights(self) -> dict[str, str]:
        """The decoder's bias has two names in any case, its weight is tied by the config."""
        tied = dict(self._tied_weights_keys)
        if not self.config.tie_word_embeddings:
            del tied["cls.predictions.decoder.weight"]
        return tied

    def labelled_only(self, batch: PackedBatch) -> bool:
        """With labels, the logits are those of the labelled tokens."""
        return batch.labels is not None

    def encode_words(
        self, batch: PackedBatch, forward_pass: ForwardPass, *beside: Tensor
    ) -> tuple[Tensor, Tensor | None, list[Tensor]]:
        """The hidden states that the heads read; the last layer computes no others.

        Args:
            batch: of B sequences.
            forward_pass: to be passed on.
            beside: (R,) more rows that are read.

        Returns:
            Without labels the states of all tokens, (num_tokens, H), and None. With labels those of
            the labelled tokens (M, H), and their labels (M,). And the (R, H) of `beside`.
        """
        labelled = batch.labelled_rows
        if labelled is None:
            hidden = self.bert.encode(batch, forward_pass)
            others = [hidden.index_select(0, each) for each in beside]
            return hidden[: batch.num_tokens], None, others
        assert batch.labels is not None
        counts = [len(labelled), *map(len, beside)]
        rows = torch.cat([labelled, *beside])
        # Their number differs from batch to batch, and kernels want few shapes.
        rows = nn.functional.pad(rows, (0, padded_rows(len(rows)) - len(rows)))
        hidden = self.bert.encode(batch, forward_pass, only=OutputRows(rows))
        words, *others = torch.split(hidden[: sum(counts)], counts)
        return words, batch.labels[labelled], others

    def predict_tokens(
        self, words: Tensor, labels: Tensor | None
    ) -> tuple[Tensor, dict[str, LossTerm]]:
        """Logits over the vocabulary (M, V) of hidden states (M, H), and their loss given labels.

        With labels, the widest product of the model is computed for a few of the tokens.
        """
        logits = self.cls.predictions(words)
        return logits, {} if labels is None else {"labels": token_loss(logits, labels)}


class BertForMaskedLM(LanguageModel):
    """Which word stood at a masked place."""

    targets = frozenset({"labels"})
    replayable = True

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.bert = BertModel(config, add_pooling_layer=False)
        self.cls = BertOnlyMLMHead(config)
        self.init_weights()

    def run(self, batch: PackedBatch, forward_pass: ForwardPass) -> MaskedLMOutput:
        """`logits` (num_tokens, V); with labels (T,), those of the labelled tokens (M, V)."""
        words, labels, _ = self.encode_words(batch, forward_pass)
        logits, terms = self.predict_tokens(words, labels)
        return MaskedLMOutput(loss_terms=terms, logits=logits)


class BertForPreTraining(LanguageModel):
    """Both objectives of pretraining: masked words, and whether the second segment follows.

    Attributes:
        next_sentence_weight: of the second objective while training; the published sum is 1.
    """

    targets = frozenset({"labels", "next_sentence_label"})
    replayable = True
    next_sentence_weight: float = 1.0

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.bert = BertModel(config)
        self.cls = BertPreTrainingHeads(config)
        self.init_weights()

    def run(self, batch: PackedBatch, forward_pass: ForwardPass) -> BertForPreTrainingOutput:
        """`prediction_logits` as of masked language modelling, `seq_relationship_logits` (B, 2).

        The loss is the sum of those that have their labels.
        """
        assert self.bert.pooler is not None
        words, labels, (first,) = self.encode_words(batch, forward_pass, batch.first_rows)
        logits, terms = self.predict_tokens(words, labels)
        relationship = self.cls.seq_relationship(self.bert.pooler(first)).float()
        if batch.next_sentence_label is not None:
            term = token_loss(relationship, batch.next_sentence_label)
            weight = self.next_sentence_weight if self.training else 1.0
            terms["next_sentence_label"] = term.scaled(weight)
        return BertForPreTrainingOutput(
            loss_terms=terms, prediction_logits=logits, seq_relationship_logits=relationship
        )

    def count_targets(self, batch: PackedBatch) -> dict[str, int]:
        """Masked words, and pairs, each by themselves."""
        counts = super().count_targets(batch)
        if batch.next_sentence_label is not None:
            counts["next_sentence_label"] = count_labels(batch.next_sentence_label)
        return counts

    def logits_of(self, output: Any) -> Tensor:
        """Those of the words."""
        logits: Tensor = output.prediction_logits
        return logits


AutoModelForSequenceClassification = BertForSequenceClassification
"""The same class under its other name, as below: every encoder here is a BERT."""
AutoModelForTokenClassification = BertForTokenClassification
AutoModelForQuestionAnswering = BertForQuestionAnswering
AutoModelForMultipleChoice = BertForMultipleChoice
AutoModelForNextSentencePrediction = BertForNextSentencePrediction
AutoModelForMaskedLM = BertForMaskedLM
AutoModelForPreTraining = BertForPreTraining
