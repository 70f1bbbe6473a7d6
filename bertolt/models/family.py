"""The whole family of classes, and which of them a folder was saved from."""

from __future__ import annotations

from bertolt.models import decoder, heads
from bertolt.models.bert import BertModel
from bertolt.models.config import BertConfig
from bertolt.models.pretrained import PreTrainedModel

CLASSES: tuple[type[PreTrainedModel], ...] = (
    BertModel,
    heads.BertForPreTraining,
    heads.BertForMaskedLM,
    decoder.BertLMHeadModel,
    heads.BertForNextSentencePrediction,
    heads.BertForSequenceClassification,
    heads.BertForTokenClassification,
    heads.BertForQuestionAnswering,
    heads.BertForMultipleChoice,
)


def has_labels(model: PreTrainedModel) -> bool:
    """Whether the outputs of a model have names."""
    return isinstance(model, heads.BertForSequenceClassification | heads.BertForTokenClassification)


def class_for(config: BertConfig) -> type[PreTrainedModel]:
    """The class that `architectures` names; the encoder without a head if none is known."""
    by_name = {kind.__name__: kind for kind in CLASSES}
    return next((by_name[name] for name in config.architectures if name in by_name), BertModel)
