"""RoBERTa: BERT's layers with positions that begin behind the padding's row, and other heads.

Its first token is classified by two layers in place of a pooler, and its texts have no segments.
Liu et al., 2019, arXiv:1907.11692.

Shapes: B sequences, H hidden, V vocabulary, C classes, M labelled tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bertolt.base.options import at_least
from bertolt.data.batch import PackedBatch
from bertolt.models import heads, word_heads
from bertolt.models.bert import ACTIVATIONS, Backbone
from bertolt.models.config import SIZE, BertConfig
from bertolt.models.decoder import CausalLM
from bertolt.models.dropout import Dropout
from bertolt.models.families.base import Family
from bertolt.models.forward_pass import ForwardPass
from bertolt.models.pretrained import PreTrainedModel


@dataclass(kw_only=True)
class RobertaConfig(BertConfig):
    """The shape of a RoBERTa encoder: the fields of `BertConfig`, with other values by default.

    `max_position_embeddings` counts the rows of the position table. The first text position has the
    row behind `pad_token_id`, so that a table of 514 rows takes texts of 512 tokens.

    Raises:
        CheckpointError: as `BertConfig`.
    """

    model_type: ClassVar[str] = "roberta"

    vocab_size: int = field(default=50265, metadata=SIZE)
    pad_token_id: int = field(default=1, metadata=at_least(0))

    @property
    def position_offset(self) -> int:
        """The row of the position table that the first token of a text has."""
        return self.pad_token_id + 1


class RobertaPreTrainedModel(PreTrainedModel):
    """Base of a model of one's own around a `RobertaModel`, which is called `roberta`."""

    config_class = RobertaConfig
    base_model_prefix = "roberta"


class RobertaModel(Backbone):
    """RoBERTa without a head; with `config.is_decoder`, no token sees a later one."""

    config_class = RobertaConfig


class RobertaClassificationHead(nn.Module):
    """The first token through one more layer, then to the classes."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = heads.classifier_dropout(config)
        self.out_proj = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, features: Tensor) -> Tensor:
        """First tokens (B, H) to (B, C); of (B, L, H), the first column is read."""
        first = features[:, 0] if features.dim() == 3 else features
        hidden = torch.tanh(self.dense(self.dropout(first)))
        logits: Tensor = self.out_proj(self.dropout(hidden))
        return logits


class RobertaForSequenceClassification(heads.SequenceClassification):
    """One label (or several, or numbers) for each text, from its first token."""

    config_class = RobertaConfig
    roberta: RobertaModel
    _output_layer = "classifier.out_proj"

    def build_layers(self) -> None:
        """Build the backbone and the classifier."""
        self.add_backbone(pooler=False)
        self.classifier = RobertaClassificationHead(self.config)

    def classify(self, batch: PackedBatch, forward_pass: ForwardPass) -> Tensor:
        """The logits of each text: (B, C)."""
        logits: Tensor = self.classifier(self.roberta.encode_first(batch, forward_pass))
        return logits


class RobertaForTokenClassification(heads.TokenClassification):
    """One label for each token."""

    config_class = RobertaConfig
    roberta: RobertaModel


class RobertaForQuestionAnswering(heads.QuestionAnswering):
    """Where in its sequence an answer begins and ends."""

    config_class = RobertaConfig
    roberta: RobertaModel


class RobertaForMultipleChoice(heads.MultipleChoice):
    """Which of several sequences is the right one."""

    config_class = RobertaConfig
    roberta: RobertaModel
    # As the peer has it, for this head alone.
    call_order = ("token_type_ids", "attention_mask", "labels", "position_ids", "inputs_embeds")

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.dropout = Dropout(config.hidden_dropout_prob)  # whatever `classifier_dropout` says


class RobertaLMHead(nn.Module):
    """Hidden states to the vocabulary; `bias` and `decoder.bias` are one parameter."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        self.bias = self.decoder.bias

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(…, H) to (…, V)."""
        logits: Tensor = self.decoder(
            self.layer_norm(ACTIVATIONS["gelu"](self.dense(hidden_states)))
        )
        return logits


class RobertaLanguageModel(word_heads.LanguageModel):
    """What RoBERTa's heads over the vocabulary share."""

    config_class = RobertaConfig
    _tied_weights_keys: ClassVar[Mapping[str, str]] = {
        "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    }
    roberta: RobertaModel

    def add_words_head(self) -> None:
        """Build `lm_head`."""
        self.lm_head = RobertaLMHead(self.config)

    @property
    def words_head(self) -> Any:
        """Hidden states to the vocabulary."""
        return self.lm_head

    def get_output_embeddings(self) -> nn.Linear:
        """The layer from hidden states to the vocabulary."""
        return self.lm_head.decoder


class RobertaForMaskedLM(RobertaLanguageModel, word_heads.MaskedLM):
    """Which word stood at a masked place."""


class RobertaForCausalLM(RobertaLanguageModel, CausalLM):
    """Which word comes next: no token sees a later one, whatever the config says of `is_decoder`.

    With `config.add_cross_attention`, each layer also looks at `encoder_hidden_states`.
    """


FAMILY = Family(
    config=RobertaConfig,
    prefix="roberta",
    classes=(
        RobertaModel,
        RobertaForMaskedLM,
        RobertaForCausalLM,
        RobertaForSequenceClassification,
        RobertaForTokenClassification,
        RobertaForQuestionAnswering,
        RobertaForMultipleChoice,
    ),
)
