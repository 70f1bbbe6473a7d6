"""BERT: its classes, the heads that only BERT has, and the layers over its vocabulary.

Devlin et al., 2018, arXiv:1810.04805.

Shapes: B sequences, T packed tokens, H hidden, V vocabulary, M labelled tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from bertolt.data.batch import PackedBatch
from bertolt.models import heads, word_heads
from bertolt.models.bert import ACTIVATIONS, Backbone
from bertolt.models.config import BertConfig
from bertolt.models.customised import is_watched
from bertolt.models.decoder import CausalLM
from bertolt.models.documents import mean_of_windows
from bertolt.models.doors import FIRST_INPUTS
from bertolt.models.families.base import Family
from bertolt.models.forward_pass import ForwardPass
from bertolt.models.losses import count_labels, token_loss
from bertolt.models.outputs import BertForPreTrainingOutput
from bertolt.models.pretrained import PreTrainedModel


class BertPreTrainedModel(PreTrainedModel):
    """Base of a model of one's own around a `BertModel`, which is called `bert`."""

    config_class = BertConfig
    base_model_prefix = "bert"


class BertModel(Backbone):
    """BERT without a head; with `config.is_decoder`, no token sees a later one."""

    config_class = BertConfig


class BertForSequenceClassification(heads.SequenceClassification):
    """One label (or several, or numbers) for each text, from its pooled first token."""

    config_class = BertConfig
    bert: BertModel


class BertForTokenClassification(heads.TokenClassification):
    """One label for each token."""

    config_class = BertConfig
    bert: BertModel


class BertForQuestionAnswering(heads.QuestionAnswering):
    """Where in its sequence an answer begins and ends."""

    config_class = BertConfig
    bert: BertModel


class BertForMultipleChoice(heads.MultipleChoice):
    """Which of several sequences is the right one."""

    config_class = BertConfig
    bert: BertModel


class BertForNextSentencePrediction(heads.SequenceHead):
    """Whether the second segment follows the first: class 0 for yes.

    Sequences that make one example are windows of a pair, and have one answer together.
    """

    config_class = BertConfig
    reads_documents = True
    bert: BertModel

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.add_backbone(pooler=True)
        self.cls = BertOnlyNSPHead(config)
        self.init_weights()

    def classify(self, batch: PackedBatch, forward_pass: ForwardPass) -> Tensor:
        """Two logits for each pair: (E, 2); of one in several windows, the mean of theirs."""
        logits = self.cls(self.bert.pool_first(batch, forward_pass))
        return mean_of_windows(logits, batch)


class BertPredictionHeadTransform(nn.Module):
    """The layer between the last hidden state and the vocabulary."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACTIVATIONS[config.hidden_act]
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(…, H) to (…, H)."""
        normed: Tensor = self.LayerNorm(self.activation(self.dense(hidden_states)))
        return normed


class BertLMPredictionHead(nn.Module):
    """Hidden states to the vocabulary; `bias` and `decoder.bias` are one parameter."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.transform = BertPredictionHeadTransform(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        self.bias = self.decoder.bias

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(…, H) to (…, V)."""
        logits: Tensor = self.decoder(self.transform(hidden_states))
        return logits


class BertOnlyMLMHead(nn.Module):
    """The head of masked language modelling and of the decoder."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.predictions = BertLMPredictionHead(config)

    def forward(self, sequence_output: Tensor) -> Tensor:
        """(…, H) to (…, V)."""
        logits: Tensor = self.predictions(sequence_output)
        return logits


class BertOnlyNSPHead(nn.Module):
    """The head of next sentence prediction."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.seq_relationship = nn.Linear(config.hidden_size, 2)

    def forward(self, pooled_output: Tensor) -> Tensor:
        """(B, H) to (B, 2)."""
        logits: Tensor = self.seq_relationship(pooled_output)
        return logits


class BertPreTrainingHeads(nn.Module):
    """Both heads of pretraining."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.predictions = BertLMPredictionHead(config)
        self.seq_relationship = nn.Linear(config.hidden_size, 2)

    def forward(self, sequence_output: Tensor, pooled_output: Tensor) -> tuple[Tensor, Tensor]:
        """(…, H) and (B, H) to (…, V) and (B, 2)."""
        return self.predictions(sequence_output), self.seq_relationship(pooled_output)


class BertLanguageModel(word_heads.LanguageModel):
    """What BERT's heads over the vocabulary share."""

    config_class = BertConfig
    _tied_weights_keys: ClassVar[Mapping[str, str]] = {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }
    bert: BertModel
    cls: Any

    def add_words_head(self) -> None:
        """Build `cls`."""
        self.cls = BertOnlyMLMHead(self.config)

    @property
    def words_head(self) -> Any:
        """Hidden states to the vocabulary."""
        return self.cls

    def get_output_embeddings(self) -> nn.Linear:
        """The layer from hidden states to the vocabulary."""
        decoder: nn.Linear = self.cls.predictions.decoder
        return decoder


class BertForMaskedLM(BertLanguageModel, word_heads.MaskedLM):
    """Which word stood at a masked place."""


class BertLMHeadModel(BertLanguageModel, CausalLM):
    """Which word comes next: no token sees a later one, whatever the config says of `is_decoder`.

    With `config.add_cross_attention`, each layer also looks at `encoder_hidden_states`.
    """


class BertForPreTraining(BertLanguageModel):
    """Both objectives of pretraining: masked words, and whether the second segment follows.

    Attributes:
        next_sentence_weight: of the second objective while training; the published sum is 1.
        heads: whose weights it has too, so that its folder opens as a model with such a head.
    """

    heads: ClassVar[tuple[type[heads.Head], ...]] = (word_heads.MaskedLM,)

    targets = frozenset({"labels", "next_sentence_label"})
    replayable = True
    words_name = "prediction_logits"
    call_order = (*FIRST_INPUTS, "labels", "next_sentence_label")
    next_sentence_weight: float = 1.0

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config, pooler=True)

    def add_words_head(self) -> None:
        """Build both heads."""
        self.cls = BertPreTrainingHeads(self.config)

    def run(self, batch: PackedBatch, forward_pass: ForwardPass) -> BertForPreTrainingOutput:
        """`prediction_logits` as of masked language modelling, `seq_relationship_logits` (B, 2).

        The loss is the sum of those that have their labels.
        """
        assert self.bert.pooler is not None
        words, (first,) = self.encode_words(batch, forward_pass, batch.first_rows)
        pooled, padded = self.bert.pooler(first), forward_pass.padded
        if padded is None or forward_pass.labelled_only or not is_watched(self.cls):
            logits, relationship = self.cls(words.states, pooled)
        else:
            shown, relationship = self.cls(padded.unpack(words.states), pooled)
            logits = padded.pack(shown, len(words.states))
        terms = self.loss_of_words(words, logits, forward_pass)
        relationship = relationship.float()
        if batch.next_sentence_label is not None:
            term = token_loss(relationship, batch.next_sentence_label)
            weight = self.next_sentence_weight if self.training else 1.0
            terms["next_sentence_label"] = term.scaled(weight)
        return BertForPreTrainingOutput(
            loss_terms=terms, prediction_logits=logits, seq_relationship_logits=relationship
        )

    def count_targets(self, batch: PackedBatch) -> dict[str, int]:
        """How many masked words there are, and how many pairs."""
        counts = super().count_targets(batch)
        if batch.next_sentence_label is not None:
            counts["next_sentence_label"] = count_labels(batch.next_sentence_label)
        return counts

    def logits_of(self, output: Any) -> Tensor:
        """The masked-LM logits."""
        logits: Tensor = output.prediction_logits
        return logits


FAMILY = Family(
    config=BertConfig,
    prefix="bert",
    classes=(
        BertModel,
        BertForPreTraining,
        BertForMaskedLM,
        BertLMHeadModel,
        BertForNextSentencePrediction,
        BertForSequenceClassification,
        BertForTokenClassification,
        BertForQuestionAnswering,
        BertForMultipleChoice,
    ),
)
AutoModelForNextSentencePrediction = BertForNextSentencePrediction
"""The same class under its other name, as below: no other family has these heads."""
AutoModelForPreTraining = BertForPreTraining
