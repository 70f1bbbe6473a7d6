"""The heads: what stands on the backbone for each task.

Shapes: B sequences, T packed tokens, L padded length, H hidden, C classes.
"""

from __future__ import annotations

from torch import Tensor, nn

from bertolt.config import BertConfig
from bertolt.data.batch import PackedBatch
from bertolt.model.bert import BertModel
from bertolt.model.dropout import Dropout
from bertolt.model.losses import problem_type, sequence_loss
from bertolt.model.outputs import SequenceClassifierOutput
from bertolt.model.pretrained import PreTrainedModel


class BertForSequenceClassification(PreTrainedModel):
    """One label (or several, or numbers) for each text, from its pooled first token."""

    base_model_prefix = "bert"

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.bert = BertModel(config)
        share = config.classifier_dropout
        self.dropout = Dropout(config.hidden_dropout_prob if share is None else share)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
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
    ) -> SequenceClassifierOutput:
        """Classify a packed batch, or a padded one of shape (B, L).

        Returns:
            `logits` (B, C), and `loss`, the mean over the batch, when there are labels.

        Raises:
            DataError: labels that the declared problem type does not fit.
        """
        packed, _ = self.enter(
            batch, input_ids, attention_mask, token_type_ids, position_ids, labels
        )
        pooled = self.bert.pool_first(packed)
        logits = self.classifier(self.dropout(pooled)).float()
        loss = None
        if packed.labels is not None:
            loss = sequence_loss(logits, packed.labels, problem_type(self.config))
        return SequenceClassifierOutput(loss=loss, logits=logits)


AutoModelForSequenceClassification = BertForSequenceClassification
"""The same class: every encoder here is a BERT."""
